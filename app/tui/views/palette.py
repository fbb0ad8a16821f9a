"""The palette: `noun: Verb`, and only what applies now: what the view in sight offers, then what holds everywhere."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from inspect import isawaitable

from rich.text import Text
from textual.app import App
from textual.binding import Binding
from textual.fuzzy import FuzzySearch
from textual.screen import Screen
from textual.widget import Widget

from likely.app.tui.base import keys
from likely.app.tui.base.text import cells
from likely.app.tui.base.view_table import VIEWS
from likely.app.tui.views.help import ABOUT
from likely.app.tui.views.intents import intent, matching
from likely.app.tui.views.view import Command, View
from likely.app.tui.widgets.host import host
from likely.app.tui.widgets.lists.filter_list import Narrowing
from likely.engine.base.errors import LikelyError


def entries(screen: Screen[object]) -> Iterator[Command]:
    """(name, about, what it does) for a screen in its present state."""
    own = screen if isinstance(screen, View) else None
    if own is not None:
        yield from own.commands()
        if own.lesson_pane is not None:
            yield "learn: Answer", "the keys to the lesson", own.to_lesson
    app = host(screen)
    for name, entry in VIEWS.items():
        if own is None or name != own.NAME:
            yield f"view: {name.capitalize()}", entry.about, partial(app.go, name)
    if app.child is not None:
        yield "server: Stop", app.child.address or "it is being started", app.stop_server
    elif app.engine.current is not None:
        yield "server: Start", "serve this model, and watch its requests; it holds a copy of it", app.start_server
    if own is not None:
        yield "keys: Show", "for what has the focus", own.action_keys
        yield from keyed(own)
    yield "theme: Change…", "dark, light, and others", app.choose_theme
    yield "app: Screenshot", "an SVG of this screen", app.screenshot
    yield "app: Quit", "the conversation is saved", app.quit


def keyed(view: View) -> Iterator[Command]:
    """Every key of a view and of its parts that are there, by what it does in words."""
    for kind in dict.fromkeys((type(view), *view.PARTS)):
        widget = view if kind is type(view) else next(iter(view.query(kind)), None)
        if widget is None:
            continue
        for binding in kind.BINDINGS:
            if isinstance(binding, Binding) and binding.id and (about := ABOUT.get(binding.id, binding.tooltip)):
                key = keys.pretty(view.host.keys_of(binding.id, binding.key))
                yield f"key {key}: {about}", binding.id, partial(_press, view, widget, binding.action)


async def _press(view: View, widget: Widget, action: str) -> None:
    """Do what a key does where it acts."""
    if widget.focusable:
        widget.focus()
    await view.app.run_action(action, widget)


class Palette(Narrowing[Command]):
    """Commands by letters of their names; gives the one that was picked."""

    DOES = "⏎ do it"

    def __init__(self, commands: Sequence[Command], placeholder: str) -> None:
        super().__init__("palette", placeholder)
        self.commands = commands

    def search(self, query: str) -> Sequence[Command]:
        if not query.strip():
            return self.commands
        fuzzy = FuzzySearch().match
        return matching(self.commands, query.strip(), lambda query, name: fuzzy(query, name)[0])

    def line(self, command: Command, width: int) -> Text:
        """Name, what it does, and its key; grey, with the reason, where it cannot be done now."""
        name, about, does = command
        bound = intent(name).binding
        key = keys.pretty(host(self).keys_of(bound)) if bound and does is not None else ""
        line = Text(cells.fit(cells.clean(name), width), no_wrap=True, style="" if does is not None else "dim")
        room = max(width - cells.width(line.plain) - cells.width(key) - 1, 0)
        line.append(cells.pad(cells.fit("  " + cells.clean(about), room), room), style="dim")
        line.append(f" {key}", style="bold")
        return line


async def _done(app: App[str], does: Callable[[], object]) -> None:
    """Do what was picked; what a person can act on is a line, as of the same command with a slash."""
    try:
        result = does()
        if isawaitable(result):
            await result
    except LikelyError as error:
        host(app.screen).say(str(error), alarm=True)


def offer(app: App[str], commands: Sequence[Command], what: str) -> None:
    """Have a person pick a command, and do it; not over a palette that is open."""

    def picked(command: Command | None) -> None:
        if command is not None and command[2] is not None:
            app.call_later(_done, app, command[2])
        elif command is not None:
            host(app.screen).say(f"{command[0].rstrip('…')}: {command[1]}")

    if not isinstance(app.screen, Palette):
        app.push_screen(Palette(commands, f"search for {what}"), picked)
