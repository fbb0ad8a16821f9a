"""Average of a model over samples of its adapter's weights, as a model: log p = log mean p_m, all M in one batch.

Each text is read by M rows, one with each sample. What `hidden` gives are their states side by side [1, T, M C], so
that whoever keeps states and caches keeps those of all; `head` makes the mean of probabilities of them, and `members`
what each says. One text at a time: the rows of the batch are the samples.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from likely.engine.base import arrays
from likely.engine.base.errors import ParameterError
from likely.engine.decode.pool import Pool
from likely.engine.train.posterior.curvature_pass import check_plain
from likely.engine.train.posterior.posterior import Ensemble, Posterior
from likely.engine.train.posterior.uncertainty import MOST, Uncertainty, check_samples
from likely.engine.weights.adapters.lora import Adapter
from likely.metal import mx
from likely.metal.attention import Emit, Mask
from likely.models import Transformer
from likely.models.caches.kv_cache import Cache
from likely.models.caches.layer_cache import FIRST
from likely.models.configuration.rotation import Rotation
from likely.models.model import Activations, MixtureModel

Array = mx.array
CELLS = 1 << 22  # logits of all samples at once
PART = 64  # tokens that all samples read at once: between two parts others have their turn


class AveragedModel:
    """A `MixtureModel`: a graph whose `adapter`, which is on it, has weights that are drawn."""

    def __init__(
        self, model: Transformer, adapter: Adapter, posterior: Posterior, *, samples: int = 0, seed: int = 0
    ) -> None:
        """`samples` of the posterior; 0 takes the members of an ensemble, of others the most that there may be.

        ParameterError for a number that is too small or large, and for an adapter that no posterior is made for.
        """
        check_plain(adapter, model)
        self.samples = samples_of(posterior, samples)
        self.model, self.config, self.adapter, self.posterior = model, model.config, adapter, posterior
        trained = {name: np.asarray(array.astype(mx.float32)) for name, array in adapter.parameters().items()}
        drawn = [posterior.draw(trained, seed, number) for number in range(self.samples)]
        self._trained = adapter.parameters()
        self._drawn = {name: mx.array(np.stack([member[name] for member in drawn])) for name in drawn[0]}
        mx.eval(self._drawn)

    @contextmanager
    def _sampled(self) -> Iterator[None]:
        """The samples in the place of the adapter's weights, a row of the batch each."""
        self.adapter.set(self._drawn)
        try:
            yield
        finally:
            self.adapter.set({name: self._trained[name] for name in self._drawn})

    def __call__(self, tokens: Array, cache: Cache | None = None) -> Array:
        return self.head(self.hidden(tokens, cache))

    def hidden(self, tokens: Array, cache: Cache | None = None, *, mask: Mask | None = None) -> Array:
        if tokens.shape[0] != 1:
            raise ParameterError(
                f"samples of a posterior are the rows of a batch: one text at a time, got {len(tokens)}"
            )
        with self._sampled():
            rows = mx.broadcast_to(tokens, (self.samples, tokens.shape[1]))
            hidden = self.model.hidden(rows, cache, mask=mask)  # [M, T, C]
        return hidden.swapaxes(0, 1).reshape(1, tokens.shape[1], -1)

    def members(self, hidden: Array) -> Array:
        """The log-probabilities [M, ..., V] of each sample, of what `hidden` gave [..., M C]."""
        apart = mx.moveaxis(hidden.reshape(*hidden.shape[:-1], self.samples, -1), -2, 0)
        logp: Array = arrays.logprobs(self.model.head(apart).astype(mx.float32), mx, exact=True)
        return logp

    def head(self, hidden: Array) -> Array:
        mean: Array = arrays.mixture(self.members(hidden), mx)
        return mean

    def make_cache(self, capacity: int = FIRST, **how: Any) -> Cache:
        return self.model.make_cache(capacity, **how)

    def inspect(self, tokens: Array, cache: Cache | None = None, *, emit: Emit | None = None) -> Activations:
        raise ParameterError("the inside is that of one model: leave out --samples")

    def lens(self, hidden: Array) -> Array:
        raise ParameterError("the inside is that of one model: leave out --samples")

    def crosses(self, cache: Cache, length: int) -> bool:
        return self.model.crosses(cache, length)

    def warm(self, dtype: mx.Dtype) -> None:
        self.model.warm(dtype)

    @property
    def arrays(self) -> Mapping[str, Array]:
        return self.model.arrays

    @property
    def dtype(self) -> mx.Dtype:
        return self.model.dtype

    @property
    def rotations(self) -> Sequence[Rotation]:
        return self.model.rotations


def samples_of(posterior: Posterior, samples: int) -> int:
    """How many samples are drawn where so many are asked for (0: an ensemble's members, else 8)."""
    most = posterior.members if isinstance(posterior, Ensemble) else MOST
    if samples > most and isinstance(posterior, Ensemble):
        raise ParameterError(f"this ensemble has {most} members, got samples = {samples}")
    samples = samples or most
    check_samples(samples)
    return samples


class UncertainText:
    """A text that an averaged model reads: uncertainties at any of its places, and nothing read twice."""

    def __init__(self, model: MixtureModel) -> None:
        self.model = model
        self._pool = Pool(model)
        self._branches = self._pool.acquire(())

    def read(self, ids: Sequence[int]) -> Iterator[int]:
        """Stand after `ids`, whatever was read before; says after each part how many are read. ContextOverflow for too
        many."""
        self._branches = self._pool.acquire(ids)
        while (known := self._branches.length) < len(ids):
            yield from (known + done for done in self._branches.read(ids[known : known + PART]))

    def distributions(self, start: int, stop: int) -> Array:
        """Log-probabilities [M, n, V] of each sample after each of positions start..stop-1, which have been read."""
        return self.model.members(self._branches.hidden(start, stop)[0])

    def logprobs(self, start: int) -> np.ndarray:
        """The log-probability [M] of all that was read from `start` on after what precedes it, by each sample, nats."""
        ids = self._branches.ids[0]
        logp = self.distributions(start - 1, len(ids) - 1)
        chosen = arrays.chosen(logp, mx.broadcast_to(mx.array(ids[start:]), logp.shape[:2]), mx)
        return np.asarray(mx.sum(chosen, axis=1), np.float64)

    def partings(self, start: int) -> list[tuple[int, int] | None]:
        """For each sample the first place, counted from `start`, where its likeliest token is another than was read,
        and that token; None where there is none. Its own text by the likeliest token each time is the one read then."""
        ids, found = self._branches.ids[0], dict[int, tuple[int, int]]()
        for low in range(start, len(ids), self._at_once):
            high = min(low + self._at_once, len(ids))
            likeliest = np.asarray(mx.argmax(self.distributions(low - 1, high - 1), axis=-1))  # [M, n]
            for sample, place in np.argwhere(likeliest != np.asarray(ids[low:high])).tolist():
                found.setdefault(sample, (low - start + place, int(likeliest[sample, place])))
        return [found.get(sample) for sample in range(self.model.samples)]

    @property
    def _at_once(self) -> int:
        """Positions whose distributions are made together."""
        return max(1, CELLS // (self.model.samples * self.model.config.vocab_size))

    def after(self, start: int, stop: int, tokens: Sequence[Sequence[int]]) -> list[Uncertainty]:
        """Uncertainty after each of positions start..stop-1, which have been read, with `tokens` of interest."""
        uncertainties: list[Uncertainty] = []
        for low in range(start, stop, self._at_once):
            high = min(low + self._at_once, stop)
            logp = self.distributions(low, high)
            aleatoric = mx.mean(arrays.entropy(logp, mx), axis=0)
            epistemic = mx.mean(arrays.kl(logp, arrays.mixture(logp, mx), mx), axis=0)
            for i in range(low, high):
                ids = np.asarray(list(tokens[i - start]), np.int64)
                p = np.exp(np.asarray(logp[:, i - low][:, mx.array(ids)], np.float64)) if len(ids) else np.zeros((2, 0))
                uncertainties.append(
                    Uncertainty(
                        self.model.samples,
                        float(aleatoric[i - low]),
                        float(epistemic[i - low]),
                        ids,
                        p.mean(axis=0),
                        p.std(axis=0, ddof=1),
                    )
                )
        return uncertainties
