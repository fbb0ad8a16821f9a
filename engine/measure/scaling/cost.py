"""The cost of a ladder on this machine before it starts: seconds of each run, from short probes of a few sizes.

A run takes a start, validation included, and a time a token that grows with its parameters: between probed sizes along
a straight line in logarithms, above them along the last one. Knows nothing of who trains.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from likely.engine.measure.scaling.plan import ScalingRun

PROBED = 3  # sizes at most: the smallest, one in the middle, the largest


@dataclass(frozen=True, slots=True)
class SpeedProbe:
    """A short training here: seconds a token in its steps, and seconds beside them; peak bytes foreseen."""

    parameters: int
    a_token_s: float
    beside_s: float
    memory: int = 0


@dataclass(frozen=True)
class SweepCost:
    """Runs and the seconds that each takes."""

    rungs: Sequence[ScalingRun]
    seconds: Sequence[float]
    memory: int  # bytes, of the largest

    @property
    def total_s(self) -> float:
        return float(sum(self.seconds))

    @property
    def rate(self) -> float:
        """FLOP a second over all of it."""
        return sum(rung.compute for rung in self.rungs) / self.total_s


def chosen(sizes: Mapping[str, int]) -> list[str]:
    """The sizes that are probed, of those with so many parameters."""
    rising = sorted(sizes, key=lambda size: sizes[size])
    at = np.linspace(0, len(rising) - 1, min(PROBED, len(rising))).round().astype(int)
    return [rising[i] for i in dict.fromkeys(at.tolist())]


def cost(rungs: Sequence[ScalingRun], probes: Sequence[SpeedProbe]) -> SweepCost:
    """Seconds and memory that these runs should take, by at least one probe where there are any."""
    known = sorted(probes, key=lambda probe: probe.parameters)
    x, a_token = (np.log([getattr(probe, name) for probe in known]) for name in ("parameters", "a_token_s"))
    slope = (a_token[-1] - a_token[-2]) / (x[-1] - x[-2]) if len(known) > 1 else 1.0
    seconds = []
    for rung in rungs:
        at = np.log(rung.parameters)
        own = np.exp(np.interp(at, x, a_token) + max(0.0, at - x[-1]) * slope)
        seconds.append(float(np.interp(at, x, [probe.beside_s for probe in known]) + own * rung.tokens))
    return SweepCost(rungs, seconds, max((probe.memory for probe in known), default=0))
