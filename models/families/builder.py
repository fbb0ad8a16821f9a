"""From tensors, by their names in a family's checkpoints, to a `Transformer`. Knows no family and no file."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from likely.metal import mx
from likely.models.configuration.config import Experts, ModelConfig
from likely.models.configuration.rope import Rope
from likely.models.configuration.rotation import Rotation, rotation
from likely.models.modules.block import Block
from likely.models.modules.linear import (
    ACTIVATE,
    AnyLinear,
    Embedding,
    JoinedProducts,
    LayerNorm,
    Norm,
    Product,
    RMSNorm,
    linear,
)
from likely.models.modules.mlp import MLP, GatedMLP, Mixture, Plain
from likely.models.modules.parts import TensorNames
from likely.models.modules.weights import Matrix, Tensors, join
from likely.models.transformer import Transformer

NORMS = ("attn_norm", "attn_post_norm", "mlp_norm", "mlp_post_norm")


class ModelShare(Protocol):
    """The part of a model that a rank holds, as far as building it goes; `models.parallel` makes them."""

    @property
    def config(self) -> ModelConfig:
        """The configuration of what the rank computes."""
        ...

    @property
    def takes_tokens(self) -> bool:
        """Whether tokens come in here, so that the embedding is needed."""
        ...

    @property
    def rows(self) -> int:
        """How many rows of the head are this rank's."""
        ...

    def settings(self, packing: Mapping[str, Any]) -> dict[str, Any]:
        """A quantisation's settings by the names that the modules have here."""
        ...


class Builder:
    """Takes each part's tensors once, in the order of the layers, and puts the parts together."""

    def __init__(
        self,
        config: ModelConfig,
        names: TensorNames,
        tensors: Tensors,
        fuse: bool,
        share: ModelShare | None = None,
    ) -> None:
        """`share` says which of the ends of a model are here, where several ranks share one."""
        self.head_rows = config.vocab_size if share is None else share.rows
        self.embeds = share is None or share.takes_tokens
        self.config, self.names, self.tensors, self.fuse = config, names, tensors, fuse
        ropes: list[Rope] = list(dict.fromkeys(rope for rope in config.ropes if rope is not None))
        self.ropes = ropes
        self.rotations: list[Rotation] = [rotation(rope, config.head_size) for rope in ropes]

    def model(self) -> Transformer:
        c, names, tensors = self.config, self.names, self.tensors
        norm = self.norm(names.path("norm"), c.width)
        table = tensors.matrix(names.path("embed"), c.vocab_size, c.width) if self.embeds else mx.zeros((0, c.width))
        embed = Embedding(table, norm.weight.dtype)
        positions = None
        if c.learned_positions:
            table_of = tensors.matrix(names.path("positions"), c.learned_positions, c.width)
            positions = Embedding(table_of, norm.weight.dtype)
        blocks = [self.block(i) for i in range(c.layers)]
        out = linear(table) if c.tied else self.linear(names.path("head"), self.head_rows, c.width, False)
        tensors.done()
        return Transformer(
            c,
            names,
            embed=embed,
            positions=positions,
            blocks=blocks,
            rotations=self.rotations,
            norm=norm,
            out=out,
        )

    def block(self, index: int) -> Block:
        c, names = self.config, self.names
        norms = {role: self.norm(names.path(role, index), c.width) for role in NORMS if names.has(role)}
        if c.qk_norm:
            for name, heads in (("q_norm", c.heads), ("k_norm", c.kv_heads)):
                norms[name] = self.norm(names.path(name, index), c.head_size * (heads if c.qk_norm == "all" else 1))
        q, kv = c.heads * c.head_size, c.kv_heads * c.head_size
        qkv = self.product(index, "qkv", {"q": q, "k": kv, "v": kv}, c.width, c.qkv_bias)
        out = self.linear(names.path("o", index), c.width, q, c.out_bias)
        rope = c.ropes[index]
        turn = -1 if rope is None else self.ropes.index(rope)
        turned = None if rope is None else self.rotations[turn]
        return Block(c, index, qkv=qkv, out=out, mlp=self.mlp(index), norms=norms, rotation=turned, turn=turn)

    def mlp(self, index: int) -> MLP:
        c, names = self.config, self.names
        activate = ACTIVATE[c.activation]
        if c.experts is not None and c.sparse[index]:
            return self.mixture(index, c.experts, activate)
        down = self.linear(names.path("down", index), c.width, c.mlp_width, c.mlp_bias)
        if not c.gated:
            return Plain(self.linear(names.path("up", index), c.mlp_width, c.width, c.mlp_bias), down, activate)
        parts = {"gate": c.mlp_width, "up": c.mlp_width}
        return GatedMLP(self.product(index, "gate_up", parts, c.width, c.mlp_bias), down, activate)

    def mixture(self, index: int, experts: Experts, activate: Callable[[mx.array], mx.array]) -> MLP:
        count, width, rows = experts.count, self.config.width, experts.width
        router = self.linear(self.names.path("router", index), count, width, False)
        gate, up, down = (
            self.tensors.matrix(self.names.path(f"experts.{name}", index), count, *shape)
            for name, shape in (("gate", (rows, width)), ("up", (rows, width)), ("down", (width, rows)))
        )
        joined = join([gate, up], axis=1)
        return Mixture(experts, router, [gate, up] if joined is None else [joined], down, activate)

    def product(self, index: int, whole: str, parts: dict[str, int], columns: int, bias: bool) -> Product:
        """Products of one input side by side: one matrix if the checkpoint has it so or its parts can be joined."""
        names = self.names
        if names.has(whole):
            return self.linear(names.path(whole, index), sum(parts.values()), columns, bias)
        joined_path = names.joined(whole, index)
        if f"{joined_path}.weight" in self.tensors:  # joined while it was read
            return self.linear(joined_path, sum(parts.values()), columns, bias)
        paths = {names.path(part, index): rows for part, rows in parts.items()}
        parted = [self.part(path, rows, columns, bias) for path, rows in paths.items()]
        joined = join([matrix for matrix, _ in parted]) if self.fuse else None
        if joined is None:
            return JoinedProducts([linear(*part) for part in parted])
        biases = [b for _, b in parted if b is not None]
        return linear(joined, mx.concatenate(biases) if biases else None)

    def linear(self, path: str, rows: int, columns: int, bias: bool) -> AnyLinear:
        return linear(*self.part(path, rows, columns, bias))

    def part(self, path: str, rows: int, columns: int, bias: bool) -> tuple[Matrix, mx.array | None]:
        matrix = self.tensors.matrix(path, rows, columns)
        return matrix, self.tensors.take(f"{path}.bias", rows) if bias else None

    def norm(self, path: str, width: int) -> Norm:
        c = self.config
        weight = self.tensors.take(f"{path}.weight", width)
        if c.norm == "layer":
            return LayerNorm(weight, self.tensors.take(f"{path}.bias", width), c.eps)
        return RMSNorm(1.0 + weight if c.norm == "rms+1" else weight, c.eps)
