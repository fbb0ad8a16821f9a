"""What a scan says of logits, against a sort of them and sums in float64."""

import math
from collections.abc import Iterator

import numpy as np
import pytest

from likely.metal import packed
from likely.metal.packed import LEVELS
from likely.metal.packed.statistics import (
    BINS,
    CANDIDATES,
    SPAN,
    LogitsError,
    LogitStatistics,
    masses,
    statistics,
    totals,
)

pytestmark = pytest.mark.linux


@pytest.fixture(params=LEVELS, autouse=True)
def kernels(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every kind of kernel up to what this processor has."""
    library = packed.load()
    assert library is not None
    library.handle.likely_packed_init(LEVELS.index(request.param))
    yield
    library.handle.likely_packed_init(len(LEVELS) - 1)


def made(name: str) -> np.ndarray:
    rng = np.random.default_rng(5)
    match name:
        case "plain":
            z = rng.normal(0, 3, 3000)
        case "a vocabulary":
            z = rng.normal(0, 3, 151_936)
        case "ties":
            z = np.round(rng.normal(0, 1, 60_000) * 4) / 4
        case "zeros of both signs":
            z = np.where(rng.random(30_000) < 0.5, 0.0, -0.0)
        case "equal":
            z = np.full(40_000, -2.0)
        case "impossible":
            z = np.where(rng.random(60_000) < 0.9, -np.inf, rng.normal(0, 3, 60_000))
        case "few possible":
            z = np.full(1000, -np.inf)
            z[[3, 900]] = 1.0, 2.0
        case "as many as candidates":
            z = rng.normal(0, 3, CANDIDATES)
        case "one more":
            z = rng.normal(0, 3, CANDIDATES + 1)
        case "one":
            z = np.array([4.0])
        case "far":
            z = rng.normal(0, 1, 2000)
            z[:3] = -1e4, -3e4, 500.0
        case "candidates far above":
            z = rng.normal(0, 1, 50_000)
            z[:300], z[300:400] = 500, -1e4
        case "narrow":  # bins of a few roundings each
            z = 1000 + rng.normal(0, 1e-3, 50_000)
        case "large":
            z = rng.normal(0, 1e30, 20_000)
        case "on the edges":  # every logit of the rest is one
            z = np.append(np.full(CANDIDATES, 9.0), np.linspace(-24, 8, BINS + 1).repeat(40))
    return z.astype(np.float32)


NAMES = (
    "plain", "a vocabulary", "ties", "zeros of both signs", "equal", "impossible", "few possible",
    "as many as candidates", "one more", "one", "far", "candidates far above", "narrow", "large", "on the edges",
)  # fmt: skip


def scan(logits: np.ndarray, token: int, apart: list[int]) -> LogitStatistics:
    found = statistics(logits, token, apart)
    assert found is not None
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_scan_equals_a_sort(name: str) -> None:
    raw = made(name)
    before = raw.copy()
    apart = [0, len(raw) - 1, len(raw) // 2]
    seen = scan(raw, len(raw) // 3, apart)
    np.testing.assert_array_equal(raw, before)

    possible = np.sort(raw[raw > -np.inf]).astype(float)
    below = possible - possible[-1]
    mass = np.exp(below)
    assert seen.possible == len(possible)
    assert seen.rank == 1 + int((raw > raw[len(raw) // 3]).sum())
    assert seen.max == possible[-1]
    assert seen.lse == pytest.approx(possible[-1] + math.log(math.fsum(mass)), rel=1e-7, abs=1e-6)
    assert seen.entropy == pytest.approx(math.log(mass.sum()) - float(mass @ below) / mass.sum(), rel=1e-5, abs=1e-6)
    assert seen.mean == pytest.approx(possible.mean(), rel=1e-6, abs=1e-6)
    assert seen.variance == pytest.approx(possible.var(), rel=1e-4, abs=1e-5)
    order = np.lexsort((np.arange(len(raw)), -raw))[: min(CANDIDATES, len(possible))]
    assert seen.ids.tolist() == order.tolist()


@pytest.mark.parametrize("name", NAMES)
def test_a_histogram_of_the_rest_equals_one_by_hand(name: str) -> None:
    raw = made(name)
    apart = [0, len(raw) - 1, len(raw) // 2]
    seen = scan(raw, 0, apart)
    rest = np.sort(raw[raw > -np.inf])[:-CANDIDATES]
    left = np.delete(raw, [*seen.ids.tolist(), *apart])
    left = np.sort(left[left > -np.inf])
    if not len(rest):
        assert not seen.edges.any()
        assert not seen.counts.any()
        assert (seen.lses == -np.inf).all()
        return
    edges = np.linspace(max(rest[0], rest[-1] - SPAN), rest[-1], BINS + 1).astype(np.float32)
    edges[0], edges[-1] = rest[0], rest[-1]
    np.testing.assert_array_equal(seen.edges, edges)
    bounds = [0, *np.searchsorted(left, edges[1:-1]), len(left)]
    assert seen.counts.tolist() == np.diff(bounds).tolist()
    for first, last, lse in zip(bounds, bounds[1:], seen.lses, strict=False):
        inside = left[first:last].astype(float)
        total = inside.max() + math.log(math.fsum(np.exp(inside - inside.max()))) if last > first else -np.inf
        assert lse == pytest.approx(total, rel=1e-6, abs=1e-5)


def test_totals_are_those_of_a_scan_and_logits_need_not_be_in_a_row() -> None:
    raw = made("impossible")
    seen, sums = scan(raw[::2], 0, []), totals(raw[::2])
    assert sums is not None
    assert (sums.possible, sums.lse, sums.entropy) == (seen.possible, seen.lse, seen.entropy)
    assert seen.ids.tolist() == scan(raw[::2].copy(), 0, []).ids.tolist()


@pytest.mark.parametrize("name", ["plain", "impossible", "one"])
def test_masses_are_those_of_float64(name: str) -> None:
    raw = made(name)
    known = masses(raw, 256)
    assert known is not None and known[0] == raw.max()
    exact = np.exp(raw.astype(np.float64) - raw.max())
    assert known[1] == pytest.approx(np.add.reduceat(exact, np.arange(0, len(raw), 256)), rel=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("at", [0, 700, 999])
def test_what_is_no_number_is_named(bad: float, at: int) -> None:
    raw = made("plain")[:1000]
    raw[at] = bad
    with pytest.raises(LogitsError, match=f"got {bad} for token {at}"):
        statistics(raw, 0)


def test_what_cannot_be_scanned_is_refused() -> None:
    with pytest.raises(LogitsError, match="no token is possible"):
        statistics(np.full(70, -np.inf, np.float32), 0)
    for raw in (np.zeros(9), np.zeros((2, 9), np.float32)):
        with pytest.raises(LogitsError, match="float32 logits of"):
            statistics(raw, 0)
    with pytest.raises(LogitsError, match="9 tokens expected, got float32 "):
        statistics(np.zeros(9, np.float32), 9)
