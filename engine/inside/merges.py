"""Merges of byte-pair encoding: how a word grew from its characters to its tokens, one merge after another.

Of all neighbours the pair whose merge was learned first is joined, everywhere in the word, until no pair has a merge
(Sennrich et al., arXiv:1508.07909). Read from the tokenizer's own table. Knows only tokenizers that have such a table.
"""

import json
from collections.abc import Mapping
from functools import lru_cache
from itertools import pairwise
from typing import Any

from likely.engine.base.errors import ParameterError
from likely.engine.text.tokenizer.encoder import LibraryEncoder
from likely.engine.text.tokenizer.tokenizer import Tokenizer

Pieces = tuple[bytes, ...]


def merges(tokenizer: Tokenizer, text: str) -> list[Pieces]:
    """The pieces of a text before the first merge and after each; the last are its tokens.

    ParameterError for a tokenizer that has no table of merges, or that does not make these tokens by it alone.
    """
    encoder = tokenizer.encoder
    if not isinstance(encoder, LibraryEncoder) or (ranks := _ranks(encoder)) is None:
        raise ParameterError(
            "this tokenizer joins pieces by their scores, not by a table of merges: they are not shown"
        )
    library: Any = encoder.library
    if library.normalizer is not None:
        text = library.normalizer.normalize_str(text)
    parts = [word for word, _ in library.pre_tokenizer.pre_tokenize_str(text)] if library.pre_tokenizer else [text]
    words: list[list[str]] = [list(part) for part in parts]
    steps = [_bytes(tokenizer, library, words)]
    for index, word in enumerate(words):
        while (pair := _first(ranks, word)) is not None:
            words[index] = word = _joined(word, pair)
            steps.append(_bytes(tokenizer, library, words))
    ids = [library.token_to_id(piece) for word in words for piece in word]
    if ids != tokenizer.encode(text):
        raise ParameterError("this tokenizer makes these tokens by more than its table of merges: they are not shown")
    return steps


def _first(ranks: Mapping[tuple[str, str], int], word: list[str]) -> tuple[str, str] | None:
    """The pair of neighbours whose merge was learned first."""
    known = [pair for pair in pairwise(word) if pair in ranks]
    return min(known, key=ranks.__getitem__, default=None)


def _joined(word: list[str], pair: tuple[str, str]) -> list[str]:
    merged: list[str] = []
    at = 0
    while at < len(word):
        both = tuple(word[at : at + 2]) == pair
        merged.append(word[at] + word[at + 1] if both else word[at])
        at += 2 if both else 1
    return merged


def _bytes(tokenizer: Tokenizer, library: Any, words: list[list[str]]) -> Pieces:
    ids = [library.token_to_id(piece) for word in words for piece in word]
    if None in ids:
        raise ParameterError("this tokenizer has no token for a character of the text: its merges are not shown")
    return tuple(tokenizer.piece(token) for token in ids)


@lru_cache(2)
def _ranks(encoder: LibraryEncoder) -> Mapping[tuple[str, str], int] | None:
    """The order in which the merges were learned; None where the model is no byte-pair encoding."""
    model = json.loads(encoder.library.to_str())["model"]
    if model["type"] != "BPE":
        return None
    pairs = (pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"])
    return {(one, other): rank for rank, (one, other) in enumerate(pairs)}
