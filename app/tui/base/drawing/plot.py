"""Curves as data and as braille: every cell is two columns and four rows of dots. Plain numpy; how they look is the
chart's.

A chart has a `Frame`, the range of values that its cells stand for. Long curves are first thinned to the lowest and the
highest value of every dot column, so that no spike is lost and a million steps cost no more than the width.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BRAILLE = 0x2800
BITS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]], np.uint8)  # [row, column] of a cell's dots


@dataclass(frozen=True, slots=True)
class Frame:
    """The values at the edges of `width` x `height` cells."""

    left: float
    right: float
    bottom: float
    top: float
    width: int
    height: int

    def dots(self, xs: np.ndarray, ys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where values fall, in dots from the upper left corner; those above and below are held at the edge."""
        x = (xs - self.left) / ((self.right - self.left) or 1.0) * (2 * self.width - 1)
        y = (self.top - ys) / ((self.top - self.bottom) or 1.0) * (4 * self.height - 1)
        return x, np.clip(y, 0, 4 * self.height - 1)

    def column(self, x: float) -> int:
        """The cell column of a value."""
        share = (x - self.left) / ((self.right - self.left) or 1.0)
        return min(max(round(share * (self.width - 1)), 0), self.width - 1)

    def row(self, y: float) -> int:
        """The cell row of a value."""
        share = (self.top - y) / ((self.top - self.bottom) or 1.0)
        return min(max(round(share * (self.height - 1)), 0), self.height - 1)


Values = Sequence[float] | np.ndarray


@dataclass(frozen=True, slots=True)
class Curve:
    """A line in one of the look's inks; a `loose` one may run out of the frame with its outermost points."""

    xs: Values
    ys: Values
    ink: str
    loose: bool = False
    dotted: bool = False


@dataclass(frozen=True, slots=True)
class Area:
    """All that lies under a line, filled with a glyph: of several, each over those before it, a stack."""

    xs: Values
    ys: Values
    glyph: str
    ink: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A point that was measured, with its confidence interval; the best one so far looks different."""

    x: float
    y: float
    low: float
    high: float
    best: bool = False


Tick = tuple[float, str]


@dataclass(frozen=True, slots=True)
class Picture:
    """A chart as data: its heading in (words, ink), its curves from the back to the front, its marks, its axis."""

    heading: Sequence[tuple[str, str]] = ()
    curves: Sequence[Curve] = ()
    marks: Sequence[Mark] = ()
    right: float = 1.0  # the last step
    left: float = 0.0
    axis: bool = True
    floor: float | None = None  # the bottom, where it is not the least of the values
    along: str = "step"  # what the axis counts
    points: Sequence[tuple[float, float, str, str]] = ()  # x, y, glyph and ink, all of them drawn
    uprights: Sequence[tuple[float, str, str]] = ()  # x of a line from top to bottom, words at its right, ink
    areas: Sequence[Area] = ()  # behind all curves, from the bottom of the frame to each of their lines
    across: Sequence[Tick] | None = None  # named places of the axes, where these do not count steps and values
    up: Sequence[Tick] | None = None


EMPTY = Picture()


def curve(frame: Frame, xs: Values, ys: Values, *, dotted: bool = False) -> np.ndarray:
    """The dots of a curve through these points, as bits [height, width]; what is not finite breaks it."""
    bits = np.zeros((frame.height, frame.width), np.uint8)
    x, y = np.asarray(xs, float), np.asarray(ys, float)
    finite = np.isfinite(y) & (x >= frame.left) & (x <= frame.right)
    x, y = thin(x[finite], y[finite], frame)
    if not len(x):
        return bits
    px, py = (np.rint(along).astype(int) for along in joined(*frame.dots(x, y)))
    if dotted:
        px, py = px[px % 4 == 0], py[px % 4 == 0]
    np.bitwise_or.at(bits, (py // 4, px // 2), BITS[py % 4, px % 2])
    return bits


def joined(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points with those between them, at most a dot apart in either direction."""
    dx, dy = np.diff(x), np.diff(y)
    parts = np.maximum(np.ceil(np.maximum(abs(dx), abs(dy))), 1).astype(int)
    at = np.repeat(np.arange(len(parts)), parts)
    along = (np.arange(len(at)) - np.repeat(np.cumsum(parts) - parts, parts)) / parts[at]
    return np.append(x[at] + along * dx[at], x[-1]), np.append(y[at] + along * dy[at], y[-1])


def thin(x: np.ndarray, y: np.ndarray, frame: Frame) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and the highest value of each dot column, where there are more points than that."""
    columns = 2 * frame.width
    if len(x) <= 2 * columns:
        return x, y
    at = np.rint(frame.dots(x, y)[0]).astype(int)
    first = np.flatnonzero(np.diff(at, prepend=at[0] - 1))
    low, high = np.minimum.reduceat(y, first), np.maximum.reduceat(y, first)
    rising = np.arange(len(first)) % 2 == 0  # alternate, so that a column is crossed once
    return np.repeat(x[first], 2), np.stack([np.where(rising, low, high), np.where(rising, high, low)], 1).ravel()


def ticks(low: float, high: float, count: int) -> list[float]:
    """As many round values within a range as there can be, `count` at most."""
    if not (math.isfinite(low) and math.isfinite(high)) or high <= low or count < 1:
        return []
    size = 10.0 ** math.floor(math.log10((high - low) / (count + 1)))
    for step in (size * m for m in (1, 2, 5, 10, 20)):
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first < count:
            break
    return [n * step for n in range(first, last + 1)]


def label(value: float, step: float) -> str:
    """A tick's number, with the digits that its distance to the next one needs."""
    if value and (abs(value) < 1e-3 or abs(value) >= 1e6):
        mantissa, _, power = f"{value:.0e}".partition("e")
        return f"{mantissa}e{int(power)}"
    digits = max(0, -math.floor(math.log10(step) + 1e-9)) if step > 0 else 0
    return f"{value:,.{digits}f}"


def span(parts: Sequence[np.ndarray], loose: Sequence[np.ndarray] = ()) -> tuple[float, float]:
    """The range that shows all of `parts`, and of `loose` ones what is not among their outermost hundredth."""
    values = [part[np.isfinite(part)] for part in parts]
    for part in loose:
        good = part[np.isfinite(part)]
        if len(good):
            values.append(np.quantile(good, [0.01, 0.99]))
    whole = np.concatenate([v for v in values if len(v)]) if any(len(v) for v in values) else np.zeros(0)
    if not whole.any():
        return 0.0, 1.0
    low, high = float(whole.min()), float(whole.max())
    room = 0.04 * (high - low) or max(abs(high) * 0.1, 1e-9)
    return low - room if low - room >= 0 or low < 0 else 0.0, high + room
