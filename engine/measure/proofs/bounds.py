"""Numbers between bounds: the search for the mode, and products of packed weights. Nothing is drawn.

Each is told beside the exact number, which is known by enumeration or in float64.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.events import Event, Rated
from likely.engine.decode.loop.strategy import Strategy
from likely.engine.decode.loop.texts import texts_of
from likely.engine.decode.sampled.sample import Sample
from likely.engine.decode.searches.beam import Beam
from likely.engine.decode.searches.exact import ExactMode
from likely.engine.measure.proofs.claim import OPEN, Bound
from likely.engine.measure.proofs.enumeration import END, LETTERS, MOST
from likely.engine.sampling.trace.step import SamplingConfig
from likely.metal import mx, packed

if TYPE_CHECKING:
    from likely.engine.decode.session import Session

LOST = 1e-6  # nats of a sum of float32 logarithms
WIDTH, ROWS, GROUP, BITS = 64, 32, 32, 4
ROUNDINGS = 16  # of a term, in sums of 64 by 8 lanes and more
UNIT = 2.0**-24  # half a unit in the last place of a float32 near 1


Bounds = Callable[["Session"], Iterator[Bound]]


def mode(prompt: Sequence[int] = (END,), most: int = MOST, best: float | None = None, lost: float = LOST) -> Bounds:
    """Score and bound of each pass of the search for the likeliest text behind a prompt, and the texts of others,
    beside its log p; nats, `lost` of them to rounding. That is `best`, from a list; else the score of the last pass,
    whose text is read again at once. A search that has proven it has both bounds there."""

    def bounds(made: "Session") -> Iterator[Bound]:
        def found(strategy: Strategy, *, greedy: bool = False) -> list[Event]:
            control = RunControl(SamplingConfig(greedy=greedy))
            return list(made.generate(prompt, control, strategy=strategy, max_tokens=most))

        events = found(ExactMode())
        told = [event.figures for event in events if isinstance(event, Rated)]
        passes = list({figures["passes"]: figures for figures in told}.values())  # told again with each token
        last = passes[-1]
        truth = last["score"] if best is None else best
        for figures in passes:
            yield Bound(f"pass {figures['passes']}", figures["score"] - lost, truth, figures["bound"] + lost)
        yield Bound("proven" if last["proven"] else OPEN, truth - lost, last["score"], last["bound"] + lost)
        (text,) = texts_of(events)
        again = math.fsum(step.logprob or 0.0 for step in made.score([*prompt, *text.ids], start=len(prompt)))
        yield Bound(f"read again: {_words(made, text.ids)}", truth - lost, again, truth + lost)
        for name, events in (("beam 2", found(Beam(2, 0.0))), ("greedy", found(Sample(), greedy=True))):
            text = max(texts_of(events), key=lambda text: text.logprob)
            yield Bound(f"{name}: {_words(made, text.ids)}", -math.inf, text.logprob, last["bound"] + lost)

    return bounds


def _words(made: "Session", ids: Sequence[int]) -> str:
    return b"".join(map(made.tokenizer.piece, ids)).decode(errors="replace")


def precision(_: "Session", seed: int = 0) -> Iterator[Bound]:
    """The worst error of a product of 4-bit weights behind each letter, between what rounding allows: a sum is within
    as many units of all its terms' absolute values as roundings any of them goes through (Higham 2002, sec. 4.2; blocks
    are summed side by side), and activations are kept to a unit of the largest of their group."""
    random = np.random.default_rng(seed)
    hidden = random.normal(size=(len(LETTERS), WIDTH)).astype(np.float32)
    weights = mx.array(random.normal(size=(ROWS, WIDTH)).astype(np.float32))
    codes, scales, offsets = mx.quantize(weights, group_size=GROUP, bits=BITS)
    if packed.available():
        matrix = packed.PackedMatrix(f"AFFINE{BITS}", ROWS, WIDTH, group=GROUP)
        matrix.fill_affine(np.array(codes), np.array(scales), np.array(offsets))
        products = matrix.product(hidden)
    else:
        products = np.array(mx.quantized_matmul(mx.array(hidden), codes, scales, offsets, True, GROUP, BITS))
    words = np.array(codes)[..., None] >> np.arange(0, 32, BITS, dtype=np.uint32) & (2**BITS - 1)
    steps, shifts = (np.repeat(np.array(part, np.float64), GROUP, axis=1) for part in (scales, offsets))
    parts = steps * words.reshape(ROWS, WIDTH)
    errors = products - hidden.astype(np.float64) @ (parts + shifts).T
    largest = np.abs(hidden).reshape(len(LETTERS), -1, GROUP).max(axis=2).repeat(GROUP, axis=1)
    terms = np.abs(hidden) @ (np.abs(parts) + np.abs(shifts)).T
    allowed = UNIT * (ROUNDINGS * terms + largest @ np.abs(parts + shifts).T)
    for letter, error, most in zip(LETTERS, errors, allowed, strict=True):
        worst = int(np.argmax(np.abs(error) / most))
        yield Bound(letter, -float(most[worst]), float(error[worst]), float(most[worst]))
