"""What a step says, against float64 sums over all logits."""

import math

import numpy as np
import pytest

from engine.trace import observe as observation
from engine.trace.observe import observe
from engine.trace.trace import Recipe
from engine.transforms import Temperature, TopP, run, start
from engine.transforms.snapshot import BINS, CANDIDATES
from tests.engine import reference


def made(name):
    rng = np.random.default_rng(5)
    match name:
        case "plain":
            z = rng.normal(0, 3, 3000)
        case "ties":
            z = np.round(rng.normal(0, 1, 3000) * 4) / 4
        case "equal":
            z = np.full(1000, -2.0)
        case "impossible":
            z = np.where(rng.random(3000) < 0.4, -np.inf, rng.normal(0, 3, 3000))
        case "few possible":
            z = np.full(1000, -np.inf)
            z[[3, 900]] = 1.0, 2.0
        case "small":
            z = rng.normal(0, 3, 40)
        case "one":
            z = np.array([4.0])
        case "far":
            z = rng.normal(0, 1, 2000)
            z[:3] = -1e4, -3e4, 500.0
    return z.astype(np.float32)


NAMES = ("plain", "ties", "equal", "impossible", "few possible", "small", "one", "far")


@pytest.fixture(params=["library", "numpy"])
def way(request, monkeypatch):
    """With the library that scans logits, where there is one, and as on a machine without."""
    if request.param == "numpy":
        monkeypatch.setattr(observation, "statistics", lambda *_: None)
        monkeypatch.setattr(observation, "totals", lambda *_: None)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("token", [0, -1])
def test_numbers_and_snapshot_equal_float64(name, token):
    raw = made(name)
    token %= len(raw)
    before = raw.copy()
    transforms = (Temperature(0.7), TopP(0.6))
    after, removed_by = run(transforms, raw, start(transforms, None, [], np), (0, 0), np)
    extra = [0, len(raw) - 1, len(raw) // 2]
    step = observe(
        raw, token, after=after, removed_by=removed_by, recipe=Recipe(transforms), edited_ids=extra, position=9
    )
    for said, logits in ((step.logprob, raw), (step.logprob_after, after)):
        z = logits.astype(np.float64)
        assert said == pytest.approx(z[token] - z.max() - math.log(math.fsum(np.exp(z - z.max()))), rel=1e-5, abs=1e-5)
    assert step.entropy == pytest.approx(reference.entropy(raw), abs=1e-5)
    assert step.entropy_after == pytest.approx(reference.entropy(after), abs=1e-5)
    assert step.rank == 1 + int((raw > raw[token]).sum())
    assert step.kept == int((after > -np.inf).sum())
    assert (raw == before).all()

    seen = step.snapshot
    possible = raw[raw > -np.inf].astype(np.float64)
    assert {token, *extra} <= set(seen.ids.tolist())
    assert len(seen.ids) == len(set(seen.ids.tolist()))
    first = seen.ids[: min(CANDIDATES, len(possible))]
    assert first.tolist() == np.lexsort((np.arange(len(raw)), -raw))[: len(first)].tolist()
    assert (seen.logits == raw[seen.ids]).all()
    assert (step.removed_by == removed_by[seen.ids]).all()
    assert seen.lse == pytest.approx(possible.max() + math.log(math.fsum(np.exp(possible - possible.max()))), rel=1e-6)
    assert seen.mean == pytest.approx(possible.mean(), rel=1e-5, abs=1e-5)
    assert seen.variance == pytest.approx(possible.var(), rel=1e-4, abs=1e-4)

    rest = np.delete(raw, seen.ids)
    rest = np.sort(rest[rest > -np.inf])
    assert seen.edges.shape == (BINS + 1,)
    assert seen.counts.sum() == len(rest)
    begin = 0
    for low, high, count, lse in zip(seen.edges, seen.edges[1:], seen.counts, seen.lses, strict=False):
        inside = rest[begin : begin + count].astype(np.float64)
        begin += count
        assert ((low <= inside) & (inside <= high)).all()
        if count:
            total = inside.max() + math.log(math.fsum(np.exp(inside - inside.max())))
            assert lse == pytest.approx(total, rel=1e-5, abs=1e-5)
        else:
            assert lse == -math.inf


def test_without_transforms_after_is_before():
    step = observe(made("plain"), 3, recipe=Recipe(), position=0, origin="given")
    assert (step.logprob_after, step.entropy_after, step.kept) == (step.logprob, step.entropy, 3000)
    assert (step.removed_by == -1).all()
    assert step.origin == "given"


def test_a_forced_token_that_was_removed_has_no_probability_after():
    raw = np.array([3.0, 0.0, -5.0], np.float32)
    after, removed_by = run((TopP(0.5),), raw, (None,), (0, 0), np)
    step = observe(raw, 2, after=after, removed_by=removed_by, recipe=Recipe((TopP(0.5),)), position=0, origin="forced")
    assert step.logprob_after == -math.inf
    assert step.removed_by[step.snapshot.ids.tolist().index(2)] == 0
