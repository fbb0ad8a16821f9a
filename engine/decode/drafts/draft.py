"""Who guesses the next tokens for `Speculative`: the text itself (`PromptLookup`) or a smaller model (`Draft`).

A guess is right or wrong; neither changes the law of what is drawn. Knows nothing of the target model.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np

from likely.engine.base.concurrency.pace import Pace
from likely.engine.decode.loop.branches import Branches
from likely.engine.decode.loop.sampler import Sampler
from likely.models.native_path.native import drawing

if TYPE_CHECKING:
    from likely.models.model import LanguageModel

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

    def reading(self, ids: Sequence[int]) -> Iterator[int]:
        """Get ready for guesses behind `ids`, in pieces: how many have been read after each."""
        ...

    def propose(self, ids: Sequence[int], count: int, sampler: Sampler) -> Guess:
        """At most `count` tokens to follow `ids`; if they are drawn, by the sampler, which stands behind `ids`."""
        ...


@dataclass(slots=True)
class PromptLookup:
    """Prompt lookup decoding: the tokens that followed the last time the text ended in the same few.

    The longest of the last `most` to `least` tokens that came before decides.
    """

    hope: ClassVar[tuple[float, float]] = (0.5, 1.5)
    free: ClassVar[bool] = True

    most: int = 4
    least: int = 2
    _continuations: dict[tuple[int, ...], int] = field(default_factory=dict)  # n-gram -> where its continuation begins
    _read_ids: list[int] = field(default_factory=list)

    def reading(self, ids: Sequence[int]) -> Iterator[int]:
        return iter(())

    def propose(self, ids: Sequence[int], count: int, sampler: Sampler) -> Guess:
        if self._read_ids != ids[: len(self._read_ids)]:
            self._continuations.clear()
            self._read_ids.clear()
        for end in range(len(self._read_ids), len(ids)):  # all but the n-grams at the very end have a continuation
            for n in range(self.least, min(self.most, end) + 1):
                self._continuations[tuple(ids[end - n : end])] = end
        self._read_ids = list(ids)
        for n in range(min(self.most, len(ids)), self.least - 1, -1):
            at = self._continuations.get(tuple(ids[-n:]))
            if at is not None:
                return Guess(list(ids[at : at + count]))
        return NOTHING


class Draft:
    """A smaller model with the same tokenizer, which draws its guesses as the other draws its tokens."""

    hope: ClassVar[tuple[float, float]] = (3.0, 1.0)
    free: ClassVar[bool] = False

    def __init__(self, model: "LanguageModel", *, paced: bool = False) -> None:
        """`paced`: a prompt is read in pieces that a turn takes."""
        self.model = drawing(model)
        self._pace = Pace() if paced else None
        self._branches = Branches(self.model, self.model.make_cache(), pace=self._pace)

    def reading(self, ids: Sequence[int]) -> Iterator[int]:
        if len(ids) > self.model.config.context:
            return
        branches = self._branches
        read = branches.ids[0]
        same = next((i for i, (a, b) in enumerate(zip(read, ids, strict=False)) if a != b), len(ids))
        known = min(same, len(ids) - 1, branches.length)
        if not branches.reaches(known):
            known, branches = 0, Branches(self.model, self.model.make_cache(), pace=self._pace)
            self._branches = branches
        branches.rewind(known)
        yield from branches.read(ids[branches.length :])

    def propose(self, ids: Sequence[int], count: int, sampler: Sampler) -> Guess:
        if len(ids) + count > self.model.config.context:
            return NOTHING
        for _ in self.reading(ids):
            pass
        branches = self._branches
        tokens: list[int] = []
        rows: list[np.ndarray] = []
        sampler = replace(sampler, seed=sampler.seed ^ OWN)
        while True:
            draws = sampler.draw(branches, kernel=False)
            tokens.append(int(draws[0].token))
            rows.append(np.asarray(draws[0].after))
            if len(tokens) == count:
                return Guess(tokens, None if sampler.recipe.greedy else rows)
            sampler = sampler.advance(draws)
            branches.feed(tokens[-1:])
            branches.settle(tokens[-1:])
