"""Full fine-tuning: the weights of the model themselves as parameters, under their checkpoint's names.

Trains the matrices and norms of the chosen layers, and with all layers also the embedding, the final norm and the head.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from engine.errors import ParameterError
from engine.tune.sites import part
from metal import mx
from models import Transformer
from models.families.registry import family
from models.layers import Embedding, Linear, Norm, RMSNorm

Array = mx.array


@dataclass(frozen=True)
class Slot:
    """One array that is trained: how to read it and how to put another in its place."""

    get: Callable[[], Array]
    put: Callable[[Array], None]
    layer: int  # -1 below the blocks, their number above
    offset: float = 0.0  # what the checkpoint stores is this much less


@dataclass
class FullWeights:
    """The trained weights of a model; the same members as an adapter's."""

    slots: dict[str, Slot] = field(default_factory=dict)
    start: dict[str, Array] | None = None  # the weights before training, where something is measured from them

    def parameters(self) -> dict[str, Array]:
        return {name: slot.get() for name, slot in self.slots.items()}

    def set(self, parameters: dict[str, Array]) -> None:
        for name, array in parameters.items():
            self.slots[name].put(array)

    def head(self, model: Transformer) -> list[str]:
        """The names of those that logits are made with, past the hidden states."""
        top = family(model.config.family).top
        path = top["embed" if model.config.tied else "head"]
        return [name for name in self.slots if name.rpartition(".")[0] == path]

    def keep(self) -> None:
        """Hold on to the weights as they are now: a second copy, once they move."""
        self.start = self.parameters()

    @contextmanager
    def started(self) -> Iterator[None]:
        """The weights that were kept, for as long as the block runs."""
        assert self.start is not None
        now = self.parameters()
        self.set(self.start)
        try:
            yield
        finally:
            self.set(now)

    def stored(self, parameters: dict[str, Array]) -> dict[str, Array]:
        """The same as a checkpoint has them."""
        return {name: a - self.slots[name].offset if self.slots[name].offset else a for name, a in parameters.items()}

    def unstored(self, arrays: dict[str, Array]) -> dict[str, Array]:
        return {
            n: a + self.slots[n].offset if n in self.slots and self.slots[n].offset else a for n, a in arrays.items()
        }

    def layer(self, index: int) -> "FullWeights":
        """Those of one layer."""
        return FullWeights({name: slot for name, slot in self.slots.items() if slot.layer == index})

    @property
    def lowest(self) -> int:
        """The lowest layer with a trained weight: nothing below it is differentiated."""
        return min(slot.layer for slot in self.slots.values())


def weights(model: Transformer, layers: int = -1) -> FullWeights:
    """The weights of the last `layers` layers (-1: of the whole model), as parameters.

    Splits what the model joined, so that every matrix has its own name. ParameterError where weights are quantised.
    """
    config = model.config
    if layers == 0 or layers < -1 or layers > config.layers:
        raise ParameterError(f"layers must be -1 (all) or 1 to the model's {config.layers}, got {layers}")
    packed = [path for path, linear in model.linears.items() if not isinstance(linear, Linear)]
    if packed or not isinstance(model.embed.table, mx.array):
        raise ParameterError(
            f"full fine-tuning needs plain weights and {(packed or ['the embedding'])[0]} is quantised: use kind = lora"
        )
    if config.experts is not None:
        raise ParameterError("full fine-tuning of a mixture of experts is not supported: use kind = lora")
    part(model)
    kind = family(config.family)
    top = kind.top
    first = 0 if layers == -1 else config.layers - layers
    found: dict[str, Slot] = {}
    for index in range(first, config.layers):
        at = top["layer"].format(index)
        for path, linear in model.linears.items():
            if path.startswith(f"{at}.") and isinstance(linear, Linear):
                _linear(found, path, linear, index)
        _norms(found, model, index, at, dict(kind.names(config)))
    if layers == -1:
        _table(found, model, top["embed"])
        if model.positions is not None and isinstance(model.positions.table, mx.array):
            positions = model.positions
            found[f"{top['positions']}.weight"] = Slot(lambda: positions.table, _put(positions, "table"), -1)  # type: ignore[arg-type, return-value]
        _norm(found, top["norm"], model.norm, config.layers, config.norm == "rms+1")
        if not config.tied and isinstance(model.out, Linear):
            _linear(found, top["head"], model.out, config.layers)
    return FullWeights(found)


def norms(model: Transformer) -> dict[str, Array]:
    """Every norm of the model as its checkpoint has it."""
    config, kind = model.config, family(model.config.family)
    found: dict[str, Slot] = {}
    for index in range(config.layers):
        _norms(found, model, index, kind.top["layer"].format(index), dict(kind.names(config)))
    _norm(found, kind.top["norm"], model.norm, config.layers, config.norm == "rms+1")
    every = FullWeights(found)
    return every.stored(every.parameters())


def _put(owner: object, name: str) -> Callable[[Array], None]:
    return lambda array: setattr(owner, name, array)


def _linear(found: dict[str, Slot], path: str, linear: Linear, layer: int) -> None:
    def put(array: Array) -> None:
        linear.columns = array.T

    found[f"{path}.weight"] = Slot(lambda: linear.columns.T, put, layer)
    if linear.bias is not None:
        found[f"{path}.bias"] = Slot(lambda: linear.bias, _put(linear, "bias"), layer)  # type: ignore[arg-type, return-value]


def _table(found: dict[str, Slot], model: Transformer, path: str) -> None:
    embed: Embedding = model.embed

    def put(array: Array) -> None:
        embed.table = array
        if model.config.tied and isinstance(model.out, Linear):
            model.out.columns = array.T

    found[f"{path}.weight"] = Slot(lambda: embed.table, put, -1)  # type: ignore[arg-type, return-value]


def _norm(found: dict[str, Slot], path: str, norm: Norm, layer: int, shifted: bool) -> None:
    found[f"{path}.weight"] = Slot(lambda: norm.weight, _put(norm, "weight"), layer, 1.0 if shifted else 0.0)
    if not isinstance(norm, RMSNorm) and norm.bias is not None:
        found[f"{path}.bias"] = Slot(lambda: norm.bias, _put(norm, "bias"), layer)  # type: ignore[arg-type, return-value, union-attr]


def _norms(found: dict[str, Slot], model: Transformer, index: int, at: str, names: dict[str, str]) -> None:
    block, shifted = model.blocks[index], model.config.norm == "rms+1"
    for name in ("attn_norm", "attn_post_norm", "mlp_norm", "mlp_post_norm", "q_norm", "k_norm"):
        norm = getattr(block, name)
        if norm is not None:
            _norm(found, f"{at}.{names[name]}", norm, index, shifted)
    if block.per_head is not None:  # the norms of q's and of k's heads [D], each repeated
        heads = block.heads
        for name, low, high in (("q_norm", 0, heads), ("k_norm", heads, heads + block.kv_heads)):

            def get(low: int = low) -> Array:
                assert block.per_head is not None
                return block.per_head[low, 0]

            def put(array: Array, low: int = low, high: int = high) -> None:
                assert block.per_head is not None
                own = mx.repeat(array[None, None], high - low, axis=0)
                rest = (block.per_head[:low], own, block.per_head[high:])
                block.per_head = mx.concatenate([r for r in rest if r.shape[0]])

            found[f"{at}.{names[name]}.weight"] = Slot(get, put, index, 1.0 if shifted else 0.0)
