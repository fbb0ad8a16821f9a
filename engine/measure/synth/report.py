"""Report on made rows: how far they are from real ones, what they lack, and whether they give real ones away. No mlx.

Distances, coverage, diversity and novelty are `engine.evaluate.sample_metrics`; added here are histograms (length,
label), the commonest template, the grid that was asked for, and privacy. A small distance says that no difference was
seen by these features, not that there is none.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from likely.engine.base import arrays
from likely.engine.base.statistics.estimates import Estimate, mean, share
from likely.engine.measure.evaluate.figures import sample_metrics, samples
from likely.engine.measure.evaluate.figures.contamination import words
from likely.engine.measure.synth.instruct import cells
from likely.engine.measure.synth.row import SynthRow

OPENING = 4  # words of a template
LABELS = 50  # different answers up to which they are labels
FAR = 0.95  # quantile of held-out rows that a made one is set against
MOST = 2000  # rows of which all distances are taken
BLOCK = 1024  # rows whose distances are held at once

Kind = TypeVar("Kind", int, str)


@dataclass(frozen=True, slots=True)
class GridCoverage:
    """Coverage of a grid: cells with a row, of all; the rows of each value of each attribute."""

    filled: int
    cells: int
    counts: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class RowsReport:
    """Figures by name with their errors, and what is plain counting. Divergences in nats."""

    made: int
    real: int
    figures: Mapping[str, Estimate]
    template: tuple[str, float, float]  # the commonest opening, its share of made rows and of real ones
    lengths: tuple[tuple[str, float, float], ...] = ()  # words from, share of made rows and of real ones
    labels: tuple[tuple[str, float, float], ...] = ()  # likewise, where answers are labels
    asked: GridCoverage | None = None
    notes: tuple[str, ...] = ()
    beside: tuple[dict[str, object], ...] = ()  # of each made row the nearest real one, and what it shares with any


def report(
    made: Sequence[SynthRow],
    real: Sequence[tuple[str, str]],
    features: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None,
    *,
    heldout: Sequence[tuple[str, str]] = (),
    grid: Mapping[str, Sequence[str]] | None = None,
) -> RowsReport:
    """Made rows against (question, answer) of real ones; `heldout` are real ones that the generator has not seen.

    `features` of made, real and held-out texts, or else spectra of bigrams. DataError where there are fewer than ten of
    either.
    """
    pairs = [row.sides for row in made]
    ours, theirs, unseen = ([words("\n".join(pair)) for pair in some] for some in (pairs, real, heldout))
    if features is None:
        features = samples.spectrum(ours), samples.spectrum(theirs), samples.spectrum(unseen)
    n = min(len(ours), len(theirs), MOST)  # most of these depend on it, and have all pairs at once in memory
    chance = np.random.default_rng(0)
    some, others = (array[np.sort(chance.permutation(len(array))[:n])] for array in features[:2])
    figures = dict(sample_metrics.of_features(some, others))
    figures |= sample_metrics.of_texts(ours, theirs)
    lengths = histogram([_bin(text) for text in ours], [_bin(text) for text in theirs])
    figures["length_js"] = divergence(lengths)
    says = [[" ".join(words(answer)) for _, answer in some] for some in (pairs, real)]
    labels = histogram(*says)
    few = len(labels) <= min(LABELS, n / 2)
    if few:
        figures["label_js"] = divergence(labels)
    near, runs = nearest(features[0], features[1]), Runs(theirs)
    shared = [runs.shared(text) for text in ours]
    figures["nearest"], figures["longest_run"] = mean(near[0].tolist()), mean([len(run) for run in shared])
    if unseen:
        held = nearest(features[2], features[1])[0]
        figures |= privacy(near[0], [len(run) for run in shared], held, [len(runs.shared(text)) for text in unseen])
    notes = [] if heldout else ["no held-out rows (report.heldout): nothing is said of privacy against them"]
    if max(len(ours), len(theirs)) > n:
        notes.append(f"distances, precision and recall are of {n} rows of each, by chance")
    return RowsReport(
        len(ours), len(theirs), figures, top_template(ours, theirs),
        tuple((f"from {low}", a, b) for low, a, b in lengths), tuple(labels) if few else (),
        coverage(made, grid or {}), tuple(notes), tuple(neighbours(made, real, near, shared)),
    )  # fmt: skip


def coverage(rows: Sequence[SynthRow], grid: Mapping[str, Sequence[str]]) -> GridCoverage | None:
    """How the rows fill the grid; None of no grid."""
    if not grid:
        return None
    every = cells(grid)
    there = [row.source.attributes for row in rows]
    counts = {name: {value: sum(a.get(name) == value for a in there) for value in of} for name, of in grid.items()}
    filled = {tuple(attributes.items()) for attributes in there}
    return GridCoverage(sum(tuple(cell.items()) in filled for cell in every), len(every), counts)


def histogram(made: Sequence[Kind], real: Sequence[Kind]) -> list[tuple[Kind, float, float]]:
    """Shares of each kind in both, in order."""
    ours, theirs = Counter(made), Counter(real)
    kinds = sorted(ours | theirs)
    return [(kind, ours[kind] / max(len(made), 1), theirs[kind] / max(len(real), 1)) for kind in kinds]


def divergence(shares: Sequence[tuple[object, float, float]]) -> Estimate:
    """Jensen-Shannon of two histograms, 0 to log 2; what chance alone would give is in it."""
    with np.errstate(divide="ignore"):  # what is in one alone
        p, q = (np.log(np.array([row[side] for row in shares], np.float64)) for side in (1, 2))
    return Estimate(float(arrays.js(p, q, np)), math.nan, n=len(shares))


def template(text: Sequence[str]) -> str:
    """How a text begins, digits as #."""
    return re.sub(r"\d", "#", " ".join(text[:OPENING]))


def top_template(ours: Sequence[Sequence[str]], theirs: Sequence[Sequence[str]]) -> tuple[str, float, float]:
    """The opening that is the commonest among made rows, and its share of those and of real ones."""
    counts = [Counter(map(template, some)) for some in (ours, theirs)]
    top, count = counts[0].most_common(1)[0]
    return top, count / len(ours), counts[1][top] / max(len(theirs), 1)


# -- privacy ----------------------------------------------------------------------------------------------------------


def privacy(near: np.ndarray, longest: Sequence[int], held: np.ndarray, theirs: Sequence[int]) -> dict[str, Estimate]:
    """Distances of held-out rows to the nearest real one and the longest run of words that stands in one (`held`,
    `theirs`); and the shares of made rows (`near`, `longest`) that are nearer, or share more, than 95 % of them. That
    is 5 % where the made ones give no more away than any text of the kind."""
    edge, most = float(np.quantile(held, 1 - FAR)), float(np.quantile(theirs, FAR))
    return {
        "nearest_heldout": mean(held.tolist()),
        "longest_run_heldout": mean(theirs),
        "nearer": share((near < edge).astype(float).tolist()),
        "shares_more": share([float(run > most) for run in longest]),
    }


def neighbours(
    made: Sequence[SynthRow],
    real: Sequence[tuple[str, str]],
    near: tuple[np.ndarray, np.ndarray],
    shared: Sequence[Sequence[str]],
) -> Iterator[dict[str, object]]:
    """Made rows, those that share the longest run with a real one first: each with that run, the nearest real row and
    its distance."""
    far, at = near
    for i in sorted(range(len(made)), key=lambda i: (-len(shared[i]), far[i])):
        overlap = {"longest_run": len(shared[i]), "words": " ".join(shared[i]), "nearest": round(float(far[i]), 6)}
        yield {"id": made[i].id, **overlap, "real": "\n".join(side for side in real[int(at[i])] if side)}


def nearest(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The Euclidean distance of each point [n, d] to the nearest of others [m, d], and which of them it is."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    far, at = np.zeros(len(x)), np.zeros(len(x), int)
    for low in range(0, len(x), BLOCK):
        part = samples.distances(x[low : low + BLOCK], y)
        at[low : low + BLOCK] = part.argmin(axis=1)
        far[low : low + BLOCK] = np.sqrt(part.min(axis=1))
    return far, at


class Runs:
    """Runs of words of some texts, by length, as far as they were asked for."""

    def __init__(self, texts: Sequence[Sequence[str]]) -> None:
        self.texts = texts
        self._of: dict[int, set[tuple[object, ...]]] = {}

    def shared(self, text: Sequence[str]) -> tuple[str, ...]:
        """The longest run that stands in one of them too: where a longer one does, so does each shorter."""
        low, high = 0, len(text)
        longest: tuple[object, ...] = ()
        while low < high:
            middle = (low + high + 1) // 2
            if middle not in self._of:
                self._of[middle] = samples.ngrams(self.texts, middle)
            run = next((gram for gram in samples.grams(text, middle) if gram in self._of[middle]), None)
            low, high, longest = (low, middle - 1, longest) if run is None else (middle, high, run)
        return tuple(map(str, longest))


def _bin(text: Sequence[str]) -> int:
    """Lengths by doubling: from 0, 1, 2, 4, ... words."""
    return 1 << len(text).bit_length() >> 1
