"""Metrics of one next-token distribution against another, in a table: a comparison and `likely diff` know them by name.

A metric takes log-probabilities [..., V] before and now, and the array namespace that they are of.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from engine import arrays
from engine.arrays import Array, Namespace
from engine.errors import ParameterError


@dataclass(frozen=True, slots=True)
class Metric:
    """A number for each pair of distributions, [...]; of several, the mean is reported."""

    name: str
    unit: str  # nats, or share for what lies between 0 and 1
    of: Callable[[Array, Array, Namespace], Array]
    help: str


# What there is to ask for by name.
METRICS: tuple[Metric, ...] = (
    Metric("kl", "nats", lambda before, now, xp: arrays.kl(now, before, xp), "KL(now || before)"),
    Metric("reverse_kl", "nats", lambda before, now, xp: arrays.kl(before, now, xp), "KL(before || now)"),
    Metric("js", "nats", arrays.js, "Jensen-Shannon divergence"),
    Metric("tv", "share", arrays.tv, "total variation distance"),
    Metric("same_top", "share", lambda p, q, xp: xp.argmax(p, -1) == xp.argmax(q, -1), "the same most likely token"),
)


def every(before: np.ndarray, now: np.ndarray) -> dict[str, float]:
    """All of `METRICS` by name, of two distributions by their logits [V]."""
    p, q = (arrays.logprobs(np.asarray(logits, np.float64), np) for logits in (before, now))
    return {metric.name: float(metric.of(p, q, np)) for metric in METRICS}


def named(names: Sequence[str]) -> tuple[Metric, ...]:
    """The metrics of these names; ParameterError for one that there is not."""
    known = {metric.name: metric for metric in METRICS}
    for name in names:
        if name not in known:
            there = ", ".join(f"{metric.name} ({metric.help})" for metric in METRICS)
            raise ParameterError(f"there is no metric {name}: there are {there}")
    return tuple(known[name] for name in names)
