"""Pages of HTML for a notebook: tables with bars, words with a tint, a heat map, a curve. Text in, text out.

Every text is escaped, all style is inline, and there is no script. Colours are laid thinly over the page's own ground
and take its ink, so that light and dark pages show the same. Knows nothing of models.
"""

from collections.abc import Sequence
from html import escape

AMBER = "200,120,10"  # the tint of surprise
BLUE = "60,120,200"
TINTS = (0.0, 0.14, 0.28, 0.45, 0.65)  # opacity by level, as app.heat has levels
_CELL = "padding:1px 8px;text-align:left;white-space:pre"
_BODY = "font-family:ui-monospace,Menlo,monospace;font-size:13px;line-height:1.5;color:inherit"


def table(
    heads: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "", bars: Sequence[float] | None = None,
    more: int = 0,
) -> str:  # fmt: skip
    """A table; of `bars`, 0 to 1 a row, each is a bar behind its row, the longest as wide as the column of bars."""
    most = max(bars or (), default=0.0) or 1.0
    lines = ["<tr>" + "".join(f"<th style='{_CELL};opacity:.6'>{escape(head)}</th>" for head in heads) + "</tr>"]
    for i, row in enumerate(rows):
        cells = "".join(f"<td style='{_CELL}'>{escape(cell)}</td>" for cell in row)
        if bars is not None:
            width = 100 * max(bars[i], 0.0) / most
            cells += (
                f"<td style='min-width:160px'><div style='width:{width:.1f}%;height:.9em;"
                f"background:rgba({AMBER},.55)'></div></td>"
            )
        lines.append(f"<tr>{cells}</tr>")
    tail = f"<div style='opacity:.6'>… {more} more</div>" if more > 0 else ""
    return _framed(f"<table style='border-collapse:collapse'>{''.join(lines)}</table>{tail}", caption)


def words(pieces: Sequence[tuple[str, int, str]], caption: str = "", colour: str = AMBER) -> str:
    """A text of pieces: each its words, the level 0 to 4 of its tint, and what is said where the pointer rests."""
    spans = "".join(
        f"<span title='{escape(title, quote=True)}' style='background:rgba({colour},{TINTS[level]})'>"
        f"{escape(text)}</span>"
        for text, level, title in pieces
    )
    return _framed(f"<div style='white-space:pre-wrap'>{spans}</div>", caption)


def heat_map(
    rows: Sequence[str], columns: Sequence[str], cells: Sequence[Sequence[tuple[str, float, str]]], caption: str = ""
) -> str:
    """A grid: each cell its words, a share 0 to 1 as its tint, and what is said where the pointer rests."""
    heads = "".join(f"<th style='{_CELL};opacity:.6'>{escape(column)}</th>" for column in columns)
    lines = [f"<tr><th></th>{heads}</tr>"]
    for name, row in zip(rows, cells, strict=True):
        inner = "".join(
            f"<td title='{escape(title, quote=True)}' style='{_CELL};background:rgba({AMBER},{0.65 * share:.2f})'>"
            f"{escape(text)}</td>"
            for text, share, title in row
        )
        lines.append(f"<tr><th style='{_CELL};opacity:.6'>{escape(name)}</th>{inner}</tr>")
    return _framed(f"<table style='border-collapse:collapse'>{''.join(lines)}</table>", caption)


def curve(points: Sequence[tuple[float, float]], held: Sequence[tuple[float, float]] = (), caption: str = "") -> str:
    """A curve through points, and marks at others: SVG of 480 by 160."""
    ends = [*points, *held]
    if not ends:
        return words([], caption)
    low_x, high_x = min(x for x, _ in ends), max(x for x, _ in ends)
    low_y, high_y = min(y for _, y in ends), max(y for _, y in ends)

    def place(x: float, y: float) -> tuple[float, float]:
        return 50 + 420 * (x - low_x) / ((high_x - low_x) or 1), 140 - 120 * (y - low_y) / ((high_y - low_y) or 1)

    line = " ".join(f"{a:.1f},{b:.1f}" for a, b in (place(x, y) for x, y in points))
    marks = "".join(
        f"<circle cx='{a:.1f}' cy='{b:.1f}' r='3' fill='rgb({BLUE})'/>" for a, b in (place(x, y) for x, y in held)
    )
    labels = "".join(
        f"<text x='4' y='{y}' font-size='11' fill='currentColor' opacity='.7'>{value:.3g}</text>"
        for y, value in ((24, high_y), (144, low_y))
    )
    inner = f"<polyline points='{line}' fill='none' stroke='rgb({AMBER})' stroke-width='1.5'/>{marks}{labels}"
    return _framed(f"<svg width='480' height='160' viewBox='0 0 480 160' role='img'>{inner}</svg>", caption)


def _framed(inner: str, caption: str) -> str:
    head = f"<div style='opacity:.75'>{escape(caption)}</div>" if caption else ""
    return f"<div style='{_BODY};overflow-x:auto'>{head}{inner}</div>"
