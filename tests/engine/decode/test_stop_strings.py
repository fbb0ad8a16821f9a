"""Stop strings, against the plain definition: the text before the first occurrence of any of them."""

from hypothesis import given
from hypothesis import strategies as st

from likely.engine.decode.stop_strings import StopStrings
from likely.engine.decode.text_stream import TextStream
from likely.engine.tokenizer.detokenizer import Detokenizer
from likely.engine.trace.step import Recipe, TokenStep
from tests.fakes import ByteTokenizer


def step(text: str) -> TokenStep:
    return TokenStep(0, text.encode(), text, -1.0, -1.0, 1.0, 1.0, 1, 1, Recipe(), None, None, 0)


letters = st.text("ab", max_size=4)


@given(st.lists(letters, max_size=12), st.lists(st.text("ab", min_size=1, max_size=3), max_size=3))
def test_text_ends_before_the_first_stop_string(pieces: list[str], stops: list[str]) -> None:
    matcher = StopStrings(tuple(stops))
    out: list[TokenStep] = []
    whole = ""
    for piece in pieces:
        whole += piece
        out += matcher.push(step(piece))
        if matcher.matched:
            break
    else:
        out += matcher.flush()
    ends = [at for s in stops if (at := whole.find(s)) >= 0]
    assert "".join(s.text for s in out) == (whole[: min(ends)] if ends else whole)
    assert matcher.matched == bool(ends)


@given(st.lists(letters, max_size=12))
def test_without_stop_strings_nothing_is_held(pieces: list[str]) -> None:
    matcher = StopStrings(())
    for piece in pieces:
        assert [s.text for s in matcher.push(step(piece))] == [piece]


def test_a_text_that_cannot_begin_a_stop_string_is_passed_on_at_once() -> None:
    matcher = StopStrings(("END",))
    assert [s.text for s in matcher.push(step("say "))] == ["say "]
    assert list(matcher.push(step("E"))) == []
    assert [s.text for s in matcher.push(step("x"))] == ["E", "x"]


def raw(token: int, position: int = 0) -> TokenStep:
    return TokenStep(token, b"", "", -1.0, -1.0, 1.0, 1.0, 1, 1, Recipe(), None, None, position)


def stream(*stop: str) -> TextStream:
    return TextStream(ByteTokenizer(), stop)  # type: ignore[arg-type]


def pushed(to: TextStream, text: bytes, start: int = 0) -> list[str]:
    return [step.text for i, byte in enumerate(text) for step in to.push(raw(byte, start + i), 0.5)]


def test_what_is_held_back_comes_at_the_end() -> None:
    one = stream("xyz")
    assert pushed(one, b"axy\xc3") == ["a"] and one.reason == ""
    assert [step.text for step in one.flush()] == ["x", "y", ""] and one.rest == "\ufffd"
    stopped = stream("b")
    pushed(stopped, b"\xc3ab")
    assert stopped.reason == "stop" and stopped.rest == "" and list(stopped.flush()) == [] and stopped.rest == ""


def test_a_text_goes_on_where_another_ended() -> None:
    """So its first blank is its own, in what is pushed and in what is revised."""

    class Sentences(ByteTokenizer):
        def detokenizer(self, *, special: bool = False, at_start: bool = True) -> Detokenizer:
            return Detokenizer(self.piece, strip_space=at_start)

    one = TextStream(Sentences(), ())  # type: ignore[arg-type]
    assert pushed(one, b" a") == [" ", "a"]
    revised = one.revise(raw(ord(" ")), 0.0)
    assert revised is not None and revised.text == " "
