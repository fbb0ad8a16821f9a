"""A model's shape as GGUF's metadata: the reading side's table (`engine.sources.gguf.mapping`) backwards.

Some facts of a shape have no key in GGUF, because llama.cpp's source holds them for each architecture. So what is
written is read again, and a shape that does not come back whole is refused: no file says less than the model is.
"""

import math
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

import likely.models as models
from likely.engine.base.errors import CheckpointError
from likely.engine.weights.sources.gguf import mapping
from likely.engine.weights.sources.gguf.header import Header, TensorInfo
from likely.models.configuration.config import ModelConfig

ARCHITECTURES = {
    "llama": "llama",
    "mistral": "llama",
    "mixtral": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "qwen3_moe": "qwen3moe",
    "gemma": "gemma",
    "gemma2": "gemma2",
    "gemma3": "gemma3",
    "gemma3_text": "gemma3",
}


def metadata(shape: ModelConfig, name: str) -> dict[str, Any]:
    """Metadata of the model, by GGUF's keys. CheckpointError for a family or a rotation that has none."""
    architecture = ARCHITECTURES.get(shape.family)
    if architecture is None:
        raise CheckpointError(f"a {shape.family} is not written as GGUF; known: {', '.join(ARCHITECTURES)}")
    own: dict[str, Any] = {
        "block_count": shape.layers,
        "context_length": shape.context,
        "embedding_length": shape.width,
        "feed_forward_length": shape.mlp_width,
        "attention.head_count": shape.heads,
        "attention.head_count_kv": shape.kv_heads,
        "attention.key_length": shape.head_size,
        "attention.value_length": shape.head_size,
        "attention.layer_norm_rms_epsilon": shape.eps,
        "vocab_size": shape.vocab_size,
    }
    if (window := max(_windows(shape))) and architecture.startswith("gemma"):
        own["attention.sliding_window"] = window
    if shape.softcap is not None:
        own["attn_logit_softcapping"] = shape.softcap
    if shape.logit_softcap is not None:
        own["final_logit_softcapping"] = shape.logit_softcap
    if (experts := shape.experts) is not None:
        own |= {"expert_count": experts.count, "expert_used_count": experts.active}
        own["expert_feed_forward_length"] = experts.width
    own |= _rotation(shape)
    return {"general.architecture": architecture, "general.name": name} | {
        f"{architecture}.{key}": value for key, value in own.items()
    }


def _rotation(shape: ModelConfig) -> dict[str, Any]:
    """The keys of the layers that see everything; those that slide have their own where the architecture says so."""
    rope = shape.ropes[max(range(shape.layers), key=lambda i: (_windows(shape)[i] == 0, i))]
    if rope is None:
        raise CheckpointError(f"a {shape.family} without rotary positions is not written as GGUF")
    rotation: dict[str, Any] = {"rope.freq_base": rope.theta, "rope.dimension_count": rope.dims}
    if rope.kind in ("linear", "yarn"):
        rotation |= {"rope.scaling.type": rope.kind, "rope.scaling.factor": rope.factor}
        if rope.kind == "yarn":
            rotation["rope.scaling.original_context_length"] = rope.original
    elif rope.kind not in ("default", "llama3"):
        raise CheckpointError(f"{rope.kind} rotary positions are not written as GGUF")
    return rotation


def tensors(shape: ModelConfig) -> dict[str, np.ndarray]:
    """Tensors that stand for words of a configuration: by what Llama 3 divides its frequencies [D / 2]."""
    rope = shape.ropes[0]
    if rope is None or rope.kind != "llama3":
        return {}
    plain = replace(rope, kind="default").periods()
    factors = [p / q for p, q in zip(rope.periods(), plain, strict=True)]
    return {"rope_freqs.weight": np.array(factors, np.float32)}


def check(shape: ModelConfig, metadata: Mapping[str, Any], sizes: Mapping[str, tuple[int, ...]]) -> None:
    """CheckpointError unless a reader makes of the metadata and the tensors' sizes the very shape they came from."""
    infos = {name: TensorInfo(name, size, "F32", 0, 0) for name, size in sizes.items()}
    header = Header(Path(str(metadata["general.name"])), dict(metadata), infos)
    again = models.configure(mapping.config(header, lambda name: tensors(shape)[name]))
    for f in fields(ModelConfig):
        ours, theirs = getattr(shape, f.name), getattr(again, f.name)
        if f.name == "windows":
            ours, theirs = _windows(shape), _windows(again)
        if f.name == "family" or ours == theirs:
            continue
        if isinstance(ours, float) and isinstance(theirs, float) and math.isclose(ours, theirs, rel_tol=1e-6):
            continue
        what = f"{f.name} is {_short(ours)} and would be read as {_short(theirs)}"
        raise CheckpointError(f"this {shape.family} is not written as GGUF: {what}")


def _windows(shape: ModelConfig) -> list[int]:
    """Each layer's window; 0 where it reaches over the whole context."""
    return [0 if window >= shape.context else window for window in shape.windows]


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
