"""A ladder as charts and rows of words: loss against compute, parabolas, residuals, the law, what a budget buys."""

import math
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from likely.app.jobs.scaling_jobs import SweepRead
from likely.app.results.scaling_figures import BEYOND, short
from likely.app.tui.base.drawing import plot
from likely.app.tui.base.drawing.plot import Curve, Picture, Tick
from likely.app.tui.widgets.caption import Words
from likely.engine.measure.scaling.forecast import DECADE, Purchase, buy, frontier
from likely.engine.measure.scaling.report import SweepReport

DOT, LOW, CHOSEN = "•", "●", "◆"
AGAINST = ("compute", "parameters", "tokens")
ALONG = {"compute": "C, FLOP", "parameters": "N", "tokens": "D"}
MEANS = (("E", "E", "irreducible"), ("α", "alpha", "parameters"), ("β", "beta", "tokens"), ("a", "a", "N ~ C^a"))
BAR = 9  # cells of an interval
HOURS = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 24.0, 48.0, 96.0, 168.0)
TIMES = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)  # of the largest run, where no time is known


def decades(low: float, high: float) -> list[Tick]:
    """Powers of ten between two logarithms to the base of ten, every so many of them."""
    powers = range(math.ceil(low), math.floor(high) + 1)
    return [(float(n), f"1e{n}") for n in powers[:: max(1, len(powers) // 6)]]


def levels(low: float, high: float) -> list[Tick]:
    """Round losses between two logarithms."""
    ticks = plot.ticks(math.exp(low), math.exp(high), 7)
    step = ticks[1] - ticks[0] if len(ticks) > 1 else 1.0
    return [(math.log(value), plot.label(value, step)) for value in ticks if value > 0]


def loss_picture(read: SweepRead, against: str, bought: Purchase | None, name: str) -> Picture:
    """Losses against compute with the frontier, seen, told and open; against parameters or tokens the runs alone."""
    report = read.report
    runs = report.fitted.runs
    x, y = np.log10(getattr(runs, against)), np.log(runs.loss)
    points = [(float(a), float(b), DOT, "bar") for a, b in zip(x, y, strict=True)]
    heading = [(" LOSS", "heading"), (f"  nats a token, against {against}", "faint")]
    left, right = float(x.min()) - 0.3, float(x.max()) + 0.3
    if against != "compute":
        return Picture(
            heading, points=points, left=left, right=right, across=decades(left, right),
            up=levels(float(y.min()), float(y.max())), along=ALONG[against],
        )  # fmt: skip
    first, largest = float(runs.compute.min()), float(runs.compute.max())
    forecast = frontier(report.fitted, report.laws, largest, DECADE * largest, 40)
    beyond = frontier(report.fitted, report.laws, DECADE * largest, BEYOND * largest, 40)
    measured = frontier(report.fitted, report.laws, first, largest, 60)
    curves = [
        Curve(np.log10(forecast.compute), np.log(bound), "accent", loose=True)
        for bound in (forecast.low, forecast.high)
    ]
    curves += [
        Curve(np.log10(beyond.compute), np.log(bound), "cut", loose=True, dotted=True)
        for bound in (beyond.low, beyond.high)
    ]
    curves += [Curve(np.log10(section.compute), np.log(section.loss), "chosen") for section in (measured, forecast)]
    best = [(math.log10(g.compute), math.log(g.loss), LOW, "chosen") for g in report.iso_flop if g.loss is not None]
    if bought is not None:
        best.append((math.log10(bought.compute), math.log(bought.loss), CHOSEN, "tick"))
    right = math.log10(BEYOND * largest)
    edges = [(math.log10(largest), "told", "faint"), (math.log10(DECADE * largest), "open", "accent")]
    heading += [("    • ", "bar"), ("runs", "faint"), ("  ● ", "chosen"), ("best", "faint")]
    heading += [("  ◆ ", "tick"), (name, "faint")] if name else []
    low = min(float(y.min()), float(np.log(forecast.loss).min()))
    return Picture(
        heading, curves, points=[*points, *best], left=left, right=right, uprights=edges,
        across=decades(left, right), up=levels(low - 0.3, float(y.max())), along=ALONG[against],
    )  # fmt: skip


def parabola_picture(report: SweepReport) -> Picture:
    """A parabola a budget, its lowest point on it."""
    heading = [(" BEST SIZE", "heading"), ("  one parabola a budget", "faint")]
    if not report.iso_flop:
        return Picture([(" BEST SIZE", "heading"), ("  no four sizes have one budget", "cut")], axis=False)
    curves, points = [], []
    for group in report.iso_flop:
        sizes = np.geomspace(group.sizes[0], group.sizes[-1], 40)
        curves.append(Curve(np.log10(sizes), group.parabola(sizes), "bar_cut"))
        points += [(math.log10(n), loss, DOT, "bar") for n, loss in zip(group.sizes, group.losses, strict=True)]
        if group.best is not None and group.loss is not None:
            points.append((math.log10(group.best), group.loss, LOW, "chosen"))
    every = [size for group in report.iso_flop for size in group.sizes]
    left, right = math.log10(min(every)) - 0.1, math.log10(max(every)) + 0.1
    return Picture(
        heading, curves, points=points, left=left, right=right, across=decades(left, right), along="N"
    )  # fmt: skip


def residual_picture(report: SweepReport) -> Picture:
    """How far each run is from the law, against its compute."""
    x, off = np.log10(report.fitted.runs.compute), 100 * report.fitted.residuals
    heading = [(" RESIDUALS", "heading"), (f"  loss over the law's, %   sd {off.std():.2f}", "faint")]
    left, right = float(x.min()) - 0.2, float(x.max()) + 0.2
    level = Curve((left, right), (0.0, 0.0), "rule", dotted=True)
    points = [(float(a), float(b), DOT, "bar") for a, b in zip(x, off, strict=True)]
    return Picture(heading, [level], points=points, left=left, right=right, across=decades(left, right), along="C")


def law_rows(report: SweepReport) -> list[Words]:
    """The numbers of the law with their intervals, each on its own scale."""
    law = report.fitted.law
    values = {**asdict(law), "a": law.size_exponent}
    rows: list[Words] = [
        ((" LAW", "heading"), ("  L = E + A/N^α + B/D^β", "faint"), (f"   95 %, {len(report.laws):,} refits", "faint"))
    ]
    for sign, name, means in MEANS:
        low, high = report.intervals[name]
        value = values[name]
        held = "" if report.coverage is None or name not in report.coverage else f"  holds {report.coverage[name]:.0%}"
        rows.append((
            (f" {sign}  ", "heading"), (f"{value:.3f}".ljust(7), "text"),
            (f"[{low:.3f}, {high:.3f}]".ljust(16), "faint"), (_whisker(low, value, high), "bar"),
            (f" {means}{held}", "faint"),
        ))  # fmt: skip
    if report.without_embedding is not None:
        bare = report.without_embedding.law
        rows.append(((f" without embeddings: α {bare.alpha:.3f}, a {bare.size_exponent:.3f}", "faint"),))
    return rows


def _whisker(low: float, value: float, high: float) -> str:
    """An interval with its point, as wide as there are cells."""
    if not (math.isfinite(low) and math.isfinite(high)) or high <= low:
        return " " * BAR
    at = min(max(round((value - low) / (high - low) * (BAR - 1)), 0), BAR - 1)
    return "─" * at + "●" + "─" * (BAR - 1 - at)


def budgets(read: SweepRead) -> list[tuple[str, float]]:
    """Budgets to choose from: hours on this machine, or multiples of the largest run; their names and FLOP."""
    if read.rate is not None:
        return [(f"{hours:g} h", 3600 * hours * read.rate) for hours in HOURS]
    largest = float(read.report.fitted.runs.compute.max())
    return [(f"{times:g}x", times * largest) for times in TIMES]


def bought_rows(read: SweepRead, chosen: int, rows: int) -> list[Words]:
    """The chosen budget, the best that it buys, and a table of those around it."""
    report, every = read.report, budgets(read)
    name, compute = every[chosen]
    it = buy(report.fitted, report.laws, compute)
    where = "by this table's times" if read.rate is not None else "of the largest run"
    lines: list[Words] = [
        ((f" WHAT {name.upper()} BUYS", "heading"), (f"  {where}, {compute:.2g} FLOP", "faint")),
        _slider(every[0][0], every[-1][0], chosen / (len(every) - 1)),
        (),
    ]
    spans = it.intervals
    for what, value in (("parameters", it.parameters), ("tokens", it.tokens)):
        span = "" if spans is None else "  [{}, {}]".format(*(short(end) for end in spans[what]))
        label = "best size" if what == "parameters" else what
        lines.append(((f" {label}".ljust(22), "text"), (short(value).rjust(9), "tick"), (span, "faint")))
    lines.append(((" loss".ljust(22), "text"), (f"{it.loss:.3f}".rjust(9), "chosen"), (f"  {_sure(it)}", _ink(it))))
    lines.append(((" beyond the largest".ljust(22), "text"), (f"{it.times:.3g}x".rjust(9), "text")))
    room = rows - len(lines) - 2
    if room < 2:
        return lines[:rows]
    lines += [(), (("    BUDGET      SIZE    TOKENS    LOSS", "heading"),)]
    first = min(max(chosen - room // 2, 0), max(len(every) - room, 0))
    for i, (label, budget) in enumerate(every[first : first + room], first):
        purchase = buy(report.fitted, report.laws, budget)
        numbers = f"{label:>8}{short(purchase.parameters):>10}{short(purchase.tokens):>10}{purchase.loss:>8.3f}"
        here = i == chosen
        lines.append(
            (
                (" ▶" if here else "  ", "chosen"),
                (numbers, "chosen" if here else "text"),
                (f"  {_sure(purchase)}", _ink(purchase)),
            )
        )
    return lines


def _slider(first: str, last: str, share: float, cells: int = 34) -> Words:
    at = round(share * (cells - 1))
    return (
        (f" {first} ", "faint"),
        ("━" * at, "bar"),
        ("●", "accent"),
        ("─" * (cells - 1 - at), "rule"),
        (f" {last}", "faint"),
    )


def _sure(it: Purchase) -> str:
    if it.intervals is None:
        return f"open, {it.times:.3g}x"
    low, high = it.intervals["loss"]
    return f"± {(high - low) / 2:.3f}"


def _ink(it: Purchase) -> str:
    return "accent" if it.is_open else "faint"


def foretold_rows(report: SweepReport, rows: int) -> Sequence[Words]:
    """The largest runs, told from the smaller ones and then seen; residuals and what was left out."""
    lines: list[Words] = [((" FORETOLD, THEN SEEN", "heading"), ("  the largest decade, by the smaller runs", "faint"))]
    for run in report.foretold[-max(rows - 2, 0) :] if rows > 2 else ():
        ink, word = ("better", "inside") if run.is_inside else ("alarm", "outside")
        words = f" C {run.compute:<8.2g} told {run.told:.3f} [{run.low:.3f}, {run.high:.3f}]   seen {run.seen:.3f}   "
        lines.append(((words, "text"), (word, ink)))
    if not report.foretold:
        lines.append(((" too few smaller runs to tell the larger ones from", "cut"),))
    off = report.fitted.residuals
    excluded = ", ".join(item.run or f"row {item.row}" for item in report.left_out)
    tail = f" · left out: {excluded}" if excluded else ""
    lines.append(((f" residuals sd {off.std():.4f}, largest {abs(off).max():.4f}{tail}", "faint"),))
    return lines
