"""Merging partial states: exact, in any order and any grouping, against attention over all keys at once."""

import numpy as np
import pytest

from likely.metal import mx
from likely.metal.merge import States, merge
from likely.metal.reference import Emit
from tests.metal.build import error, recorded

BASE = 0.7  # a weight is 2^(0.7 score)
SUMS = Emit(lse=True, entropy=True)


def states(scores: np.ndarray, values: np.ndarray, cuts: list[int]) -> States:
    """The states of the keys between the cuts, for scores [H, N] and values [H, N, D]."""
    partial, stats = [], []
    for low, high in zip([0, *cuts], [*cuts, scores.shape[1]], strict=True):
        s, v = scores[:, low:high], values[:, low:high]
        peak = s.max(-1, keepdims=True) if high > low else np.full((s.shape[0], 1), -1e30)
        below = (s - peak) * BASE
        w = np.exp2(below)
        partial.append(np.einsum("hn,hnd->hd", w, v))
        rest = peak - peak.astype(np.float32)
        stats.append(np.stack([peak[:, 0], rest[:, 0], w.sum(-1), (w * below).sum(-1)], -1))
    parts = (np.stack(x, 1)[None, :, None].astype(np.float32) for x in (partial, stats))
    return States(*(mx.array(x) for x in parts))


@pytest.mark.parametrize("cuts", [[], [5], [5, 9, 30], [0, 7, 7, 40], list(range(1, 40))], ids=str)
@pytest.mark.parametrize("sunk", [False, True], ids=["", "sinks"])
def test_any_cut_gives_attention_over_all(cuts: list[int], sunk: bool) -> None:
    random = np.random.default_rng(1)
    scores, values, sinks = random.normal(size=(3, 40)) * 4, random.normal(size=(3, 40, 64)), random.normal(size=3)
    logits = scores * BASE * np.log(2)
    if sunk:
        logits = np.concatenate([logits, sinks[:, None]], -1)
    lse = np.log(np.exp(logits).sum(-1))
    p = np.exp(logits - lse[:, None])
    with recorded():
        out, seen = merge(
            [states(scores, values, cuts)],
            mx.float32,
            BASE,
            mx.array(sinks.astype(np.float32)) if sunk else None,
            SUMS,
        )
    assert error(out[0, :, 0], np.einsum("hn,hnd->hd", p[:, :40], values)) < 1e-6
    assert seen.lse is not None and error(seen.lse[0, :, 0], lse) < 2e-6
    assert seen.entropy is not None and error(seen.entropy[0, :, 0], -(p * np.log(p)).sum(-1)) < 2e-6


def test_order_and_grouping_do_not_matter() -> None:
    random = np.random.default_rng(2)
    scores, values = random.normal(size=(2, 60)) * 3, random.normal(size=(2, 60, 64))
    whole = states(scores, values, [20, 40])
    thirds = [states(scores[:, i : i + 20], values[:, i : i + 20], []) for i in (40, 0, 20)]
    with recorded():
        one, _ = merge([whole], mx.float32, BASE, None, Emit())
        other, _ = merge(thirds, mx.float32, BASE, None, Emit())
    assert mx.allclose(one, other, atol=1e-6).item()
