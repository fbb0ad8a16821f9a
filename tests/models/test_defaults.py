"""A configuration that says no more than it must: every field of ours, as the reference implementations have it.

The numbers are those of transformers' configuration classes and of the published ones.
"""

from dataclasses import replace
from typing import Any

import pytest

import likely.models as models
from likely.models.configuration.config import Experts, MaskedDiffusion, ModelConfig
from likely.models.configuration.rope import Rope
from likely.models.errors import ConfigError
from likely.models.families import FAMILIES

SHAPE: dict[str, Any] = {
    "vocab_size": 101, "hidden_size": 48, "num_hidden_layers": 4, "intermediate_size": 72, "num_attention_heads": 6,
}  # fmt: skip
MASKED = {"mask_token_id": 7}
LLADA = {"vocab_size": 101, "d_model": 48, "n_heads": 6, "n_layers": 4, "mlp_hidden_size": 72}
LEAST: dict[str, dict[str, Any]] = {
    "gpt2": {"vocab_size": 101, "n_embd": 48, "n_head": 6, "n_layer": 4},
    "llada": LLADA | {"max_sequence_length": 512} | MASKED,
    "Dream": SHAPE | MASKED,
    "gemma3": {"text_config": SHAPE | {"num_key_value_heads": 6, "head_dim": 8}},
    "gemma3_text": {},
    "qwen3_moe": SHAPE | {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 24},
}
PLAIN = ModelConfig(
    family="llama",
    vocab_size=101,
    width=48,
    layers=4,
    heads=6,
    kv_heads=6,
    head_size=8,
    mlp_width=72,
    context=2048,
    eps=1e-6,
    windows=(0, 0, 0, 0),
    ropes=(Rope(theta=1e4, dims=8),) * 4,
    scale=8**-0.5,
    tied=False,
    norm="rms",
    qk_norm="",
    activation="silu",
    gated=True,
    parallel=False,
    qkv_bias=False,
    out_bias=False,
    mlp_bias=False,
    softcap=None,
    logit_softcap=None,
    embed_scale=1.0,
    residual_scale=1.0,
    logit_scale=1.0,
    learned_positions=0,
    experts=None,
    sparse=(),
    diffusion=None,
)
BIASED: dict[str, Any] = {"qkv_bias": True, "out_bias": True, "mlp_bias": True}
LAYER: dict[str, Any] = {"norm": "layer", "gated": False, "eps": 1e-5} | BIASED
GEMMA: dict[str, Any] = {"norm": "rms+1", "activation": "gelu_tanh", "tied": True, "embed_scale": 48**0.5}
EIGHT: dict[str, Any] = {"experts": Experts(8, 2, 72, "chosen", True), "sparse": (True,) * 4}
NEAR, FAR = Rope(theta=1e4, dims=256), Rope(theta=1e6, dims=256)
DIFFERS: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {},
    "mixtral": {"eps": 1e-5, "ropes": (Rope(theta=1e6, dims=8),) * 4} | EIGHT,
    "qwen2": {"qkv_bias": True},
    "qwen3": {"qk_norm": "head"},
    "qwen3_moe": {"qk_norm": "head", "experts": Experts(6, 2, 24, "all", False), "sparse": (True,) * 4},
    "gemma": GEMMA,
    "gemma2": GEMMA | {"scale": 256**-0.5, "softcap": 50.0, "logit_softcap": 30.0, "windows": (0, 0, 0, 0)},
    "gemma3": GEMMA
    | {
        "family": "gemma3_text",
        "qk_norm": "head",
        "scale": 256**-0.5,
        "context": 131_072,
        "windows": (4096,) * 4,
        "embed_scale": 6.9375,  # the root of 48 in bfloat16
    },
    "gemma3_text": GEMMA
    | {
        "vocab_size": 262_208,
        "width": 2304,
        "layers": 26,
        "heads": 8,
        "kv_heads": 4,
        "head_size": 256,
        "mlp_width": 9216,
        "context": 131_072,
        "qk_norm": "head",
        "scale": 256**-0.5,
        "embed_scale": 48.0,
        "windows": ((4096,) * 5 + (0,)) * 4 + (4096,) * 2,
        "ropes": ((NEAR,) * 5 + (FAR,)) * 4 + (NEAR,) * 2,
    },
    "phi3": {"eps": 1e-5},
    "smollm3": {"tied": True, "ropes": (Rope(theta=2e6, dims=8),) * 3 + (None,)},
    "olmo2": {"eps": 1e-5, "qk_norm": "all"},
    "granite": {"scale": 1.0},
    "granitemoe": {"scale": 1.0} | EIGHT,
    "starcoder2": {"tied": True, "activation": "gelu_tanh"} | LAYER,
    "gpt_neox": {"activation": "gelu", "parallel": True, "ropes": (Rope(theta=1e4, dims=2),) * 4} | LAYER,
    "gpt2": {
        "tied": True,
        "activation": "gelu_tanh",
        "context": 1024,
        "learned_positions": 1024,
        "ropes": (None,) * 4,
        "mlp_width": 192,
    }
    | LAYER,
    "llada": {"context": 512, "eps": 1e-5, "diffusion": MaskedDiffusion(7, shifted=False, block=0)},
    "Dream": {"qkv_bias": True, "diffusion": MaskedDiffusion(7, shifted=True, block=0)},
}


@pytest.mark.parametrize("name", FAMILIES)
def test_what_a_configuration_leaves_out_is_what_its_family_means(name: str) -> None:
    said = {"model_type": name} | LEAST.get(name, SHAPE)
    assert models.configure(said) == replace(PLAIN, **({"family": name} | DIFFERS[name]))


# what a configuration says instead, and the field that it changes
SAID: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("llama", {"num_key_value_heads": 3}, {"kv_heads": 3}),
    ("llama", {"head_dim": 4, "rope_theta": 5e5}, {"head_size": 4, "scale": 0.5, "ropes": (Rope(5e5, 4),) * 4}),
    ("llama", {"attention_bias": True}, {"qkv_bias": True, "out_bias": True}),
    ("llama", {"mlp_bias": True, "hidden_act": "relu"}, {"mlp_bias": True, "activation": "relu"}),
    ("llama", {"rope_traditional": True}, {"ropes": (Rope(1e4, 8, traditional=True),) * 4}),
    ("llama", {"partial_rotary_factor": 0.5}, {"ropes": (Rope(1e4, 4),) * 4}),
    ("llama", {"sliding_window": 9}, {"windows": (9,) * 4}),
    ("gemma2", {"sliding_window": 9}, {"windows": (9, 0, 9, 0)}),
    ("gemma2", {"query_pre_attn_scalar": 64, "attn_logit_softcapping": 5, "final_logit_softcapping": 6},
     {"scale": 0.125, "softcap": 5.0, "logit_softcap": 6.0}),
    ("gemma2", {"hidden_act": "gelu", "tie_word_embeddings": False}, {"tied": False}),
    ("qwen2", {"sliding_window": 9}, {}),
    ("qwen2", {"sliding_window": 9, "use_sliding_window": True}, {}),
    ("qwen2", {"sliding_window": 9, "use_sliding_window": True, "max_window_layers": 3}, {"windows": (0, 0, 0, 9)}),
    ("qwen2", {"sliding_window": 9, "use_sliding_window": True, "max_window_layers": 0}, {"windows": (9,) * 4}),
    ("qwen3_moe", {"decoder_sparse_step": 2, "mlp_only_layers": [3]}, {"sparse": (False, True, False, False)}),
    ("qwen3_moe", {"norm_topk_prob": True}, {"experts": Experts(6, 2, 24, "all", True)}),
    ("smollm3", {"no_rope_layer_interval": 3}, {"ropes": (Rope(2e6, 8), Rope(2e6, 8), None, Rope(2e6, 8))}),
    ("smollm3", {"no_rope_layers": [0, 1, 0, 0], "rope_theta": 1e4}, {"ropes": (None, Rope(1e4, 8), None, None)}),
    ("mixtral", {"num_local_experts": 3, "num_experts_per_tok": 1}, {"experts": Experts(3, 1, 72)}),
    ("granitemoe", {"num_local_experts": 3, "num_experts_per_tok": 1}, {"experts": Experts(3, 1, 72)}),
    ("granite", {"attention_multiplier": 0.5, "embedding_multiplier": 3, "residual_multiplier": 0.25,
                 "logits_scaling": 4}, {"scale": 0.5, "embed_scale": 3.0, "residual_scale": 0.25, "logit_scale": 0.25}),
    ("gpt_neox", {"rotary_pct": 0.5, "rotary_emb_base": 500}, {"ropes": (Rope(500.0, 4),) * 4}),
    ("gpt_neox", {"rope_parameters": {"partial_rotary_factor": 1, "rope_theta": 3e4}}, {"ropes": (Rope(3e4, 8),) * 4}),
    ("gpt_neox", {"use_parallel_residual": False, "attention_bias": False},
     {"parallel": False, "qkv_bias": False, "out_bias": False}),
    ("gpt2", {"n_positions": 64, "n_ctx": 64, "n_inner": 9}, {"context": 64, "learned_positions": 64, "mlp_width": 9}),
    ("starcoder2", {"use_bias": False, "sliding_window": 5},
     {"qkv_bias": False, "out_bias": False, "mlp_bias": False, "windows": (5,) * 4}),
    ("llada", {"embedding_size": 128, "weight_tying": True, "include_qkv_bias": True, "n_kv_heads": 2},
     {"vocab_size": 128, "tied": True, "qkv_bias": True, "kv_heads": 2}),
    ("llada", {"tie_word_embeddings": True, "rope_theta": 5e5}, {"tied": True, "ropes": (Rope(5e5, 8),) * 4}),
    ("llama", {"mask_token_id": 5, "shifted_logits": True, "block_size": 8},
     {"diffusion": MaskedDiffusion(5, shifted=True, block=8)}),
    ("llama", {"mask_token_id": 0}, {"diffusion": MaskedDiffusion(0, shifted=False, block=0)}),
    ("phi3", {"original_max_position_embeddings": 512}, {}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "keys", "fields"), SAID, ids=[f"{n} {' '.join(k)}" for n, k, _ in SAID])
def test_a_key_that_is_said_changes_its_field_and_no_other(
    name: str, keys: dict[str, Any], fields: dict[str, Any]
) -> None:
    least = {"model_type": name} | LEAST.get(name, SHAPE)
    assert models.configure(least | keys) == replace(models.configure(least), **fields)


GEMMA3 = {"model_type": "gemma3_text"} | SHAPE | {"num_key_value_heads": 6, "head_dim": 8, "num_hidden_layers": 6}
DOUBLED = Rope(1e6, 8, kind="linear", factor=2.0)


@pytest.mark.parametrize(
    ("keys", "fields"),
    [
        ({"sliding_window": 9}, {"windows": (9,) * 5 + (0,)}),
        ({"sliding_window_pattern": 3}, {"windows": (4096, 4096, 0) * 2}),
        ({"_sliding_window_pattern": 2}, {"windows": (4096, 0) * 3}),
        ({"sliding_window_pattern": 3, "_sliding_window_pattern": 2}, {"windows": (4096, 4096, 0) * 2}),
        ({"layer_types": ["full_attention"] * 5 + ["sliding_attention"]}, {"windows": (0,) * 5 + (4096,)}),
        ({"attn_logit_softcapping": 5, "final_logit_softcapping": 6}, {"softcap": 5.0, "logit_softcap": 6.0}),
        ({"query_pre_attn_scalar": 16}, {"scale": 0.25}),
        ({"rope_local_base_freq": 100, "rope_theta": 200}, {"thetas": (100.0, 200.0)}),
        ({"rope_parameters": {"sliding_attention": {"rope_theta": 100.0}}}, {"thetas": (100.0, 1e6)}),
        ({"rope_parameters": {"full_attention": {"rope_theta": 200.0}}}, {"thetas": (1e4, 200.0)}),
        ({"rope_scaling": {"rope_type": "linear", "factor": 2.0}}, {"far": DOUBLED}),
        ({"rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 2.0}}}, {"far": DOUBLED}),
        ({"max_position_embeddings": 99}, {"context": 99}),
    ],
    ids=lambda value: " ".join(value),
)
def test_gemma_3_slides_by_its_pattern_and_turns_by_two_rotations(keys: dict[str, Any], fields: dict[str, Any]) -> None:
    fields = dict(fields)
    near, far = (Rope(theta, 8) for theta in fields.pop("thetas", (1e4, 1e6)))
    far = fields.pop("far", far)
    want = replace(models.configure(GEMMA3), **fields)
    want = replace(want, ropes=tuple(near if window else far for window in want.windows))
    assert models.configure(GEMMA3 | keys) == want


def test_gemma_3_scales_its_embedding_by_what_bfloat16_holds() -> None:
    """A value of 8 significant bits: a half in the last of them goes to the even neighbour, more than that upwards."""
    for width, scale in ((16, 4.0), (48, 6.9375), (1152, 34.0), (2560, 50.5), (3840, 62.0), (5376, 73.5)):
        found = models.configure(GEMMA3 | {"hidden_size": width}).embed_scale
        assert found == scale and abs(found - width**0.5) <= 2.0 ** (len(f"{int(scale):b}") - 9)


def test_gemma_3_with_an_eye_ties_its_head_by_what_stands_outside_of_its_text() -> None:
    text = {name: value for name, value in GEMMA3.items() if name != "model_type"}
    whole = {"model_type": "gemma3", "text_config": text}
    assert models.configure(whole) == models.configure(GEMMA3)
    assert models.configure(whole | {"vision_config": {"image_size": 9}, "mm_tokens_per_image": 256}).tied
    assert not models.configure(whole | {"tie_word_embeddings": False}).tied
    with pytest.raises(ConfigError, match="text_config: unknown key sparse = 1"):
        models.configure(whole | {"text_config": text | {"sparse": 1}})


@pytest.mark.parametrize(
    ("name", "key", "allowed", "other"),
    [
        ("llama", "pretraining_tp", (1,), 2), ("smollm3", "pretraining_tp", (1, 2), 3),
        ("qwen2", "use_mrope", (False,), True), ("phi3", "attention_bias", (False,), True),
        ("phi3", "mlp_bias", (False,), True), ("phi3", "lm_head_bias", (False,), True),
        ("phi3", "full_attn_mod", (1,), 2), ("phi3", "interpolate_factor", (1,), 2),
        ("gemma3_text", "use_bidirectional_attention", (False,), True),
        ("starcoder2", "norm_type", ("layer_norm",), "rms_norm"), ("starcoder2", "mlp_type", ("default",), "gated"),
        ("gpt2", "scale_attn_weights", (True,), False),
        ("gpt2", "scale_attn_by_inverse_layer_idx", (False,), True),
        ("gpt2", "reorder_and_upcast_attn", (False,), True), ("llada", "block_group_size", (1,), 2),
        ("llada", "rope", (True,), False), ("llada", "alibi", (False,), True),
        ("llada", "attention_layer_norm", (False,), True), ("llada", "bias_for_layer_norm", (False,), True),
        ("llada", "include_bias", (False,), True), ("llada", "input_emb_norm", (False,), True),
        ("llada", "scale_logits", (False,), True), ("llama", "rope_interleaved", (False,), True),
    ],
)  # fmt: skip
def test_a_variant_that_is_not_built_is_refused(name: str, key: str, allowed: tuple[Any, ...], other: object) -> None:
    least = {"model_type": name} | LEAST.get(name, SHAPE)
    for value in allowed:
        assert models.configure(least | {key: value}) == models.configure(least)
    with pytest.raises(ConfigError, match=rf"^config: {key} must be .* here, got {other!r}$"):
        models.configure(least | {key: other})
