"""`Canvas`: a widget drawn as rows of segments, kept until it is asked to draw again."""

from collections.abc import Sequence
from typing import Protocol, cast

from rich.segment import Segment
from textual.strip import Strip
from textual.widget import Widget

from app.tui.theme import Glyphs, Look

Line = Sequence[Segment]


class Painted(Protocol):
    """What a canvas asks of the app."""

    look: Look
    glyphs: Glyphs


class Canvas(Widget):
    """Draws `lines(width, height)`; rows beyond them are blank."""

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._strips: list[Strip] | None = None

    @property
    def look(self) -> Look:
        return cast(Painted, self.app).look

    @property
    def glyphs(self) -> Glyphs:
        return cast(Painted, self.app).glyphs

    def lines(self, width: int, height: int) -> Sequence[Line]:
        raise NotImplementedError

    def redraw(self) -> None:
        """Draw anew at the next repaint."""
        self._strips = None
        self.refresh()

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._strips = None

    def on_resize(self) -> None:
        self.redraw()

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        ground = self.rich_style
        if self._strips is None:
            self._strips = [
                Strip(Segment.apply_style(line, ground)).crop_extend(0, width, ground)
                for line in self.lines(width, self.size.height)
            ]
        return self._strips[y] if y < len(self._strips) else Strip.blank(width, ground)
