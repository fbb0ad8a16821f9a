"""Placeholder."""

from textual.screen import Screen


class CompareScreen(Screen[None]):
    BINDINGS = []
