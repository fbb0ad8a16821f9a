"""Features of texts by a named model: the mean of its last hidden states over a text's tokens; their cosines.

Fixed for a model: two sets of texts can be compared by them, and no figure with one of another model's.
"""

from collections.abc import Generator, Sequence

import numpy as np

from likely.engine.decode.branches import chunk
from likely.engine.errors import ContextOverflow, DataError, ParameterError
from likely.engine.pace import Pace
from likely.engine.pieces import whole
from likely.engine.session import Session
from likely.metal import memory, mx
from likely.models.tap import after

LONGEST = 512  # tokens of a text that are read


def pooled(session: Session, texts: Sequence[str]) -> np.ndarray:
    """float32 [n, C]. DataError for a text of no token."""
    means = []
    for number, text in enumerate(texts, 1):
        ids = session.tokenizer.encode(text, bos=True)[: min(LONGEST, session.context)]
        if not ids:
            raise DataError(f"text {number} has no token: there is nothing to measure")
        means.append(mean_hidden(session, ids))
    return np.stack(means)


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
    return whole(averaging(session, ids, layer))


def averaging(
    session: Session, ids: Sequence[int], layer: int | None = None, pace: Pace | None = None
) -> Generator[int, None, np.ndarray]:
    """`mean_hidden` in pieces at a pace, or in one: how many tokens have been read after each, and the mean in the end.

    A model that sees both ways reads a text in one.
    """
    if not ids:
        raise DataError("a text has no token: there is nothing to measure")
    if len(ids) > session.context:
        raise ContextOverflow(f"the text has {len(ids)} tokens and this model reads at most {session.context}")
    model = session.model
    if layer is not None and not -model.config.layers - 1 <= layer <= model.config.layers:
        raise ParameterError(f"layer must be 0 (the embedding) to {model.config.layers}, got {layer}")
    if getattr(model.config, "diffusion", None) is not None:
        pace = None
    layers = None if layer is None else layer % (model.config.layers + 1)
    cache, end = model.make_cache(), 0
    total = np.zeros(1, np.float32)
    while end < len(ids):
        if pace is not None:
            pace.begin()
        part = ids if pace is None else ids[end : end + min(chunk(), pace.size)]
        tokens = mx.array([list(part)])
        hidden = model.hidden(tokens, cache) if layers is None else after(model, layers, tokens, cache)
        total = total + np.array(mx.sum(hidden[0].astype(mx.float32), axis=0))
        if pace is not None:
            memory.trim(lambda: cache.nbytes)
            pace.took(len(part))
        end += len(part)
        yield end
    return np.asarray(total / np.float32(len(ids)), np.float32)


def cosines(session: Session, texts: tuple[str, str, str]) -> dict[str, float]:
    """cosine of the first text and the second, and of the first and the third as cosine_shuffled.

    Mean hidden states of a language model all point one way, more or less: a cosine says nothing without the other.
    """
    rows = pooled(session, texts).astype(np.float64)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return {"cosine": float(rows[0] @ rows[1]), "cosine_shuffled": float(rows[0] @ rows[2])}
