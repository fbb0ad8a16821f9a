"""Parts of a training by hand: noise scale, waits, rescues, what is measured and drawn, batches and passes, masks."""

import math
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from engine.evaluate.estimates import ratio
from engine.tune import batches, choices, masked, objectives, optimisers, step, trainer, validation
from engine.tune.amounts import chosen, per_epoch, steps_of
from engine.tune.batches import collate
from engine.tune.config import Config, configure
from engine.tune.control import Paused, Saved, TrainControl
from engine.tune.lora import Adapter
from engine.tune.rows import parse
from engine.tune.samples import Pair, TrainingSample
from engine.tune.state import Counters
from metal import mx
from models.config import MaskedDiffusion


def sample(length: int, targets: int = 1, first: int = 0) -> TrainingSample:
    trained = [False] + [i < targets for i in range(length - 1)]
    return TrainingSample(tuple(range(first, first + length)), tuple(trained), f"row:{length}")


# -- steps -------------------------------------------------------------------------------------------------------------


def test_the_noise_of_gradients_is_by_the_norms_of_steps_and_batches() -> None:
    """Of four batches of 25 tokens: signal = (100 |G|^2 - 25 m) / 75, noise = (m - |G|^2) / (1/25 - 1/100)."""
    counters = Counters()
    sums = [0.0, 0.0, 0.0, 0.0, 100.0, 4 * 3.0, 4.0]
    first = trainer._noise_scale(counters, sums, 1.5)
    signal, noise = (100 * 2.25 - 25 * 3) / 75, (3 - 2.25) / (0.04 - 0.01)
    assert (counters.signal, counters.noise) == (pytest.approx(signal), pytest.approx(noise))
    assert first == pytest.approx(noise / signal)
    counters.step = 3
    trainer._noise_scale(counters, sums, 1.0)
    other = (100 - 75) / 75, (3 - 1) / 0.03
    assert counters.signal == pytest.approx(signal + (other[0] - signal) / 4)
    assert counters.noise == pytest.approx(noise + (other[1] - noise) / 4)
    counters.step, before = 500, counters.noise
    trainer._noise_scale(counters, sums, 1.0)
    assert counters.noise == pytest.approx(before + (other[1] - before) / 50)
    assert trainer._noise_scale(Counters(), [*sums[:6], 1.0], 1.0) is None
    assert trainer._noise_scale(Counters(), [0, 0, 0, 0, 50.0, 6.0, 2.0], 1.5) is not None
    assert trainer._noise_scale(Counters(), sums, 0.5) is None  # no signal
    assert trainer._noise_scale(Counters(), sums, 2.0) is None  # no noise


def test_a_run_that_waits_says_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    control, slept = TrainControl(), []
    run: Any = SimpleNamespace(counters=SimpleNamespace(step=7))
    monkeypatch.setattr(time, "sleep", lambda s: slept.append(s) or (control.go_on() if len(slept) == 3 else None))
    assert list(trainer._held(run, control)) == []
    control.pause()
    assert list(trainer._held(run, control)) == [Paused(7)] and slept == [0.05] * 3
    control.pause()
    control.stop()
    assert not control.waiting and list(trainer._held(run, control)) == [] and control.stopped


def test_a_failed_run_goes_back_to_what_it_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[Any] = []
    monkeypatch.setattr(trainer, "write", lambda run, folder: done.append(("write", folder)))
    monkeypatch.setattr(trainer, "save", lambda run: done.append("save") or Saved(9, tmp_path))
    trained = SimpleNamespace(set=lambda arrays: done.append(("set", arrays)))
    run: Any = SimpleNamespace(
        good=(4, {"a": 1}), saved=2, folder=tmp_path, counters=SimpleNamespace(step=6), trained=trained
    )
    assert trainer._go_back(run) == Saved(4, tmp_path) and run.counters.step == run.saved == 4
    assert done == [("set", {"a": 1}), ("write", tmp_path)]
    run.good, run.saved = None, 2
    assert trainer._go_back(run) == Saved(9, tmp_path) and done[-1] == "save"
    (tmp_path / trainer.state.FILE).write_text("")
    assert trainer._go_back(run) == Saved(2, tmp_path) and len(done) == 3


def test_a_step_clips_and_takes_the_schedule_s_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[Any] = []

    def updated(parameters: Any, gradients: Any, states: Any, groups: Any, t: int, rate: float, l1: float) -> Any:
        taken.append((float(gradients["a"][0]), states, groups, t, rate, l1))
        return {"a": mx.array([5.0])}, {"a": {"m": mx.array([1.0])}}

    monkeypatch.setattr(optimisers, "update", updated)
    kept: list[Any] = []
    trained = SimpleNamespace(parameters=lambda: {"a": mx.array([1.0])}, set=kept.append)
    for clip, norm, expected in ((2.0, 4.0, 3.0), (2.0, 2.0, 6.0), (4.0, 2.0, 6.0), (0.0, 9.0, 6.0)):
        said = {"clip": clip, "rate": 0.5, "schedule": "linear", "warmup": 1, "floor": 0.25, "l1": 0.125}
        run: Any = SimpleNamespace(config=configure(said), steps=5, trained=trained, optimiser={"s": {}}, groups="g")
        assert step.update(run, {"a": mx.array([6.0])}, norm, 3) == optimisers.rate("linear", 0.5, 3, 5, 1, 0.25)
        assert taken[-1] == (expected, {"s": {}}, "g", 3, optimisers.rate("linear", 0.5, 3, 5, 1, 0.25), 0.125)
        assert float(kept[-1]["a"][0]) == 5 and set(run.optimiser) == {"a"}


def test_anchors_go_round_and_count_as_much_as_the_targets() -> None:
    rows = [sample(n) for n in (3, 5, 9)]
    run: Any = SimpleNamespace(
        rows=SimpleNamespace(anchors=rows), config=configure({"kl": 0.5, "batch": 2, "accumulate": 3})
    )
    items = [sample(6, 4), sample(8, 2)]
    found, weight = step._anchors(run, items, 1, 1, 0)  # (1 x 3 + 1) x 2 = 8, and so the third
    assert found == [rows[2], rows[0]] and weight == 6 / (8 + 2)
    assert step._anchors(run, items, 0, 0, 1)[0] == [rows[1], rows[2]]
    run.config = configure({"kl": 0.5, "batch": 7})
    assert len(step._anchors(run, items, 0, 0, 0)[0]) == 3
    run.config = configure({"batch": 2})
    assert step._anchors(run, items, 0, 0, 0) == ([], 0.0)
    run.config, run.rows = configure({"kl": 0.5}), SimpleNamespace(anchors=())
    assert step._anchors(run, items, 0, 0, 0) == ([], 0.0)


class Halves(Adapter):
    """An adapter without sites: what is trained is two numbers."""

    def parameters(self) -> dict[str, mx.array]:
        return {"a": mx.zeros((2,))}


def test_a_step_s_batches_are_summed_with_their_gradients_norms(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def gradient(
        model: Any, trained: Any, items: Any, config: Any, anchors: Any, weight: float, key: Any, ratio: float
    ) -> Any:
        asked.append(([len(i.ids) for i in items], key, ratio))
        n = float(len(asked))
        sums = objectives.Sums(mx.array(10 * n), 2 * len(asked), mx.array(0.5), mx.array(n))
        return sums, {"a": mx.array([3.0, 4.0]) * n}

    drops: list[Any] = []
    monkeypatch.setattr(step.objectives, "gradient", gradient)
    monkeypatch.setattr(step.objectives, "set_dropout", lambda *said: drops.append(said[1:]))
    rows = [sample(4, 2), sample(5, 3), sample(6, 1), sample(7, 5)]
    config = configure({"seed": 9, "dropout": 0.25, "objective": "mdlm", "anneal": 0.5})
    run: Any = SimpleNamespace(rows=SimpleNamespace(train=rows, anchors=()), config=config, group=None, steps=8,
                               trained=Halves(), model="m")  # fmt: skip
    control = TrainControl()
    total, gradients = step.accumulated(run, [[0, 1], [3]], 3, control)
    assert asked == [([4, 5], (9, 3, 0), 0.5), ([7], (9, 3, 1), 0.5)]
    assert drops == [(0.25, 9, 3, 0), (0.25, 9, 3, 1), (0.0, 0, 0, 0)]
    assert total == [30.0, 6.0, 1.0, 3.0, 10.0, pytest.approx((5 / 2) ** 2 + (10 / 4) ** 2), 2.0]
    assert gradients["a"].tolist() == [9.0, 12.0] and control.reading == (10, 10)
    total, _ = step.accumulated(run, [[2]], 8)
    assert total[4:] == [1.0, 0.0, 1.0] and asked[-1][2] == 1.0  # of one batch nothing is known of its noise


# -- what is measured --------------------------------------------------------------------------------------------------


def test_rows_that_are_measured_are_those_of_the_least_hash() -> None:
    for n, most in ((10, 3), (100, 7), (50, 49)):
        hashes = sorted(range(n), key=lambda i: i * 0x9E3779B97F4A7C15 % 2**64)
        assert list(validation.drawn(range(n), most)) == sorted(hashes[:most])
    assert validation.drawn(range(5), 0) == validation.drawn(range(5), 5) == validation.drawn(range(5), 9) == range(5)


def test_targets_are_counted_by_how_many_stand_before_them() -> None:
    batch = collate([sample(12, 9), sample(3, 2)])
    assert validation._octaves(batch).tolist() == [0, 1, 2, 2, 3, 3, 3, 3, 4, 0, 1]


def test_a_validation_is_by_row_and_by_position(monkeypatch: pytest.MonkeyPatch) -> None:
    items = [sample(4, 3), sample(6, 2), sample(3, 1)]
    monkeypatch.setattr(validation.objectives, "read", lambda model, batch: batch.targets)
    monkeypatch.setattr(validation.losses, "nll", lambda head, hidden, targets: hidden.astype(mx.float32) / 2)
    model: Any = SimpleNamespace(head=None)
    found = validation.evaluate(model, None, items, configure({"batch": 2, "length": 8}))
    lost = [[0.5, 1.0, 1.5], [0.5, 1.0], [0.5]]  # the targets are 1, 2, 3
    rows = [(sum(each), sum(x * x for x in each), len(each)) for each in lost]
    assert (found.estimate.mean, found.estimate.error) == pytest.approx((ratio(rows).mean, ratio(rows).error))
    assert found.nats == pytest.approx(5.0) and found.right == 0
    assert found.by_position == pytest.approx((0.5, 1.0, 1.5))
    one = validation.evaluate(model, None, items, configure({"batch": 2, "length": 8, "eval_rows": 1}))
    assert one.nats == pytest.approx(3.0)
    pairs = [Pair(sample(3), sample(4)), Pair(sample(5), sample(2)), Pair(sample(4), sample(2))]
    told = {3: (0.5, 1.0), 5: (2.0, 0.0), 4: (1.0, 1.0)}

    def value(model: Any, trained: Any, of: Any, config: Any) -> Any:
        lost, right = told[len(of[0].chosen.ids)]
        return SimpleNamespace(lost=mx.array(lost), right=mx.array(right))

    monkeypatch.setattr(validation.objectives, "value", value)
    both = validation.evaluate(model, "t", pairs, configure({"objective": "dpo", "batch": 2}))  # type: ignore[arg-type]
    assert both.right == pytest.approx(2 / 3) and both.nats == 3.5 and both.by_position == ()


def test_the_best_validation_is_written_and_others_are_waited_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    written: list[Path] = []
    monkeypatch.setattr(validation, "write", lambda run, folder: written.append(folder))
    found = validation.Evaluated(ratio([(4.0, 8.0, 2), (1.0, 1.0, 2)]), 0.25, 5.0, (1.0, 2.0))
    monkeypatch.setattr(validation, "evaluate", lambda *_: found)
    pieces = {0: b"", 1: b"ab", 2: b"xyz", 3: b"<s>"}
    tokenizer = SimpleNamespace(vocab_size=4, is_special=lambda t: t == 3, piece=lambda t: pieces[t])
    rows = [
        TrainingSample((1, 2, 3, 9), (True, True, True, True), ""),
        TrainingSample((2, 1, 1), (False, False, True), ""),
    ]
    run: Any = SimpleNamespace(
        model=None, trained=None, rows=SimpleNamespace(valid=rows), config=configure({}), folder=tmp_path,
        counters=Counters(step=5), session=SimpleNamespace(tokenizer=tokenizer), valid_bytes=None,
    )  # fmt: skip
    first = validation.validate(run)
    assert (first.step, first.loss, first.best, first.right, first.by_position) == (5, 1.25, True, 0.25, (1.0, 2.0))
    assert (first.low, first.high) == found.estimate.interval
    assert run.valid_bytes == 5 and first.bits_per_byte == pytest.approx(5 / math.log(2) / 5)  # xyz, ab
    assert written == [tmp_path / "best"] and (run.counters.best, run.counters.best_step) == (1.25, 5)
    run.counters.step = 9
    second, third = validation.validate(run), validation.validate(run)
    assert not second.best and not third.best and run.counters.waited == 2 and len(written) == 1
    run.counters.best = 1.26
    assert validation.validate(run).best and run.counters.waited == 0 and run.counters.best_step == 9
    run.session, run.valid_bytes = None, None
    assert validation.validate(run).bits_per_byte is None
    run.session, run.config = SimpleNamespace(tokenizer=tokenizer), configure({"objective": "dpo"})
    assert validation._bytes(run) is None


# -- amounts -----------------------------------------------------------------------------------------------------------


def test_small_data_are_read_in_small_batches_and_often() -> None:
    config = Config(length=32, steps=0, epochs=0.0)
    items = [sample(8)] * 40
    found, why = chosen(config, items)
    assert (found.batch, found.packing, found.epochs) == (2, False, 5.0)  # 20 batches, so 5 passes for 100 steps
    assert why.startswith("batches of 2 and 5 passes: 40 samples make 20 batches, so 100 steps; fewer than 100")
    assert [chosen(config, [sample(8)] * n)[0].batch for n in (1, 16, 31, 32, 63, 64, 200)] == [1, 1, 1, 2, 3, 4, 4]
    many = [sample(32)] * 400  # as many tokens as 100 steps of 4 samples are
    found, why = chosen(config, many)
    assert (found.batch, found.packing, found.epochs, why) == (4, True, 1.0, "")
    assert chosen(config, many[1:])[1] != ""
    own, why = chosen(Config(length=32, batch=3, epochs=2.0), items)
    assert (own.batch, own.epochs, why) == (3, 2.0, "")
    some, why = chosen(Config(length=32, steps=7), items)
    assert (some.batch, some.epochs, some.steps) == (2, 0.0, 7) and why.startswith("batches of 2: 40 samples make")
    passes, why = chosen(Config(length=32, batch=40, packing=False), items)
    assert passes.epochs == 100 and why.startswith("100 passes: 40 samples make 1 batches, so 100 steps")
    slow, _ = chosen(Config(length=32, batch=40, packing=False, accumulate=2), items)
    assert slow.epochs == 200


def test_steps_are_those_asked_for_or_whole_passes() -> None:
    items = [sample(8)] * 10
    config = Config(batch=4, packing=False)
    assert per_epoch(config, items) == 3
    for options, steps in (
        ({"steps": 9}, 9), ({"epochs": 1.0}, 3), ({"epochs": 1.5}, 5), ({"epochs": 2.0, "accumulate": 4}, 2),
        ({"epochs": 0.01}, 1), ({}, 1),
    ):  # fmt: skip
        assert steps_of(configure({"batch": 4, "packing": False, **options}), items) == steps
    assert per_epoch(Config(batch=2, length=16, packing=True), items) == 3


# -- batches -----------------------------------------------------------------------------------------------------------


def test_items_go_into_the_fullest_batch_that_has_place() -> None:
    lengths = np.array([5, 4, 3, 2, 6, 1])
    assert batches._fill(np.arange(6), lengths, 8) == [[0, 2], [1, 3, 5], [4]]
    long = batches._fill(np.arange(12), np.full(12, 9), 8)  # longer than a batch has room for
    assert sorted(map(tuple, long)) == [(i,) for i in range(12)]


def test_a_pass_is_by_seed_and_epoch_and_has_each_item_once() -> None:
    items = [sample(3 + i % 5) for i in range(23)]
    for packing in (True, False):
        how: dict[str, Any] = {"size": 4, "length": 6, "packing": packing}
        first = batches.plan(items, seed=1, epoch=0, **how)
        assert sorted(i for batch in first for i in batch) == list(range(23))
        assert first == batches.plan(items, seed=1, epoch=0, **how)
        assert first != batches.plan(items, seed=1, epoch=1, **how) != batches.plan(items, seed=2, epoch=1, **how)
        if packing:
            assert all(sum(len(items[i].ids) for i in batch) <= 24 for batch in first)
        else:
            assert sorted(map(len, first)) == [3, 4, 4, 4, 4, 4]
            assert all(max(len(items[i].ids) for i in b) - min(len(items[i].ids) for i in b) <= 1 for b in first)
        stream = batches.stream(items, seed=1, **how)
        both = [*first, *batches.plan(items, seed=1, epoch=1, **how)]
        wanted = [(0, batch) for batch in first] + [(1, batch) for batch in both[len(first) :]]
        assert [next(stream) for _ in wanted] == wanted
        for skip in (2, len(first), len(first) + 1):
            later = batches.stream(items, seed=1, skip=skip, first=first, **how)
            assert next(later) == wanted[skip]
    assert batches.share([1, 2, 3, 4, 5], 1, 2) == [2, 4] and batches.share([1, 2, 3], 0, 1) == [1, 2, 3]


# -- masks -------------------------------------------------------------------------------------------------------------


def test_what_is_seen_of_what_comes_after_rises_to_all() -> None:
    assert [masked.ratio(t, 10, 0.5) for t in (1, 2, 6, 7, 10)] == [0.0, 0.2, 1.0, 1.0, 1.0]
    assert masked.ratio(1, 10, 0.0) == 1.0


@pytest.mark.parametrize(("block", "shifted"), [(0, False), (0, True), (3, False), (3, True)])
def test_masked_batches_hold_their_targets_where_the_model_says_them(block: int, shifted: bool) -> None:
    diffusion = MaskedDiffusion(mask=99, block=block, shifted=shifted)
    rows = [
        TrainingSample(tuple(range(10, 18)), (False, False, *[True] * 6), "a"),
        TrainingSample((1, 2, 3), (True,) * 3, "b"),
    ]
    batch = masked.collate(rows, diffusion, (7, 1))
    ids = np.array(batch.tokens)[0]
    at, targets, weights = np.array(batch.at), np.array(batch.targets), np.array(batch.weights)
    start, taken = 0, 0
    for i, row in enumerate(rows):
        n = len(row.ids)
        noised = ids[start : start + n]
        if block:
            assert ids[start + n : start + 2 * n].tolist() == list(row.ids)
        places = np.flatnonzero(noised == 99)
        assert all(row.trained[p] for p in places)
        assert [noised[p] for p in range(n) if p not in places] == [row.ids[p] for p in range(n) if p not in places]
        expected = []
        for p in places.tolist():
            where = max(p - 1, 0) if shifted else p
            if shifted and block and p % block == 0 and p > 0:
                where += n
            expected.append((start + where, row.ids[p]))
        own = slice(taken, taken + len(places))
        assert sorted(zip(at[own].tolist(), targets[own].tolist(), strict=True)) == sorted(expected)
        groups = [np.flatnonzero(row.trained)]
        if block:
            groups = [
                np.array([p for p in groups[0] if p // block == b]) for b in sorted({p // block for p in groups[0]})
            ]
        sizes = [(len(g), int(np.isin(g, places).sum())) for g in groups]
        assert weights[own] == pytest.approx([full / k for full, k in sizes for _ in range(k)]) and min(
            k for _, k in sizes
        )
        assert batch.counts[i] == sum(full for full, _ in sizes)
        taken += len(places)
        start += n * (2 if block else 1)
    assert start == len(ids) and batch.block == block and batch.also is None
    assert batch.documents == ((8, 8, 3, 3) if block else (8, 3))
    other = masked.collate(rows, diffusion, (7, 2))
    assert np.array(other.tokens).tolist() != ids[None].tolist()
    assert np.array(masked.collate(rows, diffusion, (7, 1)).tokens).tolist() == ids[None].tolist()


def test_some_of_what_comes_after_is_seen_inside_a_document_alone() -> None:
    found = np.array(masked._also((40, 30), 0.25, np.random.default_rng(0)))[0]
    assert not found[:40, 40:].any() and not found[40:, :40].any()
    assert found[:40, :40].mean() == pytest.approx(0.25, abs=0.05) and found[40:, 40:].mean() == pytest.approx(
        0.25, abs=0.07
    )
    batch = masked.collate([sample(6, 5)], MaskedDiffusion(mask=99), (1,), 0.5)
    assert batch.also is not None and batch.also.shape == (1, 6, 6)


# -- choices -----------------------------------------------------------------------------------------------------------


def test_choices_are_added_taken_back_and_kept_by_the_row_s_content(tmp_path: Path) -> None:
    path = choices.beside(tmp_path)
    assert path == tmp_path / "choices.jsonl" == choices.beside(tmp_path / "rows.jsonl")
    assert choices.choose(path, {"a": None}) == {} and not path.exists()
    assert choices.choose(path, {"a": True, "b": False}) == {"a": True, "b": False} == choices.read(path)
    assert choices.choose(path, {"a": None, "b": True, "c": False}) == {"b": True, "c": False}
    assert path.read_text() == '{"row": "b", "keep": true}\n{"row": "c", "keep": false}\n'
    assert choices.choose(path, {"b": None, "c": None}) == {} and path.read_text() == ""
    path.write_text('{"row": "b", "keep": true}\n\n{"row": 3}\n')
    with pytest.raises(Exception, match=r"choices\.jsonl:3: a choice of a row expected"):
        choices.read(path)
    one, other = (parse({"text": text}, "") for text in ("a", "b"))
    assert choices.key(one) == one.digest.hex()[:32] != choices.key(other) and len(choices.key(one)) == 32
    for dropped in ("filter: short", "balance: x", "deduplicate: y"):
        assert choices.can_come_back(dropped) is True
    for dropped in ("generate: z", "decontaminate: q", ""):
        assert choices.can_come_back(dropped) is False
