"""A file's metadata as a configuration, and the names of its tensors: every rule by hand, at both sides."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from likely.engine.errors import CheckpointError
from likely.engine.sources.gguf.header import Header, TensorInfo
from likely.engine.sources.gguf.mapping import ARCHITECTURES, MIXTRAL, Facts, architecture, config, runs


def tensor(name: str, shape: tuple[int, ...] = (8, 64), kind: str = "F32") -> TensorInfo:
    return TensorInfo(name, shape, kind, 0, 0)


def file(arch: str = "llama", tensors: tuple[str, ...] = ("output.weight",), layers: int = 2, **more: Any) -> Header:
    told = {
        "block_count": layers, "attention.head_count": 4, "embedding_length": 64, "feed_forward_length": 96,
        "context_length": 128, "attention.layer_norm_rms_epsilon": float(np.float32(1e-5)),
    }  # fmt: skip
    told |= {key.replace("__", "."): value for key, value in more.items()}
    metadata = {"general.architecture": arch} | {
        f"{arch}.{key}": value for key, value in told.items() if value is not None
    }
    names = ("token_embd.weight", *(f"blk.{i}.attn_output.weight" for i in range(layers)), *tensors)
    return Header(Path("m.gguf"), metadata, {name: tensor(name) for name in names})


def read(header: Header, factors: Any = ()) -> dict[str, Any]:
    return config(header, lambda name: np.array(factors, np.float32))


PLAIN = {
    "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 96, "num_attention_heads": 4,
    "num_key_value_heads": 4, "head_dim": 16, "rms_norm_eps": 1e-05, "vocab_size": 8, "max_position_embeddings": 128,
    "rope_theta": 10_000.0, "tie_word_embeddings": False,
}  # fmt: skip


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


def test_facts_are_checked_at_both_sides() -> None:
    facts = Facts(file(n=1, big=(1 << 31) - 1, f=0.5, t="x", same=[3, 3], other=[3, 4], none=[]))
    assert (
        facts.size("n"), facts.size("big"), facts.size("same"), facts.number("f"), facts.number("n"), facts.text("t"),
    ) == (1, (1 << 31) - 1, 3, 0.5, 1.0, "x")  # fmt: skip
    assert facts.size("gone", 5) == 5 and facts.number("gone", 2.5) == 2.5 and facts.text("gone", "y") == "y"
    assert facts.has("n") and not facts.has("gone")
    for call, line in (
        (lambda: Facts(file(n=0)).size("n"), "a positive size expected, got 0"),
        (lambda: Facts(file(n=1 << 31)).size("n"), "a positive size"),
        (lambda: facts.size("other"), "differs from layer to layer"), (lambda: facts.size("none"), "differs"),
        (lambda: facts.size("gone"), "the metadata lack llama.gone"),
        (lambda: facts.size("f"), "has an unexpected type, float"), (lambda: facts.size("t"), "unexpected type, str"),
        (lambda: facts.number("t"), "unexpected type"),
        (lambda: Facts(file(f=0.0)).number("f"), "a positive number expected, got 0.0"),
        (lambda: Facts(file(f=math.inf)).number("f"), "a positive number"),
        (lambda: Facts(file(f=-1.0)).number("f"), "a positive number"),
        (lambda: facts.text("n"), "unexpected type, int"),
        (lambda: Facts(file(n=["3", "3"])).size("n"), "a positive size expected, got '3'"),
    ):  # fmt: skip
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
        (gone, "token embedding is missing"), (flat, "token embedding is missing"),
        (more, "say 2 layers, the tensors another"), (less, "say 2 layers"), (split, "one of 3 parts"),
        (file(rope__scaling__type="dynamic"), "the RoPE scaling 'dynamic' is not supported"),
        (file(embedding_length=3), "lack llama.attention.key_length"),
        (file("lama"), r"'lama' is not supported in GGUF; did the file mean llama\?"),
        (file("zzzzz"), "not supported in GGUF; known: llama, qwen2"),
    ):  # fmt: skip
        with pytest.raises(CheckpointError, match=line):
            read(header)
    assert architecture(file()) is ARCHITECTURES["llama"] and architecture(file(expert_count=2)) is MIXTRAL
    assert runs("llama") and not runs("mixtral")
