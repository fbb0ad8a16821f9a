"""Vocabulary statistics and draws, by kernel and reference, against float64 and the exact distribution."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from likely.metal import mx, vocab
from likely.metal.simulator import simulated
from likely.metal.vocab import TOP, DrawPlan, Statistics, statistics
from tests.metal.build import error, normal, recorded, rejects
from tests.support.everyday import everyday

Run = Callable[[mx.array, DrawPlan | None, mx.array | None], Statistics]


def by_kernel(logits: mx.array, draw: DrawPlan | None = None, uniform: mx.array | None = None) -> Statistics:
    with recorded() as reports:
        out = statistics(logits, draw, uniform)
    assert reports
    return out


BOTH = pytest.mark.parametrize("run", [by_kernel, statistics], ids=["kernel", "reference"])

IDS = mx.arange(17000)[None]
LOGITS = {
    "float32": normal(1, 2, 9000, scale=3), "float16": normal(2, 2, 9000, scale=3, dtype=mx.float16),
    "bfloat16": normal(3, 2, 17000, scale=3, dtype=mx.bfloat16),
    "one chunk exactly": normal(4, 1, 8192), "one more than a chunk": normal(5, 1, 8193),
    "fewer than are kept": normal(6, 2, 50), "as many as are kept": normal(7, 1, TOP), "one": normal(8, 3, 1),
    "all equal": mx.zeros((1, 10000)), "all negative": -mx.abs(normal(9, 1, 8500, scale=50)),
    "far apart": normal(10, 1, 300, scale=1e4),
    "some impossible": mx.where(mx.arange(400)[None] % 3 == 0, -mx.inf, normal(11, 1, 400)),
    "many ties": mx.round(normal(12, 2, 9000, scale=2)),
    "zeros of both signs": mx.where(IDS[:, :9000] % 90 < 3, mx.where(IDS[:, :9000] % 2 == 0, -0.0, 0.0), -9.0),
    "equal ones up to the last chunk": mx.where((IDS % 300 == 7) | (IDS > 16900), 0, -9.0),
}  # fmt: skip


@BOTH
@pytest.mark.parametrize("name", LOGITS)
def test_statistics_match_float64(name: str, run: Run) -> None:
    logits = LOGITS[name]
    x = np.array(logits.astype(mx.float32)).astype(np.float64)
    v = x.shape[1]
    peak = x.max(-1, keepdims=True)
    lse = peak + np.log(np.exp(x - peak).sum(-1, keepdims=True))
    logprobs = x - lse
    entropy = -(np.exp(logprobs) * np.where(np.isinf(logprobs), 0, logprobs)).sum(-1)
    order = np.lexsort((np.broadcast_to(np.arange(v), x.shape), -x))[:, :TOP]
    got = run(logits, None, None)
    assert error(got.lse, lse[:, 0]) <= 1e-6 * max(1.0, np.abs(lse).max())
    assert error(got.entropy, entropy) < 5e-6
    k = min(TOP, v)
    assert np.array_equal(np.array(got.ids)[:, :k], order)
    assert np.all(np.array(got.ids)[:, k:] == -1)
    assert error(got.logprobs[:, :k], np.take_along_axis(logprobs, order, 1)) <= 1e-6 * max(1.0, np.abs(x).max())
    assert np.all(np.isinf(np.array(got.logprobs)[:, k:]))


def expected(x: np.ndarray, draw: DrawPlan) -> np.ndarray:
    """The distribution [V] that the four transforms leave, in float64, in the order that `draw` says."""
    sharp = np.exp((x - x.max()) / draw.temperature)
    p = np.exp(x - x.max()) if draw.temperature_last else sharp
    order = np.argsort(-p, kind="stable")
    kept = np.ones(len(p), dtype=bool)
    if draw.top_k and not draw.top_k_last:
        kept[order[draw.top_k :]] = False
    if draw.top_p < 1:
        q = np.where(kept, p, 0)[order] / p[kept].sum()
        kept &= x >= x[order[max(1, int(np.sum(np.cumsum(q) - q < draw.top_p))) - 1]]
    kept &= p >= draw.min_p * p.max()
    if draw.top_k and draw.top_k_last:
        kept[order[draw.top_k :]] = False
    return np.where(kept, sharp, 0) / sharp[kept].sum()


def inverted(p: np.ndarray, uniform: np.ndarray) -> list[int]:
    """The tokens at which the distribution function passes: by rows of 256, then within the row."""
    p = np.pad(p, (0, -len(p) % 256)).reshape(-1, 256)
    tokens = []
    for first, second in uniform:
        row = int(np.searchsorted(np.cumsum(p.sum(-1)), first, side="right"))
        tokens.append(256 * row + int(np.searchsorted(np.cumsum(p[row]) / p[row].sum(), second, side="right")))
    return tokens


DRAWS = (
    DrawPlan(top_k=1), DrawPlan(top_k=TOP), DrawPlan(temperature=0.3, top_p=0.8), DrawPlan(0.7, 20, 0.9, 0.05),
    DrawPlan(0.5, 0, 1.0, 0.2), DrawPlan(1.5, 40, 0.95, 0.0), DrawPlan(top_k=90, min_p=0.3),
    DrawPlan(0.8, 0, 0.95, 0.05, temperature_last=True),
    DrawPlan(1.3, 12, 0.7, 0.0, temperature_last=True, top_k_last=True),
    DrawPlan(0.6, 30, 0.8, 0.01, top_k_last=True), DrawPlan(1.2, 100, 0.8, 0.0, top_k_last=True),
)  # fmt: skip


@BOTH
@pytest.mark.parametrize("draw", everyday(DRAWS, 3), ids=str)
@pytest.mark.parametrize("name", ["apart", "equal ones"])
def test_draws_invert_the_cumulative_distribution(draw: DrawPlan, name: str, run: Run) -> None:
    n = 8
    row = normal(13, 1, 700, scale=3)
    row = mx.round(2 * row) / 2 if name == "equal ones" else row
    logits = mx.repeat(row, n, axis=0)
    p = expected(np.array(row)[0].astype(np.float64), draw)
    uniform = np.random.default_rng(3).random((n, 2)).astype(np.float32)
    drawn = run(logits, draw, mx.array(uniform)).drawn
    assert drawn is not None
    tokens = inverted(p, uniform)
    assert np.array_equal(np.array(drawn.token), tokens)
    assert np.all(np.array(drawn.kept) == (p > 0).sum())
    wide = np.array(row)[0].astype(np.float64) / draw.temperature
    assert error(drawn.lse, np.full(n, wide.max() + np.log(np.exp(wide - wide.max()).sum()))) < 1e-5
    assert not mx.any(drawn.spilled).item()
    assert error(drawn.logprob_after, np.log(p[tokens])) < 3e-6
    logprobs = np.array(row)[0].astype(np.float64)
    logprobs = logprobs - np.log(np.exp(logprobs - logprobs.max()).sum()) - logprobs.max()
    assert error(drawn.logprob, logprobs[tokens]) < 5e-6


@BOTH
@pytest.mark.parametrize(
    "draw",
    [
        DrawPlan(), DrawPlan(temperature=5.0, top_p=0.9), DrawPlan(min_p=1e-6), DrawPlan(top_k=100),
        DrawPlan(top_k=100, top_p=0.5), DrawPlan(0.1, top_p=0.95, temperature_last=True),
        DrawPlan(top_k=100, min_p=1e-6, top_k_last=True),
    ],
    ids=str,
)  # fmt: skip
def test_what_does_not_end_within_the_kept_says_so(draw: DrawPlan, run: Run) -> None:
    drawn = run(normal(14, 2, 700), draw, mx.array([[0.1, 0.2], [0.9, 0.8]])).drawn
    assert drawn is not None
    assert mx.all(drawn.spilled).item()
    assert drawn.token.tolist() == [-1, -1]


@BOTH
def test_a_nucleus_whose_last_equals_go_on_beyond_the_kept_spills(run: Run) -> None:
    logits = mx.concatenate([mx.array([9.0]), mx.zeros((99,))])[None]
    drawn = run(logits, DrawPlan(top_p=0.9895), mx.zeros((1, 2))).drawn  # e^9 of e^9 + 99 is 0.9879
    assert drawn is not None and drawn.spilled.item()


@BOTH
def test_any_draw_of_a_small_vocabulary_is_exact_and_never_impossible(run: Run) -> None:
    logits = mx.where(mx.arange(40)[None] < 30, -mx.inf, normal(15, 1, 40))
    for u in (0.0, 0.5, float(np.nextafter(np.float32(1), np.float32(0)))):
        drawn = run(logits, DrawPlan(), mx.array([[u, u]])).drawn
        assert drawn is not None and not drawn.spilled.item()
        assert int(drawn.token.item()) >= 30
        assert np.isfinite(drawn.logprob_after.item())


@BOTH
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_row_of_no_numbers_or_of_nothing_possible_has_no_token(bad: float, run: Run) -> None:
    """And says so, beside one that has; for whoever draws otherwise finds out what is wrong."""
    rows = np.array(normal(19, 3, 9000))
    rows[1, 5], rows[2, 8999] = bad, bad
    if bad < 0:
        rows[1:] = bad
    for draw in (DrawPlan(top_k=TOP), DrawPlan(top_k=1), DrawPlan(0.7, 0, 1.0, 0.2), DrawPlan(0.7, 20, 0.9, 0.1)):
        got = run(mx.array(rows), draw, mx.full((3, 2), 0.5))
        assert got.drawn is not None and got.drawn.spilled.tolist() == [False, True, True]
        assert got.drawn.token.tolist()[1:] == [-1, -1] and 0 <= got.drawn.token[0].item() < 9000
        assert not np.isfinite(np.array(got.lse)[1:]).any()


def test_each_logit_is_read_once() -> None:
    logits = normal(16, 1, 20000, dtype=mx.bfloat16)
    with recorded() as reports:
        statistics(logits, DrawPlan(top_k=5), mx.array([[0.5, 0.5]]))
    assert reports[0].traffic["logits"].read == logits.nbytes


def test_kernel_and_reference_draw_alike() -> None:
    logits, uniform = normal(17, 4, 9000, scale=2.5), mx.array([[0.01, 0.9], [0.4, 0.5], [0.7, 0.1], [0.99, 0.99]])
    with simulated():
        ours = vocab.by_kernel(logits, DRAWS[3], uniform).drawn
    theirs = vocab.by_reference(logits, DRAWS[3], uniform).drawn
    assert ours is not None and theirs is not None
    assert ours.token.tolist() == theirs.token.tolist()
    assert ours.kept.tolist() == theirs.kept.tolist()


def test_bad_input_is_named() -> None:
    logits, u, draw = normal(18, 2, 100), mx.zeros((2, 2)), DrawPlan()
    rejects(lambda: statistics(logits[0]), "logits must be [N, V]", "(100,)")
    rejects(lambda: statistics(logits[:, :0]), "logits", "(2, 0)")
    rejects(lambda: statistics(logits.astype(mx.int32)), "logits", "int32")
    rejects(lambda: statistics(logits, draw), "uniform")
    rejects(lambda: statistics(logits, None, u), "draw")
    rejects(lambda: statistics(logits, draw, u[:1]), "uniform must be float32 [2, 2]", "(1, 2)")
    rejects(lambda: statistics(logits, draw, u.astype(mx.float16)), "uniform", "float16")
    for name, value in (("temperature", 0.0), ("top_k", -1), ("top_p", 0.0), ("top_p", 1.1), ("min_p", -0.1)):
        bad = replace(draw, **{name: value})
        rejects(partial(statistics, logits, bad, u), f"draw.{name}", str(value))
