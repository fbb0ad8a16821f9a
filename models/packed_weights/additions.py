"""Additions to a model on packed weights: low ranks beside its products and vectors after its layers (forward.h).

`Additions` are plain data in numpy; `PackedAdditions` are the same as the native call reads them. Neither knows
adapters or directions: what stands on the graph says what it adds (`models.native_graph`).
"""

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from likely.metal.packed import ALIGNED, LANES, PackedMatrix, Room

PRODUCTS = ("qkv", "out", "gate_up", "down")  # of a layer
EMBED, HEAD = "embed", "head"


@dataclass(frozen=True)
class LowRank:
    """Change of a product's outputs [start, stop): y becomes gain (y + scale (x A) B) + shift, biases after the gain.

    A [in, r] and B [r, stop - start], float32; of the embedding A is [V, r], and a token's row stands for x A.
    """

    start: int
    stop: int
    a: np.ndarray
    b: np.ndarray
    scale: float
    gain: np.ndarray | None = None  # [stop - start]
    shift: np.ndarray | None = None

    @property
    def nbytes(self) -> int:
        """At most, as the call has it."""
        return int(self.a.nbytes + -(-self.b.shape[1] // LANES) * LANES * self.b.shape[0] * 4 + 2 * ALIGNED)


@dataclass(frozen=True)
class Additions:
    """All that a model has beside its weights."""

    layers: Sequence[Mapping[str, Sequence[LowRank]]]  # of each layer, by PRODUCTS
    ends: Mapping[str, Sequence[LowRank]] = field(default_factory=dict)  # by EMBED and HEAD
    after: Mapping[int, np.ndarray] = field(default_factory=dict)  # a layer -> what is added to what it gives, [C]
    heads: Mapping[int, np.ndarray] = field(default_factory=dict)  # a layer -> what its heads are multiplied by, [H]

    def __bool__(self) -> bool:
        return any(map(bool, (*self.layers, self.ends, self.after, self.heads)))


def by_site(changes: Sequence[LowRank]) -> list[list[LowRank]]:
    """A product's changes in the order in which the call has their ranks: those of the same outputs together."""
    sites: dict[tuple[int, int], list[LowRank]] = {}
    for change in changes:
        sites.setdefault((change.start, change.stop), []).append(change)
    return list(sites.values())


class _Up(ctypes.Structure):
    """`up_t` of forward.h."""

    _fields_ = (("up", ctypes.c_void_p), ("start", ctypes.c_int), ("first", ctypes.c_int))


class _Addition(ctypes.Structure):
    """`addition_t` of forward.h."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("down", "scales", "ups", "gain", "shift")),
        ("ranks", ctypes.c_int),
        ("count", ctypes.c_int),
    )


class _Additions(ctypes.Structure):
    """`additions_t` of forward.h."""

    _fields_ = tuple((name, ctypes.c_void_p) for name in (*PRODUCTS, "heads", "shift"))


class PackedAdditions:
    """The additions as the call reads them, with all that they point to; never written again."""

    def __init__(self, additions: Additions, outputs: Mapping[str, int]) -> None:
        """`outputs` of each product, by PRODUCTS, EMBED and HEAD."""
        self._kept: list[Any] = []
        every = [
            change for part in (*additions.layers, additions.ends) for applied in part.values() for change in applied
        ]
        self._room = Room(sum(change.nbytes for change in every))
        self._layers = (_Additions * len(additions.layers))()
        for index, layer in enumerate(additions.layers):
            for product, changes in layer.items():
                setattr(self._layers[index], product, self._addition(changes, outputs[product]))
            for name, vectors in (("heads", additions.heads), ("shift", additions.after)):
                if index in vectors:
                    setattr(self._layers[index], name, self._numbers(vectors[index]))
        self.layers = ctypes.addressof(self._layers)
        ends = {
            end: self._addition(changes, outputs[end], table=end == EMBED) for end, changes in additions.ends.items()
        }
        self.embed, self.head = ends.get(EMBED), ends.get(HEAD)
        self.head_ranks = sum(change.a.shape[1] for change in additions.ends.get(HEAD, ()))

    def _addition(self, changes: Sequence[LowRank], outputs: int, *, table: bool = False) -> int:
        """Those of the same outputs are one product; all of them share the pass over the input."""
        sites = by_site(changes)
        ordered = [change for site in sites for change in site]
        a = np.concatenate([change.a for change in ordered], axis=1)
        down = self._room.take(a.nbytes).view(np.float32).reshape(a.shape if table else a.T.shape)
        down[:] = a if table else a.T
        ups, first = (_Up * len(sites))(), 0
        for up, site in zip(ups, sites, strict=True):
            rows = np.concatenate([change.b for change in site]).T
            matrix = PackedMatrix("F32", *rows.shape, room=self._room.take).fill(np.ascontiguousarray(rows, np.float32))
            up.up, up.start, up.first = ctypes.addressof(matrix.struct), site[0].start, first
            first += rows.shape[1]
            self._kept.append(matrix)
        self._kept.append(ups)
        addition = _Addition(
            down=down.ctypes.data,
            scales=self._numbers(np.repeat([c.scale for c in ordered], [c.a.shape[1] for c in ordered])),
            ups=ctypes.addressof(ups),
            gain=self._spread(np.ones(outputs), [(c, c.gain) for c in ordered], np.multiply),
            shift=self._spread(np.zeros(outputs), [(c, c.shift) for c in ordered], np.add),
            ranks=first,
            count=len(ups),
        )
        self._kept.append(addition)
        return ctypes.addressof(addition)

    def _spread(
        self, whole: np.ndarray, parts: Sequence[tuple[LowRank, np.ndarray | None]], onto: np.ufunc
    ) -> int | None:
        """The vectors of some changes, each on its outputs of the `whole`; None where there is none."""
        present = [(change, vector) for change, vector in parts if vector is not None]
        for change, vector in present:
            onto(whole[change.start : change.stop], vector, out=whole[change.start : change.stop])
        return self._numbers(whole) if present else None

    def _numbers(self, array: np.ndarray) -> int:
        numbers = np.ascontiguousarray(array, np.float32)
        self._kept.append(numbers)
        return int(numbers.ctypes.data)


class _Gradient(ctypes.Structure):
    """`gradient_t` of texts.c."""

    _fields_ = (("down", ctypes.c_void_p), ("ups", ctypes.c_void_p))


class _Gradients(ctypes.Structure):
    """`gradients_t` of texts.c."""

    _fields_ = tuple((name, _Gradient) for name in PRODUCTS)


class PackedGradients:
    """Room for the gradients of low ranks beside the products of layers, which the way back fills."""

    def __init__(self, layers: Sequence[Mapping[str, Sequence[LowRank]]]) -> None:
        self._layers = (_Gradients * len(layers))()
        self.layers = ctypes.addressof(self._layers)
        self.lowest = next((index for index, layer in enumerate(layers) if layer), len(layers))
        self.pairs: list[tuple[np.ndarray, np.ndarray]] = []  # of each low rank in its order, those of A and B
        for gradients, layer in zip(self._layers, layers, strict=True):
            for product, changes in layer.items():
                self._take(getattr(gradients, product), changes)

    def _take(self, gradient: _Gradient, changes: Sequence[LowRank]) -> None:
        sites, found = by_site(changes), {}
        ranks = sum(change.a.shape[1] for change in changes)
        down = np.empty((ranks, len(changes[0].a)), np.float32)
        ups = np.empty(sum(change.b.size for change in changes), np.float32)
        gradient.down, gradient.ups = down.ctypes.data, ups.ctypes.data
        first = at = 0
        for change in (change for site in sites for change in site):
            rank, size = len(change.b), change.b.size
            found[id(change)] = down[first : first + rank].T, ups[at : at + size].reshape(change.b.shape)
            first, at = first + rank, at + size
        self.pairs += [found[id(change)] for change in changes]
