"""A widget on a screen of its own, with a host that keeps what it is told and asked."""

from pathlib import Path

from textual.app import App, ComposeResult
from textual.widget import Widget

from likely.app.tui.base.theme import GLYPHS
from likely.app.tui.chat.candidates import Names
from tests.tui.small_app import NotingEngine
from tests.tui.widgets.drawing import LOOK


class FakeHost:
    """The host of a view, as far as widgets ask it for anything."""

    def __init__(self) -> None:
        self.engine, self.home, self.names = NotingEngine("m"), Path("nowhere"), Names()
        self.news: list[tuple[str, bool]] = []

    def say(self, line: str, alarm: bool = False) -> None:
        self.news.append((line, alarm))

    def names_of(self, model: str) -> Names:
        return self.names

    def keys_of(self, action: str, default: str = "") -> str:
        return default

    def heard(self) -> list[tuple[str, bool]]:
        """What was said since this was asked last."""
        found, self.news = self.news, []
        return found


class Alone(App[None]):
    """Shows these widgets, one below the other."""

    look = LOOK
    glyphs = GLYPHS

    def __init__(self, *widgets: Widget, css: str = "") -> None:
        self.alone = widgets
        Alone.CSS = css
        super().__init__()
        self.host = FakeHost()
        self.engine, self.say, self.names_of, self.keys_of = (
            self.host.engine, self.host.say, self.host.names_of, self.host.keys_of,
        )  # fmt: skip

    def compose(self) -> ComposeResult:
        yield from self.alone
