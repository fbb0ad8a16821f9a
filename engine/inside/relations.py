"""Relations between words as differences of embeddings, and how often the sum comes out (Mikolov et al. 2013).

king - man + woman is one sum among many, and the one that is told is the one that works: so a built-in set of fifty
pairs is asked, every pair by every other pair of its relation. The 90 sums of a relation share their pairs, so that the
interval clusters them by the pair that is asked for. Words are taken as tokens with the space before them; those that
a tokenizer cuts are left out, with their pairs. Knows nothing of how it is shown.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from likely.engine.base.statistics.estimates import share
from likely.engine.inside.embeddings import EmbeddingTable, units
from likely.engine.inside.questions import Accuracy

RELATIONS: dict[str, tuple[tuple[str, str], ...]] = {
    "France : Paris": (
        ("France", "Paris"), ("Italy", "Rome"), ("Germany", "Berlin"), ("Spain", "Madrid"), ("England", "London"),
        ("Japan", "Tokyo"), ("Russia", "Moscow"), ("Egypt", "Cairo"), ("Greece", "Athens"), ("China", "Beijing"),
    ),
    "man : woman": (
        ("man", "woman"), ("king", "queen"), ("boy", "girl"), ("father", "mother"), ("brother", "sister"),
        ("husband", "wife"), ("son", "daughter"), ("uncle", "aunt"), ("prince", "princess"), ("he", "she"),
    ),
    "cat : cats": (
        ("cat", "cats"), ("dog", "dogs"), ("house", "houses"), ("tree", "trees"), ("car", "cars"), ("book", "books"),
        ("bird", "birds"), ("river", "rivers"), ("city", "cities"), ("student", "students"),
    ),
    "go : went": (
        ("go", "went"), ("take", "took"), ("see", "saw"), ("come", "came"), ("give", "gave"), ("find", "found"),
        ("make", "made"), ("say", "said"), ("run", "ran"), ("write", "wrote"),
    ),
    "big : bigger": (
        ("big", "bigger"), ("small", "smaller"), ("large", "larger"), ("high", "higher"), ("low", "lower"),
        ("long", "longer"), ("short", "shorter"), ("strong", "stronger"), ("old", "older"), ("fast", "faster"),
    ),
}  # fmt: skip
FAMILIES = {
    "country": "France Italy Germany Spain England Japan Russia Egypt Greece China Canada Brazil India",
    "capital": "Paris Rome Berlin Madrid London Tokyo Moscow Cairo Athens Beijing Vienna",
    "people": "man woman king queen boy girl father mother brother sister husband wife prince",
    "colour": "red blue green yellow black white brown purple pink orange",
    "verb": "go went take took see saw come came give gave run ran write wrote",
    "animal": "cat dog horse cow bird fish snake lion bear mouse",
    "food": "bread wine coffee sugar cheese milk rice meat butter fruit",
}


class Encodes(Protocol):
    """A tokenizer, as far as words are asked of it."""

    def encode(self, text: str) -> list[int]: ...


def token_of(tokenizer: Encodes, word: str) -> int | None:
    """The token that a word is, with the space before it; None where it is several."""
    ids = tokenizer.encode(f" {word}")
    return ids[0] if len(ids) == 1 else None


def accuracies(table: EmbeddingTable, tokenizer: Encodes) -> list[Accuracy]:
    """Of each relation of which the vocabulary has two pairs, then of all together."""
    rows: list[Accuracy] = []
    all_kept: list[float] = []
    all_out: list[float] = []
    all_pairs: list[object] = []
    for name, words in RELATIONS.items():
        pairs = [
            (a, b)
            for a, b in ((token_of(tokenizer, a), token_of(tokenizer, b)) for a, b in words)
            if a is not None is not b
        ]
        if len(pairs) < 2:
            continue
        kept, left_out, tested = _tested(table, np.array(pairs))
        rows.append(_accuracy(name, kept, left_out, tested))
        all_kept += kept
        all_out += left_out
        all_pairs += [(name, pair) for pair in tested]
    if rows:
        rows.append(_accuracy("all", all_kept, all_out, all_pairs))
    return rows


def _accuracy(name: str, kept: Sequence[float], left_out: Sequence[float], pairs: Sequence[object]) -> Accuracy:
    by_pair = share(left_out, pairs)
    return Accuracy(name, len(kept), share(kept, pairs).mean, by_pair.mean, by_pair.interval)


def _tested(table: EmbeddingTable, pairs: np.ndarray) -> tuple[list[float], list[float], list[int]]:
    """For b_i - a_i + a_j, i != j: whether b_j is the nearest of all and of all but the inputs, and j."""
    n = len(pairs)
    i, j = (x.ravel() for x in np.meshgrid(np.arange(n), np.arange(n), indexing="ij"))
    i, j = i[i != j], j[i != j]
    inputs = np.stack([pairs[i, 1], pairs[i, 0], pairs[j, 0]])
    one, off, other = units(table.rows(inputs.ravel().tolist()) - table.mean).reshape(3, len(i), -1)
    cosines = table.cosines(one - off + other + table.mean, centred=True)
    wanted = pairs[j, 1]
    kept = cosines.argmax(axis=1) == wanted
    np.put_along_axis(cosines, inputs.T, -np.inf, axis=1)
    left_out = cosines.argmax(axis=1) == wanted
    return kept.astype(float).tolist(), left_out.astype(float).tolist(), j.tolist()


def family_tokens(tokenizer: Encodes) -> dict[str, Sequence[tuple[int, str]]]:
    """The words of each family that are a token, with their ids."""
    return {
        family: [
            (id, word) for word, id in ((word, token_of(tokenizer, word)) for word in words.split()) if id is not None
        ]
        for family, words in FAMILIES.items()
    }
