"""Scorers of sampled answers: what the model's own numbers, kept with every token, say of how good one is.

None needs another pass. All are about the raw distributions, before the transforms: a truncated one has no
self-certainty.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from likely.engine.base.errors import ParameterError
from likely.engine.sampling.trace.step import TokenStep
from likely.engine.sampling.transforms import Snapshot

TOP = 20  # likeliest tokens that a confidence is the mean of
WINDOW = 32  # tokens of a group


@dataclass(frozen=True, slots=True)
class Scorer:
    """`of` steps is a number, larger for better; a vote may be weighed by `weight` of the numbers of all."""

    about: str
    of: Callable[[Sequence[TokenStep]], float]
    weight: Callable[[np.ndarray], np.ndarray] = np.asarray


def logprob(steps: Sequence[TokenStep]) -> float:
    """The sum of the log-probabilities: it prefers short answers."""
    return math.fsum(step.logprob for step in steps if step.logprob is not None)


def mean_logprob(steps: Sequence[TokenStep]) -> float:
    """Their mean: it prefers bland answers. An empty answer has none to speak for it: -inf."""
    return logprob(steps) / len(steps) if steps else -math.inf


def certainty(snapshot: Snapshot) -> float:
    """KL(uniform || p) of one distribution, nats: 0 for the uniform one (Kang et al., arXiv:2502.18581)."""
    return snapshot.lse - snapshot.mean - math.log(snapshot.vocab)


def self_certainty(steps: Sequence[TokenStep]) -> float:
    """The mean `certainty` of the tokens; of what is possible where logits are -inf."""
    return _mean([certainty(step.snapshot) for step in steps if step.snapshot is not None])


def confidences(steps: Sequence[TokenStep], top: int = TOP) -> np.ndarray:
    """-mean log p of each token's likeliest `top` [n]: the larger, the more certain (Fu et al., arXiv:2508.15260)."""
    return np.array(
        [s.snapshot.lse - float(np.mean(s.snapshot.logits[:top], dtype=float)) for s in steps if s.snapshot is not None]
    )


def groups(steps: Sequence[TokenStep], window: int = WINDOW) -> np.ndarray:
    """The mean confidence of each `window` tokens that follow each other; of all where they are fewer."""
    values = confidences(steps)
    if len(values) <= window:
        return np.array([_mean(values)])
    sums = np.concatenate([[0.0], np.cumsum(values)])
    means: np.ndarray = (sums[window:] - sums[:-window]) / window
    return means


def lowest_tenth(steps: Sequence[TokenStep]) -> float:
    """The mean of the least confident tenth of the groups."""
    means = np.sort(groups(steps))
    return _mean(means[: max(1, len(means) // 10)])


def _mean(values: Sequence[float] | np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else -math.inf


def _likelihoods(values: np.ndarray) -> np.ndarray:
    """Proportional to exp, the largest 1."""
    weights: np.ndarray = np.exp(values - values.max())
    return weights


SCORERS: dict[str, Scorer] = {
    "logprob": Scorer("sum of log p: prefers short answers", logprob, _likelihoods),
    "mean": Scorer("mean log p: prefers bland answers", mean_logprob, _likelihoods),
    "certainty": Scorer("KL from the uniform distribution", self_certainty),
    "confidence": Scorer("mean over the likeliest 20 tokens", lambda steps: _mean(confidences(steps))),
    "lowest": Scorer("its least confident group of 32 tokens", lambda steps: float(groups(steps).min())),
    "tenth": Scorer("its least confident tenth of groups", lowest_tenth),
    "tail": Scorer("its last 32 tokens", lambda steps: _mean(confidences(steps[-WINDOW:]))),
}


def scorer(name: str) -> Scorer:
    """ParameterError for a name that there is not."""
    if name not in SCORERS:
        raise ParameterError(f"{name!r} is no scorer: one of {', '.join(SCORERS)}, or p-true, which asks the model")
    return SCORERS[name]
