"""Logit lens: what the model would say next, had it stopped after a layer (nostalgebraist 2020).

l_k = W_U norm(h_k), with the norm that stands before the head; row 0 is the embedding, the last row is the model's own
distribution. Probabilities and KL in nats are by position. Knows nothing of how it is shown.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from likely.engine.base import arrays
from likely.engine.inside.questions import Lens
from likely.engine.inside.subject import InspectedText
from likely.metal import mx

ARRAYS = ("top", "p", "kl", "rank", "best", "shares", "said")
AT_ONCE = 256  # positions, or positions of several layers, whose logits stand in memory together


def states(subject: InspectedText) -> list[mx.array]:
    """The residual stream [1, N, C] before the first layer and after each."""
    hidden = subject.reading.inspect(mx.array([subject.ids[subject.first :]]), subject.before()).hidden
    mx.eval(hidden)
    return hidden


def rows(
    subject: InspectedText, hidden: list[mx.array], positions: slice = slice(None), best: int = 0
) -> Iterator[Lens]:
    """The lens over `positions` of `states`, one layer after another, the model's own distribution first.

    A screen shows each row as it comes; the last to come is the embedding's. Few positions of many layers go through
    the head together, so that its rows are read once.
    """
    stack = [h[0, positions] for h in reversed(hidden)]
    n = stack[0].shape[0]
    if n > AT_ONCE:
        spans = range(*positions.indices(hidden[0].shape[1]))
        parts = [
            rows(subject, hidden, slice(low, min(low + AT_ONCE, spans.stop)), best)
            for low in range(spans.start, spans.stop, AT_ONCE)
        ]
        yield from map(_joined, zip(*parts, strict=True))
        return
    together = max(1, AT_ONCE // n)
    said = np.array([*subject.ids[subject.first + 1 :], -1], np.int32)[positions]
    final: _Final | None = None
    for low in range(0, len(stack), together):
        group = mx.stack(stack[low : low + together])
        logits = subject.reading.lens(group).astype(mx.float32)
        mx.eval(logits)
        for layer in logits if mx.default_device() != mx.cpu else np.asarray(logits):
            if final is None:
                final = _Final.of(layer, said)
                yield final.own(layer, best)
            else:
                yield final.row(layer, best)


def lens(
    subject: InspectedText, hidden: list[mx.array] | None = None, positions: slice = slice(None), best: int = 0
) -> Lens:
    """The lens of all layers, from the embedding up, over `states` (the text's own if left out)."""
    layers = list(rows(subject, states(subject) if hidden is None else hidden, positions, best))[::-1]
    start = subject.first + (positions.start or 0)
    return Lens(**{name: np.stack([getattr(layer, name) for layer in layers]) for name in ARRAYS}, start=start)


@dataclass(frozen=True, slots=True)
class _Final:
    """The model's own distribution at N positions; by numpy where the logits are numpy's."""

    xp: Any
    top: Any  # [N]
    said: Any  # [N], the token that comes next in the text; at its end the top one
    p: Any  # [N, V]
    negentropy: Any  # [N], sum p log p

    @staticmethod
    def of(logits: Any, said: np.ndarray) -> "_Final":
        """Of logits [N, V] and the tokens [N] that come next in the text, -1 where none does."""
        xp = np if isinstance(logits, np.ndarray) else mx
        lse = arrays.logsumexp(logits, xp)
        p = xp.exp(logits - lse[:, None])
        top, said = xp.argmax(logits, axis=-1), xp.array(said)
        return _Final(xp, top, xp.where(said < 0, top, said), p, xp.einsum("nv,nv->n", p, logits) - lse)

    def own(self, logits: Any, best: int) -> Lens:
        """The row of the last layer, whose KL is 0 and not what rounding makes of it."""
        return replace(self.row(logits, best), kl=np.zeros(logits.shape[0], np.float32))

    def row(self, logits: Any, best: int) -> Lens:
        """KL(p || q) = sum p log p - sum p l + lse(l), so that no array of log-probabilities is made."""
        xp = self.xp
        lse, top = arrays.logsumexp(logits, xp), xp.argmax(logits, axis=-1)
        chosen = xp.exp(arrays.chosen(logits, top, xp) - lse)
        kl = xp.maximum(self.negentropy - xp.einsum("nv,nv->n", self.p, logits) + lse, 0)
        rank, said = arrays.rank(logits, self.top, xp), arrays.rank(logits, self.said, xp)
        if best:
            ids = arrays.top(logits, min(best, logits.shape[-1]), xp)
            shares = xp.exp(xp.take_along_axis(logits, ids, axis=-1) - lse[:, None])
        else:
            ids, shares = top[:, None][:, :0], chosen[:, None][:, :0]
        return Lens(
            np.array(top, np.int32), np.array(chosen, np.float32), np.array(kl, np.float32), np.array(rank, np.int32),
            np.array(ids, np.int32), np.array(shares, np.float32), np.array(said, np.int32),
        )  # fmt: skip


def _joined(parts: Sequence[Lens]) -> Lens:
    """One layer's row of several spans of positions."""
    return Lens(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in ARRAYS}, start=0)
