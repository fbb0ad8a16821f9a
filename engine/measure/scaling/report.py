"""All that a table of runs says: the law with its intervals, three ways to the best size, doubts, forecasts, purchases.

Knows no files and prints nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from likely.engine.base.errors import DataError
from likely.engine.base.statistics.estimates import Estimate
from likely.engine.measure.scaling import fitted as fits
from likely.engine.measure.scaling.alternatives import BrokenFit, RepetitionLaw, broken, repeated
from likely.engine.measure.scaling.fitted import FittedLaw
from likely.engine.measure.scaling.forecast import Purchase, RunForecast, buy, held_out
from likely.engine.measure.scaling.frontier import IsoFlop, budgets, envelope, exponent
from likely.engine.measure.scaling.scaling_law import ScalingLaw
from likely.engine.measure.scaling.sweep import LeftOut, ScalingSweep

FEW = 30  # runs, below which how often the intervals hold is simulated
HIGHEST = 5  # losses that a well-known analysis left out: what a law is without them is always said


@dataclass(frozen=True, slots=True)
class LeftOutFit:
    """The exponents without some runs."""

    without: str
    alpha: float
    beta: float
    a: float


@dataclass(frozen=True)
class SweepReport:
    """All that was found. `coverage` is there for few runs, `without_embedding` where those parameters are known."""

    fitted: FittedLaw
    laws: np.ndarray  # of its refits, E, A, B, alpha, beta [R, 5]
    intervals: dict[str, tuple[float, float]]
    coverage: dict[str, float] | None
    left_out: list[LeftOut]
    sensitivity: list[LeftOutFit]
    iso_flop: list[IsoFlop]
    by_parabolas: Estimate | None
    by_envelope: Estimate | None
    foretold: list[RunForecast]
    broken: BrokenFit | None
    repeated: RepetitionLaw | None
    without_embedding: FittedLaw | None
    purchases: list[Purchase]


def report(
    runs: ScalingSweep,
    left: Sequence[LeftOut],
    computes: Sequence[float] = (),
    *,
    count: int = fits.REFITS,
    seed: int = 0,
    keep_all: bool = False,
) -> SweepReport:
    """The report of runs, those already left out being named in it. DataError for runs that determine no law."""
    fitted, diverged = (fits.fit(runs), []) if keep_all else fits.fit_sound(runs)
    runs = fitted.runs
    largest = float(runs.compute.max())
    if not np.isfinite(fitted.law.best(largest)).all():
        raise DataError(
            "by these runs the loss does not fall with both parameters and tokens (alpha "
            f"{fitted.law.alpha:.3g}, beta {fitted.law.beta:.3g}): no size is best; check the columns, or add runs"
        )
    laws = fits.refits(fitted, count, seed=seed)
    groups = budgets(runs)
    lowest = [(group.compute, group.best) for group in groups if group.best is not None]
    best = envelope(runs)
    return SweepReport(
        fitted=fitted,
        laws=laws,
        intervals=fits.intervals(laws),
        coverage=fits.coverage(fitted, seed=seed) if len(runs) < FEW else None,
        left_out=sorted([*left, *diverged], key=lambda run: run.row),
        sensitivity=_sensitivity(fitted),
        iso_flop=groups,
        by_parabolas=exponent(*np.array(lowest).T) if lowest else None,
        by_envelope=exponent(runs.compute[best], runs.parameters[best]),
        foretold=held_out(runs, seed=seed),
        broken=broken(runs),
        repeated=repeated(fitted),
        without_embedding=_without_embedding(runs),
        purchases=[buy(fitted, laws, compute) for compute in (computes or (largest, 10 * largest, 100 * largest))],
    )


def _sensitivity(fitted: FittedLaw) -> list[LeftOutFit]:
    """The law without the run that it hangs on most, each way, and without the highest losses."""
    alone = ScalingLaw(*fits.leave_one_out(fitted).T)
    a = alone.size_exponent
    by_row = [
        LeftOutFit(f"without row {fitted.runs.row[i]}", float(alone.alpha[i]), float(alone.beta[i]), float(a[i]))
        for i in sorted({int(a.argmin()), int(a.argmax())})
    ]
    kept = fitted.runs.loss < np.sort(fitted.runs.loss)[-HIGHEST]
    try:
        law = fits.fit(fitted.runs.where(kept)).law
    except DataError:
        return by_row
    return [*by_row, LeftOutFit(f"without the {HIGHEST} highest losses", law.alpha, law.beta, law.size_exponent)]


def _without_embedding(runs: ScalingSweep) -> FittedLaw | None:
    if runs.embedding is None:
        return None
    return fits.fit(replace(runs, parameters=runs.parameters - runs.embedding))
