"""The MLP of a layer, which looks at each position by itself: gated, plain, or a mixture of gated experts."""

from collections.abc import Callable, Sequence

from likely.metal import mx
from likely.models.configuration.config import Experts
from likely.models.errors import CheckpointError
from likely.models.modules.linear import NVFP4_MAX, AnyLinear, Product, gated, onto
from likely.models.modules.weights import Matrix, PackedRows

Array = mx.array


class GatedMLP:
    """down(activation(gate(x)) * up(x)) (arXiv:2002.05202); gate and up are one product."""

    __slots__ = ("activate", "down", "gate_up")

    def __init__(self, gate_up: Product, down: Product, activate: Callable[[Array], Array]) -> None:
        self.gate_up, self.down, self.activate = gate_up, down, activate

    def __call__(self, x: Array) -> Array:
        return self.down(self.neurons(x))

    def onto(self, residual: Array, x: Array) -> Array:
        """residual + self(x)."""
        return onto(residual, self.down, self.neurons(x))

    def neurons(self, x: Array) -> Array:
        """Activations of its neurons for x [B, T, C]: the input of `down`, [B, T, F]."""
        gate, up = mx.split(self.gate_up(x), 2, axis=-1)
        return gated(self.activate, gate, up)


class Plain:
    """down(activation(up(x)))."""

    __slots__ = ("activate", "down", "up")

    def __init__(self, up: Product, down: Product, activate: Callable[[Array], Array]) -> None:
        self.up, self.down, self.activate = up, down, activate

    def __call__(self, x: Array) -> Array:
        return self.down(self.neurons(x))

    def onto(self, residual: Array, x: Array) -> Array:
        """residual + self(x)."""
        return onto(residual, self.down, self.neurons(x))

    def neurons(self, x: Array) -> Array:
        """Activations of its neurons for x [B, T, C]: the input of `down`, [B, T, F]."""
        return self.activate(self.up(x))


SORTED = 64  # choices from which sorting them by expert pays


class Mixture:
    """For each position, the weighted sum of what the experts that a router chose make of it (arXiv:1701.06538)."""

    def __init__(
        self,
        experts: Experts,
        router: AnyLinear,
        gate_up: Sequence[Matrix],
        down: Matrix,
        activate: Callable[[Array], Array],
    ) -> None:
        self.router, self.activate = router, activate
        self.gate_up, self.down = list(gate_up), down  # one matrix, or gate and up if they are packed differently
        self.count, self.width = experts.count, experts.width
        self.active, self.of_all, self.normalise = experts.active, experts.among == "all", experts.normalise

    def __call__(self, x: Array) -> Array:
        scores = self.router(x)  # [B, T, experts]
        if self.of_all:
            scores = mx.softmax(scores, axis=-1, precise=True)
        k = self.active
        chosen = mx.stop_gradient(mx.argpartition(-scores, k - 1, axis=-1)[..., :k])
        weights = mx.take_along_axis(scores, chosen, axis=-1)
        if not self.of_all:
            weights = mx.softmax(weights, axis=-1, precise=True)
        elif self.normalise:
            weights = weights / mx.sum(weights, axis=-1, keepdims=True)
        return mx.sum(self._by_expert(x, chosen) * weights[..., None], axis=-2).astype(x.dtype)

    def onto(self, residual: Array, x: Array) -> Array:
        """residual + self(x)."""
        return residual + self(x)

    def _by_expert(self, x: Array, chosen: Array) -> Array:
        """The output of each chosen expert for its position, [B, T, active, C]."""
        x = x[..., None, None, :]
        if chosen.size < SORTED:
            return self._expert(x, chosen, False).squeeze(-2)
        shape, flat = chosen.shape, chosen.flatten()
        order = mx.argsort(flat)
        y = self._expert(x.reshape(-1, 1, x.shape[-1])[order // self.active], flat[order], True)
        return y[mx.argsort(order)].reshape(*shape, -1)

    def _expert(self, x: Array, chosen: Array, ordered: bool) -> Array:
        if len(self.gate_up) == 1:
            gate, up = mx.split(gather(x, self.gate_up[0], chosen, ordered), 2, axis=-1)
        else:
            gate, up = (gather(x, matrix, chosen, ordered) for matrix in self.gate_up)
        return gather(gated(self.activate, gate, up), self.down, chosen, ordered)


MLP = GatedMLP | Plain | Mixture


def gather(x: Array, matrix: Matrix, chosen: Array, ordered: bool) -> Array:
    """x [..., 1, in] by the rows of the chosen experts -> [..., 1, out]."""
    if not isinstance(matrix, PackedRows):
        return mx.gather_mm(x, matrix.swapaxes(-1, -2), rhs_indices=chosen, sorted_indices=ordered)
    layout = matrix.layout
    y = mx.gather_qmm(
        x,
        matrix.weight,
        matrix.scales,
        matrix.biases,
        rhs_indices=chosen,
        transpose=True,
        group_size=layout.group_size,
        bits=layout.bits,
        mode=layout.mode,
        sorted_indices=ordered,
    )
    if matrix.global_scale is None:
        return y
    gain = matrix.global_scale / NVFP4_MAX  # mlx takes it on a GPU alone
    return y * gain[chosen][..., None, None].astype(y.dtype)


def stack(weights: dict[str, Array], experts: str, names: dict[str, str], count: int) -> None:
    """Replace the tensors `experts`.N.name of `count` experts by one of all, under the name that `names` gives."""
    for old, new in names.items():
        for kind in ("weight", "scales", "biases"):
            parts = [weights.pop(f"{experts}.{i}.{old}.{kind}", None) for i in range(count)]
            there = [part for part in parts if part is not None]
            if len(there) == count:
                weights[f"{new}.{kind}"] = mx.stack(there)
            elif there:
                missing = next(i for i, part in enumerate(parts) if part is None)
                raise CheckpointError(f"weights: {experts}.{missing}.{old}.{kind} is missing")
