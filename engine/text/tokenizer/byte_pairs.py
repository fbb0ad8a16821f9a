"""Byte-pair encoding by the list of merges itself (Sennrich et al. 2016), for short texts: ready in the time of a dict.

The library makes tables of the same list, which reads long texts fast and takes five times as long to be ready as a
question takes to be answered for. Knows nothing of control tokens in the text.
"""

from collections.abc import Callable, Sequence
from itertools import filterfalse, pairwise

from likely.engine.text.tokenizer.vocabulary import TokenTable

__all__ = ["BytePairs"]

LONGEST = 64  # characters of a word: its neighbours are looked at anew after each merge


class BytePairs:
    """Joins neighbours in the order in which merges were learned.

    vocabulary   tokens in the spelling of byte-level vocabularies
    merges       what is joined, "left right", first learned first
    words        cuts a text into words of that spelling
    whole_words  a word that is a token is that token, whatever the merges would make of it
    """

    def __init__(
        self, vocabulary: TokenTable, merges: Sequence[str], words: Callable[[str], list[str]], whole_words: bool
    ) -> None:
        """ValueError for a merge that is no pair, or that makes what is no token."""
        listed = "\n".join(merges)  # tens of thousands: looked at as one text
        made = listed.replace(" ", "")
        if made.count("\n") != max(len(merges) - 1, 0) or listed.count(" ") != len(merges):
            raise ValueError("a merge is of two tokens with a blank between them")
        self.ids, self._merges, self._words, self._whole_words = vocabulary.ids, merges, words, whole_words
        self._first = self.ids.get(made.partition("\n")[0], 0)
        self._ranks: dict[str, int] | None = None
        if not self._numbered(vocabulary, made):
            if unknown := next(filterfalse(self.ids.__contains__, made.split("\n") if merges else ()), None):
                raise ValueError(f"{unknown!r} is merged and no token")
            self._ranks = dict(zip(merges, range(len(merges)), strict=True))

    def _numbered(self, vocabulary: TokenTable, made: str) -> bool:
        """Whether the ids of what the merges make go up as the merges do: then they say which merge it is, and a dict
        of all, which would take as long as the ids' own, is none."""
        tokens = vocabulary.tokens[self._first : self._first + len(self._merges)]
        alone = len(self.ids) == len(vocabulary) and len(tokens) == len(self._merges)
        return alone and "\n".join(filter(None, tokens)) == made

    def encode(self, text: str) -> list[int] | None:
        """The ids of a text; None where a word of it is too long for this."""
        ids: list[int] = []
        for word in self._words(text):
            if self._whole_words and word in self.ids:
                ids.append(self.ids[word])
            elif len(word) > LONGEST:
                return None
            else:
                ids += [self.ids[piece] for piece in self._joined(word) if piece in self.ids]
        return ids

    def _joined(self, word: str) -> list[str]:
        pieces, last = list(word), len(self._merges)
        while len(pieces) > 1:
            ranks = [self._rank(left, right) for left, right in pairwise(pieces)]
            if (best := min(ranks)) == last:
                break
            at = ranks.index(best)
            pieces[at : at + 2] = [pieces[at] + pieces[at + 1]]
        return pieces

    def _rank(self, left: str, right: str) -> int:
        """The place of a pair among the merges; behind all where it is none."""
        pair, last = f"{left} {right}", len(self._merges)
        if self._ranks is not None:
            return self._ranks.get(pair, last)
        at = self.ids.get(left + right, -1) - self._first
        return at if 0 <= at < last and self._merges[at] == pair else last
