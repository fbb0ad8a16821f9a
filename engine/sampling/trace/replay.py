"""A stored token under other transforms, without the model: bounds of every candidate's probability.

A `Snapshot` knows its candidates' logits exactly and of the rest how many lie in each bin, between which edges, and
their log-sum-exp. So every quantity a transform looks at (a mass, an entropy, a rank) is known to lie in an interval,
and so does every probability; where the tokens that survive are candidates the interval is a point. Knows nothing of
mlx and no transform: each brings its own `bounds`, and one that has none is refused by name. Under the recipe that drew
the token, what was recorded of the draw makes the interval a point too.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from likely.engine.sampling.trace.step import SamplingConfig, TokenStep
from likely.engine.sampling.transforms import (
    STAYS,
    ChoiceDistribution,
    Edit,
    Key,
    Snapshot,
    States,
    Temperature,
    Transform,
    Truncation,
    Vocabulary,
    edited_ids,
    start,
)
from likely.engine.sampling.transforms.intervals import Decision, Intervals
from likely.engine.sampling.transforms.transform import State


@dataclass(frozen=True, slots=True)
class StepReplay:
    """A step's distribution under other transforms: for each of the snapshot's ids, and in all."""

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
) -> StepReplay:
    """The distribution of `snapshot` after `transforms`, whose states come from `states_at` and whose key is the step's
    (seed, position). ParameterError names a transform that has no bounds."""
    known, removed_by = _transformed(snapshot, transforms, states, key, greedy)
    size = len(snapshot.ids)
    low, high = known.probabilities()
    return StepReplay(snapshot.ids, low[:size], high[:size], removed_by, known.kept(), known.rest(size))


def replay_drawn(step: TokenStep, states: States, key: Key) -> StepReplay | None:
    """The distribution that a step was drawn from: its snapshot after the transforms of its own recipe, with what was
    recorded then. That says which candidates were removed and how many tokens were left, and by the token's own
    log-probability what all others are divided by. None without a snapshot; raises as `replay`."""
    snapshot, recipe, removed_by = step.snapshot, step.recipe, step.removed_by
    if snapshot is None:
        return None
    if removed_by is None or step.logprob_after is None:
        return replay(snapshot, recipe.transforms, states, key, greedy=recipe.greedy)
    size, stays = len(snapshot.ids), removed_by == STAYS
    whole = list(zip(recipe.transforms, states, strict=True))
    moves = [(transform, state) for transform, state in whole if not isinstance(transform, Truncation)]
    simple = all(isinstance(transform, Edit | Temperature) for transform, _ in moves)  # whatever the others have left
    applied = moves if simple else whole
    known, _ = _transformed(
        snapshot, [transform for transform, _ in applied], tuple(state for _, state in applied), key,
        recipe.greedy and not simple,
    )  # fmt: skip
    least, most = (logits[:size] for logits in known.logits())
    if np.isfinite(step.logprob_after) and (least == most)[stays].all():
        own = int((snapshot.ids == step.token).argmax())
        low = high = np.where(stays, np.exp(np.minimum(least - least[own] + step.logprob_after, 0.0)), 0.0)
        if step.kept == stays.sum():  # all that was left is known: no rounding of the recorded number is needed
            low = high = low / low.sum()
    else:
        bounds = replay(snapshot, recipe.transforms, states, key, greedy=recipe.greedy)
        low, high = np.where(stays, bounds.low, 0.0), np.where(stays, bounds.high, 0.0)
    missing = max(1.0 - float(high.sum()), 0.0), max(1.0 - float(low.sum()), 0.0)
    rest = missing if step.kept > int(stays.sum()) else (0.0, 0.0)
    return StepReplay(snapshot.ids, low, high, removed_by, (step.kept, step.kept), rest)


def _transformed(
    snapshot: Snapshot, transforms: Sequence[Transform], states: States, key: Key, greedy: bool
) -> tuple[Intervals, np.ndarray]:
    """Bounds of a snapshot's logits after transforms, and which of them surely removed each of its ids, [K]."""
    size = len(snapshot.ids)
    known = Intervals(snapshot, edited_ids(transforms, states))
    removed_by = np.full(size, STAYS, np.int8)
    for index, (transform, state) in enumerate(zip(transforms, states, strict=True)):
        if not greedy or not isinstance(transform, Truncation) or transform.hard:
            alive = known.most[:size] > 0
            transform.bounds(known, state, key)
            removed_by[alive & (known.most[:size] == 0)] = index
    if greedy:
        alive = known.most[:size] > 0
        known.keep(*known.first(1))
        removed_by[alive & (known.most[:size] == 0)] = len(transforms)
    return known, removed_by


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


@dataclass(frozen=True, slots=True)
class RecordedMask(Truncation):
    """Mask of what a constraint left of a step's candidates and what it took, as recorded; of others nothing is known.

    It stands for a grammar where there is no tokenizer to follow it, and no time to compile it.
    """

    hard: ClassVar[bool] = True

    left: tuple[int, ...]
    taken: tuple[int, ...]

    def decide(self, known: Intervals, state: State, key: Key) -> Decision:
        stays, goes = (~known.all()[0] for _ in range(2))
        stays[: known.points] = np.isin(known.ids, self.left)
        goes[: known.points] = np.isin(known.ids, self.taken)
        return stays, goes


def recorded(step: TokenStep, recipe: SamplingConfig, length: int) -> SamplingConfig:
    """A recipe for the replay of a step of whose text the last `length` tokens are known: a constraint that bound it is
    what was recorded of it, and choices are counted from what is known."""
    drawn, transforms = step.recipe.transforms, list[Transform]()
    for transform in recipe.transforms:
        if isinstance(transform, Truncation) and transform.hard:
            ids, by = (step.snapshot.ids, step.removed_by) if step.snapshot is not None else ((), None)
            there = by is not None and transform in drawn
            taken = by == drawn.index(transform) if there else np.zeros(len(ids), bool)
            transform = RecordedMask(*(tuple(np.asarray(ids)[mask * there].tolist()) for mask in (~taken, taken)))
        elif isinstance(transform, ChoiceDistribution):
            transform = replace(transform, start=max(transform.start - step.position + length, 0))
        transforms.append(transform)
    return replace(recipe, transforms=tuple(transforms))
