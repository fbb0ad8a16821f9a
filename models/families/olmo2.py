"""OLMo 2: norms after attention and MLP instead of before, and over all heads of q and of k (arXiv:2501.00656)."""

from likely.models.configuration.config import ModelConfig
from likely.models.configuration.keys import Keys
from likely.models.configuration.rope import read_rope
from likely.models.families import llama

NAMES = {
    **{part: name for part, name in llama.NAMES.items() if part not in ("attn_norm", "mlp_norm")},
    "attn_post_norm": "post_attention_layernorm",
    "mlp_post_norm": "post_feedforward_layernorm",
    "q_norm": "self_attn.q_norm",
    "k_norm": "self_attn.k_norm",
}


def configure(keys: Keys, model_type: str) -> ModelConfig:
    fields = llama.common(keys, model_type, eps=keys.number("rms_norm_eps", 1e-5))
    layers, size = fields["layers"], fields["head_size"]
    return ModelConfig(
        **fields,
        **llama.biased(keys),
        windows=(0,) * layers,
        ropes=(read_rope(keys, size, fields["context"]),) * layers,
        scale=size**-0.5,
        tied=keys.flag("tie_word_embeddings", False),
        qk_norm="all",
    )
