"""The inspector without a screen: what it asks the engine, and what it shows of the answers."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from app import looks
from app import requests as r
from app.tui.chat.candidates import Candidate
from app.tui.chat.formulas import of_draw, of_neighbour, of_token
from app.tui.chat.inspection import Inspection, Subject
from app.tui.chat.neighbours import Neighbours
from app.tui.chat.search_choice import SearchTable
from app.tui.widgets.bars import InspectorLine
from app.tui.widgets.inspector import BATCH_S, KNOWN, PANEL_S, SETTLE_S, Inspector
from app.worker import Failed
from engine.prompt import Prompt
from engine.trace.observe import observe
from engine.trace.trace import Recipe
from engine.transforms import TopK
from tests.tui.widgets.alone import Alone
from tests.tui.widgets.canvases import NAMES
from tests.tui.widgets.drawing import Pictures
from tests.tui.widgets.inspecting import DOUBT, INSTEAD, LOGITS, NEAR, PROMPT, RECIPE, STEP, Setup, at, subject

BY = (Recipe(), RECIPE)  # what the token was drawn by, and how the sliders stand


@pytest.fixture
def setup(pictures: Pictures, monkeypatch: pytest.MonkeyPatch) -> Setup:
    return Setup(pictures, monkeypatch)


# -- what is shown -----------------------------------------------------------------------------------------------------


def test_the_table_is_replayed_until_the_engine_has_answered(setup: Setup) -> None:
    it = setup.it
    found = it.table()
    assert found is not None and (found.title, found.exact) == ("TOKEN 5", True)
    outcome = at(logits=LOGITS).outcome()
    assert outcome is not None
    it.outcomes["t5", RECIPE] = outcome
    other = it.table()
    assert other is not None and other.rows[0].token == 0 != found.rows[0].token
    it.outcomes = {("t6", RECIPE): outcome, ("t5", Recipe((TopK(3),))): outcome}
    assert it.table() == found
    setup.looks(Subject(None, instead=INSTEAD))
    assert it.table() is INSTEAD
    setup.looks(Subject(Inspection(None, RECIPE, NAMES)))
    assert it.table() is None


def test_what_is_remembered_is_forgotten_where_places_change(setup: Setup) -> None:
    it = setup.it
    it.outcomes["t5", RECIPE] = cast(Any, "x")
    it._doubts["t5"] = DOUBT
    it.forget()
    assert not it.outcomes and not it._doubts


def test_the_panel_or_its_line_shows_the_subject(setup: Setup) -> None:
    it, screen = setup.it, setup.screen
    it.look()
    assert it.candidates.view == it.table() and it.line.view is None and not it.line.display
    assert (it.entropy.bits, it.entropy.at, it.entropy.doubt) == ((1.0, 2.0, 3.0), 1, None)
    assert setup.heights == (14, 3, 8, 5)

    def line(display: bool, *classes: str) -> bool:
        screen.classes, it.display = set(classes), display
        it.line.display, it.line.view = False, None
        it.look()
        return it.line.display

    assert not line(False)
    assert line(False, "-narrow") and it.line.view == it.table() and it.line.bits == (1.0, 2.0)
    assert line(False, "-tiny")
    assert not line(True, "-narrow")
    assert it.line.view is None
    assert not line(False, "-narrow", "-flat")
    assert not line(False, "-narrow", "-diffusion")
    it.candidates.show(None)
    assert not line(False) and it.candidates.view is None  # nothing of it is seen
    assert line(False, "-narrow") and it.candidates.view == it.table()
    setup.monkeypatch.setattr(Inspector, "is_attached", False)
    it.candidates.show(None)
    it.look()
    assert it.candidates.view is None


def test_tokens_that_come_fast_are_looked_at_by_and_by(setup: Setup) -> None:
    it, seen = setup.it, list[float]()
    setup.monkeypatch.setattr(Inspector, "look", lambda _: seen.append(setup.now_s))
    it.look_soon()
    assert seen == [100.0] and not setup.timers
    setup.now_s += PANEL_S / 4
    it.look_soon()
    it.look_soon()
    assert len(seen) == 1 and [timer.wait_s for timer in setup.timers] == [pytest.approx(PANEL_S * 0.75 + BATCH_S)]
    setup.now_s += PANEL_S
    it.look_soon()  # a batch has come: the timer has nothing left to do
    assert len(seen) == 2
    setup.timers[0].ring()
    assert len(seen) == 2 and len(setup.timers) == 1
    setup.now_s += PANEL_S / 2
    it.look_soon()
    setup.now_s += PANEL_S
    setup.timers[1].ring()
    assert len(seen) == 3 and len(setup.timers) == 2
    setup.now_s += PANEL_S
    it.look_soon()
    assert len(seen) == 4


def test_the_engine_is_asked_once_a_slider_rests(setup: Setup) -> None:
    it = setup.it
    it.rest()
    it.rest()
    assert [(timer.wait_s, timer.stopped) for timer in setup.timers] == [(SETTLE_S, True), (SETTLE_S, False)]
    asked: list[str] = []
    setup.monkeypatch.setattr(Inspector, "ask", lambda _: asked.append("asked"))
    setup.timers[-1].ring()
    assert setup.timers[-1].ring.__name__ == "ask"
    it.candidates.show(None)
    it.renew()
    assert it.candidates.view is not None and len(setup.timers) == 3 and setup.timers[1].stopped


# -- what is asked -----------------------------------------------------------------------------------------------------


def inexact() -> Inspection:
    """A token of a vocabulary that is too large for all of it to be kept."""
    raw = np.linspace(0.0, -4.0, 2000).astype(np.float32)
    return replace(at(), step=observe(raw, 1, recipe=Recipe(), position=5))


def test_the_whole_distribution_is_asked_for_where_the_replay_is_not_exact(setup: Setup) -> None:
    it = setup.it
    it.ask()
    assert not setup.asked()  # it is exact
    now = inexact()
    setup.looks(subject(now))
    table = it.table()
    assert table is not None and not table.exact
    it.ask()
    (asked,) = setup.asked()
    assert asked == r.Exact("m", PROMPT)
    assert setup.host.engine.handlers
    setup.host.engine.asked = [asked]
    setup.host.engine.tell("something else", r.ExactLogits(LOGITS))
    assert list(it.outcomes) == [("t5", Recipe()), ("t5", RECIPE)] and it.table() == it.candidates.view
    assert it.table() is not None and it.table().exact  # type: ignore[union-attr]
    setup.asked()
    it.ask()
    assert not setup.asked()
    it.outcomes = {(n, RECIPE): cast(Any, n) for n in range(KNOWN)}
    setup.host.engine.tell(r.ExactLogits(LOGITS))
    assert len(it.outcomes) == KNOWN + 2
    setup.host.engine.tell(r.ExactLogits(LOGITS))
    assert list(it.outcomes) == [("t5", Recipe()), ("t5", RECIPE)]


def test_nothing_is_asked_of_what_cannot_be_told(setup: Setup) -> None:
    now = inexact()
    for found in (
        Subject(None, instead=replace(INSTEAD, exact=False), model="m", exact=lambda: now),
        subject(now, exact=None),
        replace(subject(now), model=""),
        subject(replace(now, step=replace(now.step, logprob=None))),  # type: ignore[type-var]
        subject(replace(now, step=None)),
    ):
        setup.looks(found)
        setup.it.ask()
        assert not setup.asked()
    setup.looks(subject(now))
    setup.it.ask()
    assert len(setup.asked()) == 1


def adapter(name: str, weight: float, posterior: str) -> Any:
    return SimpleNamespace(name=name, weight=weight, posterior=posterior)


def test_a_doubt_is_asked_for_once_where_one_adapter_has_a_posterior(setup: Setup) -> None:
    it, engine = setup.it, setup.host.engine
    for attached in (
        (),
        (adapter("a", 1.0, ""),),
        (adapter("a", 0.0, "swag"),),
        (adapter("a", 1.0, "swag"), adapter("b", 0.5, "laplace")),
    ):
        engine.attached = attached
        it.ask()
        assert not setup.asked() and it._doubt_key(at()) is None
    engine.attached = (adapter("a", 1.0, "swag"), adapter("b", 0.5, ""), adapter("c", 0.0, "laplace"))
    key = it._doubt_key(at())
    assert key == ("t5", (("a", 1.0), ("b", 0.5)))
    it.ask()
    (asked,) = setup.asked()
    table = it.table()
    assert table is not None and table.doubt is None
    tokens = tuple(row.token for row in table.rows)
    assert (asked.model, asked.prompt, asked.look) == ("m", PROMPT, looks.DoubtLook(tokens))
    first = it._doubting
    it.ask()
    assert not setup.asked() and not first.cancelled  # it is under way
    engine.tell(looks.DoubtPart(1, 2), DOUBT)
    assert it._doubts == {key: DOUBT} and it.entropy.doubt == DOUBT
    assert it.candidates.view == table.doubted(DOUBT) == it.table()
    it.ask()
    assert not setup.asked()
    setup.looks(subject(replace(at(), key="t6")))
    it.ask()
    second = it._doubting
    assert len(setup.asked()) == 1 and second is not first and list(it._doubts.values()) == [DOUBT, None]
    setup.looks(subject(replace(at(), key="t7")))
    it.ask()
    assert second.cancelled and list(it._doubts.values()) == [DOUBT, None]
    engine.tell(Failed("no memory"))
    assert setup.host.heard() == [("no memory", True)]
    it._doubts = dict.fromkeys(range(KNOWN), DOUBT)
    it.ask()
    assert list(it._doubts)[:2] == [1, 2] and len(it._doubts) == KNOWN
    setup.asked()
    setup.looks(subject(replace(at(), key="t8", prompt=None)))
    it.ask()
    assert not setup.asked()


def test_a_doubt_and_the_distribution_are_asked_for_together(setup: Setup) -> None:
    setup.host.engine.attached = (adapter("a", 1.0, "swag"),)
    setup.looks(subject(inexact()))
    setup.it.ask()
    assert [type(each) for each in setup.asked()] == [r.Inside, r.Exact]


def test_the_nearest_tokens_stand_in_the_place_of_the_candidates(setup: Setup) -> None:
    it, engine = setup.it, setup.host.engine
    before = it.table()
    it.on_candidates_near_asked()
    (asked,) = setup.asked()
    assert (asked.model, asked.prompt, asked.look) == ("m", Prompt(), looks.NearLook((STEP.token,)))
    found = it.table()
    assert isinstance(found, Neighbours) and found.numbers == "looking…" and it.candidates.view == found
    it.ask()
    assert not setup.asked()
    engine.tell("else")
    assert it._near == {("m", STEP.token): None}
    engine.tell(NEAR)
    found = it.table()
    assert found is not None and found.rows and it.candidates.view == found
    engine.tell(Failed("it has none"))
    found = it.table()
    assert found is not None and found.numbers == "it has none" and it.candidates.view == found
    it.turn_near()
    assert it.table() == before == it.candidates.view and not setup.asked() and not it._near
    it._near = {("m", n): NEAR for n in range(100, 100 + KNOWN)}
    it.turn_near()
    assert len(it._near) == KNOWN and next(iter(it._near)) == ("m", 101) and len(setup.asked()) == 1
    it._near.clear()
    engine.current = None
    it.ask()
    assert not setup.asked() and not it._near and it._model() == ""
    setup.looks(subject(replace(at(), upcoming=True)))
    assert not isinstance(it.table(), Neighbours)
    setup.looks(Subject(None, instead=INSTEAD))
    assert it.table() is INSTEAD


# -- formulas ----------------------------------------------------------------------------------------------------------


def test_the_formula_is_of_what_is_used(setup: Setup) -> None:
    it = setup.it
    it.look()
    table = it.table()
    assert it.formula() == of_token(at()) != of_draw(table, BY)

    def focus(part: Any, on: bool) -> None:
        part.set_reactive(type(part).has_focus, on)

    it.candidates.picked = 2
    assert table is not None
    focus(it.candidates, True)
    assert it.formula() == of_draw(table, BY, table.rows[2].token) != of_draw(table, BY)
    focus(it.candidates, False)
    focus(it.sampler, True)
    assert it.formula() == of_draw(table, BY)
    focus(it.sampler, False)
    setup.looks(subject(replace(at(), upcoming=True)))
    assert it.formula() == of_draw(it.table(), (RECIPE,)) is not None
    setup.looks(Subject(None, instead=INSTEAD))
    assert it.formula() is None
    setup.looks(subject(replace(at(), step=replace(STEP, logprob=None))))
    assert it.formula() == of_draw(it.table(), BY) is not None
    rows = tuple(Candidate(token, "x", 0.5, 0.5, chosen=token == 1, more=(f"−{token}.0", "1 of 3")) for token in (1, 2))
    search = SearchTable("", "", "", rows, 9, (1, 1), (1.0, 1.0), "", True, True, total=-1.0)
    setup.looks(Subject(None, instead=search))
    chosen = it.formula()
    assert chosen is not None and "then rank" in chosen.parts[-2][0] and ("−1.0", True) in chosen.parts
    near = Neighbours("", "x", "", rows, 0, (0, 0), (0.0, 0.0), "", True, False, "words")
    setup.looks(Subject(None, instead=near))
    assert it.formula() == of_neighbour(near, None)


async def test_its_parts_stand_below_each_other() -> None:
    line, it = InspectorLine(), Inspector(id="inspector", strategies=True)
    async with Alone(line, it, css="InspectorLine { height: 1; }").run_test(size=(100, 40)):
        assert it.id == "inspector" and it.line is line
        assert list(it.children) == [it.votes, it.candidates, it.entropy, it.sampler, it.tree_pane]
        assert [child.id for child in it.children] == ["votes", "candidates", "entropy", "sampler", "tree"]
        assert it.sampler.strategies and it.table() is None
