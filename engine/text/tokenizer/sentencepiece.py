"""Text to ids by SentencePiece's BPE (Kudo & Richardson 2018, "SentencePiece").

Of all neighbouring pieces whose union is a token the two whose union scores best are joined, until there are none. The
scores alone decide, so a vocabulary of a quarter of a million tokens is ready in the time of building one dict, where a
merge list would first have to be derived from it. Knows nothing of control tokens in the text.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from heapq import heappop, heappush

__all__ = ["SentencePiece"]

_SPACE = "\u2581"
_NONCHARACTER = "\uffff"  # parts tokens from one another


class SentencePiece:
    """Cuts text into tokens.

    ids     each token that text may become, spelled with U+2581 for blanks -> its id
    scores  of every id
    lone    the 256 ids that stand for one byte each, or none: then `unknown` stands for what has no token
    """

    def __init__(
        self, ids: Mapping[str, int], scores: Sequence[float], lone: Sequence[int], unknown: int | None
    ) -> None:
        self.ids = ids
        self.scores = scores
        self.lone = lone
        self.unknown = unknown
        # No union reaches over two neighbours that no token has, so that text may be cut there and words be remembered.
        # That is before a blank, but for the few characters that some token has a blank behind.
        before_blank = set(re.findall(f"([^{_SPACE}{_NONCHARACTER}]){_SPACE}", _NONCHARACTER.join(ids)))
        self._words = re.compile(f"(?<=[^{_SPACE}{re.escape(''.join(sorted(before_blank)))}])(?={_SPACE})")
        self._word = lru_cache(maxsize=1 << 15)(self._merge)

    def encode(self, text: str) -> list[tuple[int, int]]:
        """(id, characters that it takes) of each token; a character of several tokens counts with its first."""
        return [token for word in self._words.split(text.replace(" ", _SPACE)) for token in self._word(word)]

    def _merge(self, word: str) -> tuple[tuple[int, int], ...]:
        # A doubly linked list of pieces: piece i spans word[i:ends[i]], and is dead when ends[i] is 0.
        n = len(word)
        ends, previous = list(range(1, n + 1)), list(range(-1, n - 1))
        queue: list[
            tuple[float, int, int]
        ] = []  # (-score, start, end) of unions that are tokens: the best first, then the leftmost
        for left in range(n - 1):
            self._offer(word, left, left + 2, queue)
        while queue:
            _, left, end = heappop(queue)
            right = ends[left]
            if right == 0 or right >= end or ends[right] != end:  # one of the two has been joined to something else
                continue
            ends[left], ends[right] = end, 0
            if end < n:
                previous[end] = left
                self._offer(word, left, ends[end], queue)
            if left:
                self._offer(word, previous[left], end, queue)
        tokens: list[tuple[int, int]] = []
        i = 0
        while i < n:
            self._emit(word[i : ends[i]], tokens)
            i = ends[i]
        return tuple(tokens)

    def _offer(self, word: str, start: int, end: int, queue: list[tuple[float, int, int]]) -> None:
        if (token := self.ids.get(word[start:end])) is not None:
            heappush(queue, (-self.scores[token], start, end))

    def _emit(self, piece: str, tokens: list[tuple[int, int]]) -> None:
        if (token := self.ids.get(piece)) is not None:
            tokens.append((token, len(piece)))
        elif self.lone:
            first, *others = [self.lone[byte] for byte in piece.encode()]
            tokens += [(first, len(piece)), *[(other, 0) for other in others]]
        elif self.unknown is not None:
            tokens.append((self.unknown, len(piece)))
