"""The transforms that remove tokens: top-k, top-p, min-p, typical, top-n-sigma, XTC, mirostat.

Each threshold is a value of the logits, so tokens with equal logits stay or go together, except in top-k, which keeps
exactly k. Where mlx-lm has the transform its rule is followed, else llama.cpp's.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from likely.engine.base.arrays import Array, Namespace, expected, logsumexp
from likely.engine.sampling.transforms.arrays import Key, largest, nucleus, put, uniform
from likely.engine.sampling.transforms.intervals import SLACK, TINY, Decision, Intervals
from likely.engine.sampling.transforms.parameter import Parameter
from likely.engine.sampling.transforms.transform import State, Truncation, Vocabulary, within
from likely.metal.packed.statistics import scan


@dataclass(frozen=True, slots=True)
class TopK(Truncation):
    """The k most likely tokens. Fan, Lewis & Dauphin 2018, section 5.4. Of equal ones the lower id goes first."""

    k: int

    parameters: ClassVar = (
        Parameter("top_k", "top-k", "k", 0, 200, 1, 0, 0, "only the k most likely tokens", whole=True),
    )  # fmt: skip

    def __post_init__(self) -> None:
        within("top-k", self.k, "[1, inf)", whole=True)

    def keep(self, logits: Array, state: State, key: Key, xp: Namespace) -> Array | None:
        return None if self.k >= logits.shape[-1] else largest(logits, int(self.k), xp)

    def decide(self, known: Intervals, state: State, key: Key) -> Decision:
        return known.first(int(self.k))


@dataclass(frozen=True, slots=True)
class TopP(Truncation):
    """The nucleus: the smallest set of most likely tokens that holds p of the mass. Holtzman et al. 2020, eq. 2.

    A token goes when those above it hold p already; the tokens equal to the last one stay.
    """

    p: float

    parameters: ClassVar = (
        Parameter("top_p", "top-p", "p", 0.01, 1.0, 0.01, 0.95, 1.0,
                  "only the smallest set of tokens that holds this mass"),
    )  # fmt: skip

    def __post_init__(self) -> None:
        within("top-p", self.p, "(0, 1]")

    def keep(self, logits: Array, state: State, key: Key, xp: Namespace) -> Array | None:
        if self.p == 1:
            return None
        return logits >= nucleus(logits, xp.exp(logits - xp.max(logits)), self.p, xp)

    def decide(self, known: Intervals, state: State, key: Key) -> Decision:
        return known.all() if self.p == 1 else known.nucleus(known.logits(), self.p)


@dataclass(frozen=True, slots=True)
class MinP(Truncation):
    """The tokens at least p times as likely as the most likely one, and never fewer than `least`.

    Nguyen et al. 2024, eq. 2.
    """

    p: float
    least: int = 1

    parameters: ClassVar = (
        Parameter("min_p", "min-p", "p", 0.0, 1.0, 0.01, 0.05, 0.0,
                  "only tokens this many times as likely as the most likely one"),
        Parameter("min_tokens_to_keep", "min-p keeps", "least", 1, 50, 1, 1, None,
                  "tokens that min-p never removes", whole=True),
    )  # fmt: skip

    def __post_init__(self) -> None:
        within("min-p", self.p, "(0, 1]")
        within("min-tokens-to-keep", self.least, "[1, inf)", whole=True)

    def keep(self, logits: Array, state: State, key: Key, xp: Namespace) -> Array | None:
        mask = logits >= xp.max(logits) + math.log(self.p)
        return mask if self.least == 1 else mask | largest(logits, int(self.least), xp)

    def decide(self, known: Intervals, state: State, key: Key) -> Decision:
        low, high = known.largest()
        stays, goes = known.reaches((low + math.log(self.p), high + math.log(self.p)))
        if self.least == 1:  # the largest reaches
            return stays, goes
        first, others = known.first(int(self.least))
        return stays | first, goes & others


@dataclass(frozen=True, slots=True)
class Typical(Truncation):
    """The tokens whose surprisal is nearest to the entropy, as many as hold p of the mass.

    Meister et al. 2023, eq. 10. The most likely token may go.
    """

    p: float

    parameters: ClassVar = (
        Parameter("typical_p", "typical-p", "p", 0.01, 1.0, 0.01, 1.0, 1.0,
                  "only tokens about as surprising as expected, up to this mass"),
    )  # fmt: skip

    def __post_init__(self) -> None:
        within("typical-p", self.p, "(0, 1]")

    def keep(self, logits: Array, state: State, key: Key, xp: Namespace) -> Array | None:
        if self.p == 1:
            return None
        # surprisal less entropy is the expected logit less the token's: no log-sum-exp is needed
        below = logits - xp.max(logits)
        mass = xp.exp(below)
        nearness = -xp.abs(below - expected(below, mass, xp))
        return nearness >= nucleus(nearness, mass, self.p, xp)

    def decide(self, known: Intervals, state: State, key: Key) -> Decision:
        if self.p == 1:
            return known.all()
        top = known.largest()[1]
        low, high = (logit - top + depth for logit, depth in zip(known.logits(), known.depth(), strict=True))
        near = np.where((low < 0) & (high > 0), 0, np.minimum(np.abs(low), np.abs(high)))
        return known.nucleus((-np.maximum(np.abs(low), np.abs(high)), -near), self.p)


@dataclass(frozen=True, slots=True)
class TopNSigma(Truncation):
    """The tokens whose logits lie within n standard deviations of the largest. Tang et al. 2024, eq. 4.

    Mean and deviation are those of the logits that are left; the set does not depend on the temperature.
    """

    n: float

    parameters: ClassVar = (
        Parameter("top_n_sigma", "top-n-sigma", "n", 0.0, 5.0, 0.1, 0.0, 0.0,
                  "only logits within n standard deviations of the largest"),
    )  # fmt: skip

    def __post_init__(self) -> None:
        within("top-n-sigma", self.n, "(0, 100]")

    def keep(self, logits: Array, state: State, key: Key, xp: Namespace) -> Array | None:
        if xp is np and logits.dtype == np.float32 and (scanned := scan(logits[None])) is not None:
            return logits - np.float32(scanned[0].max) >= np.float32(-self.n * math.sqrt(scanned[0].variance))
        possible = logits > -xp.inf
        count = xp.sum(possible)
        # about the largest, where float32 keeps the digits
        below = xp.where(possible, logits - xp.max(logits), 0)
        mean = xp.sum(below) / count
        variance = xp.sum(xp.where(possible, (below - mean) ** 2, 0)) / count
        return below >= -self.n * xp.sqrt(variance)

    def decide(self, known: Intervals, state: State, key: Key) -> Decision:
        (low, high), (least, most) = known.largest(), known.deviation()
        return known.reaches((low - self.n * most, high - self.n * least))


@dataclass(frozen=True, slots=True)
class XTC(Truncation):
    """Exclude top choices: with `probability`, removes every token above `threshold` but the least likely of them.

    Weidmann 2024 (text-generation-webui #6335). Line breaks and ends of text are never removed.
    """

    probability: float
    threshold: float = 0.1

    parameters: ClassVar = (
        Parameter("xtc_probability", "XTC probability", "probability", 0.0, 1.0, 0.05, 0.0, 0.0,
                  "how often the top choices are excluded"),
        Parameter("xtc_threshold", "XTC threshold", "threshold", 0.0, 0.5, 0.01, 0.1, None,
                  "how likely a top choice is; the least likely of them stays"),
    )  # fmt: skip

    def __post_init__(self) -> None:
        within("xtc-probability", self.probability, "[0, 1]")
        within("xtc-threshold", self.threshold, "[0, 0.5]")

    def init(self, vocabulary: Vocabulary | None, ids: Sequence[int], xp: Namespace) -> State:
        """The ids that are exempt."""
        return () if vocabulary is None else tuple(sorted({*vocabulary.encode("\n"), *vocabulary.eos}))

    def acts(self, key: Key) -> bool:
        """The coin of this token: whether anything is removed."""
        return uniform(key, "xtc") < self.probability

    def keep(self, logits: Array, state: State, key: Key, xp: Namespace) -> Array | None:
        if not self.acts(key):
            return None
        probs = xp.exp(logits - logsumexp(logits, xp))
        least = xp.min(xp.where(probs > self.threshold, probs, xp.inf))
        mask = probs <= least
        return put(mask, xp.array(state), xp.array(True), xp) if state else mask

    def decide(self, known: Intervals, state: State, key: Key) -> Decision:
        if not self.acts(key):
            return known.all()
        low, high = known.logits()
        top, total = known.largest()[1], known.total()
        surely = (known.least > 0) & (np.exp(low - top) > total[1] * self.threshold * (1 + SLACK))
        possibly = (known.most > 0) & (np.exp(np.minimum(high - top, 0)) > total[0] * self.threshold * (1 - SLACK))
        goes = low > high[surely].min(initial=np.inf)
        stays = high <= low[possibly].min(initial=np.inf)
        exempt = np.zeros(len(low), bool)
        exempt[: known.points] = np.isin(known.ids, state)
        return stays | exempt, goes & ~exempt


@dataclass(frozen=True, slots=True)
class MirostatV2(Truncation):
    """Removes the tokens whose surprisal exceeds mu bits; mu is steered so that the surprisal drawn averages tau bits.

    Basu et al. 2021, algorithm 2: mu starts at 2 tau, and mu <- mu - eta (s - tau) with s the surprisal of the token
    among those that were left. The most likely token always stays.
    """

    tau: float
    eta: float = 0.1

    surprisal: ClassVar[bool] = True

    parameters: ClassVar = (
        Parameter("mirostat_tau", "mirostat tau", "tau", 0.0, 10.0, 0.1, 0.0, 0.0,
                  "steer the surprisal of what is drawn to this many bits"),
        Parameter("mirostat_eta", "mirostat eta", "eta", 0.01, 1.0, 0.01, 0.1, None, "how fast mirostat steers"),
    )  # fmt: skip

    def __post_init__(self) -> None:
        within("mirostat-tau", self.tau, "(0, 100]")
        within("mirostat-eta", self.eta, "(0, 1]")

    def init(self, vocabulary: Vocabulary | None, ids: Sequence[int], xp: Namespace) -> State:
        """The largest surprise mu that is left, bits: twice the target to begin with."""
        return 2 * self.tau

    def keep(self, logits: Array, state: State, key: Key, xp: Namespace) -> Array | None:
        return logits >= xp.minimum(xp.max(logits), logsumexp(logits, xp) - state * math.log(2))

    def decide(self, known: Intervals, state: State, key: Key) -> Decision:
        largest, mu = known.largest(), float(state) * math.log(2)
        low, high = (largest[1] + math.log(max(total, TINY)) - mu for total in known.total())
        return known.reaches((min(low, largest[0]), min(high, largest[1])))

    def update(self, state: State, token: Any, surprisal: Any, xp: Namespace) -> State:
        return state - self.eta * (surprisal / math.log(2) - self.tau)
