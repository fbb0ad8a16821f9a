"""An application with nothing in it but the look and the style sheet: what a dialog needs to be on a screen."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar, cast

from textual.app import App
from textual.pilot import Pilot
from textual.screen import Screen

import likely.app.tui
from likely.app.tui.base.theme import DARK, GLYPHS
from likely.app.tui.chat.candidates import Names
from likely.app.worker import Worker
from tests.tui.drawn import LOOK

A = TypeVar("A", bound="SmallApp")


class SmallApp(App[None]):
    """Holds what a screen gave when it went, one after another."""

    CSS_PATH = Path(likely.app.tui.__file__).with_name("likely.tcss")
    look, glyphs = LOOK, GLYPHS

    def __init__(self) -> None:
        super().__init__()
        self.register_theme(DARK)
        self.theme = DARK.name
        self.given: list[Any] = []


class NotingEngine:
    """The engine's client: requests beside those who hear of them; `tell` answers the last one, or another."""

    def __init__(self, current: str = "model") -> None:
        self.current: Any = SimpleNamespace(name=current, title="")
        self.loading: Any = None
        self.attached: tuple[Any, ...] = ()
        self.asked: list[Any] = []
        self.handlers: list[Callable[[int, list[Any]], None]] = []

    def submit(self, request: Any, handler: Any = None) -> int:
        self.asked.append(request)
        self.handlers.append(handler)
        return len(self.asked)

    def tell(self, *events: Any, request: int = -1) -> None:
        self.handlers[request](len(self.asked), list(events))


class HostApp(SmallApp):
    """What a view may ask of its host, as far as these tests go; where it was told to go stands in `went`.

    Without the style sheet, whose rules would be matched with every widget at each change.
    """

    CSS_PATH = None
    CSS = """
    TopBar, Hints, Gauge, Caption, Chart { height: 1; }
    TopBar { dock: top; } Hints { dock: bottom; } #page { height: 1fr; }
    .-form #run { display: none; }
    """

    def __init__(self, home: Path, names: Names | None = None) -> None:
        super().__init__()
        self.home, self.names = home, names or Names()
        self.engine = NotingEngine()
        self.went: list[Any] = []
        self.now = 1e9
        self.session: Any = None
        self.looked_into: Any = None
        self.training: Any = None
        self.tune_order: Any = None
        self.store: Any = None
        self.sidebar = False
        self.worker = Worker

    def names_of(self, model: str) -> Names:
        return self.names

    def keys_of(self, action: str, default: str = "") -> str:
        return default

    def restyle(self) -> None:
        self.went.append("restyle")

    def go(self, name: str) -> None:
        self.went.append(name)

    def quit(self) -> None:
        self.went.append("quit")

    def copy(self, text: str, what: str) -> None:
        self.went.append((text, what))

    def chat_with(self, model: str, adapter: str) -> None:
        self.went.append((model, adapter))

    def clock(self) -> float:
        return self.now


@asynccontextmanager
async def shown(
    screen: Screen[Any], size: tuple[int, int] = (80, 24), small: A | None = None
) -> AsyncIterator[tuple[A, Pilot[None]]]:
    """A screen over nothing."""
    small = small or cast(A, SmallApp())
    async with small.run_test(size=size) as pilot:
        small.push_screen(screen, small.given.append)
        await pilot.pause()
        yield small, pilot


def rows(small: SmallApp) -> list[str]:
    """What is on the screen, as text, without the rows that are blank."""
    strips = small.screen._compositor.render_strips()
    found = ["".join(segment.text for segment in strip).rstrip() for strip in strips]
    return [row for row in found if row.strip()]
