"""The graph of packed weights: a `Transformer` over the same numbers, and what stands around its parts, as additions.

What holds a part as `base` and says what it adds is an addition to the native call too (`models.packed_additions`).
Knows no files, and neither adapters nor directions.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from likely.metal import mx
from likely.metal.packed import PackedMatrix
from likely.models.families import registry
from likely.models.modules.linear import bare
from likely.models.modules.unpacked import UnpackedEmbedding, UnpackedLinear, UnpackedRows
from likely.models.packed_weights.additions import EMBED, HEAD, PRODUCTS, Additions, LowRank
from likely.models.packed_weights.packed import PackedModel, Weights
from likely.models.packed_weights.texts import PackedTexts
from likely.models.transformer import Transformer


def graph(config: Mapping[str, Any], weights: Weights, fast: PackedModel, *, expandable: bool) -> Transformer:
    """The graph of a configuration's packed weights, to the bit, in float32; of its matrices none is made yet.

    `fast` is the native call of the same weights. `expandable`: there is memory for them.
    """
    arrays = {
        name: mx.zeros(matrix.shape) if isinstance(matrix, PackedMatrix) else mx.array(matrix)
        for name, matrix in weights.items()
    }
    model = registry.build(dict(config), arrays)
    model.packed = PackedTexts(fast)
    products: dict[tuple[int, str], list[Any]] = {}
    for part in model.parts():
        if part.kind != "norm":
            products.setdefault((id(part.owner), part.slot), []).append(part)
    tables = {}
    for parts in products.values():
        first = parts[0]
        packed = [weights[f"{part.path}.weight"] for part in parts]
        rows = UnpackedRows([matrix for matrix in packed if isinstance(matrix, PackedMatrix)], keeps=expandable)
        if first.kind == "table":
            tables[first.slot] = rows
            setattr(first.owner, first.slot, UnpackedEmbedding(rows, model.dtype))
            continue
        biases = [part.bias for part in parts if part.bias is not None]
        linear = UnpackedLinear(rows, mx.concatenate(biases) if biases else None)
        if linear.bias is not None:
            mx.eval(linear.bias)
        setattr(first.owner, first.slot, linear)
    if model.config.tied:
        model.out = UnpackedLinear(tables["embed"], None)
    return model


def matrices(model: Transformer) -> list[UnpackedRows]:
    """Those of its matrices that are packed ones still, whether they have been made or not."""
    holders = [part.holder for part in model.parts()]
    stores = [holder.rows for holder in holders if isinstance(holder, UnpackedLinear | UnpackedEmbedding)]
    return list({id(rows): rows for rows in stores}.values())


@runtime_checkable
class AddingLayer(Protocol):
    """Layer around a product or the embedding that adds low ranks to it."""

    base: Any

    def added(self) -> Sequence[LowRank] | None:
        """Low ranks that it adds; None where that is more."""
        ...

    def factors_added(self) -> Sequence[mx.array]:
        """A and B of each of them."""
        ...


@runtime_checkable
class MovingBlock(Protocol):
    """Block around another that adds a vector to its output."""

    base: Any

    @property
    def shift(self) -> mx.array:
        """[C]"""
        ...


def additions(model: Transformer) -> Additions | None:
    """Additions around the parts of a model on packed weights; None where there is more than low ranks and vectors."""
    layers: list[dict[str, Sequence[LowRank]]] = []
    after: dict[int, np.ndarray] = {}
    for index, block in enumerate(model.blocks):
        core: Any = bare(block)
        mlp: Any = core.mlp
        around: Any = block
        while around is not core:
            if not isinstance(around, MovingBlock):
                return None
            after[index] = after.get(index, 0) + np.array(around.shift.astype(mx.float32))
            around = around.base
        change = _added(zip(PRODUCTS, (core.qkv, core.out, mlp.gate_up, mlp.down), strict=True))
        if change is None:
            return None
        layers.append(change)
    ends = _added(((EMBED, model.embed), (HEAD, model.out)))
    return None if ends is None else Additions(layers, ends, after)


def differentiable(model: Transformer) -> tuple[Additions, list[mx.array]] | None:
    """Low ranks beside products of layers, and A and B of each in their order; None where more is on the model."""
    known = additions(model)
    if known is None or known.ends or known.after:
        return None
    if any(change.gain is not None for layer in known.layers for changes in layer.values() for change in changes):
        return None
    factors: list[mx.array] = []
    for block, layer in zip(map(bare, model.blocks), known.layers, strict=True):
        products = block.qkv, block.out, block.mlp.gate_up, block.mlp.down
        for name, product in zip(PRODUCTS, products, strict=True):
            if name in layer:
                factors += product.factors_added()
    return known, factors


def _added(parts: Any) -> dict[str, Sequence[LowRank]] | None:
    by_name = {}
    for name, layer in parts:
        if not isinstance(bare(layer), UnpackedLinear | UnpackedEmbedding):
            return None  # other numbers
        if hasattr(layer, "base"):
            added = layer.added() if isinstance(layer, AddingLayer) and layer.base is bare(layer) else None
            if added is None:
                return None
            if added:
                by_name[name] = added
    return by_name
