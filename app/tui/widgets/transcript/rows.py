"""`TranscriptRows`: a transcript's rows, laid out and drawn where they are seen: a stream costs only what it changes.

They are tinted, may be selected, and follow the newest until the reader scrolls away. Which token a person stands on
is decided elsewhere.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.selection import Selection
from textual.strip import Strip
from textual.widget import Widget

from likely.app.tui.base.drawing.line_widget import Painted, filtered
from likely.app.tui.base.text import cells
from likely.app.tui.base.text.block import HEADING_ROWS, MessageBlock, ShownToken
from likely.app.tui.base.text.layout import HEAD, BlockLayout, Spot, TokenPlace
from likely.app.tui.base.theme import Glyphs, Look
from likely.app.tui.widgets.transcript import token_row
from likely.app.tui.widgets.transcript.scroll_bar import RowScrollBar
from likely.app.tui.widgets.transcript.token_row import GUTTER

WIDEST = 100  # columns of text that are comfortable to read


class TranscriptRows(ScrollView):
    """Messages, row by row. The token at `cursor` is lit, that at `mark` underlined."""

    ALLOW_SELECT = True

    class FollowChanged(Message):
        """The view follows the newest row, or has been scrolled away from it with `behind` tokens below."""

        def __init__(self, following: bool, behind: int) -> None:
            super().__init__()
            self.following = following
            self.behind = behind

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.layout_ = BlockLayout()
        self.cursor: TokenPlace | None = None
        self.mark: TokenPlace | None = None  # a token to underline: where a comparison first differs
        self.shared: Sequence[int] = ()  # levels of the last message's tokens: by how many texts each is shared
        self.line_ends = False  # every line end is seen, or none
        self.following = True
        self.behind = 0
        self.strips_rendered = 0  # counted for tests: work does not grow with the length
        self._strips: dict[Spot, Strip] = {}

    @property
    def look(self) -> Look:
        return cast(Painted, self.app).look

    @property
    def glyphs(self) -> Glyphs:
        return cast(Painted, self.app).glyphs

    # -- content -----------------------------------------------------------------------------------------------------

    @property
    def blocks(self) -> list[MessageBlock]:
        return self.layout_.blocks

    def show(self, blocks: Sequence[MessageBlock], *, follow: bool | None = None) -> None:
        """Show other blocks. The cursor is dropped where its token is gone."""
        self.layout_.replace(blocks)
        if self.cursor is not None and not self._exists(self.cursor):
            self.cursor = None
        if follow is not None:
            self.following = follow
        self._settle()
        self.redraw()

    def extend(self, tokens: Iterable[ShownToken]) -> None:
        """Append tokens to the last block."""
        layout, index = self.layout_, len(self.blocks) - 1
        block, before = self.blocks[index], layout.height
        head, count = block.head_rows, len(block.tokens)
        dirty = block.extend(tokens)
        layout.grow()
        first = layout.body_top(index) + dirty if block.head_rows == head else layout.top(index)
        for spot in layout.spots(first, layout.height - first):
            self._strips.pop(spot, None)  # type: ignore[arg-type]
        if not self.following:
            self.behind += len(block.tokens) - count
            self.post_message(self.FollowChanged(False, self.behind))
        if layout.height != before:
            self._settle()
        self._refresh_rows(first - self.scroll_offset.y, layout.height - first)

    def renote(self, index: int, notes: Sequence[str]) -> None:
        """Change the words beside a block's name, the longest first."""
        block = self.blocks[index]
        if (block.note, *block.notes) != tuple(notes):
            block.note, block.notes = notes[0], tuple(notes[1:])
            self._touch(Spot(index, HEAD, 1))

    def relay(self) -> None:
        """Lay out and draw anew, after a block was folded, unfolded or rendered."""
        self.layout_.measure()
        self._settle()
        self.redraw()

    def show_otherwise(self, change: Callable[[], None]) -> None:
        """Lay out anew after a change of the blocks; what was seen stays where it was."""
        place = self.cursor or self.layout_.first_seen()
        above = self.layout_.cell_of(place)[1] - self.layout_.scroll if place is not None else 0
        change()
        self.layout_.measure()
        if place is not None and not self.following:
            self.layout_.scroll = max(self.layout_.cell_of(place)[1] - above, 0)
        self._settle()
        self.redraw()

    def _show_raw(self, place: TokenPlace | None) -> None:
        """Show the signs of a token that its rendering hides, and none of another."""
        if self.layout_.show_raw(place):
            self.relay()

    def redraw(self) -> None:
        """Draw everything again: other levels, other colours."""
        self._strips.clear()
        self.refresh()

    def _refresh_rows(self, y: int, count: int) -> None:
        """Write rows again, the scroll bar beside them left out."""
        self.refresh(Region(0, y, self.size.width - self.scrollbar_size_vertical, count))

    def _touch(self, spot: Spot) -> None:
        """Draw one row again."""
        self._strips.pop(spot, None)
        y = self.layout_.y(spot)
        if 0 <= y - self.scroll_offset.y < self.size.height:
            self.refresh_lines(y)

    def _exists(self, place: TokenPlace) -> bool:
        return place.block < len(self.blocks) and place.token < len(self.blocks[place.block].tokens)

    # -- scrolling ---------------------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Lay out what is seen and as much around it, and tell the scroll bar; stay at the end while following.

        A new size lays the whole screen out again, which costs more than all else that a token does: it is told to the
        scroll bar alone, except when that has to appear.
        """
        layout, rows = self.layout_, self.size.height
        if not rows:
            return
        if self.following:
            layout.reveal(layout.height - 1, 2 * rows, 0)
        else:
            layout.reveal(layout.scroll, rows, 2 * rows)
        top = layout.scroll
        size = Size(self.size.width, layout.height)
        if size != self.virtual_size:
            if self.show_vertical_scrollbar == (size.height > self.container_size.height):
                self.set_reactive(Widget.virtual_size, size)
            else:
                self.virtual_size = size
                self.call_after_refresh(self._place_bar)
        layout.scroll = self.max_scroll_y if self.following else min(top, self.max_scroll_y)
        self.scroll_to(y=layout.scroll, immediate=True, force=True)
        self._place_bar()

    @property
    def vertical_scrollbar(self) -> RowScrollBar:
        bar = self._vertical_scrollbar
        if not isinstance(bar, RowScrollBar):
            self._vertical_scrollbar = bar = RowScrollBar()
            bar.display = False
            self.app._start_widget(self, bar)
        return bar

    def _place_bar(self) -> None:
        if self.show_vertical_scrollbar:
            self.vertical_scrollbar.move(self.layout_.height, self.size.height, self.scroll_y)

    def _scroll_to(self, x: float | None = None, y: float | None = None, **options: Any) -> bool:
        """Scroll without animation: rows that are laid out on the way would move the place where it began."""
        return super()._scroll_to(x, y, **{**options, "animate": False})

    def on_resize(self, event: events.Resize) -> None:
        width = min(max(event.size.width - GUTTER, 2), WIDEST)
        if width != self.layout_.width:
            self.layout_.resize(width)
            self._strips.clear()
        self._settle()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        if round(old_value) != round(new_value):
            self._refresh_rows(0, self.size.height)
        self._place_bar()
        if round(new_value) == self.layout_.scroll:  # the rows moved, not the reader
            return
        self.layout_.scroll = round(new_value)
        self._follow(new_value >= self.max_scroll_y)
        self._settle()

    def _follow(self, following: bool) -> None:
        if following != self.following and self.size.height:
            self.following = following
            self.behind = 0
            self.post_message(self.FollowChanged(following, 0))

    def _bring(self, y: int) -> None:
        """Scroll as little as shows a row, and one beside it."""
        layout, rows = self.layout_, self.size.height
        y = layout.reveal(y, rows, rows)
        edge = min(1, (rows - 1) // 2)
        top = min(max(layout.scroll, y + edge + 1 - rows), y - edge)
        layout.scroll = max(top, 0)
        self._follow(layout.scroll >= layout.height - rows)
        self._settle()

    # -- drawing -----------------------------------------------------------------------------------------------------

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._strips.clear()

    def selection_updated(self, selection: Selection | None) -> None:
        self.redraw()

    def render_lines(self, crop: Region) -> list[Strip]:
        """The rows as they are kept: there is no border or padding that would have to be put around them."""
        top, ground = self.scroll_offset.y, self.rich_style
        lines = [self._row(spot, ground) for spot in self.layout_.spots(crop.y + top, crop.height)]
        whole = crop.x == 0 and crop.right >= self.size.width
        return lines if whole else [line.crop(*crop.column_span) for line in lines]

    def render_line(self, y: int) -> Strip:
        return self._row(self.layout_.spot(y + self.scroll_offset.y), self.rich_style)

    def _row(self, spot: Spot | None, ground: Style) -> Strip:
        if spot is None:
            return Strip.blank(self.size.width, ground)
        strip = self._strips.get(spot)
        if strip is None:
            self.strips_rendered += 1
            strip = filtered(self, [self._draw(spot, ground)], self.size.width)[0]
            if len(self._strips) > 1000:
                self._strips.clear()
            self._strips[spot] = strip
        return strip

    def _draw(self, spot: Spot, ground: Style) -> Strip:
        strip = Strip(Segment.apply_style(self._segments(spot), ground)).crop_extend(0, self.size.width, ground)
        selection = self.text_selection if self.is_attached else None  # a view that is removed is drawn once more
        span = selection.get_span(spot.number) if selection is not None else None
        if span is not None:
            style = self.screen.get_component_rich_style("screen--selection")
            start, end = (strip.cell_length if at == -1 else cells.width(strip.text[:at]) for at in span)
            parts = strip.divide([start, end, strip.cell_length])
            if len(parts) == 3:
                lit = Strip(Segment.apply_style(parts[1], post_style=Style(bgcolor=style.bgcolor)))
                strip = Strip.join([parts[0], lit, parts[2]])
        return strip.apply_offsets(0, spot.number)

    def _segments(self, spot: Spot) -> Iterable[Segment]:
        block, row = self.blocks[spot.block], self.layout_.row(spot)
        if row is not None:
            lit = -1
            if self.cursor is not None and self.cursor.block == spot.block and self._exists(self.cursor):
                lit = self.layout_.lit(self.cursor)
            mark = self.mark.token if self.mark is not None and self.mark.block == spot.block else -1
            shared = self.shared if spot.block == len(self.blocks) - 1 else ()
            return token_row.tokens(block, row, self.look, lit, mark, self.line_ends, shared)
        if spot.row < HEADING_ROWS:
            return token_row.heading(block, self.size.width, self.look) if spot.row else []
        return token_row.fold(block, self.size.width, self.look, self.glyphs)

    # -- selection ---------------------------------------------------------------------------------------------------

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        """The selected text, soft line breaks taken out. Its rows are named by the numbers of their spots."""
        layout = self.layout_
        first, last = layout.spot(0), layout.spot(layout.height - 1)
        if first is None or last is None:
            return None
        first = first if selection.start is None else max(Spot.numbered(selection.start.y), first)
        last = last if selection.end is None else min(Spot.numbered(selection.end.y), last)
        layout.reveal_between(first, last)
        parts: list[str] = []
        for spot in layout.spots(layout.y(first), layout.y(last) + 1 - layout.y(first)):
            span = selection.get_span(spot.number) if spot is not None else None
            if spot is None or span is None:
                continue
            row = layout.row(spot)
            start, end = max(span[0] - GUTTER, 0), None if span[1] == -1 else max(span[1] - GUTTER, 0)
            text = (
                row.own_text(start, end)
                if row is not None
                else self._draw(spot, self.rich_style).text.strip()[start:end]
            )
            soft = row is not None and not row.broken and end is None and not layout.is_last(spot)
            parts.append(text if soft else text + "\n")
        self._settle()
        return "".join(parts).rstrip("\n"), "\n"
