"""The texts of a search or a vote, a row each under the transcript: walked while they grow, and one of them taken."""

from collections.abc import Callable, Sequence
from typing import ClassVar

from rich.segment import Segment
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message

from app.tui.chat.live_run import LiveRun
from app.tui.chat.ranking import Ranked, Ranking
from app.tui.tokens import cells
from app.tui.widgets.canvas import Canvas, Line

FEWEST, SHARE = 3, 3  # rows at least, and the share of the pane that they may take
PLACE = 5  # cells of a row's number and sign


class BestTexts(Canvas, can_focus=True):
    """Arrows show one, enter takes it and ends the search, delete drops it; space holds or frees the search."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "pick(-1)", "Pick", show=False, id="best.up"),
        Binding("down", "pick(1)", "Pick", show=False, id="best.down"),
        Binding("enter", "take", "Take it", show=False, id="best.take"),
        Binding("delete,backspace", "drop", "Drop", show=False, id="best.drop"),
        Binding("space", "pause", "Pause", show=False, id="best.pause"),
    ]

    class TextPicked(Message):
        """A person wants to see a text; `take`: and no other."""

        def __init__(self, node: str, *, take: bool) -> None:
            super().__init__()
            self.node, self.take = node, take

    class TextDropped(Message):
        """A person wants no more of a text that has ended; `then` is to be looked at instead."""

        def __init__(self, node: str, then: str) -> None:
            super().__init__()
            self.node, self.then = node, then

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.ranking: Ranking | None = None
        self.run: Callable[[], LiveRun | None] = lambda: None  # the one under way
        self.top = 0

    def show(self, ranking: Ranking | None) -> None:
        if ranking == self.ranking:
            return
        taller = self._tall(ranking) != self._tall(self.ranking)
        self.ranking = ranking
        self.set_class(ranking is not None, "-shown")
        self.redraw()
        if taller:
            self.refresh(layout=True)

    @staticmethod
    def _tall(ranking: Ranking | None) -> int:
        return len(ranking.rows) if ranking is not None else 0

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return 1 + min(self._tall(self.ranking), max(FEWEST, container.height // SHARE))

    @property
    def at(self) -> int:
        """The row of the text on the screen."""
        rows = self.ranking.rows if self.ranking is not None else ()
        return next((i for i, row in enumerate(rows) if row.on), 0)

    def lines(self, width: int, height: int) -> Sequence[Line]:
        if self.ranking is None:
            return []
        ranking, look, room = self.ranking, self.look, max(height - 1, 1)
        sizes = [
            max(len(head), *(cells.width(row.numbers[i]) for row in ranking.rows))
            for i, head in enumerate(ranking.heads)
        ]
        sizes = [min(size, 12) + 2 for size in sizes]
        heads = "".join(cells.pad(head, size, right=True) for head, size in zip(ranking.heads, sizes, strict=True))
        run = self.run()
        state = "paused" if run is not None and run.control.paused else ranking.words
        size = max(width - len(ranking.title) - cells.width(heads), 0)
        lines: list[Line] = [
            [Segment(ranking.title, look.heading), Segment(cells.pad(f"  {state}", size) + heads, look.faint)]
        ]
        cut = len(ranking.rows) > room > 1
        room -= cut
        self.top = min(max(self.top, self.at - room + 1), self.at, max(len(ranking.rows) - room, 0))
        shown = ranking.rows[self.top : self.top + room]
        lines += [self._row(i, row, sizes, width) for i, row in enumerate(shown, self.top)]
        if cut:
            lines.append([Segment(f"   + {len(ranking.rows) - len(shown)} more", look.faint)])
        return lines

    def _row(self, index: int, row: Ranked, sizes: Sequence[int], width: int) -> Line:
        look, glyphs = self.look, self.glyphs
        sign = glyphs.ended if row.ended else glyphs.live
        text = cells.pad(row.text, max(width - PLACE - sum(sizes), 4))
        numbers = "".join(cells.pad(number, size, right=True) for number, size in zip(row.numbers, sizes, strict=True))
        ink = look.row if row.on and self.has_focus else look.chosen if row.on else look.text
        return [
            Segment(f"{index + 1:>2} ", look.chosen if row.on else look.faint),
            Segment(f"{sign} ", look.better if row.ended else look.bar),
            Segment(text, ink),
            Segment(numbers, look.chosen if row.on else look.faint),
        ]

    # -- keys and mouse ----------------------------------------------------------------------------------------------

    def _pick(self, index: int, *, take: bool = False) -> None:
        if self.ranking is not None and 0 <= index < len(self.ranking.rows):
            self.post_message(self.TextPicked(self.ranking.rows[index].node, take=take))

    def action_pick(self, by: int) -> None:
        self._pick(self.at + by)

    def action_take(self) -> None:
        self._pick(self.at, take=True)

    def action_pause(self) -> None:
        """Hold the run under way, or let it go on."""
        if (run := self.run()) is not None:
            run.control.pause(not run.control.paused)
            self.redraw()

    def action_drop(self) -> None:
        """Drop the text on the screen: one that grows is given up at its next token; the last one stays."""
        rows, run, at = self.ranking.rows if self.ranking is not None else (), self.run(), self.at
        if len(rows) < 2 or not rows[at].on:
            return
        node, then = rows[at].node, rows[at + 1 if at + 1 < len(rows) else at - 1].node
        if run is not None and run.drop(node):
            self._pick(next(i for i, row in enumerate(rows) if row.node == then))
        else:
            self.post_message(self.TextDropped(node, then))

    def on_click(self, event: events.Click) -> None:
        offset = event.get_content_offset(self)
        if offset is not None and offset.y >= 1:
            self._pick(self.top + offset.y - 1)
