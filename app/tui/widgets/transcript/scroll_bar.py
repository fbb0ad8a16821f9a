"""`RowScrollBar`: a vertical scroll bar that draws the rows in which it changes; the picture is Textual's.

Textual draws all of its rows, each through every filter, whenever the text beside it grows by one: a quarter of what
the tokens of a frame cost the screen.
"""

from collections.abc import Sequence
from typing import cast

from rich.segment import Segment
from textual.geometry import Region
from textual.scrollbar import ScrollBar, ScrollBarRender
from textual.strip import Strip

from likely.app.tui.base.drawing.line_widget import filtered


class RowScrollBar(ScrollBar):
    """Stands beside rows of text. Without border and padding."""

    def __init__(self) -> None:
        super().__init__(vertical=True, name="vertical")
        self._rows: Sequence[Segment] = ()  # as they were drawn last
        self._strips: dict[Segment, Strip] = {}  # a bar has at most five kinds of rows

    def move(self, height: int, rows: int, top: float) -> None:
        """Show that `rows` of `height` are seen, from `top` on."""
        place = height, rows, self.validate_position(top)
        if place == (self.window_virtual_size, self.window_size, self.position):
            return
        # not by assignment: each would have the whole bar drawn
        self.set_reactive(ScrollBar.window_virtual_size, height)
        self.set_reactive(ScrollBar.window_size, rows)
        self.set_reactive(ScrollBar.position, place[2])
        before, self._rows = self._rows, self._drawn()
        if len(before) != len(self._rows):
            self.refresh()
            return
        changed = (y for y, (old, new) in enumerate(zip(before, self._rows, strict=True)) if old != new)
        if regions := [Region(0, y, self.size.width, 1) for y in changed]:
            self.refresh(*regions)

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._strips.clear()

    def render_lines(self, crop: Region) -> list[Strip]:
        self._rows, width = self._drawn(), self.size.width
        strips = []
        for row in self._rows[crop.y : crop.bottom]:
            if row not in self._strips:
                ground = self.rich_style
                self._strips[row] = filtered(self, [Segment.apply_style([row], ground)], width)[0]
            strips.append(self._strips[row])
        return strips

    def _drawn(self) -> Sequence[Segment]:
        """A segment for each row."""
        bar = cast(ScrollBarRender, self.render())
        style = self.app.console.get_style(bar.style)
        assert style.color is not None and style.bgcolor is not None
        return bar.render_bar(
            self.size.height, bar.virtual_size, bar.window_size, bar.position, self.size.width,
            back_color=style.bgcolor, bar_color=style.color,
        ).segments  # fmt: skip
