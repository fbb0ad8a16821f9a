"""Denoisers that keep keys and values between two passes over a canvas.

Of a model of blocks the finished ones are kept, and nothing is lost by it: nobody before sees what comes after. A model
that sees both ways has no such past; what is kept of it is of the pass that began a block, and an approximation within
(prefix and dual cache, arXiv:2505.22618), whose disagreement can be measured. Knows nothing of how masks become tokens.
"""

from typing import TYPE_CHECKING

import numpy as np

from likely.engine.base import arrays
from likely.engine.base.errors import ParameterError
from likely.engine.diffusion.denoiser import ModelDenoiser, end_of, of_model
from likely.engine.sampling.trace.unmasking import Disagreement, Unmasking
from likely.metal import mx
from likely.metal.attention import FULL
from likely.models.caches.kv_cache import Cache
from likely.models.caches.layer_cache import KVCache
from likely.models.native_path.native import as_graph

if TYPE_CHECKING:
    from likely.models.model import LanguageModel


def denoiser_of(model: "LanguageModel", name: str, how: Unmasking, given: np.ndarray) -> ModelDenoiser:
    """The denoiser that the options ask for; `given` bool [T]: the tokens of the canvas that are no masks.

    ParameterError for an autoregressive model and for a cache that this one cannot have.
    """
    diffusion = of_model(model, name)
    if how.cache == "exact" and not diffusion.block:
        raise ParameterError(
            f"cache exact is of finished blocks, and {name} sees both ways (its config has no block_size): choose "
            "--cache prefix or dual, which are approximate"
        )
    if how.cache in ("prefix", "dual"):
        if diffusion.block:
            raise ParameterError(
                f"{name} fills blocks of {diffusion.block}, of which nothing is lost: choose --cache exact"
            )
        if any(model.config.windows):
            raise ParameterError(f"{name} has layers that slide, whose keys cannot be kept so: choose --cache none")
        return ApproximateDenoiser(
            model, name, given=given, guidance=how.guidance, dual=how.cache == "dual", check=how.check
        )
    kind = BlockDenoiser if how.cache == "exact" else ModelDenoiser
    return kind(model, name, given=given, guidance=how.guidance)


class BlockDenoiser(ModelDenoiser):
    """A model of blocks that reads each finished block once.

    Which those are is seen from the canvases: what stands as it stood when it was read, in whole blocks before the
    first place that is asked for. So it is exact whatever the order.
    """

    def __init__(
        self,
        model: "LanguageModel",
        name: str = "this model",
        *,
        given: np.ndarray | None = None,
        guidance: float = 0.0,
    ) -> None:
        super().__init__(model, name, given=given, guidance=guidance)
        self._cache = model.make_cache()
        self._read = np.zeros((1, 0), np.int32)  # the canvases up to where keys and values are held
        self._last: mx.array | None = None  # [B, C], the hidden state of its last position

    def _hidden(self, rows: np.ndarray, positions: np.ndarray) -> mx.array:
        block = self.diffusion.block
        first, end = int(positions[0]) // block * block, end_of(positions, block, rows.shape[1])
        kept = self._reusable(rows, first)
        self._cache.rewind(self._read.shape[1] - kept)
        one = end - kept <= block  # which sees all that there is
        hidden = self.model.hidden(mx.array(rows[:, kept:end]), self._cache, mask=FULL if one else self.mask)
        self._cache.rewind(end - first)
        if first > kept:
            self._last = hidden[:, first - kept - 1]
        self._read = rows[:, :first].copy()
        sources = self.sources(positions)
        if sources[0] >= first:
            return hidden[:, mx.array(sources - kept)]
        assert self._last is not None
        before = mx.concatenate([self._last[:, None], hidden[:, first - kept :]], axis=1)
        return before[:, mx.array(sources - (first - 1))]

    def _reusable(self, rows: np.ndarray, first: int) -> int:
        """Positions before `first` that are held as they stand now, in whole blocks."""
        held = self._read.shape[1]
        if len(self._read) != len(rows):
            return 0
        n = min(held, first)
        others = np.flatnonzero((self._read[:, :n] != rows[:, :n]).any(axis=0))
        kept = (int(others[0]) if len(others) else n) // self.diffusion.block * self.diffusion.block
        if self.diffusion.shifted and kept == first < held:  # whose last hidden state is not there
            kept = max(0, kept - self.diffusion.block)
        return kept


class ApproximateDenoiser(ModelDenoiser):
    """A model that sees both ways, whose keys and values outside of the block stay those of the pass that began it.

    The prefix cache keeps what stands before the block, the dual cache also what stands behind it. With `check` each
    pass is measured against one without (`disagreement`).
    """

    def __init__(
        self,
        model: "LanguageModel",
        name: str = "this model",
        *,
        given: np.ndarray | None = None,
        guidance: float = 0.0,
        dual: bool = False,
        check: bool = False,
    ) -> None:
        super().__init__(model, name, given=given, guidance=guidance)
        self.dual, self.check = dual, check
        self._low = self._high = 0  # of the block
        self._cache: Cache | None = None  # None: the block's first pass is to come
        graph = as_graph(model)
        assert graph is not None  # mlx-lm's classes have no diffusion
        self._graph = graph

    def begin(self, positions: np.ndarray) -> None:
        self._low, self._high = int(self.sources(positions)[0]), int(positions[-1]) + 1
        self._cache = None

    def logits(self, ids: np.ndarray, positions: np.ndarray) -> np.ndarray:
        first = self._cache is None
        approximate = super().logits(ids, positions)
        self.disagreement = None
        if self.check and not first:
            without = ModelDenoiser(self.model, given=self.given, guidance=self.guidance).logits(ids, positions)
            p, q = arrays.logprobs(without, np), arrays.logprobs(approximate, np)
            others = int((p.argmax(axis=-1) != q.argmax(axis=-1)).sum())
            self.disagreement = Disagreement(len(positions), others, float(arrays.kl(p, q, np).sum()))
        return approximate

    def _hidden(self, rows: np.ndarray, positions: np.ndarray) -> mx.array:
        b, t = rows.shape
        sources = self.sources(positions)
        low, high = self._low, self._high
        if self._cache is None:
            cache = self._graph.make_cache(t)
            hidden = self._graph.hidden(mx.array(rows), cache, mask=FULL)
            if self.dual:
                cache = _without(cache, low, high)
            else:
                cache.rewind(t - low)
            self._cache = cache
            return hidden[:, mx.array(sources)]
        end = high if self.dual else t
        x, step = self._graph.enter(mx.array(rows[:, low:end]), low, t)
        step.mask = FULL
        hidden = self._graph.through(x, step, self._cache.layers, self._cache.places(b, end - low))
        self._cache.rewind(end - low)
        return hidden[:, mx.array(sources - low)]


def _without(cache: Cache, low: int, high: int) -> Cache:
    """A cache of the same rows but low..high-1: under full attention their order is nobody's concern."""
    layers = []
    for layer in cache.layers:
        assert layer.keys is not None and layer.values is not None
        keys, values = (
            mx.concatenate([rows[:, :, :low], rows[:, :, high : layer.rows]], axis=2)
            for rows in (layer.keys, layer.values)
        )
        other = KVCache(layer.rows)
        if keys.shape[2]:
            other.append(keys, values)
        layers.append(other)
    return Cache(layers)
