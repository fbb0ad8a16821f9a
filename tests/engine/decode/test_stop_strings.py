"""Stop strings, against the plain definition: the text before the first occurrence of any of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from likely.engine.decode.loop.stop_strings import StopStrings
from likely.engine.decode.loop.text_stream import TextStream
from likely.engine.sampling.trace.step import SamplingConfig, TokenStep
from likely.engine.text.tokenizer.detokenizer import Detokenizer
from tests.fakes import ByteTokenizer


def step(text: str, token: int = 0, position: int = 0) -> TokenStep:
    return TokenStep(token, text.encode(), text, -1.0, -1.0, 1.0, 1.0, 1, 1, SamplingConfig(), None, None, position)


@given(st.lists(st.text("ab", max_size=4), max_size=12), st.lists(st.text("ab", min_size=1, max_size=3), max_size=3))
def test_text_ends_before_the_first_stop_string(pieces: list[str], stops: list[str]) -> None:
    """And comes as soon as it cannot begin one."""
    matcher, out, whole, bounds = StopStrings(tuple(stops)), "", "", [0]
    for piece in pieces:
        whole += piece
        bounds.append(len(whole))
        out += "".join(s.text for s in matcher.push(step(piece)))
        ends = [at for s in stops if (at := whole.find(s)) >= 0]
        held = max((n for s in stops for n in range(len(s)) if whole.endswith(s[:n])), default=0)
        assert matcher.matched == bool(ends)
        assert out == whole[: min(ends) if ends else max(bound for bound in bounds if bound <= len(whole) - held)]
        if ends:
            return
    assert out + "".join(s.text for s in matcher.flush()) == whole and not matcher.matched


def test_a_text_that_cannot_begin_a_stop_string_is_passed_on_at_once() -> None:
    matcher = StopStrings(("END",))
    for piece, come in (("say ", ["say "]), ("E", []), ("x", ["E", "x"])):
        assert [s.text for s in matcher.push(step(piece))] == come


class Sentences(ByteTokenizer):
    def detokenizer(self, *, special: bool = False, at_start: bool = True) -> Detokenizer:
        return Detokenizer(self.piece, strip_space=at_start)


@pytest.mark.parametrize(
    ("tokenizer", "stop", "text", "pushed", "flushed", "rest"),
    [
        (ByteTokenizer(), ("xyz",), b"axy\xc3", ["a"], ["x", "y", ""], "\ufffd"),  # what is held back comes at the end
        (ByteTokenizer(), ("b",), b"\xc3ab", ["", "\ufffda", ""], [], ""),
        (Sentences(), (), b" a", [" ", "a"], [], ""),  # it goes on where another ended: its first blank is its own
    ],
)
def test_a_stream_of_text(
    tokenizer: ByteTokenizer, stop: tuple[str, ...], text: bytes, pushed: list[str], flushed: list[str], rest: str
) -> None:
    one = TextStream(tokenizer, stop)  # type: ignore[arg-type]
    assert [s.text for i, byte in enumerate(text) for s in one.push(step("", byte, i), 0.5)] == pushed
    assert one.reason == ("stop" if "b" in stop else "")
    assert [s.text for s in one.flush()] == flushed and one.rest == rest
