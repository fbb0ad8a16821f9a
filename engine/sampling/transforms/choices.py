"""`ChoiceMask` and `ChoiceDistribution`: an answer is one of several texts, sampled token by token as if sampled whole.

Which texts, in which tokens and how likely each is, was found before (`engine.choices`). Knows no text and no model.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from likely.engine.base.arrays import Array, Namespace
from likely.engine.base.errors import ParameterError
from likely.engine.sampling.transforms.arrays import Key, put
from likely.engine.sampling.transforms.intervals import Decision, Intervals
from likely.engine.sampling.transforms.transform import Edit, Truncation, Vocabulary, within

Texts = tuple[tuple[int, ...], ...]  # of ids, an end of text the last of each
Path = tuple[int, ...]  # ids of the answer so far


@dataclass(frozen=True, slots=True)
class ChoiceMask(Truncation):
    """Leave the tokens with which an answer goes on as one of `texts`.

    The answer begins behind `start` tokens. One that has left all of them is not bound any more.
    """

    sync: ClassVar[bool] = True
    hard: ClassVar[bool] = True

    texts: Texts
    start: int = 0

    def __post_init__(self) -> None:
        _check(self.texts)

    def init(self, vocabulary: Vocabulary | None, ids: Sequence[int], xp: Namespace) -> Path:
        return tuple(map(int, ids[self.start :]))

    def update(self, state: Path, token: Any, surprisal: Any, xp: Namespace) -> Path:
        return (*state, int(token))

    def keep(self, logits: Array, state: Path, key: Key, xp: Namespace) -> Array | None:
        ids = self.edited_ids(state)
        if not len(ids):
            return None
        _known(ids, logits.shape[-1])
        mask = np.zeros(logits.shape[-1], bool)
        mask[ids] = True
        return mask if xp is np else xp.array(mask)

    def edited_ids(self, state: Path) -> np.ndarray:
        """The tokens that are left, so that a snapshot has them all."""
        return np.array(sorted(going_on(self.texts, state)), np.int64)

    def decide(self, known: Intervals, state: Path, key: Key) -> Decision:
        stays, goes = known.all()
        ids = self.edited_ids(state)
        if not len(ids):
            return stays, goes
        allowed = np.zeros(len(stays), bool)
        allowed[: known.points] = np.isin(known.ids, ids)
        return allowed, ~allowed


@dataclass(frozen=True, slots=True)
class ChoiceDistribution(Edit):
    """Give a token the log-probability, in place of its logit, that the answer goes on with it, where it is one of
    `texts` by their `logprobs` (nats, up to a constant): the logarithm of the sum over the texts that do.

    So every answer is drawn with its own text's probability. Goes behind `ChoiceMask`, which leaves nothing else.
    """

    sync: ClassVar[bool] = True

    texts: Texts
    logprobs: tuple[float, ...]
    start: int = 0

    def __post_init__(self) -> None:
        _check(self.texts)
        if len(self.logprobs) != len(self.texts):
            raise ParameterError(f"each choice has a log-probability, got {len(self.logprobs)} of {len(self.texts)}")
        for value in self.logprobs:
            within("the log-probability of a choice", value, "(-inf, 0]")

    def init(self, vocabulary: Vocabulary | None, ids: Sequence[int], xp: Namespace) -> Path:
        return tuple(map(int, ids[self.start :]))

    def update(self, state: Path, token: Any, surprisal: Any, xp: Namespace) -> Path:
        return (*state, int(token))

    def apply(self, logits: Array, state: Path, key: Key, xp: Namespace) -> Array:
        following = going_on(self.texts, state)
        if not following:
            return logits
        _known(following, logits.shape[-1])
        sums = [float(np.logaddexp.reduce([self.logprobs[i] for i in rows])) for rows in following.values()]
        return put(logits, xp.array(list(following)), xp.array(sums, dtype=logits.dtype), xp)

    def edited_ids(self, state: Path) -> np.ndarray:
        return np.array(sorted(going_on(self.texts, state)), np.int64)

    def probability(self, tokens: Sequence[int]) -> float:
        """The probability of the choice that is these tokens; of a beginning, of all that begin so."""
        p = np.exp(np.array(self.logprobs) - np.logaddexp.reduce(self.logprobs))
        return float(sum(p[i] for i, text in enumerate(self.texts) if text[: len(tokens)] == tuple(tokens)))


def going_on(texts: Texts, path: Path) -> dict[int, list[int]]:
    """Which of `texts` go on from `path`, by their next token; where a path has ended, by its end."""
    depth, by_token = len(path), dict[int, list[int]]()
    for i, text in enumerate(texts):
        if text[:depth] == path:
            by_token.setdefault(text[min(depth, len(text) - 1)], []).append(i)
    return by_token


def _known(ids: Any, size: int) -> None:
    if (last := max(map(int, ids))) >= size:
        raise ParameterError(f"a choice's token must be below {size} for this model, got {last}")


def _check(texts: Texts) -> None:
    """ParameterError for what are no texts."""
    if not texts or not all(texts):
        raise ParameterError("choices must be one text or more, none of them empty")
    for text in texts:
        for token in text:
            within("a choice's token", token, "[0, 2147483647]", whole=True)
