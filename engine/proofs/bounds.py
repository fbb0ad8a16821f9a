"""Numbers between bounds: the search for the mode, and products of packed weights. Nothing is drawn.

Each is told beside the exact number, which is known by enumeration or in float64.
"""

import math
from collections.abc import Iterator

import numpy as np

from likely.engine.decode.beam import Beam
from likely.engine.decode.control import RunControl
from likely.engine.decode.events import Rated
from likely.engine.decode.exact import ExactMode
from likely.engine.decode.texts import texts_of
from likely.engine.proofs.bigram import session
from likely.engine.proofs.claim import Bound
from likely.engine.proofs.enumeration import END, LETTERS, MOST, probabilities, spelled
from likely.engine.trace.step import Recipe
from likely.metal import mx, packed

LOST = 1e-6  # nats of a sum of float32 logarithms
WIDTH, ROWS, GROUP, BITS = 64, 32, 32, 4
ROUNDINGS = 16  # of a term, in sums of 64 by 8 lanes and more
UNIT = 2.0**-24  # half a unit in the last place of a float32 near 1


def mode() -> Iterator[Bound]:
    """Score and bound of each pass of the search for the likeliest text, and the texts of others, beside the largest
    log p of the list; nats. The last pass has found it: both bounds are it."""
    best = math.log(probabilities().max())
    made = session()
    events = list(made.generate([END], RunControl(), strategy=ExactMode(), max_tokens=MOST))
    passes = [event.figures for event in events if isinstance(event, Rated)]
    passes = [figures for i, figures in enumerate(passes) if i == figures["passes"] - 1]  # told again with each token
    for figures in passes:
        yield Bound(f"pass {figures['passes']}", figures["score"] - LOST, best, figures["bound"] + LOST)
    yield Bound("proven" if passes[-1]["proven"] else "open", best - LOST, passes[-1]["score"], best + LOST)
    for name, found in (
        ("beam 2", made.generate([END], RunControl(), strategy=Beam(2, 0.0), max_tokens=MOST)),
        ("greedy", made.generate([END], RunControl(Recipe(greedy=True)), max_tokens=MOST)),
    ):
        text = max(texts_of(found), key=lambda text: text.logprob)
        yield Bound(f"{name}: {spelled(text.ids)}", -math.inf, text.logprob, best + LOST)


def precision(seed: int = 0) -> Iterator[Bound]:
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
