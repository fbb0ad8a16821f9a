"""The palette: `noun: Verb`, and only what applies now: what the view in sight offers, then what holds everywhere."""

from collections.abc import Iterator
from functools import partial

from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.screen import Screen

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
    if own is not None:
        yield "keys: Show", "for what has the focus", own.action_keys
    yield "theme: Change…", "dark, light, and others", app.choose_theme
    yield "app: Screenshot", "an SVG of this screen", app.screenshot
    yield "app: Quit", "the conversation is saved", app.quit


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
