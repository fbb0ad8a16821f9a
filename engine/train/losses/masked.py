"""Batches of masked diffusion: of each sample's trained tokens some are masked, and those are the targets.

Exactly k of L are, k = 1 + floor(L t), and each counts L / k, which is 1 / t: the mean over draws is the bound on
-log p of the trained tokens given the others (`engine.diffusion.bound`). The times of a batch are of low discrepancy.
What a batch draws follows from its key alone. What is not trained, a prompt say, is never masked. A
model that was autoregressive may see what comes after little by little: each position of it by chance
(arXiv:2410.17891).

Of a model of blocks that is so in each block by itself, and a row is [x_t ; x_0], each sample masked and then itself,
so that a block sees those before as they are (arXiv:2503.09573, sec. 4). Blocks of one token are always masked: the
loss is -log p itself then. The last block of a sample may be shorter.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from likely.engine.sampling.trace.noise import sizes, times
from likely.engine.train.data.batches import Batch
from likely.engine.train.data.samples import TrainingSample
from likely.metal import mx
from likely.models.configuration.config import MaskedDiffusion


def ratio(step: int, steps: int, share: float) -> float:
    """How much of what comes after a position it sees in a step, from 1: from 0 on, to 1 after that share of steps."""
    return min(1.0, (step - 1) / (share * steps)) if share else 1.0


def collate(
    samples: Sequence[TrainingSample], diffusion: MaskedDiffusion, key: Sequence[int], ratio: float = 1.0
) -> Batch:
    """One row of the samples, masked as the key (whole numbers from 0) says; `ratio` of what comes after is seen."""
    random = np.random.default_rng(list(key))
    groups = [list(_blocks(np.flatnonzero(sample.trained), diffusion.block)) for sample in samples]
    when = iter(times(sum(map(len, groups)), random.random()))
    at, targets, of, weights, start = [], [], [], [], 0
    rows: list[np.ndarray] = []
    for i, (sample, blocks) in enumerate(zip(samples, groups, strict=True)):
        text = np.array(sample.ids, np.int32)
        noised = text.copy()
        for places in blocks:
            k = int(sizes(len(places), next(when)))
            chosen = np.sort(random.permutation(places)[:k])
            targets.append(text[chosen])
            noised[chosen] = diffusion.mask
            at.append(start + _sources(chosen, diffusion, len(text)))
            of.append(np.full(k, i))
            weights.append(np.full(k, len(places) / k, np.float32))
        rows += [noised, text] if diffusion.block else [noised]
        start += len(text) * (2 if diffusion.block else 1)
    documents = tuple(len(row) for row in rows)
    positions, wanted, owners = (mx.array(np.concatenate(p).astype(np.int32)) for p in (at, targets, of))
    return Batch(
        tokens=mx.array(np.concatenate(rows))[None],
        documents=documents,
        at=positions,
        targets=wanted,
        sample=owners,
        counts=tuple(sum(map(len, blocks)) for blocks in groups),
        where=tuple(s.where for s in samples),
        weights=mx.array(np.concatenate(weights)),
        also=_also(documents, ratio, random) if ratio < 1 else None,
        block=diffusion.block,
    )


def _also(documents: tuple[int, ...], ratio: float, random: np.random.Generator) -> mx.array:
    """bool [1, N, N]: what is seen besides those before, each position of the same document with that probability."""
    n = sum(documents)
    visible = np.zeros((1, n, n), bool)
    start = 0
    for length in documents:
        rows = slice(start, start + length)
        visible[0, rows, rows] = random.random((length, length)) < ratio
        start += length
    return mx.array(visible)


def _blocks(places: np.ndarray, block: int) -> Iterator[np.ndarray]:
    """Places [n], ascending, by the block that they are in; all together where there is none."""
    if not block:
        yield places
        return
    of = places // block
    yield from np.split(places, np.flatnonzero(np.diff(of)) + 1)


def _sources(chosen: np.ndarray, diffusion: MaskedDiffusion, length: int) -> np.ndarray:
    """Where in a sample's row, of `length` or twice that, the model says what stands at these of its places."""
    if not diffusion.shifted:
        return chosen
    before = np.maximum(chosen - 1, 0)
    if not diffusion.block:
        return before  # type: ignore[no-any-return]
    first = (chosen % diffusion.block == 0) & (chosen > 0)  # said by the block before, which is finished then
    positions: np.ndarray = before + np.where(first, length, 0)
    return positions
