"""The panel of a position of a canvas drawn alone, at every height where a part goes."""

import math

from likely.app.requests import Bounded, Bounding, Laid
from likely.app.tui.chat.denoising import Denoising
from likely.app.tui.widgets.denoising_panel import DenoisingPanel, PanelView
from likely.engine.statistics.estimates import Estimate
from likely.engine.trace.unmasking import DenoisingStep
from tests.tui.widgets.canvases import LAID, MASK, NAMES, canvas, drawn
from tests.tui.widgets.drawing import Pictures, beside, click


def panel(step: int, cursor: int, **more: object) -> DenoisingPanel:
    found = DenoisingPanel()
    how = {key: more.pop(key) for key in ("steps", "planned", "checked") if key in more}
    shown = more.pop("canvas", None) or canvas(**{"steps": 8, **how})  # type: ignore[arg-type]
    assert isinstance(shown, Denoising)
    found.show(PanelView(shown, NAMES, step, cursor, **more))  # type: ignore[arg-type]
    return found


def test_parts_go_where_there_is_no_room_for_them(pictures: Pictures) -> None:
    pictures.draw(DenoisingPanel(), 50, 30, "none")
    for height in (60, 40, 29, 28, 27, 22, 21, 20, 15, 14, 13, 12, 8, 3, 2, 1):
        pictures.draw(panel(4, 7), 50, height, "step 4, position 7")
    pictures.draw(panel(4, 7, checked=True), 50, 28, "with a cache that is checked")
    pictures.draw(panel(4, 7, checked=True), 50, 15, "with a cache that is checked")
    pictures.draw(panel(4, 7, checked=True), 50, 14, "with a cache that is checked")
    pictures.compare("denoising-panel-heights")


def test_parts_fit_their_width(pictures: Pictures) -> None:
    for width in (80, 40, 34, 33, 30, 24):
        pictures.draw(panel(5, 9), width, 32, "step 5, position 9")
    pictures.sweep(panel(5, 9), range(16, 60), 14, slice(0, 10), "the position")
    pictures.sweep(panel(5, 9), range(16, 60), 22, slice(10, 12), "before")
    pictures.sweep(panel(5, 9), range(16, 60), 22, slice(-4, None), "after")
    pictures.compare("denoising-panel-widths")


def test_a_position_says_what_became_of_it_and_why(pictures: Pictures) -> None:
    kept = Denoising(LAID, MASK)
    for about, it in (
        ("given", panel(4, 2)),
        ("given, in the middle", panel(4, 12)),
        ("open before the first step", panel(0, 5)),
        ("open", panel(1, 5)),
        ("open, with a threshold", panel(1, 5, threshold=0.9)),
        ("open, its block was not looked at", panel(1, 14)),
        ("decided at step 2", panel(2, 5)),
        ("decided at step 2, seen later", panel(3, 5)),
        ("taken back", panel(4, 5)),
        ("taken back, seen later", panel(5, 5)),
        ("picked", panel(1, 7, picked=0)),
        ("picked, the sixth", panel(1, 7, picked=5)),
        ("picked, the seventh", panel(1, 7, picked=6)),
        ("picked, the last", panel(1, 7, picked=8)),
        ("picked where a word stands", panel(4, 5, picked=1)),
        ("chosen by a person", panel(4, 5, canvas=canvas(4).parted(4, 5, 7))),
        ("masked again by a person", panel(4, 5, canvas=canvas(4).parted(4, 5, None))),
        ("kept without steps", panel(0, 5, canvas=_kept(kept))),
        ("kept without steps, a mask", panel(0, 6, canvas=_kept(kept))),
    ):
        pictures.draw(it, 44, 17, about)
    for height in (9, 5, 4, 3):
        pictures.draw(panel(1, 7, picked=6), 44, height, "picked where there is little room")
    pictures.compare("denoising-panel-positions")


def canvas_step(at: int) -> DenoisingStep:
    return DenoisingStep(1, (drawn(1, at, "sky", 0.9),), ())


def _kept(found: Denoising) -> Denoising:
    if not found.history:
        for at, said in canvas(2).history.items():
            found.history[at] = [(0, thought) for _, thought in said if at == 5][-1:]
        found.history = {at: said for at, said in found.history.items() if said}
    return found


def test_what_was_thought_of_it_and_the_order_of_all(pictures: Pictures) -> None:
    for step, cursor in ((0, 5), (1, 7), (2, 7), (5, 5), (8, 15), (3, 2)):
        pictures.draw(panel(step, cursor), 48, 33, f"step {step}, position {cursor}")
    pictures.draw(panel(2, 5, planned=100), 48, 33, "100 steps are planned")
    pictures.draw(panel(1, 3, steps=1, planned=0), 48, 33, "one step, and nobody knows how many")
    pictures.draw(panel(0, 3, steps=0, planned=0), 48, 33, "no step yet")
    one = Denoising(Laid((2, MASK), 1, frozenset({MASK})), MASK, 4)
    one.add(canvas_step(1), 0.25)
    pictures.draw(panel(1, 1, canvas=one), 48, 33, "one position")
    seen = canvas(8)
    seen.history[7] = [(step, seen.history[7][0][1]) for step in range(1, 9)]
    pictures.draw(panel(8, 7, canvas=seen), 48, 33, "seen eight times")
    pictures.compare("denoising-panel-before")


def test_the_foot_says_how_all_of_it_stands(pictures: Pictures) -> None:
    for step in (0, 1, 5, 8):
        pictures.draw(panel(step, 5), 44, 13, f"after step {step}")
    none = DenoisingPanel._bound
    it = DenoisingPanel()
    assert none(it, None) == ("p measures it", "")
    assert none(it, Bounding(24)) == ("measuring", "24 canvases")
    two = 2 * math.log(2)
    assert none(it, Bounded(Estimate(10 * two, 5 * two), 10)) == ("≤ 2.00 ± 1.00", "bits a token")
    for error in (0.0, math.inf, math.nan):
        assert none(it, Bounded(Estimate(10 * two, error), 10)) == ("≤ 2.00", "bits a token")
    assert it._cached(canvas(3), 3) == []
    assert it._cached(canvas(3, checked=True), 1) == [("cache differs", "", "not measured yet")]
    assert it._cached(canvas(3, checked=True), 2) == [("cache differs", "2 of 4", "KL 0.180 bits")]
    assert it._cached(canvas(3, checked=True), 3) == [("cache differs", "5 of 8", "KL 0.180 bits")]
    slow = canvas(2)
    slow.seconds = [0.0, 0.0]
    pictures.draw(panel(2, 5, canvas=slow), 44, 13, "no time has passed")
    pictures.compare("denoising-panel-foot")


def test_a_click_points_at_a_candidate(pictures: Pictures) -> None:
    it = panel(1, 7)
    pictures.up(it, (44, 20))
    for y in (0, 7, 12):
        it.on_click(click(3, y))
    it.on_click(beside())
    nothing = DenoisingPanel()
    pictures.up(nothing, (44, 20))
    nothing.on_click(click(3, 2))
    assert not pictures.said
    pictures.redraws()
    it.show(it.view)
    assert pictures.redraws() == 1
    for y in (1, 6):
        it.on_click(click(3, y))
        assert isinstance(said := pictures.said.pop(), DenoisingPanel.CandidatePointed) and said.index == y - 1
