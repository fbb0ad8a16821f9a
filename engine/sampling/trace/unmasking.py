"""Sampling by masked diffusion: the masks of a canvas become tokens, some of them in each pass, in an order of choice.

Which positions are taken never depends on what is drawn there, so that one position a pass draws from the model's own
joint distribution whatever the order; several a pass draw each by its marginal, which is faster and another law.
(LLaDA's low-confidence order looks at the token that was drawn: at temperature 0 that is the same.) Knows no model.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from likely.engine.base import arrays
from likely.engine.base.errors import ParameterError
from likely.engine.base.numerics import require_finite
from likely.engine.base.options import check_ranges, option
from likely.engine.sampling.trace.noise import SCHEDULES
from likely.engine.sampling.trace.observe import observe
from likely.engine.sampling.trace.step import SamplingConfig, TokenStep
from likely.engine.sampling.transforms import Vocabulary, draw, run, start, uniform

Predict = Callable[[np.ndarray, np.ndarray], np.ndarray]  # ids [T], positions [n] -> logits [n, V], float32
SEEN = 10  # candidates of a mask that stays one
ORDERS = ("confidence", "entropy", "random", "ancestral")
CACHES = ("none", "exact", "prefix", "dual")


@dataclass(frozen=True)
class Unmasking:
    """Options of the order in which masks become tokens."""

    steps: int = option(0, "passes of the model in all; 0: one for each mask", low=0)
    by: str = option("confidence", "which masks become tokens first", choices=ORDERS)
    block: int = option(0, "masks are filled in blocks of so many from left to right; 0: all at once", low=0)
    threshold: float = option(
        0.0, "each pass takes all masks whose best token has a larger p; 0: by steps", low=0, high=1
    )
    noise: str = option("linear", "ancestral: how many masks are left at each time", choices=tuple(SCHEDULES))
    revise: int = option(
        0,
        "passes that mask the least likely tokens of a block again and draw them anew: sharpens, even if exact",
        low=0,
        high=10_000,
    )

    remask: float = option(
        0.0,
        "tokens of a full block with less p than this, each second one masked, are drawn anew once: sharpens",
        low=0,
        high=1,
    )
    cache: str = option("none", "keys and values kept: of finished blocks; or outside of one, roughly", choices=CACHES)
    check: bool = option(False, "cache prefix or dual: measure each pass against one without")
    guidance: float = option(0.0, "away from what the model says where all that is given is masked", low=0)

    def checked(self) -> "Unmasking":
        """Itself; ParameterError for values out of range and for options that contradict each other."""
        check_ranges(self)
        clashes = (
            (self.threshold and self.steps, "threshold decides how many passes there are: leave out steps"),
            (self.threshold and self.by != "confidence", "threshold is of confidence: leave out by"),
            (self.noise != "linear" and self.by != "ancestral", "noise goes with by = ancestral"),
            (self.revise and self.remask, "revise and remask are two ways to mask tokens again: give one"),
            (
                self.cache in ("prefix", "dual") and not self.block,
                f"cache {self.cache} is made anew at each block: give --block",
            ),
            (self.check and self.cache not in ("prefix", "dual"), "check goes with cache = prefix or dual"),
        )
        for wrong, line in clashes:
            if wrong:
                raise ParameterError(line)
        return self

    def plan(self, masks: int) -> tuple[int, int]:
        """Masks of a block, and passes for each; ParameterError where they do not come out even."""
        size = self.block or masks
        if masks % size:
            raise ParameterError(f"{masks} masks are not divisible into blocks of {size}: choose another --block")
        blocks, steps = masks // size, self.steps or masks
        if steps % blocks:
            raise ParameterError(f"{steps} steps are not divisible by {blocks} blocks: choose another --steps")
        if steps > masks:
            raise ParameterError(f"each step fills a mask or more: at most {masks} steps, got {steps}")
        return size, steps // blocks

    def parts(self, masks: np.ndarray, own: int) -> list[tuple[np.ndarray, int]]:
        """Masks [n], ascending, by blocks, and how many passes each has at most. `own`: the blocks of the model.

        ParameterError where they do not come out even, and for other blocks than the model has.
        """
        if not own:
            size, passes = self.plan(len(masks))
            return [(masks[first : first + size], passes) for first in range(0, len(masks), size)]
        if self.block not in (0, own):
            raise ParameterError(f"this model fills blocks of {own} positions, got --block {self.block}: leave it out")
        blocks = np.split(masks, np.flatnonzero(np.diff(masks // own)) + 1)
        if self.steps % len(blocks):
            raise ParameterError(
                f"{self.steps} steps are not divisible by the {len(blocks)} blocks of {own} positions with a mask: "
                "choose another --steps"
            )
        if self.steps > len(masks):
            raise ParameterError(f"each step fills a mask or more: at most {len(masks)} steps, got {self.steps}")
        return [(places, min(self.steps // len(blocks) or len(places), len(places))) for places in blocks]


@dataclass(frozen=True, slots=True)
class Unmasked:
    """A position of the canvas has a token: `before` it stood another one there, or None for a mask."""

    step: int  # pass of the model, from 1
    token: TokenStep  # whose position is that of the canvas
    before: int | None = None


@dataclass(frozen=True, slots=True)
class OpenMask:
    """A mask that a pass looked at and left: what the model says there, after no transform."""

    position: int
    entropy: float  # nats
    ids: np.ndarray  # int32 [at most SEEN], the most likely first
    logprobs: np.ndarray  # float32, nats


@dataclass(frozen=True, slots=True)
class Disagreement:
    """How far a pass with an approximate cache is from one without, over the masks that it looked at."""

    masks: int
    other: int  # of them, whose best token is another
    kl: float  # KL(without || with), the sum over them, nats


@dataclass(frozen=True, slots=True)
class DenoisingStep:
    """One pass of the model over the canvas, numbered from 1: which positions changed, which masks it left, and the
    seconds of the run until then."""

    step: int
    unmasked: tuple[Unmasked, ...]  # none where tokens were drawn again as they were, or only looked at
    open: tuple[OpenMask, ...]
    disagreement: Disagreement | None = None
    elapsed_s: float = 0.0


@dataclass
class _Canvas:
    """Canvas in the middle of a run."""

    ids: np.ndarray  # [T]
    known: np.ndarray  # bool [T]
    confidence: dict[int, float] = field(default_factory=dict)  # log p of each token as it was drawn, in that order
    before: dict[int, int] = field(default_factory=dict)  # tokens that were masked again


def fill(
    predict: Predict,
    ids: Sequence[int],
    mask: int,
    how: Unmasking,
    recipe: SamplingConfig | Callable[[], SamplingConfig],
    *,
    seed: int = 0,
    vocabulary: Vocabulary | None = None,
    own: int = 0,
    begin: Callable[[np.ndarray], None] | None = None,
) -> Iterator[DenoisingStep]:
    """Tokens for the masks of a canvas, pass by pass. What is given is never rewritten, and what was drawn only by
    `revise` and `remask`. `own`: positions of a block of the model, 0 for one that sees all; `begin` is told the masks
    of each block before its first pass.

    The transforms of the recipe are applied at each position, as if its token followed all that are known. A recipe
    that may change is asked for before each pass. Raises ParameterError for a transform that needs a text in its
    order, NotFinite for logits that are no numbers.
    """
    how.checked()
    now = recipe if callable(recipe) else lambda: recipe
    unordered(now())
    text = np.array(ids)
    masks = np.flatnonzero(text == mask)
    if not len(masks):
        return
    canvas = _Canvas(text, text != mask)
    drawing = _Drawing(predict, mask, how, now, seed, vocabulary)
    for places, passes in how.parts(masks, own):
        if begin is not None:
            begin(places)
        yield from drawing.block(canvas, places, passes)


def unordered(recipe: SamplingConfig) -> SamplingConfig:
    """Itself; ParameterError for a transform that needs a text in its order."""
    for transform in recipe.transforms:
        if transform.sync or transform.surprisal:
            name = type(transform).__name__
            raise ParameterError(f"{name} needs tokens in the order of the text, and diffusion draws them in any")
    return recipe


@dataclass
class _Drawing:
    predict: Predict
    mask: int
    how: Unmasking
    now: Callable[[], SamplingConfig]
    seed: int
    vocabulary: Vocabulary | None
    step: int = 0

    def block(self, canvas: _Canvas, places: np.ndarray, passes: int) -> Iterator[DenoisingStep]:
        """All of one block, then what is masked again of it."""
        rate = math.ceil(len(places) / passes)
        yield from self.all_of(canvas, places, passes)
        for _ in range(self.how.revise):
            worst = sorted(places.tolist(), key=list(canvas.confidence).index)  # of equals the one of longest ago
            worst = sorted(worst, key=canvas.confidence.__getitem__)[:rate]
            self.mask_again(canvas, sorted(worst))
            step = self.take(canvas, np.array(sorted(worst)), 0, 1)
            yield DenoisingStep(self.step, step.unmasked, ())
        remaining = places  # each is masked again once at most
        while self.how.remask and len(remaining):
            doubted = []
            for half in (remaining[::2], remaining[1::2]) if len(places) > 1 else (remaining,):
                if len(half):
                    doubted += self.doubted(canvas, half)
                    yield DenoisingStep(self.step, (), ())
            if not doubted:
                break
            self.mask_again(canvas, sorted(doubted))
            remaining = np.setdiff1d(remaining, doubted)
            yield from self.all_of(canvas, np.array(sorted(doubted)), math.ceil(len(doubted) / rate))

    def all_of(self, canvas: _Canvas, places: np.ndarray, passes: int) -> Iterator[DenoisingStep]:
        """Tokens for these masks in so many passes, or as many as the threshold asks for."""
        passes = len(places) if self.how.threshold else passes
        for number in range(passes):
            masked_places = places[~canvas.known[places]]
            if not len(masked_places):
                break
            yield self.take(canvas, masked_places, number, passes)

    def mask_again(self, canvas: _Canvas, places: Sequence[int]) -> None:
        """Masks where these tokens stand."""
        for at in places:
            del canvas.confidence[at]
            canvas.before[at] = int(canvas.ids[at])
        canvas.ids[places], canvas.known[places] = self.mask, False

    def doubted(self, canvas: _Canvas, places: np.ndarray) -> list[int]:
        """Those of these tokens that have less p than `remask` where all of them are masked: one pass."""
        self.step += 1
        ids = canvas.ids.copy()
        ids[places] = self.mask
        raw = np.asarray(self.predict(ids, places), np.float32)
        p = np.exp(arrays.chosen(_Distributions(raw).logprobs, canvas.ids[places], np))
        return places[p < self.how.remask].tolist()  # type: ignore[no-any-return]

    def take(self, canvas: _Canvas, left: np.ndarray, number: int, passes: int) -> DenoisingStep:
        """Pass `number` of `passes`: the logits of the masks at `left`, and tokens for some of them."""
        self.step += 1
        raw = np.asarray(self.predict(canvas.ids, left), np.float32)
        probabilities = _Distributions(raw)
        recipe = unordered(self.now())
        transforms, greedy = recipe.transforms, recipe.greedy
        states = start(transforms, self.vocabulary, canvas.ids[canvas.known].tolist(), np) if transforms else ()
        first = self.step * len(canvas.ids)
        unmasked = []
        chosen = self._chosen(probabilities, first + left, number, passes)
        for i in chosen.tolist():
            at = int(left[i])
            key = self.seed, first + at
            row, removed_by = run(transforms, raw[i], states, key, np, greedy=greedy)
            token = int(np.argmax(row)) if greedy else int(draw(row, key, np))
            step = observe(raw[i], token, after=row, removed_by=removed_by, recipe=recipe, position=at)
            assert step.logprob is not None
            canvas.ids[at], canvas.known[at], canvas.confidence[at] = token, True, step.logprob
            if (before := canvas.before.pop(at, None)) != token:
                unmasked.append(Unmasked(self.step, step, before))
        return DenoisingStep(
            self.step, tuple(unmasked), probabilities.open(left, np.delete(np.arange(len(left)), chosen))
        )

    def _chosen(self, probabilities: "_Distributions", counters: np.ndarray, number: int, passes: int) -> np.ndarray:
        """Indices of the n masks that become tokens in this pass, ascending."""
        n = len(counters)
        if number == passes - 1:
            return np.arange(n)
        if self.how.by in ("ancestral", "random"):
            score = np.array([uniform((self.seed, int(counter)), "order") for counter in counters])
        else:
            score = -probabilities.entropy if self.how.by == "entropy" else probabilities.best
        if self.how.by == "ancestral":
            masked = SCHEDULES[self.how.noise]
            t, s = (float(masked(np.array(1 - n / passes))) for n in (number, number + 1))
            return np.flatnonzero(score >= s / t)
        best = np.argsort(-score, kind="stable")
        if self.how.threshold:
            sure = np.flatnonzero(score > math.log(self.how.threshold))
            return sure if len(sure) else best[:1]
        return np.sort(best[: math.ceil(n / (passes - number))])


class _Distributions:
    """Logits [n, V] of a pass as probabilities: one exponential each, for all that is asked of them.

    NotFinite for logits that are no numbers.
    """

    def __init__(self, rows: np.ndarray) -> None:
        self.rows, self.top = rows, rows.max(axis=1)
        for i in np.flatnonzero(~np.isfinite(self.top)).tolist():
            require_finite(rows[i])
        below = rows - self.top[:, None]
        mass = np.exp(below)
        total = mass.sum(axis=1)
        np.maximum(below, arrays.NEVER, out=below)  # so that what has no mass adds nothing
        self.lse = np.log(total)  # over the largest
        self.best = -self.lse  # log p of the likeliest token
        self.entropy = self.lse - np.einsum("nv,nv->n", mass, below) / total

    @property
    def logprobs(self) -> np.ndarray:
        """[n, V]"""
        logp: np.ndarray = self.rows - (self.top + self.lse)[:, None]
        return logp

    def open(self, places: np.ndarray, those: np.ndarray) -> tuple[OpenMask, ...]:
        """Masks that a pass left, those of n `places`."""
        if not len(those):
            return ()
        rows = self.rows[those]
        ids = arrays.top(rows, min(SEEN, rows.shape[1]), np).astype(np.int32)
        logp = np.take_along_axis(rows, ids, 1) - (self.top + self.lse)[those, None]
        return tuple(
            OpenMask(int(at), float(h), best, logprobs)
            for at, h, best, logprobs in zip(places[those], self.entropy[those], ids, logp, strict=True)
        )
