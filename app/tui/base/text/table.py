"""Tables of Markdown (GFM, section 4.10): their cells in the source, and how wide their columns are on the screen."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from likely.app.tui.base.text.lines import line_at
from likely.app.tui.base.text.wrap import NOBODY, CellRow, Span, Wrap

GAP = 3  # columns between two cells
LEAST = 5  # columns that a cell is not made narrower than
RULE = 1  # the number of the line below the heading

_WHOLE = re.compile(r"[ \t]*\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$")
_BEGUN = re.compile(r"[ \t|:-]+$")
_CELL = re.compile(r"(?:\\.|[^|\\]|\\$)*")


class TableLine(NamedTuple):
    """A line, and the places of its cells in it, without the spaces around them."""

    start: int
    end: int
    cells: tuple[tuple[int, int], ...]


class Table(NamedTuple):
    """A table in a text: its heading, the rule below that, and its rows; whether the columns are aligned to the left
    (<), the right (>) or centred (^); and whether more text can make no more rows of it."""

    lines: tuple[TableLine, ...]
    aligned: tuple[str, ...]
    sure: bool

    @property
    def start(self) -> int:
        return self.lines[0].start

    @property
    def end(self) -> int:
        """The end of its last line, before the line break."""
        return self.lines[-1].end


def find(text: str, at: int, growing: bool) -> Table | None:
    """The table whose heading is the line at a place, which begins with a bar so that this is certain before it ends;
    None where the next line does not say so. One that is still
    `growing` may be in the middle of that line."""
    stop = text.find("\n", at)
    if stop < 0 or not text[at:stop].lstrip().startswith("|"):
        return None
    head, (rule, end, whole) = _row(text, at, stop), line_at(text, stop + 1)
    aligned = tuple(_alignment(text[a:b]) for a, b in _row(text, stop + 1, end).cells)
    if whole or not growing:
        if not _WHOLE.match(rule) or len(aligned) != len(head.cells):
            return None
    elif not _BEGUN.match(rule) or len(aligned) > len(head.cells):
        return None
    lines, sure = [head, TableLine(stop + 1, end, ())], False
    while whole:
        line, after, whole = line_at(text, end + 1)
        if not line.lstrip().startswith("|"):
            sure = whole
            break
        lines.append(_row(text, end + 1, after))
        end = after
    return Table(tuple(lines), aligned, sure)


def fit(natural: Sequence[int], room: int) -> list[int] | None:
    """The widths of columns in so much room: the widest give way first; None where there is too little."""
    room -= GAP * (len(natural) - 1)
    if sum(min(width, LEAST) for width in natural) > room:
        return None
    widths = [min(width, room) for width in natural]
    while sum(widths) > room:
        widths[widths.index(max(widths))] -= 1
    return widths


def beside(gaps: Sequence[CellRow]) -> int:
    """Columns that the signs of a row take beyond those between its cells."""
    edges, between = (gaps[0], gaps[-1]), gaps[1:-1]
    return sum(gap.width for gap in edges) + sum(max(gap.width - GAP, 0) for gap in between)


def side_by_side(
    margin: tuple[Span, ...],
    gaps: Sequence[CellRow],
    inside: Sequence[CellRow],
    widths: Sequence[int],
    aligned: Sequence[str],
    first: int,
) -> list[CellRow]:
    """A row's cells in their columns, on as many rows as the longest takes. There is a gap before each cell, and one
    after the last."""
    wrapped = [_within(cell, width) for cell, width in zip(inside, widths, strict=False)]
    rows = []
    for number in range(max((len(rows) for rows in wrapped), default=1)):
        row = CellRow(first)
        row.spans += margin
        for column, cell in enumerate(wrapped):
            _gap(row, gaps[column] if number == 0 else None, GAP if column else 0)
            here = cell[number] if number < len(cell) else CellRow(first)
            free = widths[column] - here.width
            sort = aligned[column] if column < len(aligned) else "<"
            before = free if sort == ">" else free // 2 if sort == "^" else 0
            _pad(row, before)
            row.spans += here.spans
            _pad(row, free - before)
        if number == 0:
            _gap(row, gaps[-1], 0)
        row.width = sum(span.width for span in row.spans)
        row.word = len(row.spans)
        rows.append(row)
    return rows


def _within(cell: CellRow, width: int) -> list[CellRow]:
    """A cell's rows in a column."""
    if cell.width <= width:
        return [cell]
    wrap = Wrap(width + 1)
    for span in cell.spans:
        wrap.put(span.token, span.text, span.face)
    for row in wrap.rows:  # what hangs there would stand in the gap
        while row.width > width:
            last = row.spans.pop()
            row.width -= last.width
            fitting = last.text[: max(width - row.width, 0)]
            row.spans.append(last._replace(text=fitting, width=len(fitting)))
            row.width += len(fitting)
    return wrap.rows


def _gap(row: CellRow, signs: CellRow | None, size: int) -> None:
    if signs is not None:
        row.spans += signs.spans
        size -= signs.width
    _pad(row, size)


def _pad(row: CellRow, size: int) -> None:
    if size > 0:
        row.spans.append(Span(NOBODY, " " * size, size))


def _row(text: str, start: int, end: int) -> TableLine:
    """A line cut at its bars; those at either end enclose it."""
    cells, at = [], start
    first = start + len(text[start:end]) - len(text[start:end].lstrip())
    if text[first : first + 1] == "|":
        at = first + 1
    while at <= end:
        match = _CELL.match(text, at, end)
        stop = match.end() if match is not None else end
        inside = text[at:stop]
        if stop < end or inside.strip():
            begin = at + len(inside) - len(inside.lstrip())
            cells.append((begin, begin + len(inside.strip())) if inside.strip() else (at, at))
        at = stop + 1
    return TableLine(start, end, tuple(cells))


def _alignment(mark: str) -> str:
    return "^" if mark[:1] == mark[-1:] == ":" and len(mark) > 1 else ">" if mark[-1:] == ":" else "<"
