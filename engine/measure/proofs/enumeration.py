"""Probabilities by enumeration: every text of the bigram over six letters, and what each law gives it.

Tokens are 0 for ∎, the end, and 1 to 5 for a, e, n, s, t; a text is at most three, the last of which alone may be ∎.
Float64, by definition, likeliest first. Shares no code with what draws, and knows nothing of it; no mlx.
"""

import re
from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise, permutations, product

import numpy as np

LETTERS = "∎aenst"
MOST = 3  # letters of a text
END = 0
TABLE = np.array(  # p(next | last): a row for each of LETTERS, that of ∎ being the beginning
    [
        [0.00, 0.18, 0.12, 0.08, 0.34, 0.28],
        [0.22, 0.02, 0.03, 0.28, 0.12, 0.33],
        [0.45, 0.16, 0.05, 0.14, 0.08, 0.12],
        [0.40, 0.10, 0.22, 0.02, 0.09, 0.17],
        [0.12, 0.27, 0.30, 0.04, 0.02, 0.25],
        [0.10, 0.12, 0.70, 0.01, 0.05, 0.02],
    ]
)
FREQUENCIES = np.array([0.22, 0.13, 0.25, 0.10, 0.12, 0.18])  # of the smaller model, which forgets even the last letter

Ids = tuple[int, ...]
NextLaw = Callable[[Ids], np.ndarray]  # probabilities [6] behind a beginning


def after(text: Sequence[int]) -> np.ndarray:
    """p(next | text) [6] of the model itself."""
    row: np.ndarray = TABLE[text[-1] if len(text) else END]
    return row


def endings(begin: Ids, law: NextLaw = after) -> dict[Ids, float]:
    """Every text that goes on from a beginning, with its probability given that."""
    if len(begin) == MOST or begin[-1:] == (END,):
        return {begin: 1.0}
    return {
        text: float(share) * p
        for token, share in enumerate(law(begin))
        if share > 0
        for text, p in endings((*begin, token), law).items()
    }


TEXTS: tuple[Ids, ...] = tuple(sorted(every := endings(()), key=lambda text: -every[text]))
PLACES = {text: place for place, text in enumerate(TEXTS)}


def spelled(text: Sequence[int]) -> str:
    """A text as it is written."""
    return "".join(LETTERS[token] for token in text)


NAMES = tuple(map(spelled, TEXTS))


def probabilities(law: NextLaw = after) -> np.ndarray:
    """p [155] of every text, where each letter is drawn by `law`."""
    ways = endings((), law)
    return np.array([ways.get(text, 0.0) for text in TEXTS])


def normalised(masses: np.ndarray) -> np.ndarray:
    """Masses [n] as shares of their sum."""
    shares: np.ndarray = masses / masses.sum()
    return shares


def tempered(temperature: float) -> NextLaw:
    """Each letter by p ** (1 / T)."""
    return lambda text: normalised(after(text) ** (1 / temperature))


def nucleus(share: float) -> NextLaw:
    """The smallest set of likeliest letters that holds a share of the mass (Holtzman et al. 2020, eq. 2)."""

    def law(text: Ids) -> np.ndarray:
        row = after(text)
        order = np.argsort(-row)
        count = 1 + int(np.searchsorted(np.cumsum(row[order]), share))
        return normalised(np.where(np.isin(np.arange(len(row)), order[:count]), row, 0.0))

    return law


def repeated(penalty: float) -> NextLaw:
    """A letter that the text has, and the ∎ before it, by p ** penalty (Keskar et al. 2019, section 4.1, for logits
    that are logarithms)."""

    def law(text: Ids) -> np.ndarray:
        row = after(text)
        seen = np.isin(np.arange(len(row)), (END, *text))
        return normalised(np.where(seen, row**penalty, row))

    return law


def entropies() -> np.ndarray:
    """H(next | last) [6] behind each of LETTERS, in nats."""
    logs = np.log(TABLE, where=TABLE > 0, out=np.zeros_like(TABLE))
    found: np.ndarray = -(TABLE * logs).sum(axis=1)
    return found


def surprises() -> np.ndarray:
    """Surprisal less entropy, summed over the letters of each text [155], nats: 0 in the mean."""
    entropy, p = entropies(), probabilities()
    told = [sum(entropy[last] for last in (END, *text[:-1])) for text in TEXTS]
    found: np.ndarray = -np.log(p) - np.array(told)
    return found


# -- several texts -----------------------------------------------------------------------------------------------------


def included(p: np.ndarray) -> np.ndarray:
    """The probability [n] of the first or the second of two texts that are drawn one after another, never twice the
    same, whichever of both by chance (Plackett and Luce): the second by all that may stand before it."""
    odds = p / (1 - p)
    both: np.ndarray = (p + p * (odds.sum() - odds)) / 2
    return both


def walked(alpha: float, proposals: int) -> np.ndarray:
    """The law [155] of a text that begins with letters sharpened by `alpha` and is proposed anew so many times, from a
    letter of it on, by Metropolis and Hastings with p ** alpha as the goal."""
    goal = probabilities() ** alpha
    sharp = tempered(1 / alpha)
    ways: dict[Ids, dict[Ids, float]] = {
        begin: endings(begin, sharp) for begin in {text[:cut] for text in TEXTS for cut in range(len(text))}
    }
    step = np.zeros((len(TEXTS), len(TEXTS)))
    for x, text in enumerate(TEXTS):
        for cut in range(len(text)):
            there = ways[text[:cut]]
            for other, share in there.items():
                y = PLACES[other]
                taken = min(1.0, goal[y] / len(other) * there[text] / (goal[x] / len(text) * share))
                step[x, y] += share * taken / len(text)
                step[x, x] += share * (1 - taken) / len(text)
    law: np.ndarray = probabilities(sharp) @ np.linalg.matrix_power(step, proposals)
    return law


# -- a rule ------------------------------------------------------------------------------------------------------------

LAST_N = "[aenst]{2}n"  # three letters, the last an n
DISTINCT = "|".join(map("".join, permutations(LETTERS[1:], MOST)))  # three, none of them twice


@cache
def fitting(rule: str) -> tuple[int, ...]:
    """Places of the texts that fit a rule, a pattern of all of their letters."""
    return tuple(i for i, name in enumerate(NAMES) if re.fullmatch(rule, name))


def conditional(rule: str) -> np.ndarray:
    """p(text | rule) [155]."""
    mask = np.isin(np.arange(len(TEXTS)), fitting(rule))
    return normalised(np.where(mask, probabilities(), 0.0))


def masked(rule: str) -> np.ndarray:
    """The law [155] of letters that are masked one by one where no text goes on with them, each row normalised."""
    begun = {TEXTS[place][:size] for place in fitting(rule) for size in range(1, MOST + 1)}

    def law(text: Ids) -> np.ndarray:
        allowed = np.array([(*text, token) in begun for token in range(len(LETTERS))])
        return normalised(np.where(allowed, after(text), 0.0)) if allowed.any() else after(text)

    return np.where(np.isin(np.arange(len(TEXTS)), fitting(rule)), probabilities(law), 0.0)


def resampled(rule: str, count: int) -> np.ndarray:
    """The law [155] of one of `count` texts drawn from `masked`, drawn again by their weights p / q: the sum over all
    that may stand beside it."""
    places, q = list(fitting(rule)), masked(rule)
    q, weights = q[places], (probabilities() / np.where(q > 0, q, 1.0))[places]
    beside: dict[int, tuple[np.ndarray, np.ndarray]] = {0: (np.zeros(1), np.ones(1))}
    for n in range(1, count):  # sums of weights of n others, with their probabilities
        sums, shares = beside[n - 1]
        beside[n] = (sums[:, None] + weights).ravel(), (shares[:, None] * q).ravel()
    sums, shares = beside[count - 1]
    law = np.zeros(len(TEXTS))
    law[places] = count * q * [(w / (w + sums) * shares).sum() for w in weights]
    return law


# -- any order ---------------------------------------------------------------------------------------------------------

MASK = len(LETTERS)
CHAIN = TABLE.copy()  # behind ∎ stand only more of them
CHAIN[END] = np.eye(len(LETTERS))[END]


def padded(text: Ids) -> Ids:
    """A text as a canvas of three: behind its end stand more of them."""
    return (*text, *(END,) * (MOST - len(text)))


def unmasked(canvas: Sequence[int]) -> np.ndarray:
    """p(x_i | all that is no mask) [T, 6] of a canvas [T] of any length, by messages from both sides."""
    seen = [np.eye(len(LETTERS))[token] if token != MASK else np.ones(len(LETTERS)) for token in canvas]
    before, behind = [TABLE[END]], [np.ones(len(LETTERS))]
    for own in seen[:-1]:
        before.append(normalised(before[-1] * own) @ CHAIN)
    for own in seen[:0:-1]:
        behind.append(CHAIN @ (behind[-1] * own))
    return np.stack([normalised(a * b * own) for a, b, own in zip(before, behind[::-1], seen, strict=True)])


def chained(text: Sequence[int]) -> float:
    """Log p of a text of any length, nats."""
    return float(np.log(TABLE[END, text[0]]) + sum(np.log(CHAIN[a, b]) for a, b in pairwise(text)))


# -- the interval machine ----------------------------------------------------------------------------------------------


def covered(share: float, n: int, z: float) -> np.ndarray:
    """The probabilities [3] that a score interval of n items of this share lies below it, holds it, lies above it: by
    all numbers of right items. One holds the share where it is within z of its own errors (Wilson 1927)."""
    counts = np.arange(n + 1)
    logs = np.array([0.0, *np.cumsum(np.log(np.arange(n, 0, -1) / np.arange(1, n + 1)))])
    p = np.exp(logs + counts * np.log(share) + (n - counts) * np.log(1 - share))
    off = (counts / n - share) / np.sqrt(share * (1 - share) / n)
    return np.array([p[off < -z].sum(), p[np.abs(off) <= z].sum(), p[off > z].sum()])


def pairs() -> tuple[tuple[str, ...], np.ndarray]:
    """Pairs of first letters of two texts that know nothing of each other: names and p [25]."""
    first = TABLE[END, 1:]
    return tuple(a + b for a, b in product(LETTERS[1:], repeat=2)), np.outer(first, first).ravel()
