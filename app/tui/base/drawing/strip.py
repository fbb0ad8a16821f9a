"""A vector as a strip of dots, two in a cell: blue above 0, orange below, brighter the larger.

Where it has more numbers than dots a dot is the largest of its neighbours. Knows nothing of what the numbers are.
"""

from functools import cache

import numpy as np
from rich.color import Color, blend_rgb
from rich.style import Style

from likely.app.tui.base.drawing.canvas import LEVELS, Canvas

STEPS = 12  # of brightness on either side of 0


def strip(sheet: Canvas, x: int, y: int, vector: np.ndarray, width: int, rows: int = 1) -> None:
    """Draw a vector [n] into rows of `width` cells, as bright as the largest of its numbers lets it be."""
    full, look = width * rows * 2, sheet.look
    if not len(vector) or width < 1:
        return
    dots = _largest(np.asarray(vector, np.float64), full)
    width = -(-len(dots) // (rows * 2))  # all rows are of one length
    shares = np.sign(dots) * np.sqrt(np.abs(dots) / (np.abs(vector).max() or 1.0))
    colours = look.bar.color, look.accent.color, look.tiles[0].bgcolor if look.tiles else None
    for row in range(rows):
        upper, lower = (shares[(2 * row + half) * width : (2 * row + half + 1) * width] for half in (0, 1))
        for column, high in enumerate(upper):
            low = float(lower[column]) if column < len(lower) else 0.0
            if all(colour is not None for colour in colours):
                ink = _pair(round(float(high) * STEPS), round(low * STEPS), colours)
                sheet.put(x + column, y + row, "▀" if sheet.glyphs.full == "━" else " ", ink)
                continue
            larger = float(high) if abs(high) >= abs(low) else low
            sign = "-" if larger < 0 and look.bar.color is None else LEVELS[round(abs(larger) * 4)]
            sheet.put(x + column, y + row, sign, look.bar if larger > 0 else look.accent)


def dots_each(n: int, width: int, rows: int) -> int:
    """How many of n numbers a dot stands for."""
    return -(-n // (width * rows * 2))


def _largest(vector: np.ndarray, most: int) -> np.ndarray:
    """The number of the largest size among neighbours, so that there are at most so many."""
    each = -(-len(vector) // most)
    groups = np.pad(vector, (0, -len(vector) % each)).reshape(-1, each)
    return np.take_along_axis(groups, np.abs(groups).argmax(axis=1)[:, None], axis=1)[:, 0]


@cache
def _pair(upper: int, lower: int, colours: tuple[Color, Color, Color]) -> Style:
    """A cell of two dots: the upper one in its ink, the lower in its ground."""
    above, below, ground = (colour.get_truecolor() for colour in colours)
    found = [
        Color.from_triplet(blend_rgb(ground, above if step > 0 else below, abs(step) / STEPS))
        for step in (upper, lower)
    ]
    return Style(color=found[0], bgcolor=found[1])
