"""The pane of a diffusion model's chat: which step and position is looked at, and what a person's keys do there."""

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest

from likely.app import requests as r
from likely.app.tui.chat.chat_session import ChatSession
from likely.app.tui.chat.denoising import Denoising
from likely.app.tui.widgets import diffusion_pane
from likely.app.tui.widgets.caption import Caption
from likely.app.tui.widgets.denoising_panel import DenoisingPanel, PanelView
from likely.app.tui.widgets.denoising_steps import DenoisingSteps
from likely.app.tui.widgets.denoising_text import DenoisingLegend, DenoisingText
from likely.app.tui.widgets.diffusion_pane import ON, PLAY_S, SENTENCE, SHORT, DiffusionPane
from likely.app.worker import Failed
from likely.engine.conversation import Conversation, Fork, Node
from likely.engine.statistics.estimates import Estimate
from likely.engine.trace.unmasking import Unmasking
from tests.tui.widgets.alone import Alone, FakeHost
from tests.tui.widgets.canvases import EOS, ID, MASK, NAMES, PIECES, canvas, drawn
from tests.tui.widgets.drawing import Pictures

FACTS = r.ModelFacts("m", 64, PIECES, True, eos=frozenset({EOS}), mask=MASK)
LABEL = "diffusion · by entropy · 16 steps"


def conversation(*answers: str, label: str = LABEL, finish: str = "length") -> Conversation:
    found = Conversation("c").add(Node("u", Fork(), "user", "Why?"))
    for answer in answers:
        found = found.add(Node(answer, Fork("u"), "assistant", label=label, finish=finish))
    return found


@dataclass
class Talk:
    """The session, as far as the pane asks it."""

    conversation: Conversation
    facts: r.ModelFacts | None = FACTS
    canvases: dict[str, Denoising] = field(default_factory=dict)
    running: bool = False
    unmasking: Unmasking = field(default_factory=Unmasking)
    diffuses: bool = True
    shown: list[tuple[str, str]] = field(default_factory=lambda: [("user", "Why?"), ("assistant", "")])

    def canvas(self, node: str) -> Denoising | None:
        return self.canvases.get(node)

    @property
    def transcript(self) -> Any:
        said = [SimpleNamespace(message=SimpleNamespace(role=role, text=text)) for role, text in self.shown]
        return SimpleNamespace(shown=said)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeHost:
    found = FakeHost()
    monkeypatch.setattr(diffusion_pane, "host", lambda widget: found)
    return found


def scripted(steps: int = 8, **more: Any) -> Talk:
    return Talk(conversation("a"), canvases={"a": canvas(steps)}, **more)


def pane(talk: Talk) -> DiffusionPane:
    return DiffusionPane(cast(Callable[[], ChatSession], lambda: talk), lambda: NAMES)


def put_up(pictures: Pictures, talk: Talk) -> DiffusionPane:
    """Not on a screen: what it posts is kept, and it shows nothing."""
    found = pane(talk)
    found.post_message = pictures._keep  # type: ignore[method-assign]
    found._node = "a"
    return found


def looked(pictures: Pictures) -> int:
    """How often another step or position was looked at since this was asked last."""
    count = sum(isinstance(each, DiffusionPane.StepLooked) for each in pictures.said)
    assert count == len(pictures.said)
    pictures.said.clear()
    return count


def test_the_canvas_is_that_of_the_last_answer(pictures: Pictures) -> None:
    talk = scripted()
    it = put_up(pictures, talk)
    assert it.canvas is talk.canvases["a"] and it.at == 8
    talk.facts = None
    assert it.canvas is None and it.at == 0
    talk.facts = r.ModelFacts("m", 64, PIECES, True)
    assert it.canvas is None
    talk.facts = FACTS
    talk.conversation = conversation()
    assert it.canvas is None
    talk.conversation = Conversation("c")
    assert it.canvas is None and it.facts() == () and it.formula() is None and it.caption(80) == []


def test_an_answer_without_its_steps_is_made_of_its_tokens_once(pictures: Pictures) -> None:
    steps = tuple(drawn(1, at, word, 0.5).token for at, word in enumerate(("The", "sky")))
    whole = tuple(SimpleNamespace(**{name: getattr(step, name) for name in step.__slots__}) for step in steps)
    for step in whole:
        step.piece = PIECES[step.token]
    node = Node("a", Fork("u"), "assistant", label=LABEL, finish="length", steps=cast(Any, whole))
    talk = Talk(conversation().add(node))
    it = put_up(pictures, talk)
    kept = it.canvas
    assert kept is not None and it.canvas is kept and kept.ids(0) == (ID["The"], ID["sky"])
    assert (it.at, kept.steps, it.facts()) == (0, 0, ())
    talk.facts = r.ModelFacts("other", 64, PIECES, True, mask=MASK)
    assert it.canvas is not None and it.canvas is not kept


def test_facts_say_how_far_it_is(pictures: Pictures) -> None:
    it = put_up(pictures, scripted())
    assert it.facts() == ("step 8/8", "4 steps/s")
    it.step = 3
    assert it.facts() == ("step 3/8", "4 steps/s")
    talk = scripted(5)
    it = put_up(pictures, talk)
    assert it.facts() == ("step 5/8", "4 steps/s")
    found = talk.canvases["a"]
    found.planned, found.seconds[-1] = 0, 0.0
    assert it.facts() == ("step 5/5",)
    talk.canvases["a"] = canvas(0)
    assert it.facts() == ()


def test_the_rule_of_the_order_stands_in_the_formula(pictures: Pictures) -> None:
    talk = scripted(4)
    it = put_up(pictures, talk)
    it.cursor, it.step = 5, 1
    rules = {
        Unmasking(): "decide i of largest max p_i",
        Unmasking(by="entropy"): "decide i where H(p_i) is least",
        Unmasking(by="random"): "decide i at random",
        Unmasking(by="ancestral"): "decide i by the schedule's chance",
        Unmasking(threshold=0.875): "decide i where max p_i > 0.88",
    }
    for talk.unmasking, rule in rules.items():
        found = it.formula()
        assert found is not None and found.map == "decoder"
        words = f"{rule}   p_i = p(x_i | decided, mask)"
        assert list(found.parts) == [(words, False), ("   H = ", False), ("2.50 bits", True)]
    talk.unmasking = Unmasking()
    it.cursor = 2
    assert it.formula() is not None and len(it.formula().parts) == 1  # type: ignore[union-attr]
    it.cursor = 5
    whole = [("tokenizer", "cut"), (" → ", "cut"), ("model", "cut"), (" → ", "cut"), ("decoder", "model")]
    whole += [(" → ", "cut"), ("metric", "cut")]
    short = [("decide i of largest max p_i", "text"), ("   H = ", "text"), ("2.50 bits", "chosen")]
    long = [("decide i of largest max p_i   p_i = p(x_i | decided, mask)", "text"), *short[1:]]
    head = [(" ", "faint"), *whole, (" │ ", "rule")]
    size = sum(len(text) for text, _ in [*head, *long])
    assert size > 110 and it.caption(size + 1) == [*head, *long]
    assert it.caption(size) == it.caption(110) == [*head, *short]
    head = [(" ", "faint"), ("decoder", "model"), (" │ ", "rule")]
    size = sum(len(text) for text, _ in [*head, *long])
    assert it.caption(109) == it.caption(size + 1) == [*head, *long]
    assert it.caption(size) == [*head, *short]


@pytest.mark.parametrize(
    "answers, label, finish, steps, heading",
    [
        (("a",), LABEL, "length", 8, ("diffusion", "12 positions", "by entropy", "16 steps")),
        (("b", "a"), "diffusion · x", "cancelled", 8, ("answer 2/2", "diffusion", "12 positions", "x", "stopped")),
        (("a", "b", "c"), "", "length", 0, ("answer 3/3", "diffusion")),
    ],
)
def test_the_heading_says_how_it_was_filled(
    pictures: Pictures, answers: tuple[str, ...], label: str, finish: str, steps: int, heading: tuple[str, ...]
) -> None:
    talk = Talk(conversation(*answers, label=label, finish=finish), canvases={answers[-1]: canvas(steps)})
    it = put_up(pictures, talk)
    assert it._heading(it.canvas) == heading
    talk.conversation = Conversation("c")
    assert it._heading(None) == ("diffusion",)


def test_steps_are_walked_and_the_newest_is_followed(pictures: Pictures) -> None:
    it = put_up(pictures, scripted())
    it.picked = 2
    for by, step in ((-1, 7), (-2, 5), (1, 6), (1, 7), (1, None), (-10000, 0), (-1, 0), (3, 3)):
        it.action_step(by)
        at = 8 if step is None else step
        assert (it.step, it.at, it.picked, looked(pictures)) == (step, at, None, 1)
    it.action_step(10000)
    assert (it.step, it.at, looked(pictures)) == (None, 8, 1)
    it.step = 99
    assert it.at == 8
    nothing = put_up(pictures, Talk(conversation()))
    nothing.action_step(-1)
    assert nothing.step is None and not looked(pictures)


class Interval:
    """A timer that a test rings."""

    def __init__(self, every_s: float, ring: Callable[[], None]) -> None:
        self.every_s, self.ring, self.stopped = every_s, ring, False

    def stop(self) -> None:
        self.stopped = True


def test_steps_play_until_the_newest_or_until_they_are_held(
    pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    timers: list[Interval] = []
    monkeypatch.setattr(
        DiffusionPane, "set_interval", lambda self, every, ring: timers.append(Interval(every, ring)) or timers[-1]
    )
    it = put_up(pictures, scripted(3))
    it.action_play()
    assert it.at == 0 and timers[0].every_s == PLAY_S and looked(pictures) == 1
    for at in (1, 2, 3):
        assert not timers[0].stopped
        timers[0].ring()
        assert it.at == at and looked(pictures) == 1
    assert timers[0].stopped and it.step is None and it._playing is None
    it.step = 1
    it.action_play()
    assert it.at == 1 and len(timers) == 2
    it.action_play()
    assert timers[1].stopped and it.at == 1 and len(timers) == 2 and it._playing is None
    it.action_play()
    it.action_step(1)
    assert timers[2].stopped and it._playing is None
    for talk in (Talk(conversation()), scripted(0)):
        put_up(pictures, talk).action_play()
    assert len(timers) == 3
    it.action_play()
    assert it.leave() and timers[3].stopped and not it.leave()
    it.picked = 0
    assert it.leave() and it.picked is None and not it.leave()


def test_positions_are_walked_between_the_ends(pictures: Pictures) -> None:
    it = put_up(pictures, scripted())
    it.cursor = 3
    for by, at in ((1, 4), (-1, 3), (-1, 2), (-1, 2), (13, 15), (1, 15)):
        it.picked = 1
        it.action_position(by)
        assert (it.cursor, it.picked, looked(pictures)) == (at, None, 1)
    nothing = put_up(pictures, Talk(conversation()))
    nothing.action_position(1)
    assert nothing.cursor == 0 and not looked(pictures)


def test_candidates_are_walked_while_one_is_picked(pictures: Pictures, fake: FakeHost) -> None:
    it = put_up(pictures, scripted())
    it.cursor, it.step = 7, 1  # nine candidates
    it.action_choose()
    assert it.picked == 0 and looked(pictures) == 1
    for by, picked in ((1, 1), (-1, 0), (-1, 0), (8, 8), (1, 8)):
        it.action_row(by)
        assert (it.picked, looked(pictures)) == (picked, 1)
    it.cursor = 2  # given: none
    it.action_row(1)
    assert it.picked == 0
    it.picked = None
    it.action_choose()
    assert fake.heard() == [("there are no candidates here: nothing was thought of this position", False)]
    assert it.picked is None
    put_up(pictures, Talk(conversation())).action_choose()
    assert len(fake.heard()) == 1


def test_a_choice_is_put_there_once_and_only_where_it_is_another(pictures: Pictures, fake: FakeHost) -> None:
    it = put_up(pictures, scripted())

    def changed() -> list[tuple[object, ...]]:
        found = [
            (each.node, each.step, each.position, each.token)
            for each in pictures.said
            if isinstance(each, DiffusionPane.CellChanged)
        ]
        pictures.said.clear()
        return found

    it.cursor, it.step, it.picked = 5, 1, 1
    it.action_choose()
    assert changed() == [("a", 1, 5, ID["blue"])] and it.picked is None
    it.action_mask()
    assert not changed() and fake.heard() == [("it is a mask already", False)]
    it.step, it.picked = 4, 0
    it.action_choose()
    assert not changed() and fake.heard() == [("that stands there already", False)] and it.picked == 0
    it.action_mask()
    assert changed() == [("a", 4, 5, None)]
    it._node = "b"
    it.action_mask()
    nothing = put_up(pictures, Talk(conversation()))
    nothing.action_mask()
    assert fake.heard() == [("the steps of this answer were not kept: ^r fills another canvas", False)] * 2
    assert not changed()


def test_other_answers_are_turned_to(pictures: Pictures, fake: FakeHost) -> None:
    it = put_up(pictures, Talk(conversation("a", "b", "c")))
    for by, option in ((1, "a"), (-1, "b")):
        it.action_answer(by)
        assert isinstance(said := pictures.said.pop(), DiffusionPane.AnswerTurned)
        assert (said.fork, said.option) == (Fork("u"), option)
    put_up(pictures, Talk(conversation("a", "b"))).action_answer(1)
    assert isinstance(said := pictures.said.pop(), DiffusionPane.AnswerTurned) and said.option == "a"
    for talk in (Talk(conversation("a")), Talk(conversation()), Talk(Conversation("c"))):
        put_up(pictures, talk).action_answer(1)
        assert fake.heard() == [("there is no other answer here: ^r draws one", False)] and not pictures.said


def test_the_bound_is_of_a_whole_answer(pictures: Pictures, fake: FakeHost) -> None:
    talk = scripted()
    it = put_up(pictures, talk)
    it.step = 5
    it.action_bound()
    it.step, talk.running = None, True
    it.action_bound()
    assert fake.heard() == [("the bound is of a whole answer: masks are left at this step", False)] * 2
    talk.running, talk.facts = False, FACTS
    for other in (Talk(conversation()), scripted(0)):
        put_up(pictures, other).action_bound()
        assert fake.heard() == [("the bound is of an answer: say something first", False)]
    it.action_bound()
    (asked,) = fake.engine.asked
    found = talk.canvases["a"]
    assert isinstance(asked, r.AskBound) and asked.model == "m" and asked.ids == found.whole(8)[0]  # type: ignore[index]
    key = "a", found.ids(8)
    assert it.bounds.found == {key: r.Bounding(0)}
    bounded = r.Bounded(Estimate(3.0, 1.0), 12)
    fake.engine.tell(bounded)
    view = it._view(found, NAMES)
    assert view == PanelView(found, NAMES, 8, 0, 0.0, None, bounded) and not fake.heard()
    talk.unmasking, it.step, it.cursor, it.picked = Unmasking(threshold=0.5), 7, 3, 1
    assert it._view(found, NAMES) == PanelView(found, NAMES, 7, 3, 0.5, 1, None)
    assert it._view(None, NAMES) is None
    it.action_bound()
    fake.engine.tell(Failed("no memory"))
    assert fake.heard() == [("no memory", True)]
    it.action_bound()
    assert it.leave() and not it.leave()


def test_the_mouse_points_at_positions_steps_and_candidates(
    pictures: Pictures, fake: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    focused: list[bool] = []
    monkeypatch.setattr(DiffusionPane, "focus", lambda self: focused.append(True))
    it = put_up(pictures, scripted())
    it.on_denoising_text_position_pointed(DenoisingText.PositionPointed(7))
    assert it.cursor == 7 and looked(pictures) == 1
    timer = it._playing = cast(Any, Interval(1.0, lambda: None))
    it.on_denoising_steps_walked(DenoisingSteps.Walked(1))
    assert it.step == 1 and looked(pictures) == 1 and timer.stopped
    it.on_denoising_panel_candidate_pointed(DenoisingPanel.CandidatePointed(8))
    assert it.picked == 8 and looked(pictures) == 1
    it.on_denoising_panel_candidate_pointed(DenoisingPanel.CandidatePointed(9))
    assert it.picked == 8 and not looked(pictures)
    it.on_denoising_panel_candidate_pointed(DenoisingPanel.CandidatePointed(0))
    assert it.picked == 0 and looked(pictures) == 1
    it.on_denoising_panel_candidate_pointed(DenoisingPanel.CandidatePointed(0))
    assert isinstance(pictures.said.pop(), DiffusionPane.CellChanged) and it.picked is None
    put_up(pictures, Talk(conversation())).on_denoising_panel_candidate_pointed(DenoisingPanel.CandidatePointed(0))
    assert not pictures.said and len(focused) == 7


async def test_its_parts_show_what_is_looked_at() -> None:
    talk = Talk(conversation("a"), canvases={"a": canvas(5)}, running=True)
    it = pane(talk)
    css = "Caption { height: 1; } DenoisingText { height: 12; width: 30; }"
    async with Alone(it, css=css).run_test(size=(110, 40)) as pilot:
        text, legend = it.query_one(DenoisingText), it.query_one(DenoisingLegend)
        steps, panel, caption = it.query_one(DenoisingSteps), it.query_one(DenoisingPanel), it.query_one(Caption)
        found = talk.canvases["a"]
        assert it.can_focus and it.screen.has_class(ON)
        assert caption.rows == ([(f" {SENTENCE}", "faint")],)
        assert it.cursor == 3  # the first that the model fills
        assert (text.said, text.canvas, text.names, text.step, text.cursor) == ([("user", "Why?")], found, NAMES, 5, 3)
        assert text.heading == it._heading(found)
        assert (legend.canvas, legend.names, legend.step) == (found, NAMES, 5)
        assert (steps.canvas, steps.step, steps.live) == (found, 5, True)
        assert panel.view == PanelView(found, NAMES, 5, 3)
        it.action_step(-1)
        assert not steps.live and steps.step == text.step == legend.step == 4
        await pilot.pause()
        it.action_row(1)
        assert it.cursor in found.shown and it.cursor > 3 and text.cursor == it.cursor
        it.action_row(-1)
        assert it.cursor == 3
        it.action_row(-1)
        assert it.cursor == 3
        it.cursor, it.picked = 9, 1
        it.look()
        assert panel.view.picked == 1
        assert it.leave() and panel.view.picked is None
        it.picked = 1
        talk.running = False

        # another answer that goes on from this one: the position stays; one of another kind: it does not
        parted = found.parted(4, 5, ID["green"])
        talk.conversation, talk.canvases = conversation("a", "b"), {"a": found, "b": parted}
        it.step = 2
        it.look()
        assert (it.step, it.cursor, it.picked, it._node) == (None, 9, None, "b") and panel.view is not None
        assert not steps.live
        it.cursor = 40
        it.look()
        assert it.cursor == 3
        it.cursor = 9
        talk.conversation = conversation("a", "b", "c")
        talk.canvases["c"] = canvas(1)
        it.look()
        assert it.cursor == 3 and text.canvas is talk.canvases["c"]
        it.cursor = 1  # before its beginning
        it.look()
        assert it.cursor == 3
        talk.conversation = conversation()
        talk.shown = [("user", "Why?"), ("assistant", ""), ("assistant", "Because")]
        it.look()
        assert text.said == [("user", "Why?"), ("assistant", "Because")] and panel.view is None and it._node == "u"

        it.bounds.ask(FakeHost().engine.submit, "x", "m", (1,), (0,))
        talk.diffuses = False
        it.look()
        assert not it.screen.has_class(ON) and not it.bounds.found
        talk.diffuses = True
        it.look()
        await pilot.resize_terminal(109, 40)
        assert caption.rows == ([(f" {SHORT}", "faint")],)


def test_nothing_is_shown_before_it_is_there() -> None:
    it = pane(scripted())
    it.look()
    assert it.cursor == 0 and it._node == ""
