"""Formula: the map of p that a screen's number belongs to, and a line of it with the present values put in.

Text becomes ids, ids a distribution p, p what is drawn from, and all of that figures: one of the four maps made every
number that is shown. Plain data; knows no view.
"""

from collections.abc import Sequence
from dataclasses import dataclass

Part = tuple[str, bool]  # words of a formula, and whether they are a present value
Inked = tuple[str, str]  # words, and the ink that they are written in

MAPS = {
    "tokenizer": "text to the ids of tokens",
    "model": "ids to p, the distribution of the next",
    "decoder": "p to q, from which is drawn, and to what was drawn",
    "metric": "texts, p and q to a figure",
}


@dataclass(frozen=True, slots=True)
class Formula:
    """`map` is one of `MAPS`; `note` says more than fits into a line."""

    map: str
    parts: Sequence[Part]
    note: str = ""

    def words(self) -> list[Inked]:
        """The line itself."""
        return [(text, "chosen" if value else "text") for text, value in self.parts]


def path(map: str, *, whole: bool) -> list[Inked]:
    """All maps in their order, the one that is meant in its ink; that one alone where there is no room for them."""
    if not whole:
        return [(map, "model")]
    names: list[Inked] = []
    for name in MAPS:
        names += [(" → ", "cut")] * bool(names) + [(name, "model" if name == map else "cut")]
    return names


def low(number: int) -> str:
    """A number as an index."""
    return str(number).translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))
