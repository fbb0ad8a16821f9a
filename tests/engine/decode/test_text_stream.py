"""Tokens as they become text: what is held back, where a text ends, and what a fork of one has."""

from engine.decode.text_stream import TextStream
from engine.tokenizer.detokenizer import Detokenizer
from engine.trace.trace import Recipe, TokenStep
from tests.fakes import EOS, ByteTokenizer


def raw(token: int, position: int = 0) -> TokenStep:
    return TokenStep(token, b"", "", -1.0, -1.0, 1.0, 1.0, 1, 1, Recipe(), None, None, position)


def stream(*stop: str) -> TextStream:
    return TextStream(ByteTokenizer(), stop)  # type: ignore[arg-type]


def pushed(to: TextStream, text: bytes, start: int = 0) -> list[str]:
    return [step.text for i, byte in enumerate(text) for step in to.push(raw(byte, start + i), 0.5)]


def test_a_text_ends_with_its_token_or_before_a_stop_string() -> None:
    one = stream("END")
    assert pushed(one, b"aE") == ["a"] and one.reason == "" and one.tokens == 2
    assert list(one.push(raw(EOS), 0.0)) == [] and one.reason == "eot"
    held, end = one.flush()
    assert (held.text, end.text, end.piece, one.rest, one.tokens) == ("E", "", b"<eos>", "", 3)
    plain = stream()
    (end,) = plain.push(raw(EOS), 0.0)
    assert (end.text, plain.reason) == ("", "eot")
    two = stream("END", "N")
    assert pushed(two, b"aEN") == ["a", "E", ""] and two.reason == "stop" and two.tokens == 3
    assert list(two.flush()) == [] and two.rest == ""


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
