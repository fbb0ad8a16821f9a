"""A stored token under other transforms, without the model: bounds of every candidate's probability.

A `Snapshot` knows its candidates' logits exactly and of the rest how many lie in each bin, between which edges, and
their log-sum-exp. So every quantity a transform looks at (a mass, an entropy, a rank) is known to lie in an interval,
and so does every probability; where the tokens that survive are candidates the interval is a point. Knows nothing of
mlx; the transforms of single tokens are the engine's own, run in numpy.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from engine.trace.intervals import SLACK, TINY, Intervals
from engine.trace.trace import Snapshot, TokenStep
from engine.transforms import (
    XTC,
    DynamicTemperature,
    Key,
    MinP,
    MirostatV2,
    State,
    States,
    Temperature,
    TopK,
    TopNSigma,
    TopP,
    Transform,
    Truncation,
    Typical,
    Vocabulary,
    edited_ids,
    start,
)

Decision = tuple[np.ndarray, np.ndarray]  # bool [N] of the items: surely stays, surely goes


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a step's distribution becomes: for each of the snapshot's ids, and in all."""

    ids: np.ndarray  # int32 [K], the snapshot's
    low: np.ndarray  # float64 [K]: bounds of the probability after the transforms
    high: np.ndarray
    removed_by: np.ndarray  # int8 [K]: the transform at which the token is surely gone, STAYS while it may be there
    kept: tuple[int, int]  # bounds of how many tokens are left to draw from
    rest: tuple[float, float]  # bounds of the mass of all tokens that are not among the ids

    @property
    def middle(self) -> np.ndarray:
        """The middle of the bounds, [K]."""
        return np.asarray((self.low + self.high) / 2)

    @property
    def exact(self) -> bool:
        """Whether the bounds are one number, to 1e-6."""
        return bool((self.high - self.low).max(initial=0.0) <= 1e-6)


def replay(
    snapshot: Snapshot, transforms: Sequence[Transform], states: States, key: Key, *, greedy: bool = False
) -> Replayed:
    """The distribution of `snapshot` after `transforms`, whose states come from `states_at` and whose key is the step's
    (seed, position)."""
    size = len(snapshot.ids)
    known = Intervals(snapshot, edited_ids(transforms, states))
    for index, (transform, state) in enumerate(zip(transforms, states, strict=True)):
        match transform:
            case Truncation() if greedy:
                continue
            case Truncation():
                known.keep(*_decide(transform, known, state, key), index)
            case Temperature():
                known.divide(transform.temperature, transform.temperature)
            case DynamicTemperature():
                known.divide(*_temperatures(transform, known))
            case _:
                known.change(partial(_applied, transform, state, key), transform.edited_ids(state))
    if greedy:
        known.keep(*known.first(1), len(transforms))
    low, high = known.probabilities()
    return Replayed(
        ids=snapshot.ids,
        low=low[:size],
        high=high[:size],
        removed_by=known.removed_by[:size],
        kept=(int(known.least.sum()), int(known.most.sum())),
        rest=known.rest(size),
    )


def states_at(
    transforms: Sequence[Transform],
    vocabulary: Vocabulary | None,
    prompt: Sequence[int],
    steps: Sequence[TokenStep],
) -> States:
    """The states before the token that follows `prompt` and `steps`.

    Mirostat is taken through the recorded steps with the surprisals that they had.
    """
    if not any(transform.surprisal for transform in transforms):
        return start(transforms, vocabulary, [*prompt, *(step.token for step in steps)], np)
    states = start(transforms, vocabulary, prompt, np)
    for step in steps:
        states = tuple(
            t.update(s, step.token, -(step.logprob_after or 0.0), np) for t, s in zip(transforms, states, strict=True)
        )
    return states


def _decide(transform: Truncation, known: Intervals, state: State, key: Key) -> Decision:
    """What surely stays under a truncation, and what surely goes."""
    largest = known.largest()
    match transform:
        case TopK(k):
            return known.first(int(k))
        case TopP(p) if p < 1:
            return known.nucleus(known.logits(), p)
        case MinP(p, fewest):
            stays, goes = known.reaches((largest[0] + math.log(p), largest[1] + math.log(p)))
            first, others = known.first(int(fewest))
            return stays | first, goes & others
        case Typical(p) if p < 1:
            depth = known.depth()
            low, high = (logit - largest[1] + mean for logit, mean in zip(known.logits(), depth, strict=True))
            near = np.where((low < 0) & (high > 0), 0, np.minimum(np.abs(low), np.abs(high)))
            return known.nucleus((-np.maximum(np.abs(low), np.abs(high)), -near), p)
        case TopNSigma(n):
            sigma = known.deviation()
            return known.reaches((largest[0] - n * sigma[1], largest[1] - n * sigma[0]))
        case MirostatV2():
            reach = float(state) * math.log(2)
            least, most = (largest[1] + math.log(max(total, TINY)) - reach for total in known.total())
            return known.reaches((min(least, largest[0]), min(most, largest[1])))
        case XTC() if transform.acts(key):
            return _top_choices(transform, known, state)
    everything = np.ones(len(known.most), bool)
    return everything, ~everything


def _applied(transform: Transform, state: State, key: Key, logits: np.ndarray) -> np.ndarray:
    return np.asarray(transform.apply(logits, state, key, np))


def _top_choices(transform: XTC, known: Intervals, exempt: State) -> Decision:
    """XTC: all goes that is above the threshold, but the least likely of that."""
    low, high = known.logits()
    top, total = known.largest()[1], known.total()
    surely = (known.least > 0) & (np.exp(low - top) > total[1] * transform.threshold * (1 + SLACK))
    possibly = (known.most > 0) & (np.exp(np.minimum(high - top, 0)) > total[0] * transform.threshold * (1 - SLACK))
    goes = low > high[surely].min(initial=np.inf)
    stays = high <= low[possibly].min(initial=np.inf)
    spared = np.zeros(len(low), bool)
    spared[: known.points] = np.isin(known.ids, exempt)
    return stays | spared, goes & ~spared


def _temperatures(transform: DynamicTemperature, known: Intervals) -> tuple[float, float]:
    entropy, count = known.entropy(), (known.least.sum(), known.most.sum())
    shares = (h / math.log(max(n, 2)) for h, n in zip(entropy, reversed(count), strict=True))
    low, high = (min(max(share, 0.0), 1.0) ** transform.exponent for share in shares)
    span = transform.high - transform.low
    return transform.low + span * low, transform.low + span * high
