"""A layer's cache that keeps a window of the past: the most recent rows as they came, and the first of all.

The recent rows stand in a plain buffer in the order of their positions. When it holds a block more than it must, the
oldest leave it and the rest move to its front: one copied row for each token, and no ring to unwind. They leave before
the next are written, so that all that were just read are still there to be looked at.
"""

from collections.abc import Sequence

from likely.metal import mx
from likely.metal.attention import KV, Mask
from likely.models.caches.layer_cache import KVCache, RowSize, Tail, pick, shorten
from likely.models.errors import CacheError

BLOCK = 64  # rows that leave a window at once
SLACK = 16  # rows that a window keeps beyond what its queries see, so that a few tokens can be taken back


class WindowCache(KVCache):
    """Keys and values of the last `window` positions and of the first `sinks` (arXiv:2309.17453)."""

    def __init__(self, window: int, sinks: int = 0, capacity: int = BLOCK) -> None:
        if window < 1 or sinks < 0:
            raise CacheError(f"a window must be 1 or more and its sinks 0 or more, got {window} and {sinks}")
        super().__init__(capacity, Tail(window - 1 + SLACK, BLOCK))
        self.window = window
        self.sinks = sinks
        self.first: KV | None = None  # the rows of the sinks, once they have left the buffer
        self.mask = Mask(window=window, keep=sinks)

    @property
    def kind(self) -> str:
        return f"window {self.window} sinks {self.sinks}"

    @property
    def front(self) -> KV | None:
        return self.first if self.prefix is None else self.prefix

    @property
    def room(self) -> int:
        """Positions to go back by: as many as leave the rows of a whole window before them."""
        if not self.gone:
            return self.length
        return max(0, self.length - self.gone - self.sinks - (self.window - 1))

    @property
    def nbytes(self) -> int:
        first = self.first
        return super().nbytes + (0 if first is None else first.nbytes)

    def needs(self, positions: int, row: RowSize, chunk: int) -> int:
        most = 2 * (self.window - 1 + SLACK + max(2 * BLOCK, BLOCK + chunk) + self.sinks) * row.numbers * row.size
        return min(most, super().needs(positions, row, chunk))

    def ready(self, t: int) -> None:
        if (oldest := self.shed(t)) is not None:
            self._forget(*oldest)

    def _forget(self, keys: mx.array, values: mx.array) -> None:
        """Keep only the sinks of the rows before the buffer's remaining ones, which fill a window."""
        count = keys.shape[2]
        lengths = mx.array([count] * keys.shape[0], dtype=mx.int32)
        past = KV(keys, values, lengths, count, prefix=self.front)
        before = past.total or 0
        if self.prefix is not None or self.first is None or (self.first.length or 0) < self.sinks:
            self.first = _head(past, self.sinks)
        self.prefix = None
        self.gone += before - (0 if self.first is None else self.first.length or 0)

    def _rewind_front(self, n: int) -> None:
        if self.prefix is None:
            self.first = shorten(self.first, n)
        super()._rewind_front(n)

    def freeze(self) -> None:
        super().freeze()
        self.first = None  # it is the prefix's now

    def select(self, rows: Sequence[int]) -> None:
        super().select(rows)
        self.first = pick(self.first, mx.array(list(rows), dtype=mx.int32))


def _head(kv: KV, n: int) -> KV | None:
    """The first n rows of a chain as one segment."""
    if not n:
        return None
    b = kv.keys.shape[0]
    keys, values = (x[:, :, :n] for x in kv.joined(b))
    count = keys.shape[2]
    return KV(keys, values, mx.array([count] * b, dtype=mx.int32), count)
