"""How two models differ on a text: KL at every position, and which tokens rose and fell. Log-probabilities in nats.

The two are any pair over one vocabulary: two checkpoints, or one model with and without an adapter.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.checkpoint import Checkpoint, load
from engine.errors import CheckpointError, DataError
from engine.fetch.progress import Report, silent
from engine.tokenizer import Tokenizer
from metal import mx

CHUNK = 256  # positions whose logits stand at once


@dataclass(frozen=True)
class Shift:
    """A token whose probability changed; log-probabilities before and now."""

    token: int
    before: float
    now: float

    @property
    def change(self) -> float:
        """In probability."""
        return float(np.exp(self.now) - np.exp(self.before))


@dataclass(frozen=True)
class Position:
    """The next-token distributions after one token of the text."""

    token: int  # the one that they follow
    kl: float  # KL(B || A)
    entropy: tuple[float, float]
    next: tuple[float, float] | None  # log-probabilities of the token that came; None at the end
    top: tuple[int, int]  # the most likely token of each
    risen: tuple[Shift, ...]
    fallen: tuple[Shift, ...]


@dataclass(frozen=True)
class Difference:
    """Two models on one text: A before, B now."""

    names: tuple[str, str]
    positions: tuple[Position, ...]

    @property
    def kl(self) -> float:
        """Mean KL(B || A) a token."""
        return float(np.mean([p.kl for p in self.positions]))

    @property
    def same_top(self) -> float:
        """Share of positions where the most likely token is the same."""
        return float(np.mean([p.top[0] == p.top[1] for p in self.positions]))

    @property
    def nll(self) -> tuple[float, float]:
        """Mean negative log-probability of the text's tokens under each; NaN for a text of one token."""
        found = [p.next for p in self.positions if p.next is not None]
        if not found:
            return float("nan"), float("nan")
        a, b = zip(*found, strict=True)
        return -float(np.mean(a)), -float(np.mean(b))


Logits = Callable[[mx.array], Iterator[mx.array]]  # ids [1, T] -> log-probabilities [n, V], n positions at a time


def compare(a: Logits, b: Logits, ids: Sequence[int], names: tuple[str, str], *, top: int = 5) -> Difference:
    """The difference of two models on the ids of a text."""
    if not ids:
        raise DataError("there is nothing to compare: the text is empty")
    positions: list[Position] = []
    tokens = mx.array([list(ids)])
    for before, now in zip(a(tokens), b(tokens), strict=True):
        if before.shape != now.shape:
            raise CheckpointError(
                f"{names[0]} has {before.shape[-1]} tokens and {names[1]} {now.shape[-1]}: "
                "only models of one vocabulary can be compared"
            )
        p, q = mx.exp(before), mx.exp(now)
        kl = divergence(now, before)
        entropies = -mx.sum(p * before, axis=-1), -mx.sum(q * now, axis=-1)
        moved = q - p
        count = min(top, moved.shape[-1])
        up, down = mx.argpartition(-moved, count - 1, axis=-1), mx.argpartition(moved, count - 1, axis=-1)
        best = mx.argmax(before, axis=-1), mx.argmax(now, axis=-1)
        mx.eval(kl, *entropies, up, down, *best)
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
                    _shifts(up[i, :count], before[i], now[i], rising=True),
                    _shifts(down[i, :count], before[i], now[i], rising=False),
                )
            )
    return Difference(names, tuple(positions))


def divergence(of: mx.array, to: mx.array) -> mx.array:
    """KL(of || to) [...] of log-probabilities [..., V], never below 0: sum p (r + exp(-r) - 1) with r = log p - log q.

    The terms past r add up to nothing, and every term is positive, so that a small KL is not lost in rounding.
    """
    p, r = mx.exp(of), of - to
    near = p * (r + mx.expm1(-mx.clip(r, -1, 1)))
    return mx.sum(mx.where(mx.abs(r) < 1, near, p * r + (mx.exp(to) - p)), axis=-1)


def _shifts(tokens: mx.array, before: mx.array, now: mx.array, *, rising: bool) -> tuple[Shift, ...]:
    a: list[float] = before[tokens].tolist()  # type: ignore[assignment]
    b: list[float] = now[tokens].tolist()  # type: ignore[assignment]
    ids: list[int] = tokens.tolist()  # type: ignore[assignment]
    found = [Shift(*entry) for entry in zip(ids, a, b, strict=True)]
    kept = [s for s in found if (s.change > 0) == rising and s.change]
    return tuple(sorted(kept, key=lambda s: -abs(s.change)))


def logits(model: object, around: Callable[[], AbstractContextManager[None]] | None = None) -> Logits:
    """A model as `compare` takes it; `around` is entered for its pass (the adapter off, say)."""

    def run(tokens: mx.array) -> Iterator[mx.array]:
        with (around or _plain)():
            hidden = model.hidden(tokens)[0]  # type: ignore[attr-defined]
            mx.eval(hidden)
        for i in range(0, hidden.shape[0], CHUNK):
            z = model.head(hidden[i : i + CHUNK]).astype(mx.float32)  # type: ignore[attr-defined]
            yield z - mx.logsumexp(z, axis=-1, keepdims=True)

    return run


@contextmanager
def _plain() -> Iterator[None]:
    yield


def open_model(name: str, progress: Report = silent) -> Checkpoint:
    """The checkpoint `name`, or the adapter directory `name` on the model that it was trained on."""
    from engine.tune import adapters, lora

    folder = Path(name).expanduser()
    if not (folder / adapters.CONFIG).exists():
        return load(name, progress)
    stored = adapters.read(folder)
    if not stored.model:
        raise CheckpointError(f'{folder / adapters.CONFIG} does not say which model it is for: add "model"')
    checkpoint = load(stored.model, progress)
    adapter = adapters.place(checkpoint.model, stored, str(folder))
    if isinstance(adapter, lora.Adapter):
        lora.attach(adapter)
    return checkpoint


def check_vocabularies(a: Tokenizer, b: Tokenizer, names: tuple[str, str]) -> None:
    """CheckpointError unless the ids of both mean the same."""
    if a.fingerprint != b.fingerprint:
        raise CheckpointError(
            f"{names[0]} and {names[1]} have different vocabularies: only models of one can be compared"
        )


__all__ = ["Difference", "Position", "Shift", "check_vocabularies", "compare", "divergence", "logits", "open_model"]
