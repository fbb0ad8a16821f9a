"""Byte-pair encoding by the list of merges itself (Sennrich et al. 2016), for short texts: ready in the time of a dict.

The library makes tables of the same list, which reads long texts fast and takes five times as long to be ready as a
question takes to be answered for. Knows nothing of control tokens in the text.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import filterfalse, pairwise

__all__ = ["BytePairs"]

LONGEST = 64  # characters of a word: its neighbours are looked at anew after each merge


class BytePairs:
    """Joins neighbours in the order in which merges were learned.

    ids          each token, in the spelling of byte-level vocabularies -> its id
    merges       what is joined, "left right", first learned first
    words        cuts a text into words of that spelling
    whole_words  a word that is a token is that token, whatever the merges would make of it
    """

    def __init__(
        self, ids: Mapping[str, int], merges: Sequence[str], words: Callable[[str], list[str]], whole_words: bool
    ) -> None:
        """ValueError for a merge that is no pair, or that makes what is no token."""
        listed = "\n".join(merges)  # tens of thousands: looked at as one text
        made = listed.replace(" ", "").split("\n") if merges else []
        if len(made) != len(merges) or listed.count(" ") != len(merges):
            raise ValueError("a merge is of two tokens with a blank between them")
        if unknown := next(filterfalse(ids.__contains__, made), None):
            raise ValueError(f"{unknown!r} is merged and no token")
        self.ids, self._ranks = ids, dict(zip(merges, range(len(merges)), strict=True))
        self._words, self._whole_words = words, whole_words

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
        pieces, last = list(word), len(self._ranks)
        while len(pieces) > 1:
            ranks = [self._ranks.get(f"{left} {right}", last) for left, right in pairwise(pieces)]
            if (best := min(ranks)) == last:
                break
            at = ranks.index(best)
            pieces[at : at + 2] = [pieces[at] + pieces[at + 1]]
        return pieces
