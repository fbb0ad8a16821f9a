"""Infilling from left to right: tokens for the masks of a text by an autoregressive model, to compare with diffusion.

It draws what stands before, and cannot see what follows: `nbest` draws several times and takes the text that is the
likeliest as a whole; `mcmc` walks, by Metropolis-Hastings with the model's own draws as proposals, to the law
p(hole | left, right) itself. Knows no model and no cache.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from likely.engine.base.arrays import logprobs
from likely.engine.base.errors import ParameterError
from likely.engine.sampling.trace.step import SamplingConfig
from likely.engine.sampling.transforms import Vocabulary, run, start


class ScoredToken(Protocol):
    """A token that was scored."""

    @property
    def logprob(self) -> float | None: ...


class LeftToRight(Protocol):
    """p(x_i | x_<i), as a session has it."""

    def logits_after(self, ids: Sequence[int], /) -> np.ndarray: ...
    def score(self, ids: Sequence[int], /, *, start: int) -> Sequence[ScoredToken]: ...


@dataclass(frozen=True, slots=True)
class Infill:
    """A text whose masks are tokens, and log p of each token from its first mask on, nats, before the transforms."""

    ids: tuple[int, ...]
    first: int
    logprobs: tuple[float, ...]

    @property
    def total(self) -> float:
        """Log p of all that follows what stands before the first mask."""
        return math.fsum(self.logprobs)

    def of_given(self, free: Sequence[int]) -> float:
        """Log p of the tokens that are given behind the first mask."""
        known = {at - self.first for at in free}
        return math.fsum(p for at, p in enumerate(self.logprobs) if at not in known)


@dataclass(frozen=True, slots=True)
class InfillAttempt:
    """A text that was drawn, numbered from 1, and whether it was accepted: it takes the place of the one before."""

    number: int
    text: Infill
    accepted: bool


@dataclass(frozen=True)
class Holes:
    """A text with masks, ids [T], and by what they are filled.

    ParameterError for a mask that nothing precedes, and for a transform that follows its own surprisals: a text that
    is drawn anew from its middle has none.
    """

    model: LeftToRight
    canvas: tuple[int, ...]
    mask: int
    recipe: SamplingConfig
    seed: int = 0
    vocabulary: Vocabulary | None = None

    def __post_init__(self) -> None:
        if not self.free:
            raise ParameterError("there is nothing to fill: the text has no mask")
        if self.free[0] == 0:
            raise ParameterError(
                "an autoregressive model fills what something stands before: begin the text with a word"
            )
        for transform in self.recipe.transforms:
            if transform.surprisal:
                name = type(transform).__name__
                raise ParameterError(
                    f"{name} follows the surprisals of one text, and a hole is drawn again: leave it out"
                )

    @property
    def free(self) -> tuple[int, ...]:
        """Positions of the masks."""
        return tuple(at for at, token in enumerate(self.canvas) if token == self.mask)

    def nbest(self, count: int) -> Iterator[InfillAttempt]:
        """So many texts; one is taken where it is likelier as a whole than all before."""
        random, best = self._random(), -math.inf
        for number in range(1, count + 1):
            text = self._draw(self.canvas, self.free[0], random)
            accepted = number == 1 or text.total > best
            best = max(best, text.total) if accepted else best
            yield InfillAttempt(number, text, accepted)

    def mcmc(self, count: int) -> Iterator[InfillAttempt]:
        """A text drawn from left to right, which is taken, and so many proposals to draw it anew from a mask on.

        The mask is chosen uniformly. Both texts agree before it, and behind it the tokens of holes are drawn with the
        probability that the target gives them, so what is left of the ratio of Metropolis and Hastings is the
        likelihood of the tokens that are given. The target is p(hole | left, right); with transforms each token of a
        hole counts as they leave it.
        """
        random, free = self._random(), self.free
        now = self._draw(self.canvas, free[0], random)
        yield InfillAttempt(1, now, True)
        for number in range(2, count + 2):
            other = self._draw(now.ids, free[int(random.integers(len(free)))], random)
            accepted = math.log(1.0 - random.random()) < other.of_given(free) - now.of_given(free)
            now = other if accepted else now
            yield InfillAttempt(number, other, accepted)

    def _random(self) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(key=[self.seed, 0]))

    def _draw(self, ids: Sequence[int], begin: int, random: np.random.Generator) -> Infill:
        """The text with its masks from `begin` on drawn anew."""
        text, transforms = list(ids), self.recipe.transforms
        for at in (place for place in self.free if place >= begin):
            row = np.asarray(self.model.logits_after(text[:at]), np.float32)
            if transforms:
                states = start(transforms, self.vocabulary, text[:at], np)
                key = (int(random.integers(1 << 32)), at)
                row, _ = run(transforms, row, states, key, np)
            mass = np.cumsum(np.exp(logprobs(np.asarray(row, np.float64), np)))
            text[at] = int(np.searchsorted(mass, random.random() * mass[-1], side="right"))
        first = self.free[0]
        scored = self.model.score(text, start=first)
        return Infill(tuple(text), first, tuple(-math.inf if s.logprob is None else s.logprob for s in scored))
