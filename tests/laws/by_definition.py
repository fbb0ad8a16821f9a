"""The transforms once more, in float64, slow and obvious: the oracle of the tests. Shares no code with the engine.

A truncation is given as margins [V]: a token stays where its margin is >= 0, and how far the margin is from 0 says how
far the decision is from being one of rounding.
"""

import math

import numpy as np


def softmax(z):
    e = np.exp(np.asarray(z, np.float64) - np.max(z))
    return e / math.fsum(e)


def entropy(z):
    return -math.fsum(p * math.log(p) for p in softmax(z) if p > 0)


def top_k(z, k):
    rank = np.empty(len(z))
    rank[np.lexsort((np.arange(len(z)), -np.asarray(z)))] = np.arange(len(z))
    return np.where(np.isneginf(z), -np.inf, k - 0.5 - rank)


def _least_set(score, weight, share):
    """Margin: how much of the share is missing while only the tokens of a better score are in."""
    margins, above = np.empty(len(score)), 0.0
    order = np.argsort(-np.asarray(score), kind="stable")
    missing = share
    for place, i in enumerate(order):
        if place == 0 or score[i] < score[order[place - 1]]:
            missing = share - above
        margins[i] = missing if missing > 0 else min(missing, -1e-300)
        above += weight[i]
    return margins


def top_p(z, p):
    return _least_set(z, softmax(z), p)


def typical(z, p):
    probs = softmax(z)
    with np.errstate(divide="ignore"):
        return _least_set(-np.abs(-np.log(probs) - entropy(z)), probs, p)


def min_p(z, p, least=1):
    margins = np.asarray(z) - np.max(z) - math.log(p)
    return margins if least == 1 else np.maximum(margins, top_k(z, least))


def top_n_sigma(z, n):
    finite = [v for v in z if v > -math.inf]
    mean = math.fsum(finite) / len(finite)
    sigma = math.sqrt(math.fsum((v - mean) ** 2 for v in finite) / len(finite))
    return np.asarray(z) - (np.max(z) - n * sigma)


def xtc(z, threshold, exempt=()):
    p = softmax(z)
    least = min((q for q in p if q > threshold), default=math.inf)
    return np.array([1.0 if q <= least or i in exempt else least - q for i, q in enumerate(p)])


def mirostat(z, mu):
    with np.errstate(divide="ignore"):
        bits = -np.log2(softmax(z))
    return np.where(z == np.max(z), 1.0, mu - bits)


def dynamic_temperature(z, t, spread, exponent):
    n = sum(v > -math.inf for v in z)
    share = entropy(z) / math.log(n) if n > 1 else 0.0
    low, high = max(t - spread, 1e-3), t + spread
    return [v / (low + (high - low) * share**exponent) for v in z]


def penalised(z, ids, window, *, repetition=1.0, presence=0.0, frequency=0.0):
    out = list(z)
    recent = list(ids)[-window:]
    for token in set(recent):
        out[token] = out[token] / repetition if out[token] > 0 else out[token] * repetition
        out[token] -= presence + frequency * recent.count(token)
    return out


def dry(z, ids, multiplier, base, allowed, is_breaker):
    """Every earlier place in the text is compared with its end, token by token."""
    out, longest = list(z), {}
    for place in range(1, len(ids)):
        run = 0
        while run < place and ids[place - 1 - run] == ids[-1 - run] and not is_breaker(ids[-1 - run]):
            run += 1
        longest[ids[place]] = max(run, longest.get(ids[place], 0))
    for token, run in longest.items():
        if run >= allowed and not is_breaker(token):
            out[token] -= multiplier * base ** (run - allowed)
    return out
