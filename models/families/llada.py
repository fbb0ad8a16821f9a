"""LLaDA: a masked diffusion model of Llama's blocks, in the words of OLMo's configurations (arXiv:2502.09992)."""

from likely.models.configuration.config import MaskedDiffusion, ModelConfig
from likely.models.configuration.keys import Keys
from likely.models.configuration.rope import Rope

TOP = {
    "embed": "model.transformer.wte",
    "layer": "model.transformer.blocks.{}",
    "norm": "model.transformer.ln_f",
    "head": "model.transformer.ff_out",
}
NAMES = {
    "attn_norm": "attn_norm",
    "q": "q_proj",
    "k": "k_proj",
    "v": "v_proj",
    "o": "attn_out",
    "mlp_norm": "ff_norm",
    "gate": "ff_proj",
    "up": "up_proj",
    "down": "ff_out",
}
# of how it is trained or computed, not of what
SILENT = (
    "flash_attention", "init_cutoff_factor", "init_device", "init_fn", "init_std", "mlp_ratio",
    "precision", "rope_full_precision", "alibi_bias_max", "layer_norm_with_affine",
    "attention_layer_norm_with_affine", "multi_query_attention",
)  # fmt: skip


def configure(keys: Keys, model_type: str) -> ModelConfig:
    for name, allowed in (
        ("block_type", "llama"), ("block_group_size", 1), ("layer_norm_type", "rms"), ("rope", True), ("alibi", False),
        ("attention_layer_norm", False), ("bias_for_layer_norm", False), ("include_bias", False),
        ("input_emb_norm", False), ("scale_logits", False),
    ):  # fmt: skip
        keys.fixed(name, allowed)
    for name in SILENT:
        keys.take(name, None)
    width, heads, layers = keys.integer("d_model"), keys.integer("n_heads"), keys.layers("n_layers")
    size, tied, vocab = width // heads, keys.flag("tie_word_embeddings", False), keys.integer("vocab_size")
    return ModelConfig(
        family=model_type,
        vocab_size=keys.integer("embedding_size", vocab),  # rows beyond the tokens are none
        width=width,
        layers=layers,
        heads=heads,
        kv_heads=keys.integer("n_kv_heads", heads),
        head_size=size,
        mlp_width=keys.integer("mlp_hidden_size"),
        context=keys.integer("max_sequence_length"),
        eps=keys.number("rms_norm_eps", 1e-5),
        windows=(0,) * layers,
        ropes=(Rope(keys.number("rope_theta", 10_000.0), size),) * layers,
        scale=size**-0.5,
        tied=keys.flag("weight_tying", tied),
        activation=keys.activation("activation_type", "silu"),
        qkv_bias=keys.flag("include_qkv_bias", False),
        diffusion=MaskedDiffusion(keys.integer("mask_token_id")),
    )
