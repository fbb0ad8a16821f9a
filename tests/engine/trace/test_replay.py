"""Replay against the truth: the transforms run in float64 on all the logits."""

import numpy as np
import pytest

from likely.engine.base.errors import ParameterError
from likely.engine.sampling.trace.observe import observe
from likely.engine.sampling.trace.replay import replay, replay_drawn, states_at
from likely.engine.sampling.trace.step import SamplingConfig
from likely.engine.sampling.transforms import (
    DRY,
    STAYS,
    XTC,
    DynamicTemperature,
    FrequencyPenalty,
    LogitBias,
    MinP,
    MirostatV2,
    PresencePenalty,
    RepetitionPenalty,
    Temperature,
    TopK,
    TopNSigma,
    TopP,
    Transform,
    Typical,
    advance,
    draw,
    edited_ids,
    run,
    start,
)
from likely.engine.sampling.transforms.intervals import Intervals
from tests.support.everyday import everyday


def random_logits(rng):
    size = int(rng.choice([1, 3, 200, 300, 1000, 5000]))
    z = rng.normal(rng.normal(0, 5), rng.uniform(0.2, 4), size)
    if rng.random() < 0.7:
        peaks = rng.integers(0, size, rng.integers(1, 30))
        z[peaks] += rng.exponential(5, len(peaks))
    if rng.random() < 0.2:
        z = np.round(z * 4) / 4
    if rng.random() < 0.15:
        z = np.where(rng.random(size) < 0.3, -np.inf, z)
        z[rng.integers(size)] = 1.0
    if rng.random() < 0.1:
        z[rng.integers(size)] = -1e4
    return z.astype(np.float32)


def random_transforms(rng, size):
    u = rng.uniform
    bias = {int(i): float(u(-4, 4)) for i in rng.integers(0, size, 3)}
    all_of_them = [
        Temperature(float(10 ** u(-0.7, 1))), Temperature(u(0.5, 1.5)),
        DynamicTemperature(u(0.5, 1.5), u(0, 1), u(0.5, 2)), TopK(int(rng.integers(1, 400))), TopP(u(0.05, 1)),
        MinP(float(10 ** u(-4, 0)), int(rng.integers(1, 5))), Typical(u(0.1, 1)), TopNSigma(u(0.05, 4)),
        XTC(0.7, u(0, 0.5)), MirostatV2(u(0.5, 8)), DRY(u(0, 2)),
        RepetitionPenalty(u(0.6, 2), int(rng.integers(1, 80))), PresencePenalty(u(-2, 2), int(rng.integers(1, 80))),
        FrequencyPenalty(u(-2, 2), int(rng.integers(1, 80))), LogitBias(bias),
    ]  # fmt: skip
    return tuple(all_of_them[i] for i in rng.permutation(len(all_of_them))[: rng.integers(0, 6)])


def truth(raw, transforms, states, key, greedy=False):
    after, removed_by = run(transforms, raw.astype(np.float64), states, key, np, greedy=greedy)
    p = np.exp(after - after.max())
    return p / p.sum(), removed_by, int((after > -np.inf).sum())


def check(raw, transforms, ids, *, known=(), key=(0, 0), greedy=False):
    snapshot = observe(raw, int(raw.argmax()), recipe=SamplingConfig(), edited_ids=known, position=0).snapshot
    states = start(transforms, None, ids, np)
    seen = replay(snapshot, transforms, states, key, greedy=greedy)
    p, removed_by, kept = truth(raw, transforms, states, key, greedy)
    mine = p[seen.ids]
    assert (seen.low <= mine + 1e-6).all()
    assert (mine <= seen.high + 1e-6).all()
    rest = 1 - mine.sum()
    assert seen.rest[0] - 1e-6 <= rest <= seen.rest[1] + 1e-6
    assert seen.kept[0] <= kept <= seen.kept[1]
    removed = seen.removed_by != STAYS
    true_cut = removed_by[seen.ids][removed]
    assert ((true_cut != STAYS) & (true_cut <= seen.removed_by[removed])).all()
    assert (seen.high[removed] == 0).all()
    return seen, p, snapshot


@pytest.mark.parametrize("part", everyday(range(10), 4))
def test_the_truth_lies_within_the_bounds(part):
    """A thousand random logits and parameters, any transforms in any order."""
    rng = np.random.default_rng(part)
    for _ in range(100):
        raw = random_logits(rng)
        ids = rng.integers(0, len(raw), 100).tolist()
        known = ids[-80:] if rng.random() < 0.8 else []
        check(raw, random_transforms(rng, len(raw)), ids, known=known, key=(part, 7), greedy=rng.random() < 0.1)


def test_what_a_token_was_drawn_from_is_a_point_where_its_draw_was_recorded():
    """Random logits under random transforms; the bounds alone are wide for most of those that leave many tokens."""
    rng, points, wide = np.random.default_rng(5), 0, 0
    for position in range(80):
        raw = random_logits(rng)
        recipe = SamplingConfig(random_transforms(rng, len(raw)), greedy=rng.random() < 0.1)
        ids, key = rng.integers(0, len(raw), 100).tolist(), (1, position)
        states = start(recipe.transforms, None, ids, np)
        after, removed_by = run(recipe.transforms, raw, states, key, np, greedy=recipe.greedy)
        token = int(after.argmax()) if recipe.greedy else int(draw(after, key, np))
        step = observe(raw, token, after=after, removed_by=removed_by, recipe=recipe, edited_ids=ids, position=position)
        seen, bounds = replay_drawn(step, states, key), replay(step.snapshot, recipe.transforms, states, key)
        left = after.astype(np.float64)
        p = np.exp(left - left.max()) / np.exp(left - left.max()).sum()
        assert (seen.low <= p[seen.ids] + 2e-5).all() and (p[seen.ids] <= seen.high + 2e-5).all()
        assert seen.kept == ((after > -np.inf).sum(),) * 2
        assert (seen.removed_by == removed_by[seen.ids]).all()
        points, wide = points + seen.exact, wide + (not bounds.exact)
    assert points >= 75 and wide >= 3, (points, wide)


def language(seed, size=50_000):
    """A few likely tokens above a bell of unlikely ones, as language models have it."""
    rng = np.random.default_rng(seed)
    z = rng.normal(0, 2, size)
    z[rng.integers(0, size, 40)] += rng.uniform(4, 14, 40)
    return z.astype(np.float32)


@pytest.mark.parametrize(
    "transforms",
    [
        (), (TopK(40), Temperature(0.7)), (TopP(0.8), MinP(0.05), Temperature(1.3)), (Temperature(0.6), TopP(0.9)),
        (MinP(0.02), DynamicTemperature(1.0, 0.6)), (RepetitionPenalty(1.2, 30), FrequencyPenalty(0.3, 60), TopP(0.8)),
        (LogitBias({0: 12.0, 3: -5.0}), TopNSigma(2.0)), (Typical(0.5), Temperature(2.0)), (XTC(1.0, 0.05), TopK(20)),
        (MirostatV2(1.5), Temperature(0.8)),
    ],
    ids=lambda transforms: " ".join(type(t).__name__ for t in transforms) or "none",
)  # fmt: skip
def test_exact_where_what_survives_are_candidates(transforms):
    for seed in range(5):
        ids = np.random.default_rng(seed).integers(0, 50_000, 64).tolist()
        raw = language(seed)
        seen, p, _ = check(raw, transforms, ids, known=[*ids, 0, 3])
        assert seen.exact
        np.testing.assert_allclose(seen.middle, p[seen.ids], atol=1e-6)
        if transforms:
            assert seen.kept[0] == seen.kept[1] == (p > 0).sum()
            assert seen.rest == (0.0, 0.0)
        # and the engine's own float32 agrees
        states = start(transforms, None, ids, np)
        after, removed_by = run(transforms, raw, states, (0, 0), np)
        mass = np.exp(after - after.max())
        np.testing.assert_allclose(seen.middle, (mass / mass.sum())[seen.ids], atol=2e-6)
        assert (seen.removed_by == removed_by[seen.ids]).all()


def test_the_bounds_hold_where_a_token_stands_at_the_threshold():
    for seed in range(3):
        raw = language(seed, 300)
        p = np.sort(truth(raw, (), [], (0, 0))[0])[::-1]
        for n in (1, 4, 15):
            for nudge in (1 - 1e-9, 1, 1 + 1e-9):
                for cut in (XTC(1.0, p[n] * nudge), MinP(p[n] / p[0] * nudge), TopP(p[: n + 1].sum() * nudge)):
                    check(raw, (cut,), [])


def test_a_penalised_token_that_the_snapshot_lacks_is_bounded():
    raw = language(2, 3000)
    foreign_files = np.argsort(raw)[:5].tolist()
    seen, _, snapshot = check(raw, (FrequencyPenalty(-9.0, 5),), foreign_files)
    assert not set(foreign_files) & set(snapshot.ids.tolist())
    assert not seen.exact


def test_states_are_those_that_the_run_had():
    transforms = (RepetitionPenalty(1.3, 4), MirostatV2(3.0, 0.3), Temperature(0.9))
    prompt, steps = [5, 9], []
    states = start(transforms, None, prompt, np)
    for position in range(2, 30):
        raw = language(position, 500)
        again = states_at(transforms, None, prompt, steps)
        assert again[0].tolist() == states[0].tolist()
        assert again[1] == pytest.approx(states[1], abs=1e-5)
        after, removed_by = run(transforms, raw, states, (1, position), np)
        token = int(draw(after, (1, position), np))
        recipe = SamplingConfig(transforms)
        edited = edited_ids(transforms, states)
        step = observe(raw, token, after=after, removed_by=removed_by, recipe=recipe, edited_ids=edited,
                       position=position)  # fmt: skip
        seen = replay(step.snapshot, transforms, again, (1, position))
        place = seen.ids.tolist().index(token)
        assert seen.low[place] - 1e-5 <= np.exp(step.logprob_after) <= seen.high[place] + 1e-5
        states = advance(transforms, states, token, after, np)
        steps.append(step)


def test_deviation_and_entropy_of_all_logits_are_those_of_the_row() -> None:
    """The snapshot has the mean and the variance of all: with bins and all the same the deviation is exact."""
    raw = np.random.default_rng(3).normal(size=3000).astype(np.float32)
    snapshot = observe(raw, 0, recipe=SamplingConfig(), position=0).snapshot
    assert snapshot is not None
    items = Intervals(snapshot, np.array([], np.int64))
    assert items.deviation() == pytest.approx((raw.std(), raw.std()), rel=1e-4)
    p = np.exp(raw.astype(np.float64)) / np.exp(raw.astype(np.float64)).sum()
    low, high = items.entropy()
    assert low - 1e-6 <= -(p @ np.log(p)) <= high + 1e-6 and high - low < 0.01
    low, high = items.depth()
    assert low - 1e-6 <= float(p @ (raw.max() - raw)) <= high + 1e-6 and high - low < 0.01
    items.divide(0.5, 0.5)
    assert items.deviation() == pytest.approx((2 * raw.std(), 2 * raw.std()), rel=1e-4)
    half = Intervals(snapshot, np.array([], np.int64))
    half.keep(np.arange(len(half.most)) < half.points, np.arange(len(half.most)) >= half.points)
    kept = raw[snapshot.ids]
    assert half.deviation() == pytest.approx((kept.std(), kept.std()), rel=1e-4)


def test_a_replay_of_points_is_the_transforms_themselves() -> None:
    for transforms in (
        (TopK(3), Temperature(0.5)), (TopP(0.8),), (MinP(0.3, 2),), (Typical(0.55),), (TopNSigma(0.7),),
        (XTC(1.0, 0.1),), (MirostatV2(0.6),), (DynamicTemperature(1.0, 0.5, 2.0),), (LogitBias({1: 2.0}), TopK(2)),
        (RepetitionPenalty(1.5), FrequencyPenalty(0.5)),
    ):  # fmt: skip
        raw = np.log(np.array([0.3, 0.05, 0.25, 0.2, 0.15, 0.05], np.float32))
        snapshot = observe(raw, 0, recipe=SamplingConfig(), position=0).snapshot
        assert snapshot is not None
        states = start(transforms, None, [1, 4, 4], np)
        for greedy in (False, True):
            seen = replay(snapshot, transforms, states, (3, 1), greedy=greedy)
            z = raw.astype(np.float64)
            for transform, state in zip(transforms, states, strict=True):
                if not greedy or not hasattr(transform, "keep"):
                    z = np.asarray(transform.apply(z, state, (3, 1), np))
            p = np.exp(z - z.max())
            p = (z == z.max()).astype(float) if greedy else p / p.sum()
            np.testing.assert_allclose(seen.low, p[seen.ids], atol=1e-6)
            np.testing.assert_allclose(seen.high, p[seen.ids], atol=1e-6)
            assert seen.kept == ((p > 0).sum(),) * 2 and seen.exact and seen.rest == (0.0, 0.0)
        assert edited_ids(transforms, states).tolist() == sorted(
            {int(i) for t, s in zip(transforms, states, strict=True) for i in t.edited_ids(s)}
        )
    with pytest.raises(ParameterError, match="Transform cannot be replayed without the model"):
        Transform().bounds(Intervals(snapshot, np.array([], np.int64)), None, (0, 0))
