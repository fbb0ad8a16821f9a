"""The inspector without a screen: what it asks the engine, what it shows of the answers, and its room."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from textual.geometry import Size

from app import looks
from app import requests as r
from app.tui.chat.candidates import Candidate, CandidateTable
from app.tui.chat.formulas import of_draw, of_neighbour, of_token
from app.tui.chat.inspection import Inspection, Subject
from app.tui.chat.neighbours import Neighbours
from app.tui.chat.search_choice import SearchTable
from app.tui.chat.tallies import Share, VoteCount
from app.tui.sampling import BAN, Sampling
from app.tui.widgets import inspector as module
from app.tui.widgets.bars import InspectorLine
from app.tui.widgets.candidates import Candidates
from app.tui.widgets.entropy import EntropyRow
from app.tui.widgets.inspector import BATCH_S, KNOWN, PANEL_S, SETTLE_S, Inspector
from app.tui.widgets.sampler import Sliders
from app.tui.widgets.tree import TreePane
from app.tui.widgets.votes import Votes
from app.worker import Failed
from engine.conversation import Conversation
from engine.prompt import Prompt
from engine.trace.observe import observe
from engine.trace.trace import Recipe
from engine.transforms import Temperature
from tests.tui.widgets.alone import FakeHost
from tests.tui.widgets.canvases import ID, NAMES, WORDS, drawn
from tests.tui.widgets.drawing import Pictures

RECIPE = Recipe((Temperature(0.5),))
STEP = drawn(1, 5, "sky", 0.5).token
PROMPT = Prompt(("The",))
INSTEAD = CandidateTable("NOTHING", "", "", (), 0, (0, 0), (0.0, 0.0), "", True, False)
LOGITS = np.log(np.linspace(0.2, 0.01, len(WORDS))).astype(np.float32)
NEAR = looks.Near(((ID["blue"], 0.5),), raw=(0.4,))
DOUBT = looks.Doubt(2.0, 0.5, ((ID["sky"], 0.1),), 8, 1.0)


def at(**more: Any) -> Inspection:
    return Inspection(STEP, RECIPE, NAMES, "TOKEN 5", prompt=PROMPT, key="t5", **more)


def subject(inspection: Inspection | None = None, **more: Any) -> Subject:
    found = at() if inspection is None else inspection
    return Subject(found, (1.0, 2.0, 3.0), 1, INSTEAD, "m", **{"exact": lambda: found, **more})


@dataclass
class Screen:
    """The screen, as far as the inspector asks it; `inner` is the inspector's own size."""

    size: Size = field(default_factory=lambda: Size(120, 40))
    inner: Size = field(default_factory=lambda: Size(40, 40))
    classes: set[str] = field(default_factory=set)
    best: list[Any] = field(default_factory=list)

    def has_class(self, name: str) -> bool:
        return name in self.classes

    def query(self, kind: type) -> list[Any]:
        return self.best


@dataclass
class Timer:
    """A timer that a test rings."""

    wait_s: float
    ring: Callable[[], None]
    stopped: bool = False

    def stop(self) -> None:
        self.stopped = True


class Setup:
    """An inspector with its parts, none of them on a screen."""

    def __init__(self, pictures: Pictures, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pictures, self.monkeypatch = pictures, monkeypatch
        self.host, self.screen, self.timers, self.now_s = FakeHost(), Screen(), list[Timer](), 100.0
        self.later: list[Callable[[], object]] = []
        monkeypatch.setattr(module, "host", lambda widget: self.host)
        monkeypatch.setattr(module, "monotonic", lambda: self.now_s)
        monkeypatch.setattr(Inspector, "screen", self.screen)
        monkeypatch.setattr(Inspector, "is_attached", True)
        monkeypatch.setattr(Inspector, "size", property(lambda _: self.screen.inner))
        monkeypatch.setattr(Inspector, "set_timer", lambda _, wait_s, ring: self.timer(wait_s, ring))
        monkeypatch.setattr(Inspector, "call_after_refresh", lambda _, call: self.later.append(call))
        monkeypatch.setattr(Inspector, "call_later", lambda _, call, *words: call(*words))
        monkeypatch.setattr(Sliders, "get_content_height", lambda *sizes: 8)
        monkeypatch.setattr(TreePane, "get_content_height", lambda *sizes: 5)
        it = self.it = Inspector()
        it.votes, it.candidates, it.entropy, it.sampler = Votes(), Candidates(), EntropyRow(), Sliders()
        it.tree_pane, it.line = TreePane(), InspectorLine()
        it.post_message = pictures._keep  # type: ignore[method-assign]
        it.sampler.sampling = replace(Sampling(), values={**Sampling().values, "temp": 0.5})
        self.looks(subject())

    def timer(self, wait_s: float, ring: Callable[[], None]) -> Timer:
        self.timers.append(Timer(wait_s, ring))
        return self.timers[-1]

    def looks(self, found: Subject) -> Subject:
        self.it.subject = lambda: found
        return found

    def asked(self) -> list[Any]:
        """The requests since this was asked last."""
        found, self.host.engine.asked = self.host.engine.asked, []
        return found

    @property
    def heights(self) -> tuple[float | None, ...]:
        found = (part.styles.height for part in self.it._parts())
        return tuple(None if height is None else height.value for height in found)


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
    it.outcomes = {("t6", RECIPE): outcome, ("t5", Recipe()): outcome}
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
    return replace(at(), step=observe(raw, 1, recipe=RECIPE, position=5))


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
    assert list(it.outcomes) == [("t5", RECIPE)] and it.table() == it.candidates.view
    assert it.table() is not None and it.table().exact  # type: ignore[union-attr]
    setup.asked()
    it.ask()
    assert not setup.asked()
    it.outcomes = {(n, RECIPE): cast(Any, n) for n in range(KNOWN)}
    setup.host.engine.tell(r.ExactLogits(LOGITS))
    assert len(it.outcomes) == KNOWN + 1
    setup.host.engine.tell(r.ExactLogits(LOGITS))
    assert list(it.outcomes) == [("t5", RECIPE)]


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
    assert it.formula() == of_token(at()) != of_draw(table, RECIPE)

    def focus(part: Any, on: bool) -> None:
        part.set_reactive(type(part).has_focus, on)

    recipe = it.sampler.sampling.recipe
    it.candidates.picked = 2
    assert table is not None
    focus(it.candidates, True)
    assert it.formula() == of_draw(table, recipe, table.rows[2].token) != of_draw(table, recipe)
    focus(it.candidates, False)
    focus(it.sampler, True)
    assert it.formula() == of_draw(table, recipe)
    focus(it.sampler, False)
    setup.looks(subject(replace(at(), upcoming=True)))
    assert it.formula() == of_draw(it.table(), recipe) is not None
    setup.looks(Subject(None, instead=INSTEAD))
    assert it.formula() is None
    setup.looks(subject(replace(at(), step=replace(STEP, logprob=None))))
    assert it.formula() == of_draw(it.table(), recipe) is not None
    rows = tuple(Candidate(token, "x", 0.5, 0.5, chosen=token == 1, more=(f"−{token}.0", "1 of 3")) for token in (1, 2))
    search = SearchTable("", "", "", rows, 9, (1, 1), (1.0, 1.0), "", True, True, total=-1.0)
    setup.looks(Subject(None, instead=search))
    chosen = it.formula()
    assert chosen is not None and "then rank" in chosen.parts[-2][0] and ("−1.0", True) in chosen.parts
    near = Neighbours("", "x", "", rows, 0, (0, 0), (0.0, 0.0), "", True, False, "words")
    setup.looks(Subject(None, instead=near))
    assert it.formula() == of_neighbour(near, None)


# -- steering ----------------------------------------------------------------------------------------------------------


def test_a_banned_token_is_allowed_again(setup: Setup) -> None:
    it, token = setup.it, ID["blue"]
    stopped: list[str] = []
    event = Candidates.Picked(token, "ban")
    event.stop = lambda stop=True: stopped.append("stopped")  # type: ignore[method-assign, assignment, return-value]
    shown: list[Sampling] = []
    setup.monkeypatch.setattr(
        Sliders, "show", lambda self, sampling: (shown.append(sampling), vars(self).update(sampling=sampling))
    )
    it.on_candidates_picked(event)
    assert stopped and shown[-1].bias == {token: BAN} and setup.host.heard() == [("·blue is banned from now on", False)]
    assert isinstance(said := setup.pictures.said.pop(), Sliders.Changed) and said.sampling == shown[-1]
    setup.looks(Subject(None, instead=INSTEAD))
    it.ban(token)
    assert shown[-1].bias == {} and setup.host.heard() == [(f"#{token} is allowed again", False)]
    for verb in ("branch", "force"):
        it.on_candidates_picked(Candidates.Picked(token, verb))
    assert len(shown) == 2


def test_a_search_and_a_vote_have_their_lists(setup: Setup) -> None:
    it, listed = setup.it, list[Any]()
    setup.screen.best = [SimpleNamespace(show=lambda *what: listed.append(what))]
    talk, vote = Conversation("c"), VoteCount(3, True, (Share("4", 2, 0.2, 0.9),), {})
    trees: list[Conversation] = []
    setup.monkeypatch.setattr(TreePane, "show", lambda self, shown: trees.append(shown))
    for count in (vote, None):
        setup.monkeypatch.setattr("app.tui.chat.tallies.tally", lambda talk, count=count: count)
        for columns, searched in ((("log₂p", "score"), True), (("answer", "log₂p/tok"), False), ((), False)):
            it.tree_pane.columns = columns
            it.show_tree(talk)
            assert listed.pop() == (talk, count) and it.votes.tally == count and trees.pop() is talk
            assert it.has_class("-voted") == (count is not None) and it.has_class("-searched") == searched


# -- room --------------------------------------------------------------------------------------------------------------


def test_parts_fold_one_after_another_as_the_panel_gets_lower(setup: Setup) -> None:
    heights = {
        40: (14, 3, 8, 5), 33: (14, 3, 8, 5), 32: (14, 3, 8, 4), 29: (14, 3, 8, 1), 28: (14, 1, 8, 2),
        27: (14, 1, 8, 1), 26: (9, 1, 8, 5), 25: (9, 1, 8, 4), 22: (9, 1, 8, 1), 21: (9, 1, 7, 1), 18: (9, 1, 4, 1),
        17: (9, 1, 3, 1), 16: (9, 1, 3, 1), 5: (9, 1, 3, 1),
    }  # fmt: skip
    searched = {
        33: (14, 3, 8, 5), 32: (9, 3, 8, 5), 28: (9, 3, 8, 5), 27: (9, 1, 8, 5), 26: (9, 1, 8, 5), 25: (9, 1, 8, 4),
        22: (9, 1, 8, 1), 17: (9, 1, 3, 1),
    }  # fmt: skip
    for columns, table in (((), heights), (("log₂p", "score"), searched)):
        setup.it.tree_pane.columns = columns
        for height, parts in table.items():
            setup.screen.inner = Size(40, height)
            setup.it.fit()
            assert setup.heights == parts, (columns, height)
    setup.it.tree_pane.columns = ()
    setup.it.votes.tally = VoteCount(3, True, (Share("4", 2, 0.2, 0.9),), {})
    assert Votes.rows(setup.it.votes.tally) == 4
    for height, parts in heights.items():  # and a row between
        setup.screen.inner = Size(40, height + 5)
        setup.it.fit()
        assert setup.heights == parts
    setup.screen.classes = {"-narrow"}
    setup.it.fit()
    assert setup.heights == (None,) * 4


def test_a_change_of_rows_or_size_fits_again(setup: Setup) -> None:
    it, laid = setup.it, list[bool]()
    it.fit()
    setup.screen.inner = Size(40, 29)
    setup.monkeypatch.setattr(Sliders, "refresh", lambda self, *, layout: laid.append(layout))
    it.on_sliders_rows_changed()
    assert laid == [True] and setup.heights == (14, 3, 8, 1)
    for width, narrow, slim in ((120, False, False), (76, True, False), (75, True, True), (75, False, True)):
        setup.screen.size, setup.screen.classes = Size(width, 40), {"-narrow"} if narrow else set()
        it.on_resize()
        assert (it.has_class("-drawer"), it.has_class("-slim")) == (narrow, slim)
        assert setup.heights[0] == (None if narrow else 14)


# -- the drawer --------------------------------------------------------------------------------------------------------


def test_the_drawers_parts_come_by_turns(setup: Setup) -> None:
    it = setup.it

    def turns(count: int) -> list[str]:
        found = []
        for _ in range(count):
            it.next_face()
            found.append(it.face)
        return found

    assert it.face == "glance"
    assert turns(2) == ["glance", "glance"]  # it is no drawer
    setup.screen.classes = {"-narrow"}
    assert turns(5) == ["entropy", "sampler", "", "glance", "entropy"]
    it.set_class(True, "-voted")
    it.turn("glance")
    assert turns(5) == ["token", "entropy", "sampler", "", "glance"]
    it.set_class(True, "-slim")
    assert turns(6) == ["token", "entropy", "tree", "sampler", "", "glance"]
    it.set_class(False, "-voted")
    it.turn("token")
    assert turns(2) == ["glance", "entropy"]
    it.turn("sampler")
    it.display = False
    assert turns(1) == ["glance"]


def test_the_drawer_opens_and_closes(setup: Setup) -> None:
    it = setup.it
    it.open()
    assert it.face == "glance" and not it.close()
    setup.screen.classes = {"-tiny"}
    it.open()
    assert it.face == "token" and setup.later == [it.look]
    for face, closes in (
        ("token", True),
        ("entropy", True),
        ("tree", True),
        ("sampler", True),
        ("glance", False),
        ("", False),
    ):
        setup.later.clear()
        it.turn(face)
        assert it.face == face and it.has_class("-shut") == (not face) and len(setup.later) == 1
        assert it.close() == closes
        assert len(setup.later) == 1 + closes
        assert it.face == ("glance" if closes else face)
        assert not closes or not any(it.has_class(f"-{each}") for each in (*module.FACES, "shut"))
    it.turn("token")
    setup.screen.classes = set()
    assert not it.close() and it.face == "token"


def test_the_way_to_the_sampler_and_back(setup: Setup) -> None:
    it, focused = setup.it, list[str]()
    setup.monkeypatch.setattr(Sliders, "focus", lambda self: focused.append("sampler"))
    back = cast(Any, SimpleNamespace(focus=lambda: focused.append("back")))
    it.to_sampler(back)
    assert focused == ["sampler"] and it.face == "glance"
    setup.screen.classes = {"-narrow"}
    it.to_sampler(back)
    assert it.face == "sampler" and len(focused) == 1
    for call in setup.later:
        call()
    assert focused == ["sampler", "sampler"]
    it.to_sampler(back)
    assert it.face == "glance" and focused[2:] == ["back"]
    it.turn("sampler")
    setup.screen.classes = set()
    it.to_sampler(back)
    assert focused[3:] == ["sampler"]
