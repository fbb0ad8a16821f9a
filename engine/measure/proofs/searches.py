"""Searches of the listed texts: the beginnings that a beam keeps at each letter, and the mass of each answer.

By the table of `engine.proofs.enumeration`, in float64; the rules are those of `engine.decode.beam` without a length
penalty. Shares no code with it, and knows nothing of it; no mlx.
"""

from collections.abc import Callable
from dataclasses import dataclass

from likely.engine.measure.proofs.enumeration import END, LETTERS, MOST, NAMES, TEXTS, Ids, after, probabilities


@dataclass(frozen=True, slots=True)
class BeamSearch:
    """A beam over the letters: the beginnings that go on after each, the likeliest first, and the texts that ended."""

    width: int
    kept: tuple[tuple[Ids, ...], ...]
    ended: tuple[Ids, ...]
    read: int  # beginnings whose next letter was asked for

    @property
    def text(self) -> Ids:
        """The likeliest of what it has: what ended, or was still open at the last letter."""
        return max((*self.ended, *self.kept[-1]), key=chance)


def chance(begin: Ids) -> float:
    """p of a beginning: of all the texts that go on from it."""
    p = 1.0
    for at, token in enumerate(begin):
        p *= float(after(begin[:at])[token])
    return p


def beam(width: int) -> BeamSearch:
    """A beam of so many beginnings; of 1 it takes the likeliest letter each time. It looks at the 2 `width` likeliest:
    texts that end among the first `width` are kept aside, and it is over when none that is open is above the worst."""
    kept: list[tuple[Ids, ...]] = []
    ended: list[Ids] = []
    here: tuple[Ids, ...] = ((),)
    read = 0
    while here and len(kept) < MOST:
        read += len(here)
        every = [(*begin, token) for begin in here for token in range(len(LETTERS)) if after(begin)[token] > 0]
        best = sorted(every, key=chance, reverse=True)[: 2 * width]
        ended += [text for text in best[:width] if text[-1] == END]
        here = tuple(text for text in best if text[-1] != END)[:width]
        kept.append(here)
        worst = sorted(map(chance, ended), reverse=True)[:width]
        if len(worst) == width and here and chance(here[0]) <= worst[-1]:
            break
    return BeamSearch(width, tuple(kept), tuple(ended), read)


def votes(answer: Callable[[str], str]) -> dict[str, float]:
    """The mass of each answer: the sum of p over all texts that give it, the largest first."""
    masses: dict[str, float] = {}
    for name, p in zip(NAMES, probabilities(), strict=True):
        said = answer(name.rstrip(LETTERS[END]))
        masses[said] = masses.get(said, 0.0) + float(p)
    return dict(sorted(masses.items(), key=lambda item: -item[1]))


def rank(text: Ids) -> int:
    """The place of a text among all, 1 the likeliest."""
    return TEXTS.index(text) + 1
