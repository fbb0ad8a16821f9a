"""Tuned lens: for each layer an affine map from its state to the last one's, so that the head can read it.

Early layers write in a basis of their own, which the plain lens reads wrongly (arXiv:2303.08112). Here the map is
h + (h A) B + b of low rank, the least squares fit of the last residual stream (arXiv:2303.09435 at full rank), which is
solved rather than trained: one pass over some text and a decomposition a layer. Whether it helps is measured: KL(final
|| lens) on text that was held out must fall, and a layer where it does not keeps the plain lens and says so.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from likely.engine.base.errors import CheckpointError, DataError, ParameterError
from likely.engine.base.files import foreign_json
from likely.engine.base.files.home import home
from likely.engine.inside.lens import rows, states
from likely.engine.inside.subject import InspectedText
from likely.engine.weights.sources import array_file
from likely.engine.weights.sources.model_info import ModelInfo
from likely.metal import mx
from likely.models.transformer import Transformer

RANK = 64
RIDGE = 1e-3  # of the mean variance of a state's numbers
LENGTH = 128  # tokens of a piece of text
HELD_OUT = 8  # every so many pieces one is held out
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Translator:
    """h + (h a) b + bias; a [C, r], b [r, C], bias [C], float32. Rank 0 and no bias is the plain lens."""

    a: mx.array
    b: mx.array
    bias: mx.array

    def __call__(self, h: mx.array) -> mx.array:
        x = h.astype(mx.float32)
        return x + (x @ self.a) @ self.b + self.bias


@dataclass(frozen=True, slots=True)
class TunedLens:
    """A translator for each row of the lens but the last, the embedding's first; KL in nats on held-out text."""

    translators: tuple[Translator, ...]
    before: tuple[float, ...]  # by the plain lens
    after: tuple[float, ...]  # by the fit, whether it was kept or not

    @property
    def worse(self) -> tuple[int, ...]:
        """The rows whose KL did not fall, which keep the plain lens."""
        return tuple(i for i, (old, new) in enumerate(zip(self.before, self.after, strict=True)) if not new < old)

    def translate(self, hidden: Sequence[mx.array]) -> list[mx.array]:
        """States as `engine.inside.lens.rows` takes them; the last is the model's own and stays."""
        if len(hidden) != len(self.translators) + 1:
            raise CheckpointError(f"this lens is for {len(self.translators)} layers, the model has {len(hidden) - 1}")
        return [*(f(h) for f, h in zip(self.translators, hidden[:-1], strict=True)), hidden[-1]]


def fit(
    model: Transformer,
    ids: Sequence[int],
    *,
    rank: int = RANK,
    length: int = LENGTH,
    progress: Callable[[int, int], None] | None = None,
) -> TunedLens:
    """Fit to a text, of which every eighth piece is held out.

    ParameterError for a text that is too short to hold anything out.
    """
    pieces = [tuple(ids[low : low + length]) for low in range(0, len(ids) - 1, length)]
    held = pieces[HELD_OUT - 1 :: HELD_OUT]
    if rank < 1 or not held:
        raise ParameterError(f"a lens is fit to {HELD_OUT * length} tokens or more, at a rank of 1 or more: {len(ids)}")
    training = [piece for i, piece in enumerate(pieces) if i % HELD_OUT != HELD_OUT - 1]
    width, layers = model.config.width, len(model.blocks)
    squares = np.zeros((layers, width + 1, width + 1))  # of a state and a 1
    products = np.zeros((layers, width + 1, width))  # with what the last state has more
    for done, piece in enumerate(training):
        hidden = [np.array(h[0].astype(mx.float32), np.float64) for h in states(InspectedText(model, piece))]
        for i, h in enumerate(hidden[:-1]):
            x = np.concatenate([h, np.ones((len(h), 1))], axis=1)
            squares[i] += x.T @ x
            products[i] += x.T @ (hidden[-1] - h)
        if progress is not None:
            progress(done + 1, len(training))
    fitted = [_solve(s, p, rank) for s, p in zip(squares, products, strict=True)]
    plain = TunedLens(tuple(_nothing(width) for _ in fitted), (0.0,) * layers, (0.0,) * layers)
    before, after = (_kl(model, held, lens) for lens in (plain, TunedLens(tuple(fitted), plain.before, plain.after)))
    translators = [f if new < old else _nothing(width) for f, old, new in zip(fitted, before, after, strict=True)]
    return TunedLens(tuple(translators), before, after)


def _solve(squares: np.ndarray, products: np.ndarray, rank: int) -> Translator:
    """Reduced-rank ridge regression: of all maps of this rank the one whose predictions are nearest."""
    n = squares[-1, -1]
    mean, target = squares[-1, :-1] / n, products[-1] / n
    variance = squares[:-1, :-1] / n - np.outer(mean, mean)
    covariance = products[:-1] / n - np.outer(mean, target)
    size = max(np.trace(variance), 1e-6 * np.trace(squares[:-1, :-1]) / n)  # a text of one token has no variance
    ridge = RIDGE * float(size) / len(variance)
    root = np.linalg.cholesky(variance + ridge * np.eye(len(variance)))
    u, lengths, v = np.linalg.svd(np.linalg.solve(root, covariance), full_matrices=False)
    a = np.linalg.solve(root.T, u[:, :rank] * lengths[:rank])
    b = v[:rank]
    bias = target - mean @ a @ b
    return Translator(*(mx.array(x.astype(np.float32)) for x in (a, b, bias)))


def _nothing(width: int) -> Translator:
    return Translator(mx.zeros((width, 1)), mx.zeros((1, width)), mx.zeros(width))


def _kl(model: Transformer, pieces: Sequence[tuple[int, ...]], lens: TunedLens) -> tuple[float, ...]:
    """The mean KL of each row but the last over the pieces' positions."""
    total, count = np.zeros(len(lens.translators)), 0
    for piece in pieces:
        subject = InspectedText(model, piece)
        rows_of = list(rows(subject, lens.translate(states(subject))))
        total += [row.kl.sum(dtype=np.float64) for row in reversed(rows_of[1:])]
        count += len(piece)
    return tuple(float(x) for x in total / count)


def file_of(weights: str) -> Path:
    """The file of the lens of a model with such weights."""
    return home() / "lenses" / f"{weights[:32]}.safetensors"


def kept(info: ModelInfo) -> TunedLens:
    """The lens that is kept for a model; ParameterError where there is none."""
    path = file_of(info.weights)
    if not path.exists():
        raise ParameterError(f"no tuned lens is kept for {info.name}: likely inside --tune-lens FILE fits one")
    return read(path)


def save(path: Path, lens: TunedLens) -> None:
    """Write a lens; DataError where that cannot be."""
    arrays = {f"{i}.{name}": getattr(t, name) for i, t in enumerate(lens.translators) for name in ("a", "b", "bias")}
    kl = {"format": str(FORMAT), "before": json.dumps(lens.before), "after": json.dumps(lens.after)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror}") from None
    array_file.write(path, arrays, kl)


def read(path: Path) -> TunedLens:
    """The lens in a file; DataError for one that is damaged or of another format."""
    try:
        arrays, kl = array_file.read(path)
        if kl.get("format") != str(FORMAT):
            raise DataError(f"{path} is a lens of format {kl.get('format')}, {FORMAT} is known here: make it again")
        before, after = (tuple(map(float, foreign_json.parse(kl[name], [float]))) for name in ("before", "after"))
        translators = [Translator(*(arrays[f"{i}.{name}"] for name in ("a", "b", "bias"))) for i in range(len(before))]
    except (CheckpointError, ValueError, KeyError) as error:
        raise DataError(f"{path} holds no lens that can be read: {error}") from None
    return TunedLens(tuple(translators), before, after)
