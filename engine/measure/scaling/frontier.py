"""The best size by compute, read off the runs without a form of the loss: Chinchilla's approaches 1 and 2.

1, the envelope: of the runs that no cheaper one beats, how parameters grow with compute. 2, isoFLOP: in each group of
runs of one budget a parabola of the loss in log N, whose lowest point is the best size (Hoffmann et al.,
arXiv:2203.15556, sec. 3.1 and 3.2). A parabola is not the law: its lowest point is off by the window of sizes, which
`IsoFlop.bias` says for a law that was fitted. Knows no intervals but those of a line through points.
"""

from dataclasses import dataclass

import numpy as np

from likely.engine.base.statistics.estimates import Estimate
from likely.engine.measure.scaling.scaling_law import FLOP, ScalingLaw
from likely.engine.measure.scaling.sweep import ScalingSweep

SAME_BUDGET = 1.15  # runs whose compute differs less than this, one after another, are of one budget


@dataclass(frozen=True, slots=True)
class IsoFlop:
    """Runs of one compute (FLOP) and the lowest point of their parabola; None where it has none between them."""

    compute: float
    sizes: tuple[float, ...]  # rising
    losses: tuple[float, ...]
    best: float | None
    loss: float | None

    @property
    def window(self) -> float:
        """The largest size over the smallest."""
        return self.sizes[-1] / self.sizes[0]

    def bias(self, law: ScalingLaw) -> float | None:
        """The lowest point of the parabola through the law at these sizes, over the size that is best by the law."""
        sizes = np.array(self.sizes)
        best, _ = lowest(sizes, law.loss(sizes, self.compute / FLOP / sizes))
        return None if best is None else best / law.best(self.compute)[0]

    def parabola(self, sizes: np.ndarray) -> np.ndarray:
        """Losses of the parabola at some sizes."""
        numbers, middle = _parabola(np.array(self.sizes), np.array(self.losses))
        losses: np.ndarray = np.polyval(numbers, np.log(sizes) - middle)
        return losses


def lowest(sizes: np.ndarray, losses: np.ndarray) -> tuple[float | None, float | None]:
    """Size and loss at the lowest point of a parabola in log N, where that is between the sizes."""
    x = np.log(sizes)
    (a, b, c), middle = _parabola(sizes, losses)
    if a <= 0:
        return None, None
    at = -b / (2 * a)
    if not x[0] - middle < at < x[-1] - middle:
        return None, None
    return float(np.exp(at + middle)), float(c - b * b / (4 * a))


def _parabola(sizes: np.ndarray, losses: np.ndarray) -> tuple[np.ndarray, float]:
    """The parabola of losses in log N from its mean on, its numbers from the square down, and that mean."""
    x = np.log(sizes)
    middle = float(x.mean())
    return np.polyfit(x - middle, losses, 2), middle


def budgets(runs: ScalingSweep) -> list[IsoFlop]:
    """The groups of at least four sizes at one compute, the cheapest first; none where runs are not so laid out."""
    order = np.argsort(runs.compute)
    compute = runs.compute[order]
    breaks = np.flatnonzero(compute[1:] > compute[:-1] * SAME_BUDGET) + 1
    parabolas = []
    for group in np.split(order, breaks):
        group = group[np.argsort(runs.parameters[group])]
        sizes, losses = runs.parameters[group], runs.loss[group]
        if len(np.unique(sizes)) < 4:
            continue
        best, loss = lowest(sizes, losses)
        compute_here = float(np.exp(np.log(runs.compute[group]).mean()))
        parabolas.append(IsoFlop(compute_here, tuple(map(float, sizes)), tuple(map(float, losses)), best, loss))
    return parabolas


def envelope(runs: ScalingSweep) -> np.ndarray:
    """The runs that no run of as little compute is better than, the cheapest first: their numbers in `runs`."""
    order = np.lexsort((runs.loss, runs.compute))
    lowest_before = np.minimum.accumulate(np.concatenate([[np.inf], runs.loss[order][:-1]]))
    return order[runs.loss[order] < lowest_before]


def exponent(compute: np.ndarray, best: np.ndarray) -> Estimate | None:
    """a of N* ~ C^a by a line through log-log points, with Student's interval; None of fewer than three."""
    n = len(compute)
    if n < 3:
        return None
    x, y = np.log(compute) - np.log(compute).mean(), np.log(best)
    slope = float(x @ y / (x @ x))
    residuals = y - y.mean() - slope * x
    error = float(np.sqrt(residuals @ residuals / (n - 2) / (x @ x)))
    return Estimate(slope, error, n - 2, n=n)
