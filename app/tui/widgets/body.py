"""Arrangements of a full screen's parts: nothing of their own is seen, so they give no rows."""

from textual.containers import Horizontal, Vertical
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget


class Hidden(Widget):
    """Only an arrangement of others, behind which nothing of it is seen."""

    def render_lines(self, crop: Region) -> list[Strip]:
        return []


class Body(Horizontal, Hidden):
    """The text and the inspector, between the top line and the prompt."""


class Left(Vertical, Hidden):
    """The text and what lies over it."""
