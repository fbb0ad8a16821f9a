"""A row's statistics by the kernels, in the simulator and watched, against a sort of the row."""

import numpy as np
import pytest

from likely.engine.base.errors import KernelError, NotFinite
from likely.engine.decode.loop import kernel_row
from likely.engine.sampling.trace.row import RowStatistics
from likely.metal import mx, row
from likely.metal.simulator import simulated
from likely.metal.vocab import statistics
from tests.engine.trace.test_observe import MADE as ROWS
from tests.engine.trace.test_observe import by_a_sort, made, same
from tests.metal.build import normal, recorded
from tests.support.everyday import everyday

DTYPES = [mx.float32, mx.float16, mx.bfloat16]


def measured(logits: mx.array, apart: list[list[int]]) -> list[RowStatistics]:
    """Of each row, by three launches."""
    at = mx.array(apart, dtype=mx.int32)
    with recorded() as reports:
        by = statistics(logits, observed=True)
        scan = row.scan(logits, by, at)
        mx.eval(scan.arrays)
    assert len(reports) == 3  # of scan, draw and histogram
    found = []
    for i, (token, *_) in enumerate(apart):
        args = {"lse": by.lse[i].item(), "entropy": by.entropy[i].item(), "token": token}
        found.append(kernel_row.measured(scan, at, i, logits.shape[1], **args))
    return found


@pytest.mark.parametrize("name", everyday(ROWS, 3))
def test_a_row_says_what_a_sort_of_it_says(name: str) -> None:
    raw = made(name)[-20_000:]
    for token in (int(raw.argmax()), len(raw) // 3):
        apart = [token, 0, len(raw) - 1, len(raw) // 2, token]
        (got,) = measured(mx.array(raw)[None], [apart])
        same(got, by_a_sort(raw, token, apart[1:]))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_rows_of_every_type_each_with_its_tokens(dtype: mx.Dtype) -> None:
    logits = normal(1, 3, 9000, scale=3, dtype=dtype)
    apart = [[5, 8999, 7], [0, 1, 2], [8192, 8191, 5]]
    whole = np.array(logits.astype(mx.float32))
    for got, raw, (token, *others) in zip(measured(logits, apart), whole, apart, strict=True):
        same(got, by_a_sort(raw, token, others))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16], ids=str)
def test_more_chunks_than_a_thread_holds_values(dtype: mx.Dtype) -> None:
    """The best of the first chunks, then of those and the rest: the largest vocabularies have 33."""
    logits = normal(2, 1, 262_208, scale=3, dtype=dtype)
    apart = [[262_207, 262_144, 5, 100_000]]
    (got,) = measured(logits, apart)
    same(got, by_a_sort(np.array(logits.astype(mx.float32))[0], apart[0][0], apart[0][1:]))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_no_numbers_are_refused(bad: float) -> None:
    for at in (0, 8999):
        raw = np.array(normal(3, 2, 9000))
        raw[1, at] = bad
        with pytest.raises(NotFinite, match="NaN or infinity"):
            measured(mx.array(raw), [[5], [5]])
    with pytest.raises(NotFinite, match="-inf for each of 9,000 tokens"):
        measured(mx.full((1, 9000), -mx.inf), [[5]])


def test_what_does_not_fit_is_named() -> None:
    logits = normal(4, 2, 300)
    with simulated():
        plain, by = statistics(logits), statistics(logits, observed=True)
    for stats, apart, what in (
        (plain, mx.zeros((2, 1), mx.int32), "by must be statistics of these 2 rows, observed"),
        (by, mx.zeros((1, 1), mx.int32), r"apart must be int32 \[2, 1 or more\]"),
        (by, mx.zeros((2, 0), mx.int32), "apart must be"),
        (by, mx.zeros((2, 1), mx.uint32), "apart must be"),
    ):
        with pytest.raises(KernelError, match=what):
            row.scan(logits, stats, apart)


@pytest.mark.parametrize("flying", [0, 1])
@pytest.mark.parametrize("have", [0, 1, 5, 40])
def test_tokens_that_stand_apart(have: int, flying: int) -> None:
    """The one drawn, the one in flight and the last known: as many for every length of a text."""
    texts = [list(range(have)), list(range(100, 100 + have))]
    ahead = [mx.array(7), mx.array(8)] if flying else []
    got = np.array(kernel_row.apart(mx.array([50, 60]), ahead, texts, 8))
    assert got.shape == (2, 9)
    for row_, text, drawn, fed in zip(got.tolist(), texts, (50, 60), (7, 8), strict=True):
        last = [*text, *([fed] if flying else [])][-8:]
        assert row_[0] == drawn and set(row_) == {drawn, *last}
