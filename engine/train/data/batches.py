"""Batches of samples and their order: a function of the seed and the epoch alone.

A batch is its samples one after another in a single row, each of which attends to itself alone; so there is no padding
to be trained by mistake or computed in vain. Packing fills each batch up to a number of tokens; without it a batch has
a fixed number of samples of about the same length. No sample is dropped: the last batch of an epoch may be smaller.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

import numpy as np

from likely.engine.base.errors import DataError
from likely.engine.train.data.samples import Pair, RewardedAnswer, TrainingSample
from likely.engine.train.data.token_rows import TokenRows
from likely.metal import mx
from likely.metal.attention import Mask

Item = TrainingSample | Pair
BEGINNING = 8  # ids that samples begin with alike, at least, so that they are read once


@dataclass(frozen=True)
class Batch:
    """Samples as arrays. N tokens, M of them with a target behind them."""

    tokens: mx.array  # int32 [1, N]: all ids of each sample but its last
    documents: tuple[int, ...]  # lengths of the texts, N in all: the samples', with `block` each twice
    at: mx.array  # int32 [M]: positions whose next token is a target
    targets: mx.array  # int32 [M]
    sample: mx.array  # int32 [M]: which sample each belongs to
    counts: tuple[int, ...]  # targets of each sample
    where: tuple[str, ...]
    weights: mx.array | None = None  # float32 [M], of masked diffusion: 1 / t, where all of a sample is seen
    also: mx.array | None = None  # bool [1, N, N]: what is seen besides what came before, where that is not all yet
    after: tuple[int, ...] = ()  # the text that each goes on from, or -1: of answers whose prompt stands there once
    worth: mx.array | None = None  # float32 [M], of rewards: what each loss counts
    before: mx.array | None = None  # float32 [M], of answers that are read again: log p as they were drawn
    block: int = 0  # of block diffusion, whose rows are each sample noised and then itself

    @property
    def mask(self) -> Mask | None:
        """Which tokens see each other, where that is not those before."""
        if self.block:
            return Mask.of_noised(self.documents[::2], self.block)
        if self.weights is None:
            return None
        packed = Mask.of_documents(self.documents)
        return replace(packed, causal=False) if self.also is None else replace(packed, also=self.also)

    @property
    def trained(self) -> int:
        return sum(self.counts)


def alike(samples: Sequence[TrainingSample]) -> int:
    """How many ids all of several samples begin with, as of a template; 0 for hardly any, which are not worth it."""
    if len(samples) < 2:
        return 0
    columns = zip(*(s.ids[:-2] for s in samples), strict=False)  # each goes on by an id and its target at least
    length = sum(1 for _ in takewhile(lambda ids: len(set(ids)) == 1, columns))
    return length if length >= BEGINNING else 0


def collate(samples: Sequence[TrainingSample], apart: bool = False, begin: int = 0) -> Batch:
    """One row of the samples. A prompt of several answers with rewards stands there once, unless `apart`; so do the
    first `begin` ids of all, where they are `alike`."""
    texts: list[tuple[int, ...]] = []
    after, at, targets, of = list[int](), [], [], []
    asked: dict[tuple[int, ...], tuple[int, int]] = {}  # prompts: the number of the text, its first row
    rows = 0

    def add(ids: tuple[int, ...], before: int) -> tuple[int, int]:
        nonlocal rows
        texts.append(ids)
        after.append(before)
        rows += len(ids)
        return len(texts) - 1, rows - len(ids)

    for i, s in enumerate(samples):
        places, first = np.flatnonzero(s.trained[1:]), begin
        if isinstance(s, RewardedAnswer) and not apart:
            first = s.answer_at
        if first:
            prompt = s.ids[:first]
            number, start = asked[prompt] = asked.get(prompt) or add(prompt, -1)
            own = add(s.ids[first:-1], number)[1] if len(s.ids) > first + 1 else 0
            at.append(np.where(places < first, start + places, own + places - first))
        else:
            at.append(places + add(s.ids[:-1], -1)[1])
        targets.append(np.asarray(s.ids[1:], np.int32)[places])
        of.append(np.full(len(places), i))
    tokens = [np.asarray(ids, np.int32) for ids in texts]
    answers = [s for s in samples if isinstance(s, RewardedAnswer)]
    worth = [s.weight for s in answers]
    before = np.concatenate([s.before for s in answers]).astype(np.float32) if answers and answers[0].before else None
    row, positions, wanted, owners = (mx.array(np.concatenate(p).astype(np.int32)) for p in (tokens, at, targets, of))
    return Batch(
        tokens=row[None],
        documents=tuple(map(len, texts)),
        after=tuple(after) if max(after) >= 0 else (),
        at=positions,
        targets=wanted,
        sample=owners,
        counts=tuple(s.targets for s in samples),
        where=tuple(s.where for s in samples),
        worth=mx.array(np.repeat(worth, [s.targets for s in samples]).astype(np.float32)) if worth else None,
        before=None if before is None else mx.array(before),
    )


def lengths(items: Sequence[Item]) -> np.ndarray:
    """Tokens of each item."""
    return items.lengths if isinstance(items, TokenRows) else np.array([len(item.ids) for item in items])


def targets(items: Sequence[Item]) -> int:
    """Trained tokens of all."""
    return items.targets if isinstance(items, TokenRows) else sum(item.targets for item in items)


def plan(items: Sequence[Item], *, size: int, length: int, packing: bool, seed: int, epoch: int) -> list[list[int]]:
    """The batches of an epoch as indices: every item once.

    With `packing`, at most size * length tokens a batch; else `size` items a batch, neighbours in length.
    """
    if not items:
        raise DataError("there is nothing to train on")
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(items))
    sizes = lengths(items)
    if packing:
        batches = _fill(order, sizes, size * length)
    else:
        order = order[np.argsort(sizes[order], kind="stable")]  # equal lengths keep their random order
        batches = [order[i : i + size].tolist() for i in range(0, len(order), size)]
    return [batches[i] for i in random.permutation(len(batches))]


def _fill(order: np.ndarray, lengths: np.ndarray, room: int) -> list[list[int]]:
    """Items in their order into batches of `room` tokens, each into the fullest that still has place for it."""
    open_: list[tuple[int, list[int]]] = []
    full: list[list[int]] = []
    for i in order.tolist():
        n = int(lengths[i])
        fits = [k for k, (space, _) in enumerate(open_) if space >= n]
        if fits:
            k = min(fits, key=lambda k: open_[k][0])
            space, batch = open_[k]
            batch.append(i)
            open_[k] = (space - n, batch)
        else:
            open_.append((room - n, [i]))
            if len(open_) > 8:  # a few stay open: more would only search longer
                least = min(range(len(open_)), key=lambda k: open_[k][0])
                full.append(open_.pop(least)[1])
    return full + [batch for _, batch in open_]


def share(indices: Sequence[int], rank: int, ranks: int) -> list[int]:
    """The part of a batch that process `rank` of `ranks` computes."""
    return list(indices[rank::ranks])


def stream(
    items: Sequence[Item],
    *,
    size: int,
    length: int,
    packing: bool,
    seed: int,
    skip: int = 0,
    first: list[list[int]] | None = None,
) -> Iterator[tuple[int, list[int]]]:
    """(epoch, batch) without end, from the `skip`-th batch on; `first` is the plan of epoch 0, where it is known."""
    epoch, batches = 0, first
    while True:
        if batches is None:
            batches = plan(items, size=size, length=length, packing=packing, seed=seed, epoch=epoch)
        for batch in batches[skip:]:
            yield epoch, batch
        skip = max(0, skip - len(batches))
        epoch, batches = epoch + 1, None
