"""Configurations and tensors that are wrong: one line with the key or tensor, what was expected and what came."""

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
