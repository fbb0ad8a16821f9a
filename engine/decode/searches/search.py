"""`Search`: the loop of every search that holds several beginnings at once and goes a token deeper with the best.

Beams may be in groups, each sifted by itself. A text that ends is told of as a fork that is rated as `ended`, its last
token still to come: a better one may take its place until the search is over. Which children come into question, and
what orders texts, is said by those who derive from it. Knows nothing of caches; no mlx while it is loaded.
"""

from bisect import insort
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from likely.engine.base.arrays import logprobs
from likely.engine.base.errors import ParameterError
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.events import Emitted, Event, Forked, Pruned, Rated
from likely.engine.decode.loop.strategy import Steps, Strategy
from likely.engine.sampling.trace.step import TokenStep
from likely.engine.sampling.transforms import STAYS, Truncation, run
from likely.engine.sampling.transforms.pipeline import hard
from likely.engine.sampling.transforms.transform import within

if TYPE_CHECKING:
    from likely.engine.decode.loop.branches import Branches
    from likely.engine.decode.loop.sampler import Draw, Sampler


@dataclass(frozen=True, slots=True)
class SearchNode:
    """A child that a search may go to: `order` is what it is chosen by, `total` the sum of the log-probabilities that
    lead there (`NextTokens.terms`), `row` the branch that it is a child of."""

    order: float
    total: float
    row: int
    token: int


@dataclass(frozen=True, slots=True)
class Text:
    """A text that ended; `step` is its last token, None where that has been told."""

    node: SearchNode
    number: int
    score: float
    step: TokenStep | None


@dataclass(slots=True)
class Group:
    """Beams that are searched by themselves."""

    beams: int
    nodes: list[SearchNode] = field(default_factory=lambda: [SearchNode(0.0, 0.0, 0, -1)])  # beginnings, the best first
    ended: list[Text] = field(default_factory=list)  # the best first
    beyond: float = -np.inf  # the largest `order` of what was given up


@dataclass(frozen=True, slots=True)
class NextTokens:
    """The next token's logits [B, V] in each branch, before and after the transforms, as sampling has them.

    `summed`: as Hugging Face's beam search has them instead. Transforms act on log-probabilities there, and a score
    adds up the results, which are not normalized.
    """

    sampler: "Sampler"
    before: np.ndarray
    after: np.ndarray | list[np.ndarray]
    removed_by: list[np.ndarray]
    keys: list[tuple[int, int]]
    summed: bool = False
    own: np.ndarray | None = None  # the model's own logits [B, V], where these are a combination

    @classmethod
    def at(cls, branches: "Branches", sampler: "Sampler", *, summed: bool = False) -> "NextTokens":
        """The next token's distributions after what the branches have read."""
        own = branches.own_logits()
        return cls.of(branches.logits(), sampler, branches.numbers, branches.length, summed=summed, own=own)

    @classmethod
    def of(
        cls,
        logits: Any,
        sampler: "Sampler",
        numbers: Sequence[int],
        position: int,
        *,
        summed: bool = False,
        own: Any = None,
    ) -> "NextTokens":
        """From raw logits [B, V] of the tokens at a position, of branches with these numbers."""
        from likely.metal import mx

        before = np.asarray(logits.astype(mx.float32))
        before = logprobs(before, np) if summed else before
        own = None if own is None else np.asarray(own.astype(mx.float32))
        keys = [(sampler.seed + number, position) for number in numbers]
        transforms = sampler.recipe.transforms
        if not transforms:
            stays = [np.full(before.shape[-1], STAYS, np.int8)] * len(before)
            return cls(sampler, before, before, stays, keys, summed, own)
        transformed = [run(transforms, *row, np) for row in zip(before, sampler.states, keys, strict=True)]
        after, removed_by = ([pair[i] for pair in transformed] for i in (0, 1))
        return cls(sampler, before, after, removed_by, keys, summed, own)

    def rows(self, first: int, count: int) -> np.ndarray:
        """Logits [count, V] after the transforms, of the branches from `first` on."""
        rows = self.after[first : first + count]
        return rows if isinstance(rows, np.ndarray) else np.stack(rows)

    def terms(self, first: int, count: int) -> np.ndarray:
        """Amounts [count, V] that each next token adds to a score, of the branches from `first` on."""
        return self.rows(first, count) if self.summed else np.stack([self.law(first + i) for i in range(count)])

    def law(self, row: int) -> np.ndarray:
        """Log-probabilities float64 [V] of a branch's next token, by which whole texts are ranked: those that sampling
        draws by (`TokenStep.logprob_after`).

        Under a constraint truncations, the constraint among them, take tokens away without making the others likelier:
        a text does not gain from what was forbidden beside it."""
        by, after = self.sampler, np.asarray(self.after[row], np.float64)
        if not hard(by.recipe.transforms):
            return np.asarray(logprobs(after, np))
        moving = [i for i, t in enumerate(by.recipe.transforms) if not isinstance(t, Truncation)]
        transforms, states = ([of[i] for i in moving] for of in (by.recipe.transforms, by.states[row]))
        whole, _ = run(transforms, self.before[row], tuple(states), self.keys[row], np)
        logp: np.ndarray = np.where(after > -np.inf, logprobs(whole.astype(np.float64), np), -np.inf)
        return logp

    def draw(self, node: SearchNode, origin: str = "drawn") -> "Draw":
        """The node's token as a draw from what was seen."""
        from likely.engine.decode.loop.sampler import Draw

        row, by = node.row, self.sampler
        rows = self.before[row], self.after[row], self.removed_by[row]
        own = None if self.own is None else self.own[row]
        return Draw(node.token, *rows, by.recipe, by.states[row], self.keys[row], origin, own=own)


@dataclass(frozen=True, slots=True)
class Search(Strategy):
    """A search with `beams` beginnings."""

    SEARCHES: ClassVar[bool] = True
    SPANS: ClassVar[Mapping[str, tuple[float, float]]] = {"beams": (1, 20)}

    beams: int = 4

    def __post_init__(self) -> None:
        within("the number of beams", self.beams, "[1, 256]", whole=True)

    def next_tokens(self, branches: "Branches", sampler: "Sampler") -> NextTokens:
        """The next token's distributions, by which the search goes on."""
        return NextTokens.at(branches, searching(sampler))

    def groups(self) -> list[Group]:
        """The groups that are searched."""
        return [Group(self.beams)]

    def children(self, group: Group, next_tokens: NextTokens, ends: int, others: Counter[int]) -> list[SearchNode]:
        """The children of a group that come into question, best first, where `ends` tokens end a text; `others` counts
        the tokens that earlier groups take, ends of text left out."""
        raise NotImplementedError

    def sift(self, group: Group, nodes: Sequence[SearchNode], over: Sequence[bool]) -> list[SearchNode]:
        """Let the group go on with the best of its children that are not `over`; gives those that are texts now, of
        which, and of what had ended, the group's `room` of the best is kept."""
        raise NotImplementedError

    def room(self, group: Group) -> int:
        """How many texts the group keeps."""
        return group.beams

    def score(self, node: SearchNode, length: int) -> float:
        """The score that orders texts, where this one has `length` drawn tokens."""
        raise NotImplementedError

    def settled(self, group: Group, length: int, limit: int) -> bool:
        """Whether nothing better comes of beginnings of `length` drawn tokens, where there may be `limit`."""
        return False

    def dropped(self, group: Group, count: int) -> None:
        """So many of the group's beginnings and texts were given up by a person; others take their places."""

    def figures(self, node: SearchNode, score: float) -> dict[str, float]:
        """The figures of a beginning, by name, that its branch is rated with."""
        return {"score": score}

    def verdict(self, group: Group, text: Text) -> Mapping[str, float]:
        """The verdict told of a text at the end."""
        return self.figures(text.node, text.score)

    @property
    def most(self) -> int:
        """How many answers it gives: a stop string may end more texts than that."""
        return self.beams

    @property
    def words(self) -> str:
        return f"{self.TITLE} of {self.beams}"

    def check(self, n: int) -> None:
        if n > 1:
            raise ParameterError(f"{self.NAME} has several answers by itself: ask for the {n} best of its beams")

    def width(self, n: int) -> int:
        return self.beams

    def steps(self, branches: "Branches", sampler: "Sampler", control: RunControl, *, limit: int) -> Steps:
        groups = self.groups()
        yield from branches.part([0] * len(groups))
        sampler = sampler.on_host(branches.ids).select([0] * len(groups))
        ends: Any = () if sampler.vocabulary is None else sampler.vocabulary.eos
        forced_tokens = 0  # tokens that were forced belong to no text that is searched
        for depth in range(1, limit + 1):
            next_tokens = self.next_tokens(branches, sampler.follow(control, branches.ids))
            if control.given_up and len(kept := (yield from self._drop(groups, branches, control))) < len(branches.ids):
                if not kept:
                    break
                branches.select(kept)
                sampler = sampler.select(kept)
                next_tokens = self.next_tokens(branches, sampler.follow(control, branches.ids))
            forced, length = control.take_forced(), depth - forced_tokens
            others: Counter[int] = Counter()
            row = 0
            for group in groups:
                group.nodes = [replace(node, row=row + i) for i, node in enumerate(group.nodes)]
                row += len(group.nodes)
                if forced is not None:
                    group.nodes = [replace(node, token=forced) for node in group.nodes]
                elif group.nodes:
                    nodes = self.children(group, next_tokens, len(ends), others)
                    over = self.sift(group, nodes, [n.token in ends or depth == limit for n in nodes])
                    yield from self._end(group, over, next_tokens, branches, length)
                    if self.settled(group, length, limit - forced_tokens):
                        group.nodes = []
                    others.update(node.token for node in [*group.nodes, *over] if node.token not in ends)
            forced_tokens += forced is not None
            chosen = [node for group in groups for node in group.nodes]
            if not chosen:
                yield from map(Pruned, branches.numbers)
                break
            draws = [next_tokens.draw(node, "drawn" if forced is None else "forced") for node in chosen]
            yield from branches.part([node.row for node in chosen])
            if depth < limit:
                yield from branches.descend([node.token for node in chosen])
                branches.queue()
            steps = next_tokens.sampler.observe(draws, branches.ids)
            if depth < limit:
                branches.settle([step.token for step in steps])
            sampler = next_tokens.sampler.advance(draws)
            kept = []
            of = [(group, node) for group in groups for node in group.nodes]
            for row, ((group, node), number, step) in enumerate(zip(of, branches.numbers, steps, strict=True)):
                score = self.score(node, max(depth - forced_tokens, 1))
                yield Rated(number, self.figures(node, score))
                if (yield Emitted(number, step)):  # a stop string: nobody takes its place any more; or it is given up
                    group.nodes.remove(node)
                    if number in control.given_up:
                        self.dropped(group, 1)
                    else:
                        insort(group.ended, Text(node, number, score, None), key=_from_the_best)
                else:
                    kept.append(row)
                    if control.cancelled:  # this is where the text ends
                        yield Rated(number, self.verdict(group, Text(node, number, score, None)))
            if not kept or control.cancelled:
                break
            branches.select(kept)
            sampler = sampler.select(kept)
        yield from self._tell(groups)

    def _end(
        self, group: Group, nodes: Sequence[SearchNode], next_tokens: NextTokens, branches: "Branches", length: int
    ) -> Iterator[Event]:
        """Take in texts that have ended behind `length` drawn tokens, as far as they are among the best."""
        fresh = [Text(node, -1, self.score(node, length), None) for node in nodes]
        ranked = sorted([*group.ended, *fresh], key=_from_the_best)[: self.room(group)]
        yield from (Pruned(text.number) for text in group.ended if text not in ranked and text.step is not None)
        group.ended = []
        for text in ranked:
            if text.number < 0:
                row = text.node.row
                text = replace(text, number=branches.name(), step=next_tokens.draw(text.node).step(branches.ids[row]))
                yield Forked(branches.numbers[row], text.number)
                yield Rated(text.number, {**self.figures(text.node, text.score), "ended": True})
            group.ended.append(text)

    def _drop(
        self, groups: Sequence[Group], branches: "Branches", control: RunControl
    ) -> Generator[Event, None, list[int]]:
        """Drop beginnings that are given up, before anything comes of them, and texts; gives the rows that are left."""
        kept, rows, numbers = list[int](), iter(range(len(branches.ids))), branches.numbers
        gone = [number for number in numbers if number in control.given_up]
        for group in groups:
            own = [(node, next(rows)) for node in group.nodes]
            live = [(node, row) for node, row in own if numbers[row] not in control.given_up]
            ended = [text for text in group.ended if text.number not in control.given_up]
            gone += [text.number for text in group.ended if text not in ended and text.step is not None]
            self.dropped(group, len(own) - len(live) + len(group.ended) - len(ended))
            group.nodes, group.ended = [node for node, _ in live], ended
            kept += [row for _, row in live]
        yield from map(Pruned, gone)
        return kept

    def _tell(self, groups: Sequence[Group]) -> Steps:
        """Give the best of the texts, and drop the others."""
        ended = sorted(((group, text) for group in groups for text in group.ended), key=lambda e: _from_the_best(e[1]))
        for rank, (group, text) in enumerate(ended):
            if text.step is not None and rank >= self.most:
                yield Pruned(text.number)
                continue
            yield Rated(text.number, self.verdict(group, text))
            if text.step is not None:
                yield Emitted(text.number, text.step)


def _from_the_best(text: Text) -> float:
    return -text.score


def searching(sampler: "Sampler") -> "Sampler":
    """The sampler without its greed: a search chooses by itself."""
    return replace(sampler, recipe=replace(sampler.recipe, greedy=False)) if sampler.recipe.greedy else sampler
