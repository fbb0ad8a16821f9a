"""Where an adapter can sit: every product of a model's blocks by its path in the checkpoint.

A product that the model keeps as one matrix (q, k and v; gate and up) is several sites, each a range of its outputs, so
that adapters have the names that other programs give them. Knows nothing of adapters themselves.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from engine.errors import ParameterError
from metal import mx
from models import Transformer
from models.families import family
from models.layers import AnyLinear, Joined, Linear, QuantizedLinear
from models.mlp import Gated, Mixture, Plain
from models.weights import Packed


@dataclass(frozen=True)
class Site:
    """One matrix [out, in] of a block: outputs [start, stop) of the product that is `owner`'s attribute `slot`."""

    path: str  # model.layers.3.self_attn.q_proj
    layer: int
    owner: Any
    slot: str
    start: int
    stop: int
    width: int  # in
    linear: AnyLinear  # that holds it
    row: int  # where in `linear` it begins

    @property
    def name(self) -> str:
        """The path within its layer: self_attn.q_proj."""
        return self.path.split(f".{self.layer}.", 1)[1]

    @property
    def height(self) -> int:
        return self.stop - self.start

    def rows(self) -> mx.array:
        """The matrix as numbers [out, in]."""
        return self.linear.rows()[self.row : self.row + self.height]

    def bias(self) -> mx.array | None:
        bias = self.linear.bias
        return None if bias is None else bias[self.row : self.row + self.height]


def sites(model: Transformer) -> list[Site]:
    """Every site of the model, in the order of its layers; ParameterError for a model that is not our own class."""
    if not isinstance(model, Transformer):
        raise ParameterError("an adapter needs a model of a family that is written here, and this one is mlx-lm's")
    config = model.config
    kind = family(config.family)
    names = kind.names(config)
    q, kv = config.heads * config.head_size, config.kv_heads * config.head_size
    found: list[Site] = []
    for index, block in enumerate(model.blocks):
        at = kind.top["layer"].format(index)

        def add(owner: Any, slot: str, whole: str, parts: dict[str, int], index: int = index, at: str = at) -> None:
            product = getattr(owner, slot)
            base = getattr(product, "base", product)  # past an adapter
            if whole in names:
                parts = {whole: sum(parts.values())}
            start = 0
            for i, (part, height) in enumerate(parts.items()):
                linear = base.parts[i] if isinstance(base, Joined) else base
                row = 0 if isinstance(base, Joined) else start
                path = f"{at}.{names[part]}"
                found.append(Site(path, index, owner, slot, start, start + height, linear.shape[1], linear, row))
                start += height

        add(block, "qkv", "qkv", {"q": q, "k": kv, "v": kv})
        add(block, "out", "o", {"o": config.width})
        mlp = block.mlp
        if isinstance(mlp, Gated):
            add(mlp, "gate_up", "gate_up", {"gate": config.mlp_width, "up": config.mlp_width})
            add(mlp, "down", "down", {"down": config.width})
        elif isinstance(mlp, Plain):
            add(mlp, "up", "up", {"up": config.mlp_width})
            add(mlp, "down", "down", {"down": config.width})
        elif isinstance(mlp, Mixture) and config.experts is not None:
            add(mlp, "router", "router", {"router": config.experts.count})
    return found


def choose(all_sites: Sequence[Site], layers: int, patterns: Sequence[str], count: int) -> list[Site]:
    """The sites in the last `layers` of `count` layers (-1: all) whose path, name or last part matches a pattern.

    ParameterError for more layers than there are, and for a pattern that matches nothing.
    """
    if layers == 0 or layers < -1 or layers > count:
        raise ParameterError(f"layers must be -1 (all) or 1 to the model's {count}, got {layers}")
    first = 0 if layers == -1 else count - layers
    within = [site for site in all_sites if site.layer >= first]
    chosen = [site for site in within if any(_matches(site, pattern) for pattern in patterns)]
    for pattern in patterns:
        if not any(_matches(site, pattern) for site in within):
            known = ", ".join(dict.fromkeys(site.name for site in within))
            raise ParameterError(f"no module matches {pattern!r}; here: {known}")
    return chosen


def _matches(site: Site, pattern: str) -> bool:
    return any(fnmatchcase(text, pattern) for text in (site.path, site.name, site.name.rsplit(".", 1)[-1]))


def pack(model: Transformer, bits: int, group_size: int) -> None:
    """Quantise the products of the blocks in place (for QLoRA); those that are packed already stay as they are.

    ParameterError where a width is not a multiple of `group_size`.
    """
    for site in sites(model):
        linear = site.linear
        if isinstance(linear, QuantizedLinear):
            continue
        if site.width % group_size:
            raise ParameterError(
                f"{site.path} has {site.width} columns: not a multiple of the group size {group_size}; choose 32 or 64"
            )
    for path, linear in list(model.linears.items()):
        if isinstance(linear, Linear) and path.split(".")[0] not in ("lm_head", "embed_out"):
            replace(model, path, packed(linear, bits, group_size))


def packed(linear: Linear, bits: int, group_size: int) -> QuantizedLinear:
    """The same product in mlx's affine layout."""
    from models.weights import Layout

    codes, scales, biases = mx.quantize(linear.rows(), group_size, bits)
    mx.eval(codes, scales, biases)
    return QuantizedLinear(Packed(codes, scales, Layout(group_size, bits, "affine"), biases), linear.bias)


def replace(model: Transformer, path: str, new: AnyLinear) -> None:
    """Put `new` in the place of the product at `path`."""
    old = model.linears[path]
    model.linears[path] = new
    if model.out is old:
        model.out = new
    for block in model.blocks:
        for owner in (block, block.mlp):
            for slot in ("qkv", "out", "gate_up", "up", "down", "router"):
                product: Any = getattr(owner, slot, None)
                holder, name = owner, slot
                if hasattr(product, "base"):  # under an adapter
                    product, holder, name = product.base, product, "base"
                if product is old:
                    setattr(holder, name, new)
                elif isinstance(product, Joined):
                    product.parts = [new if part is old else part for part in product.parts]


def part(model: Transformer) -> None:
    """Split what the model joined, in place, so that every matrix stands alone under its own path."""
    found = sites(model)
    by_product: dict[tuple[int, str], list[Site]] = {}
    for site in found:
        by_product.setdefault((id(site.owner), site.slot), []).append(site)
    for group in by_product.values():
        first = group[0]
        if len(group) == 1 or isinstance(getattr(first.owner, first.slot), Joined):
            continue
        path = next(path for path, linear in model.linears.items() if linear is first.linear)
        parts: list[AnyLinear] = []
        for site in group:
            rows, bias = mx.contiguous(site.rows()), site.bias()
            mx.eval(rows)
            parts.append(Linear(rows, bias))
            model.linears[site.path] = parts[-1]
        del model.linears[path]
        setattr(first.owner, first.slot, Joined(parts))
