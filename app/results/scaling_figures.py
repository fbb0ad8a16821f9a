"""Pictures of a ladder as SVG, and its page as HTML: one file each, which opens without a network.

Loss against compute with the frontier, seen, told and open; a parabola a budget; residuals; exponents with their
intervals; what hours buy.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from html import escape

import numpy as np

from likely.app.results.report import COLOURS, document
from likely.app.results.training_plan import duration
from likely.engine.measure.scaling.forecast import DECADE, Purchase, buy, frontier
from likely.engine.measure.scaling.report import SweepReport

WIDTH, HEIGHT, LEFT, BELOW, ABOVE = 560, 330, 56, 34, 28
HOURS = (0.25, 1.0, 5.0, 24.0, 168.0)
BEYOND = 100.0  # times the largest run, to which the frontier is drawn
NAMES = {"E": "E", "alpha": "α", "beta": "β", "a": "a, N ~ C^a"}
RUNS, BEST, TOLD = COLOURS[0], COLOURS[4], COLOURS[1]
FLOPS = "C, FLOP"
Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Axes:
    """A picture's frame: x in logarithms, y as it is, or in logarithms too."""

    title: str
    x: tuple[float, float]
    y: tuple[float, float]
    along: str
    log_y: bool = False

    def at(self, x: float, y: float) -> Point:
        """Where values fall, in pixels."""
        across = math.log(x / self.x[0]) / math.log(self.x[1] / self.x[0])
        low, high = self.y
        up = math.log(y / low) / math.log(high / low) if self.log_y else (y - low) / (high - low)
        return LEFT + across * (WIDTH - LEFT - 12), ABOVE + (1 - up) * (HEIGHT - ABOVE - BELOW)

    def line(self, xs: Sequence[float] | np.ndarray, ys: Sequence[float] | np.ndarray, ink: str, more: str = "") -> str:
        there = [self.at(x, y) for x, y in zip(xs, ys, strict=True) if math.isfinite(y) and self._holds(x, y)]
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in there)
        return f'<polyline points="{points}" fill="none" stroke="{ink}" stroke-width="2" {more}/>' if there else ""

    def area(self, xs: np.ndarray, low: np.ndarray, high: np.ndarray, ink: str) -> str:
        def held(y: float) -> float:
            return min(max(y, self.y[0]), self.y[1])

        edge = [*zip(xs, high, strict=True), *zip(xs[::-1], low[::-1], strict=True)]
        points = " ".join("{:.1f},{:.1f}".format(*self.at(x, held(y))) for x, y in edge if math.isfinite(y))
        return f'<polygon points="{points}" fill="{ink}" fill-opacity=".25"/>'

    def dot(self, x: float, y: float, ink: str, size: float, words: str) -> str:
        cx, cy = self.at(x, y)
        return f'<circle cx="{cx:.1f}" cy="{cy:.1f}" r="{size}" fill="{ink}"><title>{escape(words)}</title></circle>'

    def upright(self, x: float, words: str) -> str:
        at, _ = self.at(x, self.y[0])
        return (
            f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{ABOVE}" y2="{HEIGHT - BELOW}" stroke="#99a" stroke-dasharray="4"/>'
            f'<text x="{at + 4:.1f}" y="{ABOVE + 12}">{escape(words)}</text>'
        )

    def drawn(self, parts: Sequence[str], place: str = "") -> str:
        """The picture with its frame, as one SVG."""
        bottom = HEIGHT - BELOW
        frame = [
            f'<text x="4" y="15" font-weight="600">{escape(self.title)}</text>',
            f'<line x1="{LEFT}" x2="{LEFT}" y1="{ABOVE}" y2="{bottom}" stroke="#99a"/>',
            f'<line x1="{LEFT}" x2="{WIDTH - 12}" y1="{bottom}" y2="{bottom}" stroke="#99a"/>',
            f'<text x="{WIDTH - 12}" y="{HEIGHT - 3}" text-anchor="end">{escape(self.along)}</text>',
        ]
        for value in _decades(*self.x):
            x, _ = self.at(value, self.y[1])
            words = f"{value:.2g}".replace("e+", "e") if self.along == FLOPS else short(value)
            anchor = "end" if x > WIDTH - 40 else "middle"
            frame.append(f'<text x="{x:.1f}" y="{bottom + 15}" text-anchor="{anchor}">{words}</text>')
        for value in np.linspace(*self.y, 5):
            _, y = self.at(self.x[0], value)
            frame.append(f'<text x="{LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{value:.3g}</text>')
        box = f'{place} width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}"'
        return f'<svg xmlns="http://www.w3.org/2000/svg" {box}>{"".join((*frame, *parts))}</svg>'

    def _holds(self, x: float, y: float) -> bool:
        return self.x[0] * 0.999 <= x <= self.x[1] * 1.001 and self.y[0] <= y <= self.y[1]


def svg(report: SweepReport, rate: float | None) -> str:
    """All pictures in one file."""
    pictures = [draw(report) for draw in PICTURES]
    rows = math.ceil(len(pictures) / 2)
    size = f'width="{2 * WIDTH}" height="{rows * HEIGHT + 125}"'
    placed = [picture(f'x="{i % 2 * WIDTH}" y="{i // 2 * HEIGHT}"') for i, picture in enumerate(pictures)]
    words = [_law(report), *(f"{hours}: {purchase}" for hours, purchase in _bought(report, rate))]
    lines = "".join(
        f'<text x="12" y="{rows * HEIGHT + 18 + 17 * i}">{escape(line)}</text>' for i, line in enumerate(words)
    )
    style = "<style>text{font:12px system-ui,sans-serif;fill:#333}</style>"
    ground = '<rect width="100%" height="100%" fill="#fff"/>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{style}{ground}{"".join(placed)}{lines}</svg>\n'


def page(name: str, report: SweepReport, rate: float | None) -> str:
    """The whole HTML file."""
    parts = [f"<h1>{escape(name)}</h1><p>{escape(_law(report))}</p>"]
    parts += [f"<figure>{draw(report)('')}</figure>" for draw in PICTURES]
    parts.append("<h2>The law</h2><table><tr><th>number<th>value<th>95 %</tr>")
    values = {**asdict(report.fitted.law), "a": report.fitted.law.size_exponent}
    for symbol, value in values.items():
        low, high = report.intervals[symbol]
        parts.append(f"<tr><td>{symbol}<td class=n>{value:.4g}<td>{low:.4g} to {high:.4g}</tr>")
    parts.append("</table>")
    if bought := _bought(report, rate):
        parts.append("<h2>What hours buy here</h2><table>")
        parts += [f"<tr><td class=n>{hours}<td>{escape(words)}</tr>" for hours, words in bought]
        parts.append("</table>")
    if report.foretold:
        parts.append(
            "<h2>Foretold from the smaller runs, then seen</h2><table><tr><th>C<th>told<th>95 %<th>seen<th></tr>"
        )
        for run in report.foretold:
            inside = "<b class=better>inside</b>" if run.is_inside else "<b class=worse>outside</b>"
            span = f"<td>{run.low:.4f} to {run.high:.4f}<td class=n>{run.seen:.4f}<td>{inside}"
            parts.append(f"<tr><td class=n>{run.compute:.3g}<td class=n>{run.told:.4f}{span}</tr>")
        parts.append("</table>")
    if report.left_out:
        parts.append("<h2>Left out</h2><ul>")
        parts += [f"<li>{escape(str(row))}</li>" for row in report.left_out]
        parts.append("</ul>")
    return document("likely scale", "\n".join(parts))


def _law(report: SweepReport) -> str:
    return f"{report.fitted.law}, {len(report.fitted.runs)} runs, {len(report.left_out)} left out"


def _bought(report: SweepReport, rate: float | None) -> list[tuple[str, str]]:
    if rate is None:
        return []
    every = [(hours, buy(report.fitted, report.laws, 3600 * hours * rate)) for hours in HOURS]
    return [(duration(3600 * hours), bought(purchase)) for hours, purchase in every]


def bought(it: Purchase) -> str:
    """A purchase in words."""
    words = f"{short(it.parameters)} parameters on {short(it.tokens)} tokens, loss {it.loss:.3f}"
    if it.intervals is None:
        return f"{words}, open: {it.times:.3g} times the largest run"
    low, high = it.intervals["loss"]
    return f"{words} [{low:.3f}, {high:.3f}]"


def short(value: float) -> str:
    """A number in three digits and a letter; a power from a thousand times a trillion on."""
    value = float(f"{value:.3g}")
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if size <= value < 1e15:
            return f"{value / size:.3g} {letter}"
    return f"{value:.3g}".replace("e+", "e")


def _decades(low: float, high: float) -> list[float]:
    powers = [10.0**n for n in range(math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9) + 1)]
    return powers if len(powers) > 1 else [low, high]


def _loss(report: SweepReport) -> Callable[[str], str]:
    runs = report.fitted.runs
    first, largest = float(runs.compute.min()), float(runs.compute.max())
    forecast = frontier(report.fitted, report.laws, first, DECADE * largest)
    beyond = frontier(report.fitted, report.laws, DECADE * largest, BEYOND * largest, 30)
    low, high = min(float(runs.loss.min()), float(beyond.loss.min())), float(runs.loss.max())
    axes = Axes("Loss against compute", (first / 2, BEYOND * largest), (low * 0.97, high * 1.03), FLOPS, True)
    parts = [axes.upright(largest, "told"), axes.upright(DECADE * largest, "open")]
    parts.append(axes.area(forecast.compute, forecast.low, forecast.high, TOLD))
    parts.append(axes.line(forecast.compute, forecast.loss, BEST))
    parts.append(axes.line(beyond.compute, beyond.low, TOLD, 'stroke-dasharray="2 5"'))
    parts.append(axes.line(beyond.compute, beyond.high, TOLD, 'stroke-dasharray="2 5"'))
    for c, loss, n, d in zip(runs.compute, runs.loss, runs.parameters, runs.tokens, strict=True):
        parts.append(axes.dot(c, loss, RUNS, 3.5, f"N {short(n)}, D {short(d)}, loss {loss:.4f}"))
    return lambda place: axes.drawn(parts, place)


def _parabolas(report: SweepReport) -> Callable[[str], str]:
    runs, groups = report.fitted.runs, report.iso_flop
    losses = [loss for group in groups for loss in group.losses] or runs.loss.tolist()
    sizes = (float(runs.parameters.min()) / 1.3, float(runs.parameters.max()) * 1.3)
    axes = Axes("One parabola a budget", sizes, (min(losses) * 0.98, max(losses) * 1.02), "N, parameters")
    parts = [] if groups else [f'<text x="{LEFT + 20}" y="{HEIGHT // 2}">no four sizes have one budget</text>']
    for i, group in enumerate(groups):
        ink = COLOURS[i % len(COLOURS)]
        along = np.geomspace(group.sizes[0], group.sizes[-1], 60)
        parts.append(axes.line(along, group.parabola(along), ink))
        parts += [
            axes.dot(n, loss, ink, 3.5, f"N {short(n)}, {loss:.4f}")
            for n, loss in zip(group.sizes, group.losses, strict=True)
        ]
        if group.best is not None and group.loss is not None:
            parts.append(axes.dot(group.best, group.loss, BEST, 6, f"C {short(group.compute)}: {short(group.best)}"))
        x, y = axes.at(group.sizes[-1], group.losses[-1])
        parts.append(f'<text x="{x:.1f}" y="{y - 7:.1f}" text-anchor="end">{short(group.compute)}</text>')
    return lambda place: axes.drawn(parts, place)


def _residuals(report: SweepReport) -> Callable[[str], str]:
    runs, off = report.fitted.runs, report.fitted.residuals
    most = max(float(abs(off).max()) * 1.2, 1e-6)
    spread = (float(runs.compute.min()) / 2, float(runs.compute.max()) * 2)
    axes = Axes("Residuals: log loss seen minus told", spread, (-most, most), FLOPS)
    parts = [axes.line(spread, (0.0, 0.0), "#99a")]
    for i, (c, residual) in enumerate(zip(runs.compute, off, strict=True)):
        parts.append(axes.dot(c, residual, RUNS, 3.5, f"row {runs.row[i]}: {residual:+.4f}"))
    return lambda place: axes.drawn(parts, place)


def _exponents(report: SweepReport) -> Callable[[str], str]:
    values = {**asdict(report.fitted.law), "a": report.fitted.law.size_exponent}
    rows = [(NAMES[name], values[name], *report.intervals[name]) for name in NAMES if name != "E"]
    for name, estimate in (("a by parabolas", report.by_parabolas), ("a by the envelope", report.by_envelope)):
        if estimate is not None:
            rows.append((name, estimate.mean, *estimate.interval))
    ends = [value for row in rows for value in row[1:] if math.isfinite(value)]
    low, high = max(min(ends) - 0.05, -1.0), min(max(ends) + 0.05, 3.0)

    def across(x: float) -> float:
        return 150 + (min(max(x, low), high) - low) / (high - low) * (WIDTH - 290)

    parts = ['<text x="4" y="15" font-weight="600">Exponents, with 95 %</text>']
    for i, (name, value, start, end) in enumerate(rows):
        y = 60 + 44 * i
        a, b = across(start if math.isfinite(start) else low), across(end if math.isfinite(end) else high)
        parts.append(f'<text x="12" y="{y + 4}">{escape(name)}</text>')
        parts.append(f'<line x1="{a:.1f}" x2="{b:.1f}" y1="{y}" y2="{y}" stroke="{RUNS}" stroke-width="3"/>')
        parts.append(f'<circle cx="{across(value):.1f}" cy="{y}" r="5" fill="{RUNS}"/>')
        words = f"{value:.3f} [{start:.3f}, {end:.3f}]"
        parts.append(f'<text x="{WIDTH - 8}" y="{y + 4}" text-anchor="end">{words}</text>')
    box = f'width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}"'
    return lambda place: f'<svg xmlns="http://www.w3.org/2000/svg" {place} {box}>{"".join(parts)}</svg>'


PICTURES = (_loss, _parabolas, _residuals, _exponents)
