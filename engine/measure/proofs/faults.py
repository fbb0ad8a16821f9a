"""Planted faults: a law's draws with one thing wrong, each a small function or class in the place of the right one.

The program has no switch for them; they are passed to what draws (`engine.proofs.draws`), and a proof that does not see
its own is none.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from likely.engine.base.statistics.estimates import Estimate, mean
from likely.engine.decode.drafts.draft import Draft, Guess
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.sampler import Sampler
from likely.engine.decode.loop.strategy import Steps
from likely.engine.decode.sampled.sample import Sample
from likely.engine.decode.searches.search import Group, NextTokens, SearchNode
from likely.engine.decode.searches.stochastic_beam import StochasticBeam
from likely.engine.diffusion.bound import lost
from likely.engine.sampling.transforms import Key, RepetitionPenalty, State, TopP

if TYPE_CHECKING:
    from likely.engine.base.arrays import Array, Namespace
    from likely.engine.decode.loop.branches import Branches
    from likely.engine.decode.loop.sampler import Draw as DrawnToken


@dataclass(frozen=True, slots=True)
class RenormalisedTopP(TopP):
    """Top-p that measures its share once more on what it left, normalised again."""

    def keep(self, logits: "Array", state: State, key: Key, xp: "Namespace") -> "Array":
        once = xp.where(TopP.keep(self, logits, state, key, xp), logits, -xp.inf)
        return TopP.keep(self, once, state, key, xp)


@dataclass(frozen=True, slots=True)
class StalePenalty(RepetitionPenalty):
    """A penalty that never hears of the letters that are drawn."""

    def update(self, state: State, token: Any, surprisal: Any, xp: "Namespace") -> State:
        return state


class OneKey(Sampler):
    """A sampler that draws in all branches with the key of the first."""

    def draw(self, branches: "Branches", forced: int | None = None, **how: Any) -> "list[DrawnToken]":
        return [self.choose(row, branches.length, forced) for row in branches.logits()]


@dataclass(frozen=True, slots=True)
class SharedKey(Sample):
    """Sampling whose branches share a key."""

    def steps(self, branches: "Branches", sampler: Sampler, control: RunControl, *, limit: int) -> Steps:
        one = OneKey(sampler.recipe, sampler.seed, sampler.states, sampler.vocabulary, sampler.xp)
        return Sample.steps(self, branches, one, control, limit=limit)


class BoastfulDraft(Draft):
    """A draft that says of each guess that it was drawn from all letters evenly, so that what accepts it is biased."""

    def propose(self, ids: Sequence[int], count: int, sampler: Sampler) -> Guess:
        guess = Draft.propose(self, ids, count, sampler)
        return replace(guess, rows=[np.zeros_like(row) for row in guess.rows or ()])


@dataclass(frozen=True, slots=True)
class FreeGumbels(StochasticBeam):
    """Stochastic beams whose noise at a letter is not held below that of the beginning that it goes on from."""

    def children(self, group: Group, next_tokens: NextTokens, ends: int, others: Counter[int]) -> list[SearchNode]:
        nodes = StochasticBeam.children(self, group, next_tokens, ends, others)
        noise = np.random.default_rng([*next_tokens.keys[0], len(nodes)]).gumbel(size=len(nodes))
        free = [replace(node, order=node.total + float(g)) for node, g in zip(nodes, noise, strict=True)]
        return sorted(free, key=lambda node: -node.order)


def unweighted(denoise: Any, ids: Sequence[int], mask: int, *, draws: int, seed: int) -> Estimate:
    """A bound from random masks that leaves out their weights L / k."""
    random, text = np.random.default_rng(seed), np.asarray(ids)
    masked = np.zeros((draws, len(text)), bool)
    for row in masked:
        row[random.permutation(len(text))[: random.integers(1, len(text) + 1)]] = True
    return mean(lost(denoise, text, masked, mask).tolist())
