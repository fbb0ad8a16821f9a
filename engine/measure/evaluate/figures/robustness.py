"""Robustness: how far scores and distributions move between variations of a task, each with its error. No mlx.

The spread is that of these items' scores over the variations; its error resamples items, or their clusters.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean

import numpy as np

from likely.engine.base.statistics.estimates import Estimate, bootstrap, compare, share_or_mean
from likely.engine.measure.evaluate.figures.figures import Tally
from likely.engine.measure.evaluate.tasks.tasks import Result

RESAMPLED = 500

Variant = Mapping[int, Result]  # of items under one variation, by number; choices in one order for all


def figures(base: Variant, variants: Sequence[Variant], kind: str, measures: Sequence[str]) -> dict[str, Estimate]:
    """Over the items that all have, by names such as acc_typos. Of each measure: its mean over the variants,
    `_change` to the base, `_spread`, the standard deviation over base and variants, and `_worst`, the least of them. Of
    choices also kl, that of the variant's distribution over the choices to the base's, in nats, and flips, how often
    another one is taken."""
    estimates: dict[str, Estimate] = {}
    for name in measures:
        numbers = [n for n in base if all(n in results and name in results[n].values for results in (base, *variants))]
        if not numbers or not variants:
            continue
        table = np.array([[results[n].values[name] for results in (base, *variants)] for n in numbers])
        named = [base[n].cluster for n in numbers]
        clusters = None if None in named else named
        means = table[:, 1:].mean(axis=1).tolist()
        estimates[f"{name}_{kind}"] = share_or_mean(means, clusters)
        estimates[f"{name}_{kind}_change"] = compare(table[:, 0].tolist(), means, clusters).estimate
        estimates[f"{name}_{kind}_spread"] = bootstrap(table, spread, clusters, samples=RESAMPLED)
        estimates[f"{name}_{kind}_worst"] = bootstrap(table, worst, clusters, samples=RESAMPLED)
    return estimates | _of_choices(base, variants, kind)


def _of_choices(base: Variant, variants: Sequence[Variant], kind: str) -> dict[str, Estimate]:
    items = Tally()
    for n, own in base.items():
        others = [results[n].detail["loglikelihoods"] for results in variants if n in results]
        logs_before = own.detail["loglikelihoods"]
        if len(logs_before) and others and len(others) == len(variants):
            choice = np.argmax(logs_before)
            values = {
                f"kl_{kind}": fmean(divergence(logs_before, logs) for logs in others),
                f"flips_{kind}": fmean(float(choice != np.argmax(logs)) for logs in others),
            }
            items.add(n, own.cluster, values)
    return {name: items.estimate(name) for name in items.values}


def moved(tallies: Sequence[Tally], kind: str) -> dict[str, Estimate]:
    """Of each variant's next-token distributions after the prompts: kl to the base's, in nats, and same_top, the share
    with the same most likely token; the variants of an item are one cluster."""
    every = Tally()
    for i, tally in enumerate(tallies):
        for number, cluster in zip(tally.numbers, tally.clusters, strict=True):
            values = {f"{name}_{kind}": tally.values[name][number] for name in ("kl", "same_top")}
            every.add(number * len(tallies) + i, cluster, values)
    return {name: every.estimate(name) for name in every.values}


def spread(table: np.ndarray) -> float:
    """The standard deviation of the scores of variations, from items by variations [n, k]."""
    return float(table.mean(axis=0).std(ddof=1))


def worst(table: np.ndarray) -> float:
    """The least score of a variation, from items by variations [n, k]."""
    return float(table.mean(axis=0).min())


def divergence(base: Sequence[float], varied: Sequence[float]) -> float:
    """KL(varied || base) of the choices' probabilities, each brought to a sum of 1, in nats."""
    p, q = (np.asarray(logs) - np.logaddexp.reduce(logs) for logs in (base, varied))
    return max(0.0, math.fsum((np.exp(q) * (q - p)).tolist()))
