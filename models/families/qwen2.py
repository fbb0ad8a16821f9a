"""Qwen2 and Qwen2.5: Llama with biases on q, k and v, and windows that a switch allows."""

from likely.models.configuration.config import ModelConfig
from likely.models.configuration.keys import Keys
from likely.models.configuration.rope import read_rope
from likely.models.families import llama

NAMES = llama.NAMES


def configure(keys: Keys, model_type: str) -> ModelConfig:
    fields = llama.common(keys, model_type, eps=keys.number("rms_norm_eps", 1e-6))
    layers, size = fields["layers"], fields["head_size"]
    keys.fixed("use_mrope", False)
    return ModelConfig(
        **fields,
        windows=llama.read_switched_windows(keys, layers),
        ropes=(read_rope(keys, size, fields["context"]),) * layers,
        scale=size**-0.5,
        tied=keys.flag("tie_word_embeddings", False),
        qkv_bias=True,
    )
