"""A context made longer by scaling RoPE at load, beside what a configuration says: YaRN, NTK-aware, linear.

Rotary dimensions turn by p * frequency. Past the context that was trained the slow ones come to angles that no weight
has seen; the three ways keep them within by s, the factor of the context:

    linear  every frequency by 1/s: position interpolation (Chen et al., arXiv:2306.15595, eq. 4)
    ntk     theta s^(d / (d - 2)): the slowest by 1/s, the fastest hardly ("NTK-aware"; arXiv:2309.00071, eq. 16)
    yarn    by 1/s what turns less than once in the context, nothing that turns 32 times or more, a ramp between, and
            queries and keys times 0.1 ln s + 1 (YaRN, arXiv:2309.00071, eq. 18 to 22)

Layers that slide over no more than the trained context see no distance past it and stay as they are, as in Gemma 3,
whose own context was made longer in its full layers alone (arXiv:2503.19786, section 2). Knows no weights, and not what
a longer context costs (`engine.context_price`).
"""

import math
from dataclasses import dataclass, replace
from typing import Self

from likely.models.configuration.config import ModelConfig
from likely.models.configuration.rope import Rope
from likely.models.errors import ConfigError

KINDS = {"yarn": "YaRN", "ntk": "NTK-aware", "linear": "linear"}
KEY = "further_rope_scaling"  # by which a configuration says one
MARK = "@"  # between a model's name and its scaling
MOST = 64.0


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """One of `KINDS`, for a context of `factor` times as many positions."""

    kind: str
    factor: float

    @classmethod
    def read(cls, text: str) -> Self:
        """KIND:FACTOR, as `yarn:4`; ConfigError for any other."""
        kind, _, number = text.partition(":")
        try:
            factor = float(number)
        except ValueError:
            factor = math.nan
        if kind not in KINDS or not 1 < factor <= MOST:
            raise ConfigError(
                f"rope takes KIND:FACTOR, a kind of {', '.join(KINDS)} and a factor above 1, at most {MOST:g}, "
                f"as yarn:2; got {text!r}"
            )
        return cls(kind, factor)

    def __str__(self) -> str:
        return f"{self.kind}:{self.factor:g}"

    @property
    def words(self) -> str:
        return f"{self.kind} x{self.factor:g}"

    def context(self, trained: int) -> int:
        """Positions, where so many were trained."""
        return int(trained * self.factor)

    def of(self, rope: Rope, trained: int) -> Rope:
        """A plain rotation, scaled."""
        if self.kind == "ntk":
            return replace(rope, theta=rope.theta * self.factor ** (rope.dims / (rope.dims - 2)))
        if self.kind == "linear":
            return replace(rope, kind="linear", factor=self.factor)
        gain = 0.1 * math.log(self.factor) + 1
        return replace(rope, kind="yarn", factor=self.factor, original=trained, attention_factor=gain)


def longer(config: ModelConfig, scaling: RopeScaling) -> ModelConfig:
    """The shape of a model whose context was made longer. ConfigError, in a line that says why, where it cannot be."""
    trained = config.context
    ropes = [
        rope if rope is None or 0 < window <= trained else scaling.of(_plain(rope, scaling), trained)
        for rope, window in zip(config.ropes, config.windows, strict=True)
    ]
    if config.learned_positions:
        raise refused(f"its {config.learned_positions:,} positions are a learned table, and no rotation")
    if not any(config.ropes):
        raise refused("no layer of it turns by a position")
    if trained < 2:
        raise refused("it was made for one position")
    if ropes == list(config.ropes):
        raise refused(f"its layers see {max(config.windows):,} positions back at most, within the {trained:,} trained")
    return replace(config, context=scaling.context(trained), ropes=tuple(ropes)).check()


def _plain(rope: Rope, scaling: RopeScaling) -> Rope:
    if rope.kind != "default":
        raise refused(f"its RoPE is scaled by its own configuration ({rope.kind} by {rope.factor:g})")
    if rope.dims < 4:
        raise refused(f"{scaling.kind} needs 4 rotated dimensions of a head, and {rope.dims} are rotated")
    return rope


def refused(why: str) -> ConfigError:
    """An error that says why; to be raised."""
    return ConfigError(f"no longer RoPE for this model: {why}")


def apart(name: str) -> tuple[str, RopeScaling | None]:
    """A model's name without its scaling, and that: `smollm2@yarn:2`. ConfigError for one that cannot be."""
    base, _, text = name.rpartition(MARK)
    if not base or text.partition(":")[0] not in KINDS:
        return name, None
    return base, RopeScaling.read(text)
