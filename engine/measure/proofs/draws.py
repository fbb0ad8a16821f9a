"""Draws of a session by what a chat draws with: sampler, transforms, strategies; mostly of six letters.

Draw i has a seed of its own, `first + i`, so that a run goes on where it stopped. Knows nothing of what should come of
it.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from likely.engine.base.statistics.estimates import Estimate, share
from likely.engine.decode.drafts.draft import Draft, Drafter, PromptLookup
from likely.engine.decode.drafts.speculative import Speculative
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.strategy import Steps, Strategy
from likely.engine.decode.loop.texts import GrownText, search_answers, texts_of
from likely.engine.decode.sampled.resampling import log_weight
from likely.engine.decode.sampled.resampling import resampled as drawn_again
from likely.engine.decode.sampled.sample import Sample
from likely.engine.decode.searches.power import Power
from likely.engine.decode.searches.stochastic_beam import StochasticBeam
from likely.engine.diffusion.bound import BATCH, bound
from likely.engine.measure.proofs.bigram import smaller
from likely.engine.measure.proofs.enumeration import END, LETTERS, MASK, MOST, PLACES, chained, padded, unmasked
from likely.engine.sampling.trace.step import SamplingConfig
from likely.engine.sampling.trace.unmasking import Unmasking, fill
from likely.engine.sampling.transforms import Constraint, Transform, uniform

if TYPE_CHECKING:
    from likely.engine.decode.loop.branches import Branches
    from likely.engine.decode.loop.sampler import Sampler
    from likely.engine.decode.session import Session

# of a session, the first seed, and how many: places of outcomes, numbers or intervals
Draw = Callable[["Session", int, int], Iterator[Any]]
PLAIN, BY_LETTERS = SamplingConfig(), Sample()
ABREAST = 50  # texts of one run
ITEMS, SHARE = 40, 0.62  # of an evaluation: questions, and how many of them are answered right in the long run
WORD = tuple(map(LETTERS.index, "neatness"))  # whose bound is drawn
PROMPT = tuple(map(LETTERS.index, "∎te∎se∎te∎"))  # in which there is something to guess from


def _place(text: GrownText) -> int:
    """Which of the texts it is, as far as they go."""
    ids = tuple(text.ids[:MOST])
    return PLACES[ids[: ids.index(END) + 1] if END in ids else ids]


def _run(made: "Session", seed: int, recipe: SamplingConfig = PLAIN, **how: Any) -> list[GrownText]:
    """The texts of one run of a session behind ∎, by their branches."""
    return texts_of(made.generate([END], RunControl(recipe), seed=seed, **{"max_tokens": MOST} | how))


def sample(*transforms: Transform, strategy: Strategy = BY_LETTERS) -> Draw:
    """Texts one letter after another, many abreast."""

    def draw(made: "Session", first: int, count: int) -> Iterator[int]:
        for seed in range(first, first + count, ABREAST):
            n = min(ABREAST, first + count - seed)
            yield from map(_place, _run(made, seed, SamplingConfig(transforms), n=n, strategy=strategy))

    return draw


def single(strategy: Callable[[], Strategy], prompt: Sequence[int] = (END,), most: int = MOST) -> Draw:
    """Texts of a strategy that has one answer a run, as far as `MOST` letters of at most `most`."""

    def draw(made: "Session", first: int, count: int) -> Iterator[int]:
        how = strategy()
        for seed in range(first, first + count):
            (text,) = texts_of(made.generate(prompt, RunControl(), seed=seed, max_tokens=most, strategy=how))
            yield _place(text)

    return draw


def beams(strategy: StochasticBeam) -> Draw:
    """One of the texts that stochastic beams find at once, at a place that is drawn."""

    def draw(made: "Session", first: int, count: int) -> Iterator[int]:
        for seed in range(first, first + count):
            found = search_answers(_run(made, seed, strategy=strategy), strategy.most)
            yield _place(found[int(uniform((seed, 0), "place") * len(found))])

    return draw


def pairs(strategy: Strategy = BY_LETTERS) -> Draw:
    """The first letters of two branches of one run: the place of the pair among all, in the order of the letters."""

    def draw(made: "Session", first: int, count: int) -> Iterator[int]:
        for seed in range(first, first + count):
            one, other = _run(made, 2 * seed, n=2, max_tokens=1, strategy=strategy)
            yield (one.ids[0] - 1) * (len(LETTERS) - 1) + other.ids[0] - 1

    return draw


def power(alpha: float, proposals: int) -> Draw:
    """Texts of power sampling."""
    return single(lambda: Power(alpha, proposals))


@dataclass(frozen=True, slots=True)
class DraftedBy(Strategy):
    """Guesses of a drafter, always so many: how many would pay is a matter of time, which is in no law."""

    NAME: ClassVar[str] = "drafted"
    TITLE: ClassVar[str] = "drafted"
    ABOUT: ClassVar[str] = "always so many guesses"

    drafter: Drafter
    length: int = 2

    def steps(self, branches: "Branches", sampler: "Sampler", control: RunControl, *, limit: int) -> Steps:
        return Speculative(self.drafter, self.length).steps(branches, sampler, control, limit=limit)


def speculative(drafter: Callable[[], Drafter] = lambda: Draft(smaller())) -> Draw:
    """Texts with a draft by a smaller model; beyond the last letter, so that guesses reach all of them."""
    return single(lambda: DraftedBy(drafter()), most=MOST + 2)


def guessing() -> Draw:
    """Texts with guesses from what stands before."""
    return single(lambda: DraftedBy(PromptLookup(), 3), PROMPT, MOST + 3)


def by_rule(rule: str) -> Constraint:
    """That a text fits a rule, behind ∎."""
    return Constraint("regex", rule, 1)


def resampled(rule: str, count: int) -> Draw:
    """One of `count` texts that were masked letter by letter, drawn again by its weight."""

    def draw(made: "Session", first: int, n: int) -> Iterator[int]:
        recipe = SamplingConfig((by_rule(rule),))
        for seed in range(first, first + n):
            found = _run(made, count * seed, recipe, n=count)
            yield _place(found[drawn_again([log_weight(text.steps) for text in found], seed)])

    return draw


def surprises(prompt: Sequence[int] = (END,), most: int = MOST) -> Draw:
    """Surprisal less entropy, nats, of texts that the model draws behind a prompt, as their steps say them."""

    def draw(made: "Session", first: int, count: int) -> Iterator[float]:
        for seed in range(first, first + count, ABREAST):
            n = min(ABREAST, first + count - seed)
            for text in texts_of(made.generate(prompt, RunControl(), seed=seed, n=n, max_tokens=most)):
                yield -math.fsum((step.logprob or 0.0) + (step.entropy or 0.0) for step in text.steps)

    return draw


# -- any order ---------------------------------------------------------------------------------------------------------


class ExactDenoiser:
    """The denoiser that knows the law: log-probabilities [B, T, 7] of ids [B, T], no mass on the mask."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, ...], np.ndarray] = {}

    def row(self, ids: np.ndarray) -> np.ndarray:
        """[T, 7] of one canvas [T]."""
        key = tuple(ids.tolist())
        if key not in self._known:
            with np.errstate(divide="ignore"):
                self._known[key] = np.log(np.pad(unmasked(key), ((0, 0), (0, 1))))
        return self._known[key]

    def __call__(self, ids: np.ndarray) -> np.ndarray:
        return np.stack([self.row(canvas) for canvas in ids])


def orders(_: "Session", first: int, count: int) -> Iterator[int]:
    """Texts of masked diffusion, one letter a pass, in an order that is drawn."""
    denoise, places = ExactDenoiser(), {padded(text): place for text, place in PLACES.items()}
    for seed in range(first, first + count):
        canvas = [MASK] * MOST
        steps = fill(
            lambda ids, at: denoise.row(ids)[at].astype(np.float32), canvas, MASK,
            Unmasking(by="random"), SamplingConfig(),
            seed=seed,
        )  # fmt: skip
        for event in (event for step in steps for event in step.unmasked):
            canvas[event.token.position] = event.token.token
        yield places[tuple(canvas)]


Bounding = Callable[..., Estimate]  # `engine.diffusion.bound.bound`


def bounds(by: Bounding = bound) -> Draw:
    """How far a bound from random masks is above -log p of a word, nats: nothing in the mean, as the denoiser knows."""

    def draw(_: "Session", first: int, count: int) -> Iterator[float]:
        denoise, logprob = ExactDenoiser(), chained(WORD)
        for seed in range(first, first + count):
            yield by(denoise, WORD, MASK, draws=2 * BATCH, seed=seed).mean + logprob

    return draw


# -- figures -----------------------------------------------------------------------------------------------------------


def intervals(_: "Session", first: int, count: int) -> Iterator[tuple[float, float]]:
    """The intervals of evaluations of so many questions each."""
    for seed in range(first, first + count):
        right = np.random.default_rng(seed).random(ITEMS) < SHARE
        yield share(right.astype(float).tolist()).interval
