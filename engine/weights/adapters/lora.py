"""Low-rank adapters (LoRA) on a model, without a second copy of it: LoRA, rsLoRA, DoRA, and PiSSA's start.

What an adapter is at each site is in `factors`; the parts of the model that compute with it are in `adapted`. Here it
is made, put on, weighed, taken off and merged. Knows no file.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from likely.engine.base.errors import ParameterError
from likely.engine.weights.adapters.adapter_layers import (
    AdaptedEmbedding,
    AdaptedMixture,
    AdaptedProduct,
    AdapterLayer,
    TiedAdapter,
)
from likely.engine.weights.adapters.factors import LEAVES, Factors, fresh
from likely.engine.weights.adapters.sites import sites
from likely.metal import mx
from likely.models import Transformer
from likely.models.modules.linear import JoinedProducts
from likely.models.modules.parts import ModelPart

Array = mx.array


@dataclass
class Adapter:
    """An adapter: its factors by site path."""

    factors: dict[str, Factors] = field(default_factory=dict)
    start: dict[str, Array] | None = None  # as it began, where what it is compared with is not the model without it

    def parameters(self) -> dict[str, Array]:
        return {name: array for f in self.factors.values() for name, array in f.parameters().items()}

    def set(self, parameters: dict[str, Array]) -> None:
        """Put these in the place of the arrays of the same names."""
        for name, array in parameters.items():
            path, _, leaf = name.rpartition(".")
            setattr(self.factors[path], LEAVES[leaf], array)

    def head(self, model: Transformer) -> list[str]:
        """The names of those that logits are made with, past the hidden states."""
        role = "embed" if model.config.tied else "head"
        return [name for f in self.factors.values() if f.site.role == role for name in f.parameters()]

    def layer(self, index: int) -> "Adapter":
        """The part of it in one layer."""
        return Adapter({path: f for path, f in self.factors.items() if f.site.layer == index})

    @property
    def lowest(self) -> int:
        """The lowest adapted layer: nothing below it is differentiated. -1 for the embedding."""
        return min(f.site.layer for f in self.factors.values())


def create(
    chosen: Sequence[ModelPart],
    *,
    rank: int,
    scale: float,
    kind: str = "lora",
    seed: int = 0,
    init: str = "zero",
) -> Adapter:
    """A fresh adapter for the sites: kind "lora" or "dora", init "zero" (B = 0) or "pissa" (arXiv:2404.02948); of
    "contrast" it is as of "zero", and its A are set where the rows are known (`engine.tune.contrast`).

    PiSSA trains the `rank` largest singular directions of W; what they are at the start is subtracted, so the model is
    the same before the first step and W is not touched. ParameterError for a rank larger than a site, and for DoRA and
    PiSSA on experts and embeddings.
    """
    if kind == "dora" and init == "pissa":
        raise ParameterError("init = pissa goes with kind = lora, got dora")
    adapter = Adapter()
    for index, site in enumerate(chosen):
        key = mx.array([seed, index], dtype=mx.uint32)
        adapter.factors[site.path] = fresh(site, rank, scale, dora=kind == "dora", pissa=init == "pissa", key=key)
    return adapter


def attach(adapter: Adapter, *, weight: float = 1.0) -> None:
    """Put the adapter on its model, beside any that is there; DoRA stands alone. ParameterError where it may not."""
    for f in adapter.factors.values():
        same = [other for other in _there(f.site) if other.site.path == f.site.path]
        if same and (f.m is not None or any(other.m is not None for other in same)):
            raise ParameterError(
                f"{f.site.path}: DoRA rescales the whole row, so it cannot be stacked with another adapter"
            )
    for f in adapter.factors.values():
        f.weight = weight
        _layer(f.site).factors.append(f)
        if f.site.kind == "table" and f.site.owner.config.tied and f.tied:
            _product(f.site.owner, "out").tied.append(TiedAdapter(f, f.site.height))


def _there(site: ModelPart) -> list[Factors]:
    """The adapters on the layer of the model that the site is in."""
    layer = getattr(site.owner, site.slot)
    return layer.factors if isinstance(layer, AdapterLayer) else []


def _layer(site: ModelPart) -> AdapterLayer:
    """The layer that computes with the site's adapters, put in its place if it is not there."""
    if site.kind == "matrix":
        return _product(site.owner, site.slot)
    layer = getattr(site.owner, site.slot)
    if isinstance(layer, AdapterLayer):
        return layer
    adapted = AdaptedMixture(layer) if site.kind == "experts" else AdaptedEmbedding(layer)
    setattr(site.owner, site.slot, adapted)
    return adapted


def _product(owner: Any, slot: str) -> AdaptedProduct:
    product = getattr(owner, slot)
    if not isinstance(product, AdaptedProduct):
        outputs = sum(p.shape[0] for p in product.parts) if isinstance(product, JoinedProducts) else product.shape[0]
        product = AdaptedProduct(product, outputs)
        setattr(owner, slot, product)
    return product


def detach(adapter: Adapter) -> None:
    """Take the adapter off; a part of the model without adapters is the bare one again."""
    for f in adapter.factors.values():
        places = [(f.site.owner, f.site.slot)]
        if f.site.kind == "table":
            places.append((f.site.owner, "out"))
        for owner, slot in places:
            part = getattr(owner, slot)
            if not isinstance(part, AdapterLayer):
                continue
            part.factors = [other for other in part.factors if other is not f]
            if isinstance(part, AdaptedProduct):
                part.tied = [other for other in part.tied if other.factors is not f]
            if not part.factors and not getattr(part, "tied", None):
                setattr(owner, slot, part.base)  # type: ignore[attr-defined]


def rescale(adapter: Adapter, weight: float) -> None:
    """How much of the change counts, at the next token: 1 is as trained, 0 is the base. DoRA knows no share."""
    if weight != 1 and any(f.m is not None for f in adapter.factors.values()):
        raise ParameterError(f"a DoRA adapter is on or off: its weight must be 1, got {weight:g}")
    for f in adapter.factors.values():
        f.weight = weight


def adapter_layers(model: Transformer) -> list[AdapterLayer]:
    """The layers of the model that have adapters."""
    places: dict[tuple[int, str], Any] = {(id(model), "out"): model.out}
    for site in sites(model):
        places[id(site.owner), site.slot] = getattr(site.owner, site.slot)
    return [layer for layer in places.values() if isinstance(layer, AdapterLayer)]


@contextmanager
def off(model: Transformer) -> Iterator[None]:
    """The base model, for as long as the block runs: the same weights with the adapters switched off."""
    with disabled(adapter_layers(model)):
        yield


@contextmanager
def disabled(layers: Sequence[AdapterLayer]) -> Iterator[None]:
    """The base model, for as long as the block runs: these of its adapted layers are switched off."""
    before = [(layer, layer.on) for layer in layers]
    for layer in layers:
        layer.on = False
    try:
        yield
    finally:
        for layer, was in before:
            layer.on = was


def merged(f: Factors) -> Array:
    """The numbers of a site with its change, float32; the model stays as it is."""
    new = f.site.numbers().astype(mx.float32) + f.delta()
    return new if f.m is None else new * (f.m / f.magnitude())[:, None]


def merge(model: Transformer, adapter: Adapter) -> None:
    """Add the adapter's change to the weights themselves and take it off. What it changes of packed ones is plain.

    ParameterError for a change that the model has no place for: of the embedding or the head alone, where both are one
    table, and of a bias that there is not.
    """
    for f in adapter.factors.values():
        alone = model.config.tied and (f.site.role == "head" or (f.site.role == "embed" and not f.tied))
        if alone:
            raise ParameterError(
                f"{f.site.path} is changed alone, and embedding and head are one table in this model: "
                "keep the adapter beside it"
            )
        if f.shift is not None and f.site.bias is None:
            raise ParameterError(
                f"{f.site.path} has no bias to add the adapter's to: keep the adapter beside the model"
            )
    detach(adapter)
    for f in adapter.factors.values():
        held = f.site.matrix
        new = merged(f)
        if isinstance(held, Array):
            new = new.astype(held.dtype)
        bias = None if f.shift is None or f.site.bias is None else f.site.bias + f.weight * f.shift
        mx.eval(new)
        model.put(f.site, new, bias)
        mx.eval(f.site.matrix)


__all__ = ["Adapter", "Factors", "adapter_layers", "attach", "create", "detach", "disabled", "merge", "off", "rescale"]
