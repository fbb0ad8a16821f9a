"""From tensors, by their names in a family's checkpoints, to a `Transformer`. Knows no family and no file."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from metal import mx
from models.block import Block
from models.config import Experts, ModelConfig
from models.layers import ACTIVATE, AnyLinear, Embedding, Joined, LayerNorm, Norm, Product, RMSNorm, linear
from models.mlp import MLP, Gated, Mixture, Plain
from models.rope import Rope
from models.rotation import Rotation, rotation
from models.transformer import Transformer
from models.weights import Matrix, Tensors, join

if TYPE_CHECKING:
    from models.parallel.shard import Sharding

JOINED = {"qkv": ("q", "k", "v"), "gate_up": ("gate", "up")}  # products of one input
NORMS = ("attn_norm", "attn_post_norm", "mlp_norm", "mlp_post_norm")


class Builder:
    """Takes each part's tensors once, in the order of the layers, and puts the parts together."""

    def __init__(
        self,
        config: ModelConfig,
        names: Mapping[str, str],
        top: Mapping[str, str],
        tensors: Tensors,
        fuse: bool,
        share: "Sharding | None" = None,
    ) -> None:
        """`share` says which of the ends of a model are here, where several ranks share one."""
        self.head_rows = config.vocab_size if share is None else share.rows
        self.embeds = share is None or share.takes_tokens
        self.config, self.names, self.top, self.tensors, self.fuse = config, names, top, tensors, fuse
        self.linears: dict[str, AnyLinear] = {}
        ropes: list[Rope] = list(dict.fromkeys(rope for rope in config.ropes if rope is not None))
        self.ropes = ropes
        self.rotations: list[Rotation] = [rotation(rope, config.head_size) for rope in ropes]

    def model(self) -> Transformer:
        c, top, tensors = self.config, self.top, self.tensors
        norm = self.norm(top["norm"], c.width)
        table = tensors.matrix(top["embed"], c.vocab_size, c.width) if self.embeds else mx.zeros((0, c.width))
        embed = Embedding(table, norm.weight.dtype)
        positions = None
        if c.learned_positions:
            positions = Embedding(tensors.matrix(top["positions"], c.learned_positions, c.width), norm.weight.dtype)
        blocks = [self.block(i) for i in range(c.layers)]
        out = linear(table) if c.tied else self.linear(top["head"], self.head_rows, c.width, False)
        tensors.done()
        return Transformer(
            c,
            embed=embed,
            positions=positions,
            blocks=blocks,
            rotations=self.rotations,
            norm=norm,
            out=out,
            linears=self.linears,
        )

    def block(self, index: int) -> Block:
        c, names = self.config, self.names
        at = self.top["layer"].format(index)
        norms = {name: self.norm(f"{at}.{names[name]}", c.width) for name in NORMS if name in names}
        if c.qk_norm:
            for name, heads in (("q_norm", c.heads), ("k_norm", c.kv_heads)):
                norms[name] = self.norm(f"{at}.{names[name]}", c.head_size * (heads if c.qk_norm == "all" else 1))
        q, kv = c.heads * c.head_size, c.kv_heads * c.head_size
        qkv = self.product(at, "qkv", {"q": q, "k": kv, "v": kv}, c.width, c.qkv_bias)
        out = self.linear(f"{at}.{names['o']}", c.width, q, c.out_bias)
        rope = c.ropes[index]
        turn = -1 if rope is None else self.ropes.index(rope)
        turned = None if rope is None else self.rotations[turn]
        return Block(c, index, qkv=qkv, out=out, mlp=self.mlp(at, index), norms=norms, rotation=turned, turn=turn)

    def mlp(self, at: str, index: int) -> MLP:
        c, names = self.config, self.names
        activate = ACTIVATE[c.activation]
        if c.experts is not None and c.sparse[index]:
            return self.mixture(at, c.experts, activate)
        down = self.linear(f"{at}.{names['down']}", c.width, c.mlp_width, c.mlp_bias)
        if not c.gated:
            return Plain(self.linear(f"{at}.{names['up']}", c.mlp_width, c.width, c.mlp_bias), down, activate)
        parts = {"gate": c.mlp_width, "up": c.mlp_width}
        return Gated(self.product(at, "gate_up", parts, c.width, c.mlp_bias), down, activate)

    def mixture(self, at: str, experts: Experts, activate: Callable[[mx.array], mx.array]) -> MLP:
        count, width, rows = experts.count, self.config.width, experts.width
        router = self.linear(f"{at}.{self.names['router']}", count, width, False)
        path = f"{at}.{self.names['experts']}"
        gate, up = (self.tensors.matrix(f"{path}.{name}_proj", count, rows, width) for name in ("gate", "up"))
        down = self.tensors.matrix(f"{path}.down_proj", count, width, rows)
        joined = join([gate, up], axis=1)
        return Mixture(experts, router, [gate, up] if joined is None else [joined], down, activate)

    def product(self, at: str, whole: str, parts: dict[str, int], columns: int, bias: bool) -> Product:
        """Products of one input side by side: one matrix if the checkpoint has it so or its parts can be joined."""
        names = self.names
        if whole in names:
            return self.linear(f"{at}.{names[whole]}", sum(parts.values()), columns, bias)
        if f"{at}.{whole}.weight" in self.tensors:  # joined while it was read
            return self.linear(f"{at}.{whole}", sum(parts.values()), columns, bias)
        paths = {f"{at}.{names[part]}": rows for part, rows in parts.items()}
        parted = [self.part(path, rows, columns, bias) for path, rows in paths.items()]
        joined = join([matrix for matrix, _ in parted]) if self.fuse else None
        if joined is None:
            return Joined([self.keep(path, *part) for path, part in zip(paths, parted, strict=True)])
        biases = [b for _, b in parted if b is not None]
        return self.keep(f"{at}.{whole}", joined, mx.concatenate(biases) if biases else None)

    def linear(self, path: str, rows: int, columns: int, bias: bool) -> AnyLinear:
        return self.keep(path, *self.part(path, rows, columns, bias))

    def part(self, path: str, rows: int, columns: int, bias: bool) -> tuple[Matrix, mx.array | None]:
        matrix = self.tensors.matrix(path, rows, columns)
        return matrix, self.tensors.take(f"{path}.bias", rows) if bias else None

    def keep(self, path: str, matrix: Matrix, bias: mx.array | None) -> AnyLinear:
        self.linears[path] = made = linear(matrix, bias)
        return made

    def norm(self, path: str, width: int) -> Norm:
        c = self.config
        weight = self.tensors.take(f"{path}.weight", width)
        if c.norm == "layer":
            return LayerNorm(weight, self.tensors.take(f"{path}.bias", width), c.eps)
        return RMSNorm(1.0 + weight if c.norm == "rms+1" else weight, c.eps)
