"""Low-rank adapters on a model, without a second copy of it: LoRA, rsLoRA, DoRA, and PiSSA's start.

A site W [out, in] gets y = W x + scale * (x A) B with A [in, r] and B [r, out] (arXiv:2106.09685, eq. 3; the shapes and
the meaning of `scale` are mlx-lm's). The adapters of one product share one pass over its input. Knows no file.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from engine.errors import ParameterError
from engine.tune.sites import Site, replace, sites
from metal import mx
from models import Transformer
from models.layers import Joined, Linear, Product, QuantizedLinear

Array = mx.array
LEAVES = {"lora_a": "a", "lora_b": "b", "m": "m"}


@dataclass(slots=True)
class Factors:
    """The adapter of one site. `m` [out] is DoRA's magnitude; `a0`, `b0` are a start that is subtracted (PiSSA)."""

    site: Site
    scale: float
    a: Array  # [in, r]
    b: Array  # [r, out]
    m: Array | None = None
    a0: Array | None = None
    b0: Array | None = None
    weight: float = 1.0  # of this adapter among those that are stacked
    norms: Array | None = None  # DoRA: the squared norms of W's rows

    def parameters(self) -> dict[str, Array]:
        named = {"lora_a": self.a, "lora_b": self.b} | ({} if self.m is None else {"m": self.m})
        return {f"{self.site.path}.{name}": array for name, array in named.items()}

    @property
    def rank(self) -> int:
        """Of the change itself, a subtracted start included."""
        return int(self.whole()[0].shape[1])

    def whole(self) -> tuple[Array, Array]:
        """A and B of the change itself, a subtracted start included: [in, r'] and [r', out]."""
        if self.a0 is None or self.b0 is None:
            return self.a, self.b
        return mx.concatenate([self.a, self.a0], axis=1), mx.concatenate([self.b, -self.b0], axis=0)

    def delta(self) -> Array:
        """The change of W [out, in] (DoRA aside)."""
        a, b = self.whole()
        return (self.scale * self.weight) * (b.T @ a.T)

    def magnitude(self) -> Array:
        """DoRA: the norms of the rows of W + scale B^T A^T [out], without forming it (arXiv:2402.09353, eq. 5)."""
        assert self.norms is not None
        w = self.site.rows()
        cross = mx.sum((w @ self.a).T * self.b, axis=0)
        own = mx.sum(self.b * ((self.a.T @ self.a) @ self.b), axis=0)
        return mx.sqrt(self.norms + 2 * self.scale * cross + self.scale**2 * own)


class Adapted:
    """A product with the adapters of its sites. `keep` is the share of inputs that dropout leaves."""

    __slots__ = ("active", "base", "factors", "keep", "key", "outputs")

    def __init__(self, base: Product, outputs: int) -> None:
        self.base, self.outputs = base, outputs
        self.factors: list[Factors] = []
        self.active = True
        self.keep = 1.0
        self.key: Array | None = None

    def __call__(self, x: Array) -> Array:
        y = self.base(x)
        if not self.active or not self.factors:
            return y
        parts: dict[int, list[Factors]] = {}
        for f in self.factors:
            parts.setdefault(f.site.start, []).append(f)
        downs = [f.whole() for f in self.factors]
        inner = self._dropped(x)
        joined = downs[0][0] if len(downs) == 1 else mx.concatenate([a for a, _ in downs], axis=1)
        z = inner @ joined.astype(x.dtype)  # [..., sum of ranks]
        inside, at = [], 0
        for a, _ in downs:
            inside.append(z[..., at : at + a.shape[1]])
            at += a.shape[1]
        changes = dict(zip(map(id, self.factors), zip(inside, downs, strict=True), strict=True))
        outs, end = [], 0
        for start in sorted(parts):
            if start > end:
                outs.append(y[..., end:start])
            group = parts[start]
            end = group[0].site.stop
            own = y if start == 0 and end == self.outputs else y[..., start:end]
            for f in group:
                low, (_, b) = changes[id(f)]
                own = _changed(f, own, (low @ b.astype(x.dtype)) * (f.scale * f.weight))
            outs.append(own)
        if end < self.outputs:
            outs.append(y[..., end:])
        return outs[0] if len(outs) == 1 else mx.concatenate(outs, axis=-1)

    def _dropped(self, x: Array) -> Array:
        if self.keep == 1 or self.key is None:
            return x
        return x * (mx.random.bernoulli(self.keep, x.shape, key=self.key) / self.keep).astype(x.dtype)


def _changed(f: Factors, y: Array, z: Array) -> Array:
    """A site's output with its change; for DoRA, its rows brought to the magnitude m."""
    if f.m is None:
        return y + z
    bias = f.site.bias()
    plain = y if bias is None else y - bias
    share = (f.m / mx.stop_gradient(f.magnitude())).astype(y.dtype)  # the norm is a constant, as in its section 4.3
    out = share * (plain + z)
    return out if bias is None else out + bias


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
        return []

    def layer(self, index: int) -> "Adapter":
        """The part of it in one layer."""
        return Adapter({path: f for path, f in self.factors.items() if f.site.layer == index})

    @property
    def lowest(self) -> int:
        """The lowest adapted layer: nothing below it is differentiated."""
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
    the same before the first step and W is not touched. ParameterError for a rank larger than a site.
    """
    adapter = Adapter()
    for index, site in enumerate(chosen):
        largest = min(site.width, site.height)
        if not 1 <= rank <= largest:
            raise ParameterError(
                f"rank must be 1 to {largest} for {site.path} [{site.height}, {site.width}], got {rank}"
            )
        bound = 1 / math.sqrt(site.width)
        a = mx.random.uniform(-bound, bound, (site.width, rank), key=mx.array([seed, index], dtype=mx.uint32))
        f = Factors(site, scale, a, mx.zeros((rank, site.height)))
        if start == "pissa":
            if kind == "dora":
                raise ParameterError("start = pissa goes with kind = lora, got dora")
            u, s, vt = mx.linalg.svd(site.rows().astype(mx.float32), stream=mx.cpu)
            root = mx.sqrt(s[:rank] / scale)
            f.a, f.b = vt[:rank].T * root, (u[:, :rank] * root).T
            f.a0, f.b0 = f.a, f.b
        if kind == "dora":
            f.m = mx.sqrt(measure(f))
        mx.eval(f.a, f.b, f.m, f.norms)
        adapter.factors[site.path] = f
    return adapter


def measure(f: Factors) -> Array:
    """DoRA's constant, set on the factors: the squared norms of W's rows [out]."""
    f.norms = mx.sum(mx.square(f.site.rows().astype(mx.float32)), axis=1)
    return f.norms


def attach(adapter: Adapter, *, weight: float = 1.0) -> None:
    """Put the adapter on its model, beside any that is there; DoRA stands alone. ParameterError where it may not."""
    for f in adapter.factors.values():
        product = getattr(f.site.owner, f.site.slot)
        there = product.factors if isinstance(product, Adapted) else []
        same = [o for o in there if o.site.start == f.site.start]
        if same and (f.m is not None or any(o.m is not None for o in same)):
            raise ParameterError(
                f"{f.site.path}: DoRA rescales the whole row, so it cannot be stacked with another adapter"
            )
    for f in adapter.factors.values():
        f.weight = weight
        product = getattr(f.site.owner, f.site.slot)
        if not isinstance(product, Adapted):
            outputs = sum(p.shape[0] for p in product.parts) if isinstance(product, Joined) else product.shape[0]
            product = Adapted(product, outputs)
            setattr(f.site.owner, f.site.slot, product)
        product.factors.append(f)


def detach(adapter: Adapter) -> None:
    """Take the adapter off; a product without adapters is the bare one again."""
    for f in adapter.factors.values():
        product = getattr(f.site.owner, f.site.slot)
        if isinstance(product, Adapted):
            product.factors = [other for other in product.factors if other is not f]
            if not product.factors:
                setattr(f.site.owner, f.site.slot, product.base)


def rescale(adapter: Adapter, weight: float) -> None:
    """How much of the change counts, at the next token: 1 is as trained, 0 is the base. DoRA knows no share."""
    if weight != 1 and any(f.m is not None for f in adapter.factors.values()):
        raise ParameterError(f"a DoRA adapter is on or off: its weight must be 1, got {weight:g}")
    for f in adapter.factors.values():
        f.weight = weight


def products(model: Transformer) -> list[Adapted]:
    """The model's products that have adapters."""
    found = {(id(s.owner), s.slot): getattr(s.owner, s.slot) for s in sites(model)}
    return [product for product in found.values() if isinstance(product, Adapted)]


@contextmanager
def off(model: Transformer) -> Iterator[None]:
    """The base model, for as long as the block runs: the same weights with the adapters switched off."""
    adapted = [(p, p.active) for p in products(model)]
    for p, _ in adapted:
        p.active = False
    try:
        yield
    finally:
        for p, was in adapted:
            p.active = was


def merge(model: Transformer, adapter: Adapter) -> None:
    """Add the adapter's change to the weights themselves and take it off. Packed matrices become plain ones."""
    attached = list(adapter.factors.values())
    detach(adapter)
    here = {site.path: site for site in sites(model)}
    for f in attached:
        f.site = here[f.site.path]  # another merge may have replaced the product
    for linear, group in _by_linear(attached):
        path = next(path for path, other in model.linears.items() if other is linear)
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
        replace(model, path, Linear(new, linear.bias))


def _by_linear(factors: Sequence[Factors]) -> Iterator[tuple[Linear | QuantizedLinear, list[Factors]]]:
    groups: dict[int, list[Factors]] = {}
    for f in factors:
        groups.setdefault(id(f.site.linear), []).append(f)
    for group in groups.values():
        yield group[0].site.linear, group
