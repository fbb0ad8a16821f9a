"""How two models differ on a text: KL at every position, and which tokens rose and fell. Log-probabilities in nats.

The two are any pair over one vocabulary: two checkpoints, or one model with and without an adapter.
"""

import math
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import numpy as np

from likely.engine.base import arrays
from likely.engine.base.concurrency.resumable import whole
from likely.engine.base.errors import CheckpointError, DataError
from likely.engine.base.numerics import damaged
from likely.engine.base.statistics import measures
from likely.engine.base.statistics.difference import Difference, Pair, Position, Shift, TokenSequence
from likely.metal import mx
from likely.models.model import LanguageModel

CHUNK = 256  # positions whose logits stand at once

# ids [T] and a position -> log-probabilities [n, V] of what follows each position from it on, n positions at a time, by
# mlx or numpy; None where there is nothing to give yet
ScalingLaw = Callable[[Sequence[int], int], Iterator[Any]]


def compare(
    a: ScalingLaw,
    b: ScalingLaw,
    ids: Sequence[int],
    names: tuple[str, str],
    *,
    top: int = 5,
    metrics: Sequence[str] = (),
) -> Difference:
    """The difference of two models on the ids of a text, with the named metrics besides KL and the most likely token.

    ParameterError for a metric that there is not.
    """
    text = TokenSequence(tuple(ids))
    return whole(crossed((a, b), (text, text), names, pairs=((0, 1),), top=top, metrics=metrics))[0, 1]


def crossed(
    laws: Sequence[ScalingLaw],
    texts: Sequence[TokenSequence],
    names: Sequence[str],
    *,
    pairs: Sequence[Pair] = (),
    top: int = 5,
    metrics: Sequence[str] = (),
) -> Generator[int, None, dict[Pair, Difference]]:
    """Each law's own text, read by it and by each other: a `Difference` from author to reader for each of `pairs`, all
    that there are by default, in the end; how many positions of pairs have been compared after each piece. A text that
    several have is read once.

    ParameterError for a metric that there is not, DataError for a text without a token.
    """
    more = measures.values(metrics)
    everyone = range(len(laws))
    pairs = pairs or [(author, reader) for author in everyone for reader in everyone if author != reader]
    differences: dict[Pair, Difference] = {}
    done = 0
    for text in dict.fromkeys(texts[author] for author, _ in pairs):
        read = text.ids[:-1] if text.ended else text.ids
        if len(read) <= text.start:
            raise DataError("there is nothing to compare: the text is empty")
        growing = {
            pair: _Growing(text, (names[pair[0]], names[pair[1]]), top, more)
            for pair in pairs
            if texts[pair[0]] == text and pair not in differences
        }
        streams = {i: laws[i](read, text.start) for i in sorted({i for pair in growing for i in pair})}
        at = text.start
        while at < len(read):
            rows: dict[int, np.ndarray] = {}
            for i, stream in streams.items():
                while (given := next(stream)) is None:  # one may have to read what another has read
                    yield done
                rows[i] = np.asarray(given)
            for (author, reader), difference in growing.items():
                difference.take(rows[author], rows[reader])
                done += len(rows[author])
                yield done
            at += len(rows[author])
        for stream in streams.values():
            next(stream, None)  # so that it lets go of what it holds
        differences |= {pair: difference.difference for pair, difference in growing.items()}
    return differences


class _Growing:
    """The difference of two laws on a text, as far as it has been read."""

    def __init__(
        self, text: TokenSequence, names: tuple[str, str], top: int, metrics: dict[str, measures.Value]
    ) -> None:
        self.text, self.names, self.top, self.metrics = text, names, top, metrics
        self.positions: list[Position] = []
        self._total: tuple[np.ndarray | float, np.ndarray | float] = 0.0, 0.0  # of the probabilities [V] of both

    def take(self, before: np.ndarray, now: np.ndarray) -> None:
        """The next positions: log-probabilities [n, V] before and now."""
        if before.shape != now.shape:
            raise CheckpointError(
                f"{self.names[0]} has {before.shape[-1]} tokens and {self.names[1]} {now.shape[-1]}: "
                "only models of one vocabulary can be compared"
            )
        top, ids, first = self.top, self.text.ids, self.text.start + len(self.positions)
        p, q = np.exp(before), np.exp(now)
        kl = arrays.kl(now, before, np)
        values = {name: of(before, now, np) for name, of in self.metrics.items()}
        entropies = np.stack([arrays.entropy(before, np), arrays.entropy(now, np)], axis=-1)
        best = np.stack([before.argmax(axis=-1), now.argmax(axis=-1)], axis=-1)
        change = q - p
        up, down = arrays.top(change, top, np), arrays.top(-change, top, np)
        most = np.concatenate([arrays.top(before, top, np), arrays.top(now, top, np)], axis=-1)
        self._total = self._total[0] + p.sum(axis=0), self._total[1] + q.sum(axis=0)
        for i, at in enumerate(range(first, first + len(before))):
            following = None
            if at + 1 < len(ids):
                following = float(before[i, ids[at + 1]]), float(now[i, ids[at + 1]])
            self.positions.append(
                Position(
                    ids[at],
                    float(kl[i]),
                    (float(entropies[i, 0]), float(entropies[i, 1])),
                    following,
                    (int(best[i, 0]), int(best[i, 1])),
                    _shifts(up[i], before[i], now[i], rising=True),
                    _shifts(down[i], before[i], now[i], rising=False),
                    _likely(most[i], before[i], now[i]),
                    {name: float(value[i]) for name, value in values.items()},
                )
            )

    @property
    def difference(self) -> Difference:
        means = [np.log(np.maximum(of, 1e-30)) - math.log(len(self.positions)) for of in self._total]
        moved = np.exp(means[1]) - np.exp(means[0])
        up, down = arrays.top(moved, self.top, np), arrays.top(-moved, self.top, np)
        risen, fallen = _shifts(up, *means, rising=True), _shifts(down, *means, rising=False)
        return Difference(self.names, tuple(self.positions), risen, fallen)


def _shifts(tokens: np.ndarray, before: np.ndarray, now: np.ndarray, *, rising: bool) -> tuple[Shift, ...]:
    shifts = [s for s in _all_shifts(tokens, before, now) if (s.change > 0) == rising and s.change]
    return tuple(sorted(shifts, key=lambda s: -abs(s.change)))


def _likely(tokens: np.ndarray, before: np.ndarray, now: np.ndarray) -> tuple[Shift, ...]:
    """Each token once, the most likely now first."""
    by_token = {s.token: s for s in _all_shifts(tokens, before, now)}
    return tuple(sorted(by_token.values(), key=lambda s: (-s.now, s.token)))


def _all_shifts(tokens: np.ndarray, before: np.ndarray, now: np.ndarray) -> list[Shift]:
    columns = tokens.tolist(), before[tokens].tolist(), now[tokens].tolist()
    return [Shift(*entry) for entry in zip(*columns, strict=True)]


def logits(
    model: LanguageModel,
    around: Callable[[], AbstractContextManager[None]] | None = None,
    *,
    name: str = "the model",
) -> ScalingLaw:
    """The law of a model; `around` is entered for whatever it computes (the adapter off, say).

    NotFinite, which names the model, is raised where it gives no numbers.
    """
    inside = around or nullcontext

    def run(ids: Sequence[int], start: int = 0) -> Iterator[mx.array]:
        with inside():
            hidden = model.hidden(mx.array([list(ids)]))[0, start:]
            mx.eval(hidden)
        for i in range(0, hidden.shape[0], CHUNK):
            with inside():
                z = model.head(hidden[i : i + CHUNK]).astype(mx.float32)
            rows = arrays.logprobs(z, mx, exact=True)
            if bool(mx.isnan(rows[:, 0]).any()):  # of a row with one NaN all are NaN
                with inside():
                    raise damaged(name, model, list(ids))
            yield rows

    return run


class Fingerprinted(Protocol):
    """A tokenizer, as far as it is told from others."""

    @property
    def fingerprint(self) -> str: ...


def check_vocabularies(a: Fingerprinted, b: Fingerprinted, names: tuple[str, str]) -> None:
    """CheckpointError unless the ids of both mean the same."""
    if a.fingerprint != b.fingerprint:
        raise CheckpointError(
            f"{names[0]} and {names[1]} have different vocabularies: only models of one can be compared"
        )
