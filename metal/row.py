"""A row of logits as an observer needs it, from the GPU: a few KB of counts, candidates and bins, not the logits.

One launch behind the draw, whose scan of the row has found all but what hangs on the token that was taken. Knows
nothing of text and transforms; the chunks' numbers are joined on the host (`engine.decode.kernel_row`).
"""

from dataclasses import dataclass, fields

from likely.metal import kernel, mx
from likely.metal.errors import KernelError
from likely.metal.vocab import BINS, EACH, Statistics

UNIT = 2.0**-18  # of `RowScan.masses`


@dataclass(frozen=True, slots=True)
class RowScan:
    """Scan of raw logits [N, V] in K chunks: what `vocab.Statistics` and `vocab.Observed` have, and more."""

    ids: mx.array  # int32 [N, CANDIDATES]
    best: mx.array  # float32 [N, CANDIDATES]
    edges: mx.array  # float32 [N, BINS + 1]
    moments: mx.array  # float32 [N, K, 5]
    possible: mx.array  # int32 [N, K]
    apart: mx.array  # float32 [N, E]: the logits of the tokens apart
    larger: mx.array  # int32 [N, K]: logits larger than that of the first of those apart
    filled: mx.array  # uint32 [N, K, BINS]: tokens in each bin, the candidates and those apart left out
    masses: mx.array  # uint32 [N, K, BINS], in UNITs: their exp(logit - upper edge), of the first exp(logit - low)
    lows: mx.array  # float32 [N, K]: the largest logit in the first bin

    @property
    def arrays(self) -> list[mx.array]:
        return [getattr(self, field.name) for field in fields(self)]


def available(dtype: mx.Dtype) -> bool:
    """Whether the kernels may be launched for logits of a dtype."""
    return kernel.available() and kernel.enabled("row", dtype)


def scan(logits: mx.array, by: Statistics, apart: mx.array) -> RowScan:
    """Scan of logits [N, V] for who looks on, beside the tokens `apart`, int32 [N, E]; the first is the one taken.

    A negative one is none. `by` are statistics of the same rows, observed. KernelError naming the argument that does
    not fit.
    """
    (n, vocab), seen = logits.shape, by.observed
    if seen is None or by.ids.shape[0] != n:
        raise KernelError(f"by must be statistics of these {n} rows, observed")
    if apart.ndim != 2 or apart.shape[0] != n or not apart.shape[1] or apart.dtype != mx.int32:
        raise KernelError(f"apart must be int32 [{n}, 1 or more], got {apart.dtype} {apart.shape}")
    chunks, others = seen.possible.shape[1], apart.shape[1]
    known = {"best": by.best, "best_ids": by.ids, "edges": seen.edges}
    found = kernel.launch(
        "histogram.metal",
        {"logits": logits, "params": kernel.int32(vocab, chunks, others), "apart": apart} | known,
        {
            "apart_logits": ((n, others), mx.float32),
            "larger": ((n, chunks), mx.int32),
            "filled": ((n, chunks, BINS), mx.uint32),
            "masses": ((n, chunks, BINS), mx.uint32),
            "lows": ((n, chunks), mx.float32),
        },
        grid=(chunks, n, 1),
        threads=256,
        template={"EACH": EACH},
    )
    return RowScan(by.ids, by.best, seen.edges, seen.moments, seen.possible, *found.values())
