"""A file's metadata as a configuration: every rule at both sides. Names and weights come back in test_gguf."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from likely.engine.base.errors import CheckpointError
from likely.engine.weights.sources.gguf.header import Header, TensorInfo
from likely.engine.weights.sources.gguf.mapping import ARCHITECTURES, MIXTRAL, Facts, architecture, config, runs

FIRST = "token_embd.weight"


def file(arch: str = "llama", tensors: tuple[str, ...] = ("output.weight",), layers: int = 2, **more: Any) -> Header:
    told = {
        "block_count": layers, "attention.head_count": 4, "embedding_length": 64, "feed_forward_length": 96,
        "context_length": 128, "attention.layer_norm_rms_epsilon": float(np.float32(1e-5)),
    } | {key.replace("__", "."): value for key, value in more.items()}  # fmt: skip
    metadata = {"general.architecture": arch} | {f"{arch}.{key}": value for key, value in told.items()}
    names = (FIRST, *(f"blk.{i}.attn_output.weight" for i in range(layers)), *tensors)
    return Header(Path("m.gguf"), metadata, {name: TensorInfo(name, (8, 64), "F32", 0, 0) for name in names})


def read(header: Header) -> dict[str, Any]:
    return config(header, lambda name: np.array((), np.float32))


PLAIN = {
    "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 96, "num_attention_heads": 4,
    "num_key_value_heads": 4, "head_dim": 16, "rms_norm_eps": 1e-05, "vocab_size": 8, "max_position_embeddings": 128,
    "rope_theta": 10_000.0, "tie_word_embeddings": False,
}  # fmt: skip
BIASED = ("output.weight", "blk.0.attn_q.bias")
TOLD: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {}), ({"attention__head_count_kv": 2}, {"num_key_value_heads": 2}),
    ({"attention__head_count_kv": [2, 2]}, {"num_key_value_heads": 2}),
    ({"attention__key_length": 20}, {"head_dim": 20}), ({"rope__dimension_count": 8}, {"partial_rotary_factor": 0.5}),
    ({"rope__dimension_count": 16}, {}), ({"rope__freq_base": 5e5}, {"rope_theta": 5e5}),
    ({"tensors": ()}, {"tie_word_embeddings": True}), ({"tensors": BIASED}, {"attention_bias": True}),
    ({"arch": "qwen2", "tensors": BIASED}, {"model_type": "qwen2"}), ({"layers": 1}, {"num_hidden_layers": 1}),
    ({"rope__scaling__type": "none"}, {}),
    ({"rope__scaling__type": "linear", "rope__scaling__factor": 4.0},
     {"rope_scaling": {"rope_type": "linear", "factor": 4.0}}),
    ({"rope__scaling__type": "yarn", "rope__scaling__factor": 2.0, "rope__scaling__original_context_length": 64},
     {"rope_scaling": {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 64}}),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "told"), TOLD)
def test_metadata_become_a_configuration(changes: dict[str, Any], told: dict[str, Any]) -> None:
    assert read(file(**changes)) == PLAIN | told


def test_what_contradicts_itself_or_is_of_no_use_is_refused() -> None:
    gone, flat, more, less, split, one = (file() for _ in range(6))
    del gone.tensors[FIRST], less.tensors["blk.1.attn_output.weight"]
    flat.tensors[FIRST] = TensorInfo(FIRST, (8,), "F32", 0, 0)
    more.tensors["blk.2.attn_output.weight"] = more.tensors[FIRST]
    split.metadata["split.count"], one.metadata["split.count"] = 3, 1
    assert read(one) == PLAIN
    facts = Facts(file(n=1, big=(1 << 31) - 1, f=0.5, t="x", same=[3, 3], other=[3, 4], none=[]))
    assert (facts.size("n"), facts.size("big"), facts.size("same"), facts.number("n")) == (1, (1 << 31) - 1, 3, 1.0)
    assert (facts.size("gone", 5), facts.number("gone", 2.5), facts.text("gone", "y")) == (5, 2.5, "y")
    refused: list[tuple[Callable[[], Any], str]] = [
        (lambda: read(gone), "token embedding is missing"), (lambda: read(flat), "token embedding is missing"),
        (lambda: read(more), "say 2 layers, the tensors another"), (lambda: read(less), "say 2 layers"),
        (lambda: read(split), "one of 3 parts"), (lambda: read(file(embedding_length=3)), "lack llama.attention.key_"),
        (lambda: read(file(rope__scaling__type="dynamic")), "the RoPE scaling 'dynamic' is not supported"),
        (lambda: read(file("lama")), r"'lama' is not supported in GGUF; did the file mean llama\?"),
        (lambda: read(file("zzzzz")), "not supported in GGUF; known: llama, qwen2"),
        *((lambda n=n: Facts(file(n=n)).size("n"), "a positive size expected") for n in (0, 1 << 31, ["3", "3"])),
        *((lambda f=f: Facts(file(f=f)).number("f"), "a positive number expected") for f in (0.0, math.inf, -1.0)),
        (lambda: facts.size("other"), "differs from layer to layer"), (lambda: facts.size("none"), "differs"),
        (lambda: facts.size("gone"), "the metadata lack llama.gone"),
        (lambda: facts.size("f"), "has an unexpected type, float"), (lambda: facts.number("t"), "unexpected type"),
        (lambda: facts.text("n"), "unexpected type, int"),
    ]  # fmt: skip
    for call, line in refused:
        with pytest.raises(CheckpointError, match=f"m.gguf: .*{line}|m.gguf: {line}"):
            call()
    assert architecture(file()) is ARCHITECTURES["llama"] and architecture(file(expert_count=2)) is MIXTRAL
    assert runs("llama") and not runs("mixtral")
