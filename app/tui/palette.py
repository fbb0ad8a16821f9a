"""The palette: `noun: Verb`, and only what applies now: what the view in sight offers, then what holds everywhere."""

from collections.abc import Iterator
from functools import partial

from textual.binding import Binding
from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.screen import Screen
from textual.widget import Widget

from app.tui import keys
from app.tui.help import ABOUT
from app.tui.host import host
from app.tui.view import Command, View
from app.tui.views import VIEWS


def entries(screen: Screen[object]) -> Iterator[Command]:
    """(name, about, what it does) for a screen in its present state."""
    own = screen if isinstance(screen, View) else None
    if own is not None:
        yield from own.commands()
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


class Commands(Provider):
    """Feeds the palette."""

    async def discover(self) -> Hits:
        for name, about, do in entries(self.screen):
            yield DiscoveryHit(name, do, help=about)

    async def search(self, query: str) -> Hits:
        matcher = self.matcher(query)
        for name, about, do in entries(self.screen):
            score = matcher.match(name)
            if score > 0:
                yield Hit(score, matcher.highlight(name), do, help=about)
