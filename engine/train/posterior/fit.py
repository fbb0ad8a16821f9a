"""Fits of a posterior to a trained adapter: on its rows (Laplace), by training on (SWAG), of others (ensemble).

Each writes `posterior.safetensors` beside the adapter, which stays as it is. Prints nothing.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec

import numpy as np

from likely.engine.base.errors import CheckpointError, DataError, ParameterError
from likely.engine.base.files.lock import claimed
from likely.engine.base.options import check_ranges
from likely.engine.decode.session import Session
from likely.engine.text.rows.training_row import check_map, read_map
from likely.engine.train.control import Ended, Stepped
from likely.engine.train.data import data, samples
from likely.engine.train.posterior import stored
from likely.engine.train.posterior.curvature_pass import check_plain, collect
from likely.engine.train.posterior.evidence import best_precision, log_evidence
from likely.engine.train.posterior.moments import Moments
from likely.engine.train.posterior.posterior import Ensemble, Laplace, Posterior, SwagPosterior
from likely.engine.train.posterior.uncertainty import FEWEST, MOST
from likely.engine.train.run.run import Set, prepare
from likely.engine.train.run.trainer import FAILED, train
from likely.engine.weights.adapters import adapters, full, lora, sites
from likely.engine.weights.adapters.config import Config
from likely.engine.weights.adapters.stored import digest, read_config
from likely.engine.weights.sources.checkpoint import Checkpoint, load
from likely.engine.weights.sources.fetch.progress import Report, silent
from likely.metal import mx
from likely.models import Transformer

ROWS = 10  # at least: a posterior of fewer is its prior
COLLECTED = 40  # weights that SWAG's moments are of, where there are as many steps
KEPT = 20  # deviations (arXiv:1902.02476, section 4)
OTHERWISE = {  # options by which members may differ, or that make no other weights
    "model", "out", "seed", "test", "checkpointing", "timeout", "look_first", "eval_answers", "eval_every", "eval_rows",
    "expert", "save_every", "keep_state", "verdict", "tensorboard",
}  # fmt: skip
Options = ParamSpec("Options")


@dataclass(frozen=True, slots=True)
class FittedAdapter:
    """An adapter on its base, opened to fit a posterior: nothing of it is changed."""

    folder: Path
    checkpoint: Checkpoint
    model: Transformer
    adapter: lora.Adapter
    config: Config  # what it was trained with, as far as its directory says

    @property
    def facts(self) -> dict[str, str]:
        return {"adapter": digest(self.folder), "base": self.checkpoint.info.weights}


def _alone(
    fit: Callable[Concatenate[FittedAdapter, Options], stored.FitFacts],
) -> Callable[Concatenate[FittedAdapter, Options], stored.FitFacts]:
    """`fit` while no other process writes in the adapter's folder; LockTaken where one does."""

    @wraps(fit)
    def alone(opened: FittedAdapter, /, *args: Options.args, **options: Options.kwargs) -> stored.FitFacts:
        with claimed(opened.folder, "posterior"):
            return fit(opened, *args, **options)

    return alone


def open_adapter(folder: Path, model: str = "", progress: Report = silent) -> FittedAdapter:
    """The adapter of a directory on its base (or on `model`).

    CheckpointError where it does not say which that is; ParameterError for an adapter that no posterior is made for.
    """
    stored_adapter = adapters.read(folder)
    if stored_adapter.kind == "full":
        raise ParameterError(f"{folder} holds whole weights, and a posterior is over an adapter")
    if not (model or stored_adapter.model):
        raise CheckpointError(f"{folder} does not say which model it is for: give --model")
    checkpoint = load(model or stored_adapter.model, progress)
    graph = sites.trainable(checkpoint.model)
    adapter = adapters.build(graph, stored_adapter, str(folder))
    assert not isinstance(adapter, full.FullWeights)
    check_plain(adapter, graph)
    lora.attach(adapter)
    config = replace(Config(), **{**adapters.options(folder)[0], "data": stored_adapter.data})
    check_ranges(config)
    return FittedAdapter(folder, checkpoint, graph, adapter, config)


def read_rows(opened: FittedAdapter, source: str, names: Sequence[str], progress: Report) -> samples.Samples:
    """The samples that the adapter was trained on, or those of `source`. DataError for too few."""
    if not (source := source or opened.config.data):
        raise ParameterError(f"{opened.folder} does not say what it was trained on: give --data with its rows")
    how: dict[str, Any] = {"length": opened.config.length, "loss": opened.config.loss, "too_long": "cut"}
    own = read_map(names or opened.config.map)
    dataset = data.read(source, names=own, valid=opened.config.valid, progress=progress)
    if names:  # those that it was trained with need not be of this file
        check_map(own, dataset.keys)
    rows = dataset.train
    prepared = samples.prepare(rows, opened.checkpoint.tokenizer, **how)
    if prepared.pairs:
        raise DataError(f"a posterior is by the likelihood of rows, and {source} has pairs: give --data without them")
    if len(prepared.samples) < ROWS:
        raise DataError(f"a posterior needs {ROWS} rows or more, {source} has {len(prepared.samples)} to train on")
    return prepared


@_alone
def fit_laplace(
    opened: FittedAdapter,
    rows: samples.Samples,
    *,
    last: bool,
    precision: float | None = None,
    draws: int = 1,
    seed: int = 0,
    progress: Report = silent,
) -> stored.FitFacts:
    """Fit and write; `precision` of the prior by marginal likelihood where it is not given. ParameterError as there."""
    if precision is not None and not 0 < precision < np.inf:
        raise ParameterError(f"the prior's precision must be above 0, got {precision:g}")
    curvatures = collect(
        opened.model,
        opened.adapter,
        rows.samples,
        last=last,
        draws=draws,
        seed=seed,
        progress=lambda done, of: progress("curvature", done, of),
    )
    curvature = np.concatenate([part.curvature for part in curvatures.parts.values()])
    weights = opened.adapter.parameters()
    square = sum(float(np.square(np.asarray(weights[name], np.float64)).sum()) for name in curvatures.parts)
    precision = best_precision(square, curvature) if precision is None else precision
    evidence = log_evidence(-curvatures.lost, square, curvature, precision)
    return _written(opened, Laplace(curvatures.parts, precision), rows, curvatures.targets, precision, evidence)


@_alone
def fit_swag(
    opened: FittedAdapter,
    rows: samples.Samples,
    *,
    steps: int = 100,
    rate: float | None = None,
    seed: int = 0,
    progress: Report = silent,
) -> stored.FitFacts:
    """Train on at a constant rate (None: half of the one it was trained with), and keep the moments of the weights.

    DataError where the training fails, ParameterError for too few steps to have moments.
    """
    if steps < 2:
        raise ParameterError(f"steps must be 2 or more for weights to have a variance, got {steps}")
    moments, every = Moments(KEPT), max(1, steps // COLLECTED)
    form = next(iter(opened.adapter.factors.values()))
    lora.detach(opened.adapter)
    config = replace(
        opened.config,
        warm_start=str(opened.folder),
        rank=form.rank,  # of the adapter, for another program's config says less than ours
        scale=form.scale,
        alpha=0.0,
        rslora=False,
        init="zero",
        modules=tuple(opened.adapter.factors),
        steps=steps,
        epochs=0.0,
        rate=opened.config.rate / 2 if rate is None else rate,
        schedule="constant",
        seed=seed,
        layers=-1,
        quantize=0,
        warmup=0,
        eval_every=0,
        save_every=0,
        patience=0,
    )
    check_ranges(config)
    with tempfile.TemporaryDirectory() as folder:
        run = prepare(opened.checkpoint.model, config, Set(rows.samples), Path(folder))
        run.session = Session(opened.checkpoint, reload=False)  # which rehearses and rewords, as it was trained
        for event in train(run):
            if isinstance(event, Stepped):
                progress("training on", event.step, event.steps)
                if event.step % every == 0:
                    moments.add({name: np.asarray(array) for name, array in run.trained.parameters().items()})
            if isinstance(event, Ended) and event.reason in FAILED:
                raise DataError(f"the weights left what they had learned ({event.why}): take a lower --rate")
    return _written(opened, SwagPosterior(moments.gaussians()), rows, sum(s.targets for s in rows.samples))


@_alone
def join(
    opened: FittedAdapter, others: Sequence[Path], complain: Callable[[str], None] = lambda line: None
) -> stored.FitFacts:
    """The ensemble of an adapter and others, trained alike from other seeds. ParameterError where their shapes differ,
    or two are one draw; `complain` hears what else they were trained by."""
    if not FEWEST <= len(others) + 1 <= MOST:
        raise ParameterError(f"an ensemble has {FEWEST} to {MOST} members, got {len(others) + 1}")
    own, scale = opened.adapter.parameters(), {p: f.scale for p, f in opened.adapter.factors.items()}
    members, digests = [own], {digest(opened.folder): opened.folder}
    recipes, draws = {folder: _trained_by(folder) for folder in (opened.folder, *others)}, dict[Any, Path]()
    own_recipe = recipes[opened.folder]
    for folder, recipe in recipes.items():
        if recipe and own_recipe:
            draw = recipe["seed"], recipe["data"]
            if (twin := draws.setdefault(draw, folder)) != folder:
                raise ParameterError(
                    f"{folder} and {twin} were both trained with --seed {draw[0]} on {draw[1]}, the same start and "
                    "order, and are one draw: members are trained with their own --seed"
                )
    for folder in others:
        placed = adapters.build(opened.model, adapters.read(folder), str(folder))
        if not isinstance(placed, lora.Adapter):
            raise ParameterError(f"{folder} holds whole weights, and members of an ensemble are adapters")
        theirs = placed.parameters()
        same = {n: a.shape for n, a in theirs.items()} == {n: a.shape for n, a in own.items()}
        if not same or {p: f.scale for p, f in placed.factors.items()} != scale:
            raise ParameterError(f"{folder} is not trained as {opened.folder} is: the same rank, scale and modules")
        if (twin := digests.setdefault(digest(folder), folder)) != folder or folder == opened.folder:
            raise ParameterError(f"{folder} and {twin} are the same adapter: members are trained with their own --seed")
        members.append(theirs)
        if differing := _differing(own_recipe, recipes[folder]):
            complain(f"{folder} was not trained as {opened.folder} was ({differing}): they differ by more than a seed")
    stacked = {name: np.stack([np.asarray(m[name].astype(mx.float32)) for m in members]) for name in own}
    return _written(opened, Ensemble(stacked), None, 0)


def _trained_by(folder: Path) -> dict[str, Any]:
    """The options that an adapter was trained by, and the step that it is of; none where another program made it."""
    given, ours = adapters.options(folder)
    step = read_config(folder, {"step?": int}).get("step")
    return {**asdict(Config()), **given, "step": step} if ours else {}


def _differing(own: dict[str, Any], theirs: dict[str, Any]) -> str:
    """The options that make other weights and differ, with both values."""
    names = [name for name in theirs if name in own and name not in OTHERWISE and theirs[name] != own[name]]
    if {"steps", "epochs"} & {*names}:  # which the step follows from
        names = [name for name in names if name != "step"]
    return "; ".join(f"{name} {theirs[name]}, there {own[name]}" for name in names)


def _written(
    opened: FittedAdapter,
    posterior: Posterior,
    rows: samples.Samples | None,
    tokens: int,
    precision: float | None = None,
    evidence: float | None = None,
) -> stored.FitFacts:
    count = 0 if rows is None else len(rows.samples)
    facts = stored.FitFacts(
        posterior.KIND, **opened.facts, precision=precision, log_evidence=evidence, rows=count, tokens=tokens
    )
    stored.write(opened.folder, posterior, facts)
    return facts
