"""Looks into a model: what its `Inside` is asked about a text, as questions by which answers are kept. No mlx."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar

import numpy as np

from likely.engine.decode.prompt import Prompt
from likely.engine.inside.questions import (
    Ablation,
    Attribution,
    HeadScores,
    Importance,
    InspectedModel,
    LayerPass,
    Lens,
    Neighbourhood,
    Patching,
    WordMap,
    WordSpellings,
    WordSum,
)
from likely.engine.inside.why import Omission, Why

P = ParamSpec("P")
T = TypeVar("T")
Ids = Sequence[int]  # of the text; what says nothing of one may be asked with none


class Inside(Protocol):
    """The inside of a model while it reads a text. Between two pieces of a generator others have their turn."""

    def opened(self, ids: Ids) -> InspectedModel: ...
    def lens(
        self, ids: Ids, tuned: bool = False, start: int = 0, stop: int = 0, known: tuple[int, ...] = ()
    ) -> Iterator[Lens]:
        """First at the positions `start`..`stop`, then at the others, but for those that are known."""
        ...

    def pattern(self, ids: Ids, layer: int) -> np.ndarray:
        """Weights of a layer's heads, [H, N, T]: rows are the positions that are looked at."""
        ...

    def kinds(self, ids: Ids) -> HeadScores:
        """On random tokens that come twice. Says nothing of the text."""
        ...

    def rollout(self, ids: Ids) -> np.ndarray:
        """Attention through all layers, mean heads, [N, T]."""
        ...

    def word_map(self, ids: Ids, table: str) -> WordMap:
        """All tokens on the plane of the families' words, and how often relations come out, whatever the text."""
        ...

    def neighbours(self, ids: Ids, token: int, table: str) -> Neighbourhood:
        """Says nothing of the text."""
        ...

    def word_sum(self, ids: Ids, plus: tuple[int, ...], minus: tuple[int, ...], table: str) -> WordSum:
        """Says nothing of the text."""
        ...

    # of a token after a position, the favourite if none is named
    def attribution(self, ids: Ids, position: int, against: int | None, token: int | None) -> Attribution: ...
    def importance(self, ids: Ids, position: int, token: int | None) -> Importance: ...
    def ablation(self, ids: Ids, position: int, layer: int, head: int, token: int | None = None) -> Ablation: ...
    def layer(
        self, ids: Ids, position: int, layer: int, head: int, target: int | None = None, silent: bool = False
    ) -> LayerPass:
        """Of a layer taken apart there; head -1 is the one that reads most of one word."""
        ...

    def patching(self, ids: Ids, position: int, corrupted: Prompt, part: str) -> Patching: ...
    def spellings(self, ids: Ids, start: int, stop: int) -> WordSpellings:
        """Of the word that is ids `start`..`stop`."""
        ...

    def why(self, ids: Ids, target: int, foil: int | None) -> "Iterator[Why | Omission | WhyEnded | None]":
        """Why a token comes after the text rather than its foil, the favourite other token if none is named; then of
        each earlier word; then `WhyEnded`."""
        ...

    def uncertainty(self, ids: Ids, tokens: tuple[int, ...]) -> Iterator[Any]:
        """Of what follows the text, with these candidates, over samples of the posterior of an adapter: `WORKED` while
        all of them read, then `Uncertainty`."""
        ...


@dataclass(frozen=True, slots=True)
class WhyEnded:
    """The end of an answer to why: every word was left out that is to be."""


@dataclass(frozen=True, slots=True)
class InsideQuestion(Generic[T]):
    """A question to an `Inside`: a method of it by name, and what that takes besides the ids."""

    method: str
    args: tuple[Any, ...]  # values that can be keys

    @property
    def key(self) -> "InsideQuestion[T]":
        """Under which its answers are kept: of the lens of one kind all, wherever it begins."""
        return InsideQuestion(self.method, self.args[:1]) if self.method == "lens" else self


def question(method: Callable[Concatenate[Any, Ids, P], T], *args: P.args, **none: P.kwargs) -> InsideQuestion[T]:
    """The question of a method; its arguments in their order, not by name."""
    assert not none
    return InsideQuestion(method.__name__, args)
