"""Sliders and ranges of the transforms, orders and presets as they are promised, and intervals where they are sharp."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from engine.errors import ParameterError
from engine.presets import HUGGING_FACE, LLAMA_CPP, MLX_LM, OFF, PARAMETERS, build, clamp, recipe, values
from engine.trace.observe import observe
from engine.trace.replay import replay
from engine.trace.trace import Recipe
from engine.transforms import (
    DRY,
    XTC,
    DynamicTemperature,
    FrequencyPenalty,
    LogitBias,
    MinP,
    MirostatV2,
    PresencePenalty,
    RepetitionPenalty,
    Snapshot,
    Temperature,
    TopK,
    TopNSigma,
    TopP,
    Transform,
    Typical,
    edited_ids,
    start,
)
from engine.transforms.arrays import add, largest, nucleus, put, uniform
from engine.transforms.dry import History
from engine.transforms.intervals import SLACK, Intervals, _above, _others, _shares
from engine.transforms.transform import within
from metal import mx

# low, high, step, default, off, whole
SLIDERS = {
    "temp": (0.0, 2.0, 0.05, 0.8, 1.0, False),
    "dynatemp_range": (0.0, 2.0, 0.05, 0.0, 0.0, False),
    "dynatemp_exponent": (0.1, 4.0, 0.1, 1.0, None, False),
    "top_k": (0, 200, 1, 0, 0, True),
    "top_p": (0.01, 1.0, 0.01, 0.95, 1.0, False),
    "min_p": (0.0, 1.0, 0.01, 0.05, 0.0, False),
    "min_tokens_to_keep": (1, 50, 1, 1, None, True),
    "typical_p": (0.01, 1.0, 0.01, 1.0, 1.0, False),
    "top_n_sigma": (0.0, 5.0, 0.1, 0.0, 0.0, False),
    "xtc_probability": (0.0, 1.0, 0.05, 0.0, 0.0, False),
    "xtc_threshold": (0.0, 0.5, 0.01, 0.1, None, False),
    "dry_multiplier": (0.0, 5.0, 0.1, 0.0, 0.0, False),
    "dry_base": (1.0, 4.0, 0.05, 1.75, None, False),
    "dry_allowed_length": (1, 20, 1, 2, None, True),
    "dry_penalty_last_n": (1, 32768, 1, 4096, None, True),
    "mirostat_tau": (0.0, 10.0, 0.1, 0.0, 0.0, False),
    "mirostat_eta": (0.01, 1.0, 0.01, 0.1, None, False),
    "repetition_penalty": (0.5, 2.0, 0.01, 1.0, 1.0, False),
    "repetition_context_size": (1, 4096, 1, 20, None, True),
    "presence_penalty": (-2.0, 2.0, 0.05, 0.0, 0.0, False),
    "presence_context_size": (1, 4096, 1, 20, None, True),
    "frequency_penalty": (-2.0, 2.0, 0.05, 0.0, 0.0, False),
    "frequency_context_size": (1, 4096, 1, 20, None, True),
}


def test_sliders_are_as_they_are_promised() -> None:
    assert {p.name: (p.low, p.high, p.step, p.default, p.off, p.whole) for p in PARAMETERS.values()} == SLIDERS
    assert PARAMETERS["top_p"].flag == "--top-p" and PARAMETERS["dry_penalty_last_n"].flag == "--dry-penalty-last-n"
    for kind, fields in (
        (DRY(1.0), (1.75, 2, 4096)),
        (XTC(0.5), (0.1,)),
        (MinP(0.5), (1,)),
        (MirostatV2(1.0), (0.1,)),
        (RepetitionPenalty(1.0), (20,)),
    ):
        assert tuple(getattr(kind, name) for name in type(kind).__dataclass_fields__)[1 : 1 + len(fields)] == fields
    assert DynamicTemperature(1.0, 0.5).exponent == 1.0


RANGES: list[tuple[Callable[[Any], Transform], tuple[float, ...], tuple[float, ...]]] = [
    (Temperature, (1e-9, 100), (0, -1, 100.1)),
    (lambda x: DynamicTemperature(1, x), (0, 100), (-0.1, 100.1)),
    (lambda x: DynamicTemperature(x, 0), (100,), (0, 101)),
    (lambda x: DynamicTemperature(1, 0, x), (1e-9, 10), (0, 10.1)),
    (TopK, (1, 10**9), (0, 1.5)),
    (TopP, (1e-9, 1), (0, 1.01)),
    (MinP, (1e-9, 1), (0, 1.01)),
    (lambda x: MinP(0.5, x), (1, 99), (0, 1.5)),
    (Typical, (1e-9, 1), (0, 1.01)),
    (TopNSigma, (1e-9, 100), (0, 100.1)),
    (XTC, (0, 1), (-0.01, 1.01)),
    (lambda x: XTC(0.5, x), (0, 0.5), (-0.01, 0.51)),
    (lambda x: DRY(x), (0, 100), (-0.1, 100.1)),
    (lambda x: DRY(1, x), (1, 10), (0.99, 10.1)),
    (lambda x: DRY(1, 2, x), (1, 50), (0, 1.5)),
    (lambda x: DRY(1, 2, 1, x), (1, 50), (0, 1.5)),
    (MirostatV2, (1e-9, 100), (0, 100.1)),
    (lambda x: MirostatV2(1, x), (1e-9, 1), (0, 1.1)),
    (RepetitionPenalty, (1e-9, 10), (0, 10.1)),
    (lambda x: RepetitionPenalty(1, x), (1, 99), (0, 1.5)),
    (PresencePenalty, (-10, 10), (-10.1, 10.1)),
    (lambda x: PresencePenalty(1, x), (1,), (0,)),
    (FrequencyPenalty, (-10, 10), (-10.1, 10.1)),
    (lambda x: FrequencyPenalty(1, x), (1,), (0,)),
    (lambda x: LogitBias({3: x}), (-100, 100), (-100.1, 100.1)),
    (lambda x: LogitBias({x: 1.0}), (0, 7), (-1, 0.5)),
]


def test_ranges_hold_at_their_ends() -> None:
    for make, good, bad in RANGES:
        for value in good:
            make(value)
        for value in bad:
            with pytest.raises(ParameterError, match="must be"):
                make(value)
    for value, interval, whole in (
        (1, "(0, 2)", False),
        (0, "[0, 1)", False),
        (1, "(0, 1]", True),
        (np.float32(0.5), "[0, 1]", False),
        (5, "[1, inf)", True),
    ):
        within("x", value, interval, whole=whole)  # type: ignore[arg-type]
    for value, interval, line in (
        (0, "(0, 1]", "x must be in (0, 1], got 0"),
        (1, "[0, 1)", "in [0, 1), got 1"),
        (True, "[0, 1]", "got True"),
        ("1", "[0, 2]", "got 1"),
        (math.nan, "[0, 2]", "got nan"),
    ):
        with pytest.raises(ParameterError) as error:
            within("x", value, interval)  # type: ignore[arg-type]
        assert line in str(error.value)


EDITS = [LogitBias, RepetitionPenalty, PresencePenalty, FrequencyPenalty, DRY]


def test_orders_are_those_of_their_programs() -> None:
    assert list(MLX_LM) == [*EDITS, TopNSigma, Typical, TopP, MinP, XTC, TopK, Temperature, MirostatV2]
    assert list(LLAMA_CPP) == [*EDITS, TopNSigma, TopK, Typical, TopP, MinP, XTC, Temperature, MirostatV2]
    assert list(HUGGING_FACE) == [*EDITS, Temperature, TopK, TopP, MinP, Typical, TopNSigma, XTC, MirostatV2]


def test_a_switch_that_is_off_still_checks_what_is_beside_it() -> None:
    assert OFF["temp"] == 1.0 and OFF["top_p"] == 1.0 and OFF["xtc_threshold"] == 0.1
    for settings, made in (
        ({"temp": 1.0}, ()),
        ({"temp": 0.0}, ()),
        ({"temp": 0.5, "dynatemp_range": 0.2, "dynatemp_exponent": 2.0}, (DynamicTemperature(0.5, 0.2, 2.0),)),
        ({"temp": 1.0, "dynatemp_range": 0.2}, (DynamicTemperature(1.0, 0.2),)),
        ({"temp": 0.0, "dynatemp_range": 0.2}, ()),
        ({"min_p": 0.1, "min_tokens_to_keep": 3}, (MinP(0.1, 3),)),
        ({"min_tokens_to_keep": 3}, ()),
        ({"dry_multiplier": 0.5, "dry_base": 2.0}, (DRY(0.5, 2.0),)),
    ):
        assert build(settings) == made and recipe(settings).greedy == (settings.get("temp") == 0.0)
    assert (
        build({}, bias={3: 1.0}) == (LogitBias({3: 1.0}),)
        and build({}, bias={}) == ()
        and values(Recipe((Temperature(0.5),), greedy=True))["temp"] == 0.0
    )
    assert values(Recipe((DynamicTemperature(0.5, 0.2, 2.0), TopK(3), TopK(9)))) == OFF | {
        "temp": 0.5,
        "dynatemp_range": 0.2,
        "dynatemp_exponent": 2.0,
        "top_k": 9,
    }
    assert (
        clamp("presence_penalty", -3.0)[0] == -2.0
        and clamp("top_k", 0.4) == (0, "top-k goes in steps of 1 from 0 to 200: 0.4 became 0")
        and clamp("temp", 2.0) == (2.0, "")
    )


# -- arrays ------------------------------------------------------------------------------------------------------------


def test_the_hash_is_the_same_everywhere() -> None:
    """Stored runs are drawn again from it: these values never change."""
    assert [
        round(uniform(key, purpose) * 2**24)
        for key, purpose in (((0, 0), "row"), ((0, 0), "token"), ((1, 0), "row"), ((0, 1), "row"), ((-1, 0), "row"))
    ] == HASHED
    assert uniform((-1, 0), "row") == uniform((2**64 - 1, 0), "row") and all(
        0 <= uniform((s, 3), "xtc") < 1 for s in range(50)
    )


HASHED = [3182541, 643539, 4583763, 16177388, 9543398]


def test_values_are_put_and_added_at_ids() -> None:
    for xp in (np, mx):
        x = xp.array([1.0, 2.0, 3.0])
        assert put(x, xp.array([0, 2]), xp.array([5.0, 6.0]), xp).tolist() == [5.0, 2.0, 6.0]
        assert add(x, xp.array([1, 1, 0]), xp.array([1.0, 1.0, 2.0]), xp).tolist() == [
            3.0,
            4.0,
            3.0,
        ] and x.tolist() == [1.0, 2.0, 3.0]


def test_the_largest_are_so_many_and_of_equals_the_lower_ids() -> None:
    rng = np.random.default_rng(0)
    for size in (1, 5, 40):
        for kind in range(3):
            z = np.round(rng.normal(size=size) * (1 + kind)).astype(np.float32)
            z[rng.random(size) < 0.3 * kind] = -np.inf
            for count in (1, 2, size - 1, size, size + 3):
                if count < 1:
                    continue
                order = np.lexsort((np.arange(size), -z))[:count]
                want = np.isin(np.arange(size), order) & np.isfinite(z)
                assert (
                    largest(z, count, np).tolist()
                    == want.tolist()
                    == np.array(largest(mx.array(z), count, mx)).tolist()
                ), (z, count)


def test_a_nucleus_is_the_smallest_set_that_holds_its_share() -> None:
    rng = np.random.default_rng(1)
    for size in (1, 3, 50, 3000):
        score = rng.permutation(size).astype(np.float64)
        weight = rng.random(size) * (rng.random(size) < (0.2 if size == 3000 else 0.9))
        weight[0] = 0.5
        for share in (0.01, 0.3, 0.75, 0.999):
            order = np.argsort(-score, kind="stable")
            mass, at = 0.0, -1
            for at in order:
                if mass >= share * weight.sum() - 1e-12 and mass > 0:
                    break
                last, mass = at, mass + weight[at]
            found = nucleus(score, weight, share, np)
            assert (
                weight[score > found].sum() < share * weight.sum() + 1e-9 <= weight[score >= found].sum() + 2e-9
                and last is not None
            )


def test_a_run_is_counted_from_the_end_of_the_text() -> None:
    def runs(ids: list[int], allowed: int = 2, base: float = 2.0, window: int = 4096) -> dict[int, float]:
        kept = np.array(ids[-window:], np.int32)
        return dict(DRY(1.0, base, allowed, window).penalties(History(kept, None)))

    assert (
        runs([1, 2, 3, 1, 2]) == {3: 1.0}
        and runs([1, 2, 3, 1, 2], allowed=3) == {}
        and runs([1, 2, 3, 1, 2], allowed=1) == {3: 2.0}
    )
    assert (
        runs([7, 1, 2, 3, 9, 1, 2, 4, 7, 1, 2]) == {3: 2.0, 4: 1.0}
        and runs([1, 2]) == {}
        and runs([]) == {}
        and runs([5, 5, 5, 5]) == {5: 2.0}
    )
    assert runs([7, 1, 2, 3, 9, 1, 2, 4, 7, 1, 2], window=6) == {4: 1.0} and runs([1, 2] * 4, base=1.0) == {1: 1.0}
    deep = DRY(1.0, 10.0).penalties(History(np.array([1] * 50, np.int32), None))
    assert deep == {1: 1e4}


# -- intervals ---------------------------------------------------------------------------------------------------------


def parts(
    ids: list[int], logits: list[float], edges: list[float], counts: list[int], lses: list[float], vocab: int = 100
) -> Snapshot:
    whole = [*logits, *(x for x in lses)]
    return Snapshot(
        vocab,
        np.array(ids, np.int32),
        np.array(logits, np.float32),
        float(np.logaddexp.reduce(whole)),
        -1.0,
        1.0,
        np.array(edges, np.float32),
        np.array(counts, np.int32),
        np.array(lses, np.float32),
    )


def known(edited: list[int] | None = None) -> Intervals:
    """Two candidates at 0 and -1, and 4 tokens between -3 and -2 that weigh as much as 4 at -2.5."""
    return Intervals(parts([5, 9], [3.0, 2.0], [0.0, 1.0], [4], [math.log(4) + 0.5]), np.array(edited or [], np.int64))


def test_what_a_snapshot_knows_of_each_item() -> None:
    items = known()
    assert (
        items.points == 2
        and [x.tolist() for x in items.logits()] == [[0, -1, -3], [0, -1, -2]]
        and items.largest() == (0.0, 0.0)
    )
    assert items.least.tolist() == items.most.tolist() == [1, 1, 4] and items.kept() == (6, 6)
    low, high = items.masses()
    np.testing.assert_allclose(low, [1, math.exp(-1), 4 * math.exp(-2.5)], rtol=1e-6)
    np.testing.assert_allclose(high, low, rtol=1e-6)
    total = 1 + math.exp(-1) + 4 * math.exp(-2.5)
    assert items.total() == pytest.approx((total, total)) and items.rest(2)[1] == pytest.approx(
        4 * math.exp(-2.5) / total
    )
    assert items.rest(2)[0] == pytest.approx(4 * math.exp(-2.5) / total)
    for bound in items.probabilities():
        np.testing.assert_allclose(bound, np.array([1, math.exp(-1), 4 * math.exp(-2.5)]) / total, rtol=1e-6)
    with_stranger = known([9, 77])
    assert (
        with_stranger.ids.tolist() == [5, 9, 77]
        and with_stranger.least.tolist() == [1, 1, 0, 3]
        and with_stranger.most.tolist() == [1, 1, 1, 4]
    )
    assert (with_stranger.low[2], with_stranger.high[2]) == (-3.0, -2.0)
    gone = Intervals(parts([1, 2], [0.0, -np.inf], [0.0, 0.0], [0], [-np.inf]), np.array([50]))
    assert gone.ids.tolist() == [1, 2] and gone.kept() == (1, 1) and gone.probabilities()[0].tolist() == [1.0, 0.0]


def test_the_mass_of_a_bin_at_a_temperature_lies_between_all_alike_and_all_on_its_edges() -> None:
    """At 1 / T = 2: alike exp(-5) each; on the edges so many at -2 and at -3 as have the mean exp(-2.5)."""
    items = known()
    items.divide(0.5, 0.5)
    assert [x.tolist() for x in items.logits()] == [[0, -2, -6], [0, -2, -4]] and items.scale == (2.0, 2.0)
    share = (math.exp(-2.5) - math.exp(-3)) / (math.exp(-2) - math.exp(-3))
    apart = 4 * (share * math.exp(-4) + (1 - share) * math.exp(-6))
    low, high = items.masses()
    assert low[2] == pytest.approx(4 * math.exp(-5), rel=1e-6) and high[2] == pytest.approx(apart, rel=1e-6)
    hot = known()
    hot.divide(2.0, 2.0)
    low, high = hot.masses()
    apart = 4 * (share * math.exp(-1) + (1 - share) * math.exp(-1.5))
    assert high[2] == pytest.approx(4 * math.exp(-1.25), rel=1e-6) and low[2] == pytest.approx(apart, rel=1e-6)
    wide = known()
    wide.divide(0.5, 2.0)
    assert (
        [x.tolist() for x in wide.logits()] == [[0, -2, -6], [0, -0.5, -1]]
        and wide.scale == (0.5, 2.0)
        and wide.zero == (1.5, 6.0)
    )


def test_what_is_removed_may_leave_doubt() -> None:
    items = known()
    items.keep(np.array([True, False, False]), np.array([False, True, False]))
    assert items.least.tolist() == [1, 0, 0] and items.most.tolist() == [1, 0, 4] and items.kept() == (1, 5)
    low, high = items.masses()
    assert low.tolist() == [1, 0, 0] and high[1] == 0 and high[2] == pytest.approx(4 * math.exp(-2.5))
    assert items.probabilities()[1][0] == 1.0 and items.probabilities()[0][0] == pytest.approx(
        1 / (1 + 4 * math.exp(-2.5))
    )
    stays, goes = items.all()
    assert stays.all() and not goes.any()


def test_thresholds_ranks_and_nuclei_of_items() -> None:
    items = known()
    for threshold, stays, goes in (
        ((-1.5, -1.5), [True, True, False], [False, False, True]),
        ((-2.5, -2.5), [True, True, False], [False, False, False]),
        ((-9.0, -9.0), [True] * 3, [False] * 3),
        ((5.0, 5.0), [True, False, False], [True, True, True]),
        ((-3.0 + 2 * SLACK, -3.0 + 2 * SLACK), [True, True, False], [False] * 3),
    ):
        found = items.reaches(threshold)
        assert [x.tolist() for x in found] == [stays, goes], threshold
    for k, stays, goes in (
        (1, [True, False, False], [False, True, True]),
        (2, [True, True, False], [False, False, True]),
        (3, [True, True, False], [False] * 3),
        (6, [True, True, False], [False] * 3),
        (7, [True] * 3, [False] * 3),
    ):
        assert [x.tolist() for x in items.first(k)] == [stays, goes], k
    total = 1 + math.exp(-1) + 4 * math.exp(-2.5)
    for share, stays, goes in (
        (0.9 / total, [True, False, False], [False, True, True]),
        (1.1 / total, [True, True, False], [False, False, True]),
        ((1.1 + math.exp(-1)) / total, [True, True, False], [False] * 3),
        (0.9999, [True, True, False], [False] * 3),
    ):
        assert [x.tolist() for x in items.nucleus(items.logits(), share)] == [stays, goes], share
    ties = Intervals(parts([9, 5, 7], [1.0, 1.0, 1.0], [0.0, 0.0], [0], [-np.inf]), np.array([], np.int64))
    assert [x.tolist() for x in ties.first(2)] == [[False, True, True], [True, False, False]]
    assert _above(np.array([2.0, 0.5, 9.0]), np.array([1.0, 3.0, 2.0]), np.array([1.0, 10.0, 100.0])).tolist() == [
        10.0,
        111.0,
        0.0,
    ]
    assert _others(np.array([1.0, 2.0, 4.0])).tolist() == [6.0, 5.0, 3.0] and _others(np.array([3.0])).tolist() == [0.0]
    low, high = _shares(np.array([1.0, 0.0]), np.array([2.0, 3.0]), np.array([1.0, 1.0]))
    assert low.tolist() == [0.25, 0.0] and high.tolist() == [1.0, 0.75]


def test_depth_entropy_and_deviation_of_points_are_exact() -> None:
    logits = [2.0, 1.5, -1.0, 0.0]
    items = Intervals(parts([3, 1, 4, 8], logits, [0.0, 0.0], [0], [-np.inf]), np.array([], np.int64))
    p = np.exp(logits) / np.exp(logits).sum()
    depth, entropy = float(p @ (2.0 - np.array(logits))), -float(p @ np.log(p))
    assert items.depth() == pytest.approx((depth, depth)) and items.entropy() == pytest.approx((entropy, entropy))
    assert items.deviation() == pytest.approx((np.std(logits), np.std(logits)))
    items.divide(2.0, 2.0)
    assert items.deviation() == pytest.approx((np.std(logits) / 2, np.std(logits) / 2))
    items.keep(np.array([True, True, False, False]), np.array([False, False, True, True]))
    assert items.deviation() == pytest.approx((0.125, 0.125))
    doubt = Intervals(parts([3, 1, 4, 8], logits, [0.0, 0.0], [0], [-np.inf]), np.array([], np.int64))
    doubt.keep(np.array([True, True, False, True]), np.zeros(4, bool))
    assert doubt.deviation() == (0.0, 1.5)


def test_deviation_and_entropy_of_all_logits_are_those_of_the_row() -> None:
    """The snapshot has the mean and the variance of all: with bins and all the same the deviation is exact."""
    raw = np.random.default_rng(3).normal(size=3000).astype(np.float32)
    snapshot = observe(raw, 0, recipe=Recipe(), position=0).snapshot
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


def test_single_logits_move_between_what_their_ends_move_to() -> None:
    items = known([5, 77])
    items.change(
        lambda dense: np.where(np.arange(100) == 5, dense - 1.5, np.where(np.arange(100) == 77, dense + 0.25, dense)),
        np.array([5, 77]),
    )
    assert items.low.tolist() == [-1.5, -1.0, -2.75] and items.high.tolist() == [-1.5, -1.0, -1.75]
    scaled = known([5, 9, 77])
    scaled.change(lambda dense: np.where(dense < 0, dense * 2, dense / 2), np.array([5, 9, 77]))
    assert scaled.low.tolist() == [-1.5, -2.0, -3.0] and scaled.high.tolist() == [
        -1.5,
        -2.0,
        -2.5,
    ]  # 0 to 1 halved: 0 to 0.5


def test_a_replay_of_points_is_the_transforms_themselves() -> None:
    for transforms in (
        (TopK(3), Temperature(0.5)),
        (TopP(0.8),),
        (MinP(0.3, 2),),
        (Typical(0.55),),
        (TopNSigma(0.7),),
        (XTC(1.0, 0.1),),
        (MirostatV2(0.6),),
        (DynamicTemperature(1.0, 0.5, 2.0),),
        (LogitBias({1: 2.0}), TopK(2)),
        (RepetitionPenalty(1.5), FrequencyPenalty(0.5)),
    ):
        raw = np.log(np.array([0.3, 0.05, 0.25, 0.2, 0.15, 0.05], np.float32))
        snapshot = observe(raw, 0, recipe=Recipe(), position=0).snapshot
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
        Transform().bounds(known(), None, (0, 0))
