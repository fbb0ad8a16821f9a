"""Containers of a full screen's parts: they arrange widgets and draw nothing."""

from textual.containers import Horizontal, Vertical
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget


class Hidden(Widget):
    """A container that its children cover: it renders no rows."""

    def render_lines(self, crop: Region) -> list[Strip]:
        return []


class Body(Horizontal, Hidden):
    """The text and the inspector, between the top line and the prompt."""


class Left(Vertical, Hidden):
    """The text and what lies over it."""
