"""DRY, "don't repeat yourself": penalises the token that would carry on a repetition of the text so far."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from likely.engine.base.arrays import Array, Namespace
from likely.engine.sampling.transforms.arrays import Key, add
from likely.engine.sampling.transforms.parameter import Parameter
from likely.engine.sampling.transforms.transform import Edit, State, Vocabulary, within

HARDEST = 1e4  # nats: impossible in any float, and finite
GROWTH = 80  # log of the most that the base can grow to: past the hardest penalty


@dataclass(frozen=True, slots=True)
class History:
    """The text that DRY looks at, int32 [n], and what its tokens stand for."""

    ids: np.ndarray
    vocabulary: Vocabulary | None


@dataclass(frozen=True, slots=True)
class DRY(Edit):
    """Subtracts multiplier * base^(n - allowed) from a token that would extend a repeated run of n >= allowed tokens.

    Weidmann 2024 (text-generation-webui #5677), as llama.cpp's `dry`. A run does not reach across a breaker, and a
    token that holds a breaker is not penalised; n is that of the longest run which the token would extend.
    """

    multiplier: float
    base: float = 1.75
    allowed: int = 2
    window: int = 4096
    breakers: tuple[str, ...] = ("\n", ":", '"', "*")

    sync: ClassVar[bool] = True

    parameters: ClassVar = (
        Parameter("dry_multiplier", "DRY multiplier", "multiplier", 0.0, 5.0, 0.1, 0.0, 0.0,
                  "penalty for carrying on a repetition"),
        Parameter("dry_base", "DRY base", "base", 1.0, 4.0, 0.05, 1.75, None,
                  "the penalty's growth with each repeated token"),
        Parameter("dry_allowed_length", "DRY allowed", "allowed", 1, 20, 1, 2, None,
                  "repeated tokens before the penalty begins", whole=True),
        Parameter("dry_penalty_last_n", "DRY window", "window", 1, 32768, 1, 4096, None,
                  "tokens looked back over for repetitions", whole=True),
    )  # fmt: skip

    def __post_init__(self) -> None:
        within("dry-multiplier", self.multiplier, "[0, 100]")
        within("dry-base", self.base, "[1, 10]")
        within("dry-allowed-length", self.allowed, "[1, inf)", whole=True)
        within("dry-window", self.window, "[1, inf)", whole=True)

    def init(self, vocabulary: Vocabulary | None, ids: Sequence[int], xp: Namespace) -> State:
        return History(np.array(ids[-self.window :], dtype=np.int32), vocabulary)

    def update(self, state: State, token: Any, surprisal: Any, xp: Namespace) -> State:
        return History(np.append(state.ids, np.int32(int(token)))[-self.window :], state.vocabulary)

    def apply(self, logits: Array, state: State, key: Key, xp: Namespace) -> Array:
        penalties = self.penalties(state)
        if not penalties:
            return logits
        tokens = xp.array(list(penalties), dtype=xp.int32)
        return add(logits, tokens, xp.array([-value for value in penalties.values()], dtype=logits.dtype), xp)

    @property
    def reach(self) -> float:
        return self.window

    def edited_ids(self, state: State) -> np.ndarray:
        return np.array(list(self.penalties(state)), np.int64)

    def penalties(self, state: History) -> Mapping[int, float]:
        """Nats to subtract, by token."""
        return {
            token: min(HARDEST, self.multiplier * self.base ** (run - self.allowed))
            for token, run in self._runs(state).items()
            if not self._breaks(state, token)
        }

    def _runs(self, state: History) -> dict[int, int]:
        """The longest run, of at least `allowed` tokens, that each token would extend."""
        ids, size = state.ids, len(state.ids)
        reach = self.allowed + int(GROWTH / math.log(self.base)) if self.base > 1 else self.allowed
        limit = min(self._since_breaker(state), reach, size - 1)
        runs: dict[int, int] = {}
        ends = np.arange(1, size)  # the text before `end` ends as the whole text does, so far on `run` tokens
        for run in range(1, limit + 1):
            ends = ends[ends >= run]
            ends = ends[ids[ends - run] == ids[size - run]]
            if not len(ends):
                break
            if run >= self.allowed:
                runs.update(dict.fromkeys(ids[ends].tolist(), run))
        return runs

    def _since_breaker(self, state: History) -> int:
        """How many tokens stand after the last breaker, which may itself be spread over several tokens."""
        if state.vocabulary is None or not self.breakers:
            return len(state.ids)
        marks = [mark.encode() for mark in self.breakers]
        longest = max(map(len, marks))
        after = b""  # the text that begins at a token, as far as a breaker that begins in that token can reach
        lengths: list[int] = []  # of the tokens from there on
        for token in reversed(state.ids.tolist()):
            piece = state.vocabulary.piece(token)
            text = piece + after[: longest - 1]
            end = max((at + len(mark) for mark in marks if (at := text.rfind(mark)) >= 0), default=0)
            if end:
                end -= len(piece)
                while end > 0:
                    end -= lengths.pop()
                return len(lengths)
            lengths.append(len(piece))
            after = text
        return len(state.ids)

    def _breaks(self, state: History, token: int) -> bool:
        if state.vocabulary is None:
            return False
        piece = state.vocabulary.piece(token)
        return any(mark.encode() in piece for mark in self.breakers)
