"""Phi-3, Phi-3.5 and Phi-4: q, k, v and gate, up in one matrix each; part of a head turns, with longrope."""

from likely.models.configuration.config import ModelConfig
from likely.models.configuration.keys import Keys
from likely.models.configuration.rope import read_rope
from likely.models.families import llama

NAMES = {
    "attn_norm": "input_layernorm",
    "qkv": "self_attn.qkv_proj",
    "o": "self_attn.o_proj",
    "mlp_norm": "post_attention_layernorm",
    "gate_up": "mlp.gate_up_proj",
    "down": "mlp.down_proj",
}


def configure(keys: Keys, model_type: str) -> ModelConfig:
    fields = llama.common(keys, model_type, eps=keys.number("rms_norm_eps", 1e-5))
    layers, size = fields["layers"], fields["head_size"]
    for name, only in (("attention_bias", False), ("mlp_bias", False), ("lm_head_bias", False), ("full_attn_mod", 1)):
        keys.fixed(name, only)
    keys.fixed("interpolate_factor", 1)
    original = keys.integer("original_max_position_embeddings", None)
    return ModelConfig(
        **fields,
        windows=llama.read_windows(keys, layers),
        ropes=(read_rope(keys, size, fields["context"], original=original),) * layers,
        scale=size**-0.5,
        tied=keys.flag("tie_word_embeddings", False),
    )
