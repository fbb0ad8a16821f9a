"""Observed products: what adapted layers of a model read, while texts go through its graph. Knows no texts."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from likely.engine.weights.adapters.adapter_layers import AdapterLayer
from likely.engine.weights.adapters.factors import Factors
from likely.metal import mx

Array = mx.array


class ObservedProduct:
    """A product with adapters that shows what it reads, and adds `nudge` to what it gives: for gradients there."""

    def __init__(self, base: AdapterLayer) -> None:
        self.base: Any = base
        self.nudge: Array | None = None
        self.read: Array | None = None
        self.source = 0  # number of the first watched product that reads the same array

    def __call__(self, x: Array) -> Array:
        self.read = x
        y: Array = self.base(x)
        return y if self.nudge is None else y + self.nudge


@contextmanager
def observed(factors: Sequence[Factors]) -> Iterator[dict[tuple[int, str], ObservedProduct]]:
    """For as long as a block runs, an observed product stands in the place of each layer that the factors are on; by
    its owner and slot."""
    products: dict[tuple[int, str], ObservedProduct] = {}
    try:
        for f in factors:
            key = id(f.site.owner), f.site.slot
            if key not in products:
                products[key] = ObservedProduct(getattr(f.site.owner, f.site.slot))
                setattr(f.site.owner, f.site.slot, products[key])
        yield products
    finally:
        for f in factors:
            layer = getattr(f.site.owner, f.site.slot)
            if isinstance(layer, ObservedProduct):
                setattr(f.site.owner, f.site.slot, layer.base)
