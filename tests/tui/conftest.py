"""The screen on a stage: a scripted engine behind it, a folder of its own; waits for conditions, never for time."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest
from rich.segment import Segment
from textual.pilot import Pilot
from textual.strip import Strip

from likely.app.tui.app import LikelyApp
from likely.app.tui.chat.start import Start
from likely.app.tui.chat.transcript import ShownMessage
from likely.app.tui.views.chat import ChatScreen
from likely.app.tui.widgets.candidates import Candidates
from likely.app.tui.widgets.sampler import Sliders
from likely.engine.adapters.config import Config
from tests.pictures import assert_picture, is_picture, written_anew
from tests.support.evaluator import ScriptedEvaluator
from tests.support.model import ScriptedEngine, ScriptedShop
from tests.support.trainer import ScriptedTrainer


@dataclass
class Stage:
    """A running app, its pilot and its first engine; how often it looks whether something holds, and how many times."""

    app: LikelyApp
    pilot: Pilot[str]
    engine: ScriptedEngine
    shop: ScriptedShop
    pause_s: float = 0.005
    pauses: int = 600

    @property
    def chat(self) -> ChatScreen:
        return next(view for view in self.app.views if isinstance(view, ChatScreen))

    @property
    def shown(self) -> list[ShownMessage]:
        """The messages of the transcript."""
        return self.chat.talk.transcript.shown

    @property
    def panel(self) -> Candidates:
        return self.chat.inspector.candidates

    @property
    def sampler(self) -> Sliders:
        return self.chat.inspector.sampler

    async def until(self, condition: Callable[[], object], what: str = "") -> None:
        """Wait until something holds."""
        for _ in range(self.pauses):
            if condition():
                await self.pilot.pause()
                return
            await self.pilot.pause(self.pause_s)
        raise AssertionError(f"it never came to this: {what or condition}\n{self.picture()}")

    async def type(self, text: str) -> None:
        """Put a text into the prompt and send it."""
        self.chat.composer.focus()
        self.chat.composer.take(text)
        await self.pilot.press("enter")

    async def ask(self, text: str) -> None:
        """Send a message and wait for the whole answer."""
        nodes = len(self.chat.talk.conversation.nodes)
        await self.type(text)
        grown = lambda: len(self.chat.talk.conversation.nodes) > nodes  # noqa: E731
        await self.until(lambda: grown() and self.ended, "an answer that has ended")

    @property
    def ended(self) -> bool:
        leaf = self.chat.talk.conversation.leaf
        return leaf is not None and leaf.role == "assistant" and not self.chat.talk.running

    @property
    def texts(self) -> list[str]:
        return [shown.message.text for shown in self.shown]

    def strips(self) -> list[Strip]:
        """What is on the screen, after the filters that a terminal's lines go through."""
        found = []
        for strip in self.app.screen._compositor.render_strips():
            line = strip if isinstance(strip, Strip) else Strip(strip)
            for each in self.app.get_line_filters():
                line = line.apply_filter(each, self.app.screen.background_colors[1])
            found.append(line)
        return found

    def painted(self) -> str:
        """What is on the screen, as a terminal would get it: with its escape codes."""
        lines = (Strip(Segment.simplify(line)).discard_meta() for line in self.strips())
        return "\n".join(line.render(self.app.console).rstrip() for line in lines)

    def filtered(self) -> str:
        """What is on the screen, as text that went through the filters."""
        return "\n".join(line.text.rstrip() for line in self.strips())

    def picture(self) -> str:
        """What is on the screen, as text."""
        strips = self.app.screen._compositor.render_strips()
        return "\n".join("".join(segment.text for segment in strip).rstrip() for strip in strips)


async def assert_screen(stage: Stage, name: str, painted: Callable[[], str]) -> None:
    """The screen comes to look as in the file: what arrives last does so when it can."""
    name = f"tui/pictures/{name}"
    for _ in range(40 if written_anew() else 200):
        if not written_anew() and is_picture(name, painted() + "\n"):
            return
        await stage.pilot.pause(0.05)
    assert_picture(name, painted() + "\n")


# what a terminal says of itself
COLOURS = {
    "true": {"TERM": "xterm-256color", "COLORTERM": "truecolor"},
    "256": {"TERM": "xterm-256color", "COLORTERM": ""},
    "16": {"TERM": "xterm-16color", "COLORTERM": ""},
    "none": {"TERM": "xterm-256color", "COLORTERM": "truecolor", "NO_COLOR": "1"},
}
Play = Callable[..., AbstractAsyncContextManager[Stage]]


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Play:
    """Opens a stage: `async with play(size=(80, 24)) as stage`."""
    monkeypatch.chdir(tmp_path)
    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM", "TEXTUAL_COLOR_SYSTEM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in COLOURS["true"].items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("likely.app.tui.base.keys.MAC", False)  # pictures are those of one system
    ticks = count()
    for jobs in ("jobs", "fill_jobs"):  # an event takes a hundredth
        monkeypatch.setattr(f"likely.app.{jobs}.perf_counter", lambda: next(ticks) / 100)

    @asynccontextmanager
    async def opened(
        *engines: ScriptedEngine,
        size: tuple[int, int] = (120, 40),
        resume: str = "",
        environ: dict[str, str] | None = None,
        loaded: bool = True,
        empty: bool = False,
        trainer: ScriptedTrainer | None = None,
        tune: Config | None = None,
        start: Start | None = None,
        evaluator: ScriptedEvaluator | None = None,
    ) -> AsyncIterator[Stage]:
        for name, value in (environ or {}).items():
            monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name, raising=False)
        shop = ScriptedShop(*(engines or (ScriptedEngine(),)), empty=empty)
        app = LikelyApp(
            lambda: shop,
            tmp_path / "home",
            resume=resume,
            trainer=lambda: trainer or ScriptedTrainer(),
            evaluator=lambda: evaluator or ScriptedEvaluator(),
            tune=None if tune is None else (tune, False),
            start=start,
            environ=environ or {},
            clock=lambda: 1e9,
        )
        async with app.run_test(size=size) as pilot:
            stage = Stage(app, pilot, next(iter(shop.engines.values())), shop)
            await stage.until(lambda: app.session is not None, "a chat")
            stage.chat.talk.new_seed = lambda: 0
            if loaded and tune is None:
                await stage.until(lambda: app.engine.current is not None, "a model")
            yield stage

    return opened
