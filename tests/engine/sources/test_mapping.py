"""A file's metadata as a configuration, and the names of its tensors: every rule by hand, at both sides."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.errors import CheckpointError
from engine.sources.gguf.header import Header, TensorInfo
from engine.sources.gguf.mapping import (
    ARCHITECTURES,
    MIXTRAL,
    Facts,
    _llama3,
    architecture,
    config,
    is_interleaved,
    is_shifted,
    runs,
    weight_name,
)


def tensor(name: str, shape: tuple[int, ...] = (8, 64), kind: str = "F32") -> TensorInfo:
    return TensorInfo(name, shape, kind, 0, 0)


def file(arch: str = "llama", tensors: tuple[str, ...] = ("output.weight",), layers: int = 2, **more: Any) -> Header:
    told = {
        "block_count": layers,
        "attention.head_count": 4,
        "embedding_length": 64,
        "feed_forward_length": 96,
        "context_length": 128,
        "attention.layer_norm_rms_epsilon": float(np.float32(1e-5)),
    }
    told |= {key.replace("__", "."): value for key, value in more.items()}
    metadata = {"general.architecture": arch} | {
        f"{arch}.{key}": value for key, value in told.items() if value is not None
    }
    names = ("token_embd.weight", *(f"blk.{i}.attn_output.weight" for i in range(layers)), *tensors)
    return Header(Path("m.gguf"), metadata, {name: tensor(name) for name in names})


def read(header: Header, factors: Any = ()) -> dict[str, Any]:
    return config(header, lambda name: np.array(factors, np.float32))


PLAIN = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "head_dim": 16,
    "rms_norm_eps": 1e-05,
    "vocab_size": 8,
    "max_position_embeddings": 128,
    "rope_theta": 10_000.0,
    "tie_word_embeddings": False,
}


def test_metadata_become_a_configuration() -> None:
    assert read(file()) == PLAIN
    for changes, told in (
        ({"attention__head_count_kv": 2}, {"num_key_value_heads": 2}),
        ({"attention__key_length": 20}, {"head_dim": 20}),
        ({"rope__dimension_count": 8}, {"partial_rotary_factor": 0.5}),
        ({"rope__dimension_count": 16}, {}),
        ({"rope__freq_base": 5e5}, {"rope_theta": 5e5}),
        ({"attention__head_count_kv": [2, 2]}, {"num_key_value_heads": 2}),
        ({"tensors": ()}, {"tie_word_embeddings": True}),
        ({"tensors": ("output.weight", "blk.0.attn_q.bias")}, {"attention_bias": True}),
        ({"rope__scaling__type": "none"}, {}),
        (
            {"rope__scaling__type": "linear", "rope__scaling__factor": 4.0},
            {"rope_scaling": {"rope_type": "linear", "factor": 4.0}},
        ),
        (
            {"rope__scaling__type": "yarn", "rope__scaling__factor": 2.0, "rope__scaling__original_context_length": 64},
            {"rope_scaling": {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 64}},
        ),
        ({"layers": 1}, {"num_hidden_layers": 1}),
    ):
        assert read(file(**changes)) == PLAIN | told, changes
    biased = file("qwen2", ("output.weight", "blk.0.attn_q.bias"))
    assert read(biased) == PLAIN | {"model_type": "qwen2"}


def test_each_architecture_adds_its_own() -> None:
    gemma = {"rope_theta": 1e6}
    cases: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
        (
            "gemma2",
            {"attention__sliding_window": 32, "attn_logit_softcapping": 40.0},
            {
                "model_type": "gemma2",
                "attn_logit_softcapping": 40.0,
                "final_logit_softcapping": 30.0,
                "sliding_window": 32,
                "query_pre_attn_scalar": 256,
            },
        ),
        (
            "gemma2",
            {"attention__key_length": 20, "layers": 46},
            {
                "model_type": "gemma2",
                "head_dim": 20,
                "attn_logit_softcapping": 50.0,
                "num_hidden_layers": 46,
                "final_logit_softcapping": 30.0,
                "sliding_window": 4096,
                "query_pre_attn_scalar": 16.0,
            },
        ),
        (
            "gemma3",
            {"attention__sliding_window": 32, "rope__freq_base": 1e6, "attention__key_length": 20},
            {
                "model_type": "gemma3_text",
                "sliding_window": 32,
                "head_dim": 20,
                "sliding_window_pattern": 6,
                "rope_local_base_freq": 10_000.0,
                "query_pre_attn_scalar": 20,
                **gemma,
            },
        ),
        (
            "gemma3",
            {"attention__sliding_window": 32, "layers": 62},
            {
                "model_type": "gemma3_text",
                "sliding_window": 32,
                "sliding_window_pattern": 6,
                "num_hidden_layers": 62,
                "rope_local_base_freq": 10_000.0,
                "query_pre_attn_scalar": 16.0,
            },
        ),
        (
            "granite",
            {"attention__scale": 0.25, "logit_scale": 8.0},
            {
                "model_type": "granite",
                "embedding_multiplier": 1.0,
                "residual_multiplier": 1.0,
                "attention_multiplier": 0.25,
                "logits_scaling": 8.0,
            },
        ),
        (
            "qwen3moe",
            {"expert_count": 8, "expert_used_count": 2, "expert_feed_forward_length": 32},
            {
                "model_type": "qwen3_moe",
                "num_experts": 8,
                "num_experts_per_tok": 2,
                "moe_intermediate_size": 32,
                "norm_topk_prob": True,
            },
        ),
        (
            "llama",
            {"expert_count": 4, "expert_used_count": 2},
            {"model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2},
        ),
        ("llama", {"expert_count": 0}, {}),
        ("smollm3", {}, {"model_type": "smollm3", "no_rope_layer_interval": 4}),
        ("phi3", {}, {"model_type": "phi3"}),
    ]
    for arch, changes, told in cases:
        assert read(file(arch, **changes)) == PLAIN | told, (arch, changes)
    star = file("starcoder2", attention__layer_norm_epsilon=1e-6)
    want = {key: value for key, value in PLAIN.items() if key != "rms_norm_eps"} | {
        "model_type": "starcoder2",
        "norm_epsilon": 1e-6,
    }
    assert read(star) == want


def test_facts_are_checked_at_both_sides() -> None:
    facts = Facts(file(n=1, big=(1 << 31) - 1, f=0.5, t="x", same=[3, 3], other=[3, 4], none=[]))
    assert (
        facts.size("n"),
        facts.size("big"),
        facts.size("same"),
        facts.number("f"),
        facts.number("n"),
        facts.text("t"),
    ) == (1, (1 << 31) - 1, 3, 0.5, 1.0, "x")
    assert (
        facts.size("gone", 5) == 5
        and facts.number("gone", 2.5) == 2.5
        and facts.text("gone", "y") == "y"
        and facts.has("n")
        and not facts.has("gone")
    )
    for call, line in (
        (lambda: Facts(file(n=0)).size("n"), "a positive size expected, got 0"),
        (lambda: Facts(file(n=1 << 31)).size("n"), "a positive size"),
        (lambda: facts.size("other"), "differs from layer to layer"),
        (lambda: facts.size("none"), "differs"),
        (lambda: facts.size("gone"), "the metadata lack llama.gone"),
        (lambda: facts.size("f"), "has an unexpected type, float"),
        (lambda: facts.size("t"), "unexpected type, str"),
        (lambda: facts.number("t"), "unexpected type"),
        (lambda: Facts(file(f=0.0)).number("f"), "a positive number expected, got 0.0"),
        (lambda: Facts(file(f=math.inf)).number("f"), "a positive number"),
        (lambda: Facts(file(f=-1.0)).number("f"), "a positive number"),
        (lambda: facts.text("n"), "unexpected type, int"),
        (lambda: Facts(file(n=["3", "3"])).size("n"), "a positive size expected, got '3'"),
    ):
        with pytest.raises(CheckpointError, match=f"m.gguf: .*{line}|m.gguf: {line}"):
            call()


def test_what_contradicts_itself_is_refused() -> None:
    gone, flat, more = file(), file(), file()
    del gone.tensors["token_embd.weight"]
    flat.tensors["token_embd.weight"] = tensor("token_embd.weight", (8,))
    more.tensors["blk.2.attn_output.weight"] = tensor("x")
    less = file()
    del less.tensors["blk.1.attn_output.weight"]
    split, one = file(), file()
    split.metadata["split.count"], one.metadata["split.count"] = 3, 1
    assert read(one) == PLAIN
    for header, line in (
        (gone, "token embedding is missing"),
        (flat, "token embedding is missing"),
        (more, "say 2 layers, the tensors another"),
        (less, "say 2 layers"),
        (split, "one of 3 parts"),
        (file(rope__scaling__type="dynamic"), "the RoPE scaling 'dynamic' is not supported"),
        (file(embedding_length=3), "lack llama.attention.key_length"),
        (file("lama"), r"'lama' is not supported in GGUF; did the file mean llama\?"),
        (file("zzzzz"), "not supported in GGUF; known: llama, qwen2"),
    ):
        with pytest.raises(CheckpointError, match=line):
            read(header)
    assert (
        architecture(file()) is ARCHITECTURES["llama"]
        and architecture(file(expert_count=2)) is MIXTRAL
        and runs("llama")
        and not runs("mixtral")
    )


def test_factors_of_llama_3_are_known_again() -> None:
    theta, dim = 500_000.0, 16
    for factor in (1.0, 8.0, 32.0):
        waves = [2 * math.pi * theta ** (i / dim) for i in range(0, dim, 2)]
        want = []
        for wave in waves:
            smooth = min(max((8192 / wave - 1) / 3, 0.0), 1.0)
            want.append(1 / ((1 - smooth) / factor + smooth))
        found = read(file(tensors=("output.weight", "rope_freqs.weight"), rope__freq_base=theta), want)["rope_scaling"]
        assert found == {
            "rope_type": "llama3",
            "factor": pytest.approx(factor, rel=1e-5),
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        }
    facts = Facts(file())
    for wrong in (want[:-1], [*want[:3], want[3] * 1.02, *want[4:]]):
        with pytest.raises(CheckpointError, match="not those of Llama 3's scaling"):
            _llama3(facts, np.array(wrong), theta, dim)
    long = file(
        tensors=("output.weight", "rope_factors_long.weight", "rope_factors_short.weight"),
        rope__scaling__original_context_length=64,
    )
    assert read(long, [1.0, 2.0]) == PLAIN | {
        "original_max_position_embeddings": 64,
        "rope_scaling": {"type": "longrope", "long_factor": [1.0, 2.0], "short_factor": [1.0, 2.0]},
    }


def test_tensors_have_two_names() -> None:
    llama, gemma, phi, moe = (ARCHITECTURES[name] for name in ("llama", "gemma2", "phi3", "qwen3moe"))
    for name, arch, want in (
        ("token_embd.weight", llama, "model.embed_tokens.weight"),
        ("output.weight", llama, "lm_head.weight"),
        ("output_norm.bias", llama, "model.norm.bias"),
        ("blk.3.attn_q.weight", llama, "model.layers.3.self_attn.q_proj.weight"),
        ("blk.3.attn_q.bias", llama, "model.layers.3.self_attn.q_proj.bias"),
        ("blk.0.ffn_norm.weight", gemma, "model.layers.0.pre_feedforward_layernorm.weight"),
        ("blk.0.ffn_norm.weight", llama, "model.layers.0.post_attention_layernorm.weight"),
        ("blk.0.post_ffw_norm.weight", gemma, "model.layers.0.post_feedforward_layernorm.weight"),
        ("blk.1.ffn_up.weight", phi, "model.layers.1.mlp.gate_up_proj.weight"),
        ("blk.1.ffn_up_exps.weight", moe, "model.layers.1.mlp.switch_mlp.up_proj.weight"),
        ("blk.1.ffn_gate_inp.weight", moe, "model.layers.1.mlp.gate.weight"),
        ("blk.1.ffn_up_exps.weight", MIXTRAL, "model.layers.1.block_sparse_moe.switch_mlp.up_proj.weight"),
        ("blk.1.ffn_up_exps.weight", llama, None),
        ("blk.x.attn_q.weight", llama, None),
        ("blk.1.other.weight", llama, None),
        ("rope_freqs.weight", llama, None),
        ("blk.1.attn_q.scale", llama, None),
        ("other.1.attn_q.weight", llama, None),
        ("blk.1.weight", llama, None),
    ):
        assert weight_name(name, arch) == want, name
    assert [
        is_interleaved(f"blk.0.{part}.weight", llama) for part in ("attn_q", "attn_k", "attn_v", "attn_q_norm")
    ] == [True, True, False, False]
    assert not is_interleaved("blk.0.attn_q.weight", gemma) and is_interleaved("blk.0.attn_k.bias", MIXTRAL)
    assert [
        is_shifted(name, gemma)
        for name in ("blk.0.attn_norm.weight", "output_norm.weight", "blk.0.attn_q.weight", "a_norm.bias")
    ] == [True, True, False, False]
    assert not is_shifted("output_norm.weight", llama)
