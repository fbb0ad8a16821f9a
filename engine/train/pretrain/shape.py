"""Shape of a model to be trained: a family's configuration from few numbers, from a size, or from a TOML file.

family = "qwen3"
layers = 4
width = 128
heads = 4            # and, if they differ: kv_heads, mlp_width, tied
[further]            # keys of the family's own configuration
rope_theta = 10000.0
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, get_type_hints

import likely.models as models
from likely.engine.base.errors import ConfigError, ParameterError
from likely.engine.base.files.home import expanded
from likely.engine.base.options import read_toml, typed, unknown
from likely.models.families import FAMILIES, registry

NOT_HERE = ("mixtral", "granitemoe", "qwen3_moe", "gemma3", "llada", "Dream")  # mixtures, one with eyes, masked ones
ALWAYS_TIED = ("gemma", "gemma2", "gemma3_text", "gpt2")  # by every program that reads them
NOT_GATED = ("gpt2", "gpt_neox", "starcoder2")
# what a family's configurations say beside the shape
OWN: dict[str, dict[str, Any]] = {
    "gpt2": {"layer_norm_epsilon": 1e-5},
    "gpt_neox": {"layer_norm_eps": 1e-5, "rotary_emb_base": 10000.0, "rotary_pct": 0.25},
    "starcoder2": {"norm_epsilon": 1e-5},
    "granite": {
        "rms_norm_eps": 1e-5, "logits_scaling": 1.0, "embedding_multiplier": 1.0, "residual_multiplier": 1.0,
        "attention_bias": False, "mlp_bias": False,
    },
}  # fmt: skip
UNITS = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9}
NEAR = 0.15  # how far from the size that was asked for a shape may be
WIDEST = 8192


@dataclass(frozen=True)
class ModelShape:
    """The numbers that are chosen; 0: kv_heads as heads, mlp_width 8/3 of the width, or 4 where it is not gated."""

    family: str = "llama"
    layers: int = 2
    width: int = 64
    heads: int = 2
    kv_heads: int = 0
    mlp_width: int = 0
    tied: bool = False
    further: Mapping[str, Any] = field(default_factory=dict)

    @property
    def always_tied(self) -> bool:
        """Whether the family's head is its embedding whatever a configuration says."""
        return self.family in ALWAYS_TIED


def check_family(family: str) -> None:
    """ParameterError for one that cannot be trained from nothing here."""
    known = [name for name in FAMILIES if name not in NOT_HERE]
    if family not in known:
        raise ParameterError(f"family must be one of {', '.join(known)}, got {family!r}")


def config_of(shape: ModelShape, vocab: int, context: int) -> dict[str, Any]:
    """The configuration in the family's own words; ParameterError for what it cannot be."""
    check_family(shape.family)
    if shape.width % shape.heads or shape.width // shape.heads % 2:
        raise ParameterError(f"a width of {shape.width} does not make {shape.heads} heads of an even size")
    mlp_width = shape.mlp_width or (4 * shape.width if shape.family in NOT_GATED else 8 * shape.width // 48 * 16)
    size = shape.width // shape.heads
    tied = shape.tied or shape.always_tied
    if shape.family == "gpt2":
        described: dict[str, Any] = {
            "n_embd": shape.width, "n_head": shape.heads, "n_layer": shape.layers, "n_positions": context,
            "n_ctx": context, "n_inner": mlp_width,
        }  # fmt: skip
    else:
        described = {
            "hidden_size": shape.width, "num_hidden_layers": shape.layers, "num_attention_heads": shape.heads,
            "num_key_value_heads": shape.kv_heads or shape.heads, "intermediate_size": mlp_width,
            "max_position_embeddings": context, "head_dim": size, "rope_theta": 10000.0,
        }  # fmt: skip
    if shape.family == "gpt_neox":
        del described["rope_theta"], described["num_key_value_heads"], described["head_dim"]
    if shape.family in ("gemma2", "gemma3_text"):
        described["query_pre_attn_scalar"] = float(size)
    if shape.family == "granite":
        described["attention_multiplier"] = size**-0.5
    described |= OWN.get(shape.family, {"rms_norm_eps": 1e-5})
    config = {
        "model_type": shape.family,
        "vocab_size": vocab,
        **described,
        "tie_word_embeddings": tied,
        **shape.further,
    }
    try:
        models.configure(config)
    except ConfigError as error:
        raise ParameterError(f"no such shape: {error}") from error
    return config


def counts(shape: ModelShape, vocab: int, context: int) -> tuple[int, int]:
    """Parameters with embeddings and without: embedding, table of positions and head."""
    model = registry.blank(config_of(shape, vocab, context))
    sizes = {part: sum(a.size for a in part.arrays().values()) for part in model.parts()}
    tables = sum(size for part, size in sizes.items() if part.role in ("embed", "positions", "head"))
    return sum(sizes.values()), sum(sizes.values()) - tables


def shape_of(size: str, family: str, vocab: int, context: int, *, tied: bool = False) -> ModelShape:
    """The shape of a TOML file, or the one whose parameters, all counted, are nearest to a size such as 300k or 10M.

    DataError and ParameterError for a file or a size that says none.
    """
    if size.endswith(".toml"):
        return read_shape(size)
    wanted = parameters_of(size)
    reached, best = min(_candidates(family, vocab, context, tied, wanted), key=lambda pair: abs(pair[0] - wanted))
    if abs(reached - wanted) > NEAR * wanted:
        table = vocab * best.width * (1 if best.tied or best.always_tied else 2)
        raise ParameterError(
            f"no {family} with {vocab:,} tokens has about {size} parameters: the nearest has {reached:,}, {table:,} of "
            "them embeddings; ask for another --size or fewer tokens (--vocab, --tokenizer bytes), or write a shape"
        )
    return best


def parameters_of(size: str) -> float:
    """The parameters that a size asks for; infinite for a file of a shape, which does not say."""
    if size.endswith(".toml"):
        return math.inf
    matched = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmb]?)", size.strip().lower())
    if matched is None:
        raise ParameterError(
            f"size must be parameters such as 300k, 1M or 10M, or a .toml file of a shape, got {size!r}"
        )
    return float(matched[1]) * UNITS[matched[2]]


def _candidates(family: str, vocab: int, context: int, tied: bool, wanted: float) -> Iterator[tuple[int, ModelShape]]:
    """Parameters and shapes from narrow to wide, until wider ones are only too large.

    Depths are around a layer for 32 of width, heads of 32, of narrow models 8 and of wide ones 64.
    """
    width = 16
    while width <= WIDEST:
        head = 8 if width < 64 else 32 if width < 512 else 64
        one, two = (ModelShape(family, layers, width, width // head, tied=tied) for layers in (1, 2))
        least = counts(one, vocab, context)[0]
        a_layer = counts(two, vocab, context)[0] - least
        usual = max(1, round(width / 32))
        for layers in range(max(1, usual - 2), usual + 3):
            yield least + (layers - 1) * a_layer, replace(one, layers=layers)
        if least + max(0, usual - 3) * a_layer > wanted:
            return
        width += 8 if width < 64 else 32 if width < 512 else 64


def read_shape(file: str) -> ModelShape:
    """The shape in a file, every key known. DataError and ParameterError for one that says none."""
    path = expanded(file)
    values, hints = read_toml(path), get_type_hints(ModelShape)
    changed: dict[str, Any] = {}
    for name, value in values.items():
        if name not in hints:
            raise ParameterError(f"{path}: {unknown(name, (f.name for f in fields(ModelShape)))}")
        if name == "further":
            if not isinstance(value, dict):
                raise ParameterError(f"{path}: further must be a table: [further], got {value!r}")
            changed[name] = value
        else:
            changed[name] = typed(f"{path}: {name}", value, hints[name])
    shape = ModelShape(**changed)
    for name in ("layers", "width", "heads"):
        if getattr(shape, name) < 1:
            raise ParameterError(f"{path}: {name} must be 1 or more, got {getattr(shape, name)}")
    if min(shape.kv_heads, shape.mlp_width) < 0:
        raise ParameterError(f"{path}: kv_heads and mlp_width must be 0 or more")
    return shape
