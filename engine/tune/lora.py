"""Low-rank adapters on a model, without a second copy of it: LoRA, rsLoRA, DoRA, and PiSSA's start.

What an adapter is at each site is in `factors`; the parts of the model that compute with it are in `adapted`. Here it
is made, put on, weighed, taken off and merged. Knows no file.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from engine.errors import ParameterError
from engine.tune.adapter_layers import Adapted, AdaptedEmbedding, AdaptedMixture, AdapterLayer, Tied
from engine.tune.factors import LEAVES, Factors, fresh
from engine.tune.sites import Site, numbers, replace, sites
from metal import mx
from models import Transformer
from models.layers import Joined, Linear, QuantizedLinear
from models.mlp import Mixture

Array = mx.array


@dataclass
class Adapter:
    """What was attached at once: the factors by site path."""

    factors: dict[str, Factors] = field(default_factory=dict)

    def parameters(self) -> dict[str, Array]:
        return {name: array for f in self.factors.values() for name, array in f.parameters().items()}

    def set(self, parameters: dict[str, Array]) -> None:
        """Put these in the place of the arrays of the same names."""
        for name, array in parameters.items():
            path, _, leaf = name.rpartition(".")
            setattr(self.factors[path], LEAVES[leaf], array)

    def head(self, model: Transformer) -> list[str]:
        """The names of those that logits are made with, past the hidden states."""
        slot = "embed" if model.config.tied else "out"
        there = [f for f in self.factors.values() if f.site.owner is model and f.site.slot == slot]
        return [name for f in there for name in f.parameters()]

    def layer(self, index: int) -> "Adapter":
        """The part of it in one layer."""
        return Adapter({path: f for path, f in self.factors.items() if f.site.layer == index})

    @property
    def lowest(self) -> int:
        """The lowest adapted layer: nothing below it is differentiated. -1 for the embedding."""
        return min(f.site.layer for f in self.factors.values())


def create(
    chosen: Sequence[Site],
    *,
    rank: int,
    scale: float,
    kind: str = "lora",
    seed: int = 0,
    start: str = "zero",
) -> Adapter:
    """A fresh adapter for the sites: kind "lora" or "dora", start "zero" (B = 0) or "pissa" (arXiv:2404.02948).

    PiSSA trains the `rank` largest singular directions of W; what they are at the start is subtracted, so the model is
    the same before the first step and W is not touched. ParameterError for a rank larger than a site, and for DoRA and
    PiSSA on experts and embeddings.
    """
    if kind == "dora" and start == "pissa":
        raise ParameterError("start = pissa goes with kind = lora, got dora")
    adapter = Adapter()
    for index, site in enumerate(chosen):
        key = mx.array([seed, index], dtype=mx.uint32)
        adapter.factors[site.path] = fresh(site, rank, scale, dora=kind == "dora", pissa=start == "pissa", key=key)
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
        _wear(f.site).factors.append(f)
        if f.site.kind == "table" and f.site.owner.config.tied:
            _product(f.site.owner, "out").tied.append(Tied(f, f.site.height))


def _there(site: Site) -> list[Factors]:
    """What is on the part of the model that the site is in."""
    part = getattr(site.owner, "mlp" if site.kind == "experts" else site.slot)
    return part.factors if isinstance(part, AdapterLayer) else []


def _wear(site: Site) -> AdapterLayer:
    """The part of the model that computes with the site's adapters, put in its place if it is not there."""
    if site.kind == "matrix":
        return _product(site.owner, site.slot)
    slot = "mlp" if site.kind == "experts" else site.slot
    part = getattr(site.owner, slot)
    if isinstance(part, AdapterLayer):
        return part
    dressed = AdaptedMixture(part) if isinstance(part, Mixture) else AdaptedEmbedding(part)
    setattr(site.owner, slot, dressed)
    return dressed


def _product(owner: Any, slot: str) -> Adapted:
    product = getattr(owner, slot)
    if not isinstance(product, Adapted):
        outputs = sum(p.shape[0] for p in product.parts) if isinstance(product, Joined) else product.shape[0]
        product = Adapted(product, outputs)
        setattr(owner, slot, product)
    return product


def detach(adapter: Adapter) -> None:
    """Take the adapter off; a part of the model without adapters is the bare one again."""
    for f in adapter.factors.values():
        places = [(f.site.owner, "mlp" if f.site.kind == "experts" else f.site.slot)]
        if f.site.kind == "table":
            places.append((f.site.owner, "out"))
        for owner, slot in places:
            part = getattr(owner, slot)
            if not isinstance(part, AdapterLayer):
                continue
            part.factors = [other for other in part.factors if other is not f]
            if isinstance(part, Adapted):
                part.tied = [other for other in part.tied if other.factors is not f]
            if not part.factors and not getattr(part, "tied", None):
                setattr(owner, slot, part.base)  # type: ignore[attr-defined]


def rescale(adapter: Adapter, weight: float) -> None:
    """How much of the change counts, at the next token: 1 is as trained, 0 is the base. DoRA knows no share."""
    if weight != 1 and any(f.m is not None for f in adapter.factors.values()):
        raise ParameterError(f"a DoRA adapter is on or off: its weight must be 1, got {weight:g}")
    for f in adapter.factors.values():
        f.weight = weight


def worn(model: Transformer) -> list[AdapterLayer]:
    """The parts of the model that have adapters."""
    places: dict[tuple[int, str], Any] = {(id(model), "out"): model.out}
    for site in sites(model):
        slot = "mlp" if site.kind == "experts" else site.slot
        places[id(site.owner), slot] = getattr(site.owner, slot)
    return [part for part in places.values() if isinstance(part, AdapterLayer)]


@contextmanager
def off(model: Transformer) -> Iterator[None]:
    """The base model, for as long as the block runs: the same weights with the adapters switched off."""
    with silent(worn(model)):
        yield


@contextmanager
def silent(parts: Sequence[AdapterLayer]) -> Iterator[None]:
    """The same for parts that are known: nothing is looked for in the model."""
    before = [(part, part.on) for part in parts]
    for part in parts:
        part.on = False
    try:
        yield
    finally:
        for part, was in before:
            part.on = was


def merge(model: Transformer, adapter: Adapter) -> None:
    """Add the adapter's change to the weights themselves and take it off. What was packed becomes plain."""
    attached = list(adapter.factors.values())
    detach(adapter)
    here = {site.path: site for site in sites(model)}
    for f in attached:
        f.site = here[f.site.path]  # another merge may have replaced the product
        if f.site.kind == "table":
            _merge_table(model, f)
        elif f.site.kind == "experts":
            _merge_experts(f)
    for linear, group in _by_linear([f for f in attached if f.site.kind == "matrix"]):
        rows = linear.rows().astype(mx.float32)
        pieces, end = [], 0
        for f in sorted(group, key=lambda f: f.site.row):
            top, stop = f.site.row, f.site.row + f.site.height
            pieces.append(rows[end:top])
            own = rows[top:stop] + f.delta()
            if f.m is not None:
                own = own * (f.m / f.magnitude())[:, None]
            pieces.append(own)
            end = stop
        pieces.append(rows[end:])
        new = mx.concatenate([p for p in pieces if p.shape[0]])
        if isinstance(linear, Linear):
            new = new.astype(linear.columns.dtype)
        mx.eval(new)
        path = next(path for path, other in model.linears.items() if other is linear)
        replace(model, path, Linear(new, linear.bias))


def _merge_table(model: Transformer, f: Factors) -> None:
    table = f.site.rows()
    new = (table.astype(mx.float32) + f.delta()).astype(table.dtype)
    mx.eval(new)
    embed: Any = f.site.holder
    embed.table = new
    if isinstance(model.embed, AdaptedEmbedding):
        model.embed.table = new
    if model.config.tied:
        tied = Linear(new)
        if isinstance(model.out, Adapted):
            model.out.base = tied
        else:
            model.out = tied


def _merge_experts(f: Factors) -> None:
    mixture: Any = f.site.holder
    whole = numbers(f.site.matrix)
    top, stop = f.site.row, f.site.row + f.site.height
    own = (whole[:, top:stop].astype(mx.float32) + f.delta()).astype(whole.dtype)
    new = mx.concatenate([part for part in (whole[:, :top], own, whole[:, stop:]) if part.shape[1]], axis=1)
    mx.eval(new)
    if f.site.slot == "down":
        mixture.down = new
    else:
        at = 0 if len(mixture.gate_up) == 1 or f.site.slot == "gate" else 1
        mixture.gate_up[at] = new


def _by_linear(factors: Sequence[Factors]) -> Iterator[tuple[Linear | QuantizedLinear, list[Factors]]]:
    groups: dict[int, list[Factors]] = {}
    for f in factors:
        groups.setdefault(id(f.site.linear), []).append(f)
    for group in groups.values():
        yield group[0].site.linear, group


__all__ = ["Adapter", "Factors", "attach", "create", "detach", "merge", "off", "rescale", "silent", "worn"]
