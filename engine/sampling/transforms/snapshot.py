"""Snapshot of one row of raw logits: what transforms need of it to be run again without the model. Plain numpy."""

from dataclasses import dataclass

import numpy as np

CANDIDATES = 256
BINS = 64
ARRAYS = {"ids": "<i4", "logits": "<f4", "edges": "<f4", "counts": "<i4", "lses": "<f4"}  # as they are written


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Enough of one step's raw logits [V] to see it under other transforms without the model.

    The `CANDIDATES` most likely tokens are kept exactly, with the one that was drawn and those that a penalty or a bias
    touches; the rest only as a histogram over `edges`. What is -inf is not in it.
    """

    vocab: int
    ids: np.ndarray  # int32 [K], most likely first, then the others by id
    logits: np.ndarray  # float32 [K], raw
    lse: float  # nats: log-sum-exp of all V raw logits
    mean: float
    variance: float  # both of the raw logits that are not -inf
    edges: np.ndarray  # float32 [BINS + 1], ascending, raw logits: a bin reaches from its edge up to the next one
    counts: np.ndarray  # int32 [BINS]: tokens of the rest in each bin
    lses: np.ndarray  # float32 [BINS], nats: log-sum-exp of their logits (-inf for an empty bin)
