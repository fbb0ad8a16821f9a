"""Logit lens: what the model would say next, had it stopped after a layer (nostalgebraist 2020).

l_k = W_U norm(h_k), with the norm that stands before the head; row 0 is the embedding, the last row is the model's own
distribution. Probabilities and KL in nats are by position. Knows nothing of how it is shown.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from engine import arrays
from engine.inside.subject import Subject
from metal import mx

AT_ONCE = 64  # positions whose logits are compared together
KEPT = 1 << 28  # bytes that the model's own logits may take while the layers are gone through


@dataclass(frozen=True, slots=True)
class LensRow:
    """What one layer says after each of N positions."""

    top: np.ndarray  # int32 [N], the most likely token
    p: np.ndarray  # float32 [N], its probability
    kl: np.ndarray  # float32 [N], KL(final || this layer) in nats
    rank: np.ndarray  # int32 [N], of the final layer's token: 1 is the most likely
    entropy: np.ndarray  # float32 [N], nats


@dataclass(frozen=True, slots=True)
class Lens:
    """The rows of all layers, [layers + 1]: 0 is the embedding, the last the model's own distribution."""

    rows: tuple[LensRow, ...]

    @property
    def decided(self) -> np.ndarray:
        """The layer from which the most likely token stays what it is at last, int [N]."""
        top = np.stack([row.top for row in self.rows])
        stays = np.flip(np.minimum.accumulate(np.flip(top == top[-1], axis=0), axis=0), axis=0)
        return np.asarray(np.argmax(stays, axis=0))


def states(subject: Subject) -> list[mx.array]:
    """The residual stream [1, N, C] before the first layer and after each."""
    found: list[mx.array] = []

    def keep(name: str, x: mx.array) -> mx.array:
        if name == "embedding" or name.endswith(".residual"):
            found.append(x)
        return x

    mx.eval(subject.open().run(keep))
    return found


def rows(subject: Subject, hidden: list[mx.array], positions: slice = slice(None)) -> Iterator[LensRow]:
    """The lens over `positions` of `states`, one layer after another, the model's own distribution first.

    A screen shows each row as it comes; the last to come is the embedding's.
    """
    hidden = [h[0, positions] for h in hidden]
    n = hidden[-1].shape[0]
    spans = [slice(low, low + AT_ONCE) for low in range(0, n, AT_ONCE)]
    kept: dict[int, mx.array] = {}
    room = 4 * n * subject.model.config.vocab_size <= KEPT

    def final(span: slice) -> mx.array:
        """The model's own logits at these positions; computed again for each layer where they are too many."""
        if span.start in kept:
            return kept[span.start]
        logits = subject.model.lens(hidden[-1][span]).astype(mx.float32)
        if room:
            kept[span.start] = logits
        return logits

    for h in reversed(hidden):
        parts = []
        for span in spans:
            own = final(span)
            parts.append(_row(own, own if h is hidden[-1] else subject.model.lens(h[span]).astype(mx.float32)))
        names = LensRow.__dataclass_fields__
        yield LensRow(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def lens(subject: Subject) -> Lens:
    """The whole lens, from the embedding up."""
    return Lens(tuple(reversed(list(rows(subject, states(subject))))))


def _row(final: mx.array, logits: mx.array) -> LensRow:
    """One layer's `logits` [N, V] beside the `final` ones."""
    p, q = (arrays.logprobs(x, mx) for x in (final, logits))
    top = mx.argmax(q, axis=-1)
    kl = mx.zeros(top.shape) if final is logits else mx.maximum(arrays.kl(p, q, mx, fast=True), 0)
    rank = arrays.rank(q, mx.argmax(p, axis=-1), mx)
    chosen = mx.exp(arrays.chosen(q, top, mx))
    found = (top.astype(mx.int32), chosen, kl, rank.astype(mx.int32), arrays.entropy(logits, mx))
    mx.eval(found)
    return LensRow(*(np.array(x) for x in found))
