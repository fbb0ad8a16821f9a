"""Requests of a server, one a line, the newest first: when, of which model, how many tokens how fast, how far it is."""

import time
from collections.abc import Callable, Sequence
from typing import ClassVar

from rich.segment import Segment
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message

from likely.app.tui.base.drawing.line_widget import Line, LineWidget
from likely.app.tui.base.text import cells
from likely.app.tui.chat.inspecting.watched import WatchedRequest

WHEEL = 3
ASKED = 12  # cells of the words that a request begins with, at least
STRETCH = 400  # characters of them that a line may need
# heading, cells, whether to the right, what is said; the first to go where there is little room stands last
COLUMNS: tuple[tuple[str, int, bool, Callable[[WatchedRequest], str]], ...] = (
    ("TOKENS", 7, True, lambda row: f"{row.tokens:,}" if row.request.texts else "-"),
    ("STATE", 13, False, lambda row: row.state),
    ("TOK/S", 7, True, lambda row: f"{row.tokens_per_s:.1f}" if row.tokens_per_s else "-"),
    ("TIME", 9, False, lambda row: time.strftime("%H:%M:%S", time.localtime(row.began))),
    ("MODEL", 15, False, lambda row: row.model or "-"),
    ("KIND", 10, False, lambda row: row.request.kind),
    ("PROMPT", 7, True, lambda row: "-" if row.prompt_tokens is None else f"{row.prompt_tokens:,}"),
)
ORDER = ("TIME", "MODEL", "KIND", "PROMPT", "TOKENS", "TOK/S", "STATE")


class RequestTable(LineWidget, can_focus=True):
    """Walk with the arrows, open with enter or a click on the one where a person stands."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", "Request", id="requests.up", tooltip="request by request"),
        Binding("down", "move(1)", "Request", id="requests.down", tooltip="request by request"),
        Binding("pageup,comma", "page(-1)", "Page", id="requests.page_up", tooltip="page by page"),
        Binding("pagedown,full_stop", "page(1)", "Page", id="requests.page_down", tooltip="page by page"),
        Binding("home,0", "end(False)", "Newest", id="requests.newest", tooltip="follow the newest"),
        Binding("end,greater_than_sign", "end(True)", "Oldest", id="requests.oldest", tooltip="the oldest"),
        Binding("enter", "open", "Open", id="requests.open", tooltip="its tokens and their probabilities"),
    ]

    class RequestOpened(Message):
        """A person wants to see a request's tokens."""

        def __init__(self, row: WatchedRequest) -> None:
            super().__init__()
            self.row = row

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.rows: Sequence[WatchedRequest] = ()  # the newest first
        self.picked: WatchedRequest | None = None  # None: the newest, whichever that is
        self.blank: Sequence[str] = ()  # said where there are none

    def show(self, rows: Sequence[WatchedRequest], blank: Sequence[str] = ()) -> None:
        """Show requests, the oldest first; `blank` are lines in their place."""
        self.rows, self.blank = rows[::-1], blank
        if self.picked not in self.rows:
            self.picked = None
        self.redraw()

    @property
    def at(self) -> int:
        return self.rows.index(self.picked) if self.picked is not None else 0

    def go(self, at: int) -> None:
        at = min(max(at, 0), len(self.rows) - 1)
        self.picked = self.rows[at] if at > 0 else None
        self.redraw()

    def action_move(self, by: int) -> None:
        self.go(self.at + by)

    def action_page(self, by: int) -> None:
        self.go(self.at + by * max(self.size.height - 2, 1))

    def action_end(self, last: bool) -> None:
        self.go(len(self.rows) - 1 if last else 0)

    def action_open(self) -> None:
        if self.rows:
            self.post_message(self.RequestOpened(self.rows[self.at]))

    def on_click(self, event: events.Click) -> None:
        at = self._top(self.size.height) + event.y - 1
        if event.y > 0 and at < len(self.rows):
            if at == self.at:
                self.action_open()
            else:
                self.go(at)

    def on_mouse_scroll_down(self) -> None:
        self.go(self.at + WHEEL)

    def on_mouse_scroll_up(self) -> None:
        self.go(self.at - WHEEL)

    # -- drawing -----------------------------------------------------------------------------------------------------

    def lines(self, width: int, height: int) -> Sequence[Line]:
        if not self.rows:
            return [[], *([Segment(f"  {cells.fit(line, width - 4)}", self.look.faint)] for line in self.blank)]
        room = width - 2 - ASKED
        shown = set()
        for heading, cells_, _, _ in COLUMNS:
            if cells_ > room:
                break
            room -= cells_
            shown.add(heading)
        columns = [column for name in ORDER for column in COLUMNS if column[0] == name and name in shown]
        head = "".join(cells.pad(name, size - 1, right=right) + " " for name, size, right, _ in columns)
        top = self._top(height)
        visible = range(top, min(top + height - 1, len(self.rows)))
        rows = [self._row(at, width, columns) for at in visible]
        return [[Segment(f"  {head}ASKED", self.look.heading)], *rows]

    def _top(self, height: int) -> int:
        """The first row that is seen: the one where a person stands remains in the middle."""
        room = max(height - 1, 1)
        return min(max(self.at - room // 2, 0), max(len(self.rows) - room, 0))

    def _row(
        self, at: int, width: int, columns: Sequence[tuple[str, int, bool, Callable[[WatchedRequest], str]]]
    ) -> Line:
        row, look = self.rows[at], self.look
        here = at == self.at
        ink = look.alarm if row.end == "failed" else look.faint if row.end else look.text
        ink = look.row + ink if here else ink
        line = [Segment(f"{self.glyphs.chosen} " if here else "  ", look.chosen)]
        room = width - 2
        for name, size, right, text_of in columns:
            text = cells.pad(cells.clean(text_of(row)), size - 1, right=right)
            line.append(Segment(f"{text} ", look.accent if name == "STATE" and not row.end else ink))
            room -= size
        words = row.why or (" ".join(row.request.turns[-1][1][:STRETCH].split()) if row.request.turns else "")
        return [*line, Segment(cells.pad(cells.clean(words), room), ink)]
