"""Rows of a corpus that stays on disk: a file of token ids, of which each row is read when it is asked for.

A document that is longer than a row is cut into rows that overlap by one token, so that every token but a document's
first is a target once. Knows nothing of text.
"""

from collections.abc import Sequence
from typing import overload

import numpy as np

from likely.engine.train.data.samples import TrainingSample


class TokenRows(Sequence[TrainingSample]):
    """Training samples of at most `length` ids, over `ids` [N] of documents that stand one after another."""

    def __init__(self, ids: np.ndarray, documents: np.ndarray, length: int, name: str = "") -> None:
        """`documents` are their lengths, N in all; those of a single token have no target and are left out."""
        self.ids, self.name = ids, name
        ends = np.cumsum(documents)
        count = np.maximum(0, -(-(documents - 1) // (length - 1)))  # rows of each document
        self.document = np.repeat(np.arange(len(documents)), count)
        within = np.arange(len(self.document)) - np.repeat(np.cumsum(count) - count, count)
        self.starts = (ends - documents)[self.document] + within * (length - 1)
        self.lengths = np.minimum(length, ends[self.document] - self.starts)

    @property
    def targets(self) -> int:
        """Trained tokens of all rows."""
        return int(self.lengths.sum()) - len(self.lengths)

    def __len__(self) -> int:
        return len(self.starts)

    @overload
    def __getitem__(self, index: int) -> TrainingSample: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[TrainingSample]: ...
    def __getitem__(self, index: int | slice) -> TrainingSample | Sequence[TrainingSample]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        start, n = int(self.starts[index]), int(self.lengths[index])
        ids = tuple(self.ids[start : start + n].tolist())
        return TrainingSample(ids, (True,) * n, f"{self.name} document {self.document[index] + 1}")
