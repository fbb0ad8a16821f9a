"""The parts of a model: where each of a checkpoint's tensors lives in it, and how another takes its place.

A product that the model keeps as one matrix (q, k and v; gate and up) is several parts, each a range of its outputs, so
that every matrix has the name that other programs give it. A part is a place: it stays right when what is there is
replaced, and it looks past what stands around a layer (an adapter, a sum over ranks). Knows no family and no file.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from likely.metal import mx
from likely.models.modules.block import Block
from likely.models.modules.linear import Embedding, JoinedProducts, LayerNorm, RMSNorm, bare, linear
from likely.models.modules.mlp import GatedMLP, Mixture
from likely.models.modules.unpacked import UnpackedEmbedding, UnpackedLinear
from likely.models.modules.weights import Matrix, PackedLayout, PackedRows, arrays, cut, join

Array = mx.array
BELOW = -1  # the layer of what stands below the blocks; their number is that of what stands above
EXPERTS = ("gate", "up", "down")
JOINED = {"qkv": ("q", "k", "v"), "gate_up": ("gate", "up")}  # products of one input


@dataclass(frozen=True, slots=True)
class TensorNames:
    """Our roles -> what a family's checkpoints call them: outside the layers, and below one."""

    top: Mapping[str, str]  # embed, positions, norm, head, and layer with a place for its number
    layer: Mapping[str, str]

    def path(self, role: str, layer: int | None = None) -> str:
        """The path of a part: model.layers.3.self_attn.q_proj."""
        if layer is None:
            return self.top[role]
        whole, _, part = role.partition(".")
        return f"{self.top['layer'].format(layer)}.{self.layer[whole]}" + (f".{part}_proj" if part else "")

    def within(self, path: str) -> tuple[int | None, tuple[str, str]]:
        """The layer that a tensor is in, None outside of them, and its module there and kind: (3, (mlp.up, weight))."""
        before = self.top["layer"].removesuffix("{}")
        layer = None
        if path.startswith(before) and path[len(before) :].partition(".")[0].isdecimal():
            number, _, path = path[len(before) :].partition(".")
            layer = int(number)
        module, _, kind = path.rpartition(".")
        return layer, (module, kind)

    def joined(self, product: str, layer: int) -> str:
        """Path of a product of several parts, where whoever read them made it one: model.layers.3.qkv."""
        return f"{self.top['layer'].format(layer)}.{product}"

    def has(self, role: str) -> bool:
        """Whether it is a part of the family's layers."""
        return role in self.layer


@dataclass(frozen=True, slots=True)
class ModelPart:
    """One tensor of a checkpoint, its bias or the scales of its groups included.

    kind: "matrix" [out, in], "table" [V, C], "experts" [count, out, in] or "norm" [C].
    """

    path: str  # model.layers.3.self_attn.q_proj
    role: str  # q, k, v, qkv, o, gate, up, gate_up, down, router, experts.gate ...; a norm's; embed, positions, head
    layer: int
    kind: str
    owner: Any
    slot: str  # the attribute of `owner` that computes with it
    heights: tuple[int, ...]  # outputs of the parts that are one product with it, its own included
    index: int = 0  # which of them it is
    width: int = 1  # in; of a table C
    count: int = 1  # of experts
    offset: float = 0.0  # a checkpoint stores this much less

    @property
    def name(self) -> str:
        """The path within its layer: self_attn.q_proj; of what stands outside the layers the whole path."""
        _, layer, rest = self.path.partition(f".{self.layer}.")
        return rest if layer else self.path

    @property
    def height(self) -> int:
        return self.heights[self.index]

    @property
    def start(self) -> int:
        """The first of its product's outputs that is its own."""
        return sum(self.heights[: self.index])

    @property
    def stop(self) -> int:
        return self.start + self.height

    @property
    def holder(self) -> Any:
        """The layer that holds its numbers."""
        layer = bare(getattr(self.owner, self.slot))
        return layer.parts[self.index] if isinstance(layer, JoinedProducts) else layer

    @property
    def matrix(self) -> Matrix:
        """The part's numbers as they are kept, in the shape that the kind says; rows of a joined matrix are a view."""
        holder = self.holder
        if isinstance(holder, Mixture):
            return _expert(holder, self)
        whole: Matrix = holder.matrix
        return whole if whole.shape[0] == self.height else cut(whole, self.start, self.stop)

    @property
    def bias(self) -> Array | None:
        """[out], or [C] of a norm."""
        bias: Array | None = getattr(self.holder, "bias", None)
        return bias if bias is None or bias.shape[0] == self.height else bias[self.start : self.stop]

    @property
    def layout(self) -> PackedLayout | None:
        """How its numbers are packed, if they are."""
        matrix = self.matrix
        return matrix.layout if isinstance(matrix, PackedRows) else None

    def numbers(self) -> Array:
        """The part's numbers, unpacked; of a matrix that the graph has not expanded yet, for the one who asks alone."""
        holder = self.holder
        if isinstance(holder, UnpackedLinear | UnpackedEmbedding):
            return holder.rows.cut(self.start, self.stop)
        matrix = self.matrix
        return matrix.floats(mx.float32) if isinstance(matrix, PackedRows) else matrix

    def arrays(self) -> dict[str, Array]:
        """The part's arrays in memory, by a checkpoint's names: weight, bias, scales and so on."""
        bias = self.bias
        return arrays(self.matrix) | ({} if bias is None else {"bias": bias})

    def stored(self, *, plain: bool = False) -> dict[str, Array]:
        """The part's arrays as a checkpoint stores them; `plain` unpacks."""
        named = {"weight": self.numbers()} if plain else arrays(self.matrix)
        if self.offset:
            named["weight"] = named["weight"] - self.offset
        bias = self.bias
        return named if bias is None else named | {"bias": bias}


def of_block(block: Block, names: TensorNames, index: int) -> Iterator[ModelPart]:
    """The parts of a layer, in the order in which they compute."""
    core: Block = bare(block)

    def product(owner: Any, slot: str, heights: Mapping[str, int], width: int) -> Iterator[ModelPart]:
        sizes = {slot: sum(heights.values())} if slot in JOINED and names.has(slot) else heights
        for i, role in enumerate(sizes):
            path = names.path(role, index)
            yield ModelPart(path, role, index, "matrix", owner, slot, tuple(sizes.values()), i, width)

    def norms(*roles: str) -> Iterator[ModelPart]:
        for role in roles:
            if getattr(core, role) is not None:
                yield norm(names.path(role, index), role, index, core, role, core.norm_offset)

    q, kv = core.heads * core.size, core.kv_heads * core.size
    yield from norms("attn_norm")
    yield from product(core, "qkv", {"q": q, "k": kv, "v": kv}, core.width)
    yield from norms("q_norm", "k_norm")
    yield from product(core, "out", {"o": core.width}, q)
    yield from norms("attn_post_norm", "mlp_norm")
    mlp: Any = bare(core.mlp)
    if isinstance(mlp, Mixture):
        experts, inner = mlp.count, mlp.width
        yield from product(mlp, "router", {"router": experts}, core.width)
        for i, part in enumerate(EXPERTS):
            heights, at = ((core.width,), 0) if part == "down" else ((inner, inner), i)
            width = inner if part == "down" else core.width
            path, role = names.path(f"experts.{part}", index), f"experts.{part}"
            yield ModelPart(path, role, index, "experts", core, "mlp", heights, at, width, experts)
    else:
        inner = bare(mlp.down).shape[1]
        if isinstance(mlp, GatedMLP):
            yield from product(mlp, "gate_up", {"gate": inner, "up": inner}, core.width)
        else:
            yield from product(mlp, "up", {"up": inner}, core.width)
        yield from product(mlp, "down", {"down": core.width}, inner)
    yield from norms("mlp_post_norm")


def table(names: TensorNames, role: str, owner: Any) -> ModelPart:
    """The embedding, or the table of positions."""
    rows, width = bare(getattr(owner, role)).shape
    return ModelPart(names.path(role), role, BELOW, "table", owner, role, (rows,), 0, width)


def norm(path: str, role: str, layer: int, owner: Any, slot: str, offset: float) -> ModelPart:
    size = bare(getattr(owner, slot)).weight.shape[0]
    return ModelPart(path, role, layer, "norm", owner, slot, (size,), offset=offset)


def head(names: TensorNames, layers: int, owner: Any) -> ModelPart:
    rows, width = bare(owner.out).shape
    return ModelPart(names.path("head"), "head", layers, "matrix", owner, "out", (rows,), 0, width)


def put(part: ModelPart, weight: Matrix | None = None, bias: Array | None = None) -> None:
    """Let these take the place of the part's weight and bias; what is not given stays.

    A product of several parts stays one where all are packed alike afterwards, and comes apart where not.
    """
    weight = part.matrix if weight is None else weight
    bias = part.bias if bias is None else bias
    holder = bare(getattr(part.owner, part.slot))
    if isinstance(holder, RMSNorm | LayerNorm):
        assert isinstance(weight, Array)
        holder.weight = weight
        if isinstance(holder, LayerNorm):
            holder.bias = bias
        if isinstance(part.owner, Block):
            part.owner.renew()
    elif isinstance(holder, Embedding):
        set_layer(part.owner, part.slot, Embedding(weight, holder.dtype))
    elif isinstance(holder, Mixture):
        _put_expert(holder, part, weight)
    elif isinstance(holder, JoinedProducts):
        holder.parts[part.index] = linear(weight, bias)
    elif len(part.heights) == 1:
        set_layer(part.owner, part.slot, linear(weight, bias))
    else:
        edges = [(sum(part.heights[:i]), sum(part.heights[: i + 1])) for i in range(len(part.heights))]
        pieces = [cut(holder.matrix, *edge) for edge in edges]
        biases = [None if holder.bias is None else holder.bias[slice(*edge)] for edge in edges]
        pieces[part.index], biases[part.index] = weight, bias
        set_layer(part.owner, part.slot, _joined(pieces, biases))


def set_layer(owner: Any, slot: str, layer: object) -> None:
    """Put a layer where `owner` has its `slot`, within what stands around the one that is there."""
    while hasattr(around := getattr(owner, slot), "base"):
        owner, slot = around, "base"
    setattr(owner, slot, layer)


def split(parts: Sequence[ModelPart]) -> None:
    """Let the parts of each product stand alone, with numbers of their own."""
    for group in _products(parts):
        first = group[0]
        if (
            first.kind == "matrix"
            and len(group) > 1
            and not isinstance(bare(getattr(first.owner, first.slot)), JoinedProducts)
        ):
            alone = [linear(_copied(part.matrix), part.bias) for part in group]
            mx.eval([list(arrays(one.matrix).values()) for one in alone])
            set_layer(first.owner, first.slot, JoinedProducts(alone))


def unite(parts: Sequence[ModelPart]) -> None:
    """Make one matrix again of the parts of each product that are packed alike."""
    for group in _products(parts):
        holder = bare(getattr(group[0].owner, group[0].slot))
        if isinstance(holder, JoinedProducts):
            set_layer(group[0].owner, group[0].slot, _joined([p.matrix for p in group], [p.bias for p in group]))
        elif isinstance(holder, Mixture) and len(holder.gate_up) > 1:
            holder.gate_up = _alike(holder.gate_up, axis=1)
        mx.eval([list(part.arrays().values()) for part in group])


def _products(parts: Sequence[ModelPart]) -> list[list[ModelPart]]:
    """The parts of each layer that computes with several, in their order."""
    groups: dict[tuple[int, str], list[ModelPart]] = {}
    for part in parts:
        groups.setdefault((id(part.owner), part.slot), []).append(part)
    return list(groups.values())


def _joined(pieces: Sequence[Matrix], biases: Sequence[Array | None]) -> Any:
    known = [bias for bias in biases if bias is not None]
    whole = join(pieces) if len(known) in (0, len(pieces)) else None
    if whole is None:
        return JoinedProducts([linear(*piece) for piece in zip(pieces, biases, strict=True)])
    return linear(whole, mx.concatenate(known) if known else None)


def _copied(matrix: Matrix) -> Matrix:
    return matrix.map(mx.contiguous) if isinstance(matrix, PackedRows) else mx.contiguous(matrix)


def _alike(matrices: Sequence[Matrix], axis: int) -> list[Matrix]:
    """The matrices as one, where they are packed alike."""
    whole = join(matrices, axis)
    return list(matrices) if whole is None else [whole]


def _expert(mixture: Mixture, part: ModelPart) -> Matrix:
    if part.role == "experts.down":
        return mixture.down
    if len(mixture.gate_up) == 2:
        return mixture.gate_up[part.index]
    return cut(mixture.gate_up[0], part.start, part.stop, axis=1)


def _put_expert(mixture: Mixture, part: ModelPart, weight: Matrix) -> None:
    if part.role == "experts.down":
        mixture.down = weight
        return
    both = mixture.gate_up
    if len(both) == 1:
        half = part.heights[0]
        both = [cut(both[0], 0, half, axis=1), cut(both[0], half, 2 * half, axis=1)]
    mixture.gate_up = _alike([weight if i == part.index else both[i] for i in (0, 1)], axis=1)
