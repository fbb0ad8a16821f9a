"""The transforms that move the logits of single tokens: penalties for what the recent text holds, and a bias.

The recent text is an array of ids, the newest last, so that with mlx the newest one may still be on its way.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from likely.engine.base.arrays import Array, Namespace
from likely.engine.base.errors import ParameterError
from likely.engine.sampling.transforms.arrays import Key, add, put
from likely.engine.sampling.transforms.parameter import Parameter
from likely.engine.sampling.transforms.transform import Edit, State, Vocabulary, within

WINDOW = 20  # tokens that mlx-lm looks back


@dataclass(frozen=True, slots=True)
class Penalty(Edit):
    """An edit of the logits of the last `window` tokens, prompt included."""

    penalty: float
    window: int = WINDOW

    def __post_init__(self) -> None:
        within("penalty window", self.window, "[1, inf)", whole=True)

    def init(self, vocabulary: Vocabulary | None, ids: Sequence[int], xp: Namespace) -> State:
        """int32 [<= window], oldest first."""
        return xp.array(list(ids[-self.window :]), dtype=xp.int32)

    def update(self, state: State, token: Any, surprisal: Any, xp: Namespace) -> State:
        newest = xp.array(token, dtype=xp.int32).reshape(1)
        return xp.concatenate([state, newest])[-self.window :]

    @property
    def reach(self) -> float:
        return self.window

    def edited_ids(self, state: State) -> np.ndarray:
        return np.asarray(state)


@dataclass(frozen=True, slots=True)
class RepetitionPenalty(Penalty):
    """Divides a positive logit by the penalty and multiplies a negative one by it. Keskar et al. 2019, section 4.1."""

    parameters: ClassVar = (
        Parameter("repetition_penalty", "repetition", "penalty", 0.5, 2.0, 0.01, 1.0, 1.0,
                  "above 1 makes recent tokens less likely"),
        Parameter("repetition_context_size", "repetition window", "window", 1, 4096, 1, 20, None,
                  "tokens that count as recent", whole=True),
    )  # fmt: skip

    def __post_init__(self) -> None:
        within("repetition penalty", self.penalty, "(0, 10]")
        Penalty.__post_init__(self)

    def apply(self, logits: Array, state: State, key: Key, xp: Namespace) -> Array:
        recent = logits[state]
        return put(logits, state, xp.where(recent < 0, recent * self.penalty, recent / self.penalty), xp)


@dataclass(frozen=True, slots=True)
class PresencePenalty(Penalty):
    """Subtracts the penalty from every token that the window holds (OpenAI's `presence_penalty`)."""

    parameters: ClassVar = (
        Parameter("presence_penalty", "presence", "penalty", -2.0, 2.0, 0.05, 0.0, 0.0,
                  "subtracted from a token that is there already"),
        Parameter("presence_context_size", "presence window", "window", 1, 4096, 1, 20, None,
                  "tokens that count as there", whole=True),
    )  # fmt: skip

    def __post_init__(self) -> None:
        within("presence penalty", self.penalty, "[-10, 10]")
        Penalty.__post_init__(self)

    def apply(self, logits: Array, state: State, key: Key, xp: Namespace) -> Array:
        return put(logits, state, logits[state] - self.penalty, xp)


@dataclass(frozen=True, slots=True)
class FrequencyPenalty(Penalty):
    """Subtracts the penalty once for each time that the window holds a token (OpenAI's `frequency_penalty`)."""

    parameters: ClassVar = (
        Parameter("frequency_penalty", "frequency", "penalty", -2.0, 2.0, 0.05, 0.0, 0.0,
                  "subtracted from a token once for each time it is there"),
        Parameter("frequency_context_size", "frequency window", "window", 1, 4096, 1, 20, None,
                  "tokens that count as there", whole=True),
    )  # fmt: skip

    def __post_init__(self) -> None:
        within("frequency penalty", self.penalty, "[-10, 10]")
        Penalty.__post_init__(self)

    def apply(self, logits: Array, state: State, key: Key, xp: Namespace) -> Array:
        return add(logits, state, xp.array(-self.penalty, dtype=logits.dtype), xp)


@dataclass(frozen=True, slots=True)
class LogitBias(Edit):
    """Adds to the logits of single tokens; -100 in effect forbids one, 100 forces it (OpenAI's `logit_bias`).

    Made from a mapping of id to bias; kept as pairs, sorted by id.
    """

    bias: Mapping[int, float] | tuple[tuple[int, float], ...]

    def __post_init__(self) -> None:
        for token, value in dict(self.bias).items():
            within("a logit bias's token id", token, "[0, inf)", whole=True)
            within(f"the logit bias of token {token}", value, "[-100, 100]")
        object.__setattr__(self, "bias", tuple(sorted(dict(self.bias).items())))

    @property
    def ids(self) -> np.ndarray:
        """The tokens, int32 [n]."""
        return np.array(list(dict(self.bias)), np.int32)

    def init(self, vocabulary: Vocabulary | None, ids: Sequence[int], xp: Namespace) -> State:
        """Tokens and biases, arrays [n]."""
        return xp.array(self.ids), xp.array(list(dict(self.bias).values()), dtype=xp.float32)

    def apply(self, logits: Array, state: State, key: Key, xp: Namespace) -> Array:
        size, last = logits.shape[-1], self.ids.max(initial=0)
        if last >= size:
            raise ParameterError(f"a logit bias's token id must be in [0, {size - 1}] for this model, got {last}")
        tokens, values = state
        return add(logits, tokens, values.astype(logits.dtype), xp)

    def edited_ids(self, state: State) -> np.ndarray:
        return self.ids
