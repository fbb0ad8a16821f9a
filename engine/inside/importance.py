"""Which tokens of a prompt mattered for what comes next.

Leave-one-out is exact: the prompt is read without each token, from the cache of what stands before it. Gradient x input
is its fast companion, one pass and its gradient; how far the two agree is part of the result. Both are in nats of the
log-probability of one next token. A token that is left out also moves those behind it one place forward.
"""

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from likely.engine.base import arrays
from likely.engine.base.errors import ParameterError
from likely.engine.decode.loop.branches import Branches
from likely.engine.inside.questions import Importance
from likely.engine.inside.subject import InspectedText
from likely.engine.inside.why import Omission
from likely.metal import mx


def importance(subject: InspectedText, token: int | None = None) -> Importance:
    """Of every token of the prompt for `token`, the most likely next one if left out.

    ParameterError for a prompt of one token, of which nothing can be left out, and for an id that is none.
    """
    model, ids = subject.model, list(subject.ids)
    if len(ids) < 2:
        raise ParameterError("nothing can be left out of a prompt of one token: give two or more")
    if token is not None and not 0 <= token < model.config.vocab_size:
        raise ParameterError(f"a token's id must be 0 to {model.config.vocab_size - 1}, got {token}")

    def empty() -> Branches:
        return Branches(model, model.make_cache(capacity=len(ids)))

    branch = empty()
    for _ in branch.read(ids):
        pass
    logprobs = arrays.logprobs(branch.logits()[0].astype(mx.float32), mx)
    token = int(mx.argmax(logprobs)) if token is None else token
    omissions = leaving_out(branch, token, [(i, i + 1) for i in range(len(ids))], empty)
    nats = [omission.nats for omission in omissions if omission is not None]
    return Importance(token, float(logprobs[token]), np.array(nats, np.float32), _gradient(subject, token))


def leaving_out(
    branch: Branches, token: int, spans: Iterable[tuple[int, int]], empty: Callable[[], Branches]
) -> Iterator[Omission | None]:
    """Omissions of each span of the prompt that `branch` has read, in their order, and what `token` loses by each; None
    is a turn for others. A span leaves a token at least. The branch itself stays where it is; where it cannot go back
    so far, an `empty` branch of the same kind reads what is left.
    """
    ids = list(branch.ids[0])
    whole = _logprob(branch, token)
    for start, stop in spans:
        keep = min(start, len(ids) - (stop - start) - 1)  # of what is read again, a token at least
        if branch.reaches(keep):
            twin = branch.fork()
            twin.rewind(keep)
        else:  # a window has moved on
            keep, twin = 0, empty()
        for _ in twin.read([*ids[keep:start], *ids[stop:]]):
            yield None
        yield Omission(start, stop, whole - _logprob(twin, token))


def _logprob(branch: Branches, token: int) -> float:
    return float(arrays.logprobs(branch.logits()[0].astype(mx.float32), mx)[token])


def _gradient(subject: InspectedText, token: int) -> np.ndarray:
    """The gradient of the log-probability by each token's embedding, times the embedding, [T]."""
    model = subject.model
    embedded: list[mx.array] = []

    def logprob(added: mx.array) -> mx.array:
        def tap(name: str, x: mx.array) -> mx.array:
            if name != "embedding":
                return x
            embedded.append(mx.stop_gradient(x))
            return x + added

        x = subject.whole().run(tap)
        logp: mx.array = arrays.logprobs(model.head(model.norm(x[:, -1]))[0].astype(mx.float32), mx)[token]
        return logp

    slope = mx.grad(logprob)(mx.zeros((1, len(subject.ids), model.config.width)))
    return np.array(mx.sum(slope * embedded[0], axis=-1)[0], np.float32)
