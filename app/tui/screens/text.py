"""Placeholder."""

from textual.screen import Screen


class TextScreen(Screen[None]):
    BINDINGS = []
