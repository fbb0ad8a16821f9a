"""What a layer does to each position by itself: a gated MLP or a plain one."""

from collections.abc import Callable

from metal import mx
from models.layers import Product

Array = mx.array


class Gated:
    """down(activation(gate(x)) * up(x)) (arXiv:2002.05202); gate and up are one product."""

    __slots__ = ("activate", "down", "gate_up")

    def __init__(self, gate_up: Product, down: Product, activate: Callable[[Array], Array]) -> None:
        self.gate_up, self.down, self.activate = gate_up, down, activate

    def __call__(self, x: Array) -> Array:
        gate, up = mx.split(self.gate_up(x), 2, axis=-1)
        return self.down(self.activate(gate) * up)


class Plain:
    """down(activation(up(x)))."""

    __slots__ = ("activate", "down", "up")

    def __init__(self, up: Product, down: Product, activate: Callable[[Array], Array]) -> None:
        self.up, self.down, self.activate = up, down, activate

    def __call__(self, x: Array) -> Array:
        return self.down(self.activate(self.up(x)))
