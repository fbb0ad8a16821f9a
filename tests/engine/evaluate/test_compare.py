"""How two models differ on a text, against the same sums in float64."""

from collections.abc import Iterator

import numpy as np
import pytest

from engine.evaluate import compare
from metal import mx

T, V = 7, 23
NAMES = ("before", "now")


def logprobs(seed: int) -> np.ndarray:
    z = np.random.default_rng(seed).normal(0, 3, (T, V))
    out: np.ndarray = z - np.log(np.exp(z).sum(-1, keepdims=True))
    return out


def given(rows: np.ndarray) -> compare.Logits:
    """A model that says these rows, a few at a time."""

    def run(tokens: mx.array) -> Iterator[mx.array]:
        for low in range(0, T, 3):
            yield mx.array(rows[low : low + 3].astype(np.float32))

    return run


def test_a_difference_is_that_of_float64() -> None:
    a, b = logprobs(0), logprobs(1)
    found = compare.compare(given(a), given(b), list(range(T)), NAMES, top=4)
    kl = (np.exp(b) * (b - a)).sum(-1)
    assert [p.kl for p in found.positions] == pytest.approx(kl.tolist(), rel=1e-4)
    spread = found.spread["kl"]
    assert list(spread.values()) == pytest.approx([kl.mean(), np.median(kl), np.quantile(kl, 0.99)], rel=1e-4)
    for p, before, now in zip(found.positions, a, b, strict=True):
        likely = set(np.argsort(-before)[:4].tolist()) | set(np.argsort(-now)[:4].tolist())
        assert {s.token for s in p.likely} == likely
        assert [s.now for s in p.likely] == pytest.approx(sorted((now[list(likely)]).tolist(), reverse=True), abs=1e-4)
        assert [s.before for s in p.likely] == pytest.approx([before[s.token] for s in p.likely], abs=1e-4)


def test_what_rose_and_fell_along_a_text_is_by_mean_probability() -> None:
    a, b = logprobs(0), logprobs(1)
    found = compare.compare(given(a), given(b), list(range(T)), NAMES, top=4)
    before, now = np.exp(a).mean(0), np.exp(b).mean(0)
    assert [s.token for s in found.risen] == np.argsort(before - now)[:4].tolist()
    assert [s.token for s in found.fallen] == np.argsort(now - before)[:4].tolist()
    assert [s.change for s in found.risen] == pytest.approx((now - before)[[s.token for s in found.risen]], abs=1e-5)


def test_nothing_moves_between_a_model_and_itself() -> None:
    found = compare.compare(given(logprobs(0)), given(logprobs(0)), list(range(T)), NAMES)
    assert not found.risen and not found.fallen and found.kl == 0
