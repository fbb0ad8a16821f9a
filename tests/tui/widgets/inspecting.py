"""An inspector with its parts, none of them on a screen, and what it looks at."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from textual.geometry import Size

from app import looks
from app.tui.chat.candidates import CandidateTable
from app.tui.chat.inspection import Inspection, Subject
from app.tui.sampling import Sampling
from app.tui.widgets import inspector as module
from app.tui.widgets.bars import InspectorLine
from app.tui.widgets.candidates import Candidates
from app.tui.widgets.entropy import EntropyRow
from app.tui.widgets.inspector import Inspector
from app.tui.widgets.sampler import Sliders
from app.tui.widgets.tree import TreePane
from app.tui.widgets.votes import Votes
from engine.prompt import Prompt
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
