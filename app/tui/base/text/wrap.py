"""Tokens into rows: a greedy, word-aware wrap that only ever touches the last row, so a stream costs what it adds.

A word may be made of several tokens and a token may hold several words; every row knows which token owns which cells.
Spaces at the end of a row hang in the spare column; a line break owns one cell, so that a cursor on it can be seen.
"""

from bisect import bisect_right
from typing import NamedTuple

from likely.app.tui.base.text import cells

NOBODY = -1  # the token of cells that stand for no text: margins, padding


class Span(NamedTuple):
    """Cells of one row that belong to one token, in its face."""

    token: int
    text: str
    width: int
    face: int = 0


class CellRow:
    """One line of cells. `word` is the index of the first span of its last word, where it may be broken; `lead` is how
    many spans it begins with that are nobody's, `fill` the face of what is left of it."""

    __slots__ = ("broken", "fill", "first", "lead", "spans", "width", "word")

    def __init__(self, first: int) -> None:
        self.first = first  # the first token that has cells here, or the next to come
        self.spans: list[Span] = []
        self.width = 0
        self.word = 0
        self.broken = False  # ends in a line break
        self.fill = self.lead = 0

    @property
    def drawn(self) -> tuple[list[Span], int]:
        """The spans and the fill: equal for rows that look alike."""
        return self.spans, self.fill

    @property
    def text(self) -> str:
        return "".join(span.text for span in self.spans)

    def own_text(self, start: int = 0, end: int | None = None) -> str:
        """The text between two of its characters, without what is nobody's and the line break."""
        parts, at = [], 0
        for span in self.spans:
            if span.token != NOBODY:
                parts.append(span.text[max(start - at, 0) : None if end is None else max(end - at, 0)])
            at += len(span.text)
        return "".join(parts).rstrip("\n")

    def at(self, x: int) -> int | None:
        """The token at a column: the next one in a margin, the last one beyond the end, None on an empty row."""
        token = None
        for span in self.spans:
            x -= span.width
            if span.token != NOBODY:
                token = span.token
            if x < 0 and token is not None:
                return token
        return token


class RowMark(NamedTuple):
    """A place at the end of the rows, to go back to."""

    rows: int
    first: int
    spans: tuple[Span, ...]
    width: int
    word: int
    lead: int
    fill: int


class Wrap:
    """Rows of tokens within `width` columns, the last of which is kept for what hangs. `first` numbers the tokens.

    `hang` begins every row that goes on with what did not fit on the one before, `fill` is the face of what such rows
    leave free, and `hard` breaks anywhere instead of between words.
    """

    _face: int  # of what is put now

    def __init__(self, width: int, first: int = 0) -> None:
        self.width = max(width, 2)
        self.limit = self.width - 1
        self.rows: list[CellRow] = [CellRow(first)]
        self.firsts: list[int] = [first]
        self.count = first  # the number of the next token
        self.hang: tuple[Span, ...] = ()
        self.fill = 0
        self.hard = False

    def push(self, text: str) -> int:
        """Append the next token; gives the first row that changed."""
        dirty = len(self.rows) - 1
        self.count += 1
        self.put(self.count - 1, cells.clean(text))
        return dirty

    def put(self, token: int, text: str, face: int = 0) -> None:
        """Append more cells of a token: cleaned text, in a face."""
        self._face = face
        for run in cells.runs(text):
            if run == "\n":
                self._newline(token)
            elif run[0] in " \u00a0":
                self._spaces(token, run)
            elif run == "\t":
                self._spaces(token, " " * (cells.TAB - self.rows[-1].width % cells.TAB))
            else:
                self._text(token, run)

    def lead(self, token: int, spans: tuple[Span, ...]) -> None:
        """Begin a row with cells of nobody; what comes then is the token's."""
        row = self.rows[-1]
        self._own(row, token)
        self._begin(row, spans)

    def paste(self, rows: list[CellRow], first: int) -> None:
        """Rows that were laid out elsewhere, in the place of the last one, which is empty; `first` is their token."""
        self.rows[-1:] = rows
        self.firsts[-1:] = [first] * len(rows)
        for row in rows:
            row.first = first

    def mark(self) -> RowMark:
        """Where it ends now."""
        row = self.rows[-1]
        return RowMark(len(self.rows), row.first, tuple(row.spans), row.width, row.word, row.lead, row.fill)

    def back(self, mark: RowMark) -> list[CellRow]:
        """End there again; gives the rows that were there from then on."""
        gone = self.rows[mark.rows - 1 :]
        row = CellRow(mark.first)
        row.spans, row.width, row.word, row.lead, row.fill = list(mark.spans), *mark[3:]
        self.rows[mark.rows - 1 :] = [row]
        self.firsts[mark.rows - 1 :] = [mark.first]
        return gone

    def close(self) -> None:
        """End after a line break: the row that it began belongs to what follows."""
        self.rows.pop()
        self.firsts.pop()

    def _text(self, token: int, run: str) -> None:
        """A run without spaces: marks for the cluster before it, then words; a line may break beside a wide one."""
        if not run.isascii():
            marks = 0
            while marks < len(run) and cells.cell(run[marks]) == 0:
                marks += 1
            if marks:
                self._marks(token, run[:marks])
                run = run[marks:]
        if not run:
            return
        if not cells.has_wide(run):
            self._word(token, run, cells.width(run))
            return
        for cluster, size in cells.clusters(run):
            if size == 2:
                self.rows[-1].word = len(self.rows[-1].spans)
            self._word(token, cluster, size)
            if size == 2:
                self.rows[-1].word = len(self.rows[-1].spans)

    def rows_of(self, token: int) -> range:
        """The rows that a token has cells in; the row of the next token that has some, for one without."""
        last = bisect_right(self.firsts, token) - 1
        first = last
        while first > 0 and (self.firsts[first] == token or self.firsts[first] == self.firsts[first - 1]):
            first -= 1
        owned = [y for y in range(first, last + 1) if any(span.token == token for span in self.rows[y].spans)]
        return range(owned[0], owned[-1] + 1) if owned else range(max(last, 0), max(last, 0) + 1)

    def place(self, token: int) -> tuple[int, int]:
        """Row and column where a token begins to be seen: its first cell that is not blank, else its first."""
        blank: tuple[int, int] | None = None
        for y in self.rows_of(token):
            x = 0
            for span in self.rows[y].spans:
                if span.token == token:
                    if span.text.strip():
                        return y, x
                    blank = blank or (y, x)
                x += span.width
        return blank or (self.rows_of(token)[0], 0)

    def _own(self, row: CellRow, token: int) -> None:
        row.first = token
        self.firsts[-1] = token

    def _add(self, token: int, text: str, width: int) -> None:
        row = self.rows[-1]
        if not row.spans:
            self._own(row, token)
        row.spans.append(Span(token, text, width, self._face))
        row.width += width

    def _open(self, first: int) -> CellRow:
        row = CellRow(first)
        self.rows.append(row)
        self.firsts.append(first)
        return row

    def _begin(self, row: CellRow, spans: tuple[Span, ...]) -> None:
        row.spans += spans
        row.width += sum(span.width for span in spans)
        row.word = row.lead = len(row.spans)
        row.fill = self.fill

    def _go_on(self, first: int) -> CellRow:
        """A row for what did not fit on the last one."""
        row = self._open(first)
        self._begin(row, self.hang)
        return row

    def _newline(self, token: int) -> None:
        row = self.rows[-1]
        self._add(token, "\n", 1 if row.width < self.width else 0)
        row.broken = True
        self._open(token + 1)

    def _spaces(self, token: int, run: str) -> None:
        row = self.rows[-1]
        if self.hard and row.width + len(run) > self.limit:
            self._hard(token, run)
            return
        room = self.width - row.width
        shown = run[: max(room, 0)]
        # what does not fit has no cells, but a token of spaces alone keeps a place
        if shown or row.spans[-1].token != token:
            self._add(token, shown, len(shown))
        row.word = len(row.spans)

    def _marks(self, token: int, marks: str) -> None:
        row = self.rows[-1]
        if not row.width or len(row.spans) == row.lead:
            self._add(token, cells.DOTTED + marks, 1)
            return
        between = row.word == len(row.spans)
        self._add(token, marks, 0)
        if between:  # on a space or a wide character: no word has begun
            row.word = len(row.spans)

    def _word(self, token: int, run: str, size: int) -> None:
        row = self.rows[-1]
        if row.width + size <= self.limit:
            self._add(token, run, size)
            return
        if self.hard:
            self._hard(token, run)
            return
        if row.word > row.lead:  # the word so far comes along
            moved = row.spans[row.word :]
            del row.spans[row.word :]
            size_moved = sum(span.width for span in moved)
            row.width -= size_moved
            row = self._go_on(moved[0].token if moved else token)
            row.spans += moved
            row.width += size_moved
        self._hard(token, run)

    def _hard(self, token: int, run: str) -> None:
        """A word longer than a row: filled cluster by cluster."""
        text, used = "", 0
        for cluster, size in cells.clusters(run):
            if self.rows[-1].width + used + size > self.limit and (used or self.rows[-1].width):
                if text:
                    self._add(token, text, used)
                self._go_on(token)
                text, used = "", 0
            text, used = text + cluster, used + size
        if text:
            self._add(token, text, used)
