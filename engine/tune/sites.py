"""Where an adapter can sit: every matrix of a model by its path in the checkpoint, its embedding and its experts.

A product that the model keeps as one matrix (q, k and v; gate and up) is several sites, each a range of its outputs, so
that adapters have the names that other programs give them. Knows nothing of adapters themselves.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from engine.errors import ParameterError
from metal import mx
from models import LanguageModel, Transformer
from models.block import Block
from models.config import ModelConfig
from models.families.registry import family
from models.layers import AnyLinear, Embedding, Joined, Linear, QuantizedLinear
from models.mlp import Gated, Mixture, Plain
from models.weights import Matrix, Packed, PackedLayout

TOP = -1  # the layer of what stands below the blocks; the head's is their number
EVERYTHING = "*"


@dataclass(frozen=True)
class Site:
    """One place: outputs [start, stop) of the product that is `owner`'s attribute `slot`.

    kind: "matrix" [out, in]; "table", the embedding [V, C]; "experts" [count, out, in], whose `slot` is gate, up or
    down of the mixture that is `owner`'s mlp.
    """

    path: str  # model.layers.3.self_attn.q_proj
    layer: int
    owner: Any
    slot: str
    start: int
    stop: int
    width: int  # in; of the table C
    holder: AnyLinear | Embedding | Mixture  # of the numbers
    row: int  # where in it the site begins
    kind: str = "matrix"
    count: int = 1

    @property
    def name(self) -> str:
        """The path within its layer: self_attn.q_proj; of what stands outside the layers the whole path."""
        _, layer, rest = self.path.partition(f".{self.layer}.")
        return rest if layer else self.path

    @property
    def height(self) -> int:
        return self.stop - self.start

    @property
    def linear(self) -> AnyLinear:
        """The product that holds a matrix."""
        assert isinstance(self.holder, Linear | QuantizedLinear)
        return self.holder

    def rows(self) -> mx.array:
        """The site's numbers, in the shape that its kind says."""
        if isinstance(self.holder, Embedding):
            return numbers(self.holder.table)
        if isinstance(self.holder, Mixture):
            return numbers(self.matrix)[:, self.row : self.row + self.height]
        return self.holder.rows()[self.row : self.row + self.height]

    @property
    def matrix(self) -> Matrix:
        """The experts' matrix of which the site is a range of rows."""
        assert isinstance(self.holder, Mixture)
        if self.slot == "down":
            return self.holder.down
        return self.holder.gate_up[0 if len(self.holder.gate_up) == 1 or self.slot == "gate" else 1]

    def bias(self) -> mx.array | None:
        bias = self.linear.bias
        return None if bias is None else bias[self.row : self.row + self.height]


def numbers(matrix: Matrix) -> mx.array:
    """A matrix as numbers, unpacked."""
    return matrix.floats(mx.float32) if isinstance(matrix, Packed) else matrix


def trainable(model: LanguageModel) -> Transformer:
    """The model itself; ParameterError where its parts cannot be reached."""
    if not isinstance(model, Transformer):
        raise ParameterError(
            f"training, adapters and fusing need a model of a family that is written here, and {model.config.family} "
            "runs by mlx-lm's own class: choose another model"
        )
    return model


def sites(model: Transformer) -> list[Site]:
    """Every site of the model: the embedding, the layers in their order, a head that is not the embedding."""
    config, kind = model.config, family(model.config.family)
    table: Any = getattr(model.embed, "base", model.embed)  # past an adapter
    size = config.vocab_size
    found = [Site(kind.top["embed"], TOP, model, "embed", 0, size, config.width, table, 0, "table")]
    names = kind.names(config)
    for index, block in enumerate(model.blocks):
        found += _layer(config, names, index, block, kind.top["layer"].format(index))
    if not config.tied:
        out: Any = getattr(model.out, "base", model.out)
        found.append(Site(kind.top["head"], config.layers, model, "out", 0, size, config.width, out, 0))
    return found


def _layer(config: ModelConfig, names: Mapping[str, str], index: int, block: Block, at: str) -> Iterator[Site]:
    def within(owner: Any, slot: str, whole: str, parts: dict[str, int]) -> Iterator[Site]:
        product = getattr(owner, slot)
        base = getattr(product, "base", product)
        if whole in names:
            parts = {whole: sum(parts.values())}
        start = 0
        for i, (part, height) in enumerate(parts.items()):
            linear = base.parts[i] if isinstance(base, Joined) else base
            row = 0 if isinstance(base, Joined) else start
            yield Site(f"{at}.{names[part]}", index, owner, slot, start, start + height, linear.shape[1], linear, row)
            start += height

    q, kv = config.heads * config.head_size, config.kv_heads * config.head_size
    yield from within(block, "qkv", "qkv", {"q": q, "k": kv, "v": kv})
    yield from within(block, "out", "o", {"o": config.width})
    mlp = block.mlp
    if isinstance(mlp, Gated):
        yield from within(mlp, "gate_up", "gate_up", {"gate": config.mlp_width, "up": config.mlp_width})
        yield from within(mlp, "down", "down", {"down": config.width})
    elif isinstance(mlp, Plain):
        yield from within(mlp, "up", "up", {"up": config.mlp_width})
        yield from within(mlp, "down", "down", {"down": config.width})
    elif config.experts is not None:
        experts: Any = getattr(mlp, "base", mlp)
        yield from within(experts, "router", "router", {"router": config.experts.count})
        width, inner, joined = config.width, config.experts.width, len(experts.gate_up) == 1
        for part, rows, columns in (("gate", inner, width), ("up", inner, width), ("down", width, inner)):
            row = inner if part == "up" and joined else 0
            path = f"{at}.{names['experts']}.{part}_proj"
            yield Site(path, index, block, part, 0, rows, columns, experts, row, "experts", config.experts.count)


def choose(all_sites: Sequence[Site], layers: int, patterns: Sequence[str], count: int) -> list[Site]:
    """The sites in the last `layers` of `count` layers (-1: all) whose path, name or last part matches a pattern.

    `*` is everything in the layers; embedding and head are chosen by patterns that say more, whatever `layers` is.
    ParameterError for more layers than there are, and for a pattern that matches nothing.
    """
    if layers == 0 or layers < -1 or layers > count:
        raise ParameterError(f"layers must be -1 (all) or 1 to the model's {count}, got {layers}")
    first = 0 if layers == -1 else count - layers
    within = [site for site in all_sites if first <= site.layer < count]
    outside = [site for site in all_sites if not 0 <= site.layer < count]
    chosen = [site for site in within if any(_matches(site, pattern) for pattern in patterns)]
    named = [pattern for pattern in patterns if pattern != EVERYTHING]
    chosen += [site for site in outside if any(_matches(site, pattern) for pattern in named)]
    for pattern in patterns:
        if not any(_matches(site, pattern) for site in (*within, *outside)):
            known = ", ".join(dict.fromkeys(site.name for site in (*within, *outside)))
            raise ParameterError(f"no module matches {pattern!r}; here: {known}")
    return chosen


def _matches(site: Site, pattern: str) -> bool:
    return any(fnmatchcase(text, pattern) for text in (site.path, site.name, site.name.rsplit(".", 1)[-1]))


def pack(model: Transformer, bits: int, group_size: int) -> None:
    """Quantise the products and experts of the blocks in place (for QLoRA); what is packed already stays as it is.

    ParameterError where a width is not a multiple of `group_size`.
    """
    inside = [site for site in sites(model) if 0 <= site.layer < model.config.layers]
    for site in inside:
        packed_already = isinstance(site.matrix if site.kind == "experts" else site.holder, Packed | QuantizedLinear)
        if not packed_already and site.width % group_size:
            raise ParameterError(
                f"{site.path} has {site.width} columns: not a multiple of the group size {group_size}; choose 32 or 64"
            )
    heads = {id(site.holder) for site in sites(model) if site.layer == model.config.layers}
    for path, linear in list(model.linears.items()):
        if isinstance(linear, Linear) and id(linear) not in heads:
            replace(model, path, packed(linear, bits, group_size))
    for mixture in {id(site.holder): site.holder for site in inside if site.kind == "experts"}.values():
        assert isinstance(mixture, Mixture)
        pack_experts(mixture, PackedLayout(group_size, bits, "affine"))


def pack_experts(mixture: Mixture, layout: PackedLayout) -> None:
    """Quantise a mixture's matrices in place."""
    mixture.gate_up[:] = [quantized(matrix, layout) for matrix in mixture.gate_up]
    mixture.down = quantized(mixture.down, layout)


def quantized(matrix: Matrix, layout: PackedLayout) -> Packed:
    """A matrix in mlx's affine layout; one that is packed stays as it is."""
    if isinstance(matrix, Packed):
        return matrix
    codes, scales, biases = mx.quantize(matrix, layout.group_size, layout.bits)
    mx.eval(codes, scales, biases)
    return Packed(codes, scales, layout, biases)


def packed(linear: Linear, bits: int, group_size: int) -> QuantizedLinear:
    """The same product in mlx's affine layout."""
    return QuantizedLinear(quantized(linear.rows(), PackedLayout(group_size, bits, "affine")), linear.bias)


def replace(model: Transformer, path: str, new: AnyLinear) -> None:
    """Put `new` in the place of the product at `path`, under an adapter if there is one."""
    old = model.linears[path]
    model.linears[path] = new
    owners: list[tuple[Any, str]] = [(model, "out")]
    for block in model.blocks:
        mlp = getattr(block.mlp, "base", block.mlp)
        owners += [(block, "qkv"), (block, "out"), *((mlp, slot) for slot in ("gate_up", "up", "down", "router"))]
    for owner, slot in owners:
        product: Any = getattr(owner, slot, None)
        holder, name = owner, slot
        if hasattr(product, "base"):
            product, holder, name = product.base, product, "base"
        if product is old:
            setattr(holder, name, new)
        elif isinstance(product, Joined):
            product.parts = [new if part is old else part for part in product.parts]


def part(model: Transformer) -> None:
    """Split what the model joined, in place, so that every matrix stands alone under its own path."""
    found = [site for site in sites(model) if site.kind == "matrix" and site.layer < model.config.layers]
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
