"""Mechanistic models of scaling: small learners whose exponent follows from a cause, trained and fitted beside it.

A law that fits is no reason for it. Each `Toy` is a ladder of trainings of one learner along one scale, with the
exponent that its cause predicts; `measure` trains it for some seeds and fits each by the search that fits real runs.
Excess losses, which fall to nothing. No mlx; knows no files.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations

import numpy as np

from likely.engine.base.errors import DataError
from likely.engine.base.statistics.estimates import Estimate, mean
from likely.engine.measure.scaling.fit import descend
from likely.engine.measure.scaling.forms import PowerLaw

Train = Callable[[int, np.random.Generator], float]  # the excess loss at a scale


@dataclass(frozen=True)
class Toy:
    """A learner along one scale, the exponent that its cause predicts, and the cause in words."""

    name: str
    along: str  # what the scale counts
    scale: np.ndarray
    predicted: float
    cause: str
    train: Train


@dataclass(frozen=True)
class ToyFit:
    """The exponent that was found, over seeds, and the losses [seeds, n] that it is of."""

    toy: Toy
    exponent: Estimate
    losses: np.ndarray

    @property
    def off(self) -> float:
        """The exponent found minus the predicted one."""
        return self.exponent.mean - self.toy.predicted


def measure(toy: Toy, seeds: int) -> ToyFit:
    """Train it at every scale for so many seeds, and fit each."""
    losses = np.array(
        [
            [toy.train(int(n), np.random.default_rng([seed, i])) for i, n in enumerate(toy.scale)]
            for seed in range(seeds)
        ]
    )
    return ToyFit(toy, mean([slope(toy.scale, run_losses) for run_losses in losses]), losses)


def slope(scale: np.ndarray, losses: np.ndarray) -> float:
    """alpha of L = A x^-alpha, by the search and the loss of `fit`."""
    form = PowerLaw(np.asarray(scale, np.float64))
    theta, _ = descend(form, np.array([[np.log(losses).mean(), start] for start in (0.3, 1.0, 3.0)]), np.log(losses))
    errors = np.abs(form.log_loss(theta)[0] - np.log(losses)).sum(-1)
    return float(theta[errors.argmin(), 1])


# -- quanta: skills of Zipf frequencies (Michaud et al., arXiv:2303.13506) ---------------------------------------------

BITS = 7
INPUTS = np.array([[1.0 - 2 * (value >> bit & 1) for bit in range(BITS)] for value in range(2**BITS)])
PARITIES = np.stack([INPUTS[:, list(three)].prod(1) for three in combinations(range(BITS), 3)], 1)  # [inputs, parities]
LESSONS = 60  # examples of one task, after which its loss is nothing


def quanta(alpha: float = 0.4) -> list[Toy]:
    """Tasks k = 1, 2, ... of frequency k^-(1 + alpha), each the parity of three of seven bits.

    A model with room for N of them, that it has seen most, leaves the tail of frequencies, N^-alpha; one with room for
    all that has seen D examples leaves what is rarer than one in D, D^-(alpha / (1 + alpha)).
    """
    most = 1_000_000
    room = np.geomspace(24, 512 if alpha < 0.8 else 96, 8).astype(int)  # of which a million examples show all
    return [
        Toy(
            "quanta", "parameters", room, alpha, "the tail of frequencies beyond N",
            lambda n, random: _parities(alpha, most, n, random),
        ),
        Toy(
            "quanta", "tokens", np.geomspace(1e4, most, 8).astype(int), alpha / (1 + alpha),
            "the frequencies below 1 / D", lambda n, random: _parities(alpha, n, most, random),
        ),
    ]  # fmt: skip


def _parities(alpha: float, examples: int, room: int, random: np.random.Generator) -> float:
    """The loss in nats a task, over all inputs, of exponentiated gradients on the log loss (Kivinen, Warmuth 1997)."""
    tasks, counts = np.unique(random.zipf(1 + alpha, examples), return_counts=True)
    order = np.argsort(-counts, kind="stable")[:room]
    tasks, counts = tasks[order], counts[order]
    hidden = random.integers(0, PARITIES.shape[1], len(tasks))
    weights = np.full((len(tasks), PARITIES.shape[1]), 1 / PARITIES.shape[1])
    for lesson in range(min(int(counts[0]), LESSONS)):
        n = int((counts > lesson).sum())
        x = PARITIES[random.integers(0, len(INPUTS), n)]
        y = x[np.arange(n), hidden[:n]]
        margin = y * (weights[:n] * x).sum(1)
        weights[:n] *= np.exp(y[:, None] * x / (1 + np.maximum(margin, -0.9))[:, None])
        weights[:n] /= weights[:n].sum(1, keepdims=True)
    loss = np.empty(len(tasks))
    for begin in range(0, len(tasks), 4096):
        part = slice(begin, begin + 4096)
        right = (1 + PARITIES[:, hidden[part]].T * (weights[part] @ PARITIES.T)) / 2
        loss[part] = -np.log(np.maximum(right, 1e-12)).mean(1)
    share = tasks.astype(float) ** -(1 + alpha) / _zeta(1 + alpha)
    return float((share * loss).sum() + (1 - share.sum()) * np.log(2))


def _zeta(s: float, first: int = 1000) -> float:
    """The sum of k^-s over k >= 1, its tail by Euler and Maclaurin."""
    a = first + 1.0
    return float((np.arange(1, a) ** -s).sum() + a ** (1 - s) / (s - 1) + a**-s / 2 + s / 12 * a ** (-s - 1))


# -- a manifold of data (Sharma and Kaplan, arXiv:2004.10802) ----------------------------------------------------------


def manifold(dimensions: Sequence[int] = (2, 3, 4)) -> list[Toy]:
    """A smooth function on a torus of d dimensions in 2 d, learned piece by piece as linear: D points are D^(-1/d)
    apart, a linear piece is off by the square of that, and the loss by the square again: D^-(4/d)."""
    return [
        Toy(
            f"manifold, d = {d}", "points", np.geomspace(300, 10_000, 7).astype(int) * 2 ** max(d - 2, 0), 4 / d,
            "linear pieces between points D^(-1/d) apart", partial(_torus, d),
        )
        for d in dimensions
    ]  # fmt: skip


def _torus(d: int, points: int, random: np.random.Generator, tests: int = 1200) -> float:
    """Mean squared error, in variances, of the plane through the nearest points along their d principal directions."""
    angles, queries = random.uniform(0, 2 * np.pi, (points, d)), random.uniform(0, 2 * np.pi, (tests, d))
    phase = random.uniform(0, 2 * np.pi, d)
    x, q = (np.concatenate([np.cos(sample), np.sin(sample)], 1) for sample in (angles, queries))
    y, true = (np.cos(sample + phase).sum(1) for sample in (angles, queries))
    near = 2 * (d + 1)
    nearest = np.concatenate([  # by parts: all distances at once would be tests x points
        np.argpartition((x * x).sum(1) - 2 * part @ x.T, near, 1)[:, :near] for part in np.array_split(q, 8)
    ])  # fmt: skip
    off = x[nearest] - q[:, None]
    principal = np.linalg.svd(off - off.mean(1, keepdims=True), full_matrices=False)[2][:, :d]
    plane = np.concatenate([np.ones((tests, near, 1)), off @ principal.swapaxes(1, 2)], 2)
    square = plane.swapaxes(1, 2) @ plane
    square += 1e-10 * np.trace(square, axis1=1, axis2=2)[:, None, None] * np.eye(d + 1)
    predicted = np.linalg.solve(square, plane.swapaxes(1, 2) @ y[nearest][..., None])[:, 0, 0]
    return float(((predicted - true) ** 2).mean() / true.var())


# -- random features (Maloney, Roberts and Sully, arXiv:2210.16859) ----------------------------------------------------

LATENT, TEACHERS = 2048, 256  # dimensions of the data; functions that are learned at once
TIMES = 4  # the abundant over the scarce


def features(alpha: float = 1.0) -> list[Toy]:
    """Least squares of N random features on D examples, whose covariance has eigenvalues i^-(1 + alpha): what is scarce
    reaches as many directions as it counts, and leaves the tail of the spectrum."""
    spectrum = np.arange(1.0, LATENT + 1) ** -(1 + alpha)
    scale = np.array([16, 24, 32, 48, 64, 96, 128])
    predicted = slope(scale, np.array([spectrum[n:].sum() for n in scale]))
    cause = f"the tail of a spectrum i^-{1 + alpha:g} of {LATENT}"
    return [
        Toy("features", "parameters", scale, predicted, cause, lambda n, r: _regression(spectrum, n, TIMES * n, r)),
        Toy("features", "examples", scale, predicted, cause, lambda n, r: _regression(spectrum, TIMES * n, n, r)),
    ]


def _regression(spectrum: np.ndarray, count: int, examples: int, random: np.random.Generator) -> float:
    """Excess squared error over the distribution, a mean of teachers and of two draws of data and features."""
    losses = []
    for _ in range(2):
        x = random.standard_normal((examples, LATENT)) * np.sqrt(spectrum)
        project = random.standard_normal((LATENT, count)) / np.sqrt(LATENT)
        teachers = random.standard_normal((LATENT, TEACHERS))
        readout = np.linalg.lstsq(x @ project, x @ teachers, rcond=None)[0]
        losses.append(float((spectrum @ (teachers - project @ readout) ** 2).mean()))
    return float(np.mean(losses))


# -- bigrams of a text -------------------------------------------------------------------------------------------------

WORDS, DRAWN, SWEEPS = 500, 4_000_000, 12  # the vocabulary; bigrams that a learner sees; of its alternations


def bigrams(text: str) -> list[Toy]:
    """A bigram learner of width r, an embedding times a readout, trained on bigrams that are drawn from the text: the
    singular values of the text's own table beyond r are what it must leave. DataError for too short a text."""
    words = re.findall(r"\w+|[^\w\s]", text.lower())
    frequent = {word: i for i, (word, _) in enumerate(Counter(words).most_common(WORDS - 1))}
    if len(frequent) < WORDS - 1:
        raise DataError(f"bigrams take a text of {WORDS} different words or more, got {len(frequent)}")
    ids = np.array([frequent.get(word, WORDS - 1) for word in words])
    joint = np.zeros((WORDS, WORDS))
    np.add.at(joint, (ids[:-1], ids[1:]), 1 / (len(ids) - 1))
    tail = np.cumsum(np.linalg.svd(_weighed(joint), compute_uv=False)[::-1] ** 2)[::-1]
    scale = np.array([2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64])
    cause = f"the singular values of the bigrams of {len(words):,} words"
    return [Toy("bigrams", "width", scale, slope(scale, tail[scale]), cause, partial(_table, joint))]


def _weighed(joint: np.ndarray) -> np.ndarray:
    """Rows p(b | a) by the root of p(a): squares of differences of these are expected squared errors."""
    rows: np.ndarray = joint / np.sqrt(np.maximum(joint.sum(1, keepdims=True), 1e-300))
    return rows


def _table(joint: np.ndarray, width: int, random: np.random.Generator) -> float:
    """Expected squared error of p(b | a) above the text's own, by alternating least squares from a random start."""
    there = np.flatnonzero(joint)
    drawn = np.zeros_like(joint)
    drawn.ravel()[there] = random.multinomial(DRAWN, joint.ravel()[there]) / DRAWN
    wanted = _weighed(drawn)
    readout = random.standard_normal((len(joint), width))
    for _ in range(SWEEPS):
        embedding = np.linalg.lstsq(readout, wanted.T, rcond=None)[0].T
        readout = np.linalg.lstsq(embedding, wanted, rcond=None)[0].T
    marginal, true = drawn.sum(1, keepdims=True), joint.sum(1, keepdims=True)
    predicted = embedding @ readout.T / np.sqrt(np.maximum(marginal, 1e-300)) * (marginal > 0)
    return float(((predicted - joint / np.maximum(true, 1e-300)) ** 2 * true).sum())
