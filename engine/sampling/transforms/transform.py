"""`Transform`: one change of the logits [V] before the draw. Knows nothing of models, recipes or sessions."""

import math
from collections.abc import Collection, Sequence
from typing import Any, ClassVar, Protocol

import numpy as np

from likely.engine.base.arrays import Array, Namespace
from likely.engine.base.errors import ParameterError
from likely.engine.sampling.transforms.arrays import Key
from likely.engine.sampling.transforms.intervals import Decision, Intervals
from likely.engine.sampling.transforms.parameter import Parameter

State = Any  # immutable; whatever a transform's `init` returned


class Vocabulary(Protocol):
    """The tokenizer as transforms need it."""

    @property
    def eos(self) -> Collection[int]:
        """The ids that end a text."""
        ...

    def encode(self, text: str, /) -> Sequence[int]:
        """The ids that spell a text."""
        ...

    def piece(self, token: int, /) -> bytes:
        """The bytes that a token stands for."""
        ...


class Transform:
    """A frozen dataclass of parameters, checked when it is made; run in the order listed, left out = off.

    The state is immutable and is passed in and out, so forks share it. `update` may be given a token and a surprisal
    that are lazy mlx arrays; a transform that must see the token on the host says `sync`, and the engine then waits for
    each token before it queues the next step. `surprisal` says that `update` reads that argument.
    """

    __slots__ = ()

    sync: ClassVar[bool] = False
    surprisal: ClassVar[bool] = False
    parameters: ClassVar[tuple[Parameter, ...]] = ()  # what a person sets of it; the first that can be off switches it

    def init(self, vocabulary: Vocabulary | None, ids: Sequence[int], xp: Namespace) -> State:
        """The state after a text: `ids`, oldest first, prompt included."""
        return None

    def apply(self, logits: Array, state: State, key: Key, xp: Namespace) -> Array:
        """The logits after it, [V]; the argument is left as it was."""
        raise NotImplementedError

    def update(self, state: State, token: Any, surprisal: Any, xp: Namespace) -> State:
        """The state after one more token, whose surprisal (nats) is that of the distribution it was drawn from."""
        return state

    @property
    def reach(self) -> float:
        """How many of the last tokens the state depends on: none without an `update`, all where it does not say."""
        return 0 if type(self).update is Transform.update else math.inf

    def edited_ids(self, state: State) -> np.ndarray:
        """int [n]: the ids whose logits it changes one by one, also repeated; a snapshot keeps them."""
        return np.empty(0, np.int64)

    def bounds(self, known: Intervals, state: State, key: Key) -> None:
        """Do to logits that are known as intervals what `apply` does to logits: what a replay runs.

        Raises ParameterError, with its name, for a transform that does not say how.
        """
        raise _boundless(self)


class Edit(Transform):
    """A transform that moves the logits of single tokens, each by itself: by how much depends on that logit alone."""

    __slots__ = ()

    def bounds(self, known: Intervals, state: State, key: Key) -> None:
        known.change(lambda logits: np.asarray(self.apply(logits, state, key, np)), self.edited_ids(state))


class Truncation(Transform):
    """A transform that removes tokens and leaves the logits of the others alone.

    One that is `hard` also binds a greedy draw, which the others cannot change: the most likely token always stays.
    """

    __slots__ = ()

    hard: ClassVar[bool] = False

    def keep(self, logits: Array, state: State, key: Key, xp: Namespace) -> Array | None:
        """bool [V]: which tokens stay, at least one of them possible; None when all do."""
        raise NotImplementedError

    def apply(self, logits: Array, state: State, key: Key, xp: Namespace) -> Array:
        mask = self.keep(logits, state, key, xp)
        return logits if mask is None else xp.where(mask, logits, -math.inf)

    def decide(self, known: Intervals, state: State, key: Key) -> Decision:
        """Items of intervals that surely stay, and those that surely go: `keep` where not all is known."""
        raise _boundless(self)

    def bounds(self, known: Intervals, state: State, key: Key) -> None:
        known.keep(*self.decide(known, state, key))


def _boundless(transform: Transform) -> ParameterError:
    name = type(transform).__name__
    return ParameterError(f"{name} cannot be replayed without the model, it has no bounds: take it out of the recipe")


def within(name: str, value: float, interval: str, *, whole: bool = False) -> None:
    """Nothing, where `value` lies in an interval such as "(0, 1]".

    Raises ParameterError that names the parameter, the interval and the value.
    """
    low, high = (float(end) for end in interval[1:-1].split(","))
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    inside = (
        number
        and (value > low or (interval[0] == "[" and value == low))
        and (value < high or (interval[-1] == "]" and value == high))
        and not (whole and value != int(value))
    )
    if not inside:
        raise ParameterError(f"{name} must be {'a whole number ' if whole else ''}in {interval}, got {value}")
