"""Temperature: divide the logits, by a constant or by what the entropy asks for."""

import math
from dataclasses import dataclass
from typing import ClassVar

from likely.engine.base.arrays import Array, Namespace, entropy
from likely.engine.sampling.transforms.arrays import Key
from likely.engine.sampling.transforms.intervals import Intervals
from likely.engine.sampling.transforms.parameter import Parameter
from likely.engine.sampling.transforms.transform import State, Transform, within

# Where an entropy of 0 asks for temperature 0: cold enough to be greedy, warm enough to stay finite.
COLDEST = 1e-3


@dataclass(frozen=True, slots=True)
class Temperature(Transform):
    """softmax(z / T): below 1 sharper, above 1 flatter.

    Ackley, Hinton & Sejnowski 1985 (eq. 5). T = 0, the most likely token always, is a recipe's `greedy`.
    """

    temperature: float

    parameters: ClassVar = (
        Parameter("temp", "temperature", "temperature", 0.0, 2.0, 0.05, 0.8, 1.0,
                  "below 1 sharper, above 1 flatter; 0 takes the most likely token"),
    )  # fmt: skip

    def __post_init__(self) -> None:
        within("temperature", self.temperature, "(0, 100]")

    def apply(self, logits: Array, state: State, key: Key, xp: Namespace) -> Array:
        return logits if self.temperature == 1 else logits * (1 / self.temperature)

    def bounds(self, known: Intervals, state: State, key: Key) -> None:
        known.divide(self.temperature, self.temperature)


@dataclass(frozen=True, slots=True)
class DynamicTemperature(Transform):
    """A temperature from T - spread to T + spread: low where the model is sure, high where it is not.

    T_dyn = low + (high - low) (H / log n)^exponent, with H the entropy of the n tokens left; as llama.cpp's `temp_ext`
    (after kalomaze's entropy sampling).
    """

    temperature: float
    spread: float
    exponent: float = 1.0

    parameters: ClassVar = (
        Parameter("dynatemp_range", "dynamic range", "spread", 0.0, 2.0, 0.05, 0.0, 0.0,
                  "the temperature moves this far either way with the entropy"),
        Parameter("dynatemp_exponent", "dynamic exponent", "exponent", 0.1, 4.0, 0.1, 1.0, None,
                  "how the entropy maps to the dynamic temperature"),
    )  # fmt: skip

    def __post_init__(self) -> None:
        within("temperature", self.temperature, "(0, 100]")
        within("dynamic temperature range", self.spread, "[0, 100]")
        within("dynamic temperature exponent", self.exponent, "(0, 10]")

    @property
    def low(self) -> float:
        return max(self.temperature - self.spread, COLDEST)

    @property
    def high(self) -> float:
        return self.temperature + self.spread

    def apply(self, logits: Array, state: State, key: Key, xp: Namespace) -> Array:
        # of one token alone log n is 0, and so is H
        widest = xp.log(xp.maximum(xp.sum(logits > -xp.inf), 2))
        share = xp.clip(entropy(logits, xp) / widest, 0.0, 1.0) ** self.exponent
        return logits / (self.low + (self.high - self.low) * share).astype(logits.dtype)

    def bounds(self, known: Intervals, state: State, key: Key) -> None:
        shares = (h / math.log(max(n, 2)) for h, n in zip(known.entropy(), reversed(known.kept()), strict=True))
        low, high = (min(max(share, 0.0), 1.0) ** self.exponent for share in shares)
        span = self.high - self.low
        known.divide(self.low + span * low, self.low + span * high)
