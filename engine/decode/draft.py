"""Who guesses the next tokens for `Speculative`: the text itself (`PromptLookup`) or a smaller model (`Draft`).

A guess is right or wrong; neither changes the law of what is drawn. Knows nothing of the target model.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np

from engine.decode.cursor import Cursor
from engine.decode.sample import choose
from engine.errors import ParameterError
from engine.trace.trace import Recipe
from engine.transforms import States, advance
from metal import mx

if TYPE_CHECKING:
    from engine.sources.checkpoint import Checkpoint
    from engine.tokenizer import Tokenizer

OWN = 1 << 63  # flips a bit of the seed, so that guesses and draws use different numbers


@dataclass(frozen=True, slots=True)
class Guess:
    """Tokens that may come next, and for each the logits [V] that it was drawn from; no logits: it was not drawn."""

    tokens: list[int]
    rows: list[np.ndarray] | None = None


NOTHING = Guess([])


class Drafter(Protocol):
    """Guesses; may keep what it learned of a text.

    `hope`: weights of right and wrong guesses before there are any. `free`: a guess costs so little that it is made and
    judged even where it does not pay to have the model read it.
    """

    hope: ClassVar[tuple[float, float]]
    free: ClassVar[bool]

    def guess(self, ids: Sequence[int], count: int, recipe: Recipe, states: States, seed: int) -> Guess:
        """At most `count` tokens to follow `ids`; if they are drawn, by the recipe, whose states there are `states`."""
        ...


@dataclass(slots=True)
class PromptLookup:
    """What followed the last time that the text ended in the same few tokens (prompt lookup decoding).

    The longest of the last `most` to `least` tokens that came before decides.
    """

    hope: ClassVar[tuple[float, float]] = (0.5, 1.5)
    free: ClassVar[bool] = True

    most: int = 4
    least: int = 2
    _places: dict[tuple[int, ...], int] = field(default_factory=dict)  # n-gram -> where its continuation begins
    _seen: list[int] = field(default_factory=list)

    def guess(self, ids: Sequence[int], count: int, recipe: Recipe, states: States, seed: int) -> Guess:
        if self._seen != ids[: len(self._seen)]:
            self._places.clear()
            self._seen.clear()
        for end in range(len(self._seen), len(ids)):  # all but the n-grams at the very end have a continuation
            for n in range(self.least, min(self.most, end) + 1):
                self._places[tuple(ids[end - n : end])] = end
        self._seen = list(ids)
        for n in range(min(self.most, len(ids)), self.least - 1, -1):
            place = self._places.get(tuple(ids[-n:]))
            if place is not None:
                return Guess(list(ids[place : place + count]))
        return NOTHING


class Draft:
    """A smaller model with the same tokenizer, which draws its guesses by the same recipe."""

    hope: ClassVar[tuple[float, float]] = (3.0, 1.0)
    free: ClassVar[bool] = False

    def __init__(self, checkpoint: "Checkpoint", target: "Tokenizer") -> None:
        """ParameterError where the two models' tokens mean different bytes."""
        if checkpoint.tokenizer.fingerprint != target.fingerprint:
            raise ParameterError(
                f"a draft model needs the tokenizer of the model that it drafts for, and {checkpoint.info.name} has "
                "another one: choose a smaller model of the same family"
            )
        self.model = checkpoint.model
        self._cursor = Cursor(self.model, self.model.make_cache())

    def guess(self, ids: Sequence[int], count: int, recipe: Recipe, states: States, seed: int) -> Guess:
        cursor = self._cursor
        if len(ids) + count > self.model.config.context:
            return NOTHING
        same = next((i for i, (a, b) in enumerate(zip(cursor.ids, ids, strict=False)) if a != b), len(ids))
        known = min(same, len(ids) - 1, cursor.length)
        if not cursor.reaches(known):
            known, cursor = 0, Cursor(self.model, self.model.make_cache())
            self._cursor = cursor
        cursor.rewind(known)
        for _ in cursor.read(ids[cursor.length :]):
            pass
        tokens: list[int] = []
        rows: list[np.ndarray] = []
        while True:
            drawn = choose(cursor.logits(), None, recipe, states, (seed ^ OWN, len(cursor.ids)), np)
            tokens.append(int(drawn.token))
            rows.append(np.asarray(drawn.after))
            if len(tokens) == count:
                return Guess(tokens, None if recipe.greedy else rows)
            states = advance(recipe.transforms, states, tokens[-1], drawn.after, np)
            cursor.feed(mx.array(tokens[-1:]))
            cursor.settle(tokens[-1])
