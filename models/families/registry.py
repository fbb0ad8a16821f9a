"""From a Hugging Face configuration and its tensors to a `Transformer`, by the family that `model_type` names."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from importlib import import_module
from typing import Any

from likely.metal import mx
from likely.models.configuration import layouts, rope_scaling
from likely.models.configuration.config import MaskedDiffusion, ModelConfig
from likely.models.configuration.keys import Keys
from likely.models.configuration.rope_scaling import RopeScaling
from likely.models.errors import ConfigError
from likely.models.families import FAMILIES
from likely.models.families.builder import Builder, ModelShare
from likely.models.families.family import Family, of
from likely.models.modules.parts import JOINED
from likely.models.modules.weights import BlankTensors, Tensors
from likely.models.transformer import Transformer


def family(model_type: str) -> Family:
    """The family of this `model_type`; ConfigError if there is none."""
    if model_type not in FAMILIES:
        raise ConfigError(f"config: model_type {model_type!r} is not one of {', '.join(sorted(FAMILIES))}")
    return of(import_module(f"likely.models.families.{FAMILIES[model_type]}"))


def configure(config: Mapping[str, Any]) -> ModelConfig:
    """A Hugging Face configuration in our names; ConfigError for what is missing, unknown or contradictory."""
    keys = Keys(config)
    model_type = keys.text("model_type")
    shape = family(model_type).configure(keys, model_type)
    if (mask := keys.integer("mask_token_id", None)) is not None:
        shape = replace(shape, diffusion=MaskedDiffusion(mask, keys.flag("shifted_logits", False)))
    if shape.diffusion is not None:
        shape = replace(shape, diffusion=replace(shape.diffusion, block=keys.integer("block_size", 0)))
    scaling = keys.text(rope_scaling.KEY, None)
    keys.done()
    shape = shape.check()
    return shape if scaling is None else rope_scaling.longer(shape, RopeScaling.read(scaling))


def common(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """A configuration whose longer RoPE stands under names that others read; itself where they have none for it."""
    if (text := config.get(rope_scaling.KEY)) is None:
        return config
    shape, scaling = configure(config), RopeScaling.read(str(text))
    told = {name: value for name, value in config.items() if name != rope_scaling.KEY}
    theta = next(rope.theta for rope in shape.ropes if rope is not None)
    rotation = {"rope_type": scaling.kind, "factor": scaling.factor}
    rotation |= {"original_max_position_embeddings": told["max_position_embeddings"]} if scaling.kind == "yarn" else {}
    told |= {"rope_theta": theta} if scaling.kind == "ntk" else {"rope_scaling": rotation}
    told["max_position_embeddings"] = shape.context
    return told if configure(told) == shape else config


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
    kind, shape, paths = family(str(config["model_type"])), configure(config), {}
    names = kind.names(shape)
    for layer in range(shape.layers):
        for whole, roles in JOINED.items():
            if not names.has(whole) and all(map(names.has, roles)):
                paths[names.joined(whole, layer)] = [names.path(role, layer) for role in roles]
    return paths


def build(
    config: Mapping[str, Any],
    weights: dict[str, mx.array],
    *,
    dense: mx.Dtype | None = None,
    share: ModelShare | None = None,
) -> Transformer:
    """The model that a Hugging Face configuration and its tensors describe.

    `weights` is emptied: the model owns the arrays, and none is held twice. q, k and v are one product, and gate and
    up, where they are kept alike. `dense` unpacks quantised matrices to numbers of that dtype, one at a time. `share`
    says that the tensors are one rank's, as it placed them (`models.parallel`).
    Raises ConfigError, for an architecture that is not in FAMILIES too, and CheckpointError.
    """
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
    return Builder(shape, kind.names(shape), tensors, fuse=True, share=share).model()


def blank(config: Mapping[str, Any]) -> Transformer:
    """The model of a configuration with zeros for weights, every matrix by itself; nothing is computed yet.

    ConfigError as `configure`.
    """
    kind, shape = family(str(config.get("model_type"))), configure(config)
    return Builder(shape, kind.names(shape), BlankTensors(), fuse=False).model()


def spelled(config: Mapping[str, Any], arrays: Mapping[str, mx.array]) -> dict[str, mx.array]:
    """A model's arrays under the names and in the order of rows that mlx-lm keeps them in, and `build` reads."""
    kind, shape = family(str(config.get("model_type"))), configure(config)
    return {kind.spell(name): kind.arrange(name, array, shape) for name, array in arrays.items()}
