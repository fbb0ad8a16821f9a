"""Features of texts by a named model: the mean of its last hidden states over a text's tokens; their cosines.

Fixed for a model: two sets of texts can be compared by them, and no figure with one of another model's.
"""

from collections.abc import Generator, Sequence

import numpy as np

from likely.engine.base.concurrency.pace import Pace
from likely.engine.base.concurrency.resumable import whole
from likely.engine.base.errors import ContextOverflow, DataError, ParameterError
from likely.engine.decode.loop.branches import ahead, chunk
from likely.engine.decode.session import Session
from likely.metal import memory, mx
from likely.models.model import LanguageModel
from likely.models.tap import after

LONGEST = 512  # tokens of a text that are read
ROWS = 64  # texts side by side
FEW = 64  # tokens of these on a CPU, without a pace: smollm2 takes 18 ms a text of 9 on two cores, and with 512 24 ms


def pooled(session: Session, texts: Sequence[str]) -> np.ndarray:
    """float32 [n, C]. DataError for a text of no token."""
    most = min(LONGEST, session.context)
    return np.stack(whole(averaging(session, [session.tokenizer.encode(text, bos=True)[:most] for text in texts])))


def scored(session: Session, texts: Sequence[str]) -> list[list[tuple[int, float]]]:
    """Each token of each text that has a distribution before it, and its log p, nats; as much as `pooled` reads."""
    rows = []
    for text in texts:
        ids = session.tokenizer.encode(text, bos=True)[: min(LONGEST, session.context)]
        steps = session.score(ids, start=0)
        rows.append([(step.token, step.logprob) for step in steps if step.logprob is not None])
    return rows


def mean_hidden(session: Session, ids: Sequence[int], layer: int | None = None) -> np.ndarray:
    """The mean hidden state of a text, float32 [C]: after the final norm, or before it, at the end of a layer.

    Layer 0 is the embedding, and -1 the last. Raises DataError for no token, ContextOverflow for too many,
    ParameterError for a layer that there is not, and what `inspect` raises where layers cannot be seen.
    """
    return whole(averaging(session, [ids], layer))[0]


def averaging(
    session: Session, texts: Sequence[Sequence[int]], layer: int | None = None, pace: Pace | None = None
) -> Generator[int, None, list[np.ndarray]]:
    """`mean_hidden` of each text in pieces at a pace, or in larger ones: how many tokens have been read after each, and
    the means in the end.

    Texts that are about as long are read side by side, each padded on its right, where it is seen by nothing. A model
    that sees both ways reads one text at a time, in one; one that turns keys by the length of a text, one at a time.
    """
    for number, ids in enumerate(texts, 1):
        which = f"text {number}" if len(texts) > 1 else "the text"
        if not ids:
            raise DataError(f"{which} has no token: there is nothing to measure")
        if len(ids) > session.context:
            raise ContextOverflow(f"{which} has {len(ids)} tokens and this model reads at most {session.context}")
    model, means = session.model, [np.zeros(0, np.float32)] * len(texts)
    if layer is not None and not -model.config.layers - 1 <= layer <= model.config.layers:
        raise ParameterError(f"layer must be 0 (the embedding) to {model.config.layers}, got {layer}")
    apart = _both_ways(model) or any(rotation.rope.varies for rotation in getattr(model, "rotations", ()))
    layers = None if layer is None else layer % (model.config.layers + 1)
    waiting, done = sorted(range(len(texts)), key=lambda number: len(texts[number])), 0
    while waiting:
        group = [waiting.pop()]  # the longest
        size = _at_once(pace) if pace is not None or ahead() else FEW
        most = min(ROWS, size // len(texts[group[0]]))
        while not apart and waiting and len(group) < most:
            group.append(waiting.pop())
        sums = yield from _summed(model, [texts[number] for number in group], layers, pace, done)
        done += sum(len(texts[number]) for number in group)
        for number, row in zip(group, sums, strict=True):
            means[number] = np.asarray(row / np.float32(len(texts[number])), np.float32)
    return means


def _summed(
    model: LanguageModel, texts: Sequence[Sequence[int]], layers: int | None, pace: Pace | None, before: int
) -> Generator[int, None, np.ndarray]:
    """Sums [B, C] of the hidden states of texts that are read side by side, the longest first; after each piece
    how many tokens have been read, with those `before`."""
    cache, end, longest = model.make_cache(), 0, len(texts[0])
    lengths = np.array([[len(ids)] for ids in texts])
    padded = np.array([[*ids, *[0] * (longest - len(ids))] for ids in texts])
    total = np.zeros(1, np.float32)
    while end < longest:
        if pace is not None:
            pace.begin()
        wide = longest if _both_ways(model) else max(1, _at_once(pace) // len(texts))
        part = padded[:, end : end + wide]
        tokens = mx.array(part)
        hidden = model.hidden(tokens, cache) if layers is None else after(model, layers, tokens, cache)
        own = mx.array(np.arange(end, end + part.shape[1]) < lengths)
        total = total + np.array(mx.sum(mx.where(own[:, :, None], hidden.astype(mx.float32), 0), axis=1))
        if pace is not None:
            memory.trim(lambda: cache.nbytes)
            pace.took(part.size)
        end += part.shape[1]
        yield before + int(np.minimum(lengths, end).sum())
    return total


def _at_once(pace: Pace | None) -> int:
    """How many tokens are read at once."""
    return chunk() if pace is None else min(chunk(), pace.size)


def _both_ways(model: LanguageModel) -> bool:
    return getattr(model.config, "diffusion", None) is not None


def cosines(session: Session, texts: tuple[str, str, str]) -> dict[str, float]:
    """cosine of the first text and the second, and of the first and the third as cosine_shuffled.

    Mean hidden states of a language model all point one way, more or less: a cosine says nothing without the other.
    """
    rows = pooled(session, texts).astype(np.float64)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return {"cosine": float(rows[0] @ rows[1]), "cosine_shuffled": float(rows[0] @ rows[2])}
