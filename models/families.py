"""From a Hugging Face configuration and its tensors to a `Transformer`, by the family that `model_type` names."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from metal import mx
from models.config import ModelConfig
from models.errors import ConfigError
from models.keys import Keys
from models.layers import ACTIVATE, AnyLinear, Embedding, Joined, LayerNorm, Norm, Product, RMSNorm, linear
from models.mlp import Gated, Plain
from models.rope import Rope, Rotation, rotation
from models.transformer import Block, Transformer
from models.weights import Matrix, Tensors, join

# `model_type` -> the module that knows it
FAMILIES = {"llama": "llama", "mistral": "llama"}

TOP = {
    "embed": "model.embed_tokens",
    "positions": "model.embed_positions",
    "layer": "model.layers.{}",
    "norm": "model.norm",
    "head": "lm_head",
}
NORMS = ("attn_norm", "attn_post_norm", "mlp_norm", "mlp_post_norm")


@dataclass(frozen=True, slots=True)
class Family:
    """What a family's module says: how to read its configuration, what its tensors are called, what to do to them."""

    configure: Callable[[Keys], ModelConfig]
    names: Mapping[str, str]
    top: Mapping[str, str]
    prepare: Callable[[dict[str, mx.array], ModelConfig], None] | None


def family(model_type: str) -> Family:
    """The family of this `model_type`; ConfigError if there is none."""
    if model_type not in FAMILIES:
        raise ConfigError(f"config: model_type {model_type!r} is not one of {', '.join(sorted(FAMILIES))}")
    module = import_module(f"models.{FAMILIES[model_type]}")
    return Family(module.configure, module.NAMES, TOP | getattr(module, "TOP", {}), getattr(module, "prepare", None))


def configure(config: Mapping[str, Any]) -> ModelConfig:
    """A Hugging Face configuration in our names; ConfigError for what is missing, unknown or contradictory."""
    keys = Keys(config)
    model_type = keys.text("model_type")
    found = family(model_type).configure(keys)
    keys.done()
    return found.check()


def build(config: Mapping[str, Any], weights: dict[str, mx.array], *, fuse: bool = True) -> Transformer:
    """The model that a Hugging Face configuration and its tensors describe.

    `weights` is emptied: the model owns the arrays, and none is held twice. `fuse` makes q, k and v one product, and
    gate and up; without it every matrix can be reached by its name. Raises ConfigError and CheckpointError.
    """
    shape = configure(config)
    kind = family(config["model_type"])
    if kind.prepare is not None:
        kind.prepare(weights, shape)
    if shape.tied:
        for name in [name for name in weights if name.startswith(f"{kind.top['head']}.")]:
            del weights[name]
    return _Builder(kind, shape, Tensors(weights, config.get("quantization")), fuse).model()


class _Builder:
    def __init__(self, kind: Family, config: ModelConfig, tensors: Tensors, fuse: bool) -> None:
        self.kind, self.config, self.tensors, self.fuse = kind, config, tensors, fuse
        self.linears: dict[str, AnyLinear] = {}
        ropes: list[Rope] = list(dict.fromkeys(rope for rope in config.ropes if rope is not None))
        self.ropes = ropes
        self.rotations: list[Rotation] = [rotation(rope, config.head_size) for rope in ropes]

    def model(self) -> Transformer:
        c, top, tensors = self.config, self.kind.top, self.tensors
        norm = self.norm(top["norm"], c.width)
        table = tensors.matrix(top["embed"], c.vocab_size, c.width)
        embed = Embedding(table, norm.weight.dtype)
        positions = None
        if c.learned_positions:
            positions = Embedding(tensors.matrix(top["positions"], c.learned_positions, c.width), norm.weight.dtype)
        blocks = [self.block(i) for i in range(c.layers)]
        out = linear(table) if c.tied else self.linear(top["head"], c.vocab_size, c.width, False)
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
        c, names = self.config, self.kind.names
        at = self.kind.top["layer"].format(index)
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
        return Block(c, index, qkv=qkv, out=out, mlp=self.mlp(at), norms=norms, rotation=turned, turn=turn)

    def mlp(self, at: str) -> Product:
        c, names = self.config, self.kind.names
        activate = ACTIVATE[c.activation]
        down = self.linear(f"{at}.{names['down']}", c.width, c.mlp_width, c.mlp_bias)
        if not c.gated:
            return Plain(self.linear(f"{at}.{names['up']}", c.mlp_width, c.width, c.mlp_bias), down, activate)
        parts = {"gate": c.mlp_width, "up": c.mlp_width}
        return Gated(self.product(at, "gate_up", parts, c.width, c.mlp_bias), down, activate)

    def product(self, at: str, whole: str, parts: dict[str, int], columns: int, bias: bool) -> Product:
        """Products of one input side by side: one matrix if the checkpoint has it so or its parts can be joined."""
        names = self.kind.names
        if whole in names:
            return self.linear(f"{at}.{names[whole]}", sum(parts.values()), columns, bias)
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
