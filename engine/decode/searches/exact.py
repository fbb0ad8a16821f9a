"""The mode: the likeliest text of all, by best-first search, with a proof or a bound.

No text is likelier than its beginning; so once a text has ended that is as likely as every beginning not gone into,
nothing beats it. Often that is the empty answer, or a short one, which is why beam search with a wide beam
disappoints. Knows nothing of caches; no mlx while it is loaded.
"""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from likely.engine.base.arrays import logsumexp, top
from likely.engine.base.errors import ParameterError
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.events import Emitted, Rated
from likely.engine.decode.loop.strategy import Steps, Strategy
from likely.engine.decode.searches.search import NextTokens, SearchNode, searching
from likely.engine.decode.searches.spelling import respelled
from likely.engine.sampling.transforms.pipeline import States, hard
from likely.engine.sampling.transforms.transform import within

if TYPE_CHECKING:
    from likely.engine.decode.loop.branches import Branches
    from likely.engine.decode.loop.sampler import Sampler


@dataclass(frozen=True, slots=True)
class PartialText:
    """Drawn tokens, the log-probability that leads there, and what the transforms remember of them."""

    path: tuple[int, ...]
    total: float
    states: States


@dataclass(frozen=True, slots=True)
class Children:
    """Children of a beginning that are possible, the likeliest first: tokens [m], and log-probabilities [m] of each;
    `log_kept` is the logarithm of the mass that truncations keep."""

    of: PartialText
    tokens: np.ndarray
    logprobs: np.ndarray
    log_kept: float

    def bound(self, rank: int) -> float:
        """An upper bound for texts that go on with the child of this rank, or one that is less likely."""
        return self.of.total + float(self.logprobs[rank])


@dataclass(frozen=True, slots=True)
class ExactMode(Strategy):
    """Look for the text with the largest log p in at most `budget` passes of the model.

    p is the model's own, or what edits and temperatures make of it; a truncation or a constraint only takes texts away
    (`NextTokens.law`). It is told how likely the best one so far is (`score`), what no other exceeds (`bound`), and
    whether that proves it. A text that is found in other tokens than the tokenizer's own is looked up in those at once:
    they are mostly likelier, and a budget may end before the search is there.
    """

    NAME: ClassVar[str] = "exact"
    TITLE: ClassVar[str] = "the mode"
    ABOUT: ClassVar[str] = "the likeliest text of all, proven where it can be"
    SEARCHES: ClassVar[bool] = True
    RANKS: ClassVar[bool] = True

    budget: int = 1000

    def __post_init__(self) -> None:
        within("the budget of passes", self.budget, "[1, 1000000]", whole=True)

    @property
    def words(self) -> str:
        return f"the mode in {self.budget} passes"

    def check(self, n: int) -> None:
        if n > 1:
            raise ParameterError(f"{self.NAME} looks for the one likeliest text: ask a beam search for the {n} best")

    def best(self, n: int) -> "ExactMode":
        self.check(n)
        return self

    def steps(self, branches: "Branches", sampler: "Sampler", control: RunControl, *, limit: int) -> Steps:
        """The tokens come at the end. ParameterError for a model whose cache cannot go back."""
        root = searching(sampler.on_host(branches.ids))
        (number,) = branches.numbers
        while limit and (forced := control.take_forced()) is not None:
            draw, limit = NextTokens.at(branches, root).draw(SearchNode(0.0, 0.0, 0, forced), "forced"), limit - 1
            step, root = draw.step(branches.ids[0]), root.advance([draw])
            branches.feed([forced])
            branches.settle([forced])
            if (yield Emitted(number, step)):
                return
        start, vocabulary = branches.length, root.vocabulary
        ends: Any = () if vocabulary is None else vocabulary.eos
        best, text = -math.inf, ()  # type: tuple[float, tuple[int, ...]]
        opened: list[tuple[float, int, Children, int]] = []  # the likeliest child of each that was not gone into
        here, order, figures = PartialText((), 0.0, root.states[0]), count(), {}

        def opening(of: PartialText) -> Children:
            """The children of a beginning, at the price of a pass."""
            go(branches, start, of.path)
            row = NextTokens.at(branches, replace(root, states=(of.states,))).law(0)
            tokens = top(row, min(self.budget, len(row)), np)
            tokens = np.union1d(tokens, list(ends)) if ends else tokens
            tokens = tokens[row[tokens] > -np.inf]
            tokens = tokens[np.argsort(-row[tokens], kind="stable")]
            return Children(of, tokens, row[tokens], float(logsumexp(row, np)))

        def child(of: Children, rank: int) -> PartialText:
            token, logprob = int(of.tokens[rank]), float(of.logprobs[rank])
            states = (
                t.update(s, token, of.log_kept - logprob, np)
                for t, s in zip(root.recipe.transforms, of.of.states, strict=True)
            )
            return PartialText((*of.of.path, token), of.of.total + logprob, tuple(states))

        passes, constrained = 0, hard(root.recipe.transforms)
        while limit and passes < self.budget:
            children, passes = opening(here), passes + 1
            spelled: tuple[int, ...] | None = None
            for rank, token in enumerate(children.tokens.tolist()):
                over = token in ends or (rank == 0 and len(here.path) + 1 == limit)
                if over and children.bound(rank) > best:
                    best, text = children.bound(rank), (*here.path, token)
                    spelled = None if vocabulary is None else respelled(vocabulary, text)
            if spelled is not None and len(spelled) <= limit:
                at: PartialText | None = PartialText((), 0.0, root.states[0])
                while at is not None and at.total > best and passes < self.budget:
                    own, passes = opening(at), passes + 1
                    ranks = np.flatnonzero(own.tokens == spelled[len(at.path)]).tolist()
                    at = child(own, ranks[0]) if ranks else None
                    if at is not None and at.total > best and at.path == spelled:
                        best, text, at = at.total, spelled, None
            entry = None
            if len(children.tokens):
                entry = (-children.bound(0), next(order), children, 0)
                heapq.heappush(opened, entry)
            bound = max(best, -opened[0][0] if opened else -math.inf)
            figures = {"score": best, "bound": bound, "proven": best >= bound, "passes": passes}
            yield Rated(number, figures)
            if best >= bound or control.cancelled:
                break
            if constrained and best == -math.inf and entry is not None and 2 * passes < self.budget:
                opened.remove(entry)  # first of all down to some text that is allowed
                heapq.heapify(opened)
            else:
                entry = heapq.heappop(opened)
            _, _, children, rank = entry
            if rank + 1 < len(children.tokens):
                heapq.heappush(opened, (-children.bound(rank + 1), next(order), children, rank + 1))
            here = child(children, rank)
        for i, token in enumerate(text):
            go(branches, start, text[:i])
            draw = NextTokens.at(branches, root).draw(SearchNode(0.0, 0.0, 0, token))
            root = root.advance([draw])
            yield Rated(number, figures)
            if (yield Emitted(number, draw.step(branches.ids[0]))):
                return


def go(branches: "Branches", start: int, path: Sequence[int]) -> None:
    """Stand behind the first `start` positions and `path`, reading as little again as can be."""
    now = branches.ids[0][start:]
    common = next((i for i, (a, b) in enumerate(zip(now, path, strict=False)) if a != b), min(len(now), len(path)))
    if not branches.reaches(start + common):
        raise ParameterError("this model's cache slides and cannot go back so far: search with beams, or fewer tokens")
    branches.rewind(start + common)
    if fresh := list(path[common:]):
        branches.feed([fresh])
        for token in fresh:
            branches.settle([token])
