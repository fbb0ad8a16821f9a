"""GGUF's view of a model to Hugging Face's: metadata -> config, tensor names -> weight names, what was done to them.

llama.cpp's converter renames tensors, interleaves the query and key rows of the Llama family for its own RoPE, and adds
one to Gemma's norm weights; some facts of a config it leaves out, because llama.cpp's source holds them. This module
undoes the first three and supplies the last. Sources: llama.cpp's convert_hf_to_gguf.py and src/llama-model.cpp.
Knows nothing of mlx.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import inf, pi
from typing import Any

import numpy as np

from likely.engine.base.errors import CheckpointError
from likely.engine.weights.sources.gguf.header import Header
from likely.metal.errors import nearest_names

ReadTensor = Callable[[str], np.ndarray]

NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_qkv": "self_attn.qkv_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
EXPERTS = {f"ffn_{part}_exps": f"switch_mlp.{part}_proj" for part in ("gate", "up", "down")} | {"ffn_gate_inp": "gate"}
NORMED_AFTER = {"post_attention_norm": "post_attention_layernorm", "post_ffw_norm": "post_feedforward_layernorm"}
GEMMA_NORMS = {**NORMED_AFTER, "ffn_norm": "pre_feedforward_layernorm"}
TOP_NAMES = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
IN_CONFIG = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")


class Facts:
    """The metadata of one file, read by name and checked: a wrong type or a size below 1 is a CheckpointError."""

    def __init__(self, header: Header) -> None:
        self.header = header
        self.architecture = self._typed("general.architecture", str)

    def size(self, key: str, default: int | None = None) -> int:
        value = self._typed(f"{self.architecture}.{key}", (int, list), default)
        if isinstance(value, list):  # one a layer: of use only if all are the same
            if len(set(map(str, value))) != 1:
                raise self.bad(f"{self.architecture}.{key} differs from layer to layer, which is not supported")
            value = value[0]
        if not isinstance(value, int) or not 0 < value < 1 << 31:
            raise self.bad(f"{self.architecture}.{key}: a positive size expected, got {value!r}")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        # the shortest number that is this float32: 1e-05 as its author wrote it, not 9.999999747378752e-06
        value = float(str(np.float32(self._typed(f"{self.architecture}.{key}", (int, float), default))))
        if not 0 < value < inf:
            raise self.bad(f"{self.architecture}.{key}: a positive number expected, got {value}")
        return value

    def text(self, key: str, default: str | None = None) -> str:
        return str(self._typed(f"{self.architecture}.{key}", str, default))

    def has(self, key: str) -> bool:
        return f"{self.architecture}.{key}" in self.header.metadata

    def bad(self, what: str) -> CheckpointError:
        return CheckpointError(f"{self.header.path.name}: {what}")

    def _typed(self, key: str, kind: type | tuple[type, ...], default: Any = None) -> Any:
        value = self.header.metadata.get(key, default)
        if value is None:
            raise self.bad(f"the metadata lack {key}; convert the model again")
        if not isinstance(value, kind):
            raise self.bad(f"{key} has an unexpected type, {type(value).__name__}; the file is damaged")
        return value


@dataclass(frozen=True)
class Architecture:
    """One of GGUF's architectures in Hugging Face's terms."""

    model_type: str
    names: Mapping[str, str] = field(default_factory=dict)  # where they differ from NAMES
    interleaved: bool = False  # the rows of q and k were reordered, [D / 2, 2] instead of [2, D / 2] in each head
    norm_offset: float = 0.0  # what was added to the norms' weights
    eps: tuple[str, str] = ("rms_norm_eps", "attention.layer_norm_rms_epsilon")  # the config's name, and GGUF's
    extra: Callable[[Facts], dict[str, Any]] = lambda facts: {}


def _gemma2(facts: Facts) -> dict[str, Any]:
    return {
        "attn_logit_softcapping": facts.number("attn_logit_softcapping", 50.0),
        "final_logit_softcapping": facts.number("final_logit_softcapping", 30.0),
        "sliding_window": facts.size("attention.sliding_window", 4096),
        "query_pre_attn_scalar": _query_scalar(facts, largest=46),
    }


def _gemma3(facts: Facts) -> dict[str, Any]:
    return {
        "sliding_window": facts.size("attention.sliding_window"),
        "sliding_window_pattern": 6,
        "rope_local_base_freq": facts.number("rope.freq_base_swa", 10_000.0),
        "query_pre_attn_scalar": _query_scalar(facts, largest=62),
    }


def _query_scalar(facts: Facts, largest: int) -> float:
    """Gemma's scale of its queries: the head size, but width / heads in the 27B, known by its number of layers."""
    if facts.size("block_count") == largest:
        return facts.size("embedding_length") / facts.size("attention.head_count")
    return facts.size("attention.key_length", 256)


def _granite(facts: Facts) -> dict[str, Any]:
    return {
        "embedding_multiplier": facts.number("embedding_scale", 1.0),
        "residual_multiplier": facts.number("residual_scale", 1.0),
        "attention_multiplier": facts.number("attention.scale"),
        "logits_scaling": facts.number("logit_scale", 1.0),
    }


def _mixtral(facts: Facts) -> dict[str, Any]:
    return {"num_local_experts": facts.size("expert_count"), "num_experts_per_tok": facts.size("expert_used_count")}


def _qwen3_moe(facts: Facts) -> dict[str, Any]:
    return {
        "num_experts": facts.size("expert_count"),
        "num_experts_per_tok": facts.size("expert_used_count"),
        "moe_intermediate_size": facts.size("expert_feed_forward_length"),
        "norm_topk_prob": True,
    }


def _inside(module: str) -> dict[str, str]:
    """The experts' names in this module."""
    return {theirs: f"{module}.{ours}" for theirs, ours in EXPERTS.items()}


ARCHITECTURES = {
    "llama": Architecture("llama", interleaved=True),
    "qwen2": Architecture("qwen2"),
    "qwen3": Architecture("qwen3"),
    "qwen3moe": Architecture("qwen3_moe", _inside("mlp"), extra=_qwen3_moe),
    "gemma": Architecture("gemma", norm_offset=1.0),
    "gemma2": Architecture("gemma2", GEMMA_NORMS, norm_offset=1.0, extra=_gemma2),
    "gemma3": Architecture("gemma3_text", GEMMA_NORMS, norm_offset=1.0, extra=_gemma3),
    "phi3": Architecture("phi3", {"ffn_up": "mlp.gate_up_proj"}),
    "granite": Architecture("granite", interleaved=True, extra=_granite),
    "smollm3": Architecture("smollm3", interleaved=True, extra=lambda facts: {"no_rope_layer_interval": 4}),
    "olmo2": Architecture("olmo2", NORMED_AFTER),
    "starcoder2": Architecture(
        "starcoder2",
        {"ffn_up": "mlp.c_fc", "ffn_down": "mlp.c_proj"},
        eps=("norm_epsilon", "attention.layer_norm_epsilon"),
    ),
}
# Mixtral has no name of its own in GGUF: it is a Llama with experts.
MIXTRAL = Architecture("mixtral", _inside("block_sparse_moe"), interleaved=True, extra=_mixtral)


def runs(name: str) -> bool:
    """Whether a file of this architecture can be run here."""
    return name in ARCHITECTURES


def architecture(header: Header) -> Architecture:
    """The file's architecture; CheckpointError if it is not one of ARCHITECTURES."""
    facts = Facts(header)
    if facts.architecture == "llama" and header.metadata.get("llama.expert_count"):
        return MIXTRAL
    known = ARCHITECTURES.get(facts.architecture)
    if known is None:
        near = nearest_names(facts.architecture, ARCHITECTURES)
        hint = f"; did the file mean {near[0]}?" if near else f"; known: {', '.join(ARCHITECTURES)}"
        raise facts.bad(f"the architecture {facts.architecture!r} is not supported in GGUF{hint}")
    return known


def config(header: Header, read: ReadTensor) -> dict[str, Any]:
    """A config in Hugging Face's terms. `read` gives the values of a small tensor (RoPE factors live in tensors)."""
    facts, arch = Facts(header), architecture(header)
    parts = header.metadata.get("split.count", 1)
    if parts != 1:
        raise facts.bad(f"this is one of {parts} parts; join them with llama-gguf-split --merge")
    embedding = header.tensors.get("token_embd.weight")
    if embedding is None or len(embedding.shape) != 2:
        raise facts.bad("the token embedding is missing; the file is damaged")
    layers, heads, width = facts.size("block_count"), facts.size("attention.head_count"), facts.size("embedding_length")
    last = f"blk.{layers - 1}.attn_output.weight"
    if last not in header.tensors or f"blk.{layers}.attn_output.weight" in header.tensors:
        raise facts.bad(f"the metadata say {layers} layers, the tensors another number; the file is damaged")
    head_dim = facts.size("attention.key_length", width // heads or None)
    rotary = facts.size("rope.dimension_count", head_dim)
    return {
        "model_type": arch.model_type,
        "hidden_size": width,
        "num_hidden_layers": layers,
        "intermediate_size": facts.size("feed_forward_length"),
        "num_attention_heads": heads,
        "num_key_value_heads": facts.size("attention.head_count_kv", heads),
        "head_dim": head_dim,
        arch.eps[0]: facts.number(arch.eps[1]),
        "vocab_size": embedding.shape[0],
        "max_position_embeddings": facts.size("context_length"),
        "rope_theta": facts.number("rope.freq_base", 10_000.0),
        "tie_word_embeddings": "output.weight" not in header.tensors,
        **({"attention_bias": True} if arch.model_type == "llama" and "blk.0.attn_q.bias" in header.tensors else {}),
        **({"partial_rotary_factor": rotary / head_dim} if rotary != head_dim else {}),
        **rope_scaling(facts, read, head_dim),
        **arch.extra(facts),
    }


def rope_scaling(facts: Facts, read: ReadTensor, head_dim: int) -> dict[str, Any]:
    """The config's entry for a context that was stretched; nothing where it was not."""
    tensors = facts.header.tensors
    original = "rope.scaling.original_context_length"
    if "rope_freqs.weight" in tensors:
        factors = read("rope_freqs.weight")
        return {"rope_scaling": _llama3(facts, factors, facts.number("rope.freq_base", 10_000.0), head_dim)}
    if "rope_factors_long.weight" in tensors:
        return {
            "original_max_position_embeddings": facts.size(original),
            "rope_scaling": {
                "type": "longrope",
                "long_factor": read("rope_factors_long.weight").tolist(),
                "short_factor": read("rope_factors_short.weight").tolist(),
            },
        }
    kind = facts.text("rope.scaling.type", "none")
    if kind == "none":
        return {}
    if kind not in ("linear", "yarn"):
        raise facts.bad(f"the RoPE scaling {kind!r} is not supported; known: linear, yarn, llama3, longrope")
    scaling: dict[str, Any] = {"rope_type": kind, "factor": facts.number("rope.scaling.factor")}
    if facts.has(original):
        scaling["original_max_position_embeddings"] = facts.size(original)
    return {"rope_scaling": scaling}


def _llama3(facts: Facts, factors: np.ndarray, theta: float, head_dim: int) -> dict[str, Any]:
    """The parameters of Llama 3's RoPE scaling that give these factors [D / 2].

    GGUF keeps what the frequencies are divided by; the config keeps how that is computed. Every published model has
    low = 1, high = 4 and 8,192 original positions, so only the factor is unknown, and the result is checked.
    """
    factor = max(1.0, float(factors.max(initial=1.0)))
    scaling = {
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    wavelengths = 2 * pi * theta ** (np.arange(0, head_dim, 2) / head_dim)
    smooth = np.clip((8192 / wavelengths - 1.0) / (4.0 - 1.0), 0.0, 1.0)
    expected = 1 / ((1 - smooth) / factor + smooth)
    if factors.shape != expected.shape or not np.allclose(factors, expected, rtol=1e-3):
        raise facts.bad("its RoPE factors are not those of Llama 3's scaling, which is not supported")
    return scaling


def weight_name(name: str, arch: Architecture) -> str | None:
    """Hugging Face's name of a tensor; None if the config has taken it in, or no layer has a place for it."""
    stem, _, kind = name.rpartition(".")
    if kind not in ("weight", "bias") or name in IN_CONFIG:
        return None
    if stem in TOP_NAMES:
        return f"{TOP_NAMES[stem]}.{kind}"
    prefix, _, rest = stem.partition(".")
    layer, _, part = rest.partition(".")
    part = arch.names.get(part, NAMES.get(part, ""))
    return f"model.layers.{layer}.{part}.{kind}" if prefix == "blk" and layer.isdecimal() and part else None


def is_interleaved(name: str, arch: Architecture) -> bool:
    """Whether the rows of this tensor (weight or bias) were interleaved by the converter."""
    return arch.interleaved and name.split(".")[-2] in ("attn_q", "attn_k")


def is_shifted(name: str, arch: Architecture) -> bool:
    """Whether the converter added `norm_offset` to this tensor."""
    return bool(arch.norm_offset) and name.endswith("norm.weight")
