"""Calibration: whether what is said with 80 % confidence is right 80 % of the time, and a temperature that makes it so.

Confidence is the probability of the answer that was chosen. Every figure names its bins, since the expected calibration
error depends on them, and for few items is above 0 even where the model is calibrated. No mlx.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BINS = 15
Numbers = Sequence[float] | np.ndarray


@dataclass(frozen=True, slots=True)
class Bin:
    """Items whose confidence is in (low, high]."""

    low: float
    high: float
    count: int
    confidence: float  # means
    accuracy: float


def reliability(confidence: Numbers, right: Numbers, bins: int = BINS) -> list[Bin]:
    """Bins of equal width that hold items; a confidence on an edge belongs to the bin below it, 0 to the first."""
    p, was = np.asarray(confidence, np.float64), np.asarray(right, np.float64)
    edges = np.linspace(0, 1, bins + 1)
    return _binned(p, was, np.clip(np.searchsorted(edges, p - 1e-12, side="left") - 1, 0, bins - 1), edges)


def adaptive(confidence: Numbers, right: Numbers, bins: int = BINS) -> list[Bin]:
    """Bins of as many items each, as far as equal confidences can be parted."""
    p, was = np.asarray(confidence, np.float64), np.asarray(right, np.float64)
    if not len(p):
        return []
    edges = np.unique(np.quantile(p, np.linspace(0, 1, bins + 1)))
    if len(edges) == 1:
        edges = np.array([edges[0], edges[0]])
    index = np.clip(np.searchsorted(edges, p, side="left") - 1, 0, len(edges) - 2)
    return _binned(p, was, index, edges)


def _binned(p: np.ndarray, was: np.ndarray, index: np.ndarray, edges: np.ndarray) -> list[Bin]:
    counts, *sums = (np.bincount(index, weights, len(edges) - 1).tolist() for weights in (None, p, was))
    ends = edges.tolist()
    return [
        Bin(low, high, count, confidence / count, right / count)
        for low, high, count, confidence, right in zip(ends[:-1], ends[1:], counts, *sums, strict=True)
        if count
    ]


def ece(bins: Sequence[Bin]) -> float:
    """The expected calibration error (Guo et al. 2017, eq. 3): |confidence - accuracy|, weighted by the bins' items."""
    n = sum(one.count for one in bins)
    return math.fsum(one.count * abs(one.confidence - one.accuracy) for one in bins) / n if n else math.nan


def debiased(bins: Sequence[Bin]) -> float:
    """The root of the squared calibration error, each bin's variance taken off (Kumar et al. 2019, def. 5.1); 0 where
    there is no more than that."""
    n = sum(one.count for one in bins)
    if not n:
        return math.nan
    total = math.fsum(
        one.count * ((one.confidence - one.accuracy) ** 2 - one.accuracy * (1 - one.accuracy) / (one.count - 1))
        for one in bins
        if one.count > 1
    )
    return math.sqrt(max(0.0, total / n))


def of_choice(totals: Sequence[float], gold: int) -> dict[str, float]:
    """Measures of one question by its choices' log-probabilities, in nats: acc (of equals, the first is taken);
    brier_score, the squared distance of probabilities that add up to 1 from the right choice, 0 to 2; nll, minus the
    logarithm of the right one's; confidence, the probability of the one taken."""
    logp = np.asarray(totals, np.float64)
    lse = np.logaddexp.reduce(logp)
    mass = np.exp(logp - lse)
    return {
        "acc": float(np.argmax(logp) == gold),
        "brier_score": float(np.sum((mass - (np.arange(len(logp)) == gold)) ** 2)),
        "nll": float(lse - logp[gold]),
        "confidence": float(mass.max()),
    }


def temperature(logits: Sequence[Sequence[float]], gold: Sequence[int]) -> float:
    """The T of softmax(logits / T) with the least -log p of what is right, for items that nothing is reported of.

    The loss is convex in 1 / T: its slope is followed to 0 by halving (Guo et al. 2017, sec. 4.2). Rows may have
    different lengths. Bounded by 1/100 and 100, where the answers are all right or all worse than chance.
    """
    rows = [np.asarray(row, np.float64) for row in logits]
    longest = max(map(len, rows))
    z = np.array([np.pad(row - row.max(), (0, longest - len(row)), constant_values=-np.inf) for row in rows])
    chosen = np.array([row[g] - row.max() for row, g in zip(rows, gold, strict=True)])
    finite = np.where(np.isfinite(z), z, 0.0)

    def slope(inverse: float) -> float:
        mass = np.where(np.isfinite(z), np.exp(inverse * finite), 0.0)
        return float(np.mean((mass * finite).sum(axis=1) / mass.sum(axis=1) - chosen))

    low, high = math.log(0.01), math.log(100.0)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(math.exp(middle)) < 0 else (low, middle)
    return math.exp(-(low + high) / 2)
