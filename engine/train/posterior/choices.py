"""Choices under a Laplace posterior: their logits as a Gaussian, by a first-order expansion about the trained adapter.

f is the log-probability of each choice after a prompt, J its gradient by the weights that have a posterior with
covariance S: f ~ N(f(trained), J S J^T) (Immer et al. 2021, eq. 8; arXiv:2308.13111 for adapters). One way back a
choice: for a few that are named, never for a vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from likely.engine.base import arrays
from likely.engine.train.posterior.posterior import Laplace
from likely.engine.train.posterior.uncertainty import probit, sampled
from likely.engine.weights.adapters.lora import Adapter
from likely.metal import mx
from likely.models import Transformer
from likely.models.native_path.reading import reading

Array = mx.array


@dataclass(frozen=True, eq=False, slots=True)
class ChoiceLogits:
    """Log-probabilities of K choices under the trained weights [K], nats, and their covariance [K, K]."""

    mean: np.ndarray
    covariance: np.ndarray

    @property
    def trained(self) -> np.ndarray:
        """Probabilities among the choices [K] with the weights as they were trained."""
        return probit(self.mean, np.zeros(len(self.mean)))

    @property
    def by_probit(self) -> np.ndarray:
        """Probabilities among the choices [K], averaged over the posterior by `probit`: variances alone."""
        return probit(self.mean, np.diag(self.covariance))

    @property
    def by_sampling(self) -> np.ndarray:
        """Probabilities among the choices [K], averaged over logits drawn from the posterior."""
        return sampled(self.mean, self.covariance)


def choice_logits(
    model: Transformer, adapter: Adapter, posterior: Laplace, ids: Sequence[int], choices: Sequence[Sequence[int]]
) -> ChoiceLogits:
    """The logits of `choices`, ids each, after `ids`. The adapter is on the model, and left as it is."""
    real = {name: array for name, array in adapter.parameters().items() if name in posterior.parts}
    names, reader = sorted(real), reading(model)
    mean, roots = [], []
    try:
        for choice in choices:

            def target_logp(*values: Array, choice: Sequence[int] = choice) -> list[Array]:
                adapter.set(dict(zip(names, values, strict=True)))
                whole = [*ids, *choice]
                hidden = reader.hidden(mx.array([whole[:-1]]))[0, len(ids) - 1 :]
                logp = arrays.logprobs(reader.head(hidden).astype(mx.float32), mx, exact=True)
                return [mx.sum(arrays.chosen(logp, mx.array(list(choice)), mx))]

            value, gradients = mx.vjp(target_logp, [real[name] for name in names], [mx.array(1.0)])
            mx.eval(value, gradients)
            mean.append(float(value[0]))
            parts = [
                posterior.parts[name].draw(np.asarray(g, np.float64), posterior.precision).ravel()
                for name, g in zip(names, gradients, strict=True)
            ]
            roots.append(np.concatenate(parts))
    finally:
        adapter.set(real)
    root = np.stack(roots)
    return ChoiceLogits(np.array(mean), root @ root.T)
