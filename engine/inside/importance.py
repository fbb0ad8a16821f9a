"""Which tokens of a prompt mattered for what comes next.

Leave-one-out is exact: the prompt is read without each token, from the cache of what stands before it. Gradient x input
is its fast companion, one pass and its gradient; how far the two agree is part of the result. Both are in nats of the
log-probability of one next token. A token that is left out also moves those behind it one place forward.
"""

from dataclasses import dataclass

import numpy as np

from likely.engine import arrays
from likely.engine.errors import ParameterError
from likely.engine.inside.subject import InspectedText
from likely.metal import mx


@dataclass(frozen=True, slots=True)
class Importance:
    """For each of T tokens, what the next token's log-probability owes to it: positive where it helped."""

    token: int
    logprob: float  # after the whole prompt
    left_out: np.ndarray  # float32 [T], logprob - logprob without the token
    gradient: np.ndarray  # float32 [T], gradient x input

    @property
    def agreement(self) -> float | None:
        """Spearman's rank correlation of the two; None where one does not vary."""
        a, b = (np.argsort(np.argsort(x)).astype(float) for x in (self.left_out, self.gradient))
        flat = np.ptp(self.left_out) == 0 or np.ptp(self.gradient) == 0
        return None if flat else float(np.corrcoef(a, b)[0, 1])


def importance(subject: InspectedText, token: int | None = None) -> Importance:
    """Of every token of the prompt for `token`, the most likely next one if left out.

    ParameterError for a prompt of one token, of which nothing can be left out, and for an id that is none.
    """
    model, ids = subject.model, list(subject.ids)
    t = len(ids)
    if t < 2:
        raise ParameterError("nothing can be left out of a prompt of one token: give two or more")
    if token is not None and not 0 <= token < model.config.vocab_size:
        raise ParameterError(f"a token's id must be 0 to {model.config.vocab_size - 1}, got {token}")
    cache = model.make_cache(capacity=t)
    after = model.head(model.hidden(mx.array([ids]), cache)[:, -1])[0].astype(mx.float32)
    logprobs = arrays.logprobs(after, mx)
    token = int(mx.argmax(logprobs)) if token is None else token
    whole = float(logprobs[token])
    varies = any(rotation.rope.varies for rotation in model.rotations)  # keys depend on how long the text is
    without = np.zeros(t, np.float32)
    for i in range(t):
        start = min(i, t - 2)  # of what is read again, a token at least
        rest = ids[start:i] + ids[i + 1 :]
        if start and not varies and cache.room >= t - start:
            place = cache.fork()
            place.rewind(t - start)
        else:
            place, rest = model.make_cache(capacity=t), ids[:i] + ids[i + 1 :]
        row = model.head(model.hidden(mx.array([rest]), place)[:, -1])[0].astype(mx.float32)
        without[i] = float(arrays.logprobs(row, mx)[token])
    return Importance(token, whole, whole - without, _gradient(subject, token))


def _gradient(subject: InspectedText, token: int) -> np.ndarray:
    """The gradient of the log-probability by each token's embedding, times the embedding, [T]."""
    model = subject.model
    kept: list[mx.array] = []

    def logprob(added: mx.array) -> mx.array:
        def tap(name: str, x: mx.array) -> mx.array:
            if name != "embedding":
                return x
            kept.append(mx.stop_gradient(x))
            return x + added

        x = subject.whole().run(tap)
        found: mx.array = arrays.logprobs(model.head(model.norm(x[:, -1]))[0].astype(mx.float32), mx)[token]
        return found

    slope = mx.grad(logprob)(mx.zeros((1, len(subject.ids), model.config.width)))
    return np.array(mx.sum(slope * kept[0], axis=-1)[0], np.float32)
