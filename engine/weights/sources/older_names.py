"""Names of before, for configurations that transformers 5 has saved: mlx-lm's classes look for those.

Such a class takes its own default for a name that it does not find, without a word, and many a default is another
model. Plain data; imports no class of mlx-lm's, and knows by name which of them count their layers.
"""

from collections.abc import Mapping
from typing import Any

from likely.engine.base.errors import ConfigError

COUNTED = ("cohere2", "qwen3_next", "qwen3_5_text", "qwen3_5_moe_text")  # each so many layers one that sees all
LAYERS = {"linear_attention": "mamba", "full_attention": "attention"}  # of Granite 4, renamed in transformers 5.13
FLOAT = "__float__"  # beside it a number that JSON has not


def older_names(config: Mapping[str, Any]) -> dict[str, Any]:
    """Entries to put over those of a configuration, its `text_config` too; nothing where transformers 5 has not written
    it. ConfigError for layers that the class has no name for."""
    inner = config.get("text_config")
    said: dict[str, Any] = {}
    if isinstance(inner, dict) and (within := older_names(inner)):
        said["text_config"] = inner | within
        said |= {name: inner[name] for name in ("vocab_size",) if name in inner and name not in config}
    rope = config.get("rope_parameters")  # which it writes whatever the model
    if not isinstance(rope, dict):
        return said
    older = _rotations(rope) | _sizes(config, rope) | _layers(config)
    missing = {name: value for name, value in older.items() if config.get(name) is None}
    said |= {name: value for name, value in missing.items() if value is not None or name == "rope_scaling"}
    return said | _otherwise(config)


def _rotations(rope: Mapping[str, Any]) -> dict[str, Any]:
    far, near = (rope.get(f"{reach}_attention") for reach in ("full", "sliding"))  # where layers differ
    one = far if isinstance(far, dict) else rope
    older = {"rope_theta": one.get("rope_theta")}
    older["rope_scaling"] = one if one.get("rope_type", one.get("type", "default")) != "default" else None
    if isinstance(near, dict):
        return older | {"rope_local_base_freq": near.get("rope_theta")}
    return older | {"partial_rotary_factor": one.get("partial_rotary_factor")}


def _sizes(config: Mapping[str, Any], rope: Mapping[str, Any]) -> dict[str, Any]:
    """Those that it has from others: of a head, LFM2's of a block, MiniMax M2's of what turns, and Gemma 4's of layers
    that see all."""
    width, heads, size = (config.get(name) for name in ("hidden_size", "num_attention_heads", "head_dim"))
    if size is None and isinstance(width, int) and isinstance(heads, int) and heads > 0:
        size = width // heads
    older = {"head_dim": size, "block_dim": width, "shared_intermediate_size": 0}
    part = rope.get("partial_rotary_factor", 1.0)
    if isinstance(size, int) and isinstance(part, int | float):
        older["rotary_dim"] = int(size * part)
    each = config.get("per_layer_config")
    for layer in each.values() if isinstance(each, dict) else ():
        older["global_head_dim"] = layer.get("head_dim")
        older["num_global_key_value_heads"] = layer.get("num_key_value_heads")
    return older


def _layers(config: Mapping[str, Any]) -> dict[str, Any]:
    """Lists of layers as the counts that they were."""
    older: dict[str, Any] = {}
    kinds, dense = config.get("layer_types"), config.get("mlp_layer_types")
    if isinstance(dense, list):
        older["first_k_dense_replace"] = (*dense, "sparse").index("sparse")
    if not isinstance(kinds, list):
        return older
    every = (*kinds, "full_attention").index("full_attention") + 1
    if all((kind == "full_attention") is (i % every == 0) for i, kind in enumerate(kinds, 1)):
        return older | {"full_attention_interval": every, "sliding_window_pattern": every}
    if (kind := config.get("model_type")) in COUNTED:
        raise ConfigError(f"config: layer_types: mlx-lm's {kind} has one that sees all each so many layers, not these")
    return older


def _otherwise(config: Mapping[str, Any]) -> dict[str, Any]:
    """Entries that are there under a name of before, and say it otherwise."""
    older = {name: value for name, was in config.items() if (value := _number(was)) != was}
    kinds, kind = config.get("layer_types"), config.get("model_type")
    if kind == "granitemoehybrid":
        older["position_embedding_type"] = config.get("position_embedding_type") or "nope"
        if isinstance(kinds, list):
            older["layer_types"] = [LAYERS.get(kind, kind) for kind in kinds]
    if kind == "exaone4" and isinstance(kinds, list) and not isinstance(config.get("sliding_window_pattern"), str):
        slides = config.get("sliding_window") is not None
        older["sliding_window_pattern"] = "".join("LG"[kind == "full_attention"] for kind in kinds) if slides else None
    return older


def _number(value: Any) -> Any:
    if isinstance(value, list):
        return [*map(_number, value)]
    return float(value[FLOAT]) if isinstance(value, dict) and FLOAT in value else value
