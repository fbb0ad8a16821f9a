"""What a step says, against float64 sums over all logits, and what a row says against a sort of it."""

import math
from dataclasses import fields

import numpy as np
import pytest

from likely.engine.base.errors import NotFinite
from likely.engine.sampling.trace import row
from likely.engine.sampling.trace.observe import observe
from likely.engine.sampling.trace.row import RowStatistics
from likely.engine.sampling.trace.step import SamplingConfig
from likely.engine.sampling.transforms import Temperature, TopP, run, start
from likely.engine.sampling.transforms.snapshot import BINS, CANDIDATES, Snapshot
from likely.metal.packed.statistics import SPAN
from tests.laws import by_definition as reference


def far(r):
    return np.append([-1e4, -3e4, 500.0], r.normal(0, 1, 1997))


MADE = {  # by a random generator
    "plain": lambda r: r.normal(0, 3, 3000), "ties": lambda r: np.round(r.normal(0, 1, 3000) * 4) / 4,
    "equal": lambda r: np.full(1000, -2.0), "small": lambda r: r.normal(0, 3, 40), "one": lambda r: np.array([4.0]),
    "impossible": lambda r: np.where(r.random(3000) < 0.4, -np.inf, r.normal(0, 3, 3000)), "far": far,
    "few possible": lambda r: np.where(np.isin(np.arange(1000), [3, 900]), np.arange(1000) / 500, -np.inf),
    "a vocabulary": lambda r: r.normal(0, 3, 49_152), "large ties": lambda r: np.round(r.normal(0, 1, 60_000) * 4) / 4,
    "zeros of both signs": lambda r: np.where(r.random(30_000) < 0.5, 0.0, -0.0),
    "mostly impossible": lambda r: np.where(r.random(60_000) < 0.9, -np.inf, r.normal(0, 3, 60_000)),
    "as many as candidates": lambda r: r.normal(0, 3, CANDIDATES), "one more": lambda r: r.normal(0, 3, CANDIDATES + 1),
    "narrow": lambda r: 1000 + r.normal(0, 1e-3, 50_000),  # bins of a few roundings each
    # every logit of the rest is an edge
    "edges": lambda r: np.append(np.full(CANDIDATES, 9.0), np.linspace(-24, 8, BINS + 1).repeat(40)),
    "best side by side": lambda r: np.append(r.normal(0, 1, 20_000), r.normal(20, 1, 300)),
}  # fmt: skip
NAMES = ("plain", "ties", "equal", "impossible", "few possible", "small", "one", "far")


def made(name):
    return MADE[name](np.random.default_rng(5)).astype(np.float32)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("token", [0, -1])
def test_numbers_equal_float64(name, token):
    raw = made(name)
    token %= len(raw)
    transforms = (Temperature(0.7), TopP(0.6))
    after, removed_by = run(transforms, raw, start(transforms, None, [], np), (0, 0), np)
    step = observe(raw, token, after=after, removed_by=removed_by, recipe=SamplingConfig(transforms), position=9)
    for said, logits in ((step.logprob, raw), (step.logprob_after, after)):
        z = logits.astype(np.float64)
        assert said == pytest.approx(z[token] - z.max() - math.log(math.fsum(np.exp(z - z.max()))), rel=1e-5, abs=1e-5)
    assert step.entropy == pytest.approx(reference.entropy(raw), abs=1e-5)
    assert step.entropy_after == pytest.approx(reference.entropy(after), abs=1e-5)
    assert (step.rank, step.kept) == (1 + int((raw > raw[token]).sum()), int((after > -np.inf).sum()))
    assert (step.removed_by == removed_by[step.snapshot.ids]).all()


def test_without_transforms_after_is_before():
    step = observe(made("plain"), 3, recipe=SamplingConfig(), position=0, origin="given")
    assert (step.logprob_after, step.entropy_after, step.kept) == (step.logprob, step.entropy, 3000)
    assert (step.removed_by == -1).all()
    assert step.origin == "given"


def test_a_forced_token_that_was_removed_has_no_probability_after():
    raw = np.array([3.0, 0.0, -5.0], np.float32)
    after, removed_by = run((TopP(0.5),), raw, (None,), (0, 0), np)
    step = observe(
        raw, 2, after=after, removed_by=removed_by, recipe=SamplingConfig((TopP(0.5),)), position=0, origin="forced"
    )
    assert step.logprob_after == -math.inf
    assert step.removed_by[step.snapshot.ids.tolist().index(2)] == 0


def by_a_sort(raw, token, edited_ids):
    """A row's statistics from all its logits in order: what observation did before it could do without."""
    possible = np.sort(raw[raw > -np.inf])
    below = possible.astype(np.float64) - possible[-1]
    mass = np.exp(below)
    lse = float(possible[-1]) + math.log(math.fsum(mass))
    best = np.lexsort((np.arange(len(raw)), -raw))[: min(CANDIDATES, len(possible))]
    others = np.array(sorted({token, *edited_ids} - {*best.tolist()}), np.int64)
    ids = np.concatenate([best, others]).astype(np.int32)
    rest = possible[: max(len(possible) - CANDIDATES, 0)]
    edges, counts, lses = np.zeros(BINS + 1, np.float32), np.zeros(BINS, np.int32), np.full(BINS, -np.inf)
    if len(rest):
        edges = np.linspace(max(rest[0], rest[-1] - SPAN), rest[-1], BINS + 1).astype(np.float32)
        edges[0], edges[-1] = rest[0], rest[-1]
        left = np.delete(raw, ids)
        left = np.sort(left[left > -np.inf])
        bounds = [0, *np.searchsorted(left, edges[1:-1]), len(left)]
        counts = np.diff(bounds).astype(np.int32)
        for i in np.flatnonzero(counts):
            inside = left[bounds[i] : bounds[i + 1]].astype(np.float64)
            lses[i] = inside.max() + math.log(math.fsum(np.exp(inside - inside.max())))
    snapshot = Snapshot(
        len(raw), ids, raw[ids], lse, float(possible[-1] + below.mean()), float(below.var()), edges, counts,
        lses.astype(np.float32),
    )  # fmt: skip
    entropy = max(lse - float(possible[-1]) - float(mass @ below) / float(mass.sum()), 0.0)
    return RowStatistics(snapshot, entropy, len(possible), float(raw[token]), 1 + int((raw > raw[token]).sum()))


def same(got, expected):
    assert (got.possible, got.rank, got.logit) == (expected.possible, expected.rank, expected.logit)
    assert got.entropy == pytest.approx(expected.entropy, abs=2e-6, rel=2e-6)
    exact = ("vocab", "ids", "logits", "edges", "counts")
    for field in fields(Snapshot):
        a, b = (getattr(of.snapshot, field.name) for of in (got, expected))
        if field.name in exact:
            np.testing.assert_array_equal(a, b, field.name)
        else:
            rounding = 1e-5 if field.name == "variance" else 2e-6
            np.testing.assert_allclose(a, b, rounding, rounding, err_msg=field.name)
        if isinstance(b, np.ndarray):
            assert a.dtype == b.dtype, field.name


@pytest.mark.parametrize("measured", [row.by_numpy, row.measured], ids=["numpy", "library"])
@pytest.mark.parametrize("name", MADE)
def test_a_row_says_without_a_sort_what_it_says_with_one(measured, name):
    raw = made(name)
    before = raw.copy()
    for token in (0, len(raw) // 3, int(raw.argmax())):
        edited = [0, len(raw) - 1, len(raw) // 2]
        same(measured(raw, token, edited), by_a_sort(raw, token, edited))
    np.testing.assert_array_equal(raw, before)


@pytest.mark.parametrize("measured", [row.by_numpy, row.measured], ids=["numpy", "library"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logits_that_are_no_numbers_are_named(measured, value):
    for at in (0, 700, 2999):
        raw = made("plain")
        raw[at] = value
        with pytest.raises(NotFinite, match=f"not finite: NaN or infinity, first for token {at:,} of 3,000"):
            measured(raw, 5)
        with pytest.raises(NotFinite, match=f"token {at:,}"):
            observe(raw, 5, recipe=SamplingConfig(), position=0)
    with pytest.raises(NotFinite, match="-inf for each of 3,000 tokens"):
        measured(np.full(3000, -np.inf, np.float32), 5)


def test_a_row_in_steps_is_measured_too():
    raw = np.repeat(made("plain"), 2)[::2]
    assert not raw.flags.c_contiguous
    same(row.measured(raw, 5, [7]), by_a_sort(raw.copy(), 5, [7]))
