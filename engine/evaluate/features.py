"""Features of texts by a named model: the mean of its last hidden states over a text's tokens; their cosines.

Fixed for a model: two sets of texts can be compared by them, and no figure with one of another model's.
"""

from collections.abc import Sequence

import numpy as np

from engine.errors import DataError
from engine.session import Session
from metal import mx

LONGEST = 512  # tokens of a text that are read


def pooled(session: Session, texts: Sequence[str]) -> np.ndarray:
    """float32 [n, C]. DataError for a text of no token."""
    found = []
    for number, text in enumerate(texts, 1):
        ids = session.tokenizer.encode(text, bos=True)[: min(LONGEST, session.context)]
        if not ids:
            raise DataError(f"text {number} has no token: there is nothing to measure")
        row = mx.mean(session.model.hidden(mx.array([ids]), session.model.make_cache())[0].astype(mx.float32), axis=0)
        mx.eval(row)
        found.append(np.array(row))
    return np.stack(found)


def cosines(session: Session, texts: tuple[str, str, str]) -> dict[str, float]:
    """cosine of the first text and the second, and of the first and the third as cosine_shuffled.

    Mean hidden states of a language model all point one way, more or less: a cosine says nothing without the other.
    """
    rows = pooled(session, texts).astype(np.float64)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return {"cosine": float(rows[0] @ rows[1]), "cosine_shuffled": float(rows[0] @ rows[2])}
