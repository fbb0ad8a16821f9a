"""Scores of a text, from what a model said of its tokens: sums of log-probabilities, perplexity, bits per byte.

Log-probabilities in nats; None stands for a token that has no distribution, the first of a text, and counts nowhere.
No mlx.
"""

import math
from collections.abc import Iterable

Logprobs = Iterable[float | None]
AT_MOST, BY_BOUND = "_at_most", "_by_bound"  # ends of a measure's name: of a bound, of what was decided by bounds
BOUNDED = "draw_variance"  # of a text whose nats are a bound from masks that were drawn


def stem(measure: str) -> str:
    """A measure's name without what says that it is of bounds."""
    return measure.removesuffix(AT_MOST).removesuffix(BY_BOUND)


def total(logprobs: Logprobs) -> float:
    """log p of all tokens in a row."""
    return math.fsum(value for value in logprobs if value is not None)


def surprisal(logprobs: Logprobs) -> float | None:
    """The mean negative log-probability of a token; None where none has a distribution."""
    known = [value for value in logprobs if value is not None]
    return -math.fsum(known) / len(known) if known else None


def perplexity(logprobs: Logprobs) -> float | None:
    """exp of the mean surprisal; None where no token has a distribution."""
    mean = surprisal(logprobs)
    return None if mean is None else math.exp(mean)


def bits_per_byte(logprobs: Logprobs, nbytes: int) -> float | None:
    """Surprisal in bits over the bytes of the text, which does not depend on the tokenizer; None for no bytes."""
    return -total(logprobs) / math.log(2) / nbytes if nbytes else None
