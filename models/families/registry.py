"""From a Hugging Face configuration and its tensors to a `Transformer`, by the family that `model_type` names."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from metal import mx
from models.checkpoint import layouts
from models.checkpoint.builder import JOINED, Builder
from models.checkpoint.keys import Keys
from models.config import ModelConfig
from models.errors import ConfigError
from models.families import FAMILIES
from models.model import LanguageModel
from models.weights import Tensors

if TYPE_CHECKING:
    from models.parallel.shard import Sharding

TOP = {
    "embed": "model.embed_tokens",
    "layer": "model.layers.{}",
    "norm": "model.norm",
    "head": "lm_head",
}


@dataclass(frozen=True, slots=True)
class Family:
    """What a family's module says: how to read its configuration, what its tensors are called, what to do to them."""

    configure: Callable[[Keys, str], ModelConfig]
    names: Callable[[ModelConfig], Mapping[str, str]]
    top: Mapping[str, str]
    prepare: Callable[[dict[str, mx.array], ModelConfig], None] | None
    rename: Callable[[str], str | None]  # a file's name of a tensor -> that in `names`; None for what is not read
    spell: Callable[[str], str]  # and mlx-lm's, which is what is written
    arrange: Callable[[str, mx.array, ModelConfig], mx.array]  # and how it keeps the rows


def family(model_type: str) -> Family:
    """The family of this `model_type`; ConfigError if there is none."""
    if model_type not in FAMILIES:
        raise ConfigError(f"config: model_type {model_type!r} is not one of {', '.join(sorted(FAMILIES))}")
    module = import_module(f"models.families.{FAMILIES[model_type]}")
    names = module.NAMES
    return Family(
        module.configure,
        names if callable(names) else lambda _: names,
        TOP | getattr(module, "TOP", {}),
        getattr(module, "prepare", None),
        getattr(module, "rename", str),
        getattr(module, "spell", str),
        getattr(module, "arrange", lambda name, array, shape: array),
    )


def configure(config: Mapping[str, Any]) -> ModelConfig:
    """A Hugging Face configuration in our names; ConfigError for what is missing, unknown or contradictory."""
    keys = Keys(config)
    model_type = keys.text("model_type")
    found = family(model_type).configure(keys, model_type)
    keys.done()
    return found.check()


def described(config: Mapping[str, Any], names: Iterable[str]) -> ModelConfig:
    """The configuration, with what only the names of a checkpoint's tensors say: whether it has a head of its own."""
    head = family(str(config.get("model_type"))).top["head"]
    if any(name.startswith(f"{head}.") for name in names):
        config = {"tie_word_embeddings": False, **config}
    return configure(config)


def joins(config: Mapping[str, Any]) -> dict[str, list[str]]:
    """The products that the model of a configuration keeps as one: a path -> those of its parts, in order.

    Whoever reads a checkpoint may already give them so: that saves a copy.
    """
    if config.get("model_type") not in FAMILIES:
        return {}
    kind, shape, found = family(str(config["model_type"])), configure(config), {}
    names = kind.names(shape)
    for layer in map(kind.top["layer"].format, range(shape.layers)):
        for whole, parts in JOINED.items():
            if whole not in names and set(parts) <= set(names):
                found[f"{layer}.{whole}"] = [f"{layer}.{names[part]}" for part in parts]
    return found


def build(
    config: Mapping[str, Any],
    weights: dict[str, mx.array],
    *,
    fuse: bool = True,
    dense: mx.Dtype | None = None,
    share: "Sharding | None" = None,
) -> LanguageModel:
    """The model that a Hugging Face configuration and its tensors describe.

    `weights` is emptied: the model owns the arrays, and none is held twice. `fuse` makes q, k and v one product, and
    gate and up; without it every matrix can be reached by its name. `dense` unpacks quantised matrices to numbers of
    that dtype, one at a time. `share` says that the tensors are one rank's, as it placed them (`models.parallel`). An
    architecture that is not in FAMILIES runs by mlx-lm's own class (`models.foreign`).
    Raises ConfigError and CheckpointError.
    """
    if config.get("model_type") not in FAMILIES:
        from models import foreign

        return foreign.build(config, weights, dense)
    kind = family(str(config.get("model_type")))
    shape = described(config, weights) if share is None else share.config
    packing = layouts.settings(config)
    if share is not None:
        packing = share.settings(packing)
    layouts.translate(config, weights)
    if kind.prepare is not None:
        kind.prepare(weights, shape)
    if shape.tied:
        for name in [name for name in weights if name.startswith(f"{kind.top['head']}.")]:
            del weights[name]
    tensors = Tensors(weights, packing, dense)
    return Builder(shape, kind.names(shape), kind.top, tensors, fuse, share).model()
