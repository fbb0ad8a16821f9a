"""Layouts of a quantisation by hand, channels scaled against float64, and the folder that is written by shards."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from engine.errors import DataError, NotFinite, ParameterError
from engine.evaluate.estimates import Estimate
from engine.quantize import measure, pack
from engine.quantize.measure import QuantizationReport
from engine.quantize.pack import Recorder, packable, record, rounded, scale_channels
from engine.quantize.plan import BITS, Settings, allocate, lowest, weight_bits
from engine.quantize.run import _alive, _embed, _finite, _Folder, _logits, _norm, matrices
from metal import mx
from models.layers import RMSNorm
from models.weights import PackedLayout


def layout(bits: int, group: int = 64, mode: str = "affine") -> PackedLayout:
    return PackedLayout(group, bits, mode)


def test_settings_have_a_layout() -> None:
    for how, want in (
        ({}, (64, 4, "affine")),
        ({"bits": 3}, (64, 3, "affine")),
        ({"group_size": 32}, (32, 4, "affine")),
        ({"mode": "mxfp4"}, (32, 4, "mxfp4")),
        ({"mode": "nvfp4"}, (16, 4, "nvfp4")),
        ({"mode": "mxfp8"}, (32, 8, "mxfp8")),
        ({"recipe": "mixed_2_6"}, (64, 2, "affine")),
        ({"recipe": "mixed_3_6", "group_size": 128}, (128, 3, "affine")),
        ({"recipe": "auto", "bits": 5}, (64, 5, "affine")),
    ):
        assert Settings(**how).layout == PackedLayout(*want)  # type: ignore[arg-type]
    for how, line in (
        ({"recipe": "mixed"}, "recipe must be one of mixed_2_6, mixed_3_4, mixed_3_6, mixed_4_6 or auto"),
        ({"recipe": "auto", "mode": "mxfp4"}, "leave out one"),
        ({"recipe": "mixed_3_4", "bits": 3}, "leave out --bits 3"),
    ):
        with pytest.raises(ParameterError, match=line):
            Settings(**how)  # type: ignore[arg-type]


def test_a_recipe_keeps_more_bits_in_some_layers() -> None:
    """Of 24 layers the first and the last three, and of those between every third."""
    mixed, more = Settings(recipe="mixed_3_6"), []
    for layer in range(24):
        kept = [mixed.choose("p", layer, 24, role).bits for role in ("v", "qkv", "down", "experts.down")]
        assert len(set(kept)) == 1
        more += [layer] if kept[0] == 6 else []
        assert [mixed.choose("p", layer, 24, role).bits for role in ("q", "k", "o", "up", "gate")] == [3] * 5
    assert more == [0, 1, 2, 5, 8, 11, 14, 17, 20, 21, 22, 23]
    assert mixed.choose("p", None, 24, "head").bits == 6 and mixed.choose("p", None, 24, "embed").bits == 3
    assert mixed.choose("p", None, 24, "v").bits == 3 and mixed.choose("p", 3, 24, "head").group_size == 64
    assert [layer for layer in range(7) if mixed.choose("p", layer, 7, "v").bits == 6] == [0, 1, 2, 3, 4, 5, 6]
    assert Settings(bits=2).choose("p", 0, 24, "v").bits == 2 and Settings().choose("p", 0, 2, "router") == layout(8)
    assert mixed.choose("p", 3, 24, "router") == layout(8) and Settings(mode="mxfp4").choose(
        "p", 0, 2, "router"
    ) == layout(8)


def test_bits_of_a_weight_have_their_scales_in_them() -> None:
    assert [weight_bits(layout(4, g)) for g in (32, 64, 128)] == [5.0, 4.5, 4.25]
    assert weight_bits(layout(4, 32, "mxfp4")) == 4.25 and weight_bits(layout(4, 16, "nvfp4")) == 4.5
    assert [lowest(layout(bits)).bits for bits in BITS] == [2, 2, 3, 4, 5, 6] and lowest(layout(4, 32)).group_size == 32


def test_a_budget_buys_what_saves_most_a_bit() -> None:
    """Against every assignment of steps: greedy buys the best next step that still fits."""
    base = layout(4)
    for costs, sizes in (
        ({"a": 1.0, "b": 0.5, "c": 0.1}, {"a": 10, "b": 10, "c": 10}),
        ({"a": 1.0, "b": 0.9}, {"a": 100, "b": 1}),
        ({"a": -1.0, "b": 0.2, "c": 0.0}, {"a": 5, "b": 5, "c": 5}),
        ({"a": 0.3}, {"a": 7}),
        ({"a": 5.0, "b": 1e-9, "c": 1e-9}, {"a": 4, "b": 4, "c": 4}),
    ):
        bits, left = dict.fromkeys(costs, 3), sum(sizes.values())
        refused: set[str] = set()
        while True:
            steps = []
            for path in costs:
                higher = [b for b in BITS if b > bits[path]]
                if higher and path not in refused:
                    now, then = (max(costs[path], 0.0) * 4.0 ** (3 - b) for b in (bits[path], higher[0]))
                    steps.append(((then - now) / (sizes[path] * (higher[0] - bits[path])), path, higher[0]))
            if not steps:
                break
            _, path, target = min(steps)
            price = sizes[path] * (target - bits[path])
            if price > left:
                refused.add(path)
                continue
            left -= price
            bits[path] = target
        assert {path: found.bits for path, found in allocate(costs, sizes, base).items()} == bits
        assert all(found == layout(found.bits) for found in allocate(costs, sizes, base).values())
    assert allocate({"a": 5.0, "b": 0.0, "c": 0.0}, {"a": 4, "b": 4, "c": 4}, base)["a"].bits == 6
    assert {p: f.bits for p, f in allocate({"a": 1.0, "b": 1.0}, {"a": 2, "b": 2}, layout(2)).items()} == {
        "a": 2,
        "b": 2,
    }


# -- channels ----------------------------------------------------------------------------------------------------------


def test_what_a_layout_can_hold() -> None:
    assert packable(mx.zeros((2, 64)), layout(4)) and packable(mx.zeros((3, 2, 128)), layout(4))
    assert (
        not packable(mx.zeros(64), layout(4))
        and not packable(mx.zeros((64, 65)), layout(4))
        and packable(mx.zeros((2, 96)), layout(4, 32))
    )


def test_matrices_become_the_tensors_that_are_stored() -> None:
    weight = mx.random.normal((4, 64), key=mx.random.key(1))
    four = pack.pack("a.b", weight, layout(4, 32))
    assert set(four) == {"a.b.weight", "a.b.scales", "a.b.biases"} and four["a.b.weight"].shape == (4, 8)
    back = mx.dequantize(four["a.b.weight"], four["a.b.scales"], four["a.b.biases"], 32, 4)
    np.testing.assert_allclose(np.array(rounded(weight, layout(4, 32))), np.array(back), rtol=1e-6)
    coarse, fine = (float(mx.abs(rounded(weight, layout(b, 32)) - weight).max()) for b in (2, 8))
    assert fine < 0.02 < 0.2 < coarse
    fp4 = pack.pack("m", weight, layout(4, 32, "mxfp4"))
    assert set(fp4) == {"m.weight", "m.scales"} and rounded(weight, layout(4, 32, "mxfp4")).dtype == mx.float32


def test_the_scale_is_the_power_of_activity_that_loses_least() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(40, 32)) * np.exp(rng.normal(size=32) * 2)
    matrices_ = [rng.normal(size=(16, 32)), rng.normal(size=(8, 32))]
    x, ws = mx.array(rows.astype(np.float32)), [mx.array(w.astype(np.float32)) for w in matrices_]
    found = np.array(pack.best(ws, x, layout(2, 32)))
    activity, tried = np.abs(rows).mean(axis=0), []
    for share in (0.0, 0.25, 0.5, 0.75):
        scales = activity**share
        scales = scales / np.sqrt(scales.max() * scales.min())
        lost = 0.0
        for w in matrices_:
            small = np.array(rounded(mx.array((w * scales).astype(np.float32)), layout(2, 32)), np.float64)
            lost += float((((rows / scales) @ small.T - rows @ w.T) ** 2).sum())
        tried.append((lost, scales))
    want = min(tried, key=lambda each: each[0])[1]
    np.testing.assert_allclose(found, want, rtol=1e-3)
    assert not np.allclose(found, 1)
    even = pack.best(ws, mx.ones((3, 32)), layout(4, 32))
    np.testing.assert_allclose(np.array(even), np.ones(32), rtol=1e-5)
    many = mx.concatenate([x] * 20)  # 800 rows: every third decides
    np.testing.assert_allclose(
        np.array(pack.best(ws, many, layout(2, 32))), np.array(pack.best(ws, many[::3], layout(2, 32)))
    )


def test_products_remember_what_they_were_given() -> None:
    block = SimpleNamespace(qkv=lambda x: x + 1, mlp=SimpleNamespace(up=lambda x: 2 * x, down=3, gate_up=None))
    found = record(block)  # type: ignore[arg-type]
    assert set(found) == {"qkv", "up"} and block.qkv is found["qkv"] and block.mlp.down == 3
    out = block.qkv(mx.ones((2, 3, 4)))
    assert (
        out.shape == (2, 3, 4)
        and float(out[0, 0, 0]) == 2
        and found["qkv"].rows.shape == (6, 4)
        and found["up"].rows is None
    )


def part(role: str, slot: str = "", kind: str = "matrix") -> Any:
    return SimpleNamespace(role=role, path=f"l.{role}", slot=slot, kind=kind)


def scaled(
    norm: str = "rms", gated: bool = True, parallel: bool = False, mlp_bias: bool = False, shared: bool = False
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Arrays of a layer before and after, whose inputs differ by channel."""
    rng = np.random.default_rng(1)
    names = {"q": (8, 32), "k": (4, 32), "gate": (32, 32), "up": (32, 32), "down": (8, 32)}
    arrays = {f"l.{name}.weight": mx.array(rng.normal(size=shape).astype(np.float32)) for name, shape in names.items()}
    arrays |= {
        "l.attn_norm.weight": mx.ones(32) * 0.5,
        "l.mlp_norm.weight": mx.ones(32) * 2,
        "l.attn_norm.bias": mx.ones(32) * 3,
    }
    before = {name: np.array(a, np.float64) for name, a in arrays.items()}
    parts = [
        part("q", "qkv"),
        part("k", "qkv"),
        part("gate", "gate_up"),
        part("up", "gate_up"),
        part("down", "down"),
        part("attn_norm", kind="norm"),
        part("mlp_norm", kind="norm"),
    ]
    if shared:
        parts[-1].path = parts[-2].path
    config = SimpleNamespace(parallel=parallel, norm=norm, gated=gated, mlp_bias=mlp_bias)
    inputs = {name: Recorder(lambda x: x) for name in ("qkv", "gate_up", "down")}
    for i, each in enumerate(inputs.values()):
        each.rows = mx.array((rng.normal(size=(20, 32)) * np.exp(2 * rng.normal(size=32) + i)).astype(np.float32))
    scale_channels(arrays, parts, config, inputs, layout(2, 32))  # type: ignore[arg-type]
    return before, {name: np.array(a, np.float64) for name, a in arrays.items()}


def test_what_is_scaled_up_is_divided_before_it() -> None:
    for norm, offset in (("rms", 0.0), ("rms+1", 1.0)):
        before, after = scaled(norm)
        for name, readers in (("attn_norm", ("q", "k")), ("mlp_norm", ("gate",))):
            scales = (before[f"l.{name}.weight"] + offset) / (after[f"l.{name}.weight"] + offset)
            assert not np.allclose(scales, 1)
            for reader in readers:
                np.testing.assert_allclose(
                    after[f"l.{reader}.weight"], before[f"l.{reader}.weight"] * scales, rtol=1e-4
                )
        down = after["l.down.weight"] / before["l.down.weight"]
        np.testing.assert_allclose(down, np.broadcast_to(down[0], down.shape), rtol=1e-4)
        mlp = (before["l.mlp_norm.weight"] + offset) / (after["l.mlp_norm.weight"] + offset)
        np.testing.assert_allclose(after["l.up.weight"], before["l.up.weight"] * mlp / down[0][:, None], rtol=1e-3)
        bias = (before["l.attn_norm.weight"] + offset) / (after["l.attn_norm.weight"] + offset)
        np.testing.assert_allclose(after["l.attn_norm.bias"], before["l.attn_norm.bias"] / bias, rtol=1e-4)


def test_what_cannot_be_scaled_stays() -> None:
    def same(name: str, **more: Any) -> bool:
        before, after = scaled(**more)
        return bool(np.array_equal(before[f"l.{name}.weight"], after[f"l.{name}.weight"]))

    assert not same("down") and not same("q") and not same("q", parallel=True)
    assert same("down", gated=False) and same("down", mlp_bias=True) and not same("q", gated=False)
    assert (
        same("q", parallel=True, shared=True)
        and same("attn_norm", parallel=True, shared=True)
        and not same("q", shared=True)
    )


# -- what is measured and written --------------------------------------------------------------------------------------


def test_windows_of_a_text_are_whole() -> None:
    tokenizer: Any = SimpleNamespace(encode=lambda text: list(range(len(text))))
    config: Any = SimpleNamespace(vocab_size=1000, context=4096)
    found = measure.windows(tokenizer, config, "x" * (4 * 128 + 5))
    assert found.shape == (4, 128) and found.tolist() == np.arange(512).reshape(4, 128).tolist()
    narrow = SimpleNamespace(vocab_size=20, context=5)
    assert measure.windows(tokenizer, narrow, "x" * 60).tolist() == np.arange(20).reshape(4, 5).tolist()  # type: ignore[arg-type]
    for count, size in ((511, 128), (0, 128)):
        with pytest.raises(DataError, match=f"at least {4 * size} tokens to measure with, got {count}"):
            measure.windows(tokenizer, config, "x" * count)
    logits = np.random.default_rng(0).normal(size=(3, 9))
    np.testing.assert_allclose(
        measure.logprobs(mx.array(logits.astype(np.float32))),
        logits - np.logaddexp.reduce(logits, axis=1, keepdims=True),
        rtol=1e-4,
    )
    worst = QuantizationReport(
        Path(), 4.5, 1, 2, 3, 0.1, (0.0, 0.2), 0.0, 1.0, 1.0, Estimate(0.0, 0.0), {str(i): i % 4 for i in range(8)}
    ).worst
    assert [error for _, error in worst] == [3, 3, 2, 2, 1] and [name for name, _ in worst[:2]] == ["3", "7"]


def test_rows_go_through_a_layer_some_at_a_time() -> None:
    seen: list[tuple[int, ...]] = []

    def block(x: mx.array, context: Any, *rest: Any) -> mx.array:
        seen.append(x.shape)
        assert context.lengths.tolist() == [x.shape[1]] * x.shape[0] and rest == (None, None)
        return x * 2

    layer: Any = SimpleNamespace(block=block, rotations=[])
    x = mx.arange(60).reshape(5, 4, 3).astype(mx.float32)
    assert mx.array_equal(measure.forward(layer, x, rows=2), 2 * x) and seen == [(2, 4, 3), (2, 4, 3), (1, 4, 3)]
    seen.clear()
    assert mx.array_equal(measure.forward(layer, x), 2 * x) and seen == [(5, 4, 3)]


def greedy(costs: dict[str, float], sizes: dict[str, int], layout: PackedLayout) -> dict[str, int]:
    """`allocate` by looking at every matrix again before each step; one whose step is too dear stays as it is."""
    low = lowest(layout).bits
    bits, open_ = dict.fromkeys(costs, low), {path for path in costs if low < BITS[-1]}
    while open_:
        gains = {}
        for path in open_:
            then = BITS[BITS.index(bits[path]) + 1]
            saved = costs[path] * (4.0 ** (low - bits[path]) - 4.0 ** (low - then))
            gains[path] = (saved / (sizes[path] * (then - bits[path])), then)
        path = max(open_, key=lambda p: gains[p][0])
        raised = bits | {path: gains[path][1]}
        if sum(sizes[p] * b for p, b in raised.items()) > layout.bits * sum(sizes.values()):
            open_.remove(path)
            continue
        bits = raised
        open_ -= {path} if bits[path] == BITS[-1] else set()
    return bits


@pytest.mark.parametrize("budget", BITS)
def test_the_budget_goes_step_by_step_to_what_saves_most_a_bit(budget: int) -> None:
    random, layout = np.random.default_rng(budget), PackedLayout(32, budget, "affine")
    for _ in range(20):
        costs = {f"m{i}": float(cost) for i, cost in enumerate(np.exp(random.normal(size=9) * 2))}
        sizes = {path: int(random.integers(1, 40)) * 32 for path in costs}
        assert {path: how.bits for path, how in allocate(costs, sizes, layout).items()} == greedy(costs, sizes, layout)


def test_windows_are_embedded_with_the_scale_and_the_learned_positions() -> None:
    table = mx.array([[1, 2], [3, 4], [5, 6]], mx.float16)
    tokens = mx.array([[2, 0, 0], [1, 1, 2]])
    positions = mx.array([[10, 20], [30, 40], [50, 60], [70, 80]], mx.float16)
    want = np.array([[[5, 6], [1, 2], [1, 2]], [[3, 4], [3, 4], [5, 6]]]) * 0.5
    for parts, more in (({}, 0), ({"positions": "wpe"}, np.array([[10, 20], [30, 40], [50, 60]]))):
        source: Any = SimpleNamespace(
            shape=SimpleNamespace(embed_scale=0.5), parts=parts, top=lambda part: {"wpe.weight": positions}
        )
        x = _embed(source, table, tokens)
        assert x.dtype == mx.float32 and np.array(x).tolist() == (want + more).tolist()


def test_a_head_scales_and_caps_its_logits() -> None:
    source: Any = SimpleNamespace(
        shape=SimpleNamespace(logit_scale=0.5, logit_softcap=None, norm="rms", eps=1e-5), path=lambda part: part
    )
    head, hidden = mx.array([[1.0, 2.0], [3.0, -1.0]]), mx.array([[3.0, 4.0]])
    plain = _logits(source, lambda x: x, head, hidden)  # type: ignore[arg-type]
    assert plain.tolist() == [[5.5, 2.5]]
    source.shape.logit_softcap = 2.0
    np.testing.assert_allclose(
        np.array(_logits(source, lambda x: x, head, hidden)), 2 * np.tanh(np.array([[2.75, 1.25]])), rtol=1e-5
    )  # type: ignore[arg-type]
    weight = {"norm.weight": mx.array([0.5, 2.0]), "norm.bias": mx.array([1.0, 1.0])}
    for kind, gain in (("rms", [0.5, 2.0]), ("rms+1", [1.5, 3.0])):
        source.shape.norm = kind
        found = _norm(source, weight)
        assert isinstance(found, RMSNorm) and found.weight.tolist() == gain and found.eps == 1e-5
    source.shape.norm = "layer"
    assert np.allclose(np.array(_norm(source, weight)(mx.array([[1.0, 3.0]]))), [[0.5, 3.0]], atol=1e-3)


def test_numbers_that_are_none_are_said_with_their_place() -> None:
    source: Any = SimpleNamespace(info=SimpleNamespace(name="m"))
    x = mx.ones((2, 3, 4))
    assert _finite(source, x, 1) is x
    wrong = mx.where((mx.arange(3) == 1)[None, :, None], mx.inf, x)
    for layer, place in ((0, "the embedding is the first"), (2, "layer 2 is the first")):
        with pytest.raises(NotFinite, match=rf"m gives NaN after token 2 \({place}\): its weights are damaged"):
            _finite(source, wrong, layer)


def test_which_matrices_of_a_layer_are_packed() -> None:
    arrays = {
        "l.q.weight": mx.zeros((2, 64)),
        "l.odd.weight": mx.zeros((2, 65)),
        "l.n.weight": mx.zeros((2, 64)),
        "l.e.weight": mx.zeros((3, 2, 64)),
    }
    parts = [part("q"), part("odd"), part("n", kind="norm"), part("e", kind="experts")]
    assert matrices(parts, arrays, layout(4)) == {"l.q": "q", "l.e": "e"}


def test_a_process_is_known_by_its_number() -> None:
    assert _alive(str(os.getpid())) and _alive("word") and _alive("9" * 30) and not _alive(str(2**22 + 5))


def test_a_folder_grows_shard_by_shard(tmp_path: Path) -> None:
    written: list[Path] = []
    source: Any = SimpleNamespace(
        spelled=lambda arrays: {f"m.{name}": a for name, a in arrays.items()},
        spell=lambda path: f"m.{path}",
        config={"model_type": "x"},
        write_tokenizer=written.append,
    )
    out = _Folder(source, tmp_path, layout(4), 2)
    out.write(
        {"a.weight": mx.zeros((4, 8), mx.uint32), "a.scales": mx.zeros((4, 2)), "n.weight": mx.zeros(3)},
        {"a": layout(4)},
        100,
    )
    out.write({"b.weight": mx.zeros((2, 8), mx.uint32), "c.weight": mx.zeros((2, 5))}, {"b": layout(8)}, 50)
    out.close()
    assert (out.nbytes, out.weights, out.packed) == (4 * (32 + 8 + 3) + 4 * (16 + 10), 150, 2) and written == [tmp_path]
    assert sorted(f.name for f in tmp_path.glob("*.safetensors")) == [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ]
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert index["metadata"] == {"total_size": out.nbytes} and index["weight_map"] == {
        "m.a.weight": "model-00001-of-00002.safetensors",
        "m.a.scales": "model-00001-of-00002.safetensors",
        "m.n.weight": "model-00001-of-00002.safetensors",
        "m.b.weight": "model-00002-of-00002.safetensors",
        "m.c.weight": "model-00002-of-00002.safetensors",
    }
    config = json.loads((tmp_path / "config.json").read_text())
    packing = {**asdict(layout(4)), "m.b": asdict(layout(8)), "m.c": False}
    assert config == {"model_type": "x", "quantization": packing, "quantization_config": packing}
    assert mx.load(str(tmp_path / "model-00001-of-00002.safetensors"), return_metadata=True)[1] == {"format": "mlx"}
