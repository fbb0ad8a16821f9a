"""Adapter layers, the parts of a model that compute with adapters: a product, the embedding, a mixture of experts.

Each stands in the place of the bare part, holds it unchanged as `base`, and adds the factors' change to its output. The
adapters of one product share one pass over its input. Dropout leaves out inputs: `keep` is the share that stays.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from likely.metal import mx
from likely.models.modules.linear import Embedding, Product, gated
from likely.models.modules.mlp import Mixture, gather
from likely.models.packed_weights.additions import LowRank

if TYPE_CHECKING:
    from likely.engine.weights.adapters.factors import Factors

Array = mx.array


class AdapterLayer:
    """A layer with adapters: the state that the three kinds share."""

    factors: "list[Factors]"
    on: bool
    keep: float
    key: Array | None

    def reset(self) -> None:
        """Take off every adapter, with no dropout."""
        self.factors, self.on, self.keep, self.key = [], True, 1.0, None

    def factors_added(self) -> list[Array]:
        """A and B of each of its factors."""
        return [array for f in self.factors for array in f.whole()]

    def dropped(self, x: Array) -> Array:
        if self.keep == 1 or self.key is None:
            return x
        return x * (mx.random.bernoulli(self.keep, x.shape, key=self.key) / self.keep).astype(x.dtype)


class AdaptedProduct(AdapterLayer):
    """A product: y = W x + scale (x A) B on each site's outputs; factors may be those of a batch's rows, [B, in, r]."""

    def __init__(self, base: Product, outputs: int) -> None:
        self.base, self.outputs = base, outputs
        self.tied: list[TiedAdapter] = []  # on a head that is the embedding: those of the embedding
        self.reset()

    def __call__(self, x: Array) -> Array:
        y = self.base(x)
        changes: list[Factors | TiedAdapter] = [*self.factors, *self.tied]
        if not self.on or not changes:
            return y
        parts: dict[int, list[int]] = {}
        for i, f in enumerate(changes):
            parts.setdefault(f.start, []).append(i)
        downs = [f.whole() for f in changes]
        inner = self.dropped(x)
        z = inner @ _joined([a for a, _ in downs]).astype(x.dtype)  # [..., sum of ranks]
        inside, at = [], 0
        for a, _ in downs:
            inside.append(z[..., at : at + a.shape[-1]])
            at += a.shape[-1]
        outs, end = [], 0
        for start in sorted(parts):
            if start > end:
                outs.append(y[..., end:start])
            end = changes[parts[start][0]].stop
            own = y if start == 0 and end == self.outputs else y[..., start:end]
            for i in parts[start]:
                f = changes[i]
                own = f.rescaled(own, (inside[i] @ downs[i][1].astype(x.dtype)) * (f.scale * f.weight))
            outs.append(own)
        if end < self.outputs:
            outs.append(y[..., end:])
        return outs[0] if len(outs) == 1 else mx.concatenate(outs, axis=-1)

    def added(self) -> list[LowRank] | None:
        """Low ranks that it adds, as plain data; None where they are of a batch's rows, or inputs are left out."""
        if self.keep != 1 or any(f.whole()[0].ndim != 2 for f in self.factors):
            return None
        changes: list[Factors | TiedAdapter] = [*self.factors, *self.tied]
        return [f.low_rank() for f in changes] if self.on else []


def _joined(downs: list[Array]) -> Array:
    """First factors [in, r] side by side; where some are of a batch's rows, [B, in, r], so are all."""
    rows = max(downs, key=lambda a: a.ndim).shape[:-2]
    if len(downs) == 1 or not rows:
        return downs[0] if len(downs) == 1 else mx.concatenate(downs, axis=1)
    return mx.concatenate([mx.broadcast_to(a, (*rows, *a.shape[-2:])) for a in downs], axis=-1)


class TiedAdapter:
    """An adapter of the embedding as the head that is the same table sees it: both factors transposed."""

    def __init__(self, factors: "Factors", outputs: int) -> None:
        self.factors = factors
        self.start, self.stop = 0, outputs
        self.m: Array | None = None

    @property
    def scale(self) -> float:
        return self.factors.scale

    @property
    def weight(self) -> float:
        return self.factors.weight

    def whole(self) -> tuple[Array, Array]:
        return self.factors.b.T, self.factors.a.T

    def rescaled(self, y: Array, z: Array) -> Array:
        return y + z

    def low_rank(self) -> LowRank:
        a, b = (np.array(part.astype(mx.float32)) for part in self.whole())
        return LowRank(self.start, self.stop, a, b, self.scale * self.weight)


class AdaptedEmbedding(AdapterLayer):
    """The embedding: a token's row and scale A[token] B."""

    def __init__(self, base: Embedding) -> None:
        self.base, self.dtype = base, base.dtype
        self.reset()

    def __call__(self, tokens: Array) -> Array:
        y = self.base(tokens)
        if self.on:
            for f in self.factors:
                y = y + self.dropped((f.a[tokens] @ f.b) * (f.scale * f.weight)).astype(y.dtype)
        return y

    def added(self) -> list[LowRank] | None:
        """Low ranks that it adds, as plain data; None where inputs are left out."""
        if self.keep != 1:
            return None
        return [replace(f.low_rank(), start=0, stop=f.site.width) for f in self.factors] if self.on else []


class AdaptedMixture(AdapterLayer, Mixture):
    """A mixture: to each expert's product its own scale (x A^T) B^T, by the same choice of experts."""

    def __init__(self, base: Mixture) -> None:
        self.base = base
        self.reset()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["base"], name)

    def _expert(self, x: Array, chosen: Array, ordered: bool) -> Array:
        if not self.on:
            return super()._expert(x, chosen, ordered)
        inner = self.dropped(x)
        products = [gather(x, matrix, chosen, ordered) for matrix in self.gate_up]
        gate, up = products if len(products) == 2 else mx.split(products[0], 2, axis=-1)
        gate, up = (self._changed(y, inner, part, chosen, ordered) for y, part in ((gate, "gate"), (up, "up")))
        hidden = gated(self.activate, gate, up)
        down = gather(hidden, self.down, chosen, ordered)
        return self._changed(down, self.dropped(hidden), "down", chosen, ordered)

    def _changed(self, y: Array, x: Array, part: str, chosen: Array, ordered: bool) -> Array:
        for f in self.factors:
            if f.site.role == f"experts.{part}":
                z = gather(gather(x, f.a.astype(x.dtype), chosen, ordered), f.b.astype(x.dtype), chosen, ordered)
                y = y + z * (f.scale * f.weight)
        return y
