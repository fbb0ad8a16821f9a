"""The entropy along an answer: one column a token, or the mean of several; the one under the cursor is lit."""

import math
from array import array
from collections.abc import Sequence

import numpy as np
from rich.segment import Segment
from textual import events
from textual.message import Message

from likely.app.tui.base.drawing.line_widget import Line, LineWidget
from likely.app.tui.base.text import cells
from likely.app.tui.base.theme import column
from likely.app.words.units import bits
from likely.engine.train.posterior.uncertainty import Uncertainty

TOP = 8.0  # bits at which a column is full


class EntropyRow(LineWidget):
    """Bits for each token of a message, all of them in the width; `at` is the token under the cursor. Where a column
    stands for several tokens it has their mean, or the highest of them where `highest`."""

    class Pointed(Message):
        """A person wants to see a token of the message."""

        def __init__(self, token: int) -> None:
            super().__init__()
            self.token = token

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.bits: Sequence[float | None] = ()
        self._read = array("d")  # what was read of them, NaN for None
        self._per_column = 1
        self.at: int | None = None
        self.doubt: Uncertainty | None = None
        self.stale = ""
        self.highest = False

    def turn(self) -> None:
        """Columns of several tokens have the highest of them, or again the mean."""
        self.highest = not self.highest
        self.redraw()

    def show(
        self, bits: Sequence[float | None], at: int | None, doubt: Uncertainty | None = None, stale: str = ""
    ) -> None:
        """`bits` may be a list that grows: what was read of it is not read again. `doubt` parts the entropy at
        `at`, over samples of a posterior. `stale` says why they are not of the text as it stands, and dims them."""
        if bits is not self.bits or len(bits) < len(self._read):
            self._read = array("d")
        self.bits, self.at, self.doubt, self.stale = bits, at, doubt, stale
        self.redraw()

    def _columns(self, width: int) -> list[float]:
        """The columns: each is of as many tokens as it takes to show all of them."""
        self._read.extend(math.nan if value is None else value for value in self.bits[len(self._read) :])
        self._per_column = max(-(-len(self.bits) // max(width, 1)), 1)
        if not self._read:
            return []
        values, begins = np.frombuffer(self._read), np.arange(0, len(self._read), self._per_column)
        if self.highest:
            column = np.nan_to_num(np.fmax.reduceat(values, begins))
        else:
            known = ~np.isnan(values)
            sums = np.add.reduceat(np.where(known, values, 0.0), begins)
            column = sums / np.maximum(np.add.reduceat(known, begins, dtype=int), 1)
        return list(map(float, column))

    def lines(self, width: int, height: int) -> Sequence[Line]:
        here = self.at if self.at is not None else len(self.bits) - 1
        heading = [Segment("ENTROPY", self.look.heading)]
        value = self.bits[here] if 0 <= here < len(self.bits) else None
        parted: list[Line] = []
        if self.stale:
            heading.append(Segment(f"  {self.stale}", self.look.faint))
        elif self.doubt is not None:
            words, below = _parts(self.doubt, width, height)
            heading.append(Segment(words, self.look.text))
            parted = [[Segment(below, self.look.text)]] if below else []
        elif value is not None:
            heading.append(Segment(f"  {value:z.1f} bits", self.look.text))
        columns = self._columns(width)
        if self.doubt is None and not self.stale:
            used = cells.width("".join(part.text for part in heading))
            heading.append(Segment(self._scale(width - used), self.look.faint))
        rows = max(height - 1 - len(parted), 0)
        return [heading, *parted, *(self.row(columns, row, rows) for row in reversed(range(rows)))]

    def _scale(self, room: int) -> str:
        """Legend: how high a full column is, and what one stands for."""
        words = f"  0 to {TOP:.0f}"
        if self._per_column > 1:
            words += f", {'highest' if self.highest else 'mean'} of {self._per_column} tok"
        return f"{words} a column" if self._per_column > 1 and len(words) + len(" a column") <= room else words

    def row(self, columns: Sequence[float], row: int, rows: int) -> Line:
        """A row of the columns, the lowest is 0 of `rows`."""
        lit = self.at // self._per_column if self.at is not None else None
        bar, glyphs = self.look.bar_cut if self.stale else self.look.bar, self.glyphs
        drawn = "".join([column(value / TOP, row, rows, glyphs) for value in columns])
        if lit is None or lit >= len(drawn):
            return [Segment(drawn, bar)]
        return [Segment(drawn[:lit], bar), Segment(drawn[lit], self.look.chosen_bar), Segment(drawn[lit + 1 :], bar)]

    def on_click(self, event: events.Click) -> None:
        """To the highest token of a column; on the heading, columns turn from the mean to the highest, or back."""
        offset = event.get_content_offset(self)
        if offset is not None and offset.y == 0:
            self.turn()
            return
        if offset is None or (first := offset.x * self._per_column) >= len(self.bits):
            return
        there = range(first, min(first + self._per_column, len(self.bits)))
        self.post_message(self.Pointed(max(there, key=lambda token: self.bits[token] or 0.0)))


def _parts(doubt: Uncertainty, width: int, height: int) -> tuple[str, str]:
    """An entropy in its two parts behind the heading, and what goes into a line below it where there is no room."""
    total, aleatoric, epistemic = map(bits, (doubt.total, doubt.aleatoric, doubt.epistemic))
    parts = f"= {aleatoric:.2f} aleatoric + {epistemic:.2f} epistemic"
    whole = f"  {total:.2f} {parts} bits"
    if len(whole) + len("ENTROPY") <= width:
        return whole, ""
    if height >= 3:
        return f"  {total:.2f} bits", parts
    return f"  {total:.2f}, {epistemic:.2f} epistemic", ""
