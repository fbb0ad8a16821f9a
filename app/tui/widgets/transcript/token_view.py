"""`TokenView`: a transcript to walk in, token by token: its keys, its cursor, what a click means.

It knows nothing of conversations or of the engine.
"""

from collections.abc import Iterator, Sequence
from typing import ClassVar

from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message

from likely.app.tui.base.text import cells
from likely.app.tui.base.text.block import HEADING_ROWS
from likely.app.tui.base.text.layout import HEAD, TokenPlace
from likely.app.tui.base.text.wrap import NOBODY
from likely.app.tui.widgets.transcript.rows import TranscriptRows
from likely.app.tui.widgets.transcript.token_row import GUTTER
from likely.app.words.heat import MARKED


class TokenView(TranscriptRows, can_focus=True):
    """Tokens in messages. `cursor` is None while it follows the newest token."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "token(-1)", "Token", id="token.previous"),
        Binding("right", "token(1)", "Token", id="token.next"),
        Binding("up", "row(-1)", "Row", id="token.up"),
        Binding("down", "row(1)", "Row", id="token.down"),
        Binding("home,0", "edge", "Row's start", id="token.row_start"),
        Binding("end,greater_than_sign", "latest", "Newest", id="token.newest"),
        Binding("ctrl+home,less_than_sign", "first", "First", id="token.first"),
        Binding("pageup,comma", "page(-1)", "Page", id="token.page_up"),
        Binding("pagedown,full_stop", "page(1)", "Page", id="token.page_down"),
        Binding("n", "surprise(1)", "Next surprise", id="token.next_surprise"),
        Binding("N", "surprise(-1)", "Previous surprise", id="token.previous_surprise"),
        Binding("enter", "choose", "Alternatives", id="token.alternatives"),
    ]

    class CursorMoved(Message):
        """The cursor stands on another token, or follows the newest again (place None)."""

        def __init__(self, place: TokenPlace | None) -> None:
            super().__init__()
            self.place = place

    class Chosen(Message):
        """A person asks for the alternatives of a token."""

        def __init__(self, place: TokenPlace) -> None:
            super().__init__()
            self.place = place

    class FoldToggled(Message):
        """A person clicks on the heading of folded thinking."""

        def __init__(self, block: int) -> None:
            super().__init__()
            self.block = block

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._goal: int | None = None  # column that vertical moves try to keep
        self._tip = ""  # of the cell under the mouse

    def newest(self) -> TokenPlace | None:
        """The last token that the cursor can stand on."""
        ends = self.layout_.ends()
        return ends[1] if ends else None

    def move_to(self, place: TokenPlace | None, *, scroll: bool = True) -> None:
        """Put the cursor on a token, which is shown as it was written, or on the one before an answer that has none
        yet; None follows the newest again."""
        if place is not None and not self._exists(place):
            before = self.layout_.step(place, -1) if place.block < len(self.blocks) else place
            place = before if self._exists(before) else None
        old, self.cursor = self.cursor, place
        self._show_raw(place)
        if scroll and place is not None:
            self._bring(self.layout_.cell_of(place)[1])
        for at in (old, place):
            if at is not None and self._exists(at):
                for spot in self.layout_.spots_of(at):
                    self._touch(spot)
        self.post_message(self.CursorMoved(place))

    def action_token(self, by: int) -> None:
        self._goal = None
        here = self.cursor or self.newest()
        if here is not None:
            self.move_to(here if self.cursor is None and by > 0 else self.layout_.step(here, by))

    def action_row(self, by: int) -> None:
        here = self.cursor or self.newest()
        if here is None:
            self.scroll_relative(y=by)
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

    def action_edge(self) -> None:
        """To the first token of the row."""
        self._goal = None
        here = self.cursor or self.newest()
        if here is not None:
            self.move_to(self.layout_.edges(here)[0])

    def action_first(self) -> None:
        """To the first token of all."""
        self._goal = None
        ends = self.layout_.ends()
        if ends is not None:
            self.move_to(ends[0], scroll=False)
            self.scroll_to(y=0, immediate=True)

    def action_latest(self) -> None:
        """Follow the newest token again."""
        self._goal = None
        self.move_to(None)
        self._follow(True)
        self._settle()

    def action_surprise(self, by: int) -> None:
        """The next token that is underlined or filled: four bits and more."""
        self._goal = None
        here = self.cursor or (self.newest() if by < 0 else (self.layout_.ends() or (None,))[0])
        while here is not None:
            there = self.layout_.step(here, by)
            if there == here:
                return
            here = there
            if self.blocks[here.block].tokens[here.token].level >= MARKED:
                self.move_to(here)
                return

    def action_choose(self) -> None:
        here = self.cursor or self.newest()
        if here is not None:
            self.post_message(self.Chosen(here))

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Say of a cell what several tokens share it, and what of how they are drawn changed there, of a row's sign
        too."""
        offset, tip = event.get_content_offset(self), ""
        if offset is not None:
            x, y = offset.x - GUTTER, offset.y + self.scroll_offset.y
            spot = self.layout_.spot(y)
            row = self.layout_.row(spot) if spot is not None else None
            if spot is not None and row is not None and x < row.width:
                tip = self._shared(spot.block, row.at(x)) if x >= 0 else ""
                under = [row.at(x)] if x >= 0 else [span.token for span in row.spans]
                tip = "\n".join(filter(None, (tip, *self._moved(spot.block, under))))
        if tip != self._tip:
            self._tip, self.tooltip = tip, Text(tip) if tip else None

    def _moved(self, block: int, tokens: Sequence[int | None]) -> Iterator[str]:
        """Of each of some tokens how those from it on are drawn otherwise, in words."""
        it = self.blocks[block]
        for token in dict.fromkeys(tokens):
            if token is not None and token != NOBODY and it.tokens[token].moved:
                name = cells.piece_text(it.tokens[token].text.encode())
                yield f"from {name} on: {it.tokens[token].moved}"

    def _shared(self, block: int, token: int | None) -> str:
        """The tokens that make one character, in words; "" where it is one alone."""
        it = self.blocks[block]
        if token is None or len(it.sharers(token)) == 1:
            return ""
        pieces = [it.tokens[index].piece for index in it.sharers(token)]
        character = cells.clean(it.tokens[token].text[:1])
        return f"{character} is made by {len(pieces)} tokens: {'  '.join(map(cells.piece_text, pieces))}"

    def on_click(self, event: events.Click) -> None:
        if self.text_selection is not None and event.chain == 1 and self.screen.get_selected_text():
            return
        offset = event.get_content_offset(self)
        if offset is None:
            return
        x, y = offset.x - GUTTER, offset.y + self.scroll_offset.y
        spot = self.layout_.spot(y)
        if spot is not None and spot.part == HEAD and spot.row == HEADING_ROWS and self.blocks[spot.block].fold_rows:
            self.post_message(self.FoldToggled(spot.block))
            return
        place = self.layout_.token_at(max(x, 0), y)
        if place is None:
            return
        if place == self.cursor:
            self.post_message(self.Chosen(place))
        else:
            self._goal = None
            self.move_to(place, scroll=False)
