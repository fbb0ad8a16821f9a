"""Other forms for the same runs: what repeated tokens are worth, and one power of compute with a break in it.

Each is a reason to doubt the law, or none. Knows no files.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np

from likely.engine.measure.scaling.fit import descend
from likely.engine.measure.scaling.fitted import FittedLaw
from likely.engine.measure.scaling.forms import BrokenPowerLaw, PowerLaws, RepeatedTokens
from likely.engine.measure.scaling.frontier import envelope
from likely.engine.measure.scaling.scaling_law import ScalingLaw, effective
from likely.engine.measure.scaling.sweep import ScalingSweep

HALF_LIVES = (1.0, 5.0, 15.0, 50.0, 200.0)  # repetitions to start from
POINTS = 8  # of the envelope that a break takes
WORN = 0.01  # of the worth of the run that read the most again: less is lost where nothing is worn


@dataclass(frozen=True, slots=True)
class RepetitionLaw:
    """The law in effective tokens, how many repetitions take 1 - 1/e of the worth away, and its objective;
    `repetitions` are those of the run that read the most again."""

    law: ScalingLaw
    half_life: float
    objective: float
    repetitions: float

    @property
    def worn(self) -> bool:
        """Whether tokens are worth less by it in any run: else the half life is any number that is large enough."""
        tokens = np.array([1.0 + self.repetitions])
        return bool(effective(tokens, np.ones(1), self.half_life)[0] < (1 - WORN) * tokens[0])


def repeated(fitted: FittedLaw) -> RepetitionLaw | None:
    """The law where tokens that are read again count for less; None where no run read any again."""
    runs = fitted.runs
    if runs.unique is None or not (runs.tokens > runs.unique).any():
        return None
    once = np.minimum(runs.tokens, runs.unique)
    form = RepeatedTokens(runs.parameters, runs.tokens, runs.unique)
    starts = np.array([[*fitted.theta, np.log(half)] for half in HALF_LIVES])
    theta, objective = descend(form, starts, np.log(runs.loss))
    best = int(objective.argmin())
    law = PowerLaws(runs.parameters, once).law(theta[best, :5])
    return RepetitionLaw(
        law, float(np.exp(theta[best, 5])), float(objective[best]), float((runs.tokens / once).max() - 1)
    )


@dataclass(frozen=True, slots=True)
class BrokenFit:
    """A broken power law of the envelope's losses: its exponents before and after, where it breaks, its objective."""

    before: float
    after: float
    at: float  # FLOP
    objective: float
    theta: tuple[float, ...]
    centre: float  # mean log compute of the runs


def broken(runs: ScalingSweep) -> BrokenFit | None:
    """The broken power law of the best run at each compute; None of fewer than POINTS of them."""
    best = envelope(runs)
    if len(best) < POINTS:
        return None
    compute, loss = runs.compute[best], runs.loss[best]
    form = BrokenPowerLaw(compute, float(np.log(compute).mean()))
    breaks = np.quantile(np.log(compute) - form.centre, [0.25, 0.5, 0.75])
    floor = float(loss.min())
    starts = np.array(
        [
            [np.log(loss.mean() - share * floor), np.log(share * floor), before, bend, at, np.log(width)]
            for share, before, bend, at, width in product(
                (0.3, 0.8), (0.05, 0.15, 0.4), (-0.05, 0.1), breaks, (0.3, 1.0)
            )
        ]
    )
    theta, objective = descend(form, starts, np.log(loss), rounds=100)
    theta, objective = descend(form, theta[np.argsort(objective)[:4]], np.log(loss))
    numbers = theta[objective.argmin()]
    at = float(np.exp(numbers[4] + form.centre))
    before, after = float(numbers[2]), float(numbers[2] + numbers[3])
    return BrokenFit(before, after, at, float(objective.min()), tuple(map(float, numbers)), form.centre)
