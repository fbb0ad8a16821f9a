"""How two models differ on a text: KL at every position, and which tokens rose and fell. Log-probabilities in nats.

The two are any pair over one vocabulary: two checkpoints, or one model with and without an adapter.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext

from likely.engine import arrays
from likely.engine.errors import CheckpointError, DataError
from likely.engine.numerics import damaged
from likely.engine.statistics import measures
from likely.engine.statistics.difference import Difference, Position, Shift
from likely.engine.tokenizer import Tokenizer
from likely.metal import mx
from likely.models.model import LanguageModel

CHUNK = 256  # positions whose logits stand at once

Logits = Callable[[mx.array], Iterator[mx.array]]  # ids [1, T] -> log-probabilities [n, V], n positions at a time


def compare(
    a: Logits,
    b: Logits,
    ids: Sequence[int],
    names: tuple[str, str],
    *,
    top: int = 5,
    metrics: Sequence[str] = (),
) -> Difference:
    """The difference of two models on the ids of a text, with the named metrics besides KL and the most likely token.

    ParameterError for a metric that there is not.
    """
    more = measures.values(metrics)
    if not ids:
        raise DataError("there is nothing to compare: the text is empty")
    positions: list[Position] = []
    tokens = mx.array([list(ids)])
    total: tuple[mx.array | float, mx.array | float] = (0.0, 0.0)  # of the probabilities [V], before and now
    for before, now in zip(a(tokens), b(tokens), strict=True):
        if before.shape != now.shape:
            raise CheckpointError(
                f"{names[0]} has {before.shape[-1]} tokens and {names[1]} {now.shape[-1]}: "
                "only models of one vocabulary can be compared"
            )
        p, q = mx.exp(before), mx.exp(now)
        kl = arrays.kl(now, before, mx)
        values = {name: of(before, now, mx) for name, of in more.items()}
        entropies = arrays.entropy(before, mx), arrays.entropy(now, mx)
        up, down = arrays.top(q - p, top, mx), arrays.top(p - q, top, mx)
        best = mx.argmax(before, axis=-1), mx.argmax(now, axis=-1)
        most = mx.concatenate([arrays.top(before, top, mx), arrays.top(now, top, mx)], axis=-1)
        total = total[0] + mx.sum(p, axis=0), total[1] + mx.sum(q, axis=0)
        mx.eval(kl, *values.values(), *entropies, up, down, *best, most, *total)
        for i in range(before.shape[0]):
            at = len(positions)
            following = None
            if at + 1 < len(ids):
                following = float(before[i, ids[at + 1]]), float(now[i, ids[at + 1]])
            positions.append(
                Position(
                    ids[at],
                    float(kl[i]),
                    (float(entropies[0][i]), float(entropies[1][i])),
                    following,
                    (int(best[0][i]), int(best[1][i])),
                    _shifts(up[i], before[i], now[i], rising=True),
                    _shifts(down[i], before[i], now[i], rising=False),
                    _likely(most[i], before[i], now[i]),
                    {name: float(value[i]) for name, value in values.items()},
                )
            )
    means = [mx.log(mx.maximum(of, 1e-30)) - math.log(len(ids)) for of in total]
    moved = mx.exp(means[1]) - mx.exp(means[0])
    up, down = arrays.top(moved, top, mx), arrays.top(-moved, top, mx)
    risen, fallen = _shifts(up, *means, rising=True), _shifts(down, *means, rising=False)
    return Difference(names, tuple(positions), risen, fallen)


def _shifts(tokens: mx.array, before: mx.array, now: mx.array, *, rising: bool) -> tuple[Shift, ...]:
    shifts = [s for s in _all_shifts(tokens, before, now) if (s.change > 0) == rising and s.change]
    return tuple(sorted(shifts, key=lambda s: -abs(s.change)))


def _likely(tokens: mx.array, before: mx.array, now: mx.array) -> tuple[Shift, ...]:
    """Each token once, the most likely now first."""
    by_token = {s.token: s for s in _all_shifts(tokens, before, now)}
    return tuple(sorted(by_token.values(), key=lambda s: (-s.now, s.token)))


def _all_shifts(tokens: mx.array, before: mx.array, now: mx.array) -> list[Shift]:
    a: list[float] = before[tokens].tolist()  # type: ignore[assignment]
    b: list[float] = now[tokens].tolist()  # type: ignore[assignment]
    ids: list[int] = tokens.tolist()  # type: ignore[assignment]
    return [Shift(*entry) for entry in zip(ids, a, b, strict=True)]


def logits(
    model: LanguageModel,
    around: Callable[[], AbstractContextManager[None]] | None = None,
    *,
    name: str = "the model",
) -> Logits:
    """A model as `compare` takes it; `around` is entered for whatever it computes (the adapter off, say).

    NotFinite, which names the model, is raised where it gives no numbers.
    """
    inside = around or nullcontext

    def run(tokens: mx.array) -> Iterator[mx.array]:
        with inside():
            hidden = model.hidden(tokens)[0]
            mx.eval(hidden)
        for i in range(0, hidden.shape[0], CHUNK):
            with inside():
                z = model.head(hidden[i : i + CHUNK]).astype(mx.float32)
            rows = arrays.logprobs(z, mx, exact=True)
            if bool(mx.isnan(rows[:, 0]).any()):  # of a row with one NaN all are NaN
                with inside():
                    raise damaged(name, model, tokens[0].tolist())  # type: ignore[arg-type]
            yield rows

    return run


def check_vocabularies(a: Tokenizer, b: Tokenizer, names: tuple[str, str]) -> None:
    """CheckpointError unless the ids of both mean the same."""
    if a.fingerprint != b.fingerprint:
        raise CheckpointError(
            f"{names[0]} and {names[1]} have different vocabularies: only models of one can be compared"
        )
