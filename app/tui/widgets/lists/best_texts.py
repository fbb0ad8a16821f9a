"""The texts of a search or a vote, a row each under the transcript: walked while they grow, and one of them taken.

Over them what the text on the screen shares with others, which is a ground in the transcript; under its row, opened,
its steps.
"""

from collections.abc import Callable, Sequence
from typing import ClassVar

from rich.segment import Segment
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message

from likely.app.tui.base.drawing.line_widget import Line, LineWidget
from likely.app.tui.base.text import cells
from likely.app.tui.chat.inspecting.ranking import (
    ENDED,
    GROWING,
    STOPPED,
    EquationVerdict,
    RankedStep,
    RankedText,
    Ranking,
    ranking,
)
from likely.app.tui.chat.live_run import LiveRun
from likely.app.tui.chat.tallies import VoteCount
from likely.engine.chat.conversation import Conversation

FEWEST, SHARE, OPENED = 3, 3, 2  # rows at least, and the share of the pane that they may take, without steps and with
PLACE = 5  # cells of a row's number and sign
VERDICT, SIGN, NUMBER = 16, 4, 8  # cells of a verdict, of its sign alone, and of a step's number
STATE = 9  # cells of the word for how far a text has come
ROOMY = 66  # columns from which on a verdict and that have their words


class BestTexts(LineWidget, can_focus=True):
    """Arrows show one, enter takes it and ends the search, delete drops it; space holds or frees the search."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "pick(-1)", "Pick", id="best.up"),
        Binding("down", "pick(1)", "Pick", id="best.down"),
        Binding("enter", "take", "Take it", id="best.take"),
        Binding("delete,backspace", "drop", "Drop", id="best.drop"),
        Binding("space", "pause", "Pause", id="best.pause"),
        Binding("v", "steps", "Steps", id="best.steps"),
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

    class Shaded(Message):
        """By how many texts the tokens of the last message are shared, as levels: 0 by none, 3 by all."""

        def __init__(self, levels: Sequence[int]) -> None:
            super().__init__()
            self.levels = levels

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.ranking: Ranking | None = None
        self.run: Callable[[], LiveRun | None] = lambda: None  # the one under way
        self.opened = False
        self.top = self.below = 0  # the first row that is shown, and the steps under the text on the screen
        self._of: tuple[Conversation, VoteCount | None] | None = None
        self._levels: list[int] = []

    def show(self, talk: Conversation, count: VoteCount | None) -> None:
        """Those of a conversation's last message, whose votes are counted where it is a path of one."""
        self._of, ranked = (talk, count), ranking(talk, count, opened=self.opened)
        if ranked == self.ranking:
            return
        taller = self._tall(ranked) != self._tall(self.ranking)
        self.ranking = ranked
        self.set_class(ranked is not None, "-shown")
        self.redraw()
        if taller:
            self.refresh(layout=True)
        if (levels := shades(ranked)) != self._levels:
            self._levels = levels
            self.post_message(self.Shaded(levels))

    @staticmethod
    def _tall(ranking: Ranking | None) -> tuple[int, int]:
        """Rows of texts and steps, and of what stands over them."""
        if ranking is None:
            return 0, 1
        return len(ranking.rows) + len(ranking.steps), 1 + any(texts > 1 for texts, _ in ranking.shared)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        rows, heads = self._tall(self.ranking)
        return heads + min(rows, max(FEWEST, container.height // (OPENED if self.opened else SHARE)))

    @property
    def at(self) -> int:
        """The row of the text on the screen."""
        rows = self.ranking.rows if self.ranking is not None else ()
        return next((i for i, row in enumerate(rows) if row.on), 0)

    def lines(self, width: int, height: int) -> Sequence[Line]:
        if self.ranking is None:
            return []
        ranking, look = self.ranking, self.look
        sizes = [
            max(len(head), *(cells.width(row.numbers[i]) for row in ranking.rows))
            for i, head in enumerate(ranking.heads)
        ]
        sizes = [min(size, 12) + 2 for size in sizes]
        heads = "".join(cells.pad(head, size, right=True) for head, size in zip(ranking.heads, sizes, strict=True))
        judged = VERDICT if width >= ROOMY else SIGN
        judged *= any(row.verdict is not None for row in ranking.rows)
        heads += cells.pad("  equations" if judged == VERDICT else "", judged)
        run = self.run()
        state = "paused" if run is not None and run.control.paused else ranking.words
        size = max(width - len(ranking.title) - cells.width(heads), 0)
        lines: list[Line] = [
            [Segment(ranking.title, look.heading), Segment(cells.pad(f"  {state}", size) + heads, look.faint)]
        ]
        if self._tall(ranking)[1] > 1:
            lines.insert(0, self._legend(ranking, width))
        self.below = own = min(len(ranking.steps), max(height - len(lines) - 2, 0))
        room = max(height - len(lines) - own, 1)
        cut = len(ranking.rows) > room > 1
        room -= cut
        self.top = min(max(self.top, self.at - room + 1), self.at, max(len(ranking.rows) - room, 0))
        shown = ranking.rows[self.top : self.top + room]
        for i, row in enumerate(shown, self.top):
            lines.append(self._row(i, row, sizes, judged, width))
            if row.on:
                lines += [self._step(j, step, j == own - 1, width) for j, step in enumerate(ranking.steps[:own])]
        if cut:
            lines.append([Segment(f"   + {len(ranking.rows) - len(shown)} more", look.faint)])
        return lines

    def _legend(self, ranking: Ranking, width: int) -> Line:
        """By how many texts that on the screen is shared, and for how long, on the grounds that it has there."""
        look, all_, room = self.look, len(ranking.rows), width - 11
        line = [Segment("shared by ", look.faint)]
        for texts, tokens in ranking.shared:
            chip, words = (f" all {texts} " if texts == all_ else f" {texts} "), f" {tokens} tok  "
            if texts == 1:
                chip, words = "", f"then {tokens} tok alone"
            room -= len(chip + words)
            if room >= 0:
                line += [Segment(chip, look.shared[shade(texts, all_)]), Segment(words, look.faint)]
        return line

    def _row(self, index: int, row: RankedText, sizes: Sequence[int], judged: int, width: int) -> Line:
        look, glyphs = self.look, self.glyphs
        sign, sign_ink = {
            ENDED: (glyphs.ended, look.better), STOPPED: (glyphs.held, look.faint), GROWING: (glyphs.live, look.bar)
        }[row.state]  # fmt: skip
        state = cells.pad(f" {row.state}", STATE) if width >= ROOMY else ""
        text = cells.pad(row.text, max(width - PLACE - sum(sizes) - judged - len(state), 4))
        numbers = "".join(cells.pad(number, size, right=True) for number, size in zip(row.numbers, sizes, strict=True))
        ink = look.row if row.on and self.has_focus else look.chosen if row.on else look.text
        return [
            Segment(f"{index + 1:>2} ", look.chosen if row.on else look.faint),
            Segment(f"{sign} ", sign_ink),
            Segment(text, ink),
            Segment(state, look.faint),
            Segment(numbers, look.chosen if row.on else look.faint),
            *self._verdict(row.verdict, judged),
        ]

    def _step(self, index: int, step: RankedStep, last: bool, width: int) -> Line:
        """A step of the text on the screen."""
        stem = f"   {self.glyphs.last if last else self.glyphs.branch}"
        verdict = VERDICT if width >= ROOMY else SIGN
        text = cells.pad(f"{index + 1} {step.text}", max(width - len(stem) - NUMBER - verdict, 4))
        return [
            Segment(stem, self.look.rule),
            Segment(text, self.look.text),
            Segment(cells.pad(step.number, NUMBER, right=True), self.look.faint),
            *self._verdict(step.verdict, verdict),
        ]

    def _verdict(self, verdict: EquationVerdict | None, size: int) -> list[Segment]:
        if verdict is None or not size:
            return [Segment(" " * size)]
        sign, ink = (self.glyphs.holds, self.look.better) if verdict.holds else (self.glyphs.fails, self.look.alarm)
        return [Segment(f"  {sign} ", ink), Segment(cells.pad(verdict.words, size - SIGN), self.look.faint)]

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

    def action_steps(self) -> None:
        """Open the text on the screen into its steps, or close it."""
        self.opened = not self.opened
        if self._of is not None:
            self.show(*self._of)
            self.refresh(layout=True)

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
        if offset is None:
            return
        row = offset.y - self._tall(self.ranking)[1]
        under = row - (self.at - self.top)  # rows below that of the text on the screen
        if row >= 0 and not 0 < under <= self.below:
            self._pick(self.top + row - (self.below if under > 0 else 0))


def shade(texts: int, all_: int) -> int:
    """The level of what so many of all texts share."""
    return 0 if texts < 2 else 3 if texts == all_ else 2 if 2 * texts > all_ else 1


def shades(ranking: Ranking | None) -> list[int]:
    """The level of each token of the message on the screen, as far as any is shared."""
    if ranking is None or all(texts < 2 for texts, _ in ranking.shared):
        return []
    all_ = len(ranking.rows)
    levels = [shade(texts, all_) for texts, tokens in ranking.shared for _ in range(tokens)]
    return [shade(all_, all_)] * ranking.skipped + levels
