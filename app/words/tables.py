"""Tables: grids, named values, and rows in columns; with commas, as a picture (SVG), and as lines.

Knows nothing of what stands in them, nor of terminals.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from string import Formatter

CELL, LABEL = 9, 14  # columns of a cell with a word in it, and of a row's name


@dataclass(frozen=True, slots=True)
class Grid:
    """Cells with a share 0 to 1 each, which is their tint, and a text."""

    title: str
    columns: Sequence[str]
    rows: Sequence[str]
    shares: Sequence[Sequence[float]]
    texts: Sequence[Sequence[str]]
    cell: int = CELL
    note: str = ""


@dataclass(frozen=True, slots=True)
class Values:
    """Named numbers, the most telling first."""

    title: str
    rows: Sequence[tuple[str, float]]
    note: str = ""
    unit: str = "value"  # of the numbers


class Columns:
    """Columns of lines, as in `{model:<34} {size:>9}  {where}`: their names, which make the heading, and widths.

    A name may be empty, as in `{:<22} {median:>10}`.
    """

    def __init__(self, form: str) -> None:
        self.columns = [(space, name or "", width or "") for space, name, width, _ in Formatter().parse(form)]

    @property
    def heading(self) -> str:
        return self.line(*(name for _, name, _ in self.columns))

    def line(self, *cells: str) -> str:
        """A row, a text for each column."""
        return "".join(f"{space}{cell:{width}}" for (space, _, width), cell in zip(self.columns, cells, strict=True))


def csv_text(table: Grid | Values) -> str:
    """A table with commas."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if isinstance(table, Grid):
        writer.writerow(["", *table.columns])
        writer.writerows([name, *cells] for name, cells in zip(table.rows, table.texts, strict=True))
    else:
        writer.writerow(["name", table.unit])
        writer.writerows(table.rows)
    return text.getvalue()


def cut(text: str, width: int) -> str:
    """A text in so many columns."""
    return (text if len(text) < width else text[: width - 2] + "…").ljust(width)


def svg(grid: Grid) -> str:
    """The grid as a picture: text on tinted cells, the ramp from white to dark blue."""
    wide, high, left, top = grid.cell * 8, 20, 110, 48
    width, height = left + wide * len(grid.columns) + 8, top + high * len(grid.rows) + 8
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="monospace" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        f'<text x="8" y="18" font-weight="bold">{escape(grid.title)}</text>',
    ]

    def text(x: int, y: int, words: str, colour: str = "#202020") -> str:
        return f'<text x="{x}" y="{y}" fill="{colour}">{escape(words)}</text>'

    for i, name in enumerate(grid.columns):
        parts.append(text(left + wide * i + 3, top - 6, cut(name, grid.cell).rstrip()))
    for j, (label, shares, texts) in enumerate(zip(grid.rows, grid.shares, grid.texts, strict=True)):
        y = top + high * j
        parts.append(text(8, y + 14, cut(label, LABEL).rstrip()))
        for i, (share, words) in enumerate(zip(shares, texts, strict=True)):
            share = min(max(share, 0.0), 1.0)
            red, green, blue = (round(255 + (to - 255) * share) for to in (39, 80, 143))
            x = left + wide * i
            parts.append(
                f'<rect x="{x}" y="{y}" width="{wide - 1}" height="{high - 1}" fill="rgb({red},{green},{blue})"/>'
            )
            parts.append(text(x + 3, y + 14, cut(words, grid.cell).rstrip(), "#ffffff" if share > 0.5 else "#202020"))
    return "\n".join([*parts, "</svg>"])
