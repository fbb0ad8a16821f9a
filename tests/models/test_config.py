"""Configurations as published: the right shape; and what is wrong in one or in a tensor: one line, with what came."""

from typing import Any

import pytest

import likely.models as models
from likely.metal import mx
from likely.models.errors import CheckpointError, ConfigError
from tests.models.oracle import flat, reference
from tests.models.test_families import SAME

LLAMA = SAME["llama"]
PHI = SAME["phi 4"] | {"original_max_position_embeddings": 64}

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"rope_tetha": 1.0}, "unknown key rope_tetha = 1.0; did you mean rope_theta?"),
    ({"sparse_attention": True}, "unknown key sparse_attention = True"),
    ({"hidden_size": None}, "hidden_size is missing"),
    ({"hidden_size": "48"}, "hidden_size must be an integer, got '48'"),
    ({"hidden_size": True}, "hidden_size must be an integer, got True"),
    ({"attention_bias": "yes"}, "attention_bias must be true or false, got 'yes'"),
    ({"rms_norm_eps": "small"}, "rms_norm_eps must be a number, got 'small'"),
    ({"rope_scaling": 3}, "rope_scaling must be a table, got 3"),
    ({"num_key_value_heads": 4}, "6 heads cannot share 4 key/value heads"),
    ({"num_hidden_layers": 0}, "layers must be 1 or more, got 0"),
    ({"hidden_act": "xielu"}, "hidden_act must be one of silu, swish, .*got 'xielu'"),
    ({"pretraining_tp": 2}, "pretraining_tp must be 1 here, got 2"),
    ({"rope_interleaved": True}, "rope_interleaved must be False here, got True"),
    ({"layer_types": ["full_attention"]}, "layer_types has 1 entries for 4 layers"),
    ({"layer_types": ["linear"] * 4}, "layer_types must be full_attention or sliding_attention, got 'linear'"),
    ({"layer_types": ["sliding_attention"] * 4}, "has sliding_attention but sliding_window is missing"),
    ({"sliding_window": -4}, "a sliding window must be 1 or more, got -4"),
    ({"rope_scaling": {"type": "ntk", "factor": 2.0}}, "rope_type must be default, linear, .* got 'ntk'"),
    ({"rope_scaling": {"type": "linear"}}, "rope_scaling: factor is missing"),
    ({"rope_scaling": {"type": "linear", "factor": 0.5}}, "factor must be 1 or more, got 0.5"),
    ({"rope_scaling": {"type": "linear", "rope_type": "yarn", "factor": 2.0}},
        "rope_type and type say linear and yarn"),
    ({"rope_scaling": {"type": "linear", "factor": 2.0, "beta": 1}}, "rope_scaling: unknown key beta = 1"),
    ({"rope_theta": 1e4, "rope_parameters": {"rope_theta": 1e6}}, "rope_theta is 10000.0 and rope_parameters says"),
    ({"rope_scaling": {"type": "linear", "factor": 2.0}, "rope_parameters": {"type": "linear", "factor": 4.0}},
        "rope_scaling and rope_parameters contradict each other"),
    ({"head_dim": 9}, "the rotated dimensions of a head must be even, got 9"),
    ({"model_type": 3}, "model_type must be a string, got 3"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "line"), WRONG, ids=[line[:40] for _, line in WRONG])
def test_a_wrong_config(change: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError, match=f"^config: .*{line}"):
        models.configure(LLAMA | change)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"rope_scaling": {"type": "longrope", "short_factor": [1.0] * 4}}, "long_factor must have 4 entries"),
        (
            {"rope_scaling": {"type": "longrope", "original_max_position_embeddings": 32}},
            "original_max_position_embeddings is 64 and rope_scaling says 32",
        ),
    ],
)
def test_a_wrong_phi(change: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError, match=line):
        models.configure(PHI | change)


def test_other_families_say_what_is_wrong_too() -> None:
    for config, line in (
        (SAME["gpt-2"] | {"n_ctx": 64}, r"n_ctx and n_positions \(128\) differ"),
        (SAME["smollm 3"] | {"no_rope_layers": [1]}, "no_rope_layers has 1 entries for 4 layers"),
        (SAME["gemma 3"] | {"hidden_size": -48, "num_attention_heads": 2, "head_dim": 8}, "width must be 1 or more"),
        (SAME["mixtral"] | {"num_experts_per_tok": 9}, "9 of 5 experts cannot be active"),
        (SAME["mixtral"] | {"num_local_experts": 10**7}, "at most 10,000 experts expected, got 10,000,000"),
        (SAME["gemma 2"] | {"hidden_activation": "relu"}, "hidden_act and hidden_activation say gelu_tanh and relu"),
    ):
        with pytest.raises(ConfigError, match=line):
            models.configure(config)


def test_keys_that_say_nothing_about_the_function_are_left_alone() -> None:
    config = LLAMA | {
        "torch_dtype": "bfloat16",
        "transformers_version": "4.40",
        "eos_token_id": [1, 2],
        "use_cache": True,
    }
    assert models.configure(config) == models.configure(LLAMA)
    assert models.configure(LLAMA).context == 512


def weights() -> dict[str, mx.array]:
    return flat(reference(LLAMA).parameters())


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("model.layers.1.self_attn.q_proj.weight", None, r"q_proj.weight \[48, 48\] is missing"),
        ("model.layers.1.self_attn.k_proj.weight", (16, 40), r"k_proj.weight must be \[16, 48\] .*, got \[16, 40\]"),
        ("model.embed_tokens.weight", (101, 24), r"model.embed_tokens.weight must be \[101, 48\] .*, got \[101, 24\]"),
        ("model.layers.4.mlp.up_proj.weight", (72, 48), r"layers.4.mlp.up_proj.weight \[72, 48\] has no place"),
        ("model.layers.0.self_attn.q_proj.bias", (48,), r"q_proj.bias \[48\] has no place in the model"),
        ("model.norm.weight", (47,), r"model.norm.weight must be \[48\] by the config, got \[47\]"),
    ],
)
def test_tensors_that_do_not_fit(name: str, value: tuple[int, ...] | None, line: str) -> None:
    arrays = weights()
    if value is None:
        del arrays[name]
    else:
        arrays[name] = mx.zeros(value)
    with pytest.raises(CheckpointError, match=f"^weights: .*{line}"):
        models.build(LLAMA, arrays)


def test_experts_that_lack_one() -> None:
    config = SAME["mixtral"]
    arrays = {}
    for name, array in flat(reference(config).parameters()).items():
        if "switch_mlp.up_proj" in name:
            arrays |= {name.replace("switch_mlp.up_proj", f"experts.{i}.w3"): array[i] for i in range(4)}
        else:
            arrays[name] = array
    with pytest.raises(CheckpointError, match=r"experts.4.w3.weight is missing"):
        models.build(config, arrays)


def test_what_the_config_leaves_open_the_tensors_say() -> None:
    config = {k: v for k, v in SAME["gemma 2"].items() if k != "tie_word_embeddings"}
    arrays = flat(reference(config).parameters())
    assert models.build(config, dict(arrays)).config.tied
    arrays["lm_head.weight"] = mx.zeros((101, 48))
    assert not models.build(config, dict(arrays)).config.tied
    assert models.build(config | {"tie_word_embeddings": True}, arrays).config.tied


# keys whose default follows others here (a tiny shape), and the context, for which 2,048 stands where nobody says more
SHAPE = {
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
    "head_dim", "layer_types", "sliding_window", "num_local_experts", "num_experts_per_tok", "num_experts",
    "moe_intermediate_size", "n_layer", "n_head", "n_embd", "n_inner", "n_positions", "no_rope_layers",
    "max_position_embeddings", "rope_parameters",
}  # fmt: skip


def test_a_key_that_is_left_out_is_the_reference_implementations_default() -> None:
    """Every key of transformers' configuration that a family reads and can do without, one at a time."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    found = {}
    for config in SAME.values():
        family = config["model_type"]
        defaults = CONFIG_MAPPING[family]().to_dict()
        rope = defaults.get("rope_parameters") or {}
        if "rope_theta" in rope and not {"rotary_emb_base", "rope_parameters"} & config.keys():
            defaults["rope_theta"] = rope["rope_theta"]
        for key, value in defaults.items():
            less = {name: own for name, own in config.items() if name != key}
            if key in SHAPE or value is None or not reads(less | {key: object()}) or not reads_without(less):
                continue
            assert models.configure(less) == models.configure(less | {key: value}), (family, key, value)
            found[family, key] = value
    assert len(found) > 90 and found["llama", "rms_norm_eps"] == 1e-6 and found["gpt2", "layer_norm_epsilon"] == 1e-5


def reads(config: dict[str, Any]) -> bool:
    """Whether a family looks at a key: a value of no type is refused as that, or as one nobody knows."""
    try:
        models.configure(config)
    except ConfigError as error:
        return "unknown key" not in str(error)
    return False


def reads_without(config: dict[str, Any]) -> bool:
    try:
        models.configure(config)
    except ConfigError:
        return False
    return True


COMMON = {
    "_name_or_path": "somewhere", "architectures": ["AnyForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 1,
    "eos_token_id": [2, 3], "initializer_range": 0.02, "torch_dtype": "bfloat16", "transformers_version": "4.45.0",
    "use_cache": True,
}  # fmt: skip


def made(**keys: Any) -> dict[str, Any]:
    return COMMON | keys


def shape(width: int, inner: int, layers: int, heads: int, kv: int, vocab: int, context: int) -> dict[str, Any]:
    return {
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "vocab_size": vocab,
        "max_position_embeddings": context,
    }


LLAMA3 = {
    "factor": 32.0,
    "high_freq_factor": 4.0,
    "low_freq_factor": 1.0,
    "original_max_position_embeddings": 8192,
    "rope_type": "llama3",
}
PUBLISHED: dict[str, dict[str, Any]] = {
    "SmolLM2-135M": made(model_type="llama", **shape(576, 1536, 30, 9, 3, 49152, 8192), attention_bias=False,
        hidden_act="silu", is_llama_config=True, mlp_bias=False, pretraining_tp=1, rms_norm_eps=1e-5,
        rope_interleaved=False, rope_scaling=None, rope_theta=100000, tie_word_embeddings=True,
        **{"transformers.js_config": {"kv_cache_dtype": {"fp16": "float16"}}}),
    "Llama-3.2-1B": made(model_type="llama", **shape(2048, 8192, 16, 32, 8, 128256, 131072), attention_bias=False,
        head_dim=64, hidden_act="silu", mlp_bias=False, pretraining_tp=1, rms_norm_eps=1e-5, rope_scaling=LLAMA3,
        rope_theta=500000.0, tie_word_embeddings=True),
    "Mistral-7B-v0.1": made(model_type="mistral", **shape(4096, 14336, 32, 32, 8, 32000, 32768), hidden_act="silu",
        rms_norm_eps=1e-5, rope_theta=10000.0, sliding_window=4096, tie_word_embeddings=False),
    "Mixtral-8x7B": made(model_type="mixtral", **shape(4096, 14336, 32, 32, 8, 32000, 32768), hidden_act="silu",
        num_experts_per_tok=2, num_local_experts=8, output_router_logits=False, rms_norm_eps=1e-5,
        rope_theta=1000000.0, router_aux_loss_coef=0.02, sliding_window=None, tie_word_embeddings=False),
    "Qwen2.5-0.5B": made(model_type="qwen2", **shape(896, 4864, 24, 14, 2, 151936, 32768), hidden_act="silu",
        max_window_layers=24, rms_norm_eps=1e-6, rope_theta=1000000.0, sliding_window=32768,
        tie_word_embeddings=True, use_mrope=False, use_sliding_window=False),
    "Qwen3-30B-A3B": made(model_type="qwen3_moe", **shape(2048, 6144, 48, 32, 4, 151936, 40960),
        attention_bias=False, decoder_sparse_step=1, head_dim=128, hidden_act="silu", max_window_layers=48,
        mlp_only_layers=[], moe_intermediate_size=768, norm_topk_prob=True, num_experts=128, num_experts_per_tok=8,
        output_router_logits=False, rms_norm_eps=1e-6, rope_scaling=None, rope_theta=1000000.0,
        router_aux_loss_coef=0.001, sliding_window=None, tie_word_embeddings=False, use_sliding_window=False),
    "Qwen3-30B-A3B by transformers 5": made(model_type="qwen3_moe", **shape(2048, 6144, 48, 32, 4, 151936, 40960),
        attention_bias=False, decoder_sparse_step=1, head_dim=128, hidden_act="silu", mlp_only_layers=[],
        moe_intermediate_size=768, norm_topk_prob=True, num_local_experts=128, num_experts_per_tok=8,
        rms_norm_eps=1e-6, rope_parameters={"rope_theta": 1000000.0, "rope_type": "default"}, sliding_window=None,
        tie_word_embeddings=False, use_sliding_window=False),
    "gemma-2-2b": made(model_type="gemma2", **shape(2304, 9216, 26, 8, 4, 256000, 8192), attention_bias=False,
        attn_logit_softcapping=50.0, cache_implementation="hybrid", final_logit_softcapping=30.0, head_dim=256,
        hidden_act="gelu_pytorch_tanh", hidden_activation="gelu_pytorch_tanh", query_pre_attn_scalar=256,
        rms_norm_eps=1e-6, rope_theta=10000.0, sliding_window=4096),
    "gemma-3-1b": made(model_type="gemma3_text", **shape(1152, 6912, 26, 4, 1, 262144, 32768), attention_bias=False,
        attn_logit_softcapping=None, cache_implementation="hybrid", final_logit_softcapping=None, head_dim=256,
        hidden_activation="gelu_pytorch_tanh", query_pre_attn_scalar=256, rms_norm_eps=1e-6,
        rope_local_base_freq=10000, rope_scaling=None, rope_theta=1000000, sliding_window=512,
        sliding_window_pattern=6),
    "gemma-3-4b": {"model_type": "gemma3", "architectures": ["Gemma3ForConditionalGeneration"],
        "boi_token_index": 255999, "eoi_token_index": 256000, "eos_token_id": [1, 106], "image_token_index": 262144,
        "initializer_range": 0.02, "mm_tokens_per_image": 256, "text_config": {"hidden_size": 2560,
        "intermediate_size": 10240, "model_type": "gemma3_text", "num_hidden_layers": 34,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "sliding_window": 1024},
        "vision_config": {"hidden_size": 1152}},
    "Phi-3.5-mini": made(model_type="phi3", **shape(3072, 8192, 32, 32, 32, 32064, 131072), attention_bias=False,
        auto_map={"AutoConfig": "configuration_phi3.Phi3Config"}, embd_pdrop=0.0, hidden_act="silu",
        original_max_position_embeddings=4096, resid_pdrop=0.0, rms_norm_eps=1e-5,
        rope_scaling={"long_factor": [2.0] * 48, "short_factor": [1.0] * 48, "type": "longrope"},
        rope_theta=10000.0, sliding_window=262144, tie_word_embeddings=False),
    "Phi-4-mini": made(model_type="phi3", **shape(3072, 8192, 32, 24, 8, 200064, 131072), attention_bias=False,
        embd_pdrop=0.0, full_attn_mod=1, hidden_act="silu", interpolate_factor=1, lm_head_bias=False,
        mlp_bias=False, original_max_position_embeddings=4096, partial_rotary_factor=0.75, resid_pdrop=0.0,
        rms_norm_eps=1e-5, rope_scaling={"long_factor": [2.0] * 48, "short_factor": [1.0] * 48, "type": "longrope"},
        rope_theta=10000.0, sliding_window=262144, tie_word_embeddings=True),
    "SmolLM3-3B": made(model_type="smollm3", **shape(2048, 11008, 36, 16, 4, 128256, 65536), attention_bias=False,
        hidden_act="silu", layer_types=["full_attention"] * 36, max_window_layers=28, mlp_bias=False,
        no_rope_layer_interval=4, no_rope_layers=[1, 1, 1, 0] * 9, pretraining_tp=2, rms_norm_eps=1e-6,
        rope_scaling=None, rope_theta=5000000.0, sliding_window=None, use_sliding_window=False),
    "OLMo-2-1B": made(model_type="olmo2", **shape(2048, 8192, 16, 16, 16, 100352, 4096), attention_bias=False,
        hidden_act="silu", rms_norm_eps=1e-6, rope_scaling=None, rope_theta=500000, tie_word_embeddings=False),
    "granite-3.1-2b": made(model_type="granite", **shape(2048, 8192, 40, 32, 8, 49155, 131072),
        attention_bias=False, attention_multiplier=0.015625, embedding_multiplier=12.0, hidden_act="silu",
        logits_scaling=8.0, mlp_bias=False, residual_multiplier=0.22, rms_norm_eps=1e-5, rope_scaling=None,
        rope_theta=5000000.0, tie_word_embeddings=True),
    "starcoder2-3b": made(model_type="starcoder2", **shape(3072, 12288, 30, 24, 2, 49152, 16384),
        embedding_dropout=0.1, hidden_act="gelu_pytorch_tanh", mlp_type="default", norm_epsilon=1e-5,
        norm_type="layer_norm", residual_dropout=0.1, rope_theta=999999.4420358813, sliding_window=4096,
        use_bias=True),
    "gpt2": made(model_type="gpt2", activation_function="gelu_new", attn_pdrop=0.1, embd_pdrop=0.1,
        layer_norm_epsilon=1e-5, n_ctx=1024, n_embd=768, n_head=12, n_layer=12, n_positions=1024, resid_pdrop=0.1,
        summary_activation=None, summary_first_dropout=0.1, summary_proj_to_labels=True, summary_type="cls_index",
        summary_use_proj=True, task_specific_params={"text-generation": {"do_sample": True, "max_length": 50}},
        vocab_size=50257),
    "pythia-70m": {"architectures": ["GPTNeoXForCausalLM"], "bos_token_id": 0, "eos_token_id": 0,
        "hidden_act": "gelu", "hidden_size": 512, "initializer_range": 0.02, "intermediate_size": 2048,
        "layer_norm_eps": 1e-5, "max_position_embeddings": 2048, "model_type": "gpt_neox", "num_attention_heads": 8,
        "num_hidden_layers": 6, "rotary_emb_base": 10000, "rotary_pct": 0.25, "tie_word_embeddings": False,
        "torch_dtype": "float16", "use_cache": True, "use_parallel_residual": True, "vocab_size": 50304},
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_it_is_read(name: str) -> None:
    config = PUBLISHED[name]
    found = models.configure(config)
    text = config.get("text_config", config)
    assert found.width == text.get("hidden_size", text.get("n_embd"))
    assert found.layers == len(found.windows) == len(found.ropes)


def test_the_right_shape() -> None:
    def of(name: str) -> models.ModelConfig:
        return models.configure(PUBLISHED[name])

    assert of("Mistral-7B-v0.1").windows == (4096,) * 32
    assert of("Qwen2.5-0.5B").windows == (0,) * 24 and of("Qwen2.5-0.5B").qkv_bias
    assert of("gemma-2-2b").windows[:4] == (4096, 0, 4096, 0)
    assert of("gemma-3-1b").windows[:6] == (512,) * 5 + (0,)
    four = of("gemma-3-4b")
    assert (four.heads, four.kv_heads, four.head_size, four.vocab_size, four.tied) == (8, 4, 256, 262_208, True)
    assert [rope.factor if rope else 0 for rope in four.ropes[:6]] == [1, 1, 1, 1, 1, 8]
    rope = of("Phi-4-mini").ropes[0]
    assert rope is not None and (rope.dims, rope.kind, rope.original) == (96, "longrope", 4096)
    assert [rope is None for rope in of("SmolLM3-3B").ropes[:8]] == [False, False, False, True] * 2
    assert of("granite-3.1-2b").logit_scale == 0.125 and of("granite-3.1-2b").scale == 0.015625
    assert of("pythia-70m").ropes[0] is not None and of("pythia-70m").parallel
    assert of("gpt2").mlp_width == 3072 and of("gpt2").learned_positions == 1024
    assert of("Qwen3-30B-A3B").sparse == (True,) * 48
