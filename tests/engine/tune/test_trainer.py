"""The loop: gradients of every path against the plain loss, resumption bit for bit, stops, several processes."""

import json
import math
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import likely.engine.weights.adapters.lora as lora
from likely.engine.base.errors import DataError
from likely.engine.train.data import batches
from likely.engine.train.data.samples import Pair, TrainingSample
from likely.engine.train.losses import batch_losses
from likely.engine.train.run import state, step, trainer
from likely.engine.weights.adapters import adapters, full
from likely.metal import mx
from tests import processes
from tests.engine.tune.tiny import LLAMA, config, finish, model, rows, run, same, samples, worst
from tests.models.oracle import difference, ours, reference
from tests.support.limits import file_size_limit


def plain_gradient(a: trainer.TrainingRun, items: list[TrainingSample]) -> dict[str, mx.array]:
    """By mx.grad of the loss written down: each row alone, all logits, masked."""
    real = a.trained.parameters()

    def loss(parameters: dict[str, mx.array]) -> mx.array:
        a.trained.set(parameters)
        total = mx.array(0.0)
        for s in items:
            logits = a.model(mx.array([s.ids[:-1]]))[0]
            logp = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
            picked = mx.take_along_axis(logp, mx.array(s.ids[1:])[:, None], axis=-1)[:, 0]
            total = total - mx.sum(picked * mx.array(s.trained[1:]))
        return total

    gradients = mx.grad(loss)(real)
    a.trained.set(real)
    return gradients


def stream(a: trainer.TrainingRun) -> Iterator[tuple[int, list[int]]]:
    """The batches of a run, in their order."""
    c = a.config
    return batches.stream(a.rows.train, size=c.batch, length=c.length, packing=c.packing, seed=c.seed)


def at(folder: Path) -> dict[str, mx.array]:
    """The weights that a folder holds."""
    return mx.load(str(folder / adapters.WEIGHTS))  # type: ignore[return-value]


def stirred(a: trainer.TrainingRun) -> trainer.TrainingRun:
    """With factors that are not zero."""
    keys = enumerate(a.trained.parameters().items())
    a.trained.set({n: p + 0.05 * mx.random.normal(p.shape, key=mx.random.key(i)) for i, (n, p) in keys})
    return a


def test_gradients_stay_finite_where_activations_are_large(tmp_path: Path) -> None:
    """The fault: e^-x is infinite in float32 for gates below -88, and with it the derivative of SiLU by a power."""
    a = stirred(run(tmp_path))
    up = a.model.blocks[1].mlp_norm
    assert up is not None
    up.weight = up.weight * 300
    items = samples(3, seed=3)
    gradients = batch_losses.gradient(a.model, a.trained, items, a.config)[1]
    assert all(bool(mx.all(mx.isfinite(g))) for g in gradients.values())
    assert worst(gradients, plain_gradient(a, items)) <= 1e-3


@pytest.mark.parametrize("kind", ["lora", "full"])
@pytest.mark.parametrize("objective", ["dpo", "orpo", "kl"])
def test_gradients_of_the_other_objectives_by_finite_differences(objective: str, kind: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"kl": 0.5} if objective == "kl" else {"objective": objective, "beta": 0.5}
    a = stirred(run(tmp_path, kind=kind, **options))
    single, other = samples(3, seed=3), samples(3, seed=4)
    items: list[Any] = single if objective == "kl" else [Pair(x, y) for x, y in zip(single, other, strict=True)]
    real, (_, gradients) = a.trained.parameters(), batch_losses.gradient(a.model, a.trained, items, a.config)
    direction = {n: g / (float(mx.linalg.norm(g)) + 1e-9) for n, g in gradients.items()}
    goals = []
    for h in (1e-3, -1e-3):
        a.trained.set({n: p + h * direction[n] for n, p in real.items()})
        sums = batch_losses.value(a.model, a.trained, items, a.config)
        goals.append(float(sums.lost) + a.config.kl * float(sums.kl))
    slope = sum(float(mx.sum(gradients[n] * direction[n])) for n in real)
    assert (goals[0] - goals[1]) / 2e-3 == pytest.approx(slope, rel=2e-2)


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_the_reference_is_the_model_before_training(kind: str, tmp_path: Path) -> None:
    pairs = [Pair(x, y) for x, y in zip(samples(3, seed=3), samples(3, seed=4), strict=True)]
    a = run(tmp_path, objective="dpo", kind=kind)
    start = batch_losses.value(a.model, a.trained, pairs, a.config)
    assert float(start.lost) == pytest.approx(3 * math.log(2), rel=1e-5)  # the margin is 0 while nothing has moved
    moved = stirred(a).model(mx.array([[1, 2, 3]]))
    with batch_losses.base(a.model, a.trained)():
        assert difference(a.model(mx.array([[1, 2, 3]])), model()(mx.array([[1, 2, 3]]))) <= 1e-6
    assert difference(a.model(mx.array([[1, 2, 3]])), moved) == 0


def test_accumulated_batches_are_one_big_batch_however_uneven(tmp_path: Path) -> None:
    a = stirred(run(tmp_path))
    items = samples(4, seed=1, low=4, high=6) + samples(2, seed=2, low=18, high=20)
    a.rows = trainer.Set(items)
    together, whole = step.accumulated(a, [list(range(6))], 1)
    apart, parts = step.accumulated(a, [[0, 1], [2, 3], [4, 5]], 1)
    assert together[:5] == pytest.approx(apart[:5])
    assert worst(parts, whole) <= 1e-5
    # the fault: a mean of the batches' means gives short rows more weight than they have
    means = [batch_losses.gradient(a.model, a.trained, items[i : i + 2], a.config) for i in (0, 2, 4)]
    fault = {n: sum((g[n] / s.count for s, g in means), mx.array(0.0)) / 3 for n in whole}
    assert worst(fault, {n: g / together[1] for n, g in whole.items()}) > 1e-2


@pytest.mark.parametrize("clip", [0.0, 0.01, 1e6])
def test_a_step_goes_against_the_mean_gradient_no_longer_than_the_clip(clip: float, tmp_path: Path) -> None:
    a = stirred(run(tmp_path, optimiser="sgd", steps=5, schedule="linear", warmup=2, clip=clip, rate=0.5))
    _, first = next(stream(a))
    items, start = [a.rows.train[i] for i in first], a.trained.parameters()
    count = sum(s.targets for s in items)
    mean = {n: g / count for n, g in plain_gradient(a, items).items()}  # type: ignore[arg-type]
    size = math.sqrt(sum(float(mx.sum(g * g)) for g in mean.values()))
    step_ = next(event for event in trainer.train(a) if isinstance(event, trainer.Stepped))
    share = min(1, clip / size) if clip else 1.0
    assert step_.norm == pytest.approx(size, rel=1e-4) and step_.rate == pytest.approx(0.25)  # half of the warmup
    assert (share < 1) == (clip == 0.01)
    moved = {n: p - start[n] for n, p in a.trained.parameters().items()}
    assert worst(moved, {n: -0.25 * share * g for n, g in mean.items()}) <= 5e-3  # of numbers that lose digits


def test_the_noise_of_gradients_is_by_the_norms_of_steps_and_batches(tmp_path: Path) -> None:
    """Of B tokens in k batches: |G|^2 is (B |g|^2 - b m) / (B - b), the noise (m - |g|^2) / (1/b - 1/B), where b = B/k
    and m is the mean of the batches' |g_i|^2; both are averaged over steps (arXiv:1812.06162, appendix A.1)."""
    control, a = trainer.TrainControl(), run(tmp_path, kind="full", accumulate=3, steps=4, rate=1e-4)
    order, signals, noises, known = stream(a), [], [], 0

    def expected() -> None:
        parts = [batch_losses.gradient(a.model, a.trained, [a.rows.train[i] for i in next(order)[1]], a.config)
                 for _ in range(3)]  # fmt: skip
        tokens = sum(sums.count for sums, _ in parts)
        whole = {n: sum((g[n] for _, g in parts), mx.array(0.0)) / tokens for n in parts[0][1]}
        large = sum(float(mx.sum(g * g)) for g in whole.values())
        small = float(np.mean([sum(float(mx.sum(g * g)) for g in part.values()) / s.count**2 for s, part in parts]))
        signals.append((tokens * large - tokens / 3 * small) / (tokens - tokens / 3))
        noises.append((small - large) / (3 / tokens - 1 / tokens))

    expected()
    for event in trainer.train(a, control):
        if isinstance(event, trainer.Stepped):
            signal, noise = np.mean(signals), np.mean(noises)
            wanted = noise / signal if min(signal, noise) > 0 else None
            assert (event.noise_scale or 0.0) == pytest.approx(wanted or 0.0, rel=1e-3)
            known += wanted is not None
            assert control.reading[0] == control.reading[1] > 0  # the step's tokens have been read
            if event.step < 4:
                expected()
    assert len(signals) == 4 and known >= 2
    single = [e for e in finish(run(tmp_path / "one", steps=1)) if isinstance(e, trainer.Stepped)]
    assert single[0].noise_scale is None  # of one batch nothing is known of it


def test_anchors_go_round_and_count_as_much_as_the_targets(tmp_path: Path) -> None:
    anchors = samples(3, seed=7)
    a = stirred(run(tmp_path, kl=0.5, kl_data="anchors", batch=2, accumulate=3,
                    data=trainer.Set(samples(6), anchors=anchors)))  # fmt: skip

    def kl(s: TrainingSample) -> float:
        def said() -> np.ndarray:
            logits = np.array(a.model(mx.array([s.ids[:-1]]))[0], np.float64)
            return logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)

        with batch_losses.base(a.model, a.trained)():
            base = said()
        now = said()
        return float((np.exp(now) * (now - base)).sum())

    for t, chosen in ((1, [0, 1, 2, 0, 1, 2]), (2, [0, 1, 2, 0, 1, 2])):  # (3 t + k) x 2 is the first of a batch
        total, _ = step.accumulated(a, [[0, 1], [2, 3], [4, 5]], t)
        wanted = 0.0
        for k in range(3):
            two = [anchors[i] for i in chosen[2 * k : 2 * k + 2]]
            targets = sum(a.rows.train[i].targets for i in (2 * k, 2 * k + 1))
            wanted += sum(map(kl, two)) * targets / sum(len(s.ids) - 1 for s in two)
        assert total[2] == pytest.approx(wanted, rel=1e-3)
    a.rows = trainer.Set(samples(6))
    assert step.accumulated(a, [[0, 1]], 1)[0][2] == 0


def test_nothing_below_the_lowest_adapted_layer_is_differentiated(tmp_path: Path) -> None:
    class Once:
        """A block that may not be gone back through."""

        def __init__(self, block: Any) -> None:
            self.__dict__.update(block.__dict__)
            self.block = block

        def __call__(self, x: mx.array, *rest: Any) -> mx.array:
            forward = mx.custom_function(lambda x: self.block(x, *rest))
            forward.vjp(lambda *_: pytest.fail("differentiated"))
            return forward(x)  # type: ignore[no-any-return]

    for layers, below in ((1, (0, 1)), (2, (2,))):
        a = run(tmp_path / str(layers), layers=layers)
        for i in below:
            a.model.blocks[i] = Once(a.model.blocks[i])  # type: ignore[call-overload]
        with nullcontext() if layers == 1 else pytest.raises(pytest.fail.Exception, match="differentiated"):
            batch_losses.gradient(a.model, a.trained, samples(3), a.config)


def test_packed_rows_do_not_see_each_other() -> None:
    m = model()
    one, two, other = samples(3, seed=5)

    def second(first: TrainingSample) -> mx.array:
        batch = batches.collate([first, two])
        hidden = m.hidden(batch.tokens, documents=batch.documents)[0]
        return hidden[-(len(two.ids) - 1) :]

    alone = m.hidden(mx.array([two.ids[:-1]]))[0]
    assert bool(mx.array_equal(second(one), second(other)))  # whatever stands before, bit for bit
    assert difference(second(one), alone) <= 1e-6


@pytest.mark.parametrize("far", [False, True], ids=["", "longrope"])
def test_rows_that_begin_alike_are_read_with_that_once_unless_it_is_turned_by_their_length(
    far: bool, tmp_path: Path
) -> None:
    turns = {"type": "longrope", "short_factor": [1.0] * 4, "long_factor": [4.0] * 4}
    scaling = {"rope_scaling": turns | {"original_max_position_embeddings": 20}} if far else {}
    built = ours(LLAMA | scaling, reference(LLAMA))
    a, begin = stirred(trainer.prepare(built, config(), rows(), tmp_path)), tuple(range(10))
    items = [
        TrainingSample((*begin, *s.ids), (*(i == 4 for i in range(10)), *s.trained), s.where)
        for s in samples(3, seed=3)
    ]
    read = batch_losses.row_of(a.model, items).tokens.shape[1]
    assert read == sum(len(s.ids) - 1 for s in items) - (0 if far else 2 * len(begin))
    assert worst(batch_losses.gradient(a.model, a.trained, items, a.config)[1], plain_gradient(a, items)) <= 1e-4


RESUMED: list[dict[str, Any]] = [
    {"dropout": 0.2, "accumulate": 2, "l1": 1e-3, "decay": 0.1, "label_smoothing": 0.1},
    {"kind": "dora", "optimiser": "muon", "schedule": "wsd", "warmup": 3},
    {"kind": "full", "optimiser": "adafactor", "l2_sp": 0.01},
    {"optimiser": "lion", "packing": False, "kl": 0.1, "init": "pissa", "l2_sp": 0.01, "lora_plus_ratio": 4.0},
]


@pytest.mark.slow
@pytest.mark.parametrize("options", RESUMED, ids=["lora", "dora", "full", "pissa"])
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(options: dict[str, Any], tmp_path: Path) -> None:
    whole, broken = (run(tmp_path / name, save_every=3, **options) for name in ("whole", "broken"))
    finish(whole)
    events = trainer.train(broken)
    next(event for event in events if isinstance(event, trainer.Stepped) and event.step == 5)  # two steps are lost
    events.close()  # type: ignore[attr-defined]
    resumed = run(tmp_path / "broken", resume=True, **options)
    assert resumed.counters.step == 3
    finish(resumed)
    assert same(resumed.trained.parameters(), whole.trained.parameters())
    assert (tmp_path / "whole" / adapters.WEIGHTS).read_bytes() == (tmp_path / "broken" / adapters.WEIGHTS).read_bytes()
    steps = [json.loads(line)["step"] for line in (tmp_path / "broken" / "metrics.jsonl").read_text().splitlines()]
    assert list(dict.fromkeys(steps)) == list(range(1, 9))


KILLED = """
import sys
from pathlib import Path
from likely.engine.train.run import trainer
from tests.engine.tune.tiny import run
a = run(Path(sys.argv[1]), steps=40, save_every=1, resume=len(sys.argv) > 2)
for event in trainer.train(a):
    print(type(event).__name__, flush=True)
"""


@pytest.mark.slow(5)
def test_a_run_killed_at_any_moment_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", steps=40, save_every=1)
    finish(whole)
    folder, random, kills = tmp_path / "killed", np.random.default_rng(0), 0
    for _ in range(20):
        words = [sys.executable, "-c", KILLED, str(folder), *["resume"] * (folder / state.FILE).exists()]
        process = subprocess.Popen(words, stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(float(random.uniform(0, 0.15)))
        process.kill()
        kills += process.wait() == -signal.SIGKILL
        if kills >= 3:
            break
    assert kills >= 1
    if not (folder / state.FILE).exists():
        shutil.rmtree(folder, ignore_errors=True)
    resumed = run(folder, steps=40, save_every=1, resume=(folder / state.FILE).exists())
    finish(resumed)
    assert same(resumed.trained.parameters(), whole.trained.parameters())


@pytest.mark.slow
def test_the_smoothed_loss_begins_as_a_mean_and_looks_back_a_tenth_of_the_run(tmp_path: Path) -> None:
    a = run(tmp_path, steps=30, eval_every=0)
    steps = [event for event in trainer.train(a) if isinstance(event, trainer.Stepped)]
    losses = [event.loss for event in steps]
    assert [event.smooth for event in steps[:3]] == pytest.approx([np.mean(losses[:t]) for t in (1, 2, 3)])
    for before, event in pairwise(steps[2:]):
        assert event.smooth == pytest.approx(before.smooth * 2 / 3 + event.loss / 3)
    assert len(steps) == 30


def test_a_run_can_be_stopped_and_says_how_to_go_on(tmp_path: Path) -> None:
    control, seen = trainer.TrainControl(), list[trainer.Event]()
    for event in trainer.train(run(tmp_path), control):
        seen.append(event)
        control.stopped = isinstance(event, trainer.Stepped) and event.step == 2
    assert seen[-1] == trainer.Ended("stopped", 2)
    assert isinstance(seen[-2], trainer.Saved) and (tmp_path / state.FILE).exists()
    options: list[tuple[dict[str, Any], str]] = [
        ({}, "holds a run already: --resume"), ({"resume": True, "rate": 0.5}, r"began with rate = 0\.01, got 0\.5"),
        ({"resume": True, "data": replace(rows(), fingerprint="others")}, "other rows"),
    ]  # fmt: skip
    for changes, line in options:
        with pytest.raises(DataError, match=line):
            run(tmp_path, **changes)


def test_the_optimiser_s_state_of_a_run_that_has_ended_goes_unless_it_is_asked_for(tmp_path: Path) -> None:
    """Kept, more steps are those of one run; gone, AdamW's next step is a first one: as long as the rate."""
    how: dict[str, Any] = {"schedule": "constant", "rate": 0.01, "clip": 0.0}
    for name, kept in (("kept", True), ("gone", False), ("whole", True)):
        finish(run(tmp_path / name, steps=4 if name == "whole" else 3, keep_state=kept, **how))
    assert not mx.load(str(tmp_path / "gone" / state.FILE)), "what was trained is in the adapter's file, and once"
    ends = {name: run(tmp_path / name, resume=True, steps=4, keep_state=True, **how) for name in ("kept", "gone")}
    before = ends["gone"].trained.parameters()
    for each in ends.values():
        finish(each)
    assert same(at(tmp_path / "kept"), at(tmp_path / "whole")) and "--keep-state" in ends["gone"].chosen
    moved = mx.concatenate([mx.abs(a - before[name]).flatten() for name, a in at(tmp_path / "gone").items()])
    assert mx.max(moved).item() == pytest.approx(0.01, rel=1e-3) and mx.mean(moved).item() > 0.0099
    assert run(tmp_path / "gone", resume=True, steps=5, **how).counters.step == 4


@pytest.mark.parametrize(
    "options", [{}, {"kind": "dora"}, {"init": "pissa", "rank": 2}, {"kind": "full", "rate": 1e-3}]
)
def test_a_run_that_has_ended_keeps_what_was_trained_once_and_goes_on_with_it(
    options: dict[str, Any], tmp_path: Path
) -> None:
    """Killed between the adapter's file and the state of the next save, too: the state is of one moment."""
    finish(run(tmp_path, steps=2, **options))
    names = {name.removeprefix("parameter/") for name in mx.load(str(tmp_path / state.FILE))}
    again = run(tmp_path, resume=True, steps=4, save_every=1, **options)
    ended, file = again.trained.parameters(), (tmp_path / adapters.WEIGHTS).read_bytes()
    assert names == (set(ended) if "init" in options else set()), "PiSSA's file has another form"
    events = trainer.train(again)
    next(event for event in events if isinstance(event, trainer.Stepped))  # by now the file may be written anew
    shutil.copy(tmp_path / state.FILE, tmp_path / "then")
    next(event for event in events if isinstance(event, trainer.Saved))
    assert (tmp_path / adapters.WEIGHTS).read_bytes() != file
    shutil.move(tmp_path / "then", tmp_path / state.FILE)
    killed = run(tmp_path, resume=True, steps=4, **options)
    assert killed.counters.step == 2 and same(killed.trained.parameters(), ended)


def test_a_folder_that_is_removed_meanwhile_costs_nothing_that_was_learned(tmp_path: Path) -> None:
    whole, robbed = run(tmp_path / "whole"), run(tmp_path / "robbed")
    finish(whole)
    for event in trainer.train(robbed):
        if isinstance(event, trainer.Stepped) and event.step == 2:
            shutil.rmtree(tmp_path / "robbed")
    assert same(at(tmp_path / "robbed"), at(tmp_path / "whole")) and (tmp_path / "robbed" / state.FILE).exists()


def test_a_run_that_was_prepared_before_another_wrote_does_not_begin(tmp_path: Path) -> None:
    """Neither over one that has come to its end meanwhile, nor from a state that is not the last any more."""
    early = run(tmp_path, steps=2)
    finish(run(tmp_path, steps=2))
    kept = (tmp_path / state.FILE).read_bytes()
    late = run(tmp_path, steps=4, resume=True)
    finish(run(tmp_path, steps=3, resume=True))
    for each in (early, late):
        with pytest.raises(DataError, match="was written by another run meanwhile: --resume"):
            next(trainer.train(each))
    assert (tmp_path / state.FILE).read_bytes() != kept
    again = run(tmp_path, steps=4, resume=True)
    finish(again)
    assert again.counters.step == 4


def test_not_a_number_stops_and_keeps_the_last_good_weights(tmp_path: Path) -> None:
    a = run(tmp_path, steps=20)
    good: dict[str, mx.array] = {}
    events = []
    for event in trainer.train(a):
        events.append(event)
        if isinstance(event, trainer.Stepped) and event.step == 3:
            good = a.trained.parameters()
            a.model.norm.weight = a.model.norm.weight * math.nan
    end = events[-1]
    assert isinstance(end, trainer.Ended) and (end.reason, end.step) == ("nan", 3)
    order = next(order for t, (_, order) in enumerate(stream(a), 1) if t == 4)
    named, more = ", ".join(f"rows:{i + 1}" for i in order[:4]), len(order) - 4
    assert end.why.endswith(f"at step 4, rows {named}" + (f" and {more} more" if more > 0 else ""))
    assert events[-2] == trainer.Saved(3, tmp_path) and same(at(tmp_path), good)


@pytest.mark.slow
def test_a_diverging_run_goes_back_to_the_last_good_adapter(tmp_path: Path) -> None:
    a = run(tmp_path, steps=60, save_every=5, rate=1e-3, clip=0.0)
    kept: dict[str, mx.array] = {}
    for event in trainer.train(a):
        if isinstance(event, trainer.Stepped) and event.step == 12:
            assert a.good is not None and a.good[0] == 12  # the loss has only fallen
            kept = a.trained.parameters()
            a.model.norm.weight = 100 * a.model.norm.weight  # from now on it is sure of itself and wrong
    assert isinstance(event, trainer.Ended) and event.reason == "diverged" and "rows rows:" in event.why
    assert same(at(tmp_path), kept)
    assert json.loads((tmp_path / adapters.CONFIG).read_text())["step"] == 12
    assert run(tmp_path, resume=True, steps=60, rate=1e-3, clip=0.0).counters.step == 10  # the last checkpoint


def test_a_diverging_run_is_stopped(tmp_path: Path) -> None:
    a = run(tmp_path, steps=200, rate=30.0, schedule="constant", clip=0.0, optimiser="sgd", kind="full")
    end = finish(a)[-1]
    assert isinstance(end, trainer.Ended) and end.reason in ("diverged", "nan") and "step" in end.why


def test_a_full_disk_leaves_the_checkpoint_before_it(tmp_path: Path) -> None:
    a = run(tmp_path, save_every=2)
    events = trainer.train(a)
    next(e for e in events if isinstance(e, trainer.Saved))
    before = (tmp_path / state.FILE).read_bytes()

    with file_size_limit(len(before) // 2), pytest.raises(DataError, match=r"was not written: .*; make room"):
        list(events)
    assert (tmp_path / state.FILE).read_bytes() == before
    assert not list(tmp_path.glob(".*part*"))
    assert run(tmp_path, resume=True).counters.step == 2


def test_patience_ends_a_run_and_the_best_is_kept(tmp_path: Path) -> None:
    backwards = [TrainingSample(s.ids[::-1], s.trained, s.where) for s in samples(8, seed=1)]
    a = run(tmp_path, data=trainer.Set(samples(24), backwards), steps=60, eval_every=2, patience=2, rate=3e-2)
    *events, end = finish(a)
    assert isinstance(end, trainer.Ended) and end.reason == "patience" and end.step < 60
    best = min((e for e in events if isinstance(e, trainer.Validated)), key=lambda e: e.loss)
    settings = json.loads((tmp_path / "best" / adapters.CONFIG).read_text())
    assert settings["step"] == best.step == a.counters.best_step
    a.trained.set(adapters.build(a.model, adapters.read(tmp_path / "best")).parameters())
    found = trainer.evaluate(a.model, a.trained, a.rows.valid, a.config).estimate.mean
    assert found == pytest.approx(best.loss, abs=1e-6)


def test_l2_sp_pulls_the_change_itself_to_nothing(tmp_path: Path) -> None:
    a = stirred(run(tmp_path, l2_sp=1.0))
    assert isinstance(a.trained, lora.Adapter)
    zero = {n: mx.zeros_like(p) for n, p in a.trained.parameters().items()}
    step.regularise(a, zero)
    for path, f in a.trained.factors.items():
        # d/dA of 1/2 scale^2 |A B|^2 is scale^2 (A B) B^T
        assert difference(zero[f"{path}.lora_a"], f.scale**2 * (f.a @ f.b) @ f.b.T) <= 1e-4


TWO = """
import os
import sys
from pathlib import Path
from likely.engine.base.distributed.launch import launched
from likely.engine.base.distributed.together import join
from likely.engine.train.run import trainer
from likely.metal import mx
from tests.engine.tune.tiny import config, model, rows
both = join(launched(), lambda end: os._exit(1))
a = trainer.prepare(model(), config(accumulate=2), rows(), Path(sys.argv[1]), group=both.group)
assert a.group.size() == 2
list(trainer.train(a))
both.finish()
"""


@pytest.mark.slow(4)
def test_two_processes_with_half_the_batch_each_are_one(tmp_path: Path) -> None:
    alone = run(tmp_path / "alone", accumulate=2)
    finish(alone)
    both = processes.finish(processes.start(2, tmp_path, ["-c", TWO, str(tmp_path / "two")]))
    assert [code for code, _, _ in both] == [0, 0], both
    two = at(tmp_path / "two")
    assert worst(two, alone.trained.parameters()) <= 1e-3
    assert max(float(mx.max(mx.abs(two[n] - p))) for n, p in alone.trained.parameters().items()) <= 1e-5


@pytest.mark.slow(6)
def test_a_markov_source_is_learned_to_its_entropy(tmp_path: Path) -> None:
    """The loss on fresh text comes within 2 % of the entropy rate, and not below it beyond the error bar."""
    random, states = np.random.default_rng(0), 12
    table = random.dirichlet(np.full(states, 0.3), size=states)
    stationary = np.linalg.matrix_power(table, 500)[0]
    entropy = float(-(stationary[:, None] * table * np.log(np.maximum(table, 1e-300))).sum())

    def text(i: int) -> TrainingSample:
        ids = [int(random.choice(states, p=stationary))]
        while len(ids) < 64:
            ids.append(int(random.choice(states, p=table[ids[-1]])))
        return TrainingSample(tuple(ids), (False, *(True,) * 63), f"text:{i}")

    settings = config(kind="full", steps=300, batch=16, length=64, rate=1e-2, warmup=10, eval_rows=0)
    train, valid = ([text(i) for i in range(count)] for count in (1500, 200))
    a = trainer.prepare(model(num_hidden_layers=1), settings, trainer.Set(train, valid), tmp_path)
    last = [e for e in finish(a) if isinstance(e, trainer.Validated)][-1]
    assert last.loss <= 1.02 * entropy and last.high >= entropy


def test_a_full_training_of_the_last_layer_has_all_of_it_and_nothing_else() -> None:
    m = model()
    last = m.config.layers - 1
    want = {f"{part.path}.{leaf}" for part in m.parts() if part.layer == last for leaf in part.arrays()}
    assert set(full.weights(m, 1).parameters()) == want and len(want) == 9


def test_lora_plus_moves_b_faster(tmp_path: Path) -> None:
    path, found = "model.layers.1.mlp.down_proj.lora_b", []
    for ratio in (1.0, 8.0):
        finish(a := run(tmp_path / str(ratio), steps=1, lora_plus_ratio=ratio))
        found.append(a.trained.parameters()[path])
    assert difference(found[1], 8 * found[0]) <= 1e-5
