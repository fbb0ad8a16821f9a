"""A column of a comparison, not on a screen: what it says above and below its answer, and where it parts."""

from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from textual.geometry import Size

from app import requests as r
from app.tui.chat.chat_session import ChatSession, Heard
from app.tui.chat.denoising import LN2, Denoising
from app.tui.sampling import Sampling
from app.tui.tokens.block import MessageBlock, ShownToken
from app.tui.tokens.layout import TokenPlace
from app.tui.widgets import column as module
from app.tui.widgets.column import EMPTY, Column
from app.worker import Failed
from engine import presets
from engine.conversation import Conversation
from engine.evaluate.estimates import Estimate
from engine.trace.trace import TokenStep
from tests.tui.widgets.alone import Alone, FakeHost
from tests.tui.widgets.canvases import NAMES, PIECES, canvas, drawn
from tests.tui.widgets.drawing import Pictures

FACTS = r.ModelFacts("folder/m", 64, PIECES, True, title="m")


def steps(words: str, bits: float = 2.0, every_s: float = 0.5) -> list[TokenStep]:
    return [
        replace(drawn(1, i, word, 0.5).token, piece=word.encode(), logprob=-bits * LN2, elapsed_s=1 + every_s * i)
        for i, word in enumerate(words.split())
    ]


@dataclass
class Shown:
    """A message on the screen."""

    steps: list[TokenStep]
    block: MessageBlock = field(default_factory=lambda: MessageBlock("b", "model"))
    message: Any = field(default_factory=lambda: SimpleNamespace(last=SimpleNamespace(id="n")))


@dataclass
class Talk:
    """The session, as far as a column asks it."""

    shown: list[Shown] = field(default_factory=list)
    running: bool = False
    facts: r.ModelFacts | None = None
    diffuses: bool = False
    sampling: Sampling = field(default_factory=Sampling)
    strategy: Any = field(default_factory=lambda: SimpleNamespace(words="", needs=()))
    denoisings: dict[str, Denoising] = field(default_factory=dict)
    conversation: Conversation = field(default_factory=lambda: Conversation("c", model="m"))
    heard: Heard = field(default_factory=Heard)
    told: list[Any] = field(default_factory=list)
    stops: bool = False

    def __post_init__(self) -> None:
        self.transcript = SimpleNamespace(
            shown=self.shown, began_ids={"x": (1,)}, blocks=lambda: [each.block for each in self.shown],
            render=lambda on: self.told.append(("render", on)),
        )  # fmt: skip

    def take(self, job: int, events: list[Any]) -> Heard:
        self.told.append((job, events))
        return self.heard

    def submit(self, prompt: str) -> None:
        self.told.append((prompt, self.conversation.id))

    def stop(self) -> bool:
        self.told.append("stop")
        return self.stops


class View:
    """The view of the answer: what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.cursor: TokenPlace | None = None
        self.last: TokenPlace | None = None
        self.mark: TokenPlace | None = None

    def newest(self) -> TokenPlace | None:
        return self.last

    def show_otherwise(self, change: Any) -> None:
        change()
        self.told.append(("otherwise",))

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **more: self.told.append((name, *args, *more.items()))


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeHost:
    found = FakeHost()
    found.names = NAMES
    monkeypatch.setattr(module, "host", lambda widget: found)
    monkeypatch.setattr(Column, "size", property(lambda self: Size(self.width, 20)))
    return found


class Under:
    """A column under test: its labels' words, and what its view was told."""

    def __init__(self, talk: Talk, width: int = 80, model: str = "", label: str = "") -> None:
        self.talk, self.view = talk, View()
        self.it = Column(cast(ChatSession, talk), model, label=label)
        vars(self.it)["width"] = width
        self.it.view = cast(Any, self.view)
        self.said: dict[str, str] = {}
        for name in ("_head", "_foot"):
            vars(self.it)[name] = SimpleNamespace(update=lambda words, name=name: self.said.update({name: words}))

    def foot(self, first: bool = False, likelihood: bool = False) -> str:
        self.it.foot(first, likelihood)
        return self.said["_foot"]


def answered(words: str, **more: Any) -> Talk:
    return Talk([Shown([]), Shown(steps(words))], **more)


def test_what_it_came_to_stands_below_as_far_as_there_is_room(fake: FakeHost) -> None:
    whole = "the same · ppl 4.0 · 4 tok · 2 tok/s"
    assert Under(answered("The sky looks blue")).foot() == whole
    size = len(whole) + 3
    for width, words in (
        (size, whole), (size - 1, "the same · ppl 4.0 · 4 tok"), (29, "the same · ppl 4.0 · 4 tok"),
        (28, "the same · ppl 4.0"), (20, "the same"), (11, "the same"), (10, "the sa…"), (5, "the…"),
    ):  # fmt: skip
        assert Under(answered("The sky looks blue"), width).foot() == words, width
    assert Under(answered("The sky looks blue")).foot(first=True) == "ppl 4.0 · 4 tok · 2 tok/s"
    assert Under(answered("The sky looks blue", running=True)).foot().startswith("the same so far · ")
    assert Under(answered("The sky")).foot(first=True) == "ppl 4.0 · 2 tok · 2 tok/s"
    assert Under(answered("The")).foot(first=True) == "ppl 4.0 · 1 tok"
    still = answered("The sky")
    still.shown[-1].steps[1] = replace(still.shown[-1].steps[1], elapsed_s=1.0)
    assert Under(still).foot(first=True) == "ppl 4.0 · 2 tok"
    unknown = answered("The sky")
    unknown.shown[-1].steps[:] = [replace(step, logprob=None) for step in unknown.shown[-1].steps]
    assert Under(unknown).foot(first=True) == "2 tok · 2 tok/s"
    parted = Under(answered("The sky"))
    parted.it.parts_at = 1
    assert parted.foot().startswith("differs at 2 · ppl")


def test_an_empty_column_says_what_to_do(fake: FakeHost) -> None:
    for width, words in ((len(EMPTY) + 3, EMPTY), (len(EMPTY) + 2, "c sets it up"), (10, "c sets…")):
        assert Under(Talk(), width).foot() == words
    assert Under(Talk(running=True)).foot() == ""
    assert Under(Talk([Shown([])])).foot() == EMPTY


def test_likelihoods_of_both_factorisations(fake: FakeHost) -> None:
    assert Under(answered("The sky looks")).foot(likelihood=True) == "2.00 bits/tok · 3 steps · 2.0 s · the same"
    assert Under(Talk()).foot(likelihood=True) == EMPTY
    assert Under(Talk()).it._costs() == []
    unknown = answered("The sky")
    unknown.shown[-1].steps[:] = [replace(step, logprob=None) for step in unknown.shown[-1].steps]
    assert Under(unknown).it._costs() == ["", "2 steps", "1.5 s"]
    talk = answered("", denoisings={"n": canvas(5)})
    column = Under(talk)
    assert column.it._costs() == ["", "5 steps", "1.2 s"]
    column.it.bounds.found["n"] = r.Bounding(3)
    assert column.it._costs()[0] == ""
    column.it.bounds.found["n"] = r.Bounded(Estimate(24 * LN2, 1.0), 12)
    assert column.it._costs() == ["≤ 2.00 bits/tok", "5 steps", "1.2 s"]
    talk.denoisings["n"] = canvas(0)
    assert column.it._costs()[1:] == ["0 steps", ""]


def test_the_head_says_what_tells_it_apart(fake: FakeHost) -> None:
    def head(width: int = 80, model: str = "", named: bool = False, label: str = "", **more: Any) -> str:
        column = Under(Talk(**more), width, model, label)
        column.it.named = named
        column.it.head()
        return column.said["_head"]

    assert head() == "balanced"
    assert head(facts=FACTS) == "balanced"
    assert head(facts=FACTS, model="folder/m") == "balanced · m"
    assert head(facts=replace(FACTS, title=""), model="folder/m") == "balanced · folder/m"
    assert head(model="folder/m") == "balanced · folder/m"
    assert head(facts=FACTS, named=True) == "m · balanced"
    assert head(named=True) == "balanced"
    beam = SimpleNamespace(words="beam 4", needs=())
    assert head(strategy=beam) == "balanced · beam 4"
    assert head(strategy=beam, diffuses=True) == "balanced · diffusion"
    order = next(name for name in presets.ORDERS if name != "mlx-lm")
    other = replace(Sampling(), order=presets.ORDERS[order])
    assert head(sampling=other) == f"balanced · {order} order"
    warm = replace(Sampling(), values={**Sampling().values, "temp": 0.55})
    assert "0.55" in head(sampling=warm)
    assert head(label="as it was kept\x07") == "as it was kept␇"
    assert head(label="as it was kept", width=17) == "as it was kept"
    assert head(label="as it was kept", width=16) == "as it was ke…"
    assert head(label="as it was kept", width=2) == "as …"


def test_models_that_it_draws_with(fake: FakeHost) -> None:
    needy = SimpleNamespace(words="", needs=("draft",))
    assert Under(Talk()).it.models == {""} and Under(Talk(strategy=needy), model="x").it.models == {"x", "draft"}


def test_where_it_first_differs_from_the_first_column(fake: FakeHost) -> None:
    first, other = Under(answered("The sky looks")), Under(answered("The sky looks"))
    other.it.compare(other.it)
    assert other.it._alike == 0
    other.it.compare(first.it)
    assert (other.it.parts_at, other.it._alike, other.view.mark, other.view.told) == (None, 3, None, [])
    first.talk.shown[-1].steps += steps("long blue light")
    other.talk.shown[-1].steps += steps("long red light")
    first.talk.shown[-1].steps[0] = steps("ones")[0]  # was looked at before: not read again
    other.it.compare(first.it)
    assert (other.it.parts_at, other.it._alike) == (4, 6)
    assert other.view.mark == TokenPlace(0, 4) and other.view.told == [("redraw",)]
    first.talk.shown[-1].steps.clear()
    other.it.compare(first.it)
    assert other.it.parts_at == 4 and len(other.view.told) == 1
    other.it.unmark()
    assert (other.it.parts_at, other.it._alike, other.view.mark) == (None, 0, None)
    short = Under(answered("The"))
    short.it.compare(Under(answered("The sky")).it)
    assert short.it._alike == 1


def test_the_token_that_is_looked_at_is_one_of_the_conversation(fake: FakeHost) -> None:
    column = Under(answered("The sky"))
    assert column.it.place is None and column.it.answer == "n" and len(column.it.steps) == 2
    column.view.last = TokenPlace(0, 1)
    assert column.it.place == TokenPlace(1, 1)
    column.view.cursor = TokenPlace(0, 0)
    assert column.it.place == TokenPlace(1, 0)
    nothing = Under(Talk())
    nothing.view.last = TokenPlace(0, 1)
    assert nothing.it.place is None and nothing.it.answer == "" and nothing.it.steps == ()
    assert Under(Talk([Shown([])])).it.answer == ""


def test_a_prompt_is_answered_from_the_beginning(fake: FakeHost) -> None:
    column = Under(answered("The sky"), label="kept")
    column.it.parts_at, column.it._alike = 3, 9
    column.it.start(Conversation("new"), "Why?")
    assert column.talk.told == ["stop", ("Why?", "new")] and not column.talk.transcript.began_ids
    assert (column.it.kept_label, column.it.parts_at, column.it._alike) == ("", None, 0)
    assert column.view.told == [("move_to", None), ("show", [column.talk.shown[1].block], ("follow", True))]
    assert not column.it.stop()
    column.talk.stops = True
    assert column.it.stop()
    column.talk.stops = False
    column.it.bounds.ask(fake.engine.submit, "n", "m", (1,), (0,))
    assert column.it.stop() and not column.it.stop()


def test_events_become_tokens_news_or_a_failure(fake: FakeHost) -> None:
    column = Under(answered("The sky"))
    block = column.talk.shown[1].block
    block.note = "to be said below"
    shown = ("show", [block], ("follow", None))

    def told(**heard: Any) -> tuple[str, list[tuple[Any, ...]]]:
        column.talk.heard = Heard(**heard)
        column.view.told.clear()
        return column.it.take_events(7, ["e"]), column.view.told

    tokens = [ShownToken("x", 0)]
    assert told(tokens=tokens, news="read") == ("read", [("extend", tokens)])
    assert column.talk.told == [(7, ["e"])]
    assert told() == ("", [])
    assert told(ended=True) == ("", [shown]) and block.note == ""
    assert told(reshow=True) == ("", [shown])
    assert told(ended=True, failure=Failed("no memory"), news="x") == ("no memory", [shown])
    column.it.render_markdown(True)
    assert column.talk.told[-1] == ("render", True) and column.view.told[-2:] == [("otherwise",), ("move_to", None)]


def test_a_canvas_is_shown_as_it_fills_and_its_bound_asked_for(fake: FakeHost) -> None:
    talk = answered("", denoisings={"n": canvas(1)}, facts=FACTS)
    talk.shown.insert(0, Shown([]))
    column = Under(talk)
    block = talk.shown[2].block
    talk.heard = Heard(denoised=True)
    column.it.take_events(7, [])
    assert column.view.told == [("show", [block])]
    assert [(each.text, each.level) for each in block.tokens[:8]] == [
        ("The", 0), (" sky", 0), (" ░░░░░", 0), (" ░░░", 1), (" ░░░░░░░", 2), ("░░░", 3), (" " + "░" * 16, 4),
        (" ░░░", 0),
    ]  # fmt: skip
    talk.heard = Heard(denoised=True, ended=True)
    column.it.take_events(7, [])
    assert column.view.told[1:] == [("show", [talk.shown[1].block, block], ("follow", None))]
    assert not fake.engine.asked  # masks are left
    talk.denoisings["n"] = canvas(8)
    talk.heard = Heard(ended=True, failure=Failed("x"))
    column.it.take_events(7, [])
    assert not fake.engine.asked
    talk.facts, talk.heard = None, Heard(ended=True)
    column.it.take_events(7, [])
    assert not fake.engine.asked
    talk.facts = FACTS
    column.it.take_events(7, [])
    (asked,) = fake.engine.asked
    assert (asked.model, asked.ids) == ("folder/m", canvas(8).whole(8)[0])  # type: ignore[index]
    measured: list[Any] = []
    column.it.post_message = lambda message: bool(measured.append(message)) or True  # type: ignore[method-assign]
    fake.engine.tell(r.Bounding(2))
    assert [type(each) for each in measured] == [Column.Measured] and column.it.bounds.found["n"] == r.Bounding(2)
    talk.denoisings.clear()
    assert column.it.canvas is None
    column.view.told.clear()
    talk.heard = Heard(denoised=True)
    column.it.take_events(7, [])
    assert not column.view.told


async def test_its_parts_stand_below_each_other(pictures: Pictures) -> None:
    it = Column(cast(ChatSession, Talk()), "")
    async with Alone(it).run_test(size=(40, 12)):
        assert [type(child).__name__ for child in it.children] == ["Label", "TokenView", "Label"]
        assert list(it.children) == [it._head, it.view, it._foot]
        it.foot(True)
        it.head()
        assert str(it._foot.render()) == EMPTY.partition(" · ")[0] and str(it._head.render()) == "balanced"
        it.kept_label = "[b]as it was[/b]"
        it.head()
        assert str(it._head.render()) == "[b]as it was[/b]"
        assert it._foot.has_class("column-foot") and it._head.has_class("column-head")
