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
    ROW,
    SPAN,
    LogitsError,
    LogitStatistics,
    ScannedRow,
    draw,
    look,
    nucleus,
    scan,
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


def scanned(*rows: np.ndarray) -> list[ScannedRow]:
    found = scan(np.stack(rows))
    assert found is not None
    return found


def looked(logits: np.ndarray, token: int, apart: list[int]) -> LogitStatistics:
    return look(scanned(logits), [token], [apart])[0]


@pytest.mark.parametrize("name", NAMES)
def test_a_scan_equals_a_sort(name: str) -> None:
    raw = made(name)
    before = raw.copy()
    apart = [0, len(raw) - 1, len(raw) // 2]
    (sums,) = scanned(raw)
    seen = look([sums], [len(raw) // 3], [apart])[0]
    np.testing.assert_array_equal(raw, before)

    possible = np.sort(raw[raw > -np.inf]).astype(float)
    below = possible - possible[-1]
    mass = np.exp(below)
    assert sums.possible == len(possible)
    assert seen.rank == 1 + int((raw > raw[len(raw) // 3]).sum())
    assert sums.max == possible[-1]
    assert sums.lse == pytest.approx(possible[-1] + math.log(math.fsum(mass)), rel=1e-7, abs=1e-6)
    assert sums.entropy == pytest.approx(math.log(mass.sum()) - float(mass @ below) / mass.sum(), rel=1e-5, abs=1e-6)
    assert sums.mean == pytest.approx(possible.mean(), rel=1e-6, abs=1e-6)
    assert sums.variance == pytest.approx(possible.var(), rel=1e-4, abs=1e-5)
    order = np.lexsort((np.arange(len(raw)), -raw))[: min(CANDIDATES, len(possible))]
    assert seen.candidates == len(order)
    assert seen.ids.tolist() == [*order.tolist(), *sorted({*apart} - {*order.tolist()})]
    np.testing.assert_array_equal(seen.logits, raw[seen.ids])


@pytest.mark.parametrize("name", NAMES)
def test_a_histogram_of_the_rest_equals_one_by_hand(name: str) -> None:
    raw = made(name)
    apart = [0, len(raw) - 1, len(raw) // 2]
    seen = looked(raw, 0, apart)
    rest = np.sort(raw[raw > -np.inf])[:-CANDIDATES]
    left = np.delete(raw, seen.ids)
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


def test_rows_side_by_side_are_what_each_is_alone() -> None:
    rows = [made("plain"), np.roll(made("plain"), 7), -made("plain")]
    tokens, apart = [3, 2999, 0], [[1, 2], [], [5]]
    together = scanned(*rows)
    for one, row, token, others, seen in zip(together, rows, tokens, apart, look(together, tokens, apart), strict=True):
        (alone,), own = scanned(row), looked(row, token, others)
        assert one[1:7] == alone[1:7]
        np.testing.assert_array_equal(one.masses, alone.masses)
        assert seen[:2] == own[:2]
        for a, b in zip(seen[2:], own[2:], strict=True):
            np.testing.assert_array_equal(a, b)
    assert draw(together, [(0.5, 0.25)] * 3) == [draw([one], [(0.5, 0.25)])[0] for one in together]
    many = look(together * 30, tokens * 30, apart * 30)
    assert [seen.rank for seen in many] == [seen.rank for seen in look(together, tokens, apart)] * 30
    mixed = look([together[2], together[0]], [0, 3], [[5], [1, 2]])  # of two scans, or in another order
    assert [seen.rank for seen in mixed] == [look(together, tokens, apart)[i].rank for i in (2, 0)]


def test_logits_need_not_be_in_a_row_of_memory() -> None:
    raw = made("impossible")
    assert looked(raw[::2], 0, []).ids.tolist() == looked(raw[::2].copy(), 0, []).ids.tolist()


@pytest.mark.parametrize("name", ["plain", "impossible", "one"])
def test_masses_are_those_of_float64(name: str) -> None:
    raw = made(name)
    (known,) = scanned(raw)
    exact = np.exp(raw.astype(np.float64) - raw.max())
    assert known.masses == pytest.approx(np.add.reduceat(exact, np.arange(0, len(raw), ROW)), rel=1e-6)


@pytest.mark.parametrize("name", ["plain", "a vocabulary", "impossible", "few possible", "one", "equal"])
def test_a_draw_inverts_the_distribution_function(name: str) -> None:
    """A row of tokens by its mass, then one of them; as float64 has it, but for rounding."""
    raw = made(name)
    (known,) = scanned(raw)
    mass = np.exp(raw.astype(np.float64) - raw.max())
    rng = np.random.default_rng(3)
    last = 1 - 2**-24
    for share, inner in [(0.0, 0.0), (0.0, last), (last, 0.0), (last, last), *rng.random((300, 2)).tolist()]:
        (token,) = draw([known], [(share, inner)])
        assert raw[token] > -np.inf
        rows = np.add.reduceat(mass, np.arange(0, len(raw), ROW))
        first = token // ROW
        assert (
            rows[:first].sum() - 1e-5 * rows.sum() <= share * rows.sum() <= rows[: first + 1].sum() + 1e-5 * rows.sum()
        )
        own = mass[first * ROW : (first + 1) * ROW]
        place = token - first * ROW
        assert own[:place].sum() - 1e-5 * own.sum() <= inner * own.sum() <= own[: place + 1].sum() + 1e-5 * own.sum()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("share", [1e-6, 0.1, 0.5, 0.9, 0.99])
def test_a_nucleus_is_that_of_a_sort(name: str, share: float) -> None:
    raw = made(name)
    weight = np.exp(np.maximum(raw - raw.max(), -100))
    goal = share * weight.sum(dtype=np.float64)
    least = nucleus(raw, weight, goal)
    order = np.lexsort((np.arange(len(raw)), -raw))
    mass = np.cumsum(weight[order], dtype=np.float64)
    assert least == raw[order[np.count_nonzero(mass[:-1] < goal)]]
    assert nucleus(raw, weight, 2 * float(mass[-1])) == raw[raw > -np.inf].min()  # all have less


def any_floats(rng: np.random.Generator, n: int) -> np.ndarray:
    """Of every size that float32 has, both signs alike, a third of them equal to others, some infinite."""
    z = rng.integers(0, 2**32, n, np.uint64).astype(np.uint32).view(np.float32)
    z[~np.isfinite(z)] = rng.choice(np.array([3.4028235e38, -3.4028235e38, 1e-45, -0.0, 0.0, 1], np.float32))
    z[rng.random(n) < 0.33] = z[0]
    z[rng.random(n) < 0.1] = rng.choice([-np.inf, np.inf])
    return z


def test_a_nucleus_of_any_floats_is_that_of_a_sort() -> None:
    """Weights are whole numbers, so that no sum is rounded."""
    rng = np.random.default_rng(11)
    for _ in range(400):
        n = int(rng.integers(1, 400))
        raw, weight = any_floats(rng, n), rng.integers(0, 9, n).astype(np.float32)
        weight[raw == -np.inf] = 0
        order = np.lexsort((np.arange(n), -raw))
        mass = np.cumsum(weight[order], dtype=np.float64)
        if not mass[-1]:
            continue
        goal = float(rng.integers(1, mass[-1] + 1))
        assert nucleus(raw, weight, goal) == raw[order[np.count_nonzero(mass[:-1] < goal)]]


@pytest.mark.parametrize("far", [-1e3, -1e5, -1e30, -3.4028235e38])
def test_one_logit_far_below_leaves_the_nucleus_as_it_is(far: float) -> None:
    raw = np.array([1.0, 0.5, 0.0, -0.5, -1.0] * 40 + [far], np.float32)
    weight = np.exp(raw - raw.max())
    assert nucleus(raw, weight, 0.6 * float(weight.sum(dtype=np.float64))) == 0.5


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("at", [0, 700, 999])
def test_what_is_no_number_is_named(bad: float, at: int) -> None:
    raw = made("plain")[:1000]
    raw[at] = bad
    with pytest.raises(LogitsError, match=f"got {bad} for token {at}"):
        scan(raw[None])


def test_what_cannot_be_scanned_is_refused() -> None:
    with pytest.raises(LogitsError, match="no token is possible"):
        scan(np.full((1, 70), -np.inf, np.float32))
    for raw in (np.zeros((1, 9)), np.zeros(9, np.float32)):
        with pytest.raises(LogitsError, match="rows of float32 logits expected"):
            scan(raw)
    rows = scanned(np.zeros(9, np.float32))
    for token, apart in ((9, []), (-1, []), (0, [9]), (0, [-1])):
        with pytest.raises(LogitsError, match="9 tokens expected, got float32 "):
            look(rows, [token], [apart])
