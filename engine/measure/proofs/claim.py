"""Claims, and the evidence that draws give them: plain data and the test that decides. No mlx; draws nothing.

A claim is about outcomes whose probabilities are listed, about intervals that hold a known share, about numbers that
are 0 in the mean, or about numbers between bounds. `Evidence` counts what was drawn, and says whether the claim holds.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from likely.engine.base.statistics.goodness import Goodness, above, chi_square

REFUSED = 1e-4  # of p, below which a claim does not hold
OPEN = "open"  # name of a bound on what a search has not proven
LATEST = 100  # draws that are kept as they came
PAGES = {
    "enumeration": "All 155 texts this model can write, and what is drawn. If the sampler is right, the lower half "
    "mirrors the upper.",
    "constraint": "Three letters, the last an n, or none twice: what masking letter by letter draws, and what is drawn "
    "here.",
    "mode": "Is there a likelier text? The best so far rises, what nothing unseen can exceed falls; where they meet is "
    "the proof.",
    "orders": "Letters in any order: one a pass is the law itself, and weighted masks bound its surprise.",
    "martingale": "On its own texts a model is as surprised as it expected: surprisal less entropy is 0 in the mean.",
    "intervals": "Evaluations of 40 questions, each with its interval of 95 %: as many miss as should.",
    "precision": "Packed weights against float64, token by token: each is within what rounding allows.",
}


@dataclass(frozen=True, eq=False)
class Claim:
    """A law by name, on a page of its kind. `fails`: it is known not to hold, and has to be seen to fail."""

    name: str
    page: str
    title: str  # as a tab has it
    exact: str  # how the exact side is called
    why: str  # it is a proof
    fails: bool = field(default=False, kw_only=True)

    def fit(self, evidence: "Evidence") -> Goodness:
        """The test of what was drawn."""
        raise NotImplementedError

    def cells(self, drawn: Sequence[Any]) -> np.ndarray:
        """Counts [n] of the outcomes that were drawn; none where there are none to be counted."""
        return np.zeros(0, int)

    def holds(self, evidence: "Evidence") -> bool:
        """Whether nothing that was drawn speaks against it."""
        p = self.fit(evidence).p
        return p is None or p >= REFUSED


@dataclass(frozen=True, eq=False)
class Listed(Claim):
    """Outcomes, each drawn with a probability that is listed: `names` and `p` [n], as many as there can be."""

    names: tuple[str, ...]
    p: np.ndarray
    meant: np.ndarray | None = field(default=None, kw_only=True)  # [n], the law that this one stands for, if another

    def cells(self, drawn: Sequence[Any]) -> np.ndarray:
        return np.bincount(np.array(drawn, int), minlength=len(self.p))

    def fit(self, evidence: "Evidence") -> Goodness:
        return chi_square(evidence.counts, self.p) if evidence.draws else Goodness()


@dataclass(frozen=True, eq=False)
class Covering(Listed):
    """Intervals that lie below a known number, hold it, or lie above it."""

    truth: float

    def cells(self, drawn: Sequence[Any]) -> np.ndarray:
        low, high = np.array(drawn, float).reshape(-1, 2).T
        return np.bincount(np.where(high < self.truth, 0, np.where(low > self.truth, 2, 1)), minlength=3)


@dataclass(frozen=True, eq=False)
class Centred(Claim):
    """Numbers that are 0 in the mean, of a known standard deviation; of the one that they show where it is None."""

    sd: float | None

    def fit(self, evidence: "Evidence") -> Goodness:
        """The square of the mean over its standard error, a chi-square of one degree of freedom for many draws."""
        n, spread = evidence.draws, evidence.sd if self.sd is None else self.sd
        if n < 2 or not spread:
            return Goodness()
        chi2 = n * (evidence.mean / spread) ** 2
        return Goodness(chi2, 1, above(chi2, 1))


@dataclass(frozen=True, eq=False)
class Bracketed(Claim):
    """Numbers that lie between bounds: nothing is drawn. `unit` is theirs."""

    unit: str

    def fit(self, evidence: "Evidence") -> Goodness:
        return Goodness()

    def holds(self, evidence: "Evidence") -> bool:
        return all(one.low <= one.value <= one.high for one in evidence.bounds)


@dataclass(frozen=True, slots=True)
class Bound:
    """A number that is known exactly, `value`, and what is said to lie below and above it."""

    name: str
    low: float
    value: float
    high: float


@dataclass(frozen=True)
class ProofResult:
    """The verdict on a law: chi-square on its degrees of freedom and p, None where nothing was drawn or too little."""

    law: str
    draws: int
    chi2: float | None
    df: int | None
    p: float | None
    holds: bool


@dataclass(frozen=True, eq=False)
class Evidence:
    """The draws for a claim so far: counts [n], moments, the latest of them, and p as they came."""

    claim: Claim
    draws: int = 0
    counts: np.ndarray = field(default_factory=lambda: np.zeros(0, int))
    total: float = 0.0
    squares: float = 0.0
    latest: tuple[Any, ...] = ()
    track: tuple[tuple[int, float, float], ...] = ()  # draws, p and mean
    bounds: tuple[Bound, ...] = ()

    @property
    def mean(self) -> float:
        return self.total / self.draws if self.draws else 0.0

    @property
    def sd(self) -> float:
        """Standard deviation of what was drawn."""
        n = self.draws
        return math.sqrt(max(self.squares - n * self.mean**2, 0.0) / (n - 1)) if n > 1 else 0.0

    def with_draws(self, drawn: Sequence[Any]) -> "Evidence":
        """The evidence with these draws more."""
        cells = self.claim.cells(drawn)
        values = [] if len(cells) else list(map(float, drawn))
        more = replace(
            self,
            draws=self.draws + len(drawn),
            counts=cells if not self.draws else self.counts + cells,
            total=self.total + math.fsum(values),
            squares=self.squares + math.fsum(value * value for value in values),
            latest=(*self.latest, *drawn)[-LATEST:],
        )
        p = more.result.p
        return more if p is None else replace(more, track=(*self.track, (more.draws, p, more.mean)))

    def with_bounds(self, bounds: Iterable[Bound]) -> "Evidence":
        """The evidence with these numbers more."""
        return replace(self, bounds=(*self.bounds, *bounds))

    @property
    def result(self) -> ProofResult:
        fit = self.claim.fit(self)
        return ProofResult(self.claim.name, self.draws, fit.chi2, fit.df, fit.p, self.claim.holds(self))

    @property
    def right(self) -> bool:
        """Whether the law does what it should: holds, or is seen to fail where it must."""
        return self.claim.holds(self) != self.claim.fails
