"""The items on which models differ, and one of them, drawn alone."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from app.differing import DifferingItem, ModelAnswer, TaskDetail
from app.tui.widgets.differing import DifferingItems, ItemPanel
from tests.tui.widgets.drawing import Pictures, click


def said(text: str, right: bool, gold: float | None = None, value: float = 0.0) -> ModelAnswer:
    return ModelAnswer(text, "", value, right, gold)


LN2 = math.log(2)
PAIRS = (
    (said("4", False, -3 * LN2), said(" 9\n", True, -0.5 * LN2)),
    (said("a long answer", True, -LN2), said("b", False, -2 * LN2)),
    (said("", False, None, -7.0), said("", True, None, math.nan)),
    (said("空色", True), said("", False, None, 7.0)),
    (said("x", False, -1.0), said("x", True, -1.0)),
)
TITLES = ("How many are 3 and 6?", "A title that is much longer than there is room for", "空色 と 青", "d", "e")
ITEMS = tuple(
    DifferingItem(number, title, f"Question {number}\n\n{title}", "9 \n", PAIRS[number])
    for number, title in enumerate(TITLES)
)
TWO = TaskDetail("gsm8k", ("a", "b"), items=ITEMS, differing=1234, common=5678, won=3, lost=1)
ONE = TaskDetail(
    "gsm8k", ("a",), items=tuple(replace(item, said=item.said[:1]) for item in ITEMS[:3]), differing=3, common=9
)


def items(detail: TaskDetail | None, at: int = 0, letters: Sequence[int] = (0, 2)) -> DifferingItems:
    found = DifferingItems()
    found.show(detail, letters)
    found.at = at
    return found


def test_a_row_an_item(pictures: Pictures) -> None:
    pictures.draw(items(None), 40, 4, "no task")
    for width, height in ((70, 10), (60, 8), (60, 7), (60, 6), (60, 4), (60, 3), (33, 9), (20, 9)):
        pictures.draw(items(TWO, 1), width, height)
    pictures.draw(items(TWO, 1), 60, 8, "used", focus=True)
    for width in (60, 27, 24, 21):
        pictures.draw(items(ONE, 0, (3,)), width, 7, "one model")
    pictures.draw(items(replace(ONE, items=()), 0, ()), 60, 7, "none are wrong")
    pictures.draw(items(replace(TWO, note="the texts are not where they were"), 0), 30, 9, "a note")
    pictures.draw(items(replace(TWO, won=0)), 60, 9, "none won")
    pictures.draw(items(replace(TWO, won=1)), 60, 9, "as many won as lost")
    pictures.draw(items(replace(TWO, won=0, lost=0)), 60, 9, "none won, none lost")
    pictures.sweep(items(TWO), range(12, 50), 4, slice(1, 3))
    pictures.sweep(items(ONE, 0, (3,)), range(12, 40), 4, slice(1, 3))
    pictures.compare("differing-items")


def test_the_item_that_is_looked_at_is_in_view(pictures: Pictures) -> None:
    for at in range(5):
        pictures.draw(items(TWO, at), 60, 6, f"item {at}")
    pictures.compare("differing-scrolled")
    it = items(TWO)
    tops: dict[int, list[int]] = {}
    for rows in range(1, 7):
        for it.at in range(5):
            tops.setdefault(rows, []).append(it._top(rows))
    assert list(tops.values()) == [[1, 2, 3, 4, 4], [0, 1, 2, 3, 3], [0, 0, 1, 2, 2], [0, 0, 0, 1, 1], [0] * 5, [0] * 5]
    assert items(None)._top(3) == 0


def test_keys_and_clicks_choose_an_item(pictures: Pictures) -> None:
    it = items(TWO)
    pictures.up(it, (60, 9))
    pictures.redraws()
    for by, at, told in ((1, 1, 1), (-5, 0, 1), (-1, 0, 0), (10, 4, 1), (1, 4, 0), (-2, 2, 1)):
        it.action_move(by)
        assert it.at == at and it.item == ITEMS[at] and len(pictures.said) == pictures.redraws() == told
        assert all(isinstance(each, DifferingItems.ItemChosen) for each in pictures.said)
        pictures.said.clear()
    for y, at in ((0, 2), (1, 2), (2, 0), (4, 2), (6, 4), (8, 4)):
        it.on_click(click(3, y))
        assert it.at == at, y
    pictures.up(it, (60, 6))  # three rows, from the third on
    it.on_click(click(3, 2))
    assert it.at == 2
    nothing = items(None)
    pictures.up(nothing, (60, 9))
    pictures.said.clear()
    nothing.action_move(1)
    assert nothing.at == 0 and nothing.item is None and not pictures.said


def test_the_same_item_stays_chosen_while_it_is_there(pictures: Pictures) -> None:
    it = items(TWO, 3)
    assert pictures.redraws() == 1
    it.show(TWO, (0, 2))
    assert it.at == 3 and not pictures.redraws()
    it.show(replace(TWO, items=ITEMS[1:]), (0, 2))
    assert it.at == 2 and it.item == ITEMS[3]
    it.show(replace(TWO, items=ITEMS[1:]), (0, 1))
    assert it.at == 2 and it.letters == (0, 1)
    it.show(replace(TWO, items=ITEMS[:3]), (0, 2))
    assert it.at == 0
    for other in (replace(TWO, task="mmlu"), replace(TWO, models=("a", "c")), None):
        it = items(TWO, 3)
        it.show(other, (0, 2))
        assert it.at == 0 and it.detail == other
    it.show(TWO, (0, 2))
    assert it.at == 0
    it.at = 9
    assert it.item is None


def panel(item: DifferingItem | None, letters: Sequence[int] = (0, 2), picked: int = 0) -> ItemPanel:
    found = ItemPanel()
    found.show(item, letters, picked)
    return found


def test_one_item_with_what_was_said(pictures: Pictures) -> None:
    pictures.draw(panel(None), 40, 5, "none")
    long = "\n".join(f"line {n} of it, which is longer than the row" for n in range(4)) + "\n\nlast  \x1b"
    told = replace(ITEMS[0], prompt=long, said=(said(long, True, -3 * LN2), said(" short ", False, -LN2)))
    for width, height in ((60, 30), (60, 16), (60, 15), (34, 20), (12, 20), (60, 5)):
        pictures.draw(panel(told), width, height)
    pictures.draw(panel(told, (0,), 1), 50, 24, "the second is picked, it has no letter")
    pictures.draw(panel(replace(ITEMS[1], prompt="", answer="")), 50, 14, "neither prompt nor answer")
    short = replace(ITEMS[0], prompt="", said=(said("words that are folded where the row ends", True),))
    pictures.sweep(panel(short), range(14, 46), 30, slice(1, 12))
    pictures.compare("differing-panel")


def test_the_cost_of_the_right_answer_where_all_have_one(pictures: Pictures) -> None:
    def costs(*golds: float | None) -> tuple[ModelAnswer, ...]:
        return tuple(said("x", True, None if gold is None else gold * LN2) for gold in golds)

    cases: Sequence[tuple[Any, ...]] = ((-3, -1), (-1, -4), (0, 0), (-3, None), (3, -1), (-2,), (None,), ())
    for golds in cases:
        pictures.draw(panel(replace(ITEMS[0], said=costs(*golds)), (0, 1)), 40, 16, f"{golds}")
    pictures.draw(panel(replace(ITEMS[0], said=costs(-3, -1)), (0,)), 18, 16, "no letter, little room")
    pictures.sweep(panel(replace(ITEMS[0], said=costs(-3, -1)), (0, 1)), range(10, 40), 16, slice(0, 20, 11))
    pictures.compare("differing-costs")


def test_shown_anew_is_what_has_changed(pictures: Pictures) -> None:
    it = panel(ITEMS[0])
    assert pictures.redraws() == 1
    changes = ((ITEMS[1], (0, 2), 0), (ITEMS[1], (0, 1), 0), (ITEMS[1], (0, 1), 1))
    for change in changes:
        it.show(*change)
        assert (it.item, it.letters, it.picked) == change and pictures.redraws() == 1
    it.show(*changes[-1])
    assert not pictures.redraws()
