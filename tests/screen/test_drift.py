"""What has moved since a model's base: a token's two distributions, and the heat of a text."""

import math

import pytest

from likely.app.tui.base.theme import GLYPHS
from likely.app.tui.chat.candidates import LN2, Names
from likely.app.tui.training import drift
from likely.engine.base.statistics.difference import Difference, Position, Shift
from likely.engine.train.control import Compare, Compared, Validated
from tests.support.trainer import plan

PIECES = (b"a", b" b", "日".encode()[:2], "日".encode()[2:], b"\n", b" sky", b" red")
NAMES = Names(PIECES)
VALID = Validated(10, 2.0, 1.9, 2.1, True, 0.0)


def shift(token: int, before: float, now: float) -> Shift:
    return Shift(token, math.log(before), math.log(now))


def position(token: int, kl: float = 0.0, likely: tuple[Shift, ...] = ()) -> Position:
    return Position(token, kl, (2 * LN2, 1.5 * LN2), None, (0, 0), (), (), likely)


def compared(request: Compare, *positions: Position, step: int = 30) -> Compared:
    return Compared(step, request, Difference(("base", "now"), positions), {})


PLACES = (
    position(0, 2 * LN2, (shift(5, 0.5, 0.25), shift(1, 0.125, 0.5), shift(6, 0.25, 0.25))),
    position(1, 0.5 * LN2, tuple(shift(n % 7, 0.9 / (n + 1), 0.01 + n / 99) for n in range(12))),
    position(2, 0.0, (shift(6, 0.5, 0.5),)),
)


def test_a_token_is_seen_with_what_it_was_predicted_from() -> None:
    difference = Difference(("base", "now"), PLACES)
    first = drift.view(difference, 0, NAMES)
    assert (first.title, first.name, first.numbers, first.rows, first.live) == (
        "TOKEN",
        "a",
        "nothing before it",
        (),
        True,
    )
    second = drift.view(difference, 1, NAMES, live=False)
    assert (second.title, second.name, second.numbers, second.live) == ("TOKEN", "·b", "KL 2.000 bits", False)
    assert [(r.token, r.name, r.chosen) for r in second.rows] == [
        (1, "·b", True), (5, "·sky", False), (6, "·red", False),
    ]  # fmt: skip
    assert [(r.before, r.after) for r in second.rows] == [
        pytest.approx((0.125, 0.5)), pytest.approx((0.5, 0.25)), pytest.approx((0.25, 0.25)),
    ]  # fmt: skip
    assert second.summary(GLYPHS) == "entropy 2.0 → 1.5 bits" and second.words == second.summary(GLYPHS)
    assert second.exact and (second.vocab, second.kept, second.mass, second.cut_by) == (0, (0, 0), (0.0, 0.0), "")
    after = drift.view(difference, 3, NAMES)
    assert (after.title, after.name, after.numbers, after.live) == ("NEXT", "", "KL 0.000 bits", True)
    assert not any(row.chosen for row in after.rows)
    nothing = drift.view(Difference(("base", "now"), ()), 0, NAMES)
    assert (nothing.title, nothing.numbers) == ("NEXT", "nothing before it")
    assert (drift.NOTHING.title, drift.NOTHING.live, drift.NOTHING.rows) == ("NEXT", False, ())


def test_the_most_likely_before_or_now_are_shown_by_what_they_are_now() -> None:
    rows = drift.view(Difference(("base", "now"), PLACES), 2, NAMES).rows
    assert len(rows) == 10
    larger = sorted((max(0.9 / (n + 1), 0.01 + n / 99) for n in range(12)), reverse=True)[:10]
    assert sorted((max(r.before, r.after or 0) for r in rows), reverse=True) == pytest.approx(larger)
    now = [r.after or 0 for r in rows]
    assert now == sorted(now, reverse=True)


def test_the_heat_of_a_text_lies_on_what_was_predicted_otherwise() -> None:
    request = Compare("a text")
    made = drift.block(compared(request, *PLACES, step=1200), NAMES, "held out")
    assert (made.key, made.who, made.scored) == ("held out", "held out", True)
    assert made.note == "mean KL 0.833 bits · step 1,200"
    assert [(t.text, t.level) for t in made.tokens] == [("a", 0), (" b", 3), ("�", 2), (" …", 0)]


def test_a_row_is_shown_as_the_model_sees_it() -> None:
    row = ((0, False), (1, True), (2, True), (3, True), (4, False))
    made = drift.row(plan(vocabulary=PIECES, row=row))
    assert (made.key, made.who) == ("row", "row") and made.scored and made.specials
    assert made.note == "as the model sees it · 3 of 5 tokens are trained: tinted"
    assert [(t.text, t.level) for t in made.tokens] == [("a", 0), (" b", 3), ("", 3), ("日", 3), ("\n", 0)]
    assert drift.text((), NAMES) == [] and drift.text((2, 0), NAMES) == ["", "�a"]
