"""Activations kept for the way back: all but what is cheaply made again, or with checkpointing only blocks' inputs."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from likely.engine.weights.adapters.full import FullWeights
from likely.engine.weights.adapters.lora import Adapter
from likely.metal import mx
from likely.models import Transformer
from likely.models.modules.linear import GPU, bare, silu
from likely.models.modules.mlp import GatedMLP

Array = mx.array


class LeanGatedMLP(GatedMLP):
    """A gated MLP that keeps gate and up, and makes their activated product again on the way back.

    That is 2 of the 5 arrays [N, M] that the plain one keeps, for one more activation.
    """

    __slots__ = ()

    def _inner(self, x: Array) -> Array:
        def mix(both: Array) -> Array:
            gate, up = mx.split(both, 2, axis=-1)
            return self.activate(gate) * up

        inner: Array = mx.checkpoint(mix)(self.gate_up(x))
        return inner


def steady_silu(x: Array) -> Array:
    """SiLU as a CPU computes it, with a derivative everywhere: below -88 the power alone is infinite in float32."""
    return x / (1 + mx.power(math.exp(-1), mx.maximum(x, -80.0)))


def lean(model: Transformer) -> None:
    """Make a model fit to be gone back through: lean MLPs for gated ones, steady activations; it computes the same."""
    for block in map(bare, model.blocks):
        if block.mlp.activate is silu and not GPU:
            block.mlp.activate = steady_silu
        if type(block.mlp) is GatedMLP:
            block.mlp = LeanGatedMLP(block.mlp.gate_up, block.mlp.down, block.mlp.activate)


class Checkpointed:
    """A block whose inside is computed again on the way back."""

    def __init__(self, block: Any, part: Adapter | FullWeights) -> None:
        self.base, self.part = block, part

    def __call__(self, x: Array, *rest: Any) -> Array:
        def inner(parameters: dict[str, Array], x: Array) -> Array:
            self.part.set(parameters)
            y: Array = self.base(x, *rest)
            return y

        before = self.part.parameters()
        y: Array = mx.checkpoint(inner)(before, x)
        self.part.set(before)
        return y


@contextmanager
def checkpointed(model: Transformer, trained: Adapter | FullWeights) -> Iterator[None]:
    """Keep only the blocks' inputs, from the lowest trained layer on."""
    blocks = list(model.blocks)
    lowest = max(0, trained.lowest)
    for index in range(lowest, len(blocks)):
        model.blocks[index] = Checkpointed(blocks[index], trained.layer(index))  # type: ignore[call-overload]
    try:
        yield
    finally:
        model.blocks[:] = blocks
