"""Adapter directories as they are read and placed: what is meant where a file says nothing, and what does not fit."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import likely.models as models
from likely.engine.adapters import adapters, full, lora, sites
from likely.engine.adapters.adapters import StoredAdapter, place
from likely.engine.adapters.config import configure
from likely.engine.adapters.factors import Factors, fresh, largest, shapes
from likely.engine.errors import CheckpointError, ParameterError
from likely.engine.tune.run import Set, TrainingRun, prepare
from likely.engine.tune.samples import TrainingSample
from likely.metal import mx
from likely.models import Transformer
from likely.models.parts import ModelPart
from tests.engine import tiny

ARRAYS = {"a": mx.zeros((2,))}
CONFIG = tiny.LLAMA | {
    "vocab_size": 61, "hidden_size": 32, "num_hidden_layers": 3, "intermediate_size": 48, "head_dim": 8,
    "tie_word_embeddings": True,
}  # fmt: skip


def model() -> Transformer:
    built: Transformer = models.build(CONFIG, {name: mx.array(w) for name, w in tiny.weights(CONFIG).items()})
    return built


def directory(folder: Path, config: dict[str, Any], arrays: dict[str, mx.array] | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps(config))
    mx.save_safetensors(str(folder / "adapters.safetensors"), arrays or ARRAYS)
    return folder


def test_what_is_meant_where_a_directory_says_nothing(tmp_path: Path) -> None:
    plain = adapters.read(directory(tmp_path / "a", {"lora_parameters": {"scale": 3}}))
    assert (plain.kind, plain.scale, plain.layers, plain.dropout, plain.model, plain.data) == (
        "lora", 3.0, -1, 0.0, "", "",
    )  # fmt: skip
    assert (plain.scales, plain.tied, plain.pissa, list(plain.arrays)) == ({}, True, False, ["a"])
    said = {
        "fine_tune_type": "dora", "num_layers": 4, "model": "m", "data": "d",
        "lora_parameters": {"scale": 2.5, "dropout": 0.25},
    }  # fmt: skip
    every = adapters.read(directory(tmp_path / "b", said))
    assert (every.kind, every.scale, every.layers, every.dropout, every.model, every.data) == (
        "dora", 2.5, 4, 0.25, "m", "d",
    )  # fmt: skip
    whole = adapters.read(directory(tmp_path / "c", {"fine_tune_type": "full", "lora_parameters": None}))
    assert (whole.kind, whole.scale, whole.dropout) == ("full", 1.0, 0.0)
    for config, line in (
        ({}, "lora_parameters.scale is missing"),
        ({"fine_tune_type": "dora", "lora_parameters": {}}, "scale is missing"),
        ({"fine_tune_type": "other", "lora_parameters": {"scale": 1}}, "must be lora, dora or full, got 'other'"),
    ):
        with pytest.raises(CheckpointError, match=line):
            adapters.read(directory(tmp_path / "d", config))
    (tmp_path / "d" / "adapters.safetensors").unlink()
    with pytest.raises(CheckpointError, match="has neither"):
        adapters.read(tmp_path / "d")
    with pytest.raises(CheckpointError, match="there is no adapter directory"):
        adapters.read(tmp_path / "none")


def test_options_are_ours_where_a_step_is_said(tmp_path: Path) -> None:
    said = {"rate": 0.5, "rank": "x", "plus": 3.0, "other": 1, "lora_parameters": {"keys": ["q_proj", "mlp"]}}
    assert adapters.options(directory(tmp_path / "a", said)) == ({"rate": 0.5, "modules": ("q_proj", "mlp")}, False)
    ours = {"step": 3, "rate": 0.5, "plus": 3.0, "other": 1}
    assert adapters.options(directory(tmp_path / "b", ours)) == ({"rate": 0.5, "lora_plus_ratio": 3.0}, True)
    with pytest.raises(ParameterError, match="rank"):
        adapters.options(directory(tmp_path / "c", {"step": 3, "rank": "x"}))
    assert adapters.options(directory(tmp_path / "d", {"lora_parameters": {"keys": []}})) == ({}, False)


def part_of(built: Transformer, end: str) -> ModelPart:
    return next(site for site in sites.sites(built) if site.path.endswith(end))


def stored(arrays: dict[str, mx.array], **how: Any) -> StoredAdapter:
    return StoredAdapter(
        **{"kind": "lora", "arrays": arrays, "scale": 2.0, "layers": -1, "dropout": 0.0, "model": "", **how}
    )


def random(*shape: int) -> mx.array:
    return mx.array(np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32))


def test_factors_biases_and_whole_weights_are_placed() -> None:
    built = model()
    q = part_of(built, "layers.1.self_attn.q_proj")
    a, b, bias, shift = random(32, 3), random(3, 32), random(32), random(32) * 0.5
    arrays = {f"{q.path}.lora_a": a, f"{q.path}.lora_b": b, f"{q.path}.bias": bias, f"{q.path}.shift": shift}
    placed = place(built, stored(arrays, scales={q.path: 5.0}, tied=False))
    assert isinstance(placed, lora.Adapter)
    (f,) = placed.factors.values()
    assert (f.scale, f.rank, f.tied) == (5.0, 3, False) and f.shift is not None
    assert np.array(f.shift) == pytest.approx(np.array(bias) + 5 * np.array(shift), abs=1e-6)
    only = place(built, stored({f"{q.path}.lora_a": a, f"{q.path}.lora_b": b, f"{q.path}.bias": bias}))
    assert isinstance(only, lora.Adapter) and np.array(only.factors[q.path].shift) == pytest.approx(np.array(bias))
    assert only.factors[q.path].scale == 2.0
    whole = random(32, 32)
    changed = place(built, stored({f"{q.path}.whole": whole}))
    assert isinstance(changed, lora.Adapter)
    assert np.array(changed.factors[q.path].delta()) == pytest.approx(np.array(whole - q.numbers()), abs=1e-5)
    table = part_of(built, "embed_tokens")
    rows = random(61, 32)
    embedded = place(built, stored({f"{table.path}.whole": rows}))
    assert isinstance(embedded, lora.Adapter)
    assert np.array(embedded.factors[table.path].delta()) == pytest.approx(np.array(rows - table.numbers()), abs=1e-5)


def test_a_base_that_was_saved_is_this_one_or_refused() -> None:
    built = model()
    q = part_of(built, "layers.0.self_attn.q_proj")
    a, b, base = random(32, 2), random(2, 32), q.numbers()
    largest_ = float(mx.max(mx.abs(base)))
    factors = {f"{q.path}.lora_a": a, f"{q.path}.lora_b": b}
    at = mx.zeros((32, 32)).at[3, 4].add(mx.array(1.0))
    place(built, stored({**factors, f"{q.path}.base": base + 0.0099 * largest_ * at}))
    with pytest.raises(
        CheckpointError, match=r"was trained on another base: its .*q_proj is not the one of this model"
    ):
        place(built, stored({**factors, f"{q.path}.base": base - 0.0101 * largest_ * at}))
    k = part_of(built, "layers.0.self_attn.k_proj")
    unchanged = place(built, stored({**factors, f"{k.path}.base": k.numbers()}))
    assert isinstance(unchanged, lora.Adapter) and list(unchanged.factors) == [q.path]
    with pytest.raises(CheckpointError, match="holds no tensors"):
        place(built, stored({f"{k.path}.base": k.numbers()}))


@pytest.mark.parametrize(
    ("leaves", "how", "line"),
    [
        ({"lora_a": (32, 2)}, {}, "lora_b is missing"),
        ({"lora_b": (2, 32)}, {}, "lora_a is missing"),
        ({"lora_a": (32, 2), "lora_b": (2, 32)}, {"kind": "dora"}, "q_proj.m is missing"),
        ({"lora_a": (32,), "lora_b": (2, 32)}, {}, r"lora_a is \[32\], not of 2 axes"),
        ({"lora_a": (31, 2), "lora_b": (2, 32)}, {}, r"lora_a is \[31, 2\] where this one needs \[32, 2\]"),
        ({"lora_a": (32, 2), "lora_b": (3, 32)}, {}, r"lora_b is \[3, 32\] where this one needs \[2, 32\]"),
        ({"lora_a": (32, 2), "lora_b": (2, 32), "bias": (31,)}, {}, r"q_proj.bias is \[31\]"),
        ({"lora_a": (32, 2), "lora_b": (2, 32), "shift": (31,)}, {}, r"q_proj.bias is \[31\]"),
        (
            {"lora_a": (32, 2), "lora_b": (2, 32), "m": (32,), "bias": (32,)},
            {"kind": "dora"},
            "a bias of .* is not supported",
        ),
        ({"lora_a": (32, 2), "lora_b": (2, 32), "m": (31,)}, {"kind": "dora"}, r"q_proj.m is \[31\]"),
        ({"lora_a": (32, 2), "lora_b": (2, 32), "m": (1,)}, {"kind": "dora"}, r"q_proj\.m"),
        ({"lora_a": (32, 2), "lora_b": (2, 32), "m": (32, 1)}, {"kind": "dora"}, r"q_proj\.m"),
        ({"whole": (32, 31)}, {}, r"q_proj.weight is \[32, 31\]"),
        ({"base": (31, 32), "whole": (32, 32)}, {}, r"q_proj.weight is \[31, 32\]"),
        (
            {"other": (2,)},
            {"model": "its base"},
            r"q_proj.other \[2\] has no place here \(it was trained on its base\)",
        ),
        ({"other": (2,)}, {}, r"has no place here$"),
    ],
)
def test_what_does_not_fit_is_named_with_both_shapes(
    leaves: dict[str, tuple[int, ...]], how: dict[str, Any], line: str
) -> None:
    built = model()
    q = part_of(built, "layers.0.self_attn.q_proj")
    with pytest.raises(CheckpointError, match=line):
        place(built, stored({f"{q.path}.{leaf}": random(*shape) for leaf, shape in leaves.items()}, **how))


def test_biases_and_magnitudes_are_of_matrices_alone() -> None:
    built = model()
    table = part_of(built, "embed_tokens")
    pair = {f"{table.path}.lora_a": random(61, 2), f"{table.path}.lora_b": random(2, 32)}
    place(built, stored(pair))
    with pytest.raises(CheckpointError, match=r"a bias of .*embed_tokens is not supported"):
        place(built, stored({**pair, f"{table.path}.bias": random(61)}))
    with pytest.raises(CheckpointError, match=r"DoRA on .*embed_tokens is not supported"):
        place(built, stored({**pair, f"{table.path}.m": random(61)}, kind="dora"))


# -- factors -----------------------------------------------------------------------------------------------------------


def test_fresh_factors_are_uniform_and_nothing_or_the_largest_directions() -> None:
    built = model()
    q, table = part_of(built, "layers.0.mlp.down_proj"), part_of(built, "embed_tokens")
    assert shapes(q, 4) == ((48, 4), (4, 32)) and shapes(table, 4) == ((61, 4), (4, 32))
    for site, inputs in ((q, 48), (table, 61)):
        f = fresh(site, 4, 2.0, dora=False, pissa=False, key=mx.random.key(0))
        a, bound = np.array(f.a), 1 / np.sqrt(inputs)
        assert np.abs(a).max() <= bound and a.std() == pytest.approx(bound / np.sqrt(3), rel=0.15)
        assert (np.array(f.b) == 0).all() and (f.m, f.a0, f.norms) == (None, None, None) and f.rank == 4
    dora = fresh(q, 4, 2.0, dora=True, pissa=False, key=mx.random.key(0))
    assert dora.m is not None
    assert np.array(dora.m) == pytest.approx(np.linalg.norm(np.array(q.numbers()), axis=1), rel=1e-5)
    pissa = fresh(q, 3, 2.0, dora=False, pissa=True, key=mx.random.key(0))
    u, s, vt = np.linalg.svd(np.array(q.numbers(), np.float64), full_matrices=False)
    assert np.array(largest(q, 3, 2.0)[1].T @ largest(q, 3, 2.0)[0].T) * 2 == pytest.approx(
        u[:, :3] * s[:3] @ vt[:3], abs=1e-4
    )
    assert np.abs(np.array(pissa.delta())).max() < 1e-5 and pissa.rank == 6
    for rank in (0, 33):
        with pytest.raises(ParameterError, match=rf"rank must be 1 to 32 for .*, got {rank}"):
            fresh(q, rank, 1.0, dora=False, pissa=False, key=mx.random.key(0))
    fresh(q, 32, 1.0, dora=False, pissa=False, key=mx.random.key(0))
    for name in ("dora", "pissa"):
        with pytest.raises(ParameterError, match=rf"{name} goes with matrices, and .* is an embedding"):
            fresh(table, 2, 1.0, dora=name == "dora", pissa=name == "pissa", key=mx.random.key(0))


def test_a_change_and_its_norm_and_magnitude_are_numpys() -> None:
    built = model()
    q = part_of(built, "layers.0.mlp.down_proj")
    f = Factors(q, 1.5, random(48, 3), random(3, 32), weight=0.5)
    a, b, w = (np.array(each, np.float64) for each in (f.a, f.b, q.numbers()))
    change = 1.5 * b.T @ a.T
    assert np.array(f.delta()) == pytest.approx(0.5 * change, abs=1e-4)
    assert float(f.square()) == pytest.approx(float((change**2).sum()), rel=1e-4)
    f.measure()
    assert np.array(f.magnitude()) == pytest.approx(np.linalg.norm(w + change, axis=1), rel=1e-4)
    table = part_of(built, "embed_tokens")
    e = Factors(table, 1.5, random(61, 3), random(3, 32))
    assert np.array(e.delta()) == pytest.approx(1.5 * np.array(e.a) @ np.array(e.b), abs=1e-4)
    assert float(e.square()) == pytest.approx(float((np.array(e.delta()) ** 2).sum()), rel=1e-4)
    y, z = random(5, 32), random(5, 32) * 0.5
    f.shift = random(32)
    assert np.array(f.rescaled(y, z)) == pytest.approx(np.array(y + z + 0.5 * f.shift), abs=1e-5)
    f.shift, f.m = None, random(32)
    share = np.array(f.m) / np.linalg.norm(w + change, axis=1)
    assert np.array(f.rescaled(y, z)) == pytest.approx(share * np.array(y + z), rel=1e-3, abs=1e-4)


# -- other programs ----------------------------------------------------------------------------------------------------


def made(
    built: Transformer, rank: int = 2, scale: float = 2.0, kind: str = "lora", end: str = "q_proj"
) -> lora.Adapter:
    chosen = [site for site in sites.sites(built) if site.path.endswith(end)]
    return lora.create(chosen, rank=rank, scale=scale, kind=kind)


def test_alphas_are_by_the_end_of_a_path(tmp_path: Path) -> None:
    """As PEFT finds them: a pattern is the end of a path from a dot on, the first that fits."""
    wanted = {
        "a.q_proj": 4.0, "q_proj": 4.0, "aq_proj": 1.0, "m.layers.1.mlp": 8.0, "m.layers.1.mlp.up": 1.0, "x.y": 2.0,
        "z.x.y": 2.0, "xzy": 1.0,
    }  # fmt: skip
    said = {"peft_type": "LORA", "r": 1, "lora_alpha": 1, "alpha_pattern": {"q_proj": 4, "layers.1.mlp": 8, "x\\.y": 2}}
    (tmp_path / "adapter_config.json").write_text(json.dumps(said))
    factors = {
        f"base_model.model.{path}.lora_{leaf}.weight": mx.ones(shape)
        for path in wanted for leaf, shape in (("A", (1, 3)), ("B", (2, 1)))
    }  # fmt: skip
    mx.save_safetensors(str(tmp_path / "adapter_model.safetensors"), factors)
    assert adapters.read(tmp_path).scales == wanted


def test_a_training_begins_at_a_stored_adapter(tmp_path: Path) -> None:
    before = made(model())
    before.set({name: random(*array.shape) for name, array in before.parameters().items()})
    adapters.save(tmp_path, before, model(), {"kind": "lora"})
    rows = Set([TrainingSample((1, 2, 3), (False, True, True), "a")])
    said = {"warm_start": str(tmp_path), "rank": 2, "scale": 2.0, "modules": ("q_proj",), "layers": -1}

    def begun(**other: Any) -> TrainingRun:
        return prepare(model(), configure({**said, **other}), rows, tmp_path / "out")

    held, wanted = begun(scale=2.0 * (1 + 5e-7)).trained.parameters(), before.parameters()
    assert held.keys() == wanted.keys() and all(np.array_equal(held[name], wanted[name]) for name in wanted)
    for other, words in (
        ({"rank": 3}, r"q_proj.lora_a is \[32, 3\], and \[32, 2\] there; train with its rank"),
        ({"modules": ("k_proj",)}, r"k_proj.lora_a is \[32, 2\], and nothing there"),
        ({"layers": 1}, r"another adapter than is trained"),
        ({"scale": 2.00001}, "has scale 2 at .*q_proj, and 2.00001 is trained"),
        ({"kind": "dora"}, "is of kind lora, and dora is trained"),
    ):
        with pytest.raises(ParameterError, match=words):
            begun(**other)


def test_what_is_stored_says_how_many_layers_from_the_last_it_reaches(tmp_path: Path) -> None:
    for layers, wanted in ((1, 1), (2, 2), (-1, 3)):
        built = model()
        adapters.save(tmp_path, full.weights(built, layers), built, {"kind": "full"})
        assert adapters.read(tmp_path).layers == wanted
    for end, wanted in (("1.self_attn.q_proj", 2), ("q_proj", 3), ("embed_tokens", 0)):
        built = model()
        adapters.save(tmp_path, made(built, end=end), built, {"kind": "lora"})
        assert adapters.read(tmp_path).layers == wanted
