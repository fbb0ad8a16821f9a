"""Markdown as rows of tokens: headings, lists, quotes, code, tables and rules, as they come.

Signs are hidden or drawn as what they mean, but every token keeps its number and its cells, so a text is walked and
tinted as it would be without. More text renders only what is open: a paragraph from where nothing in it is, a line of
code, a table. A line break stays one. Not known: headings that are underlined, HTML, links by reference, tables that
do not begin with a bar; whether a paragraph belongs to a list is told by its indentation alone.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import zip_longest
from typing import NamedTuple

from likely.app.tui.base.text import cells, table
from likely.app.tui.base.text.highlight import Highlight, LexerState
from likely.app.tui.base.text.inline import Inline, inline
from likely.app.tui.base.text.lines import (
    CLOSING,
    FENCE,
    HEADING,
    INDENTED,
    INTERRUPTING,
    ITEM,
    MAYBE_RULER,
    QUOTE,
    RULER,
    closes,
    is_code,
    line_at,
    lists,
)  # fmt: skip
from likely.app.tui.base.text.text_style import BOLD, CODE, MARKUP, RULE, TITLE
from likely.app.tui.base.text.wrap import NOBODY, CellRow, RowMark, Span, Wrap

BULLET, BAR, LINE = "•", "│", "─"
MARGIN = 1  # columns before a list or a table
BOUNDLESS = 1 << 30  # columns


class _Fence(NamedTuple):
    """A fence that is open: its sign, how far it is indented, and the highlighting so far."""

    sign: str
    indent: int
    highlight: Highlight
    lexer: LexerState


@dataclass(frozen=True, slots=True)
class LineState:
    """All that a line's meaning depends on: the fence around it, whether a list may go on, whether the line before is
    blank, and the margin of the paragraph that one is in the middle of."""

    fence: _Fence | None = None
    listed: bool = False
    blank: bool = True
    paragraph: tuple[Span, ...] | None = None


class _Anchor(NamedTuple):
    """Where rendering goes on: all before is settled."""

    at: int
    token: int
    mark: RowMark
    state: LineState


class Markdown:
    """Tokens of a message as Markdown, in a `Wrap`. The token `raw` is shown as it was written; while `growing`, what
    has been opened is taken as closed by the end."""

    def __init__(
        self, width: int, first: int = 0, *, listed: bool = False, raw: int = NOBODY, growing: bool = False
    ) -> None:
        self.wrap = self._into = Wrap(width, first)
        self.raw, self.growing = raw, growing
        self.changed: set[int] = set()  # tokens that are not shown as they were written
        self.text = ""
        self._first = first
        self._ends: list[int] = []  # of each token, in the text
        self._apart: dict[int, str] = {}  # tokens that are no part of the text
        self._token = 0
        self._state = LineState(listed=listed)
        self._anchor = _Anchor(0, 0, self.wrap.mark(), self._state)

    @property
    def ended(self) -> bool:
        """Whether the next text is independent of this one, except that a list may go on."""
        return self._state.fence is None and self._state.blank and self._anchor.at == len(self.text)

    @property
    def listed(self) -> bool:
        """Whether a list may go on."""
        return self._state.listed

    def push(self, tokens: Iterable[tuple[str, bool]]) -> int:
        """Append tokens: their text, and whether it stands apart, no Markdown. Gives the first row that changed."""
        grown, size = [self.text], len(self.text)
        for text, apart in tokens:
            text = cells.clean(text)
            if apart:
                self._apart[len(self._ends)] = text
            else:
                grown.append(text)
                size += len(text)
            self._ends.append(size)
        self.text = "".join(grown)
        anchor, wrap = self._anchor, self.wrap
        old, self._token, self._state = wrap.back(anchor.mark), anchor.token, anchor.state
        at = anchor.at
        while at < len(self.text):
            wrap.hang, wrap.fill, wrap.hard = (), 0, False
            at = self._construct(at)
        self._reach(len(self._ends))
        wrap.count = self._first + len(self._ends)
        first = anchor.mark.rows - 1
        both = zip(old, wrap.rows[first:], strict=False)
        changed = next((i for i, (was, now) in enumerate(both) if was.drawn != now.drawn), None)
        return first + min(len(old), len(wrap.rows) - first) if changed is None else first + changed

    # -- tokens ------------------------------------------------------------------------------------------------------

    def _reach(self, token: int) -> None:
        """Be at a token; those on the way that stand apart are shown there."""
        while self._token < token:
            if self._token in self._apart:
                self.wrap.put(self._first + self._token, self._apart[self._token])
            self._token += 1

    def _seek(self, at: int) -> int:
        """The token that a character belongs to."""
        ends, token = self._ends, self._token
        while ends[token] <= at:
            token += 1
        self._reach(token)
        return self._first + token

    def _put(self, start: int, end: int, shown: str | None = None, face: int = 0) -> None:
        """The characters from start to end; or what is `shown` for them, as their first token's."""
        while start < end:
            token = self._seek(start)
            stop = min(end, self._ends[self._token])
            if shown is None:
                self._into.put(token, self.text[start:stop], face)
            else:
                self.changed.add(token)
                if token == self.raw:
                    self._into.put(token, self.text[start:stop], face | MARKUP)
                elif shown:
                    self._into.put(token, shown, face)
                shown = ""
            start = stop

    def _lead(self, at: int) -> None:
        """Begin a row in the margin, for the token of a character."""
        if self.wrap.hang:
            self.wrap.lead(self._seek(at), self.wrap.hang)

    def _settle(self, at: int) -> None:
        self._anchor = _Anchor(at, self._token, self.wrap.mark(), self._state)

    def _margin(self, columns: int, face: int = 0) -> tuple[Span, ...]:
        columns = min(columns, self.wrap.limit // 2)
        return (Span(NOBODY, " " * columns, columns, face),) if columns else ()

    def _raw_width(self, start: int, end: int) -> int:
        """Cells of what the raw token shows of some characters."""
        index = self.raw - self._first
        if not 0 <= index < len(self._ends) or index in self._apart:
            return 0
        return cells.width(self.text[max(start, self._ends[index - 1] if index else 0) : min(end, self._ends[index])])

    # -- constructs --------------------------------------------------------------------------------------------------

    def _construct(self, at: int) -> int:
        """Render what begins at a place; gives where it ends."""
        state = self._state
        if state.paragraph is not None:
            return self._paragraph(at, state.paragraph)
        line, end, whole = line_at(self.text, at)
        if state.fence is not None:
            return self._code(state.fence, line, at, end, whole)
        after = LineState(listed=lists(line, state.listed, state.blank), blank=False)
        if not line.strip():
            self._put(at, end)
            return self._end(end, whole, LineState(listed=state.listed))
        if (match := FENCE.match(line)) is not None:
            self._state = after
            return self._open(match, at, end, whole)
        if (match := HEADING.match(line)) is not None:
            self._heading(at, at + match.end(), end, whole)
            return self._end(end, whole, after)
        if RULER.match(line):
            self._put(at, end, LINE * (self.wrap.limit - self._raw_width(at, end)), MARKUP | RULE)
            return self._end(end, whole, after)
        if (match := QUOTE.match(line)) is not None:
            self._quote(at, at + match.end(), end)
            return self._end(end, whole, after)
        if (match := ITEM.match(line)) is not None:
            return self._item(match, at)
        if is_code(line, state.listed, state.blank) and (match := INDENTED.match(line)) is not None:
            self._pad(0, at)
            self._put(at, at + match.end(), "", CODE)
            self._put(at + match.end(), end, None, CODE)
            return self._end(end, whole, LineState())
        self._state = after
        if (grid := self._table_at(at)) is not None:
            return self._table(grid)
        margin = self._margin(len(line) - len(line.lstrip()) + MARGIN) if after.listed and line[0] in " \t" else ()
        return self._paragraph(at, margin)

    def _end(self, end: int, whole: bool, after: LineState) -> int:
        """The end of a line that is settled once it is whole."""
        self._state = after
        if whole:
            self._put(end, end + 1)
            self._settle(end + 1)
        return end + whole

    def _heading(self, at: int, first: int, end: int, whole: bool) -> None:
        words = self.text[first:end]
        last = first + len(CLOSING.sub("", words)) if whole or not self.growing else end
        self._put(at, first, "", TITLE)
        self._inline(first, last, TITLE)
        self._put(last, end, "", TITLE)

    def _quote(self, at: int, first: int, end: int) -> None:
        bars = (BAR + " ") * min(self.text.count(">", at, first), max(self.wrap.limit // 4, 1))
        self._put(at, first, bars, MARKUP)
        self.wrap.hang = (Span(NOBODY, bars, len(bars), MARKUP),)
        match = ITEM.match(self.text[first:end])
        if match is not None and match.group(2) in "-*+":
            self._put(first, first + match.end(), f" {BULLET} ", MARKUP)
            self.wrap.hang += self._margin(len(BULLET) + 2)
            first += match.end()
        self._inline(first, end, 0)

    def _item(self, match: re.Match[str], at: int) -> int:
        indent, sign, space = (len(part) for part in match.groups())
        self.wrap.hang = self._margin(indent + MARGIN)
        self._lead(at)
        self._put(at, at + indent, "")
        bullet = BULLET if match.group(2) in "-*+" else None
        self._put(at + indent, at + indent + sign, bullet, MARKUP if bullet else 0)
        self._put(at + indent + sign, at + match.end(), None if space == 1 else " ")
        self._state = LineState(listed=True)
        return self._paragraph(at + match.end(), self._margin(indent + sign + 1 + MARGIN), begun=True)

    # -- paragraphs --------------------------------------------------------------------------------------------------

    def _paragraph(self, at: int, hang: tuple[Span, ...], *, begun: bool = False) -> int:
        """A paragraph from a place on; `begun` where its first line has a margin already."""
        end, sure = self._extent(at)
        listed, resumed = self._state.listed, self._state.paragraph is not None
        self.wrap.hang = hang
        self._state = LineState(listed=listed, blank=False, paragraph=hang)
        if not resumed and not begun:
            at = self._break(at, end)
        self._inline(at, end, 0, settling=True)
        self._state = LineState(listed=listed, blank=False)
        if end == len(self.text):
            return end
        self._put(end, end + 1)
        if sure:
            self._settle(end + 1)
        return end + 1

    def _extent(self, at: int) -> tuple[int, bool]:
        """Where a paragraph ends, before a line break or with the text, and whether more text cannot change that."""
        _, end, whole = line_at(self.text, at)
        while whole and end + 1 < len(self.text):
            line, after, next_whole = line_at(self.text, end + 1)
            if not line.strip():
                if next_whole:
                    return end, True
            elif any(kind.match(line) for kind in INTERRUPTING):
                return end, next_whole
            elif (grid := self._table_at(end + 1)) is not None:
                return end, grid.lines[table.RULE].end < len(self.text)
            end, whole = after, next_whole
        return end, False

    def _inline(self, start: int, end: int, face: int, *, settling: bool = False) -> None:
        """The words of a paragraph. Where it is `settling`, rendering goes on after the last that are certain."""
        text, at_end = self.text[start:end], end + 1 >= len(self.text)
        spans = inline(text, self.growing and at_end)
        settled = start + self._certain(start, text, spans) if settling and at_end else start
        for run in spans.runs:
            first, last, bits = start + run.start, start + run.end, face | run.face
            if run.shown is not None:
                self._put(first, last, run.shown, bits)
            elif first < settled <= last:
                self._words(first, settled, bits)
                self._settle(settled)
                self._words(settled, last, bits)
            else:
                self._words(first, last, bits)

    def _certain(self, start: int, text: str, spans: Inline) -> int:
        """The last settled place of a paragraph's text, in a line of which it is certain that it goes on with it."""
        at = spans.settled(text, len(text))
        while at > 0:
            begin = self.text.rfind("\n", 0, start + at) + 1
            line = line_at(self.text, begin)[0]
            before = self.text[begin : start + at].strip()
            if not line.lstrip().startswith("|") and not MAYBE_RULER.match(line) and (before or begin <= start):
                return at
            at = spans.settled(text, max(begin - start, 0))
        return 0

    def _words(self, start: int, end: int, face: int) -> None:
        """Text as it is, its lines beginning in the margin."""
        while start < end:
            stop = self.text.find("\n", start, end)
            if stop < 0:
                self._put(start, end, None, face)
                return
            self._put(start, stop + 1, None, face)
            start = self._break(stop + 1, end)

    def _break(self, at: int, end: int) -> int:
        """Begin a line in the margin, in place of the spaces that it begins with; gives where its words begin."""
        first = at
        while first < end and self.text[first] in " \t":
            first += 1
        if at < len(self.text):
            self._lead(at)
        self._put(at, first, "")
        return first

    # -- code --------------------------------------------------------------------------------------------------------

    def _open(self, match: re.Match[str], at: int, end: int, whole: bool) -> int:
        """The line that begins a block of code: the name of the language."""
        indent, sign, named = match.groups()
        fence = _Fence(sign, len(indent), _highlight((named.split() or [""])[0]), LexerState(end + 1))
        self._pad(fence.indent, at)
        self._put(at, at + match.start(3), "", CODE)
        self._put(at + match.start(3), end, None, CODE | MARKUP)
        return self._end(end, whole, LineState(fence, self._state.listed, blank=False))

    def _pad(self, indent: int, at: int) -> None:
        """Begin a row of code."""
        self.wrap.hard, self.wrap.fill = True, CODE
        self.wrap.hang = (*self._margin(indent), *self._margin(1, CODE))
        self._lead(at)

    def _code(self, fence: _Fence, line: str, at: int, end: int, whole: bool) -> int:
        """A line of code, or the end of it."""
        self._pad(fence.indent, at)
        if closes(line, fence.sign):
            self._put(at, end, "", CODE)
            return self._end(end, whole, LineState(listed=self._state.listed, blank=False))
        first = at + min(len(line) - len(line.lstrip(" ")), fence.indent)
        self._put(at, first, "", CODE)
        faces, lexer = fence.highlight.line(self.text, fence.lexer, first, end + whole)
        for start, stop, face in faces:
            stop = min(stop, end)
            self._put(first, min(start, end), None, CODE)
            self._put(max(first, start), stop, None, CODE | face)
            first = max(first, stop)
        self._put(first, end, None, CODE)
        return self._end(end, whole, LineState(fence._replace(lexer=lexer), self._state.listed, blank=False))

    # -- tables ------------------------------------------------------------------------------------------------------

    def _table_at(self, at: int) -> table.Table | None:
        """The table that begins with the line at a place, if there is one."""
        return table.find(self.text, at, self.growing)

    def _table(self, grid: table.Table) -> int:
        """A table, its columns aligned; as it was written where there is too little room."""
        here, wrap, begin = self._token, self.wrap, self.text[grid.start : grid.end]
        wrap.hang = self._margin(MARGIN + len(begin) - len(begin.lstrip()))
        room = wrap.limit - sum(span.width for span in wrap.hang)
        laid = [(self._seek(row.start), *self._cells(row, number == 0)) for number, row in enumerate(grid.lines)]
        columns = zip_longest(*([cell.width for cell in inside] for _, _, inside in laid), fillvalue=0)
        natural = [max(column) for column in columns]
        beside = max(table.beside(gaps) for _, gaps, _ in laid)  # signs that are shown as they were written
        widths = table.fit(natural, room - beside) or table.fit(natural, room)
        self._token = here
        if widths is None:
            wrap.hang = ()
            self._put(grid.start, grid.end)
            return self._table_end(grid)
        for number, (row, (token, gaps, inside)) in enumerate(zip(grid.lines, laid, strict=True)):
            if number == table.RULE:
                self._lead(row.start)
                size = sum(widths) + table.GAP * (len(widths) - 1) - self._raw_width(row.start, row.end)
                self._put(row.start, row.end, LINE * size, MARKUP | RULE)
            else:
                wrap.paste(table.side_by_side(wrap.hang, gaps, inside, widths, grid.aligned, token), token)
            if row.end < grid.end:
                self._put(row.end, row.end + 1)
        return self._table_end(grid)

    def _table_end(self, grid: table.Table) -> int:
        if grid.end == len(self.text):
            return grid.end
        self._put(grid.end, grid.end + 1)
        if grid.sure:
            self._settle(grid.end + 1)
        return grid.end + 1

    def _cells(self, row: table.TableLine, heading: bool) -> tuple[list[CellRow], list[CellRow]]:
        """The signs before each cell of a row and after the last one, and the cells, each on a row of its own."""
        gaps: list[CellRow] = []
        inside: list[CellRow] = []
        at = row.start
        for start, end in row.cells:
            gaps.append(self._between(at, start, " " * table.GAP if inside else ""))
            self._into = Wrap(BOUNDLESS)
            self._inline(start, end, BOLD | MARKUP if heading else 0)
            inside.append(self._into.rows[0])
            at = end
        gaps.append(self._between(at, row.end, ""))
        self._into = self.wrap
        return gaps, inside

    def _between(self, start: int, end: int, shown: str) -> CellRow:
        """The signs between two cells, on a row of their own."""
        self._into = Wrap(BOUNDLESS)
        self._put(start, end, shown, MARKUP)
        return self._into.rows[0]


@lru_cache(8)
def _highlight(language: str) -> Highlight:
    return Highlight(language)
