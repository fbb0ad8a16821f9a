"""The loop: steps, validations and checkpoints, as events. Nothing is printed, and a run can be stopped after any step.

What a step does depends on the seed, the data and the step's number alone, so a run that was killed goes on from its
last checkpoint to the same weights, bit for bit on one machine. With several processes (`mx.distributed`) each computes
its part of every batch, and the sums of gradients are added.
"""

import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from engine.errors import DataError
from engine.tune import adapters, batches, full, lora, losses, memory, objectives, optimisers, sites, state
from engine.tune.config import Config
from engine.tune.estimates import Estimate, ratio
from engine.tune.samples import Pair, Sample
from engine.tune.state import Counters, State
from metal import mx
from models import Transformer

Array = mx.array
SMOOTH = 0.9  # share of the past in the running mean of the loss
METRICS = "metrics.jsonl"


@dataclass
class Control:
    """Asks a run to stop after the step it is in, or to wait; may be used from another thread."""

    stop: bool = False
    pause: bool = False


@dataclass(frozen=True)
class Set:
    """What is trained on: samples, or pairs for preferences; `anchors` are the rows of `kl_data`."""

    train: Sequence[Sample | Pair]
    valid: Sequence[Sample | Pair] = ()
    anchors: Sequence[Sample] = ()
    fingerprint: str = ""


@dataclass(frozen=True)
class Stepped:
    """A step was taken. Losses in nats a token (a pair for preferences)."""

    step: int
    steps: int
    epoch: float
    loss: float
    smooth: float
    rate: float
    norm: float  # of the gradient, before clipping
    tokens: int  # trained so far
    tokens_per_s: float
    kl: float
    right: float  # share of pairs ranked as wanted
    memory: int  # peak bytes of mlx
    elapsed_s: float


@dataclass(frozen=True)
class Validated:
    """The loss on validation rows, with a confidence interval clustered by row."""

    step: int
    loss: float
    low: float
    high: float
    best: bool
    right: float


@dataclass(frozen=True)
class Saved:
    """A checkpoint landed."""

    step: int
    folder: Path


@dataclass(frozen=True)
class Ended:
    """The last event. reason: done | stopped | patience | diverged | nan."""

    reason: str
    step: int
    why: str = ""


Event = Stepped | Validated | Saved | Ended


@dataclass
class Run:
    """A model with what is trained on it."""

    model: Transformer
    trained: "lora.Adapter | full.Weights"
    config: Config
    rows: Set
    folder: Path
    name: str = ""  # of the model, for the adapter's directory
    group: Any = None  # of mx.distributed
    optimiser: dict[str, dict[str, Array]] = field(default_factory=dict)
    counters: Counters = field(default_factory=Counters)
    steps: int = 0
    start: dict[str, Array] = field(default_factory=dict)  # where L2-SP pulls to

    @property
    def leads(self) -> bool:
        return self.group is None or self.group.rank() == 0


def prepare(
    model: Transformer,
    config: Config,
    rows: Set,
    folder: Path,
    *,
    name: str = "",
    resume: bool = False,
    group: Any = None,
) -> Run:
    """Put a fresh adapter on the model (or make its weights parameters), or what a run in `folder` had come to.

    ParameterError for options that do not fit the model; DataError for a resumption with others than it began with.
    """
    if not rows.train:
        raise DataError("there is nothing to train on: no row has a target")
    memory.lean(model)
    if config.quantize:
        sites.pack(model, config.quantize, config.group_size)
    trained: lora.Adapter | full.Weights
    if config.kind == "full":
        trained = full.weights(model, config.layers)
    else:
        chosen = sites.choose(sites.sites(model), config.layers, config.modules, model.config.layers)
        trained = lora.create(
            chosen, rank=config.rank, scale=config.multiplier, kind=config.kind, seed=config.seed, start=config.start
        )
        lora.attach(trained)
    run = Run(model, trained, config, rows, folder, name, group)
    run.start = trained.parameters()
    run.steps = config.steps or max(1, math.ceil(config.epochs * _per_epoch(run) / config.accumulate))
    if resume:
        kept, steps = state.load(folder, config, rows.fingerprint)
        if set(kept.parameters) != set(run.start):
            raise DataError(f"{folder} is a run on another model: its parameters are not those of this one")
        trained.set(kept.parameters)
        run.optimiser, run.counters = kept.optimiser, kept.counters
        run.steps = config.steps or steps
    elif (folder / state.FILE).exists() and run.leads:
        raise DataError(f"{folder} holds a run already: --resume goes on with it, another --out leaves it alone")
    return run


def _per_epoch(run: Run) -> int:
    c = run.config
    return len(batches.plan(run.rows.train, size=c.batch, length=c.length, pack=c.pack, seed=c.seed, epoch=0))


def train(run: Run, control: Control | None = None) -> Iterator[Event]:
    """Train to the end, to a stop, or to a failure that keeps the last good weights; always ends with `Ended`."""
    control = control or Control()
    c, counters = run.config, run.counters
    _trim_metrics(run)
    order = batches.stream(run.rows.train, size=c.batch, length=c.length, pack=c.pack, seed=c.seed, skip=counters.batch)
    per_epoch = _per_epoch(run)
    settle(run)
    while counters.step < run.steps:
        while control.pause and not control.stop:
            time.sleep(0.05)
        if control.stop:
            yield from _finish(run, Ended("stopped", counters.step))
            return
        began = time.perf_counter()
        t = counters.step + 1
        taken = [next(order) for _ in range(c.accumulate)]
        sums, gradients = _accumulated(run, [indices for _, indices in taken], t)
        count = max(1.0, sums[1])
        gradients = {name: g / count for name, g in gradients.items()}
        _regularise(run, gradients)
        size = optimisers.norm(gradients)
        mx.eval(gradients, size)
        loss, norm = sums[0] / count, float(size)
        if not (math.isfinite(loss) and math.isfinite(norm)):
            where = ", ".join(dict.fromkeys(_where(run, [i for _, b in taken for i in b])))
            yield from _finish(
                run, Ended("nan", counters.step, f"loss {loss}, gradient {norm} at step {t}, rows {where}")
            )
            return
        smooth = loss if counters.smooth is None else SMOOTH * counters.smooth + (1 - SMOOTH) * loss
        if counters.step >= 10 and counters.lowest is not None and smooth > 1.5 * counters.lowest + 1.5:
            where = ", ".join(dict.fromkeys(_where(run, [i for _, b in taken for i in b])))
            line = f"the loss rose from {counters.lowest:.3f} to {smooth:.3f} by step {t}, rows {where}: lower --rate"
            yield from _finish(run, Ended("diverged", counters.step, line))
            return
        rate = _update(run, gradients, norm, t)
        seconds = time.perf_counter() - began
        counters.step, counters.batch = t, counters.batch + c.accumulate
        counters.tokens += int(sums[4])
        counters.smooth = smooth
        counters.lowest = smooth if counters.lowest is None else min(counters.lowest, smooth)
        counters.elapsed_s += seconds
        event = Stepped(
            t, run.steps, counters.batch / per_epoch, loss, smooth, rate, norm, counters.tokens, sums[4] / seconds,
            sums[2] / count, sums[3] / count, mx.get_peak_memory(), counters.elapsed_s,
        )  # fmt: skip
        _record(run, event)
        yield event
        last = t == run.steps
        if run.rows.valid and (last or (c.eval_every and t % c.eval_every == 0)):
            checked = validate(run)
            _record(run, checked)
            yield checked
            if c.patience and counters.waited >= c.patience:
                yield from _finish(run, Ended("patience", t, f"best at step {counters.best_step}"))
                return
        if not last and c.save_every and t % c.save_every == 0:
            yield save(run)
    yield from _finish(run, Ended("done", counters.step))


def settle(run: Run) -> None:
    """Evaluate the weights, so that they do not count as a step's memory."""
    mx.eval(run.model.arrays, run.trained.parameters())
    mx.reset_peak_memory()


def _accumulated(run: Run, taken: Sequence[Sequence[int]], t: int) -> tuple[list[float], dict[str, Array]]:
    """Sums of loss, count, KL, pairs ranked right and trained tokens over a step's batches, and of the gradients."""
    c = run.config
    rank, ranks = (0, 1) if run.group is None else (run.group.rank(), run.group.size())
    total = [0.0] * 5
    gradients: dict[str, Array] = {name: mx.zeros_like(p) for name, p in run.trained.parameters().items()}
    for k, indices in enumerate(taken):
        mine = batches.share(indices, rank, ranks)
        if not mine:
            continue
        items = [run.rows.train[i] for i in mine]
        if isinstance(run.trained, lora.Adapter):
            objectives.set_dropout(run.model, c.dropout, c.seed, t, k * ranks + rank)
        anchors, weight = _anchors(run, items, t, k, rank)
        sums, new = objectives.gradient(run.model, run.trained, items, c, anchors, weight)
        gradients = {name: gradients[name] + g for name, g in new.items()}
        mx.eval(gradients, sums.lost, sums.kl, sums.right)
        trained = sum(item.targets for item in items)
        found = (float(sums.lost), float(sums.count), float(sums.kl), float(sums.right), float(trained))
        total = [a + b for a, b in zip(total, found, strict=True)]
    if isinstance(run.trained, lora.Adapter):
        objectives.set_dropout(run.model, 0.0, 0, 0, 0)
    if ranks > 1:
        gradients = {n: mx.distributed.all_sum(g, group=run.group) for n, g in sorted(gradients.items())}
        mx.eval(gradients)
        summed: list[float] = mx.distributed.all_sum(mx.array(total), group=run.group).tolist()  # type: ignore[assignment]
        total = summed
    return total, gradients


def _anchors(run: Run, items: Sequence[Any], t: int, k: int, rank: int) -> tuple[list[Sample], float]:
    """As many tokens of `kl_data` as a batch has, and the weight that makes their mean KL count as one a target."""
    rows = run.rows.anchors
    if not rows or not run.config.kl:
        return [], 0.0
    first = (t * run.config.accumulate + k) * run.config.batch + rank
    chosen = [rows[(first + i) % len(rows)] for i in range(min(run.config.batch, len(rows)))]
    return chosen, sum(item.targets for item in items) / sum(len(s.ids) - 1 for s in chosen)


def _regularise(run: Run, gradients: dict[str, Array]) -> None:
    """Add the gradient of alpha / 2 |w - start|^2; for adapters of the change of the matrices, B^T A^T, itself."""
    alpha = run.config.l2_sp
    if not alpha:
        return
    if isinstance(run.trained, full.Weights):
        for name, w in run.trained.parameters().items():
            gradients[name] = gradients[name] + alpha * (w - run.start[name])
        return
    factors = run.trained.factors
    real = run.trained.parameters()

    def pull(parameters: dict[str, Array]) -> Array:
        run.trained.set(parameters)
        total = mx.array(0.0)
        for f in factors.values():
            a, b = f.whole()
            total = total + f.scale**2 * mx.sum((a.T @ a) * (b @ b.T))  # |A B|^2 without A B
        return 0.5 * alpha * total

    added = mx.grad(pull)(real)
    run.trained.set(real)
    for name, g in added.items():
        gradients[name] = gradients[name] + g


def _update(run: Run, gradients: dict[str, Array], norm: float, t: int) -> float:
    """One step of the optimiser; gives the learning rate it had."""
    c = run.config
    rate = optimisers.rate(c.schedule, c.rate, t, run.steps, c.warmup, c.floor)
    if c.clip and norm > c.clip:
        gradients = {name: g * (c.clip / norm) for name, g in gradients.items()}
    parameters = run.trained.parameters()
    rates = {name: rate * (c.plus if name.endswith(".lora_b") else 1.0) for name in parameters}
    step = optimisers.OPTIMISERS[c.optimiser]()
    penalties = optimisers.Penalties(c.decay, c.l1)
    new, run.optimiser = optimisers.update(parameters, gradients, run.optimiser, step, t, rates, penalties)
    mx.eval(new, run.optimiser)
    run.trained.set(new)
    return rate


def validate(run: Run) -> Validated:
    """The loss on the validation rows; keeps the weights if they are the best so far."""
    counters = run.counters
    estimate, right = evaluate(run.model, run.trained, run.rows.valid, run.config)
    best = counters.best is None or estimate.mean < counters.best
    if best:
        counters.best, counters.best_step, counters.waited = estimate.mean, counters.step, 0
        if run.leads:
            adapters.save(run.folder / "best", run.trained, run.model, _settings(run))
    else:
        counters.waited += 1
    return Validated(counters.step, estimate.mean, *estimate.interval, best, right)


def evaluate(
    model: Transformer, trained: "lora.Adapter | full.Weights", items: Sequence[Sample | Pair], config: Config
) -> tuple[Estimate, float]:
    """The mean loss of rows with its standard error clustered by row, and the share of pairs ranked as wanted."""
    items = items[: config.eval_rows] if config.eval_rows else items
    rows: list[tuple[float, float, int]] = []
    right = 0.0
    for indices in batches.plan(items, size=config.batch, length=config.length, pack=True, seed=0, epoch=0):
        part = [items[i] for i in indices]
        if config.objective == "sft":
            batch = batches.collate(objectives.samples_of(part))
            hidden = model.hidden(batch.tokens, documents=batch.documents)[0][batch.at]
            lost = losses.nll(model.head, hidden, batch.targets)
            sums, squares = objectives.by_sample(lost, batch), objectives.by_sample(mx.square(lost), batch)
            mx.eval(sums, squares)
            rows += zip(sums.tolist(), squares.tolist(), batch.counts, strict=True)  # type: ignore[arg-type]
        else:
            for item in part:
                found = objectives.value(model, trained, [item], config)
                right += float(found.right)
                rows.append((float(found.lost), float(found.lost) ** 2, 1))
    return ratio(rows), right / len(items)


def save(run: Run) -> Saved:
    """The adapter's directory, then the state, each landing whole."""
    if run.leads:
        adapters.save(run.folder, run.trained, run.model, _settings(run))
        kept = State(run.trained.parameters(), run.optimiser, run.counters)
        state.save(run.folder, kept, run.config, run.rows.fingerprint, run.steps)
    return Saved(run.counters.step, run.folder)


def _finish(run: Run, end: Ended) -> Iterator[Event]:
    yield save(run)
    yield end


def _settings(run: Run) -> dict[str, Any]:
    """What else stands in an adapter's config: the options, and the model's name as mlx-lm has it."""
    options = {f.name: getattr(run.config, f.name) for f in fields(run.config) if f.name not in ("map", "modules")}
    return {**options, "model": run.name or run.config.model, "step": run.counters.step}


def _where(run: Run, indices: Sequence[int]) -> list[str]:
    items = [run.rows.train[i] for i in indices]
    return [item.where if isinstance(item, Sample) else item.chosen.where for item in items]


def _record(run: Run, event: Stepped | Validated) -> None:
    if not run.leads:
        return
    run.folder.mkdir(parents=True, exist_ok=True)
    line = {"event": type(event).__name__.lower(), **asdict(event)}
    try:
        with open(run.folder / METRICS, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    except OSError as error:
        raise DataError(f"cannot write {run.folder / METRICS}: {error.strerror}") from error


def _trim_metrics(run: Run) -> None:
    """Forget what was recorded after the step that the run goes on from."""
    path = run.folder / METRICS
    if not run.leads or not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= run.counters.step:
                kept.append(line + "\n")
        except (ValueError, KeyError):
            continue  # a kill in the middle of a line
    adapters.write_whole(path, lambda beside: beside.write_text("".join(kept), encoding="utf-8"))
