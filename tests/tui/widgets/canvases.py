"""A canvas of a diffusion model, written by hand: what came at each of its steps, with round numbers."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from likely.app.requests import Laid
from likely.app.tui.chat.candidates import Names
from likely.app.tui.chat.denoising import LN2, Denoising
from likely.engine.trace.observe import observe
from likely.engine.trace.step import Recipe
from likely.engine.trace.unmasking import DenoisingStep, Disagreement, OpenMask, Unmasked

TOLD = "<eos> <mask> The sky looks blue red green because air scatters light far more than long ones violet"
WORDS = [*TOLD.split(), "空色", "long-winded-word"]
PIECES = tuple((("" if word.startswith("<") or word == "The" else " ") + word).encode() for word in WORDS)
NAMES = Names(PIECES)
EOS, MASK = 0, 1
FIRST = 2
ID = {word: number for number, word in enumerate(WORDS)}
LAID = Laid((ID["The"], ID["sky"], ID["The"], *[MASK] * 9, ID["light"], *[MASK] * 3), FIRST, frozenset({EOS, MASK}))
Thoughts = Mapping[int, Sequence[tuple[str, float]]]  # by position, candidates with their probabilities


def opened(thoughts: Thoughts, bits: Mapping[int, float]) -> tuple[OpenMask, ...]:
    return tuple(
        OpenMask(
            at,
            bits[at] * LN2,
            np.array([ID[word] for word, _ in said], np.int32),
            np.array([math.log(p) for _, p in said], np.float32),
        )
        for at, said in thoughts.items()
    )


def drawn(step: int, at: int, word: str, p: float, before: str = "", cut: Sequence[str] = ()) -> Unmasked:
    """A word of probability `p`, the others alike; `cut` are removed by a transform."""
    raw = np.full(len(WORDS), math.log((1 - p) / (len(WORDS) - 1)), np.float32)
    raw[ID[word]] = math.log(p)
    removed = np.array([0 if each in cut else -1 for each in WORDS], np.int8)
    after = np.where(removed >= 0, -np.inf, raw).astype(np.float32)
    found = observe(raw, ID[word], after=after, removed_by=removed, recipe=Recipe(), position=at)
    return Unmasked(step, found, before=ID[before] if before else None)


def canvas(steps: int = 5, *, planned: int = 8, checked: bool = False, laid: Laid = LAID) -> Denoising:
    """So many steps of it: the sky looks blue because air scatters light."""
    found = Denoising(laid, MASK, planned, "m")
    guess = {4: [("looks", 0.5), ("air", 0.25)], 5: [("red", 0.4), ("blue", 0.3), ("空色", 0.1)]}
    unsure = {6: [("because", 0.02)], 7: [(word, 0.2 - 0.02 * i) for i, word in enumerate(WORDS[2:11])]}
    bits = {4: 1.0, 5: 2.5, 6: 4.5, 7: 6.5, 8: 8.5, 9: 0.5, 11: 3.0}
    third = ((6, "because"), (7, "air"), (8, "scatters"), (9, "far"), (10, "more"))
    blue = drawn(4, 5, "blue", 0.8, before="red", cut=("green", "red"))
    told = [
        ([drawn(1, 3, "sky", 0.9)], {**guess, **unsure, 8: [("long-winded-word", 0.3)]}),
        ([drawn(2, 4, "looks", 0.75), drawn(2, 5, "red", 0.5)], {**unsure, 9: [("far", 0.8)]}),
        ([drawn(3, at, word, 0.6) for at, word in third], {}),
        ([blue, drawn(4, 13, "than", 0.3)], {11: unsure[7]}),
        ([drawn(5, 3, "空色", 0.8, before="sky"), drawn(5, 9, "long-winded-word", 0.4, before="far")], {}),
        ([drawn(6, 11, "than", 0.7)], {}),
        ([drawn(7, 14, "<eos>", 0.9)], {}),
        ([drawn(8, 15, "<eos>", 0.9)], {}),
    ]
    for number, (unmasked, thoughts) in enumerate(told[:steps], 1):
        off = Disagreement(4, number, 0.5) if checked and number > 1 else None
        found.add(DenoisingStep(number, tuple(unmasked), opened(thoughts, bits), off), number / 4)
    return found
