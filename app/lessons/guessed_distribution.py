"""`GuessedDistribution`: a law over tokens that a person wrote in per cents; what was not given away is spread evenly.

Knows neither the model nor its text: which token a word is, it asks.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from likely.engine.base.errors import ParameterError

EXAMPLE = "rain 50, sun 20"
ENTRY = re.compile(r"\s*(\S+?)(?:\s*[:=]\s*|\s+)(\d+(?:[.,]\d+)?)\s*%?\s*(?:[,;]\s*|(?<=[\s%])(?=\S)|$)")
SLACK = 1e-9  # of a sum of per cents


@dataclass(frozen=True, slots=True)
class GuessedDistribution:
    """`shares` of 1 of the tokens that were named, in the order in which they were; there are `size` tokens."""

    shares: Mapping[int, float]
    size: int

    @property
    def rest(self) -> float:
        """The share of all tokens together that were not named."""
        rest = 1 - math.fsum(self.shares.values())
        return rest if rest > SLACK else 0.0

    @property
    def each(self) -> float:
        """The share of one of them."""
        others = self.size - len(self.shares)
        return self.rest / others if others else 0.0

    def p(self, token: int) -> float:
        return self.shares.get(token, self.each)

    def bits(self, token: int) -> float:
        """Surprisal of a token, infinite where it was given nothing."""
        share = self.p(token)
        return -math.log2(share) if share else math.inf


def read(text: str, token_of: Callable[[str], int | None], size: int) -> GuessedDistribution:
    """The law of a text: `rain 50, sun 20`, per cents with their sign or without; of an empty one all tokens are even.

    ParameterError for anything else, a word that is no token, one that is named twice, and more than 100 %.
    """
    shares: dict[int, float] = {}
    at, text = 0, text.strip()
    while at < len(text):
        found = ENTRY.match(text, at)
        if found is None:
            raise ParameterError(f"write words with their per cents, as in {EXAMPLE}; got {text[at:]!r}")
        token = token_of(found[1])
        if token is None:
            raise ParameterError(f"{found[1]!r} is more than one token, or none: name its beginning, or another word")
        if token in shares:
            raise ParameterError(f"{found[1]!r} is named twice: give it its per cents once")
        shares[token] = float(found[2].replace(",", ".")) / 100
        at = found.end()
    if (total := math.fsum(shares.values())) > 1 + SLACK:
        raise ParameterError(f"the per cents must add up to 100 at most, got {100 * total:g}")
    return GuessedDistribution(shares, size)
