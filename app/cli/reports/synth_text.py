"""Texts and objects of a report on made rows, of trainings on them, and of generations."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

from likely.app.words.heat import visible
from likely.engine.base.statistics.estimates import Estimate
from likely.engine.base.statistics.measures import measure
from likely.engine.measure.synth.collapse import Generation
from likely.engine.measure.synth.report import RowsReport
from likely.engine.measure.synth.training import Arm

CELLS = 24  # of a full bar


def report_lines(report: RowsReport) -> Iterator[str]:
    """A line a figure, then histograms and the grid."""
    yield f"{report.made} made rows against {report.real} real ones"
    for name, estimate in report.figures.items():
        shown, words = estimate, measure(name).of
        if measure(name).unit == "nats":
            shown, words = estimate.map(lambda nats: nats / math.log(2), 1 / math.log(2)), f"bits, of {words}"
        yield f"  {name:20} {_figure(shown):28} {words}".rstrip()
    text, ours, theirs = report.template
    yield f"  commonest opening    {ours:.0%} of made rows, {theirs:.0%} of real ones: {visible(text)!r}"
    for title, shares in (("words", report.lengths), ("answers", report.labels)):
        for name, synthetic, real in shares:
            bars = f"made {synthetic:5.1%} {_bar(synthetic):{CELLS}} real {real:5.1%} {_bar(real)}"
            yield f"  {title} {visible(name)[:20]:20} {bars}"
    if report.asked is not None:
        yield f"  grid: {report.asked.filled} of {report.asked.cells} cells have a row"
        for name, counts in report.asked.counts.items():
            yield f"  {visible(name)}: " + ", ".join(f"{visible(value)} {count}" for value, count in counts.items())
    yield from (f"  {note}" for note in report.notes)


def report_object(report: RowsReport) -> dict[str, Any]:
    fields = asdict(replace(report, beside=()))  # those are a file of their own
    del fields["beside"]
    return fields | {"figures": {name: _estimate(figure) for name, figure in report.figures.items()}}


def arm_line(arm: Arm, known: Mapping[str, Arm]) -> str:
    """Accuracy of a training, and its paired differences to the base and to real rows."""
    line = f"{arm.name:6} {arm.rows:6} rows {arm.tokens:9} tokens  {_figure(arm.accuracy)}"
    for name in ("base", "real"):
        if name in known and name != arm.name and arm.name != "base":
            change = arm.over(known[name])
            low, high = change.estimate.interval
            span = f" [{low:+.3f}, {high:+.3f}]" if math.isfinite(high - low) else ""
            line += f"  over {name} {change.estimate.mean:+.3f}{span} {change.verdict()}"
    return line


def arm_object(arm: Arm, known: Mapping[str, Arm]) -> dict[str, Any]:
    over = {}
    for name, other in known.items():
        if name != arm.name:
            change = arm.over(other)
            over[name] = _estimate(change.estimate) | {"p": change.p}
    fields = {"arm": arm.name, "rows": arm.rows, "tokens": arm.tokens, "accuracy": _estimate(arm.accuracy)}
    return {"event": "arm", **fields, "over": over}


def generation_line(generation: Generation) -> str:
    """Diversity as a bar, with a mark where it was to be expected."""
    bar, at = _bar(generation.diversity.mean).ljust(CELLS), min(CELLS - 1, round(generation.expected * CELLS))
    drawn = f"{bar[:at]}│{bar[at + 1 :]}"
    low, high = generation.diversity.interval
    head = f"{generation.way:10} {generation.number:3}  {generation.rows:6} rows {generation.kinds:6} kinds"
    return (
        f"{head}  {drawn} {generation.diversity.mean:.3f} [{low:.3f}, {high:.3f}]  │ expected {generation.expected:.3f}"
    )


def generation_object(generation: Generation) -> dict[str, Any]:
    fields = {name: value for name, value in asdict(generation).items() if name != "diversity"}
    return {"event": "generation", **fields, "diversity": _estimate(generation.diversity)}


def _figure(estimate: Estimate) -> str:
    if not math.isfinite(estimate.error):
        return f"{estimate.mean:.3f}"
    low, high = estimate.interval
    return f"{estimate.mean:.3f} [{low:.3f}, {high:.3f}]"


def _estimate(estimate: Estimate) -> dict[str, Any]:
    low, high = estimate.interval
    return {name: value for name, value in {"mean": estimate.mean, "low": low, "high": high}.items()
            if math.isfinite(value)}  # fmt: skip


def _bar(share: float) -> str:
    return "█" * round(min(max(share, 0.0), 1.0) * CELLS)
