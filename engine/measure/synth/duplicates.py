"""Duplicates among rows: equal ones by a hash of their words, near ones by MinHash and banding, verified by Jaccard.

A candidate shares a band of its signature with a row before it; whether they are the same is decided by the Jaccard
index of their sets of shingles itself, so banding can only miss pairs, with the probability that `match` gives
(Broder 1997; Leskovec et al., Mining of Massive Datasets, sec. 3.4). Signatures and banding are rensa's (made for
this, no dependencies, 1 ms to import). Rows of fewer words than a shingle are compared as wholes.
"""

from collections.abc import Sequence
from functools import lru_cache

from likely.engine.base.errors import DataError
from likely.engine.base.machine.installation import adding
from likely.engine.measure.evaluate.figures.contamination import words
from likely.engine.measure.synth.config import DeduplicateOptions
from likely.engine.measure.synth.row import digest

SEED = 1  # of the hash functions


def shingles(text: str, size: int) -> list[str]:
    """Runs of words; the whole of a shorter text."""
    text_words = words(text)
    return [" ".join(text_words[i : i + size]) for i in range(max(1, len(text_words) - size + 1))] if text_words else []


def jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    """|A and B| / |A or B|, 0 of nothing."""
    return len(a & b) / len(a | b) if a or b else 0.0


def duplicates(
    texts: Sequence[str], options: DeduplicateOptions, before: Sequence[str] = ()
) -> list[tuple[int, float] | None]:
    """For each text the number of the one before it that it repeats, and how similar they are; None for a new one.

    `before` come before all of them, with numbers below 0 from the last one on. Of a chain, only texts that were new
    are compared with.
    """
    every = [*before, *texts]
    equal: dict[str, int] = {}
    originals: list[tuple[int, float] | None] = []
    index = _Index(every, options) if options.near else None
    for number, text in enumerate(every):
        key = digest(text)
        same = (equal[key], 1.0) if key in equal else None
        if same is None and index is not None:
            same = index.find(number)
        if same is None:
            equal[key] = number
            if index is not None:
                index.add(number)
        originals.append(None if same is None else (same[0] - len(before), same[1]))
    return originals[len(before) :]


class _Index:
    """Signatures of the texts that are new, in bands."""

    def __init__(self, texts: Sequence[str], options: DeduplicateOptions) -> None:
        try:
            import rensa
        except ImportError:
            raise DataError(f"near duplicates need rensa: {adding('rensa')}, or set deduplicate.near = false") from None
        self.texts, self.options, self._sign = texts, options, rensa.RMinHash
        self._size = options.bands * options.per_band
        self._bands = rensa.RMinHashLSH(options.jaccard, self._size, options.bands)
        self._set = lru_cache(4096)(lambda number: frozenset(shingles(texts[number], options.shingle)))
        self._last: tuple[int, object] = (-1, None)

    def find(self, number: int) -> tuple[int, float] | None:
        """The most similar of the candidates that are similar enough."""
        own = shingles(self.texts[number], self.options.shingle)
        signature = self._sign(self._size, SEED)
        signature.update(own)
        self._last = (number, signature)
        candidates = sorted(self._bands.query(signature))
        ours = frozenset(own) if candidates else frozenset()
        scored = [(jaccard(ours, self._set(other)), -other) for other in candidates]
        best, other = max(scored, default=(0.0, 0))
        return (-other, best) if candidates and best >= self.options.jaccard else None

    def add(self, number: int) -> None:
        """A text that `find` has just looked for."""
        assert self._last[0] == number
        self._bands.insert(number, self._last[1])
