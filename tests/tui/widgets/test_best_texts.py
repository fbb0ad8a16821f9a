"""The list of a search's texts drawn alone: rows, verdicts, steps and what they share; keys and clicks on it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest
from textual.geometry import Size

from app.tui.chat.live_run import LiveRun
from app.tui.chat.ranking import EquationVerdict, Ranked, RankedStep, Ranking
from app.tui.widgets.best_texts import BestTexts, shade, shades
from engine.conversation import Conversation
from engine.decode.control import RunControl
from tests.tui.widgets.drawing import Pictures, beside, click

RIGHT, WRONG = EquationVerdict(True, "3"), EquationVerdict(False, "27 / 3 = 8 of all")
ROWS = tuple(
    Ranked(
        f"n{i}",
        text,
        (f"−{i}.25", str(10 + i), f"−0.{i}"),
        state=("growing", "ended", "stopped")[i % 3],
        on=False,
        verdict=None,
    )
    for i, text in enumerate(("… looks blue because", "… seems 空色", "… is red", "… glows", "… x", "… y", "… z"))
)
STEPS = tuple(
    RankedStep(f"the step {i} of it", f"−{i}.50", verdict) for i, verdict in enumerate((RIGHT, None, WRONG, RIGHT))
)
SHARED = ((7, 3), (4, 2), (3, 2), (2, 1), (1, 5))


def ranked(on: int, count: int = 7, *, judged: bool = False, **more: Any) -> Ranking:
    rows = [replace(row, on=i == on) for i, row in enumerate(ROWS[:count])]
    if judged:
        rows = [replace(row, verdict=(RIGHT, WRONG, None)[i % 3]) for i, row in enumerate(rows)]
    return Ranking(f"{count} BEST", ("log₂p", "tok", "score"), tuple(rows), **more)


def listed(found: Ranking | None, run: object = None) -> BestTexts:
    it = BestTexts()
    it.ranking, it.run = found, lambda: cast(LiveRun, run)
    return it


class Run:
    """The run under way, as far as the list asks it."""

    def __init__(self, gives_up: bool = False) -> None:
        self.control, self.gives_up = RunControl(), gives_up
        self.dropped: list[str] = []

    def drop(self, node: str) -> bool:
        self.dropped.append(node)
        return self.gives_up


def test_rows_at_heights_that_cut_them(pictures: Pictures) -> None:
    pictures.draw(listed(None), 70, 5, "none")
    for height in (1, 2, 3, 4, 7, 8, 9):
        pictures.draw(listed(ranked(0)), 70, height, "the first is on the screen")
        pictures.draw(listed(ranked(6)), 70, height, "the last is on the screen", focus=True)
    pictures.draw(listed(ranked(1, 2)), 70, 5, "two", focus=True)
    pictures.draw(listed(ranked(1, 1)), 70, 2, "one")
    pictures.compare("best-texts-rows")


def test_the_list_scrolls_no_more_than_it_must(pictures: Pictures) -> None:
    it = listed(None)
    tops = []
    for on in (0, 2, 3, 4, 6, 5, 4, 3, 1, 0):
        it.ranking = ranked(on)
        pictures.draw(it, 60, 5)  # three rows, and how many more there are
        tops.append(it.top)
    assert tops == [0, 0, 1, 2, 4, 4, 4, 3, 1, 0]


def test_columns_are_as_wide_as_what_they_hold(pictures: Pictures) -> None:
    wide = replace(ranked(0, 2), heads=("answer", "tok", "log₂p/tok"))
    long = replace(wide, rows=(replace(wide.rows[0], numbers=("a long answer of many words", "7", "")), wide.rows[1]))
    run = Run()
    run.control.pause(True)
    for width in (80, 67, 66, 65, 40, 20):
        pictures.draw(listed(ranked(0, 3, judged=True)), width, 5, "with verdicts")
        pictures.draw(listed(long), width, 4, "a long answer")
    pictures.draw(listed(ranked(0, 2), run), 60, 4, "paused")
    pictures.draw(listed(ranked(0, 2), Run()), 60, 4, "under way")
    pictures.compare("best-texts-columns")


def test_steps_stand_below_the_text_that_is_opened(pictures: Pictures) -> None:
    for height in (14, 9, 8, 6, 5, 4, 3, 2):
        for on in (0, 2):
            it = listed(ranked(on, 3, judged=True, steps=STEPS, shared=((3, 2), (1, 2))))
            pictures.draw(it, 70, height, f"text {on + 1}")
    for width in (66, 65, 24):
        pictures.draw(listed(ranked(0, 2, steps=STEPS)), width, 8)
    pictures.compare("best-texts-steps")


def test_what_is_shared_is_said_as_far_as_there_is_room(pictures: Pictures) -> None:
    pictures.draw(listed(ranked(0, shared=SHARED)), 80, 3)
    pictures.sweep(listed(ranked(0, shared=SHARED)), range(8, 82), 3, slice(2))
    pictures.sweep(
        listed(ranked(0, 2, judged=True, steps=STEPS[:1])), range(12, 70), 5, slice(1, 3), "a row and a step"
    )
    pictures.draw(listed(ranked(0, shared=((1, 9),))), 60, 3, "nothing is shared")
    pictures.compare("best-texts-shared")


def test_levels_of_what_is_shared() -> None:
    assert [shade(texts, 7) for texts in range(8)] == [0, 0, 1, 1, 2, 2, 2, 3]
    assert [shade(texts, 4) for texts in range(5)] == [0, 0, 1, 2, 3]
    assert shade(2, 2) == 3
    assert shades(None) == [] and shades(ranked(0, shared=((1, 9),))) == [] and shades(ranked(0)) == []
    found = shades(ranked(0, shared=((7, 2), (4, 1), (2, 1), (1, 2)), skipped=3))
    assert found == [3, 3, 3, 3, 3, 2, 1, 0, 0]


def test_the_height_is_a_share_of_the_pane(pictures: Pictures) -> None:
    def height(found: Ranking | None, pane: int, *, opened: bool = False) -> int:
        it = listed(found)
        it.opened = opened
        return it.get_content_height(Size(80, pane), Size(80, 99), 80)

    assert height(None, 30) == 1
    assert [height(ranked(0), pane) for pane in (3, 9, 11, 12, 20, 21, 24, 60)] == [4, 4, 4, 5, 7, 8, 8, 8]
    assert [height(ranked(0), pane, opened=True) for pane in (3, 7, 8, 12, 14, 60)] == [4, 4, 5, 7, 8, 8]
    assert height(ranked(0, 2), 60) == 3
    assert height(ranked(0, 2, steps=STEPS), 60) == 7
    assert height(ranked(0, 2, shared=((2, 1), (1, 1))), 60) == 4
    assert height(ranked(0, 2, shared=((1, 1),)), 60) == 3


def show(it: BestTexts, monkeypatch: pytest.MonkeyPatch, found: Callable[[bool], Ranking | None]) -> None:
    def ranking(talk: Conversation, count: object, *, opened: bool) -> Ranking | None:
        return found(opened)

    monkeypatch.setattr("app.tui.widgets.best_texts.ranking", ranking)
    it.show(Conversation("c"), None)


def test_shown_anew_is_what_has_changed(pictures: Pictures, monkeypatch: pytest.MonkeyPatch) -> None:
    it = listed(None)
    pictures.up(it)
    drawn: list[str] = []
    monkeypatch.setattr(BestTexts, "redraw", lambda self: drawn.append("drawn"))
    monkeypatch.setattr(BestTexts, "refresh", lambda self, *, layout: drawn.append(f"layout {layout}"))

    def changed(found: Ranking | None) -> list[str]:
        drawn.clear()
        show(it, monkeypatch, lambda opened: found)
        said = [f"{each.levels}" for each in pictures.said if isinstance(each, BestTexts.Shaded)]
        pictures.said.clear()
        return [*drawn, *said]

    assert changed(None) == [] and not it.has_class("-shown")
    assert changed(ranked(0, 2)) == ["drawn", "layout True"] and it.has_class("-shown")
    assert changed(ranked(0, 2)) == []
    assert changed(ranked(1, 2)) == ["drawn"]
    shared = ranked(1, 2, shared=((2, 2), (1, 1)))
    assert changed(shared) == ["drawn", "layout True", "[3, 3, 0]"]
    assert changed(replace(shared, title="")) == ["drawn"]
    assert changed(ranked(1, 3)) == ["drawn", "layout True", "[]"]
    assert changed(None) == ["drawn", "layout True"] and not it.has_class("-shown")

    drawn.clear()
    show(it, monkeypatch, lambda opened: ranked(0, 2, steps=STEPS if opened else ()))
    it.action_steps()
    assert it.opened and drawn[2:] == ["drawn", "layout True", "layout True"]
    assert it.ranking is not None and it.ranking.steps == STEPS
    it.action_steps()
    assert not it.opened and not it.ranking.steps
    drawn.clear()
    listed(None).action_steps()
    assert not drawn


def posted(pictures: Pictures) -> list[tuple[object, ...]]:
    found: list[tuple[object, ...]] = []
    for each in pictures.said:
        if isinstance(each, BestTexts.TextPicked):
            found.append((each.node, each.take))
        elif isinstance(each, BestTexts.TextDropped):
            found.append((each.node, "dropped", each.then))
    pictures.said.clear()
    return found


def test_keys_pick_and_take(pictures: Pictures) -> None:
    it = listed(ranked(1, 3))
    pictures.up(it)
    it.action_pick(1)
    it.action_pick(-1)
    it.action_take()
    assert posted(pictures) == [("n2", False), ("n0", False), ("n1", True)]
    for on, by in ((0, -1), (2, 1)):
        it.ranking = ranked(on, 3)
        it.action_pick(by)
    it.ranking = ranked(9, 3)
    assert it.at == 0
    it.ranking = None
    assert it.at == 0
    it.action_pick(0)
    assert not posted(pictures)


def test_space_holds_the_run_and_frees_it(pictures: Pictures) -> None:
    run = Run()
    it = listed(ranked(1, 3), run)
    pictures.up(it)
    it.action_pause()
    assert run.control.paused and pictures.redraws() == 1
    it.action_pause()
    assert not run.control.paused and pictures.redraws() == 1
    listed(ranked(1, 3)).action_pause()


def test_a_dropped_text_gives_way_to_its_neighbour(pictures: Pictures) -> None:
    for on, dropped, then in ((0, "n0", "n1"), (1, "n1", "n2"), (2, "n2", "n1")):
        for run in (None, Run()):
            it = listed(ranked(on, 3), run)
            pictures.up(it)
            it.action_drop()
            assert posted(pictures) == [(dropped, "dropped", then)]
        it = listed(ranked(on, 3), run := Run(gives_up=True))
        pictures.up(it)
        it.action_drop()
        assert run.dropped == [dropped] and posted(pictures) == [(then, False)]
    for found in (None, ranked(0, 1), ranked(9, 3)):
        it = listed(found, run := Run(gives_up=True))
        pictures.up(it)
        it.action_drop()
        assert not run.dropped and not posted(pictures)
    it = listed(ranked(0, 2))
    pictures.up(it)
    it.action_drop()
    assert posted(pictures) == [("n0", "dropped", "n1")]


def test_a_click_picks_the_row_under_it_but_no_step(pictures: Pictures) -> None:
    def clicked(it: BestTexts) -> list[str]:
        found = []
        for y in range(-1, 9):
            it.on_click(click(3, y))
            found.append(str(said[0][0]) if (said := posted(pictures)) else "")
        return found

    it = listed(ranked(1, 3, steps=STEPS[:2], shared=((3, 1), (1, 1))))
    pictures.draw(it, 70, 9)
    assert clicked(it) == ["", "", "", "n0", "n1", "", "", "n2", "", ""]
    it = listed(ranked(5))
    pictures.draw(it, 70, 5)
    assert it.top == 3
    assert clicked(it) == ["", "", "n3", "n4", "n5", "n6", "", "", "", ""]
    it = listed(ranked(6, steps=STEPS[:2]))
    pictures.draw(it, 70, 7)
    assert it.top == 4 and it.below == 2
    assert clicked(it) == ["", "", "n4", "n5", "n6", "", "", "", "", ""]
    it = listed(ranked(5, steps=STEPS[:2]))
    it.top = 4
    pictures.draw(it, 70, 7)
    assert it.top == 4 and clicked(it) == ["", "", "n4", "n5", "", "", "n6", "", "", ""]
    it.on_click(beside())
    assert not posted(pictures)
