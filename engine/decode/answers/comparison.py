"""Comparison of an answer with the right one: as texts, as words, as numbers. Plain text in."""

import unicodedata
from fractions import Fraction

from likely.engine.decode.answers.extraction import number

CLOSE = Fraction(1, 10**6)


def exact(said: str, answer: str) -> bool:
    """Equal but for white space around."""
    return said.strip() == answer.strip()


def same_words(said: str, answer: str) -> bool:
    """Equal as `normalised` has them, and not empty."""
    return normalised(said) == normalised(answer) != ""


def same_number(said: str, answer: str) -> bool:
    """Whether the number of what is said is that of the answer, to a millionth."""
    a, b = number(said), number(answer)
    return a is not None and b is not None and abs(a - b) <= CLOSE * max(Fraction(1), abs(b))


def normalised(text: str) -> str:
    """Lower case without punctuation, articles and repeated white space (SQuAD's rule, in Unicode)."""
    text = unicodedata.normalize("NFKC", text).casefold()
    text = "".join(" " if unicodedata.category(c)[0] in "PS" else c for c in text)
    return " ".join(word for word in text.split() if word not in ("a", "an", "the"))
