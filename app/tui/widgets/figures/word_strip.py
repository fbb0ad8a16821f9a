"""Surprisal along a text: a bar over each word while the words fit beside each other, else a column a word."""

from collections.abc import Sequence

from rich.segment import Segment
from textual import events
from textual.message import Message

from likely.app.tui.base.drawing.line_widget import Line, LineWidget
from likely.app.tui.base.text import cells
from likely.app.tui.base.theme import column
from likely.app.tui.chat.inspecting.word_surprisals import WordSurprisal
from likely.app.words.heat import level

TOP = 8.0  # bits at which a bar is full, unless a word has more
HIGHEST = 5  # rows of bars over a line of words
LOW = 6  # rows of columns, with the heading
WIDEST = 4  # cells of a column
LONGEST = 16  # cells of a word


class WordStrip(LineWidget):
    """Bits for each word of a text, all of them in the width; the one at `at` is lit."""

    class WordPointed(Message):
        """A person wants to see a word of the text."""

        def __init__(self, word: WordSurprisal) -> None:
            super().__init__()
            self.word = word

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.words: Sequence[WordSurprisal] = ()
        self.at: int | None = None
        self.stale = ""
        self._top = TOP
        self._spots: list[tuple[range, range, int]] = []  # rows, columns, and the word that is there

    def show(self, words: Sequence[WordSurprisal], at: int | None, stale: str = "") -> None:
        """`at` is the index of a word, None for none; `stale` says why they are not all of the text, and dims them."""
        if (words, at, stale) != (self.words, self.at, self.stale):
            self.words, self.at, self.stale = words, at, stale
            self._top = max([TOP, *(word.bits for word in words if word.bits is not None)])
            self.redraw()

    def rows(self, width: int, most: int) -> int:
        """The rows that it fills of at most so many."""
        count = len(self._named(width))
        share = (most - 1) // count
        return min(most, LOW if share < 2 else 1 + min(share, HIGHEST + 1) * count)

    def lines(self, width: int, height: int) -> Sequence[Line]:
        self._spots = []
        if not self.words or height < 2:
            return [self._heading()]
        named = self._named(width)
        share = (height - 1) // len(named)
        if share < 2:
            return self._columns(width, height - 1)
        rows, drawn = min(share - 1, HIGHEST), [self._heading()]
        for line in named:
            top = len(drawn)
            parts = [(index, name, cells.width(name)) for index, name in line]
            drawn += [
                [s for index, _, size in parts for s in self._bar([index], size, 1, row, rows)]
                for row in reversed(range(rows))
            ]
            drawn.append([s for index, name, _ in parts for s in self._label(index, name)])
            x = 0
            for index, _, size in parts:
                self._spots.append((range(top, len(drawn)), range(x, x + size + 1), index))
                x += size + 1
        return drawn

    def _heading(self, note: str = "") -> Line:
        heading = [Segment("SURPRISAL", self.look.heading), Segment(note or "  by the word", self.look.faint)]
        measured = [index for index, word in enumerate(self.words) if word.bits is not None]
        if self.stale:
            heading.append(Segment(f"  {self.stale}", self.look.faint))
        elif measured:
            most = max(measured, key=lambda index: self.words[index].bits or 0.0)
            here = self.at if self.at in measured else None
            word = self.words[most if here is None else here]
            longest = f"{cells.fit(cells.clean(word.text.strip()), LONGEST)} {word.bits:.1f} bits"
            heading.append(Segment(f"  {longest}" if here is not None else f"  most: {longest}", self.look.text))
        return heading

    def _named(self, width: int) -> list[list[tuple[int, str]]]:
        """The words in lines."""
        name_rows: list[list[tuple[int, str]]] = [[]]
        used = 0
        for index, word in enumerate(self.words):
            name = cells.fit(cells.clean(word.text.strip()), min(LONGEST, width - 1)) or self.glyphs.dot
            if used + cells.width(name) > width and name_rows[-1]:
                name_rows.append([])
                used = 0
            name_rows[-1].append((index, name))
            used += cells.width(name) + 1
        return name_rows

    def _columns(self, width: int, rows: int) -> list[Line]:
        """A column for each word, or for as many as it takes to show all of them."""
        per_column = max(-(-len(self.words) // max(width, 1)), 1)
        size = min(max(width // len(self.words), 1), WIDEST)
        gap = int(size > 2)
        groups = [range(i, min(i + per_column, len(self.words))) for i in range(0, len(self.words), per_column)]
        self._spots = [
            (range(1, rows + 1), range(x * size, (x + 1) * size), max(group, key=self._bits))
            for x, group in enumerate(groups)
        ]
        note = f"  max of {per_column} words a column" if per_column > 1 else ""
        drawn = [self._heading(note)]
        for row in reversed(range(rows)):
            segments = [s for group in groups for s in self._bar(group, size - gap, gap, row, rows)]
            drawn.append(list(Segment.simplify(segments)))
        return drawn

    def _bits(self, index: int) -> float:
        return self.words[index].bits or 0.0

    def _bar(self, group: Sequence[int], size: int, gap: int, row: int, rows: int) -> list[Segment]:
        """A row of the bar over some words, which is as high as the highest of them."""
        measured = any(self.words[index].bits is not None for index in group)
        glyph = column(max(map(self._bits, group)) / self._top, row, rows, self.glyphs) if measured else " "
        style = self.look.chosen_bar if self.at in group else self.look.bar_cut if self.stale else self.look.bar
        return [Segment(glyph * size, style), Segment(" " * gap)]

    def _label(self, index: int, name: str) -> list[Segment]:
        if self.stale:
            return [Segment(name, self.look.faint), Segment(" ")]
        style = self.look.chosen if index == self.at else self.look.heat[level(self.words[index].bits)]
        return [Segment(name, style if style else self.look.text), Segment(" ")]

    def on_click(self, event: events.Click) -> None:
        """To a word."""
        offset = event.get_content_offset(self)
        if offset is None:
            return
        for rows, columns, index in self._spots:
            if offset.y in rows and offset.x in columns:
                self.post_message(self.WordPointed(self.words[index]))
                return
