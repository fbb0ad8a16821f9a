"""Fits of a posterior: what is opened and read, what each kind is made of, and who may join an ensemble."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from likely.engine.base.errors import CheckpointError, DataError, ParameterError
from likely.engine.train.attach.stack import digest
from likely.engine.train.control import Stepped
from likely.engine.train.data import samples
from likely.engine.train.posterior import stored
from likely.engine.train.posterior.curvature_pass import collect
from likely.engine.train.posterior.evidence import best_precision, log_evidence
from likely.engine.train.posterior.fit import FittedAdapter, fit_laplace, fit_swag, join, open_adapter, read_rows
from likely.engine.train.posterior.moments import Moments
from likely.engine.train.posterior.posterior import Ensemble, Laplace, SwagPosterior
from likely.engine.train.run.run import Set, prepare
from likely.engine.train.run.trainer import train
from likely.engine.weights.adapters import adapters, lora, sites
from likely.engine.weights.sources.checkpoint import load
from likely.engine.weights.sources.fetch.progress import silent
from likely.metal import mx
from tests.engine import tiny

CONFIG = tiny.LLAMA | {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2, "head_dim": 8}


def adapter_on(base: Any, folder: Path, seed: int, scale: float = 2.0, rank: int = 2, **said: Any) -> Path:
    """A directory with random factors on the attention's queries and the down projections."""
    chosen = sites.choose(sites.sites(base), -1, ["q_proj", "mlp.down_proj"], base.config.layers)
    adapter = lora.create(chosen, rank=rank, scale=scale, seed=seed)
    keys = {name: mx.random.key(10 * seed + i) for i, name in enumerate(adapter.parameters())}
    adapter.set({n: p + 0.1 * mx.random.normal(p.shape, key=keys[n]) for n, p in adapter.parameters().items()})
    adapters.save(folder, adapter, base, {"kind": "lora", "valid": 0.0, "rate": 1e-3, "batch": 4, **said})
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fit")
    rows = [{"prompt": f"a{i}", "completion": f"b{i % 7}c"} for i in range(10)]
    pairs = [{"prompt": f"a{i}", "chosen": "b", "rejected": "c"} for i in range(12)]
    for name, kept in (("rows", rows), ("few", rows[:9]), ("pairs", pairs)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))
    tiny.random_folder(folder / "base", CONFIG)
    model = load(str(folder / "base")).model
    here = {"model": str(folder / "base"), "data": str(folder / "rows.jsonl")}
    for seed, name in enumerate(("one", "two", "three")):
        adapter_on(model, folder / name, seed, **here)
    adapter_on(model, folder / "wide", 5, rank=3, **here)
    adapter_on(model, folder / "strong", 6, scale=3.0, **here)
    adapter_on(model, folder / "lost", 7)
    full = {name: array for name, array in model.arrays.items() if "layers.0.mlp.down_proj" in name}
    (folder / "whole").mkdir()
    (folder / "whole" / adapters.CONFIG).write_text(json.dumps({"fine_tune_type": "full", "num_layers": 2}))
    mx.save_safetensors(str(folder / "whole" / adapters.WEIGHTS), full)
    return folder


@pytest.fixture
def opened(home: Path) -> FittedAdapter:
    return open_adapter(home / "one")


def test_an_adapter_is_opened_on_its_base_with_its_options(home: Path, opened: FittedAdapter) -> None:
    assert opened.facts == {"adapter": digest(home / "one"), "base": opened.checkpoint.info.weights}
    config = opened.config
    assert (config.rate, config.batch, config.valid, config.data) == (1e-3, 4, 0.0, str(home / "rows.jsonl"))
    ids = mx.array([[1, 2, 3, 4]])
    plain = load(str(home / "base")).model
    assert float(mx.max(mx.abs(opened.model(ids) - plain(ids)))) > 1e-4  # it is on the model
    with pytest.raises(CheckpointError, match="does not say which model it is for: give --model"):
        open_adapter(home / "lost")
    assert open_adapter(home / "lost", str(home / "base")).config.data == ""
    with pytest.raises(ParameterError, match="holds whole weights, and a posterior is over an adapter"):
        open_adapter(home / "whole", str(home / "base"))


def test_rows_are_those_of_the_training_or_others(home: Path, opened: FittedAdapter) -> None:
    found = read_rows(opened, "", (), silent)
    assert len(found.samples) == 10 == len(read_rows(opened, str(home / "rows.jsonl"), (), silent).samples)
    with pytest.raises(DataError, match=r"needs 10 rows or more, .*few.jsonl has 9"):
        read_rows(opened, str(home / "few.jsonl"), (), silent)
    with pytest.raises(DataError, match="pairs: give --data without them"):
        read_rows(opened, str(home / "pairs.jsonl"), (), silent)
    with pytest.raises(ParameterError, match="does not say what it was trained on: give --data"):
        read_rows(replace(opened, config=replace(opened.config, data="")), "", (), silent)
    with pytest.raises(DataError, match="has 8"):  # two rows are validation's
        read_rows(replace(opened, config=replace(opened.config, valid=0.2)), "", (), silent)


@pytest.mark.parametrize(("last", "precision", "how"), [(True, None, {}), (False, 3.5, {"draws": 2, "seed": 9})])
def test_laplace_is_the_curvature_and_the_prior_of_the_most_evidence(
    opened: FittedAdapter, last: bool, precision: float | None, how: dict[str, int]
) -> None:
    rows, told = read_rows(opened, "", (), silent), []
    facts = fit_laplace(opened, rows, last=last, precision=precision, progress=lambda *said: told.append(said), **how)  # type: ignore[arg-type]
    assert told[-1] == ("curvature", 10, 10)
    curvatures = collect(opened.model, opened.adapter, rows.samples, last=last, **how)  # type: ignore[arg-type]
    parts, weights = curvatures.parts, opened.adapter.parameters()
    square = sum(float((np.asarray(weights[name], np.float64) ** 2).sum()) for name in parts)
    h = np.concatenate([part.curvature for part in parts.values()])
    best = best_precision(square, h)
    assert facts.precision == (pytest.approx(best) if precision is None else 3.5)
    assert facts.log_evidence == pytest.approx(log_evidence(-curvatures.lost, square, h, facts.precision))
    targets = sum(sample.targets for sample in rows.samples)
    assert (facts.kind, facts.rows, facts.tokens, facts.adapter) == ("laplace", 10, targets, digest(opened.folder))
    shapes = {name: array.shape for name, array in weights.items()}
    found, said = stored.read(opened.folder, shapes, **opened.facts)
    assert said == facts and isinstance(found, Laplace) and set(found.parts) == set(parts)


@pytest.mark.parametrize("precision", [0.0, -1.0, math.inf, math.nan])
def test_a_prior_s_precision_is_above_nothing_and_finite(opened: FittedAdapter, precision: float) -> None:
    with pytest.raises(ParameterError, match="precision must be above 0"):
        fit_laplace(opened, samples.Samples([], []), last=True, precision=precision)


@pytest.mark.parametrize(("steps", "every"), [(3, 1), pytest.param(80, 2, marks=pytest.mark.slow)])
def test_swag_trains_on_from_the_adapter_and_keeps_moments_along_the_way(
    home: Path, opened: FittedAdapter, steps: int, every: int, tmp_path: Path
) -> None:
    given, told = read_rows(opened, "", (), silent), []
    facts = fit_swag(opened, given, steps=steps, seed=4, progress=lambda *said: told.append(said))
    assert told == [("training on", step, steps) for step in range(1, steps + 1)]
    again = open_adapter(home / "one")  # the same training by itself: on from the adapter at half of its rate
    lora.detach(again.adapter)
    modules = tuple(again.adapter.factors)
    config = replace(
        again.config, warm_start=str(home / "one"), rank=2, scale=2.0, modules=modules, steps=steps, epochs=0.0,
        rate=5e-4, schedule="constant", seed=4, eval_every=0, save_every=0,
    )  # fmt: skip
    run, expected = prepare(again.model, config, Set(given.samples), tmp_path / "run"), Moments(20)
    for event in train(run):
        if isinstance(event, Stepped) and event.step % every == 0:
            expected.add({name: np.asarray(array) for name, array in run.trained.parameters().items()})
    shapes = {n: a.shape for n, a in opened.adapter.parameters().items()}
    found, _ = stored.read(opened.folder, shapes, **opened.facts)
    assert isinstance(found, SwagPosterior)
    for name, part in expected.gaussians().items():
        assert len(found.parts[name].deviations) == min(20, steps // every) == len(part.deviations)
        assert found.parts[name].mean == pytest.approx(part.mean, abs=1e-6)
        assert found.parts[name].deviations == pytest.approx(part.deviations, abs=1e-6)
    targets = sum(sample.targets for sample in given.samples)
    assert (facts.kind, facts.rows, facts.tokens, facts.precision) == ("swag", 10, targets, None)


def test_swag_rehearses_where_the_adapter_was_trained_so(opened: FittedAdapter) -> None:
    """The loss that it goes on by is the adapter's own, of which answers of the base are a part."""
    told = set[str]()
    rehearsed = replace(opened, config=replace(opened.config, rehearsal=1.0))
    facts = fit_swag(rehearsed, read_rows(opened, "", (), silent), steps=2, progress=lambda *said: told.add(said[0]))
    assert facts.kind == "swag" and "training on" in told


def test_a_training_that_fails_is_said_and_one_step_has_no_variance(opened: FittedAdapter) -> None:
    rows = read_rows(opened, "", (), silent)
    with pytest.raises(ParameterError, match="steps must be 2 or more"):
        fit_swag(opened, rows, steps=1)
    wild = replace(opened, config=replace(opened.config, clip=0.0, optimiser="sgd"))
    with pytest.raises(DataError, match="take a lower --rate"):
        fit_swag(wild, rows, steps=9, rate=1e30)


def test_members_are_trained_alike_and_apart(home: Path, opened: FittedAdapter) -> None:
    facts = join(opened, [home / "two", home / "three"])
    assert (facts.kind, facts.rows, facts.tokens) == ("ensemble", 0, 0)
    own = opened.adapter.parameters()
    found, _ = stored.read(opened.folder, {n: a.shape for n, a in own.items()}, **opened.facts)
    assert isinstance(found, Ensemble) and found.members == 3
    for number, name in enumerate(("one", "two", "three")):
        arrays = adapters.read(home / name).arrays
        assert all((found.parts[n][number] == np.asarray(arrays[n])).all() for n in own)
    for others, line in (
        ([], "2 to 8 members, got 1"), ([home / "two"] * 8, "2 to 8 members, got 9"),
        ([home / "wide"], "is not trained as .*one is: the same rank, scale and modules"),
        ([home / "strong"], "is not trained as"), ([home / "one"], "are the same adapter"),
        ([home / "whole"], "holds whole weights"),
    ):  # fmt: skip
        with pytest.raises(ParameterError, match=line):
            join(opened, others)


def test_members_that_differ_by_more_than_a_seed_are_told_and_one_draw_is_no_ensemble(
    home: Path, tmp_path: Path
) -> None:
    model, rows = load(str(home / "base")).model, str(home / "rows.jsonl")
    said: dict[str, dict[str, Any]] = {
        "own": {}, "alike": {"seed": 1, "out": "x", "verdict": False}, "longer": {"seed": 2, "steps": 40, "step": 40},
        "twin": {"seed": 0, "rate": 0.01}, "bagged": {"seed": 0, "data": "others.jsonl"},
    }  # fmt: skip
    for i, (name, options) in enumerate(said.items()):
        folder = adapter_on(model, tmp_path / name, i, model=str(home / "base"), data=rows)
        config = json.loads((folder / adapters.CONFIG).read_text())
        (folder / adapters.CONFIG).write_text(json.dumps({**config, "seed": 0, "steps": 20, "step": 20, **options}))
    own, heard = open_adapter(tmp_path / "own"), list[str]()
    join(own, [tmp_path / name for name in ("alike", "longer", "bagged")], heard.append)
    assert len(heard) == 2 and "(steps 40, there 20)" in heard[0] and "(data others.jsonl, there" in heard[1]
    with pytest.raises(ParameterError, match=r"twin and .*own were both trained with --seed 0 on .*are one draw"):
        join(own, [tmp_path / "alike", tmp_path / "twin"])
