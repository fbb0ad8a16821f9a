"""Features of texts by a named model: the mean of its last hidden states over a text's tokens.

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
        row = mx.mean(session.model.hidden(mx.array([ids]))[0].astype(mx.float32), axis=0)
        mx.eval(row)
        found.append(np.array(row))
    return np.stack(found)
