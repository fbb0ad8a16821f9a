"""A row of logits as an observer needs it, from the GPU: a few KB of counts, candidates and bins, not the logits.

Three launches over what the draw has just read: each chunk, the chunks together, the histogram of the rest. Knows
nothing of text and transforms; the chunks' numbers are joined on the host (`engine.decode.kernel_row`).
"""

from dataclasses import dataclass

from likely.metal import kernel, mx
from likely.metal.errors import KernelError
from likely.metal.vocab import BITS, CHUNK, EACH

CANDIDATES, BINS = 256, 64
UNIT = 2.0**-18  # of `RowScan.masses`
WIDE = 32  # values that a thread holds at most


@dataclass(frozen=True, slots=True)
class RowScan:
    """Scan of raw logits [N, V] in K chunks. What is -inf is not possible, and only counted."""

    best: mx.array  # float32 [N, CANDIDATES]: the largest, descending, equal ones by id; -inf behind the last possible
    ids: mx.array  # int32, theirs; -1 behind the last
    apart: mx.array  # float32 [N, E]: the logits of the tokens apart
    edges: mx.array  # float32 [N, BINS + 1], of all that is possible and not among the candidates
    stats: mx.array  # float32 [N, K, 5]: largest, smallest, largest past the candidates; mean and squares past it
    counts: mx.array  # int32 [N, K, 3]: possible, larger than the first of those apart, NaN or +inf
    filled: mx.array  # uint32 [N, K, BINS]: tokens in each bin, the candidates and those apart left out
    masses: mx.array  # uint32 [N, K, BINS], in UNITs: their exp(logit - upper edge), of the first exp(logit - low)
    lows: mx.array  # float32 [N, K]: the largest logit in the first bin

    @property
    def arrays(self) -> list[mx.array]:
        every = (self.best, self.ids, self.apart, self.edges, self.stats)
        return [*every, self.counts, self.filled, self.masses, self.lows]


def available(dtype: mx.Dtype) -> bool:
    """Whether the kernels may be launched for logits of a dtype."""
    return kernel.available() and kernel.enabled("row", dtype)


def scan(logits: mx.array, apart: mx.array) -> RowScan:
    """Statistics of logits [N, V] about the tokens `apart`, int32 [N, E], of each; the first is the one taken.

    KernelError naming the argument that does not fit.
    """
    if logits.ndim != 2 or 0 in logits.shape or logits.dtype not in BITS:
        raise KernelError(f"logits must be [N, V] of floats with N, V >= 1, got {logits.dtype} {logits.shape}")
    n, vocab = logits.shape
    if apart.ndim != 2 or apart.shape[0] != n or not apart.shape[1] or apart.dtype != mx.int32:
        raise KernelError(f"apart must be int32 [{n}, 1 or more], got {apart.dtype} {apart.shape}")
    chunks, others = -(-vocab // CHUNK), apart.shape[1]
    inputs = {"logits": logits, "params": kernel.int32(vocab, chunks, others), "apart": apart}
    template = {"EACH": EACH, "BITS": BITS[logits.dtype]}
    row = kernel.launch(
        "row.metal",
        inputs,
        {
            "values": ((n, chunks, CANDIDATES), mx.float32),
            "value_ids": ((n, chunks, CANDIDATES), mx.int32),
            "stats": ((n, chunks, 5), mx.float32),
            "counted": ((n, chunks, 3), mx.int32),
        },
        grid=(chunks, n, 1),
        threads=256,
        template=template,
    )
    joined = kernel.launch(
        "candidates.metal",
        inputs | row,
        {
            "best": ((n, CANDIDATES), mx.float32),
            "best_ids": ((n, CANDIDATES), mx.int32),
            "edges": ((n, BINS + 1), mx.float32),
            "apart_logits": ((n, others), mx.float32),
        },
        grid=(1, n, 1),
        threads=256,
        template=template | {"EACH": min(1 << chunks.bit_length(), WIDE)},
    )
    binned = kernel.launch(
        "histogram.metal",
        inputs | {name: joined[name] for name in ("best", "best_ids", "edges")},
        {
            "filled": ((n, chunks, BINS), mx.uint32),
            "masses": ((n, chunks, BINS), mx.uint32),
            "lows": ((n, chunks), mx.float32),
        },
        grid=(chunks, n, 1),
        threads=256,
        template={"EACH": EACH},
    )
    known = (joined["best"], joined["best_ids"], joined["apart_logits"], joined["edges"])
    return RowScan(*known, row["stats"], row["counted"], binned["filled"], binned["masses"], binned["lows"])
