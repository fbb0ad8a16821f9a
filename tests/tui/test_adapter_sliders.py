"""Sliders of adapters on paper, and their dialog on a small application: how they look, and what the engine is told."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from textual.widgets import Input, Label

from app import looks
from app import requests as r
from app.tui.chat.candidates import LN2
from app.tui.dialogs import adapters as dialog
from app.tui.dialogs.adapters import Adapters, AdapterSliders
from app.worker import Failed
from engine.tune.attached import Attached
from tests.pictures import assert_picture
from tests.tui import drawn
from tests.tui.small_app import rows, shown


def attached(name: str, weight: float, kind: str = "lora", trained_on: str = "scripted") -> Attached:
    return Attached(name, Path("there"), weight, kind, 8, 2.0, ("q_proj",), 64, trained_on)


STYLE, OTHER = attached("style", 0.5), attached("an adapter of a long name", 0.0, "dora", "")
CALM = attached("calm", -1.0, "steering")


class NotingHost:
    """An engine that notes what it is told."""

    def __init__(self, *adapters: Attached) -> None:
        self.told: list[Any] = []
        self.requests: list[Any] = []
        current = SimpleNamespace(name="model", title="")
        self.engine = SimpleNamespace(
            attached=adapters, current=current, adapt=self._adapt,
            submit=lambda request, heard: self.requests.append((request, heard)),
        )  # fmt: skip
        self.session: Any = None

    def _adapt(self, change: str, what: str, weight: float = 1.0, heard: Any = None) -> None:
        self.told.append((change, what, weight))
        self.heard = heard


def sliders(*adapters: Attached, focus: bool = True) -> tuple[AdapterSliders, NotingHost]:
    host = NotingHost(*adapters)
    return drawn.stand(AdapterSliders, host, lambda refused: None, focus=focus), host


def test_sliders_look_as_in_their_pictures() -> None:
    with drawn.paper():
        made: list[str] = []
        for width in (90, 78, 77, 33, 20):
            it, _ = sliders(STYLE, OTHER, CALM)
            it.picked = 2
            made += [f"== {width}", *drawn.page(it, width, 3)]
        it, _ = sliders(attached("a\x1bb", 2.0), attached("full", 1.0), focus=False)
        made += ["== without the keys", *drawn.page(it, 80, 2)]
        made += ["== none", *drawn.page(sliders()[0], 40, 1)]
        it, _ = sliders(attached("least", -4.0, "steering"), attached("most", 4.0, "steering"), attached("no", 0.0))
        made += ["== the ends", *drawn.page(it, 60, 3)]
        assert_picture("tui/pictures/dialog-adapters.txt", made)


def test_a_weight_goes_by_its_step_and_ends_at_its_reach() -> None:
    it, host = sliders(attached("one", 0.15), attached("calm", 3.8, "steering"))
    for by in (-1, -1, 1, 1):
        it.action_weigh(by)
    assert [told[2] for told in host.told] == [0.05, 0.0, 0.1, 0.2]
    assert {told[:2] for told in host.told} == {("weigh", "one")}
    host.told.clear()
    for _ in range(20):
        it.action_weigh(1)
    assert [told[2] for told in host.told[16:19]] == [1.9, 2.0, 2.0]
    host.told.clear()
    it.picked = 1
    for by in (1, 1, -1):
        it.action_weigh(by)
    assert host.told == [("weigh", "calm", 4.0), ("weigh", "calm", 4.0), ("weigh", "calm", 3.75)]
    for _ in range(40):
        it.action_weigh(-1)
    assert host.told[-1] == ("weigh", "calm", -4.0)
    it.show()  # it is confirmed: the next step begins at what the engine has
    it.action_weigh(-1)
    assert host.told[-1] == ("weigh", "calm", 3.55)


def test_adapters_are_switched_alone_and_taken_off() -> None:
    it, host = sliders(STYLE, OTHER)
    it.action_switch()
    it.action_only()
    it.action_remove()
    it.picked = 1
    it.action_switch()
    it.action_only()
    assert host.told == [
        ("weigh", "style", 0.0), ("only", "style", 0.5), ("remove", "style", 1.0), ("weigh", OTHER.name, 1.0),
        ("only", OTHER.name, 1.0),
    ]  # fmt: skip
    none, host = sliders()
    for action in (none.action_switch, none.action_only, none.action_remove):
        action()
    none.action_weigh(1)
    assert host.told == []


def test_the_picked_one_stays_among_those_that_there_are() -> None:
    it, host = sliders(STYLE, OTHER, CALM)
    moved = []
    for by in (1, 1, -1, -1, -1):
        it.action_pick(by)
        moved.append((it.picked, drawn.asked(it)[0]))
    assert moved == [(1, True), (2, True), (1, True), (0, True), (0, False)]
    it.picked = 2
    it.show()
    assert it.picked == 2 and it.styles.height is not None and it.styles.height.value == 3
    host.engine.attached = (STYLE,)
    it.show()
    assert it.picked == 0 and it.styles.height.value == 1
    host.engine.attached = ()
    it.show()
    assert it.picked == 0 and it.styles.height.value == 1


async def test_the_dialog_adds_an_adapter_and_says_what_is_refused() -> None:
    host = NotingHost()
    async with shown(Adapters(cast(Any, host)), (80, 20)) as (small, pilot):
        assert "adapters on model" in rows(small)[0]
        field = small.screen.query_one(Input)
        assert field.has_focus
        await pilot.press("enter")
        assert host.told == []
        field.value = " ~/style "
        await pilot.press("enter")
        assert host.told == [("add", str(Path("~/style").expanduser()), 1.0)] and field.value == ""
        host.heard("it is no adapter")
        line = small.screen.query_one("#adapter-keys", Label)
        assert str(line.visual) == "it is no adapter"
        await pilot.press("escape")
        assert small.given == [None]
        host.heard("too late")
        host.heard("")
    host = NotingHost(STYLE, OTHER)
    host.engine.current.title = "A model"
    async with shown(Adapters(cast(Any, host)), (80, 20)) as (small, pilot):
        assert "adapters on A model" in rows(small)[0] and small.screen.query_one(AdapterSliders).has_focus
        await pilot.press("down")
        assert small.screen.query_one(AdapterSliders).picked == 1
        await pilot.press("down")
        assert small.screen.query_one(Input).has_focus
    host.engine.current = None
    async with shown(Adapters(cast(Any, host)), (80, 20)) as (small, _):
        assert rows(small)[0].strip() == "adapters"


async def test_how_far_a_model_is_moved_is_asked_once_the_sliders_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialog, "before", lambda talk, fork: (talk, fork.node))
    monkeypatch.setattr(dialog, "SETTLE_S", 1000.0)
    host = NotingHost(STYLE)
    host.session = SimpleNamespace(conversation=SimpleNamespace(leaf=SimpleNamespace(id="leaf")))
    async with shown(Adapters(cast(Any, host)), (80, 20)) as (small, pilot):
        screen, line = small.screen, small.screen.query_one("#shift", Label)
        assert isinstance(screen, Adapters) and host.requests == []
        screen.measure()
        ((request, heard),) = host.requests
        assert isinstance(request, r.Inside) and request.look == looks.ShiftLook()
        assert (request.model, request.prompt) == ("model", (host.session.conversation, "leaf"))
        heard(1, [looks.Shifted(LN2 / 8)])
        assert str(line.visual) == "KL to the model as it came: 0.125 bits a token of this conversation"
        heard(1, [Failed("no room")])
        assert str(line.visual) == "no room"
        was, host.engine.attached = host.engine.attached, (OTHER, CALM)
        heard(1, [looks.Shifted(LN2)])
        assert str(line.visual) == "no room"  # of other adapters
        host.engine.attached = (OTHER,)  # of no weight
        screen.measure()
        assert str(line.visual) == "" and len(host.requests) == 1
        host.engine.attached = was
        for lost in ("session", "leaf", "current"):
            line.update("before")
            kept = host.session, host.engine.current
            match lost:
                case "session":
                    host.session = None
                case "leaf":
                    host.session = SimpleNamespace(conversation=SimpleNamespace(leaf=None))
                case "current":
                    host.engine.current = None
            screen.measure()
            assert str(line.visual) == "" and len(host.requests) == 1
            host.session, host.engine.current = kept
        await pilot.press("escape")
        heard(1, [looks.Shifted(LN2)])
