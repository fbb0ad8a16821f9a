"""Batches of masked diffusion: of each sample's trained tokens some are masked, and those are the targets.

Exactly k of L are, k = 1 + floor(L t), and each counts L / k, which is 1 / t: the mean over draws is the bound on
-log p of the trained tokens given the others (`engine.diffusion.bound`). The times of a batch are of low discrepancy.
What a batch draws follows from its key alone. What is not trained, a prompt say, is never masked.
"""

from collections.abc import Sequence

import numpy as np

from engine.diffusion.noise import sizes, times
from engine.tune.batches import Batch
from engine.tune.samples import TrainingSample
from metal import mx
from models.config import MaskedDiffusion

MASKED = "mdlm"  # the objective's name


def free(sample: TrainingSample) -> np.ndarray:
    """bool [T]: the tokens that may be masked. The first, which has no place among targets, goes with the second."""
    trained = np.array(sample.trained)
    trained[0] = trained[1]
    return trained


def collate(samples: Sequence[TrainingSample], diffusion: MaskedDiffusion, key: Sequence[int]) -> Batch:
    """One row of the samples, masked as the key (whole numbers from 0) says."""
    random = np.random.default_rng(list(key))
    at, targets, of, weights, counts, start = [], [], [], [], [], 0
    rows = []
    for i, (sample, t) in enumerate(zip(samples, times(len(samples), random.random()), strict=True)):
        ids, places = np.array(sample.ids, np.int32), np.flatnonzero(free(sample))
        k = int(sizes(len(places), t))
        chosen = np.sort(random.permutation(places)[:k])
        targets.append(ids[chosen])
        ids[chosen] = diffusion.mask
        rows.append(ids)
        at.append(start + (np.maximum(chosen - 1, 0) if diffusion.shifted else chosen))
        of.append(np.full(k, i))
        weights.append(np.full(k, len(places) / k, np.float32))
        counts.append(len(places))
        start += len(ids)
    positions, wanted, owners = (mx.array(np.concatenate(p).astype(np.int32)) for p in (at, targets, of))
    return Batch(
        tokens=mx.array(np.concatenate(rows))[None],
        documents=tuple(len(row) for row in rows),
        at=positions,
        targets=wanted,
        sample=owners,
        counts=tuple(counts),
        where=tuple(s.where for s in samples),
        weights=mx.array(np.concatenate(weights)),
    )
