"""Low-rank factors: the two small matrices of one site, and what they make of the large one.

Their layout is the file's, which depends on what the site is:

    matrix    A [in, r]     B [r, out]     W [out, in] + scale B^T A^T     arXiv:2106.09685, eq. 3
    table     A [V, r]      B [r, C]       E [V, C] + scale A B            an embedding; a tied head with it
    experts   A [E, r, in]  B [E, out, r]  W [E, out, in] + scale B A      each expert its own
"""

import math
from dataclasses import dataclass

import numpy as np

from likely.engine.base.errors import ParameterError
from likely.metal import mx
from likely.models.modules.parts import ModelPart
from likely.models.packed_weights.additions import LowRank

Array = mx.array
LEAVES = {"lora_a": "a", "lora_b": "b", "m": "m"}


@dataclass(slots=True)
class Factors:
    """The adapter of one site. `m` [out] is DoRA's magnitude; `a0`, `b0` are a start that is subtracted (PiSSA).

    `shift` [out] is added to the output of a matrix. `tied`: a change of an embedding that is the head too is one of
    the head.
    """

    site: ModelPart
    scale: float
    a: Array
    b: Array
    m: Array | None = None
    a0: Array | None = None
    b0: Array | None = None
    weight: float = 1.0  # of this adapter among those that are stacked
    shift: Array | None = None
    tied: bool = True
    norms: Array | None = None  # DoRA: the squared norms of W's rows

    @property
    def start(self) -> int:
        return self.site.start

    @property
    def stop(self) -> int:
        return self.site.stop

    @property
    def rank(self) -> int:
        """The rank of the change itself, a subtracted start included."""
        return int(self.whole()[1].shape[-1 if self.site.kind == "experts" else 0])

    def parameters(self) -> dict[str, Array]:
        named = {"lora_a": self.a, "lora_b": self.b} | ({} if self.m is None else {"m": self.m})
        return {f"{self.site.path}.{name}": array for name, array in named.items()}

    def whole(self) -> tuple[Array, Array]:
        """A and B of the change itself, a subtracted start included: of a matrix [in, r'] and [r', out]."""
        if self.a0 is None or self.b0 is None:
            return self.a, self.b
        return mx.concatenate([self.a, self.a0], axis=1), mx.concatenate([self.b, -self.b0], axis=0)

    def delta(self) -> Array:
        """The change of the site's numbers, in their shape (DoRA aside)."""
        a, b = self.whole()
        product = {"matrix": lambda: b.T @ a.T, "table": lambda: a @ b, "experts": lambda: b @ a}[self.site.kind]()
        return (self.scale * self.weight) * product

    def square(self) -> Array:
        """The squared norm of the change, as it is trained, without forming it."""
        a, b = self.whole()
        if self.site.kind == "experts":
            return self.scale**2 * mx.sum((a @ a.swapaxes(-1, -2)) * (b.swapaxes(-1, -2) @ b))
        return self.scale**2 * mx.sum((a.T @ a) * (b @ b.T))

    def magnitude(self) -> Array:
        """DoRA: the norms of the rows of W + scale B^T A^T [out], without forming it (arXiv:2402.09353, eq. 5)."""
        assert self.norms is not None
        w = self.site.numbers()
        cross = mx.sum((w @ self.a).T * self.b, axis=0)
        own = mx.sum(self.b * ((self.a.T @ self.a) @ self.b), axis=0)
        return mx.sqrt(self.norms + 2 * self.scale * cross + self.scale**2 * own)

    def measure(self) -> Array:
        """DoRA's constant, set: the squared norms of W's rows [out]."""
        self.norms = mx.sum(mx.square(self.site.numbers().astype(mx.float32)), axis=1)
        return self.norms

    def low_rank(self) -> LowRank:
        """The change of a matrix or a table as plain data."""
        arrays = (*self.whole(), self.share(), None if self.shift is None else self.weight * self.shift)
        a, b, gain, shift = (None if array is None else np.array(array.astype(mx.float32)) for array in arrays)
        assert a is not None and b is not None
        return LowRank(self.start, self.stop, a, b, self.scale * self.weight, gain, shift)

    def share(self) -> Array | None:
        """DoRA: what the rows of the changed matrix are multiplied by [out]."""
        return None if self.m is None else self.m / mx.stop_gradient(self.magnitude())  # a constant: section 4.3

    def rescaled(self, y: Array, z: Array) -> Array:
        """A matrix's output y with its change z; for DoRA, its rows brought to the magnitude m."""
        if self.shift is not None:
            z = z + (self.weight * self.shift).astype(z.dtype)
        if (share := self.share()) is None:
            return y + z
        bias = self.site.bias
        plain = y if bias is None else y - bias
        out = share.astype(y.dtype) * (plain + z)
        return out if bias is None else out + bias


def shapes(site: ModelPart, rank: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The shapes of A and B at a site."""
    if site.kind == "table":
        return (site.height, rank), (rank, site.width)
    if site.kind == "experts":
        return (site.count, rank, site.width), (site.count, site.height, rank)
    return (site.width, rank), (rank, site.height)


def fresh(site: ModelPart, rank: int, scale: float, *, dora: bool, pissa: bool, key: Array) -> Factors:
    """The factors of a site before training: A uniform within 1 / sqrt of its inputs and B = 0, or PiSSA's.

    ParameterError for a rank larger than the site, and for what its kind does not allow.
    """
    most = min(site.width, site.height)
    if not 1 <= rank <= most:
        raise ParameterError(f"rank must be 1 to {most} for {site.path} [{site.height}, {site.width}], got {rank}")
    if site.kind != "matrix" and (dora or pissa):
        what = "kind = dora" if dora else "init = pissa"
        raise ParameterError(
            f"{what} goes with matrices, and {site.path} is {NAMED[site.kind]}: choose others by modules"
        )
    inputs = site.height if site.kind == "table" else site.width
    bound = 1 / math.sqrt(inputs)
    first, second = shapes(site, rank)
    f = Factors(site, scale, mx.random.uniform(-bound, bound, first, key=key), mx.zeros(second))
    if pissa:
        f.a, f.b = largest(site, rank, scale)
        f.a0, f.b0 = f.a, f.b
    if dora:
        f.m = mx.sqrt(f.measure())
    mx.eval(f.a, f.b, f.m, f.norms)
    return f


def largest(site: ModelPart, rank: int, scale: float) -> tuple[Array, Array]:
    """The largest singular directions of a matrix, as factors of that scale (arXiv:2404.02948, eq. 2 and 3)."""
    decomposition = np.linalg.svd(np.asarray(site.numbers().astype(mx.float32)), full_matrices=False)
    u, s, vt = map(mx.array, decomposition)
    root = mx.sqrt(s[:rank] / scale)
    return vt[:rank].T * root, (u[:, :rank] * root).T


NAMED = {"matrix": "a matrix", "table": "an embedding", "experts": "experts"}
