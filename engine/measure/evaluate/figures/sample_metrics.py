"""Sample metrics by name: generated texts against reference texts, each figure with its error. No mlx.

The errors take the other sample, the kernel's width and MAUVE's buckets as given: they say how much the figure would
vary with as many other generated texts, not with other references. What is no mean over the generated texts has its
error by leaving out a tenth of them at a time (`jackknife`); where intervals hold less than they say, the measure's
entry does (`engine.statistics.measures`). None of these can be set beside one of other features,
another n or another k.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from likely.engine.base.errors import DataError
from likely.engine.base.statistics.estimates import Estimate, jackknife, mean, share, within_share
from likely.engine.base.statistics.measures import measure
from likely.engine.measure.evaluate.figures import samples

BLEU = 200  # texts of which self-BLEU is taken: it is quadratic
LEAST = 10
NEIGHBOUR = 5


def of_features(
    generated: np.ndarray, reference: np.ndarray, *, k: int = NEIGHBOUR, seed: int = 0
) -> dict[str, Estimate]:
    """mmd2 and its p by permutations; precision, recall, density, coverage; mauve (its counts smoothed); vendi.

    Features [n, d] and [m, d]. DataError for fewer than ten of either, or numbers that are not finite.
    """
    if min(len(generated), len(reference)) < LEAST:
        raise DataError(f"{LEAST} texts of each kind or more are wanted, got {len(generated)} and {len(reference)}")
    if not (np.isfinite(generated).all() and np.isfinite(reference).all()):
        raise DataError("the features are not finite: of texts that a model cannot measure nothing can be said")
    x, y = np.asarray(generated, np.float64), np.asarray(reference, np.float64)
    n, m, squares = len(x), len(y), samples.pooled(y, x)
    width = samples.median(squares)
    kernel = samples.gaussian(squares, width)
    _, p = samples.mmd(kernel, m, seed=seed)
    own, across, other = kernel[m:, m:], kernel[m:, :m].sum(axis=1), kernel[:m, :m].sum() / (m * (m - 1))

    def distance(kept: np.ndarray) -> float:
        size = len(kept)
        return float(own[np.ix_(kept, kept)].sum() / (size * (size - 1)) + other - 2 * across[kept].sum() / (size * m))

    figures = {
        "mmd2": jackknife(n, distance),
        "mmd2_p": Estimate(p, math.sqrt(p * (1 - p) / samples.PERMUTATIONS), n=n),
    }
    inside, _ = samples.neighbourhoods(squares, m, k)

    def reached(kept: np.ndarray) -> float:
        between = squares[m:, m:][np.ix_(kept, kept)]
        return float(samples.reached(squares[:m, m + kept], between, min(k, len(kept) - 1)).mean())

    figures["precision"] = share(inside.any(axis=0).astype(float).tolist())
    figures["recall"] = within_share(jackknife(n, reached), n)
    figures["density"] = mean((inside.sum(axis=0) / k).tolist())
    figures["coverage"] = within_share(jackknife(n, lambda kept: float(inside[:, kept].any(axis=1).mean())), n)
    count = samples.bucket_count(min(n, m))
    labels = samples.buckets(x, y, count, seed=seed)
    figures["mauve"] = jackknife(n, lambda kept: samples.mauve_in(labels[:n][kept], labels[n:], count))
    logs = jackknife(n, lambda kept: math.log(samples.vendi_of(x[kept])))  # which is not as lopsided
    figures["vendi"] = logs.map(math.exp, math.exp(logs.mean))
    return _shares_within(figures)


def of_texts(generated: Sequence[Sequence[str]], known: Sequence[Sequence[str]]) -> dict[str, Estimate]:
    """distinct_n of the words of texts, self_bleu of the first 200, and the share of n-grams of four and more words
    that stand nowhere in the known texts."""
    texts = [list(text) for text in generated]
    estimates = {f"distinct_{n}": _distinct(texts, n) for n in (1, 2, 3)}
    estimates["self_bleu"] = mean(samples.self_bleus(texts[:BLEU]))
    for n in (4, 8):
        there = samples.ngrams(known, n)
        counts = [samples.new(text, there, n) for text in texts]
        estimates[f"novelty_{n}"] = _ratio(counts)
    return _shares_within(estimates)


def of_judge(scored: Sequence[Sequence[tuple[int, float]]]) -> dict[str, Estimate]:
    """judge_perplexity of texts by (token, log p), and beside it token_entropy, nats, of each text's own tokens.

    A text that repeats itself is likely for many a judge, and has little entropy. NaN where no token is scored.
    """
    sums = np.array([(math.fsum(p for _, p in text), len(text)) for text in scored], float)

    def perplexity(kept: np.ndarray) -> float:
        nats, tokens = sums[kept].sum(axis=0)
        return math.exp(-nats / tokens) if tokens else math.nan

    entropies = []
    for text in scored:
        _, counts = np.unique([token for token, _ in text], return_counts=True)
        shares = counts / counts.sum()
        entropies.append(-float(shares @ np.log(shares)))
    return {"judge_perplexity": jackknife(len(scored), perplexity), "token_entropy": mean(entropies)}


def _shares_within(figures: Mapping[str, Estimate]) -> dict[str, Estimate]:
    """The figures; the interval of one that lies between 0 and 1 does too."""
    return {n: each.within(0.0, 1.0) if measure(n).unit == "share" else each for n, each in figures.items()}


def _distinct(texts: Sequence[Sequence[str]], n: int) -> Estimate:
    """The share of n-grams that are different ones (Li et al. 2016), which falls with the length of the texts."""
    numbers: dict[tuple[object, ...], int] = {}
    rows = [
        np.array([numbers.setdefault(gram, len(numbers)) for gram in samples.grams(text, n)], int) for text in texts
    ]

    def share_of(kept: np.ndarray) -> float:
        every = np.concatenate([rows[i] for i in kept])
        return len(np.unique(every)) / len(every) if len(every) else math.nan

    return jackknife(len(texts), share_of)


def _ratio(counts: Sequence[tuple[int, int]]) -> Estimate:
    """The share of all n-grams that are new, from each text's (new, all)."""
    fresh, total = (np.array([pair[i] for pair in counts], float) for i in range(2))
    return jackknife(
        len(counts), lambda kept: float(fresh[kept].sum() / total[kept].sum()) if total[kept].sum() else math.nan
    )


def protocol(features: str, n: int, k: int = NEIGHBOUR) -> Mapping[str, object]:
    """All that a figure depends on beside the texts."""
    return {"features": features, "n": n, "k": k, "buckets": samples.bucket_count(n), "scale": 5.0, "smooth": 0.5}
