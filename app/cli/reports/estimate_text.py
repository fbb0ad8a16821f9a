"""Texts and objects of what `likely estimate` found."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from likely.app.words.heat import sanitize_line
from likely.app.words.tables import Columns
from likely.app.words.units import LN2, bits, finite
from likely.engine.base.statistics.measures import measure

if TYPE_CHECKING:
    from likely.engine.base.statistics.estimates import Change, Estimate
    from likely.engine.measure.estimate.bounds import RiskBound
    from likely.engine.measure.estimate.curve import CurveForecast, HeldOutSize, LearningCurve
    from likely.engine.measure.estimate.ladder import LadderRung
    from likely.engine.measure.estimate.meta import StartComparison

BITS = 1 / LN2
MEANS = {"loss": "bits a token", "errors": "share of rows that greedy decoding misses"}


@dataclass(frozen=True)
class CurveReport:
    """Rungs of one base; of each figure its curve, the worth of more rows, and the largest size held out, or why it has
    none."""

    rungs: "Sequence[LadderRung]"
    curves: "dict[str, tuple[LearningCurve, CurveForecast, HeldOutSize | None]]"
    without: dict[str, str]


def table_lines(rungs: "Sequence[LadderRung]") -> Iterator[str]:
    """A line a rung: held-out loss in bits a row, share of rows right, gain over the base, paired by row."""
    columns = Columns("{base:20} {layers:>6} {rows:>6}  {bits a row:24} {right:20} {gain over no training}")
    yield columns.heading
    for rung in rungs:
        begin = sanitize_line(rung.model)[-20:], "all" if rung.layers < 0 else str(rung.layers), str(rung.rows)
        if not rung.seeds:
            yield columns.line(*begin, sanitize_line(rung.failed), "", "").rstrip()
            continue
        gain = "" if rung.gain is None else f"{_span(rung.gain.estimate, BITS, '+')} {rung.gain.verdict()}"
        yield columns.line(*begin, _span(rung.nats, BITS), _span(rung.accuracy, 1), gain).rstrip()


def table_object(rungs: "Sequence[LadderRung]") -> dict[str, Any]:
    return {"event": "table", "rungs": [_rung(rung) for rung in rungs]}


def _rung(rung: "LadderRung") -> dict[str, Any]:
    gain = None if rung.gain is None else _change(rung.gain)
    fields = {"model": rung.model, "layers": rung.layers, "rows": rung.rows, "seeds": rung.seeds, "failed": rung.failed}
    return {**fields, "nats": _estimate(rung.nats), "accuracy": _estimate(rung.accuracy), "gain": gain}


def curve_lines(report: CurveReport, more: int) -> Iterator[str]:
    """The table, then each law, what more rows are worth, and how well the largest size was told by the others."""
    yield from table_lines(report.rungs)
    yield from (f"{name} ({MEANS[name]}): {why}" for name, why in report.without.items())
    for name, (curve, worth, out) in report.curves.items():
        times = BITS if name == "loss" else 1.0
        floor, beta = curve.numbers["E"], curve.numbers["beta"]
        yield f"{name} ({MEANS[name]}): E + B n^-beta, E {_forecast(floor, times)}, beta {_forecast(beta, 1)}"
        rows = f"{curve.largest:.0f}"
        yield f"  {more} rows beyond {rows} are worth {_forecast(worth, times)}"
        if out is not None:
            held = f"  held out: from {out.begin:.0f} to {out.end:.0f} rows {_forecast(out.gain, times)} was told, "
            assert out.gain.seen is not None
            yield f"{held}{out.gain.seen * times:.4f} seen: {'inside' if out.gain.is_inside else 'OUTSIDE'}"


def curve_object(report: CurveReport, more: int) -> dict[str, Any]:
    curves = {
        name: {
            **{key: asdict(number) for key, number in curve.numbers.items()},
            "worth": {"rows": more, **asdict(worth)},
            "held_out": None if out is None else asdict(out),
        }
        for name, (curve, worth, out) in report.curves.items()
    }
    return {**table_object(report.rungs), "event": "curve", "curves": curves, "without": report.without}


def meta_lines(comparisons: "Sequence[StartComparison]", start: Path) -> Iterator[str]:
    """A line an amount of rows: bits a held-out row from either start, and differences paired by row."""
    against = f"against usual on {comparisons[-1].rows} rows"
    columns = Columns(f"{{rows:>6}}  {{usual start:24}} {{learned start:24}} {{learned - usual:36}} {{{against}}}")
    yield columns.heading
    for size in comparisons:
        spans = [
            f"{_span(change.estimate, BITS, '+')} {change.verdict(better=measure('nats').better)}"
            for change in (size.change, size.saved)
        ]
        yield columns.line(str(size.rows), _span(size.zero, BITS), _span(size.learned, BITS), *spans)
    yield f"bits a held-out row; the start: likely tune ROWS --warm-start {start}"


def meta_object(comparisons: "Sequence[StartComparison]") -> dict[str, Any]:
    rows = [
        {
            "rows": row.rows,
            **{name: _estimate(getattr(row, name)) for name in ("zero", "learned")},
            **{name: _change(getattr(row, name)) for name in ("change", "saved")},
        }
        for row in comparisons
    ]
    return {"event": "meta", "rows": rows}


def _change(change: "Change") -> dict[str, Any]:
    return {**_estimate(change.estimate), "p": change.p}


def bounds_lines(bounds: "Sequence[RiskBound]") -> Iterator[str]:
    """A line a bound: what was seen, what that of rows to come is below, and whether that says anything."""
    for bound in bounds:
        times, unit = (BITS, "bits") if "nats" in bound.name else (1.0, "")
        name = bound.name.replace("nats", "bits")
        vacuous = f"VACUOUS: {bound.trivial * times:.3f} is known without rows" if bound.is_vacuous else ""
        kl = "" if bound.kl is None else f"KL {bits(bound.kl):,.0f} bits"
        line = (
            f"{name:46} {bound.n:>5} rows  {bound.empirical * times:.4f} seen, below {bound.upper * times:.4f} {unit}"
        )
        yield f"{line} at {bound.confidence:.0%}  {kl}  {vacuous}".rstrip()


def bounds_object(bounds: "Sequence[RiskBound]") -> dict[str, Any]:
    return {"event": "bounds", "bounds": [{**asdict(bound), "vacuous": bound.is_vacuous} for bound in bounds]}


def _forecast(forecast: "CurveForecast", times: float) -> str:
    return f"{forecast.told * times:.4g} [{forecast.low * times:.4g}, {forecast.high * times:.4g}]"


def _span(estimate: "Estimate", times: float, sign: str = "") -> str:
    low, high = sorted(end * times for end in estimate.interval)
    known = f"[{low:{sign}.3f}, {high:{sign}.3f}]" if math.isfinite(high - low) else "(one row: no interval)"
    return f"{estimate.mean * times:{sign}.3f} {known}"


def _estimate(estimate: "Estimate") -> dict[str, float | None]:
    low, high = estimate.interval
    return {"mean": finite(estimate.mean), "low": finite(low), "high": finite(high)}
