"""Gemma and Gemma 2: norms whose weight is stored less one, a scaled embedding, GELU; the second with norms on both
sides, capped scores and logits, and every other layer sliding (arXiv:2408.00118).
"""

from collections.abc import Mapping
from typing import Any

from likely.models.configuration.config import ModelConfig
from likely.models.configuration.keys import Keys
from likely.models.configuration.rope import read_rope
from likely.models.families import llama

BOTH_SIDES = llama.NAMES | {
    "attn_post_norm": "post_attention_layernorm",
    "mlp_norm": "pre_feedforward_layernorm",
    "mlp_post_norm": "post_feedforward_layernorm",
}


def NAMES(config: ModelConfig) -> Mapping[str, str]:
    return llama.NAMES if config.family == "gemma" else BOTH_SIDES


def common(keys: Keys, model_type: str, **differs: Any) -> dict[str, Any]:
    """Fields that all Gemmas share."""
    named = keys.activation("hidden_act", "gelu_pytorch_tanh")  # "gelu" in the first ones, who meant this one
    activation = keys.activation("hidden_activation", "gelu_pytorch_tanh")
    if named != activation and named != "gelu":
        raise keys.bad(f"hidden_act and hidden_activation say {named} and {activation}")
    eps = keys.number("rms_norm_eps", 1e-6)
    fields = llama.common(keys, model_type, eps=eps, activation=activation, **differs)
    scale = max(fields["width"], 0) ** 0.5  # a width below one is refused where all is checked
    extra = {"norm": "rms+1", "tied": keys.flag("tie_word_embeddings", True), "embed_scale": scale}
    return fields | extra | llama.biased(keys)


def configure(keys: Keys, model_type: str) -> ModelConfig:
    fields = common(keys, model_type)
    layers, size = fields["layers"], fields["head_size"]
    ropes = (read_rope(keys, size, fields["context"]),) * layers
    if model_type == "gemma":
        return ModelConfig(**fields, windows=(0,) * layers, ropes=ropes, scale=size**-0.5)
    return ModelConfig(
        **fields,
        windows=llama.read_windows(keys, layers, lambda i: i % 2 == 0),
        ropes=ropes,
        scale=keys.number("query_pre_attn_scalar", 256.0) ** -0.5,
        softcap=keys.number("attn_logit_softcapping", 50.0),
        logit_softcap=keys.number("final_logit_softcapping", 30.0),
    )
