"""Summands of a sum of words, as king - man + woman is typed: the tokens that it adds and takes off.

Knows nothing of embeddings, nor of which token a word is.
"""

import re
from collections.abc import Callable

from likely.engine.base.errors import ParameterError

SUMMAND = re.compile(r"\s*([+\-−]?)\s*([^\s+\-−]+)")


def summands(text: str, token_of: Callable[[str], int | None]) -> tuple[list[int], list[int]]:
    """The tokens that a sum of words adds and takes off; `token_of` says which token a word is, None where it is none.

    ParameterError for a word that is no token, and for fewer than two.
    """
    plus: list[int] = []
    minus: list[int] = []
    for sign, word in SUMMAND.findall(text):
        token = token_of(word)
        if token is None:
            raise ParameterError(f"{word} is not one token of this model: a sum is of such words")
        (minus if sign in ("-", "−") else plus).append(token)
    if not plus or len(plus) + len(minus) < 2:
        raise ParameterError(f"a sum has two words or more, as in king - man + woman, got {text!r}")
    return plus, minus
