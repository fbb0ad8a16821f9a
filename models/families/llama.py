"""Llama 2 and 3, Mistral, SmolLM2: RMS norms before attention and MLP, rotary positions, a gated MLP.

The other families are written as what differs from this one.
"""

from collections.abc import Callable
from typing import Any

from likely.models.configuration.config import ModelConfig
from likely.models.configuration.keys import Keys
from likely.models.configuration.rope import read_rope

# Our name of a part -> the checkpoint's, below `model.layers.N`.
NAMES = {
    "attn_norm": "input_layernorm",
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "o": "self_attn.o_proj",
    "mlp_norm": "post_attention_layernorm",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}


def common(keys: Keys, family: str, **differs: Any) -> dict[str, Any]:
    """Fields that nearly every configuration says in the same words; `differs` wins, and its keys are not read."""
    heads = keys.integer("num_attention_heads")
    width = keys.integer("hidden_size")
    fields = {
        "family": family,
        "vocab_size": keys.integer("vocab_size"),
        "width": width,
        "layers": keys.layers("num_hidden_layers"),
        "heads": heads,
        "kv_heads": keys.integer("num_key_value_heads", heads),
        "head_size": keys.integer("head_dim", None) or width // heads,
        "mlp_width": keys.integer("intermediate_size"),
        "context": keys.integer("max_position_embeddings", 2048),
        "activation": keys.activation(default="silu"),
    }
    return fields | differs


def biased(keys: Keys) -> dict[str, Any]:
    """`attention_bias` and `mlp_bias`, as most families mean them."""
    bias = keys.flag("attention_bias", False)
    return {"qkv_bias": bias, "out_bias": bias, "mlp_bias": keys.flag("mlp_bias", False)}


def configure(keys: Keys, model_type: str) -> ModelConfig:
    fields = common(keys, model_type, eps=keys.number("rms_norm_eps", 1e-6))
    layers, size = fields["layers"], fields["head_size"]
    keys.fixed("pretraining_tp", 1)
    return ModelConfig(
        **fields,
        **biased(keys),
        windows=read_windows(keys, layers),
        ropes=(read_rope(keys, size, fields["context"]),) * layers,
        scale=size**-0.5,
        tied=keys.flag("tie_word_embeddings", False),
    )


def read_windows(keys: Keys, layers: int, slides: Callable[[int], bool] = lambda i: True) -> tuple[int, ...]:
    """Each layer's window, from `sliding_window` and `layer_types`; without the latter, of the layers that `slides`."""
    window = keys.integer("sliding_window", 0)
    kinds = keys.sequence("layer_types")
    if kinds is None:
        return tuple(window if slides(i) else 0 for i in range(layers))
    return tuple(window if kind == "sliding_attention" else 0 for kind in read_kinds(keys, kinds, layers, window))


def read_switched_windows(keys: Keys, layers: int) -> tuple[int, ...]:
    """Each layer's window, from layer `max_window_layers` on where `use_sliding_window` allows it (Qwen, SmolLM3)."""
    first = keys.integer("max_window_layers", layers)
    windows = read_windows(keys, layers, lambda i: i >= first)
    return windows if keys.flag("use_sliding_window", False) else (0,) * layers


def read_kinds(keys: Keys, kinds: list[Any], layers: int, window: int) -> list[str]:
    """`layer_types`, checked."""
    if len(kinds) != layers:
        raise keys.bad(f"layer_types has {len(kinds)} entries for {layers} layers")
    for kind in kinds:
        if kind not in ("full_attention", "sliding_attention"):
            raise keys.bad(f"layer_types must be full_attention or sliding_attention, got {kind!r}")
        if kind == "sliding_attention" and not window:
            raise keys.bad("layer_types has sliding_attention but sliding_window is missing")
    return kinds
