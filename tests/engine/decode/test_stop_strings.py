"""Stop strings, against the plain definition: the text before the first occurrence of any of them."""

from hypothesis import given
from hypothesis import strategies as st

from engine.decode.stop_strings import StopStrings
from engine.trace.trace import Recipe, TokenStep


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
