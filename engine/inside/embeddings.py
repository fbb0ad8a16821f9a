"""Embeddings: tokens as points, and which lie near which.

Cosines are of rows as they are or, `centred`, after the mean row is taken off: what all tokens share says nothing about
any. A table is read in parts, so that a packed one is never unpacked whole. Knows nothing of text.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from likely.engine.base.errors import NotFinite, ParameterError
from likely.engine.inside.questions import Neighbour, Neighbourhood, WordSum
from likely.metal import mx
from likely.models.modules.linear import bare
from likely.models.modules.weights import PackedRows
from likely.models.transformer import Transformer

NEAREST = 10
PART = 8192  # rows that are unpacked at once
TABLES = ("input", "output")


class EmbeddingTable:
    """The input embedding of a model, or the rows of its head: one row [C] for each of V tokens."""

    def __init__(self, model: Transformer, table: str = "input") -> None:
        """ParameterError for a table that is none."""
        if table not in TABLES:
            raise ParameterError(f"an embedding is one of {', '.join(TABLES)}, got {table}")
        self.matrix = bare(model.embed if table == "input" else model.out).matrix
        self.size, self.width = self.matrix.shape
        self._mean: mx.array | None = None

    def rows(self, ids: Sequence[int]) -> mx.array:
        """Float32 [N, C]; ParameterError for an id that is none."""
        for token in ids:
            if not 0 <= token < self.size:
                raise ParameterError(f"a token's id must be 0 to {self.size - 1}, got {token}")
        return self._floats(mx.array(list(ids), dtype=mx.int32))

    def parts(self) -> Iterator[mx.array]:
        """All rows, float32 [PART or fewer, C]."""
        for low in range(0, self.size, PART):
            yield self._floats(mx.arange(low, min(low + PART, self.size)))

    @property
    def mean(self) -> mx.array:
        """The mean row [C]."""
        if self._mean is None:
            total = mx.zeros((self.width,))
            for part in self.parts():
                total = total + mx.sum(part, axis=0)
                mx.eval(total)
            self._mean = total / self.size
        return self._mean

    def norms(self, *, centred: bool = False) -> np.ndarray:
        """The length of every row, float32 [V]."""
        mean = self.mean if centred else 0
        return np.concatenate([np.array(mx.linalg.norm(part - mean, axis=-1)) for part in self.parts()])

    def cosines(self, vectors: mx.array, *, centred: bool = False) -> np.ndarray:
        """The cosine of every row with each of `vectors` [..., C], float32 [..., V]; 0 where either is 0. `centred` is
        for the rows, and for vectors that still have the mean in them. NotFinite where a row holds no numbers."""
        mean = self.mean if centred else mx.zeros((self.width,))
        wanted, parts = units(vectors - mean), []
        for part in self.parts():
            part = part - mean
            lengths = mx.linalg.norm(part, axis=-1)
            parts.append(np.array(wanted @ part.T / mx.maximum(lengths, 1e-30)))
        cosines = np.concatenate(parts, axis=-1)
        if not np.isfinite(cosines).all():
            raise NotFinite("an embedding holds NaN or infinity: the model's weights are damaged, fetch it again")
        return cosines

    def neighbours(self, token: int, count: int = NEAREST, *, centred: bool = False) -> list[Neighbour]:
        """The nearest tokens by cosine, the nearest first, the token itself left out."""
        return nearest(self.cosines(self.rows([token])[0], centred=centred), count, [token])

    def sum_neighbours(
        self,
        plus: Sequence[int],
        minus: Sequence[int] = (),
        count: int = NEAREST,
        *,
        centred: bool = True,
        inputs: bool = False,
    ) -> list[Neighbour]:
        """The nearest tokens to a sum of unit rows (3CosAdd, Mikolov et al. 2013): king - man + woman.

        With `inputs` the tokens of the sum may be found too: they mostly are.
        """
        if not plus:
            raise ParameterError("a sum of embeddings needs a token that is added")
        mean = self.mean if centred else mx.zeros((self.width,))
        signs = mx.array([1.0] * len(plus) + [-1.0] * len(minus))
        target = mx.sum(units(self.rows([*plus, *minus]) - mean) * signs[:, None], axis=0) + mean
        return nearest(self.cosines(target, centred=centred), count, [] if inputs else [*plus, *minus])

    def neighbourhood(self, token: int) -> Neighbourhood:
        """The nearest tokens after the mean row is taken off, and how near the others are."""
        cosines = self.cosines(self.rows([token])[0], centred=True)
        others, near = np.delete(cosines, token), nearest(cosines, NEAREST, [token])
        rows = units(self.rows([token, *(neighbour.id for neighbour in near)]))
        raw = tuple(np.array(rows[1:] @ rows[0]).tolist())
        return Neighbourhood(near, raw, float(np.median(others)), float(np.quantile(others, 0.99)))

    def word_sum(
        self, plus: Sequence[int], minus: Sequence[int], count: int = NEAREST, accuracy: float | None = None
    ) -> WordSum:
        """The nearest tokens to a sum, the tokens of the sum left out and with them."""
        left_out, kept = (self.sum_neighbours(plus, minus, count, inputs=inputs) for inputs in (False, True))
        return WordSum(plus, minus, left_out, kept, accuracy)

    def shadow(self, ids: Sequence[int]) -> tuple[np.ndarray, float]:
        """All tokens on the plane of the two directions in which these differ most: float32 [V, 2], and the share of
        their variance that it keeps. A direction points to where its largest loading is positive.

        ParameterError for fewer than three tokens.
        """
        if len(ids) < 3:
            raise ParameterError(f"a map needs three tokens or more, got {len(ids)}")
        rows = np.array(self.rows(ids), np.float64)
        centre = rows.mean(axis=0)
        _, lengths, axes = np.linalg.svd(rows - centre, full_matrices=False)
        axes = axes[:2] * np.sign(np.take_along_axis(axes[:2], np.abs(axes[:2]).argmax(axis=1)[:, None], axis=1))
        variance = lengths**2
        kept = float(variance[:2].sum() / variance.sum()) if variance.sum() else 1.0
        middle, both = (mx.array(x.astype(np.float32)) for x in (centre, axes))
        return np.concatenate([np.array((part - middle) @ both.T) for part in self.parts()]), kept

    def alikeness(self) -> float:
        """The mean cosine of two different tokens, of rows as they are: 0 where they point everywhere alike."""
        total, zero = mx.zeros((self.width,)), 0
        for part in self.parts():
            total = total + mx.sum(units(part), axis=0)
            zero += int(mx.sum(mx.all(part == 0, axis=-1)))
        n = self.size - zero
        return float((mx.sum(mx.square(total)) - n) / (n * (n - 1))) if n > 1 else 0.0

    def _floats(self, ids: mx.array) -> mx.array:
        matrix = self.matrix
        if isinstance(matrix, PackedRows):
            return matrix.map(lambda part: part[ids]).floats(mx.float32)
        rows: mx.array = matrix[ids].astype(mx.float32)
        return rows


def units(rows: mx.array) -> mx.array:
    """Rows [..., C] at length 1; one of zeros stays as it is."""
    return rows / mx.maximum(mx.linalg.norm(rows, axis=-1, keepdims=True), 1e-30)


def nearest(cosines: np.ndarray, count: int, without: Sequence[int] = ()) -> list[Neighbour]:
    """The tokens of the largest cosines [V], the nearest first, those of `without` left out."""
    cosines = cosines.copy()
    cosines[list(without)] = -np.inf
    order = np.argsort(-cosines, kind="stable")[:count]
    return [Neighbour(int(i), float(cosines[i])) for i in order if np.isfinite(cosines[i])]
