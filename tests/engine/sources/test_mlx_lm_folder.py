"""Folders that mlx-lm's own classes read: what `load` gives is what mlx-lm's own load gives, or a reason by name."""

import json
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlx_lm.utils import load_model, quantize_model

from likely.engine.base.errors import CheckpointError
from likely.engine.weights.sources.checkpoint import load
from likely.engine.weights.sources.gguf.precision import Precision
from likely.engine.weights.sources.model_info import describe
from likely.metal import mx
from tests.engine import tiny
from tests.models.oracle import difference, flat, reference, tokens
from tests.support.everyday import everyday

SMALL: dict[str, Any] = {
    "vocab_size": 288, "hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 128, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 128, "rms_norm_eps": 1e-5, "rope_theta": 1e4,
    "tie_word_embeddings": False,
}  # fmt: skip
EXPERTS = {"moe_intermediate_size": 32, "num_experts_per_tok": 2, "norm_topk_prob": True}
GLM = SMALL | EXPERTS | {
    "model_type": "glm4_moe", "n_group": 1, "head_dim": 16, "topk_group": 1, "n_shared_experts": 1,
    "n_routed_experts": 16, "routed_scaling_factor": 1.0, "first_k_dense_replace": 1, "rope_scaling": None,
    "use_qk_norm": True, "attention_bias": False, "partial_rotary_factor": 0.5,
}  # fmt: skip
LFM = SMALL | EXPERTS | {
    "model_type": "lfm2_moe", "num_experts": 16, "use_expert_bias": True, "num_dense_layers": 0, "norm_eps": 1e-5,
    "conv_bias": False, "conv_L_cache": 3, "layer_types": ["conv", "full_attention"],
}  # fmt: skip
QWEN = SMALL | {
    "model_type": "qwen3_5", "linear_num_value_heads": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 16,
    "linear_value_head_dim": 16, "head_dim": 16, "full_attention_interval": 2,
}  # fmt: skip
SEED = SMALL | {"model_type": "seed_oss", "head_dim": 16}
LLAMA = SMALL | {"model_type": "llama"}
GPT_OSS = SMALL | {"model_type": "gpt_oss", "num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 16,
                   "sliding_window": 8}  # fmt: skip
MINIMAX = SMALL | {
    "model_type": "minimax", "num_local_experts": 4, "num_experts_per_tok": 2, "shared_intermediate_size": 0,
    "rotary_dim": 8, "head_dim": 16,
}  # fmt: skip
BAILING = SMALL | EXPERTS | {
    "model_type": "bailing_hybrid", "moe_shared_expert_intermediate_size": 32, "num_experts": 4, "n_group": 1,
    "topk_group": 1, "layer_group_size": 2, "head_dim": 16, "q_lora_rank": 16, "kv_lora_rank": 16,
    "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 16, "num_key_value_heads": 4,
}  # fmt: skip
AWQ = (0, 4, 1, 5, 2, 6, 3, 7)
COMPRESSED = {"quant_method": "compressed-tensors"}
AFFINE = {"group_size": 32, "bits": 4}
NVFP4 = {"group_size": 16, "bits": 4, "mode": "nvfp4"}
X = tokens(1, 20, 288)


def kl(want: mx.array, got: mx.array) -> float:
    """The largest KL divergence of a position, nats, in float64."""
    p, q = (np.array(x.astype(mx.float32)).astype(np.float64) for x in (want, got))
    p, q = (x - np.log(np.exp(x).sum(-1, keepdims=True)) for x in (p, q))
    return float((np.exp(p) * (p - q)).sum(-1).max())


def as_mlx_lm_converts(folder: Path, config: dict[str, Any]) -> Path:
    """A random model in bfloat16 and 4 bits, but for what its class lets nobody narrow; its biases choose by little."""
    model = reference(config)
    arrays = flat(model.parameters())
    for name, array in arrays.items():
        if "bias" in name and not model.cast_predicate(name):
            array = 6.8 + 0.3 * mx.random.uniform(shape=array.shape, key=mx.random.key(3))
        arrays[name] = array.astype(mx.bfloat16) if model.cast_predicate(name) else array
    model.load_weights([*arrays.items()])
    model, config = quantize_model(model, config, 32, 4)
    return tiny.write_folder(folder, config, flat(model.parameters()))


@pytest.mark.parametrize("config", everyday([GLM, LFM, QWEN], 3), ids=lambda config: str(config["model_type"]))
def test_what_its_class_keeps_wide_is_not_narrowed(config: dict[str, Any], tmp_path: Path) -> None:
    """Between 6.8 and 7.1 bfloat16 has ten numbers: a bias rounded to them chooses other experts."""
    folder = as_mlx_lm_converts(tmp_path / "m", config)
    theirs, _ = load_model(folder)
    stored = flat(theirs.parameters())
    floats = [name for name, array in stored.items() if array.dtype == mx.bfloat16]
    for dtype in (mx.bfloat16, mx.float16, mx.float32):  # as mlx_lm.convert casts
        theirs.load_weights([*(stored | {name: stored[name].astype(dtype) for name in floats}).items()])
        assert kl(theirs(X), load(folder, precision=Precision(dtype, packed=True)).model(X)) == 0


def quantised(mode: str, config: dict[str, Any], **said: Any) -> Callable[[Path], Path]:
    """A writer of a model that mlx packed in a mode, whose configuration says so as `said`."""
    bits = {"mxfp4": (32, 4), "mxfp8": (32, 8), "nvfp4": (16, 4)}[mode]

    def write(folder: Path) -> Path:
        model = reference(config, quantization={"group_size": bits[0], "bits": bits[1], "mode": mode})
        return tiny.write_folder(folder, config | said, flat(model.parameters()))

    return write


def modelopt(folder: Path) -> Path:
    """As NVIDIA's tool leaves it: what it did stands in a file beside the configuration."""
    quantised("nvfp4", LLAMA)(folder)
    said = {"quant_method": "modelopt", "quantization": {"quant_algo": "NVFP4", "group_size": 16}}
    (folder / "hf_quant_config.json").write_text(json.dumps(said))
    return folder


def as_openai_published(folder: Path) -> Path:
    """gpt-oss: gate and up in turns, codes in bytes."""
    arrays = {}
    for name, array in flat(reference(GPT_OSS).parameters()).items():
        path, _, kind = name.rpartition(".")
        where, _, which = path.rpartition(".")
        if which not in ("gate_proj", "up_proj", "down_proj"):
            arrays[name] = array.astype(mx.bfloat16)
        elif kind == "bias":
            arrays[f"{where}.{which}_bias"] = array.astype(mx.bfloat16)
        else:
            codes, scales = mx.quantize(array, 32, 4, "mxfp4")
            arrays[f"{where}.{which}_blocks"] = codes.view(mx.uint8).reshape(*scales.shape, 16)
            arrays[f"{where}.{which}_scales"] = scales
    for name in [name for name in arrays if "gate_proj" in name]:
        gate, up = arrays.pop(name), arrays.pop(name.replace("gate", "up"))
        arrays[name.replace("gate", "gate_up")] = mx.stack([gate, up], axis=2).reshape(4, 256, *gate.shape[2:])
    return tiny.write_folder(folder, GPT_OSS | {"quantization_config": {"quant_method": "mxfp4"}}, arrays)


def in_fp8(folder: Path) -> Path:
    """MiniMax: bytes of eight bits, a scale for a square of 128."""
    arrays = flat(reference(MINIMAX).parameters())
    for name in [name for name in arrays if "self_attn" in name and name.endswith("proj.weight")]:
        arrays[name] = mx.to_fp8(arrays[name] * 100)
        arrays[f"{name}_scale_inv"] = mx.full((1, 1), 0.01)
    tiny.write_folder(folder, MINIMAX | {"quantization_config": {"quant_method": "fp8"}}, arrays)
    file = folder / "model.safetensors"
    raw = file.read_bytes()
    end = 8 + struct.unpack("<Q", raw[:8])[0]
    header = raw[8:end].replace(b'"U8"', b'"F8_E4M3"')
    file.write_bytes(struct.pack("<Q", len(header)) + header + raw[end:])
    return folder


FP8 = {"quant_method": "fp8", "scale_fmt": "ue8m0", "weight_block_size": [32, 32]}
FORMATS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "mxfp4": (quantised("mxfp4", LLAMA, quantization_config={"quant_method": "mxfp4"}), "4-bit mxfp4"),
    "mxfp4, their class": (quantised("mxfp4", SEED, quantization_config={"quant_method": "mxfp4"}), "4-bit mxfp4"),
    "mxfp8": (quantised("mxfp8", SEED, quantization_config={"quant_method": "mxfp8"}), "8-bit mxfp8"),
    "fp8 with scales of two": (quantised("mxfp8", LLAMA, quantization_config=FP8), "8-bit mxfp8"),
    "compressed-tensors": (
        quantised("nvfp4", LLAMA, quantization_config=COMPRESSED | {"format": "nvfp4-pack-quantized"}), "4-bit nvfp4"
    ),
    "modelopt": (modelopt, "4-bit nvfp4"),
    "in text_config": (
        quantised("mxfp4", QWEN, text_config=QWEN | {"quantization_config": {"quant_method": "mxfp4"}}), "4-bit mxfp4"
    ),
    "gpt-oss": (as_openai_published, "4-bit mxfp4"),
    "fp8": (in_fp8, "F32"),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
def test_what_mlx_lm_opens_is_read_as_it_reads_it(name: str, tmp_path: Path) -> None:
    """Packed as it lies there, and as numbers."""
    write, said = FORMATS[name]
    folder = write(tmp_path / "m")
    theirs, _ = load_model(folder)
    theirs.set_dtype(mx.float32)
    assert describe(folder).quantization == said
    for packed in (True, False):
        model = load(folder, precision=Precision(mx.float32, packed=packed)).model
        assert difference(model(X), theirs(X)) < 1e-4, packed


def test_experts_with_a_scale_of_the_whole_matrix(tmp_path: Path) -> None:
    """On a CPU as numbers: mlx has them packed on a GPU only, and mlx-lm forgets that scale when it expands them."""
    want = reference(GLM)
    model, config = quantize_model(reference(GLM), GLM, 16, 4, "nvfp4", global_scale=True)
    folder = tiny.write_folder(tmp_path / "m", config, flat(model.parameters()))
    for path, module in model.named_modules():
        if "scales" in module:
            parts = [module.weight, module.scales, module.get("global_scale")]
            stacks = zip(*parts, strict=True) if parts[2] is not None else [parts]
            numbers = [mx.dequantize(w, s, None, 16, 4, "nvfp4", g, mx.float32) for w, s, g in stacks]
            want.load_weights([(f"{path}.weight", mx.stack(numbers) if parts[2] is not None else numbers[0])], False)
    assert difference(load(folder, precision=Precision(mx.float32, packed=False)).model(X), want(X)) < 1e-4
    refused(folder, "global_scale", Precision(mx.float32, packed=True))


@pytest.mark.parametrize("method", ["awq", "gptq"])
def test_other_tools_codes_in_their_class(method: str, tmp_path: Path) -> None:
    """A seed_oss whose down products such a tool packed: codes of a few values, zeros that are one of them."""
    theirs, random = reference(SEED), np.random.default_rng(0)
    arrays = flat(theirs.parameters())
    for i, layer in enumerate(theirs.model.layers):
        codes, zeros = random.integers(0, 16, (64, 128)), random.integers(1, 15, (64, 4))
        scales = random.random((64, 4)).astype(np.float32) / 50
        path = f"model.layers.{i}.mlp.down_proj"
        layer.mlp.down_proj.weight = mx.array(((codes - zeros.repeat(32, 1)) * scales.repeat(32, 1)).astype(np.float32))
        del arrays[f"{path}.weight"]
        if method == "awq":
            parts = {"qweight": words(codes.T, AWQ), "qzeros": words(zeros.T, AWQ)}
        else:
            parts = {"qweight": words(codes, range(8)).T, "qzeros": words(zeros.T - 1, range(8))}
            arrays[f"{path}.g_idx"] = mx.arange(128, dtype=mx.int32) // 32
        arrays |= {f"{path}.{name}": mx.array(part) for name, part in (parts | {"scales": scales.T}).items()}
    said = {"quant_method": method, "bits": 4, "group_size": 32}
    folder = tiny.write_folder(tmp_path / "m", SEED | {"quantization_config": said}, arrays)
    for packed in (True, False):
        model = load(folder, precision=Precision(mx.float32, packed=packed)).model
        assert difference(model(X), theirs(X)) < 1e-4
    tiny.write_folder(folder, SEED | {"quantization_config": said | {"bits": 8}}, arrays)
    refused(folder, f"{method} with 4 bits can be read, got 8")


def words(codes: np.ndarray, order: Sequence[int]) -> np.ndarray:
    """Eight codes of the last axis an int32; the i-th at place order[i]."""
    eights = codes.reshape(*codes.shape[:-1], -1, 8).astype(np.uint32)
    shifted = eights << np.array([4 * place for place in order], dtype=np.uint32)
    return np.bitwise_or.reduce(shifted, axis=-1).view(np.int32)


def test_an_architecture_can_name_another_class_than_its_type(tmp_path: Path) -> None:
    config = BAILING | {"architectures": ["BailingMoeV3ForCausalLM"]}
    theirs = reference(config | {"model_type": "bailing_moe_v3"})
    folder = tiny.write_folder(tmp_path / "m", config, flat(theirs.parameters()))
    assert difference(load(folder).model(X), load_model(folder)[0](X)) < 1e-4


def test_what_cannot_be_read_is_refused_by_name(tmp_path: Path) -> None:
    """Of an architecture of mlx-lm's and of one of ours."""
    folder = tmp_path / "m"
    llama, seed = (flat(reference(config).parameters()) for config in (LLAMA, SEED))
    for config, said, line in (
        (SEED, {"quantization_config": COMPRESSED | {"format": "float-quantized"}},
         "seed_oss does not take this checkpoint packed by compressed-tensors: unsupported compressed-tensors format"),
        (SEED, {"quantization_config": {"quant_method": "bitnet"}}, "bitnet: .* kernel for Metal, which is not here"),
        (LLAMA, {"quantization_config": {"quant_method": "bitnet"}}, "bitnet: .* kernel for Metal, which is not here"),
        (LLAMA, {"quantization": NVFP4, "quantize_activations": True}, "quantize_activations: .* on a GPU only"),
        (LLAMA, {"quantization_config": {"quant_method": "bitsandbytes"}}, "bitsandbytes packed them in a way that"),
        (LLAMA, {"quantization_config": {"quant_method": "fp8"}}, "fp8 packed them in a way that a llama is not read"),
        (SEED, {"num_hidden_layers": 10**9}, "num_hidden_layers must be at most 10,000, got 1,000,000,000"),
        (SEED, {"text_config": {"num_experts": 10**7}}, "num_experts must be at most 10,000, got 10,000,000"),
        (SEED, {"model_type": "nonsense"}, "'nonsense' is known neither here nor to mlx-lm"),
        (SEED, {"model_type": "cache"}, "'cache' is known neither here nor to mlx-lm"),
        (SEED, {"model_type": "../x"}, "must be a name, got '../x'"),
        (SEED, {"model_file": "own.py"}, "seed_oss does not take this checkpoint: .* requires importing"),
        (SEED, {"num_attention_heads": "four"}, "seed_oss does not take this checkpoint: "),
        (SEED, {"intermediate_size": 64}, "seed_oss does not take this checkpoint: Expected shape"),
        (SEED, {"rope_theta": [1e4]}, "seed_oss does not take this checkpoint: rope"),  # in its first pass
        (SEED, {"quantization": AFFINE | {"lm_head": {"group_size": False}}}, "group_size must be .* got False"),
        (SEED, {"num_hidden_layers": 3}, "seed_oss does not take this checkpoint: Missing"),
        (SEED, {"model_type": "apertus", "rope_parameters": {}},
         "apertus does not .*: its configuration lacks mlp_bias, attention_bias, post_norm, qk_norm, which trans"),
        (SEED, {"model_type": "cohere2", "rope_parameters": {}, "layer_types": ["full_attention", "sliding_attention"]},
         "layer_types: mlx-lm's cohere2 has one that sees all each so many layers, not these"),
    ):  # fmt: skip
        refused(tiny.write_folder(folder, config | said, llama if config is LLAMA else seed), line)
    beside = tiny.write_folder(folder, SEED, seed) / "hf_quant_config.json"
    beside.write_text('{"quantization": {"quant_algo": "FP8"}}')
    refused(folder, "packed by modelopt: Unsupported modelopt quant_algo: FP8")
    beside.unlink()
    (folder / "model.safetensors").rename(folder / "weights.safetensors")
    refused(folder, "No safetensors found")
    raw = (folder / "weights.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(raw[: len(raw) // 2])
    refused(folder, "it is truncated, fetch it again")


def refused(folder: Path, line: str, precision: Precision | None = None) -> None:
    with pytest.raises(CheckpointError, match=line) as caught:
        load(folder, precision=precision)
    assert "\n" not in str(caught.value)
