"""`TokenView`: the transcript, drawn row by row so that a stream costs only the rows it changes.

It shows blocks of tokens, tints them, holds a cursor and a selection, and follows the newest row until the reader
scrolls away. It knows nothing of conversations or of the engine.
"""

from collections.abc import Iterable, Sequence
from typing import ClassVar, cast

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.selection import Selection
from textual.strip import Strip
from textual.widget import Widget

from app.tui import cells
from app.tui.layout import HEADING_ROWS, Block, Layout, Place, Token
from app.tui.theme import Glyphs, Look
from app.tui.widgets.canvas import Painted
from app.tui.wrap import Row

GUTTER = 1
WIDEST = 100  # columns of text that are comfortable to read


class TokenView(ScrollView, can_focus=True):
    """Tokens in messages. `cursor` is None while it follows the newest token."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "token(-1)", "Token", show=False, id="token.previous"),
        Binding("right", "token(1)", "Token", show=False, id="token.next"),
        Binding("up", "row(-1)", "Row", show=False, id="token.up"),
        Binding("down", "row(1)", "Row", show=False, id="token.down"),
        Binding("home", "edge(-1)", "Row's start", show=False, id="token.row_start"),
        Binding("end", "latest", "Newest", show=False, id="token.newest"),
        Binding("pageup", "page(-1)", "Page", show=False, id="token.page_up"),
        Binding("pagedown", "page(1)", "Page", show=False, id="token.page_down"),
        Binding("n", "surprise(1)", "Next surprise", show=False, id="token.next_surprise"),
        Binding("N", "surprise(-1)", "Previous surprise", show=False, id="token.previous_surprise"),
        Binding("enter", "choose", "Alternatives", show=False, id="token.alternatives"),
        # the screen's, while the transcript has the focus
        Binding("b", "screen.resample", "Re-sample", show=False, id="token.resample"),
        Binding("e", "screen.edit", "Edit", show=False, id="token.edit"),
        Binding("left_square_bracket", "screen.sibling(-1)", "Sibling", show=False, id="token.previous_sibling"),
        Binding("right_square_bracket", "screen.sibling(1)", "Sibling", show=False, id="token.next_sibling"),
        Binding("left_curly_bracket", "screen.fork(-1)", "Fork", show=False, id="token.previous_fork"),
        Binding("right_curly_bracket", "screen.fork(1)", "Fork", show=False, id="token.next_fork"),
        Binding("m", "screen.read", "Read", show=False, id="token.read"),
        Binding("z", "screen.fold", "Fold", show=False, id="token.fold"),
        Binding("y", "screen.copy_answer", "Copy", show=False, id="token.copy"),
        Binding("Y", "screen.copy_code", "Copy code", show=False, id="token.copy_code"),
        Binding("s", "screen.step", "Step", show=False, id="token.step"),
        Binding("g", "screen.goto", "Go", show=False, id="token.go"),
        Binding("question_mark", "screen.keys", "Keys", show=False, id="token.keys"),
        *(Binding(str(n), f"screen.take({n})", f"Take {n}", show=False, id=f"token.take_{n}") for n in range(1, 10)),
    ]
    ALLOW_SELECT = True

    class CursorMoved(Message):
        """The cursor stands on another token, or follows the newest again (place None)."""

        def __init__(self, place: Place | None) -> None:
            super().__init__()
            self.place = place

    class Chosen(Message):
        """A person asks for the alternatives of a token."""

        def __init__(self, place: Place) -> None:
            super().__init__()
            self.place = place

    class FoldToggled(Message):
        """A person clicks on the heading of folded thinking."""

        def __init__(self, block: int) -> None:
            super().__init__()
            self.block = block

    class FollowChanged(Message):
        """The view follows the newest row, or has been scrolled away from it with `behind` tokens below."""

        def __init__(self, following: bool, behind: int) -> None:
            super().__init__()
            self.following = following
            self.behind = behind

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.layout_ = Layout()
        self.cursor: Place | None = None
        self.mark: Place | None = None  # a token to underline: where a comparison first differs
        self.following = True
        self.behind = 0
        self.strips_rendered = 0  # counted for tests: work does not grow with the length
        self._strips: dict[int, Strip] = {}
        self._goal: int | None = None  # column that vertical moves try to keep

    @property
    def look(self) -> Look:
        return cast(Painted, self.app).look

    @property
    def glyphs(self) -> Glyphs:
        return cast(Painted, self.app).glyphs

    # -- content -----------------------------------------------------------------------------------------------------

    @property
    def blocks(self) -> list[Block]:
        return self.layout_.blocks

    def show(self, blocks: Sequence[Block], *, follow: bool | None = None) -> None:
        """Show other blocks. The cursor is dropped where its token is gone."""
        self.layout_.replace(blocks)
        if self.cursor is not None and not self._exists(self.cursor):
            self.cursor = None
        self._strips.clear()
        if follow is not None:
            self.following = follow
        self._settle()
        self.refresh()

    def extend(self, tokens: Iterable[Token]) -> None:
        """Append tokens to the last block."""
        block = self.blocks[-1]
        before, had_fold = self.layout_.height, block.fold_rows
        count = len(block.tokens)
        dirty = block.extend(tokens)
        self.layout_.grow()
        top = self.layout_.body_top(len(self.blocks) - 1)
        first = self.layout_.top(len(self.blocks) - 1) if block.fold_rows != had_fold else top + dirty
        self._drop(first, self.layout_.height)
        if not self.following:
            self.behind += len(block.tokens) - count
            self.post_message(self.FollowChanged(False, self.behind))
        if self.layout_.height != before:
            self._settle()
        self.refresh(Region(0, first - self.scroll_offset.y, self.size.width, self.layout_.height - first))

    def renote(self, index: int, note: str) -> None:
        """Change the words beside a block's name."""
        if self.blocks[index].note != note:
            self.blocks[index].note = note
            self.touch(self.layout_.top(index) + 1)

    def relay(self, index: int) -> None:
        """Lay a block out anew, after it was folded, unfolded or rendered."""
        self.blocks[index].lay(self.layout_.width)
        self.layout_.measure()
        self._strips.clear()
        self._settle()
        self.refresh()

    def recolour(self) -> None:
        """Draw everything again: other levels, other colours."""
        self._strips.clear()
        self.refresh()

    def touch(self, y: int) -> None:
        """Draw one row again."""
        self._strips.pop(y, None)
        if 0 <= y - self.scroll_offset.y < self.size.height:
            self.refresh_lines(y)

    def _drop(self, first: int, last: int) -> None:
        if last - first > len(self._strips):
            for y in [y for y in self._strips if y >= first]:
                del self._strips[y]
        else:
            for y in range(first, last):
                self._strips.pop(y, None)

    def _settle(self) -> None:
        """Tell the scroll bar how tall it is, and stay at the end while following.

        A new size lays the whole screen out again, which costs more than all else that a token does: it is told to the
        scroll bar alone, except when that has to appear.
        """
        size = Size(self.size.width, self.layout_.height)
        if size != self.virtual_size:
            if self.show_vertical_scrollbar == (size.height > self.container_size.height):
                self.set_reactive(Widget.virtual_size, size)
                self._scroll_update(size)
            else:
                self.virtual_size = size
                self.call_after_refresh(self._place_bar)
        if self.following:
            self.scroll_to(y=self.max_scroll_y, animate=False, immediate=True, force=True)

    def _place_bar(self) -> None:
        """A scroll bar that has just appeared does not know how far the view was scrolled before."""
        if self.show_vertical_scrollbar:
            self.vertical_scrollbar.position = self.scroll_y

    def _exists(self, place: Place) -> bool:
        return place.block < len(self.blocks) and place.token < len(self.blocks[place.block].tokens)

    def on_resize(self, event: events.Resize) -> None:
        width = min(max(event.size.width - GUTTER, 2), WIDEST)
        if width != self.layout_.width:
            held = self.layout_.token_at(0, self.scroll_offset.y)
            self.layout_.resize(width)
            self._strips.clear()
            self._settle()
            if not self.following and held is not None:
                self.scroll_to(y=self.layout_.cell_of(held)[1], animate=False, immediate=True)
        else:
            self._settle()

    # -- scrolling ---------------------------------------------------------------------------------------------------

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        at_end = self.max_scroll_y - new_value <= 1
        if at_end != self.following and self.size.height:
            self.following = at_end
            self.behind = 0
            self.post_message(self.FollowChanged(at_end, 0))

    # -- cursor ------------------------------------------------------------------------------------------------------

    def newest(self) -> Place | None:
        """The last token that the cursor can stand on."""
        ends = self.layout_.ends()
        return ends[1] if ends else None

    def move_to(self, place: Place | None, *, scroll: bool = True) -> None:
        """Put the cursor on a token; None follows the newest again."""
        old, self.cursor = self.cursor, place
        for at in (old, place):
            if at is not None and self._exists(at):
                block = self.blocks[at.block]
                for y in block.wrap.rows_of(self.layout_.lit(at)):
                    self.touch(self.layout_.body_top(at.block) + y)
        if scroll and place is not None:
            y = self.layout_.cell_of(place)[1]
            self.scroll_to_region(Region(0, y - 1, 1, 3), animate=False, immediate=True, force=True)
        self.post_message(self.CursorMoved(place))

    def action_token(self, by: int) -> None:
        self._goal = None
        here = self.cursor or self.newest()
        if here is not None:
            self.move_to(here if self.cursor is None and by > 0 else self.layout_.step(here, by))

    def action_row(self, by: int) -> None:
        here = self.cursor or self.newest()
        if here is None:
            self.scroll_relative(y=by, animate=False)
            return
        if self._goal is None:
            self._goal = self.layout_.cell_of(here)[0]
        self.move_to(self.layout_.rise(here, by, self._goal))

    def action_page(self, by: int) -> None:
        here = self.cursor or self.newest()
        if here is None:
            return
        if self._goal is None:
            self._goal = self.layout_.cell_of(here)[0]
        goal = here
        for _ in range(max(self.size.height - 2, 1)):
            goal = self.layout_.rise(goal, by, self._goal)
        self.move_to(goal)

    def action_edge(self, by: int) -> None:
        self._goal = None
        here = self.cursor or self.newest()
        if here is not None:
            self.move_to(self.layout_.edges(here)[0 if by < 0 else 1])

    def action_latest(self) -> None:
        """Follow the newest token again."""
        self._goal = None
        self.move_to(None)
        self.following = True
        self.behind = 0
        self.scroll_end(animate=False, immediate=True, force=True)
        self.post_message(self.FollowChanged(True, 0))

    def action_surprise(self, by: int) -> None:
        """The next token of at least four bits (level 3 of the ramp)."""
        self._goal = None
        here = self.cursor or (self.newest() if by < 0 else (self.layout_.ends() or (None,))[0])
        while here is not None:
            there = self.layout_.step(here, by)
            if there == here:
                return
            here = there
            if self.blocks[here.block].tokens[here.token].level >= 3:
                self.move_to(here)
                return

    def action_choose(self) -> None:
        here = self.cursor or self.newest()
        if here is not None:
            self.post_message(self.Chosen(here))

    def on_click(self, event: events.Click) -> None:
        if self.text_selection is not None and event.chain == 1 and self.screen.get_selected_text():
            return
        offset = event.get_content_offset(self)
        if offset is None:
            return
        x, y = offset.x - GUTTER, offset.y + self.scroll_offset.y
        block, inner = self.layout_.locate(y)
        if block >= 0 and inner == HEADING_ROWS and self.blocks[block].fold_rows:
            self.post_message(self.FoldToggled(block))
            return
        place = self.layout_.token_at(max(x, 0), y)
        if place is None:
            return
        if place == self.cursor:
            self.post_message(self.Chosen(place))
        else:
            self._goal = None
            self.move_to(place, scroll=False)

    # -- drawing -----------------------------------------------------------------------------------------------------

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._strips.clear()

    def selection_updated(self, selection: Selection | None) -> None:
        self._strips.clear()
        self.refresh()

    def render_line(self, y: int) -> Strip:
        y += self.scroll_offset.y
        strip = self._strips.get(y)
        if strip is None:
            self.strips_rendered += 1
            strip = self._draw(y)
            if len(self._strips) > 1000:
                self._strips.clear()
            self._strips[y] = strip
        return strip

    def _draw(self, y: int) -> Strip:
        ground = self.rich_style
        block_index, inner = self.layout_.locate(y)
        if block_index < 0:
            return Strip.blank(self.size.width, ground)
        block = self.blocks[block_index]
        if inner < HEADING_ROWS:
            segments = self._heading(block) if inner else []
        elif inner - HEADING_ROWS < block.fold_rows:
            segments = self._fold(block)
        elif block.rendered is not None:
            strip: Strip = block.rendered[inner - HEADING_ROWS]
            segments = [Segment(" " * GUTTER), *strip]
        else:
            row = block.wrap.rows[inner - HEADING_ROWS - block.fold_rows]
            segments = [Segment(" " * GUTTER), *self._tokens(block_index, block, row)]
        strip = Strip(Segment.apply_style(segments, ground))
        strip = strip.crop_extend(0, self.size.width, ground)
        selection = self.text_selection
        span = selection.get_span(y) if selection is not None else None
        if span is not None:
            start, end = span
            style = self.screen.get_component_rich_style("screen--selection")
            parts = strip.divide([start, strip.cell_length if end == -1 else end, strip.cell_length])
            if len(parts) == 3:
                strip = Strip.join([parts[0], parts[1].apply_style(Style(bgcolor=style.bgcolor)), parts[2]])
        return strip.apply_offsets(0, y)

    def _heading(self, block: Block) -> list[Segment]:
        who = self.look.you if block.who == "you" else self.look.model
        space = self.size.width - GUTTER - len(block.who) - 3
        note = f"  {cells.fit(block.note, space)}" if block.note and space > 4 else ""
        return [Segment(" " * GUTTER + block.who, who), Segment(note, self.look.faint)]

    def _fold(self, block: Block) -> list[Segment]:
        assert block.thinking is not None
        start, end = block.thinking
        sign = self.glyphs.fold if block.folded else self.glyphs.unfold
        return [Segment(f"{' ' * GUTTER}{sign} thinking {self.glyphs.dot} {end - start} tokens", self.look.faint)]

    def _tokens(self, index: int, block: Block, row: Row) -> Iterable[Segment]:
        lit = -1
        if self.cursor is not None and self.cursor.block == index and self._exists(self.cursor):
            lit = self.layout_.lit(self.cursor)
        thinking = block.thinking or (0, 0)
        heat, tokens = self.look.heat, block.tokens
        plain: list[str] = []
        for span in row.spans:
            token = tokens[span.token]
            text = span.text
            if span.token == lit:
                style: Style | None = self.look.cursor
            elif token.special:
                style = self.look.faint
            elif token.level:
                style = heat[token.level]
            elif thinking[0] <= span.token < thinking[1]:
                style = self.look.faint
            else:
                style = None
            if self.mark is not None and self.mark == (index, span.token):
                style = (style or Style()) + Style(underline=True, bold=True)
            if text == "\n":
                text = ("⏎" if style is not None and (span.token == lit or token.level >= 2) else " ") * span.width
                if span.token != lit and token.level < 2:
                    style = None
            if style is None:
                plain.append(text)
                continue
            if plain:
                yield Segment("".join(plain))
                plain.clear()
            if text.startswith(" ") and span.token != lit:  # quiet: the space before a word is not tinted
                bare = text.lstrip(" ")
                yield Segment(" " * (len(text) - len(bare)))
                text = bare
            if text:
                yield Segment(text, style)
        if plain:
            yield Segment("".join(plain))

    # -- selection ---------------------------------------------------------------------------------------------------

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        """The selected text, soft line breaks taken out."""
        if not self.layout_.height:
            return None
        parts: list[str] = []
        for y in range(self.layout_.height):
            span = selection.get_span(y)
            if span is None:
                continue
            row = self.layout_.row(y)
            line = " " * GUTTER + (row.text.rstrip("\n") if row is not None else self._draw(y).text.strip())
            start, end = span
            text = line[max(start, GUTTER) : None if end == -1 else end]
            soft = row is not None and not row.broken and end == -1 and row is not self._last_row(y)
            parts.append(text if soft else text + "\n")
        return "".join(parts).rstrip("\n"), "\n"

    def _last_row(self, y: int) -> Row | None:
        block, _ = self.layout_.locate(y)
        return self.blocks[block].wrap.rows[-1] if block >= 0 else None
