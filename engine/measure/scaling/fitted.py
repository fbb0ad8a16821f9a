"""The law of given runs: the best of many starts, its intervals, what hangs on single runs, and what was foretold.

Intervals are percentiles over refits with random weights, exponential of mean 1 (Rubin 1981): drawing runs with
repetition gives too wide ones for so sharp a loss, and residuals too narrow ones (docs/decisions/scaling.md). Knows no
files.
"""

from dataclasses import dataclass

import numpy as np

from likely.engine.base.errors import DataError
from likely.engine.measure.scaling.fit import descend
from likely.engine.measure.scaling.forms import PowerLaws
from likely.engine.measure.scaling.scaling_law import ScalingLaw
from likely.engine.measure.scaling.sweep import LeftOut, ScalingSweep

NAMES = ("E", "A", "B", "alpha", "beta")
EXPONENTS = np.geomspace(0.05, 2.0, 12)  # that all pairs of are started from
FOLLOWED = 8  # starts that are still looked at after FIRST rounds
FIRST = 30
REFITS = 2000
LIMIT = 1e-6  # share of the lowest loss below which E counts as 0
NEAR = 2e-4  # a step of a refit, whose numbers spread by far more
DIVERGED = (1.5, 10.0)  # a run this many times above the law of the others, and this many of their deviations
CHUNK = 400_000  # refits times runs that are fitted at a time
AT_ONCE = 10  # worlds


@dataclass(frozen=True)
class FittedLaw:
    """A law, the runs that it is of, its theta as the forms have it, and the sum of their Huber losses."""

    law: ScalingLaw
    runs: ScalingSweep
    theta: np.ndarray
    objective: float

    @property
    def form(self) -> PowerLaws:
        return PowerLaws(self.runs.parameters, self.runs.tokens)

    @property
    def residuals(self) -> np.ndarray:
        """log L seen minus log L of the law, [n]: nearly the relative error."""
        predicted = self.law.loss(self.runs.parameters, self.runs.tokens)
        off: np.ndarray = np.log(self.runs.loss) - np.log(predicted)
        return off

    @property
    def at_limit(self) -> bool:
        """Whether E is 0 as far as the runs can tell. Refits give no valid interval for a number at its limit."""
        return bool(LIMIT * float(self.runs.loss.min()) > self.law.E)

    @property
    def deviations(self) -> np.ndarray:
        """Log-losses of runs to come, less the law's: the residuals about their mean, [n], widened for the five numbers
        that were fitted to them."""
        off, n = self.residuals, len(self.runs)
        with np.errstate(invalid="ignore"):  # of a law that no run is near: nan
            widened: np.ndarray = (off - off.mean()) * np.sqrt(n / max(1, n - len(NAMES)))
        return widened


def fit(runs: ScalingSweep) -> FittedLaw:
    """The law with the least Huber loss of log-losses. DataError for runs that do not determine one."""
    if len(runs) < 6 or len(np.unique(runs.parameters)) < 3 or len(np.unique(runs.tokens)) < 3:
        raise DataError(
            f"a law has five numbers: it takes 6 runs or more, of 3 sizes and 3 amounts of tokens; got {len(runs)} of "
            f"{len(np.unique(runs.parameters))} and {len(np.unique(runs.tokens))}"
        )
    form, log_losses = PowerLaws(runs.parameters, runs.tokens), np.log(runs.loss)
    theta, objective = descend(form, form.starts(runs.loss, EXPONENTS), log_losses, rounds=FIRST)
    theta, objective = descend(form, theta[np.argsort(objective)[:FOLLOWED]], log_losses)
    best = int(objective.argmin())
    return FittedLaw(form.law(theta[best]), runs, theta[best], float(objective[best]))


def fit_sound(runs: ScalingSweep) -> tuple[FittedLaw, list[LeftOut]]:
    """The law of all runs but those that lie so far above it that they must have diverged."""
    fitted = fit(runs)
    off = fitted.residuals
    spread = 1.4826 * float(np.median(np.abs(off)))
    high = (off > np.log(DIVERGED[0])) & (off > DIVERGED[1] * spread)
    if not high.any() or len(runs) - int(high.sum()) < 6:
        return fitted, []
    left_out = [
        LeftOut(
            int(runs.row[i]),
            f"it diverged: its loss is {np.exp(off[i]):.1f} times that of the law of the others",
            "" if runs.run is None else str(runs.run[i]),
        )
        for i in np.flatnonzero(high)
    ]
    return fit(runs.where(~high)), left_out


def refits(fitted: FittedLaw, count: int = REFITS, *, seed: int = 0) -> np.ndarray:
    """Laws (E, A, B, alpha, beta) [count, 5] of the runs under random weights."""
    random, parts = np.random.default_rng(seed), []
    at_once = max(1, CHUNK // len(fitted.runs))
    for begin in range(0, count, at_once):
        weights = random.exponential(size=(min(at_once, count - begin), len(fitted.runs)))
        parts.append(_again(fitted.form, fitted.theta, np.log(fitted.runs.loss), weights))
    return fitted.form.laws(np.concatenate(parts))


def leave_one_out(fitted: FittedLaw) -> np.ndarray:
    """Laws [n, 5]: each of all runs but one."""
    weights = 1.0 - np.eye(len(fitted.runs))
    return fitted.form.laws(_again(fitted.form, fitted.theta, np.log(fitted.runs.loss), weights))


def _again(form: PowerLaws, theta: np.ndarray, log_losses: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Thetas [R, 5] of other weights [R, n], from one that is near."""
    start = np.broadcast_to(theta, (len(weights), 5))
    return descend(form, start, log_losses, weights, rounds=80, shortest=NEAR)[0]


def intervals(laws: np.ndarray) -> dict[str, tuple[float, float]]:
    """95 % of each number of the law, and of the exponent `a` of the best size, over refits [R, 5]."""
    low, high = span(np.column_stack([laws, ScalingLaw(*laws.T).size_exponent]))
    return {name: (float(low[i]), float(high[i])) for i, name in enumerate((*NAMES, "a"))}


def span(values: np.ndarray, axis: int = 0) -> np.ndarray:
    """Where the middle 95 % of them begin and end, [2, ...]; factors of a term that hardly counts may be infinite, and
    a law with such a factor says nothing (nan) of a run: it is left out."""
    values = np.where(np.isnan(values).all(axis, keepdims=True), np.inf, values)
    with np.errstate(invalid="ignore"):
        ends = np.nanquantile(values, [0.025, 0.975], axis=axis)
    return np.where(np.isnan(ends), np.inf, ends)  # between two that are infinite


def coverage(fitted: FittedLaw, *, worlds: int = 200, count: int = 200, seed: int = 0) -> dict[str, float]:
    """How often such an interval holds the truth, in (tens of) worlds where this law is true of these very parameters
    and tokens and its deviations come by chance. E is left out if it is `at_limit`."""
    form, n = fitted.form, len(fitted.runs)
    random = np.random.default_rng([seed, n])
    true = np.log(fitted.law.loss(fitted.runs.parameters, fitted.runs.tokens))
    off = fitted.deviations
    inside = np.zeros(5)
    truth = form.laws(fitted.theta[None])[0]
    for _ in range(worlds // AT_ONCE):
        sampled = true + random.choice(off, (AT_ONCE, n))
        start, _ = descend(form, np.broadcast_to(fitted.theta, (AT_ONCE, 5)), sampled)
        weights = random.exponential(size=(AT_ONCE * count, n))
        theta = _again(form, np.repeat(start, count, 0), np.repeat(sampled, count, 0), weights)
        low, high = span(form.laws(theta).reshape(AT_ONCE, count, 5), axis=1)
        inside += ((low <= truth) & (truth <= high)).sum(0)
    known = zip(NAMES, inside / worlds, strict=True)
    return {name: float(share) for name, share in known if name != "E" or not fitted.at_limit}
