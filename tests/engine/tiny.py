"""Tiny random models as files: GGUF by llama.cpp's own writer package and converter's rules, safetensors by mlx."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from gguf import MODEL_ARCH_NAMES, GGMLQuantizationType, GGUFWriter, TensorNameMap, get_tensor_name_map
from gguf.quants import quantize
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from likely.metal import mx

LLAMA: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 128,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "rms_norm_eps": 1e-5, "vocab_size": 288,
    "max_position_embeddings": 128, "rope_theta": 10000.0, "tie_word_embeddings": False,
}  # fmt: skip
WIDE: dict[str, Any] = LLAMA | {"hidden_size": 128, "intermediate_size": 192, "head_dim": 32}  # packs in groups of 64
EXPERTS = {  # family: where they are, and which config keys say how many and how wide
    "mixtral": ("block_sparse_moe", "num_local_experts", "intermediate_size"),
    "qwen3_moe": ("mlp", "num_experts", "moe_intermediate_size"),
}
MOE: dict[str, Any] = LLAMA | {
    "model_type": "qwen3_moe", "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32,
    "norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": [],
}  # fmt: skip
BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())
MERGED = "ab"
PIECES = [*BYTES, MERGED, *(f"<|{i}|>" for i in range(288 - len(BYTES) - 1))]
EOS = 287


def weights(config: dict[str, Any], seed: int = 0) -> dict[str, np.ndarray]:
    """Random weights under Hugging Face's names, float32."""
    random = np.random.default_rng(seed)
    c, d, m = config["hidden_size"], config["head_dim"], config["intermediate_size"]
    h, hkv = config["num_attention_heads"], config["num_key_value_heads"]
    family = config["model_type"]
    shapes = {"model.embed_tokens.weight": (config["vocab_size"], c), "model.norm.weight": (c,)}
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (config["vocab_size"], c)
    for i in range(config["num_hidden_layers"]):
        layer = {"self_attn.o_proj": (c, h * d), "mlp.down_proj": (c, m), "post_attention_layernorm": (c,)}
        if family == "phi3":
            layer |= {"self_attn.qkv_proj": ((h + 2 * hkv) * d, c), "mlp.gate_up_proj": (2 * m, c)}
        else:
            layer |= {f"self_attn.{n}_proj": (k * d, c) for n, k in (("q", h), ("k", hkv), ("v", hkv))}
            layer |= {"mlp.gate_proj": (m, c), "mlp.up_proj": (m, c)}
        if family in EXPERTS:
            module, count, width = EXPERTS[family]
            e, m = config[count], config[width]
            layer = {name: shape for name, shape in layer.items() if not name.startswith("mlp.")}
            layer |= {f"{module}.gate": (e, c), f"{module}.switch_mlp.down_proj": (e, c, m)}
            layer |= {f"{module}.switch_mlp.{n}_proj": (e, m, c) for n in ("gate", "up")}
            m = config["intermediate_size"]
        if family == "starcoder2":
            layer = {name: shape for name, shape in layer.items() if not name.startswith("mlp.")}
            layer |= {"mlp.c_fc": (m, c), "mlp.c_proj": (c, m)}
        if family != "olmo2":
            layer["input_layernorm"] = (c,)
        if family in ("qwen3", "qwen3_moe", "gemma3_text"):
            layer |= {"self_attn.q_norm": (d,), "self_attn.k_norm": (d,)}
        if family == "olmo2":
            layer |= {"self_attn.q_norm": (h * d,), "self_attn.k_norm": (hkv * d,)}
        if family in ("gemma2", "gemma3_text"):
            layer["pre_feedforward_layernorm"] = (c,)
        if family in ("gemma2", "gemma3_text", "olmo2"):
            layer["post_feedforward_layernorm"] = (c,)
        shapes |= {f"model.layers.{i}.{name}.weight": shape for name, shape in layer.items()}
        if family == "starcoder2":
            shapes |= {f"model.layers.{i}.{name}.bias": shape[:1] for name, shape in layer.items()}
        if family == "qwen2":
            shapes |= {
                f"model.layers.{i}.self_attn.{n}_proj.bias": (k * d,) for n, k in (("q", h), ("k", hkv), ("v", hkv))
            }
    if family == "starcoder2":
        shapes["model.norm.bias"] = (c,)
    return {name: random.normal(0, 0.1, shape).astype(np.float32) for name, shape in shapes.items()}


def write_folder(folder: Path, config: dict[str, Any], arrays: dict[str, mx.array], shards: int = 1) -> Path:
    """A model in Hugging Face's layout, with a byte-level tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    vocabulary = {piece: i for i, piece in enumerate(PIECES)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[("a", "b")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": PIECES[EOS]}))
    if shards == 1:
        mx.save_safetensors(str(folder / "model.safetensors"), arrays)
        return folder
    names = list(arrays)
    place: dict[str, str] = {}
    for i in range(shards):
        file = f"model-{i + 1:05}-of-{shards:05}.safetensors"
        mine = names[i::shards]
        place |= dict.fromkeys(mine, file)
        mx.save_safetensors(str(folder / file), {name: arrays[name] for name in mine})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": place}))
    return folder


def random_folder(folder: Path, config: dict[str, Any] = LLAMA, seed: int = 0, times: float = 1.0) -> Path:
    """A model of random weights, so many times as large as `weights` has them."""
    return write_folder(folder, config, {name: mx.array(times * a) for name, a in weights(config, seed).items()})


def write_gguf(
    path: Path,
    architecture: str,
    config: dict[str, Any],
    arrays: dict[str, np.ndarray],
    type_: str = "F32",
    **extra: Any,
) -> Path:
    """The model as llama.cpp's converter would write it: its names, its order of q and k rows, its norms."""
    writer = GGUFWriter(str(path), architecture)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_rope_freq_base(config["rope_theta"])
    if "norm_epsilon" in config:
        writer.add_layer_norm_eps(config["norm_epsilon"])
    else:
        writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    for key, value in extra.items():
        add = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
        add[type(value)](f"{architecture}.{key.replace('__', '.')}", value)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(PIECES)
    writer.add_token_types([3 if piece.startswith("<|") else 1 for piece in PIECES])
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(EOS)
    for name, array in arrays.items():
        tensor, kind = gguf_name(name, architecture), GGMLQuantizationType[type_]
        if architecture in ("llama", "granite", "smollm3") and ".q_proj" in name:
            array = interleave(array, config["num_attention_heads"])
        if architecture in ("llama", "granite", "smollm3") and ".k_proj" in name:
            array = interleave(array, config["num_key_value_heads"])
        if architecture.startswith("gemma") and name.endswith("norm.weight"):
            array = array + np.float32(1)
        if array.ndim == 1 or kind == GGMLQuantizationType.F32:
            writer.add_tensor(tensor, array)
        elif kind == GGMLQuantizationType.F16:
            writer.add_tensor(tensor, array.astype(np.float16))
        else:
            writer.add_tensor(tensor, quantize(array, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def interleave(array: np.ndarray, heads: int) -> np.ndarray:
    """Row i of the first half of a head and row i of the second become neighbours."""
    out, size = array.copy(), len(array) // heads
    for head in range(heads):
        for i in range(size // 2):
            out[head * size + 2 * i] = array[head * size + i]
            out[head * size + 2 * i + 1] = array[head * size + size // 2 + i]
    return out


def gguf_name(name: str, architecture: str) -> str:
    """llama.cpp's name of a weight, by its package's own table of names."""
    if name.startswith("rope_factors"):
        return name
    for module, _, _ in EXPERTS.values():
        name = name.replace(f"{module}.switch_mlp", "mlp.experts")
    found = _table(architecture).get_name(name, try_suffixes=(".weight", ".bias"))
    assert found, f"{name} has no name in {architecture}"
    return str(found)


@cache
def _table(architecture: str) -> TensorNameMap:
    return get_tensor_name_map(next(arch for arch, text in MODEL_ARCH_NAMES.items() if text == architecture), 8)
