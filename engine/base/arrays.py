"""Array functions of next-token distributions, over logits or log-probabilities [..., V]: nats, by mlx or numpy.

Each takes the array namespace `xp` (`mlx.core` or `numpy`) and is written once; with mlx every result is lazy. A token
at -inf is impossible. `p` and `q` are log-probabilities, `x` logits, of which log-probabilities are one kind. Imports
no mlx; knows nothing of models, text or how tokens are drawn.
"""

import math
from typing import Any

import numpy as np

Array = Any  # mlx.core.array or numpy.ndarray
Namespace = Any  # the module that made it

# mlx adds up a row of float32 in order on a CPU: over 49,152 logits that is 6e-5 nats off, in parts of this size 1e-6.
STAGE = 256
BLOCK, LEAST = 256, 16  # logits whose largest is found before any is ordered, at most and at least
NEVER = -1e9  # a log-probability without mass that can be multiplied by 0


def logsumexp(x: Array, xp: Namespace, *, exact: bool = False) -> Array:
    """log sum exp(x), [...]. `exact` adds up in stages, for a fifth more time: for scores, which are compared."""
    if xp is not np and not exact:
        return xp.logsumexp(x, axis=-1)
    top = xp.max(x, axis=-1)
    return top + xp.log(_total(xp.exp(x - top[..., None]), xp))


def _total(x: Array, xp: Namespace) -> Array:
    """The sum of each row, [...]; numpy's own goes in stages."""
    if xp is np:
        return x.sum(axis=-1)
    if odd := -x.shape[-1] % STAGE:
        x = xp.concatenate([x, xp.zeros((*x.shape[:-1], odd), dtype=x.dtype)], axis=-1)
    return xp.sum(xp.sum(x.reshape(*x.shape[:-1], -1, STAGE), axis=-1), axis=-1)


def logprobs(x: Array, xp: Namespace, *, exact: bool = False) -> Array:
    """log softmax(x), [..., V]."""
    return x - logsumexp(x, xp, exact=exact)[..., None]


def softmax(x: np.ndarray) -> np.ndarray:
    """exp(x) / sum exp(x), [..., V], in numpy's float64 whatever the logits are."""
    mass: np.ndarray = np.exp(x.astype(np.float64) - x.max(axis=-1, keepdims=True))
    mass /= mass.sum(axis=-1, keepdims=True)
    return mass


def chosen(x: Array, tokens: Array, xp: Namespace) -> Array:
    """x at one token of each row, [...]: of log-probabilities, what a text says."""
    return xp.take_along_axis(x, tokens[..., None], axis=-1)[..., 0]


def expected(x: Array, mass: Array, xp: Namespace) -> Array:
    """The mean of x under weights `mass`, [...]. What has no mass adds nothing, -inf included."""
    return xp.sum(mass * xp.maximum(x, NEVER), axis=-1) / xp.sum(mass, axis=-1)


def entropy(x: Array, xp: Namespace) -> Array:
    """The entropy of softmax(x), [...]: between 0 and log V."""
    below = x - xp.max(x, axis=-1)[..., None]  # so that the difference of two large numbers is never taken
    mass = xp.exp(below)
    return xp.log(xp.sum(mass, axis=-1)) - expected(below, mass, xp)


def kl(p: Array, q: Array, xp: Namespace, *, fast: bool = False) -> Array:
    """KL(p || q), [...]: infinite where q rules out what p does not, and never below 0.

    sum p (r + exp(-r) - 1) with r = log p - log q: the terms past r add up to nothing, and every term is positive, so
    that a small KL is not lost in rounding. `fast` is sum p r, in a third of the time: good to 1e-6 of a nat, for
    distributions that do not both rule out a token.
    """
    mass = xp.exp(p)
    if fast:
        return xp.sum(mass * xp.maximum(p - q, NEVER), axis=-1)
    possible = mass > 0  # where it is not, what is left of the term is q
    r = xp.where(possible, p, -1) - xp.where(possible, q, 0)
    near = mass * (r + xp.expm1(-xp.clip(r, -1, 1)))
    return xp.sum(xp.where(xp.abs(r) < 1, near, mass * r + (xp.exp(q) - mass)), axis=-1)


def js(p: Array, q: Array, xp: Namespace, *, fast: bool = False) -> Array:
    """The Jensen-Shannon divergence, [...]: the mean KL to the mixture of both, between 0 and log 2. Lin 1991. `fast`
    as in `kl`."""
    mixture = xp.logaddexp(p, q) - math.log(2)
    return (kl(p, mixture, xp, fast=fast) + kl(q, mixture, xp, fast=fast)) / 2


def mixture(p: Array, xp: Namespace) -> Array:
    """The log-probabilities [..., V] of the mean of distributions [M, ..., V]."""
    top = xp.maximum(xp.max(p, axis=0), NEVER)
    return top + xp.log(xp.mean(xp.exp(p - top), axis=0))


def tv(p: Array, q: Array, xp: Namespace) -> Array:
    """The total variation distance, [...]: the most by which the probability of any set of tokens differs."""
    return xp.sum(xp.abs(xp.exp(p) - xp.exp(q)), axis=-1) / 2


def rank(x: Array, tokens: Array, xp: Namespace) -> Array:
    """The rank of one token of each row, [...]: 1 for a most likely one, 2 for what one token is ahead of, ..."""
    return 1 + xp.sum(x > chosen(x, tokens, xp)[..., None], axis=-1)


def _peaks(x: np.ndarray, k: int, block: int) -> np.ndarray:
    """The ids, ascending, of the k blocks of each row that hold the k largest, [..., k * block]: some past the end."""
    peaks = np.maximum.reduceat(x, np.arange(0, x.shape[-1], block), axis=-1)
    blocks = np.sort(np.argsort(-peaks, axis=-1, kind="stable")[..., :k], axis=-1)
    ids = blocks[..., None] * block + np.arange(block)
    return ids.reshape(*x.shape[:-1], k * block)


def top(x: Array, k: int, xp: Namespace) -> Array:
    """The k largest of each row, the largest first, of equals the lower id: ids [..., k]."""
    size = x.shape[-1]
    if xp is np and (block := min(size // (8 * k), BLOCK)) >= LEAST:  # they are in the k blocks with the largest peaks
        ids = _peaks(x, k, block)
        values = np.where(ids < size, np.take_along_axis(x, np.minimum(ids, size - 1), axis=-1), -np.inf)
        return np.take_along_axis(ids, top(values, k, np), axis=-1)
    if k >= size:
        return xp.argsort(-x, axis=-1) if xp is not np else np.argsort(-x, axis=-1, kind="stable")
    least = xp.partition(x, size - k, axis=-1)[..., size - k, None]
    # no two have the same key: first what is above the least that is taken, then what equals it, by its id
    ids = xp.arange(size)
    key = xp.where(x > least, ids - size, xp.where(x == least, ids, ids + size))
    places = xp.sort(xp.argpartition(key, k - 1, axis=-1)[..., :k], axis=-1)
    values = -xp.take_along_axis(x, places, axis=-1)
    order = xp.argsort(values, axis=-1) if xp is not np else np.argsort(values, axis=-1, kind="stable")
    return xp.take_along_axis(places, order, axis=-1)
