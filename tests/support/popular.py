"""Architectures that people use by name, as tiny configurations: what the tests prove and docs/models.md lists.

Keys and their meaning are those of the published configurations; only the sizes are ours.
"""

from dataclasses import dataclass
from typing import Any

from likely.engine.weights.sources import mlx_lm_folder

SMALL: dict[str, Any] = {
    "vocab_size": 288, "hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 64, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 128, "rms_norm_eps": 1e-5, "rope_theta": 1e4,
    "tie_word_embeddings": False,
}  # fmt: skip
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "norm_topk_prob": True}
SPARSE = EXPERTS | {"decoder_sparse_step": 1, "mlp_only_layers": []}  # Qwen's names of where experts are
SHARED = {"shared_expert_intermediate_size": 32}
LINEAR = {
    "linear_num_value_heads": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 16, "linear_value_head_dim": 16,
    "linear_conv_kernel_dim": 4, "full_attention_interval": 2,
}  # fmt: skip
ROUTED = {  # DeepSeek's names of experts
    "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "n_shared_experts": 1, "n_group": 1,
    "topk_group": 1, "routed_scaling_factor": 1.5, "first_k_dense_replace": 1, "norm_topk_prob": True,
}  # fmt: skip
LATENT = {"num_key_value_heads": 4, "q_lora_rank": 32, "kv_lora_rank": 32, "qk_nope_head_dim": 32,
          "qk_rope_head_dim": 16, "v_head_dim": 32}  # fmt: skip
MAMBA = {"mamba_num_heads": 4, "mamba_head_dim": 16, "mamba_proj_bias": False, "ssm_state_size": 8, "conv_kernel": 4,
         "n_groups": 1, "use_conv_bias": True}  # fmt: skip
GEMMA = {"num_hidden_layers": 4, "sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"] * 2}
SLIDING = {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 64}  # fmt: skip
QUARTER = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.25}}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "rope_theta": 1e4}


@dataclass(frozen=True)
class Popular:
    """An architecture: the models that have it, and its configuration beyond `SMALL`."""

    models: str
    kind: str  # model_type
    more: dict[str, Any]
    text: str = ""  # model_type of its part for text, where that stands within `text_config`
    beside: str = ""  # what is not read of it
    without: tuple[str, ...] = ()  # of `SMALL`

    @property
    def native(self) -> bool:
        return not mlx_lm_folder.reads(self.config)

    @property
    def config(self) -> dict[str, Any]:
        config = {key: value for key, value in (SMALL | self.more).items() if key not in self.without}
        if not self.text:
            return config | {"model_type": self.kind}
        return {"model_type": self.kind, "vocab_size": 288, "text_config": config | {"model_type": self.text}}


POPULAR = (
    Popular("Llama 3, 3.1, 3.2, 3.3", "llama", {"rope_scaling": LLAMA3}),
    Popular("Llama 4 Scout, Maverick", "llama4", {
        "attention_chunk_size": 8, "interleave_moe_layer_step": 2, "intermediate_size_mlp": 64, "num_local_experts": 4,
        "num_experts_per_tok": 1, "rope_scaling": None, "use_qk_norm": True, "num_hidden_layers": 4,
        "attention_bias": False,
    }, "llama4_text", "pictures"),
    Popular("Qwen2.5", "qwen2", {"use_sliding_window": False}),
    Popular("Qwen3", "qwen3", {}),
    Popular("Qwen3 MoE", "qwen3_moe", SPARSE),
    Popular("Qwen3-Next", "qwen3_next", SPARSE | SHARED | LINEAR | {"partial_rotary_factor": 0.25}),
    Popular("Qwen3.5", "qwen3_5", LINEAR | QUARTER, "qwen3_5_text", "pictures"),
    Popular("Qwen3.5 MoE", "qwen3_5_moe", SPARSE | SHARED | LINEAR | QUARTER, "qwen3_5_moe_text", "pictures"),
    Popular("Gemma 2", "gemma2", {"sliding_window": 64, "query_pre_attn_scalar": 16, "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0, "tie_word_embeddings": True, "hidden_act": "gelu_pytorch_tanh"}),
    Popular("Gemma 3", "gemma3_text", {"sliding_window": 8, "sliding_window_pattern": 2, "query_pre_attn_scalar": 16,
        "hidden_activation": "gelu_pytorch_tanh", "tie_word_embeddings": True,
        "attention_bias": False}, beside="pictures"),
    Popular("Gemma 3n", "gemma3n", GEMMA | {
        "laurel_rank": 32, "num_kv_shared_layers": 2, "vocab_size_per_layer_input": 288, "rope_local_base_freq": 1e4,
        "hidden_size_per_layer_input": 32, "final_logit_softcapping": 30.0, "activation_sparsity_pattern": [0.0] * 4,
        "altup_num_inputs": 2, "altup_coef_clip": 120.0, "altup_correct_scale": True, "altup_active_idx": 0,
    }, "gemma3n_text", "pictures, sound"),
    Popular("Gemma 4", "gemma4", GEMMA | {
        "global_head_dim": 32, "num_kv_shared_layers": 2, "vocab_size_per_layer_input": 288,
        "hidden_size_per_layer_input": 32, "tie_word_embeddings": True,
    }, "gemma4_text", "pictures, sound"),
    Popular("Mistral 7B, Nemo, Small 3", "mistral", {"sliding_window": None}),
    Popular("Ministral 3, Mistral Small 3.2", "mistral3", {"rope_parameters": YARN | {
        "llama_4_scaling_beta": 0.1}}, "ministral3", "pictures"),
    Popular("Mixtral", "mixtral", {"num_local_experts": 4, "num_experts_per_tok": 2}),
    Popular("Phi-4, Phi-4-mini, Phi-3.5", "phi3", {"original_max_position_embeddings": 128}),
    Popular("gpt-oss", "gpt_oss", {"num_local_experts": 4, "num_experts_per_tok": 2, "rope_scaling": YARN} | SLIDING),
    Popular("GLM-4.5, GLM-4.6, GLM-4.7", "glm4_moe", ROUTED | {
        "rope_scaling": None, "use_qk_norm": True, "partial_rotary_factor": 0.5, "attention_bias": False}),
    Popular("GLM-4.7-Flash", "glm4_moe_lite", LATENT | ROUTED),
    Popular("DeepSeek V2, V2-Lite, Coder V2", "deepseek_v2", LATENT | ROUTED | {"rope_scaling": YARN | {
        "mscale": 0.7, "mscale_all_dim": 0.7}}),
    Popular("DeepSeek V3, V3.1, R1", "deepseek_v3", LATENT | ROUTED),
    Popular("DeepSeek V3.2", "deepseek_v32", LATENT | ROUTED | {
        "index_head_dim": 32, "index_n_heads": 4, "index_topk": 8}),
    Popular("Kimi K2", "kimi_k2", LATENT | ROUTED | {"n_routed_experts": 8}),
    Popular("SmolLM3", "smollm3", {"no_rope_layer_interval": 2}),
    Popular("LFM2", "lfm2", {
        "norm_eps": 1e-5, "conv_bias": False, "conv_L_cache": 3, "block_dim": 64, "block_multiple_of": 32,
        "block_ffn_dim_multiplier": 1.0, "block_auto_adjust_ff_dim": False, "layer_types": ["conv", "full_attention"]}),
    Popular("LFM2 MoE", "lfm2_moe", EXPERTS | {
        "use_expert_bias": True, "num_dense_layers": 1, "norm_eps": 1e-5, "conv_bias": False, "conv_L_cache": 3,
        "layer_types": ["conv", "full_attention"]}),
    Popular("Granite 3", "granite", {"embedding_multiplier": 12.0, "attention_multiplier": 0.25,
        "residual_multiplier": 0.22, "logits_scaling": 8.0, "mlp_bias": False, "attention_bias": False}),
    Popular("Granite 4", "granitemoehybrid", {
        "embedding_multiplier": 12.0, "attention_multiplier": 0.25, "residual_multiplier": 0.22, "logits_scaling": 8.0,
        "attention_bias": False,
        "layer_types": ["mamba", "attention"], "num_local_experts": 4, "num_experts_per_tok": 2,
        "shared_intermediate_size": 32, "mamba_n_heads": 4, "mamba_d_head": 32, "mamba_proj_bias": False,
        "mamba_d_state": 8, "mamba_d_conv": 4, "mamba_n_groups": 1, "mamba_conv_bias": True,
        "position_embedding_type": "nope"}),
    Popular("OLMo 2", "olmo2", {}),
    Popular("OLMo 3", "olmo3", {"rope_scaling": YARN} | SLIDING),
    Popular("EXAONE 4", "exaone4", {"sliding_window": 8, "sliding_window_pattern": "LG", "rope_scaling": None}),
    Popular("Hunyuan dense (0.5B to 7B)", "hunyuan_v1_dense", {}),
    Popular("Hunyuan Large, A13B", "hunyuan", EXPERTS | {
        "moe_topk": 2, "num_shared_expert": 1, "use_mixed_mlp_moe": True, "use_qk_norm": True, "use_cla": False,
        "cla_share_factor": 2, "attention_bias": False, "rope_scaling": {"type": "dynamic", "alpha": 1000.0,
        "factor": 1.0}}),
    Popular("Seed-OSS", "seed_oss", {}),
    Popular("Nemotron-H, Nemotron Nano 2 and 3", "nemotron_h", MAMBA | ROUTED | {
        "hybrid_override_pattern": "M*-E", "num_hidden_layers": 4, "mlp_bias": False, "layer_norm_epsilon": 1e-5,
        "attention_bias": False, "use_bias": False, "moe_shared_expert_intermediate_size": 32}),
    Popular("MiniMax M2", "minimax_m2", {"num_local_experts": 4, "num_experts_per_tok": 2,
        "shared_intermediate_size": 0, "rotary_dim": 8, "use_qk_norm": True}),
    Popular("Falcon H1", "falcon_h1", {
        "mamba_chunk_size": 8, "mamba_d_conv": 4, "mamba_d_head": 16, "mamba_d_ssm": 64, "mamba_d_state": 8,
        "mamba_expand": 1, "mamba_n_groups": 1, "mamba_n_heads": 4}),
    Popular("Command A, Command R7B", "cohere2", {"sliding_window": 8, "sliding_window_pattern": 2,
        "logit_scale": 0.25, "layer_norm_bias": False}),
    Popular("ERNIE 4.5", "ernie4_5", {"use_bias": False}),
    Popular("StarCoder 2", "starcoder2", {"norm_epsilon": 1e-5, "hidden_act": "gelu", "sliding_window": 64,
        "tie_word_embeddings": True}, without=("rms_norm_eps",)),
)  # fmt: skip
_LINEAR = {"layer_types": ["linear_attention", "full_attention"]}
NEWER = {  # model_type: what transformers 5 says otherwise
    "qwen3_next": _LINEAR, "qwen3_5": _LINEAR, "qwen3_5_moe": _LINEAR, "gemma3_text": SLIDING, "cohere2": SLIDING,
    "exaone4": SLIDING | {"sliding_window_pattern": 2}, "nemotron_h": {"hybrid_override_pattern": "M*-E"},
    "minimax_m2": {"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5}},
    "gemma4": {"global_head_dim": 32, "use_double_wide_mlp": True, "final_logit_softcapping": 30.0},
    "seed_oss": {"attention_bias": False},
}  # fmt: skip
NOBODY = {  # model_type: models that neither we nor mlx-lm have a class for
    "falcon": "Falcon 7B, 40B", "mpt": "MPT", "bloom": "BLOOM", "opt": "OPT", "t5": "T5, FLAN-T5",
    "phi4_multimodal": "Phi-4-multimodal", "zamba2": "Zamba 2", "arcee": "AFM 4.5B",
}  # fmt: skip
