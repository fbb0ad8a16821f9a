"""Adapter directories as they are read and placed: what is meant where a file says nothing, and what does not fit."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import likely.models as models
from likely.engine.base.errors import CheckpointError, LikelyError, ParameterError
from likely.engine.train.data.samples import TrainingSample
from likely.engine.train.run.run import Set, TrainingRun, prepare
from likely.engine.weights.adapters import adapters, full, lora, sites
from likely.engine.weights.adapters.adapters import StoredAdapter, build
from likely.engine.weights.adapters.config import configure
from likely.engine.weights.adapters.factors import Factors, fresh, largest, shapes
from likely.metal import mx
from likely.models import Transformer
from likely.models.modules.parts import ModelPart
from tests.engine import tiny

CONFIG = tiny.LLAMA | {
    "vocab_size": 61, "hidden_size": 32, "num_hidden_layers": 3, "intermediate_size": 48, "head_dim": 8,
    "tie_word_embeddings": True,
}  # fmt: skip
Q = "layers.0.self_attn.q_proj"


def model() -> Transformer:
    built: Transformer = models.build(CONFIG, {name: mx.array(w) for name, w in tiny.weights(CONFIG).items()})
    return built


def directory(folder: Path, config: dict[str, Any] | str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / adapters.CONFIG).write_text(config if isinstance(config, str) else json.dumps(config))
    mx.save_safetensors(str(folder / adapters.WEIGHTS), {"a": mx.zeros((2,))})
    return folder


def part_of(built: Transformer, end: str) -> ModelPart:
    return next(site for site in sites.sites(built) if site.path.endswith(end))


def stored(path: str, leaves: dict[str, mx.array], **how: Any) -> StoredAdapter:
    plain = {"kind": "lora", "scale": 2.0, "layers": -1, "dropout": 0.0, "model": ""}
    return StoredAdapter(arrays={f"{path}.{leaf}": array for leaf, array in leaves.items()}, **{**plain, **how})


def random(*shape: int) -> mx.array:
    return mx.array(np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32))


def near(found: mx.array, wanted: Any, abs: float = 1e-5) -> bool:
    return bool(np.array(found) == pytest.approx(np.array(wanted), abs=abs))


# -- what is read ------------------------------------------------------------------------------------------------------


def test_what_is_meant_where_a_directory_says_nothing(tmp_path: Path) -> None:
    def told(config: dict[str, Any]) -> tuple[Any, ...]:
        found = adapters.read(directory(tmp_path, config))
        assert (found.scales, found.tied, found.pissa, list(found.arrays)) == ({}, True, False, ["a"])
        return found.kind, found.scale, found.layers, found.dropout, found.model, found.data

    assert told({"lora_parameters": {"scale": 3}}) == ("lora", 3.0, -1, 0.0, "", "")
    said = {"fine_tune_type": "dora", "num_layers": 4, "model": "m", "data": "d"}
    assert told(said | {"lora_parameters": {"scale": 2.5, "dropout": 0.25}}) == ("dora", 2.5, 4, 0.25, "m", "d")
    assert told({"fine_tune_type": "full", "lora_parameters": None}) == ("full", 1.0, -1, 0.0, "", "")
    for config, line in (
        ({}, "lora_parameters.scale is missing"),
        ({"fine_tune_type": "dora", "lora_parameters": {}}, "scale is missing"),
        ({"fine_tune_type": "other", "lora_parameters": {"scale": 1}}, "must be lora, dora or full, got 'other'"),
    ):
        with pytest.raises(CheckpointError, match=line):
            adapters.read(directory(tmp_path, config))
    (tmp_path / adapters.WEIGHTS).unlink()
    (tmp_path / "other").mkdir()
    for folder, line in (
        (tmp_path, "has neither"),
        (tmp_path / "none", "there is no adapter directory"),
        (tmp_path / "other", r"no adapter_config\.json: it is not an adapter's directory, .* adapters\.safetensors"),
    ):
        with pytest.raises(CheckpointError, match=line):
            adapters.read(folder)


def test_options_are_ours_where_a_step_is_said(tmp_path: Path) -> None:
    """Ours of another type are refused, but a whole number is a number; of others' configs our types are taken."""
    said = {"rate": 1, "valid": 0, "plus": 2.0, "rank": 4, "nobody's": [3], "lora_parameters": {"keys": ["q_proj"]}}
    known = {"rate": 1.0, "valid": 0.0, "rank": 4, "modules": ("q_proj",)}
    for config, found in (
        (said | {"step": 5}, (known | {"lora_plus_ratio": 2.0}, True)),
        (said | {"seed": None, "loss": 3}, (known, False)),
        ({"rate": 0.5, "rank": "x", "lora_parameters": {"keys": []}}, ({"rate": 0.5}, False)),
    ):  # fmt: skip
        assert adapters.options(directory(tmp_path, config)) == found
    for damaged, line in (
        ('{"step": 5, "rank": "4"}', "rank must be a whole number"), ('["step"]', "an object expected"),
        ('{"step": 5, "lora_parameters": {"keys": 3}}', "keys"), ("{", "cannot read"),
    ):  # fmt: skip
        with pytest.raises(LikelyError, match=line):
            adapters.options(directory(tmp_path, damaged))


def test_alphas_are_by_the_end_of_a_path(tmp_path: Path) -> None:
    """As PEFT finds them: a pattern is the end of a path from a dot on, the first that fits."""
    wanted = {
        "a.q_proj": 4.0, "q_proj": 4.0, "aq_proj": 1.0, "m.layers.1.mlp": 8.0, "m.layers.1.mlp.up": 1.0, "x.y": 2.0,
        "z.x.y": 2.0, "xzy": 1.0,
    }  # fmt: skip
    said = {"peft_type": "LORA", "r": 1, "lora_alpha": 1, "alpha_pattern": {"q_proj": 4, "layers.1.mlp": 8, "x\\.y": 2}}
    (tmp_path / adapters.CONFIG).write_text(json.dumps(said))
    factors = {
        f"base_model.model.{path}.lora_{leaf}.weight": mx.ones(shape)
        for path in wanted for leaf, shape in (("A", (1, 3)), ("B", (2, 1)))
    }  # fmt: skip
    mx.save_safetensors(str(tmp_path / "adapter_model.safetensors"), factors)
    assert adapters.read(tmp_path).scales == wanted


def made(built: Transformer, end: str = "q_proj") -> lora.Adapter:
    return lora.create([s for s in sites.sites(built) if s.path.endswith(end)], rank=2, scale=2.0)


def test_what_is_stored_says_how_many_layers_from_the_last_it_reaches(tmp_path: Path) -> None:
    built = model()
    reaches = [(full.weights(built, layers), n) for layers, n in ((1, 1), (2, 2), (-1, 3))]
    ends = (("1.self_attn.q_proj", 2), ("q_proj", 3), ("embed_tokens", 0))
    for trained, wanted in [*reaches, *((made(built, end), n) for end, n in ends)]:
        adapters.save(tmp_path, trained, built, {"kind": "lora" if isinstance(trained, lora.Adapter) else "full"})
        assert adapters.read(tmp_path).layers == wanted


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


# -- where it is placed ------------------------------------------------------------------------------------------------


def test_factors_biases_and_whole_weights_are_placed() -> None:
    built = model()
    q, table = part_of(built, "layers.1.self_attn.q_proj"), part_of(built, "embed_tokens")
    pair = {"lora_a": random(32, 3), "lora_b": random(3, 32)}
    bias, shift = random(32), random(32) * 0.5

    def placed(site: ModelPart, leaves: dict[str, mx.array], **how: Any) -> Factors:
        found = build(built, stored(site.path, leaves, **how))
        assert isinstance(found, lora.Adapter) and list(found.factors) == [site.path]
        return found.factors[site.path]

    f = placed(q, {**pair, "bias": bias, "shift": shift}, scales={q.path: 5.0}, tied=False)
    assert (f.scale, f.rank, f.tied) == (5.0, 3, False) and near(f.shift, np.array(bias) + 5 * np.array(shift))
    only = placed(q, {**pair, "bias": bias})
    assert near(only.shift, bias) and only.scale == 2.0
    for site, whole in ((q, random(32, 32)), (table, random(61, 32))):
        assert near(placed(site, {"whole": whole}).delta(), whole - site.numbers())


def test_a_base_that_was_saved_is_this_one_or_refused() -> None:
    built = model()
    q, k = part_of(built, Q), part_of(built, "layers.0.self_attn.k_proj")
    pair, base = {"lora_a": random(32, 2), "lora_b": random(2, 32)}, q.numbers()
    at = float(mx.max(mx.abs(base))) * mx.zeros((32, 32)).at[3, 4].add(mx.array(1.0))
    build(built, stored(q.path, {**pair, "base": base + 0.0099 * at}))
    with pytest.raises(CheckpointError, match=r"on another base: its .*q_proj is not the one of this model"):
        build(built, stored(q.path, {**pair, "base": base - 0.0101 * at}))
    with pytest.raises(CheckpointError, match="holds no tensors"):
        build(built, stored(k.path, {"base": k.numbers()}))


AB = {"lora_a": (32, 2), "lora_b": (2, 32)}
TABLE = {"lora_a": (61, 2), "lora_b": (2, 32)}
NOT_FITTING: list[tuple[str, dict[str, tuple[int, ...]], dict[str, Any], str]] = [
    (Q, {"lora_a": (32, 2)}, {}, "lora_b is missing"), (Q, {"lora_b": (2, 32)}, {}, "lora_a is missing"),
    (Q, AB, {"kind": "dora"}, "q_proj.m is missing"),
    (Q, AB | {"lora_a": (32,)}, {}, r"lora_a is \[32\], not of 2 axes"),
    (Q, AB | {"lora_a": (31, 2)}, {}, r"lora_a is \[31, 2\] where this one needs \[32, 2\]"),
    (Q, AB | {"lora_b": (3, 32)}, {}, r"lora_b is \[3, 32\] where this one needs \[2, 32\]"),
    (Q, AB | {"bias": (31,)}, {}, r"q_proj.bias is \[31\]"), (Q, AB | {"shift": (31,)}, {}, r"q_proj.bias is \[31\]"),
    (Q, AB | {"m": (32,), "bias": (32,)}, {"kind": "dora"}, "a bias of .* is not supported"),
    *((Q, AB | {"m": shape}, {"kind": "dora"}, r"q_proj\.m") for shape in ((31,), (1,), (32, 1))),
    (Q, {"whole": (32, 31)}, {}, r"q_proj.weight is \[32, 31\]"),
    (Q, {"base": (31, 32), "whole": (32, 32)}, {}, r"q_proj.weight is \[31, 32\]"),
    (Q, {"other": (2,)}, {"model": "its base"}, r"q_proj.other \[2\] has no place here \(it was trained on its base\)"),
    (Q, {"other": (2,)}, {}, r"has no place here$"),
    ("embed_tokens", TABLE | {"bias": (61,)}, {}, r"a bias of .*embed_tokens is not supported"),
    ("embed_tokens", TABLE | {"m": (61,)}, {"kind": "dora"}, r"DoRA on .*embed_tokens is not supported"),
]  # fmt: skip


@pytest.mark.parametrize(("end", "leaves", "how", "line"), NOT_FITTING)
def test_what_does_not_fit_is_named_with_both_shapes(
    end: str, leaves: dict[str, tuple[int, ...]], how: dict[str, Any], line: str
) -> None:
    built = model()
    path = part_of(built, end).path
    with pytest.raises(CheckpointError, match=line):
        build(built, stored(path, {leaf: random(*shape) for leaf, shape in leaves.items()}, **how))


# -- factors -----------------------------------------------------------------------------------------------------------


def test_fresh_factors_are_uniform_and_nothing_or_the_largest_directions() -> None:
    built = model()
    q, table = part_of(built, "layers.0.mlp.down_proj"), part_of(built, "embed_tokens")

    def begun(site: ModelPart, rank: int, **how: bool) -> Factors:
        return fresh(site, rank, 2.0, key=mx.random.key(0), **{"dora": False, "pissa": False, **how})

    for site, inputs in ((q, 48), (table, 61)):
        assert shapes(site, 4) == ((inputs, 4), (4, 32))
        f = begun(site, 4)
        a, bound = np.array(f.a), 1 / np.sqrt(inputs)
        assert np.abs(a).max() <= bound and a.std() == pytest.approx(bound / np.sqrt(3), rel=0.15)
        assert (np.array(f.b) == 0).all() and (f.m, f.a0, f.norms) == (None, None, None) and f.rank == 4
    assert near(begun(q, 4, dora=True).m, np.linalg.norm(np.array(q.numbers()), axis=1), 1e-4)
    u, s, vt = np.linalg.svd(np.array(q.numbers(), np.float64), full_matrices=False)
    a, b = largest(q, 3, 2.0)
    assert near(2 * b.T @ a.T, u[:, :3] * s[:3] @ vt[:3], 1e-4)
    pissa = begun(q, 3, pissa=True)
    assert np.abs(np.array(pissa.delta())).max() < 1e-5 and pissa.rank == 6 and begun(q, 32).rank == 32
    for rank in (0, 33):
        with pytest.raises(ParameterError, match=rf"rank must be 1 to 32 for .*, got {rank}"):
            begun(q, rank)
    for name in ("dora", "pissa"):
        with pytest.raises(ParameterError, match=rf"{name} goes with matrices, and .* is an embedding"):
            begun(table, 2, **{name: True})


def test_a_change_and_its_norm_and_magnitude_are_numpys() -> None:
    built = model()
    q, table = part_of(built, "layers.0.mlp.down_proj"), part_of(built, "embed_tokens")
    f, e = Factors(q, 1.5, random(48, 3), random(3, 32), weight=0.5), Factors(table, 1.5, random(61, 3), random(3, 32))
    a, b, w = (np.array(each, np.float64) for each in (f.a, f.b, q.numbers()))
    change = 1.5 * b.T @ a.T
    assert near(f.delta(), 0.5 * change, 1e-4) and near(e.delta(), 1.5 * np.array(e.a) @ np.array(e.b), 1e-4)
    assert float(f.square()) == pytest.approx(float((change**2).sum()), rel=1e-4)
    assert float(e.square()) == pytest.approx(float((np.array(e.delta()) ** 2).sum()), rel=1e-4)
    f.measure()
    assert near(f.magnitude(), np.linalg.norm(w + change, axis=1), 1e-3)
    y, z = random(5, 32), random(5, 32) * 0.5
    f.shift = random(32)
    assert near(f.rescaled(y, z), y + z + 0.5 * f.shift)
    f.shift, f.m = None, random(32)
    assert near(f.rescaled(y, z), np.array(f.m) / np.linalg.norm(w + change, axis=1) * np.array(y + z), 1e-3)
