"""`LineWidget`: a widget drawn as rows of segments, kept until redrawn."""

from collections.abc import Iterable, Sequence
from typing import Protocol, cast

from rich.segment import Segment
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from likely.app.tui.base.theme import Glyphs, Look

Line = Sequence[Segment]


class Painted(Protocol):
    """The application, as far as a widget draws by it: its styles and its glyphs."""

    look: Look
    glyphs: Glyphs


class LineWidget(Widget):
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

    def on_focus(self) -> None:
        self.redraw()

    def on_blur(self) -> None:
        self.redraw()

    def render_lines(self, crop: Region) -> list[Strip]:
        """The rows as they are kept, where no border or padding has to be put around them."""
        bare = self.size == self.outer_size and crop.column_span == (0, self.size.width)
        return self._drawn()[crop.y : crop.bottom] if bare else super().render_lines(crop)

    def render_line(self, y: int) -> Strip:
        strips = self._drawn()
        return strips[y] if y < len(strips) else Strip.blank(self.size.width, self.rich_style)

    def _drawn(self) -> list[Strip]:
        if self._strips is None:
            (width, height), ground = self.size, self.rich_style
            lines = self.lines(width, height)[:height]
            rows = (
                Segment.adjust_line_length([*Segment.apply_style(row, ground)], width, ground) for row in (*lines, ())
            )
            *strips, blank = filtered(self, rows, width)
            self._strips = strips + [blank] * (height - len(lines))
        return self._strips


def filtered(widget: Widget, rows: Iterable[Iterable[Segment]], width: int) -> list[Strip]:
    """Rows of so many cells through the filters for the terminal: fewer colours, ASCII. A strip has eight caches to
    make, so there is one of each row."""
    filters, background = widget.get_line_filters(), widget.background_colors[1]
    strips = []
    for row in rows:
        segments = list(row)
        for line_filter in filters:
            segments = line_filter.apply(segments, background)
        strips.append(Strip(segments, width))
    return strips
