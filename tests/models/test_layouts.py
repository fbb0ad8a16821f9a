"""Quantised checkpoints: every layout of mlx against mlx-lm, and AWQ and GPTQ against their own definitions."""

from typing import Any

import numpy as np
import pytest

import likely.models as models
import likely.models.modules.mlp
from likely.metal import mx
from likely.models.errors import CheckpointError, ConfigError
from likely.models.modules.linear import Linear, QuantizedLinear
from likely.models.modules.weights import PackedLayout, PackedRows
from tests.models.oracle import difference, flat, ours, reference, tokens
from tests.support.everyday import everyday

V = 96
WIDE = {
    "model_type": "llama", "vocab_size": V, "hidden_size": 128, "num_hidden_layers": 2, "intermediate_size": 256,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128, "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0, "tie_word_embeddings": True,
}  # fmt: skip
LAYOUTS = [("affine", bits, group) for bits in (2, 3, 4, 5, 6, 8) for group in (32, 64, 128)]
LAYOUTS += [("mxfp4", 4, 32), ("mxfp8", 8, 32), ("nvfp4", 4, 16)]


@pytest.mark.parametrize(("mode", "bits", "group"), everyday(LAYOUTS, 4))
def test_every_layout_equals_mlx_lm(mode: str, bits: int, group: int) -> None:
    how = {"mode": mode, "bits": bits, "group_size": group}
    theirs = reference(WIDE, quantization=how)
    for said in ({"quantization": how}, {"quantization": how, "quantization_config": how}, {}):
        model = ours(WIDE | said, theirs)
        assert isinstance(model.out, QuantizedLinear)
        for t in (3, 12):  # packed products, and products of the unpacked
            x = tokens(1, t, V)
            assert difference(model(x), theirs(x)) < 1e-4
    dense = ours(WIDE | {"quantization": how}, theirs, dense=mx.float32)
    assert isinstance(dense.out, Linear) and dense.out.columns.dtype == mx.float32
    assert difference(dense(x), theirs(x)) < 1e-4


def test_experts_are_packed_too() -> None:
    config = WIDE | {"model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2, "hidden_size": 128}
    how = {"mode": "affine", "bits": 4, "group_size": 64}
    theirs = reference(config, quantization=how)
    model = ours(config | {"quantization": how}, theirs)
    dense = ours(config | {"quantization": how}, theirs, dense=mx.float32)
    for x in (tokens(1, 3, V), tokens(3, 40, V)):
        assert difference(model(x), theirs(x)) < 1e-4
        assert difference(dense(x), theirs(x)) < 1e-4


def test_settings_of_single_layers() -> None:
    def mixed(path: str, module: Any) -> Any:
        if not hasattr(module, "to_quantized") or "down_proj" in path:
            return False
        return {"group_size": 32, "bits": 8} if "v_proj" in path else True

    how = {"group_size": 64, "bits": 4}
    theirs = reference(WIDE, quantization=how | {"class_predicate": mixed})
    layers = {f"model.layers.{i}.self_attn.v_proj": {"group_size": 32, "bits": 8} for i in range(2)}
    x = tokens(1, 3, V)
    for said in (layers, {"model.layers.0.mlp.down_proj": False, **layers}, {"model.layers.1.mlp.up_proj": how}):
        model = ours(WIDE | {"quantization": how | said}, theirs)
        assert difference(model(x), theirs(x)) < 1e-4


def test_nvfp4_with_a_scale_of_the_whole_matrix() -> None:
    w = mx.random.normal((64, 128), key=mx.random.key(1)) * 5
    whole = mx.max(mx.abs(w))
    codes, scales = mx.quantize(w, 16, 4, mode="nvfp4", global_scale=whole)[:2]
    packed = PackedRows(codes, scales, PackedLayout(16, 4, "nvfp4"), global_scale=whole)
    assert isinstance(packed, PackedRows)
    x = mx.random.normal((1, 128), key=mx.random.key(2))
    want = x @ packed.floats(mx.float32).T
    assert float(mx.max(mx.abs(packed.floats(mx.float32) - w))) < 0.5 * 5
    assert difference(QuantizedLinear(packed)(x), want) < 1e-5


def quantised_by_hand(rng: np.random.Generator, rows: int, columns: int, group: int) -> tuple[np.ndarray, ...]:
    """Codes [out, in], zeros and scales [out, groups], and the numbers they stand for."""
    codes = rng.integers(0, 16, (rows, columns))
    zeros = rng.integers(1, 15, (rows, columns // group))
    scales = (rng.random((rows, columns // group)) * 0.05 + 0.01).astype(np.float32)
    numbers = (codes - zeros.repeat(group, 1)) * scales.repeat(group, 1)
    return codes, zeros, scales, numbers.astype(np.float32)


def pack(codes: np.ndarray, order: tuple[int, ...]) -> np.ndarray:
    """int32 words along the last axis; the i-th value of eight stands at place order[i]."""
    eights = codes.reshape(*codes.shape[:-1], -1, 8).astype(np.uint32)
    words = np.zeros(eights.shape[:-1], np.uint32)
    for i, place in enumerate(order):
        words |= eights[..., i] << np.uint32(4 * place)
    return words.view(np.int32)


AWQ, PLAIN = (0, 4, 1, 5, 2, 6, 3, 7), tuple(range(8))


@pytest.mark.parametrize("method", ["awq", "gptq", "gptq_v2"])
def test_checkpoints_of_other_tools(method: str) -> None:
    rng = np.random.default_rng(0)
    theirs = reference(WIDE)
    weights, group = flat(theirs.parameters()), 64
    for name in [name for name in weights if name.endswith("_proj.weight")]:
        path = name.removesuffix(".weight")
        codes, zeros, scales, numbers = quantised_by_hand(rng, *weights.pop(name).shape, group)
        node = theirs
        for part in path.split("."):
            node = node[int(part)] if part.isdigit() else getattr(node, part)
        node.weight = mx.array(numbers)
        if method == "awq":
            qweight, qzeros = pack(codes.T, AWQ), pack(zeros.T, AWQ)
        else:
            stored = zeros - 1 if method == "gptq" else zeros
            qweight, qzeros = pack(codes, PLAIN).T, pack(stored.T, PLAIN)
            weights[f"{path}.g_idx"] = mx.arange(codes.shape[1], dtype=mx.int32) // group
        weights[f"{path}.qweight"], weights[f"{path}.qzeros"] = mx.array(qweight), mx.array(qzeros)
        weights[f"{path}.scales"] = mx.array(scales.T)
    said: dict[str, Any] = {"quant_method": method[:4].rstrip("_"), "bits": 4, "group_size": group}
    if method == "gptq_v2":
        said["checkpoint_format"] = "gptq_v2"
    shuffled = dict(weights)
    model = models.build(WIDE | {"quantization_config": said}, weights)
    assert isinstance(model.blocks[0].qkv, QuantizedLinear)
    x = tokens(1, 3, V)
    assert difference(model(x), theirs(x)) < 1e-4
    if method == "gptq":
        name = "model.layers.1.mlp.down_proj.g_idx"
        shuffled[name] = shuffled[name][::-1]
        with pytest.raises(CheckpointError, match=r"down_proj has reordered columns"):
            models.build(WIDE | {"quantization_config": said}, shuffled)


def test_settings_that_disagree_with_the_tensors() -> None:
    how = {"mode": "affine", "bits": 4, "group_size": 64}
    theirs = reference(WIDE, quantization=how)
    path = "model.layers.0.self_attn.q_proj"
    for said, line in (
        (how | {"bits": 8}, "quantization says bits = 8 for model.embed_tokens, its tensors say 4"),
        (how | {"group_size": 32}, "quantization says group_size = 32 for model.embed_tokens, its tensors say 64"),
        (how | {path: how | {"bits": 8}}, f"quantization says bits = 8 for {path}, its tensors say 4"),
        (how | {path: False}, f"quantization says that {path} is not packed, its tensors are"),
    ):
        with pytest.raises(CheckpointError, match=line):
            ours(WIDE | {"quantization": said}, theirs)
    for said, line in (
        ({"quant_method": "gptq", "bits": 8}, "gptq with 4 bits can be read, got 8"),
        ({"quant_method": "awq", "version": "gemv"}, "version gemm can be read, got 'gemv'"),
    ):
        with pytest.raises(ConfigError, match=line):
            ours(WIDE | {"quantization_config": said}, theirs)


def test_packed_tensors_that_do_not_fit() -> None:
    theirs = reference(WIDE, quantization={"bits": 4, "group_size": 64})
    path = "model.layers.0.mlp.up_proj"
    good = flat(theirs.parameters())
    for name, value, line in (
        ("scales", None, f"{path}.weight must be \\[256, 128\\] by the config, got \\[256, 16\\]"),
        ("biases", None, f"{path}.biases is missing"),
        ("weight", None, f"{path}.scales is there but {path}.weight is missing"),
        ("scales", mx.zeros((255, 2)), f"{path}.scales must be \\[256, 2\\] by the config, got \\[255, 2\\]"),
        ("scales", mx.zeros((256, 3)), f"{path} is not a packed matrix of 128 columns"),
        ("weight", mx.zeros((256, 28), dtype=mx.uint32), "bits must be one of 2, 3, 4, 5, 6, 8 in mode affine, got 7"),
        ("scales", mx.zeros((256, 8)), "group_size must be one of 32, 64, 128 in mode affine, got 16"),
    ):
        weights = dict(good)
        if value is None:
            del weights[f"{path}.{name}"]
        else:
            weights[f"{path}.{name}"] = value
        with pytest.raises(CheckpointError, match=line):
            models.build(WIDE, weights)


def test_a_stack_of_experts_has_a_scale_of_the_whole_matrix_too() -> None:
    w = mx.random.normal((2, 64, 128), key=mx.random.key(1)) * 5
    whole = mx.max(mx.abs(w), axis=(1, 2))
    each = [mx.quantize(w[i], 16, 4, mode="nvfp4", global_scale=whole[i])[:2] for i in range(2)]
    codes, scales = (mx.stack(arrays) for arrays in zip(*each, strict=True))
    packed = PackedRows(codes, scales, PackedLayout(16, 4, "nvfp4"), global_scale=whole)
    x = mx.random.normal((3, 1, 128), key=mx.random.key(2))
    chosen = mx.array([1, 0, 1])
    want = x @ packed.floats(mx.float32)[chosen].swapaxes(-1, -2)
    assert (
        float(mx.max(mx.abs(packed.floats(mx.float32) - w))) < float(mx.max(whole)) / 6
    )  # half of the largest step of four bits
    assert difference(likely.models.modules.mlp.gather(x, packed, chosen, ordered=False), want) < 1e-4
