"""Rows of a data set, one a line: what is chosen of it, where it came from, its numbers, how it begins.

Only the rows that are seen are read, however many there are.
"""

from collections.abc import Sequence
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message

from likely.app.tui.base.drawing.line_widget import Line, LineWidget
from likely.app.tui.base.text import cells
from likely.app.tui.training.browser import BITS, RowBrowser, number
from likely.engine.text.rows.training_row import TrainingRow
from likely.engine.train.data.row_file import FileRow

MARK, LINE, NUMBER, SOURCE = 2, 9, 11, 24
MOST = 3  # numbers beside a row; below the table all of them stand
TEXT = 30  # cells that the text has at least, before another column
STRETCH = 400  # characters of a row's text that a line may need
WHEEL = 3


class RowTable(LineWidget, can_focus=True):
    """The rows of a browser; the one where a person stands is lit."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", "Row", id="rows.up"),
        Binding("down", "move(1)", "Row", id="rows.down"),
        Binding("pageup,comma", "page(-1)", "Page", id="rows.page_up"),
        Binding("pagedown,full_stop", "page(1)", "Page", id="rows.page_down"),
        Binding("home,0", "end(False)", "First", id="rows.first"),
        Binding("end,greater_than_sign", "end(True)", "Last", id="rows.last"),
    ]

    class RowLookedAt(Message):
        """Another row is looked at."""

    def __init__(self, browser: RowBrowser, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.browser = browser

    def go(self, at: int) -> None:
        self.browser.go(at)
        self.redraw()
        self.post_message(self.RowLookedAt())

    def action_move(self, by: int) -> None:
        self.go(self.browser.at + by)

    def action_page(self, by: int) -> None:
        self.go(self.browser.at + by * max(self.size.height - 2, 1))

    def action_end(self, last: bool) -> None:
        self.go(len(self.browser.rows) - 1 if last else 0)

    def on_click(self, event: events.Click) -> None:
        if event.y > 0 and (at := self._top(self.size.height) + event.y - 1) < len(self.browser.rows):
            self.go(at)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        self.go(self.browser.at + WHEEL)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        self.go(self.browser.at - WHEEL)

    # -- drawing -----------------------------------------------------------------------------------------------------

    def lines(self, width: int, height: int) -> Sequence[Line]:
        browser, look = self.browser, self.look
        shown, source = self._columns(width)
        head = cells.pad("  ROW", MARK + LINE)
        head += "".join(cells.pad(name.upper()[: NUMBER - 1], NUMBER - 1, right=True) + " " for name in shown)
        head += cells.pad("FROM", source) if source else ""
        if not len(browser.rows):
            return [[Segment(f" {cells.fit(cells.clean(browser.why or 'no rows'), width - 2)}", look.faint)]]
        top = self._top(height)
        visible = range(top, min(top + height - 1, len(browser.rows)))
        return [[Segment(head + "TEXT", look.heading)], *(self._row(at, width, shown, source) for at in visible)]

    def _top(self, height: int) -> int:
        """The first row that is seen: the one looked at stays in the middle."""
        room = max(height - 1, 1)
        return min(max(self.browser.at - room // 2, 0), max(len(self.browser.rows) - room, 0))

    def _columns(self, width: int) -> tuple[list[str], int]:
        """The numbers that there is room for, that of the order always, and the cells for the source."""
        browser = self.browser
        names = [name for name in (browser.by, *browser.numbers) if name]
        room = width - MARK - LINE - TEXT
        source = SOURCE if room >= SOURCE + NUMBER else 0
        many = min(max((room - source) // NUMBER, 1), MOST)
        return list(dict.fromkeys(names))[:many], source

    def _row(self, at: int, width: int, shown: Sequence[str], source: int) -> Line:
        browser, look = self.browser, self.look
        row = browser.row(at)
        here = at == browser.at
        keep = browser.choice(row)
        mark, ink = " ", look.text
        if keep is not None:
            mark, ink = (self.glyphs.knob, look.better) if keep else (self.glyphs.lift, look.alarm)
        excluded = row.error or keep is False or (row.dropped and not keep)
        text: Style = look.row if here else look.faint if excluded else look.text
        line = [Segment(self.glyphs.chosen if here else " ", look.chosen), Segment(mark, ink)]
        where = row.where.rpartition(":")[2].rpartition("/")[2] if ":" in row.where else row.where.rpartition("/")[2]
        line.append(Segment(cells.pad(cells.clean(where), LINE - 1, right=True) + " ", look.faint))
        for name in shown:
            value = number(row, name)
            words = "-" if value is None else f"{value:.2f}" if name == BITS else figure(value)
            line.append(Segment(cells.pad(words, NUMBER - 1, right=True) + " ", look.chosen if here else look.text))
        if source:
            line.append(Segment(cells.pad(cells.clean(origin(row)), source - 1) + " ", look.faint))
        room = width - MARK - LINE - NUMBER * len(shown) - source
        words = row.error or (flat(row.row) if row.row is not None else "")
        return [*line, Segment(cells.pad(cells.clean(words[:STRETCH]), room), look.alarm if row.error else text)]


def origin(row: FileRow) -> str:
    """Why a row is aside, else where it came from, in a few words."""
    return row.dropped or " ".join(
        part for part in (row.source.get("method", ""), row.source.get("parent", "")) if part
    )


def flat(row: TrainingRow) -> str:
    """A row's turns on one line, an arrow before each answer."""
    if row.form == "text":
        return " ".join(row.text[:STRETCH].split())
    turns = [" ".join(str(message.get("content") or "")[:STRETCH].split()) for message in row.messages]
    return " → ".join(turns)


def figure(x: float) -> str:
    """A number in seven cells or less."""
    return f"{x:.0f}" if x == round(x) and abs(x) < 1e6 else f"{x:.3f}" if abs(x) < 1000 else f"{x:.3g}"


def unit(name: str) -> str:
    """A number's name with what it counts."""
    return "bits a token" if name == BITS else name
