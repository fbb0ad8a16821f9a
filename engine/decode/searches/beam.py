"""Beam search: the likeliest texts, and those of groups of beams that are kept apart.

The rules are those of Hugging Face's `generate` (transformers 5): which candidates there are, spare beams, the length
penalty, when it stops. Scores are not, where transforms act: a token adds its log-probability after the transforms, as
sampling and the exact mode have it; `HuggingFaceBeam` adds up what transformers does. Under a constraint another rule
differs: there a text's end may be the only token allowed and yet an
unlikely one, and would lose its place to beginnings whose unlikely tokens are still to come. So texts that end have
places of their own. Knows nothing of caches; no mlx.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from likely.engine.base.arrays import top
from likely.engine.base.errors import ParameterError
from likely.engine.decode.loop.strategy import EARLY
from likely.engine.decode.searches.search import Group, NextTokens, Search, SearchNode, searching
from likely.engine.sampling.transforms.pipeline import hard
from likely.engine.sampling.transforms.transform import within

if TYPE_CHECKING:
    from likely.engine.decode.loop.branches import Branches
    from likely.engine.decode.loop.sampler import Sampler

FREE_PENALTY = 1.0  # of a length, by default
CONSTRAINED_PENALTY = 0.0  # under a constraint: the likeliest text, as exact mode has it, and not the likeliest a token


@dataclass(frozen=True, slots=True)
class Beam(Search):
    """Keep the `beams` likeliest beginnings, and give the `answers` best of the texts that ended; all, if not said.

    A text of n drawn tokens, its end included, has the score sum log p / n ** `penalty`; log p is a token's
    `logprob_after`, or under a constraint `NextTokens.law`. `early` says when the search
    is over: "true" as soon as there are as many texts as beams, "false" when no beginning is better than the worst of
    them at the length that it has, "never" when none can become so at any length.
    """

    NAME: ClassVar[str] = "beam"
    TITLE: ClassVar[str] = "beam search"
    ABOUT: ClassVar[str] = "the likeliest texts, several at once"
    RANKS: ClassVar[bool] = True
    SPANS: ClassVar[Mapping[str, tuple[float, float]]] = {**Search.SPANS, "penalty": (0, 2)}

    penalty: float = FREE_PENALTY
    early: str = "false"
    answers: int | None = None

    def __post_init__(self) -> None:
        Search.__post_init__(self)
        if not math.isfinite(self.penalty):
            raise ParameterError(f"the length penalty must be a finite number, got {self.penalty}")
        if self.early not in EARLY:
            raise ParameterError(f"early stopping must be one of {', '.join(EARLY)}, got {self.early}")
        if self.answers is not None:
            within(f"the number of answers of {self.beams} beams", self.answers, f"[1, {self.beams}]", whole=True)

    @property
    def most(self) -> int:
        return self.beams if self.answers is None else self.answers

    def best(self, n: int) -> "Beam":
        return replace(self, answers=n)

    def children(self, group: Group, next_tokens: NextTokens, ends: int, others: Counter[int]) -> list[SearchNode]:
        """So many that, whatever ends, all beams can go on: (1 + ends) times the beams, and at least twice. Under a
        constraint the best texts that end come first, however likely."""
        count = max(2, 1 + ends) * group.beams
        rows = next_tokens.terms(group.nodes[0].row, len(group.nodes))
        ids = top(rows, min(count + len(others), rows.shape[-1]), np)
        totals = np.take_along_axis(rows, ids, axis=-1) + np.array([[node.total] for node in group.nodes])
        totals -= self.repelled(ids, others)
        flat = np.argsort(-totals, axis=None, kind="stable")[:count]
        nodes = [
            SearchNode(total, total, group.nodes[row].row, int(ids[row, column]))
            for row, column in zip(*(i.tolist() for i in np.unravel_index(flat, ids.shape)), strict=True)
            if (total := float(totals[row, column])) > -math.inf
        ]
        if not hard(next_tokens.sampler.recipe.transforms) or next_tokens.sampler.vocabulary is None:
            return nodes
        eos = next_tokens.sampler.vocabulary.eos
        over = [
            SearchNode(total, total, node.row, token)
            for node, row in zip(group.nodes, rows, strict=True)
            for token in eos
            if (total := node.total + float(row[token])) > -math.inf
        ]
        over.sort(key=lambda node: -node.order)
        return [*over[: group.beams], *(node for node in nodes if node.token not in eos)]

    def repelled(self, ids: np.ndarray, others: Counter[int]) -> Any:
        """The penalty on the log-probabilities of tokens `ids`."""
        return 0.0

    def sift(self, group: Group, nodes: Sequence[SearchNode], over: Sequence[bool]) -> list[SearchNode]:
        """A text has to be among the best `beams` candidates; the others are spare beginnings."""
        group.nodes = [node for node, ends in zip(nodes, over, strict=True) if not ends][: group.beams]
        return [node for node, ends in zip(nodes[: group.beams], over, strict=False) if ends]

    def score(self, node: SearchNode, length: int) -> float:
        return float(node.total / length**self.penalty)

    def settled(self, group: Group, length: int, limit: int) -> bool:
        if not group.nodes or len(group.ended) < group.beams:
            return False
        longest = limit if self.early == "never" and self.penalty > 0 else length
        return self.early == "true" or self.score(group.nodes[0], longest) <= group.ended[-1].score


@dataclass(frozen=True, slots=True)
class GNMT(Beam):
    """Beam search whose length penalty is ((5 + n) / 6) ** `penalty` (Wu et al., arXiv:1609.08144, equation 14)."""

    NAME: ClassVar[str] = "gnmt"
    TITLE: ClassVar[str] = "beam search, GNMT's penalty"
    ABOUT: ClassVar[str] = "the likeliest texts, their lengths weighed more mildly"

    def score(self, node: SearchNode, length: int) -> float:
        return float(node.total / ((5 + length) / 6) ** self.penalty)


@dataclass(frozen=True, slots=True)
class HuggingFaceBeam(Beam):
    """Beam search with the scores of Hugging Face's `generate`: transforms act on log-probabilities, and a score adds
    up the results, which are not normalized. With a temperature or a penalty it is not a text's log-probability."""

    NAME: ClassVar[str] = "hf-beam"
    TITLE: ClassVar[str] = "beam search, Hugging Face's scores"
    ABOUT: ClassVar[str] = "as transformers' generate, scores not normalized"

    @classmethod
    def offers(cls, models: tuple[str, ...]) -> "tuple[HuggingFaceBeam, ...]":
        """None: it is for comparisons with transformers, and is asked for by name."""
        return ()

    def next_tokens(self, branches: "Branches", sampler: "Sampler") -> NextTokens:
        return NextTokens.at(branches, searching(sampler), summed=True)

    def figures(self, node: SearchNode, score: float) -> dict[str, float]:
        return {"score": score, "normalized": False}


@dataclass(frozen=True, slots=True)
class DiverseBeam(Beam):
    """Beams in `apart` groups: a token costs `diversity` for each beam of an earlier group that takes it at that step.

    Vijayakumar et al., arXiv:1610.02424, Hamming diversity. Ends of text are free; what was paid stays in the score.
    """

    NAME: ClassVar[str] = "diverse"
    TITLE: ClassVar[str] = "diverse beams"
    ABOUT: ClassVar[str] = "likely texts, in groups that differ"
    SPANS: ClassVar[Mapping[str, tuple[float, float]]] = {**Beam.SPANS, "diversity": (0, 2)}

    apart: int = 2
    diversity: float = 0.5

    def __post_init__(self) -> None:
        Beam.__post_init__(self)
        within("the number of groups", self.apart, f"[1, {self.beams}]", whole=True)
        if self.beams % self.apart:
            raise ParameterError(
                f"{self.beams} beams cannot be parted into {self.apart} groups of one size: take a multiple"
            )
        within("the diversity", self.diversity, "[0, 1e9]")

    @classmethod
    def settings(cls) -> "list[Field[Any]]":
        beams, *others = Beam.settings.__func__(cls)  # type: ignore[attr-defined]
        return [beams, *others[-2:], *others[:-2]]

    def groups(self) -> list[Group]:
        return [Group(self.beams // self.apart) for _ in range(self.apart)]

    def repelled(self, ids: np.ndarray, others: Counter[int]) -> Any:
        return self.diversity * np.vectorize(others.__getitem__, otypes=[float])(ids)
