"""Sampling by masked diffusion: the masks of a canvas become tokens, some of them in each pass, in an order of choice.

Which positions are taken never depends on what is drawn there, so that one position a pass draws from the model's own
joint distribution whatever the order; several a pass draw each by its marginal, which is faster and another law.
(LLaDA's low-confidence order looks at the token that was drawn: at temperature 0 that is the same.) Knows no model.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from engine import arrays
from engine.diffusion.noise import SCHEDULES
from engine.errors import ParameterError
from engine.numerics import require_finite
from engine.options import check_ranges, option
from engine.trace.observe import observe
from engine.trace.trace import Recipe, TokenStep
from engine.transforms import Key, Vocabulary, draw, run, start, uniform

Predict = Callable[[np.ndarray, np.ndarray], np.ndarray]  # ids [T], positions [n] -> logits [n, V], float32
SEEN = 10  # candidates of a mask that stays one
ORDERS = ("confidence", "entropy", "random", "ancestral")


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
    revise: int = option(0, "passes that mask the least likely tokens of a block again and draw them anew", low=0)

    def checked(self) -> "Unmasking":
        """Itself; ParameterError for values out of range and for options that contradict each other."""
        check_ranges(self)
        clashes = (
            (self.threshold and self.steps, "threshold decides how many passes there are: leave out steps"),
            (self.threshold and self.by != "confidence", "threshold is of confidence: leave out by"),
            (self.noise != "linear" and self.by != "ancestral", "noise goes with by = ancestral"),
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
class DenoisingStep:
    """One pass of the model over the canvas, numbered from 1: which positions changed, and which masks it left."""

    step: int
    unmasked: tuple[Unmasked, ...]  # none where a revision drew every token again as it was
    open: tuple[OpenMask, ...]


@dataclass
class _Canvas:
    """Canvas in the middle of a run."""

    ids: np.ndarray  # [T]
    known: np.ndarray  # bool [T]
    confidence: dict[int, float] = field(default_factory=dict)  # log p of each token as it was drawn, in that order


def fill(
    predict: Predict,
    ids: Sequence[int],
    mask: int,
    how: Unmasking,
    recipe: Recipe,
    *,
    seed: int = 0,
    vocabulary: Vocabulary | None = None,
) -> Iterator[DenoisingStep]:
    """Tokens for the masks of a canvas, pass by pass. What is given is never rewritten, and what was drawn only by
    passes of `revise`.

    The transforms of the recipe are applied at each position, as if its token followed all that are known. Raises
    ParameterError for a transform that needs a text in its order, NotFinite for logits that are no numbers.
    """
    how.checked()
    for transform in recipe.transforms:
        if transform.sync or transform.surprisal:
            name = type(transform).__name__
            raise ParameterError(f"{name} needs tokens in the order of the text, and diffusion draws them in any")
    text = np.array(ids)
    masks = np.flatnonzero(text == mask)
    if not len(masks):
        return
    size, passes = how.plan(len(masks))
    canvas = _Canvas(text, text != mask)
    drawing = _Drawing(predict, mask, how, recipe, seed, vocabulary)
    for first in range(0, len(masks), size):
        yield from drawing.block(canvas, masks[first : first + size], passes)


@dataclass
class _Drawing:
    predict: Predict
    mask: int
    how: Unmasking
    recipe: Recipe
    seed: int
    vocabulary: Vocabulary | None
    step: int = 0

    def block(self, canvas: _Canvas, places: np.ndarray, passes: int) -> Iterator[DenoisingStep]:
        """All of one block, then its revisions."""
        passes = len(places) if self.how.threshold else passes
        for number in range(passes):
            left = places[~canvas.known[places]]
            if not len(left):
                break
            yield self.take(canvas, left, number, passes)
        for _ in range(self.how.revise):
            worst = sorted(places.tolist(), key=list(canvas.confidence).index)  # of equals the one of longest ago
            worst = sorted(worst, key=canvas.confidence.__getitem__)[: math.ceil(len(places) / passes)]
            before = {at: int(canvas.ids[at]) for at in worst}
            for at in worst:
                del canvas.confidence[at]
            canvas.ids[worst], canvas.known[worst] = self.mask, False
            taken = self.take(canvas, np.array(sorted(worst)), 0, 1).unmasked
            changed = (replace(u, before=before[u.token.position]) for u in taken)
            yield DenoisingStep(self.step, tuple(u for u in changed if u.token.token != u.before), ())

    def take(self, canvas: _Canvas, left: np.ndarray, number: int, passes: int) -> DenoisingStep:
        """Pass `number` of `passes`: the logits of the masks at `left`, and tokens for some of them."""
        self.step += 1
        raw = np.asarray(self.predict(canvas.ids, left), np.float32)
        transforms, greedy = self.recipe.transforms, self.recipe.greedy
        states = start(transforms, self.vocabulary, canvas.ids[canvas.known].tolist(), np)
        keys = [(self.seed, self.step * len(canvas.ids) + int(at)) for at in left]
        for row in raw:
            require_finite(row)
        chosen = self._chosen(raw, keys, number, passes).tolist()
        unmasked = []
        for i in chosen:
            at = int(left[i])
            row, removed_by = run(transforms, raw[i], states, keys[i], np, greedy=greedy)
            token = int(np.argmax(row)) if greedy else int(draw(row, keys[i], np))
            step = observe(raw[i], token, after=row, removed_by=removed_by, recipe=self.recipe, position=at)
            assert step.logprob is not None
            canvas.ids[at], canvas.known[at], canvas.confidence[at] = token, True, step.logprob
            unmasked.append(Unmasked(self.step, step))
        return DenoisingStep(self.step, tuple(unmasked), _open(left, raw, np.delete(np.arange(len(left)), chosen)))

    def _chosen(self, rows: np.ndarray, keys: Sequence[Key], number: int, passes: int) -> np.ndarray:
        """Indices of the masks that become tokens in this pass, ascending, by their logits [n, V]."""
        if number == passes - 1:
            return np.arange(len(rows))
        if self.how.by in ("ancestral", "random"):
            score = np.array([uniform(key, "order") for key in keys])
        elif self.how.by == "entropy":
            score = -arrays.entropy(rows, np)
        else:
            score = np.max(arrays.logprobs(rows, np), axis=-1)
        if self.how.by == "ancestral":
            masked = SCHEDULES[self.how.noise].masked
            t, s = (float(masked(np.array(1 - n / passes))) for n in (number, number + 1))
            return np.flatnonzero(score >= s / t)
        best = np.argsort(-score, kind="stable")
        if self.how.threshold:
            sure = np.flatnonzero(score > math.log(self.how.threshold))
            return sure if len(sure) else best[:1]
        return np.sort(best[: math.ceil(len(rows) / (passes - number))])


def _open(places: np.ndarray, rows: np.ndarray, those: np.ndarray) -> tuple[OpenMask, ...]:
    """Masks that a pass left, those of n `places`, by logits [n, V]."""
    if not len(those):
        return ()
    found = arrays.logprobs(rows[those], np)
    entropies = arrays.entropy(rows[those], np)
    best = np.argpartition(-found, min(SEEN, found.shape[1]) - 1, axis=1)[:, :SEEN]
    said = np.take_along_axis(found, best, 1)
    order = np.argsort(-said, axis=1, kind="stable")
    best, said = np.take_along_axis(best, order, 1).astype(np.int32), np.take_along_axis(said, order, 1)
    return tuple(
        OpenMask(int(at), float(h), ids, each)
        for at, h, ids, each in zip(places[those], entropies, best, said, strict=True)
    )
