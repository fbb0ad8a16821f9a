"""Stochastic beam search: texts drawn without replacement from the law of sampling (Kool et al., arXiv:1903.06059).

Every text has its log-probability and a Gumbel noise of its own, and the texts with the largest sums are a sample
without replacement. The sum of a beginning is that of the best of its texts, so that a search finds them from the top.
Knows nothing of caches; no mlx.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from likely.engine.base.arrays import logprobs, top
from likely.engine.decode.searches.search import Group, NextTokens, Search, SearchNode, Text


@dataclass(frozen=True, slots=True)
class StochasticBeam(Search):
    """Draw `beams` different texts, all at once.

    Each has its `perturbed` log-probability, by which they are ordered, and its `inclusion`: the probability that it is
    among them, given the largest of what is not (section 4.2 there). Draws are from what the transforms leave.

    Texts that `limit` or a person's stop cuts are texts as they are: that is the law which is sampled. What a person
    drops is taken out of it, whatever follows: the others are a sample of what is left, smaller by so many.
    """

    NAME: ClassVar[str] = "stochastic"
    TITLE: ClassVar[str] = "stochastic beams"
    ABOUT: ClassVar[str] = "different texts, each drawn as by sampling"

    def children(self, group: Group, next_tokens: NextTokens, ends: int, others: Counter[int]) -> list[SearchNode]:
        first = group.nodes[0].row
        rows = logprobs(next_tokens.rows(first, len(group.nodes)).astype(np.float64), np)
        nodes: list[SearchNode] = []
        for node, row in zip(group.nodes, rows, strict=True):
            seed, position = next_tokens.keys[node.row]
            key = [next_tokens.sampler.seed, seed - next_tokens.sampler.seed]
            noise = np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, position]))
            if node.order == node.total == 0.0:  # the root: the largest noise of the whole tree
                node = SearchNode(float(noise.gumbel()), 0.0, node.row, -1)
            totals = node.total + row
            orders = below(node.order, totals + noise.gumbel(size=len(row)))
            ids = top(orders, min(self.beams + 1, len(row)), np).tolist()
            nodes += [SearchNode(float(orders[i]), float(totals[i]), node.row, i) for i in ids if orders[i] > -math.inf]
        return sorted(nodes, key=lambda node: -node.order)

    def sift(self, group: Group, nodes: Sequence[SearchNode], over: Sequence[bool]) -> list[SearchNode]:
        """The largest of all go on, or stay where they have ended."""
        held: list[tuple[float, SearchNode | None, bool]] = [(text.score, None, True) for text in group.ended]
        held += [(node.order, node, ends) for node, ends in zip(nodes, over, strict=True)]
        held.sort(key=lambda one: -one[0])
        group.beyond = max([group.beyond, *(order for order, _, _ in held[group.beams :])])
        kept = [(node, ends) for _, node, ends in held[: group.beams] if node is not None]
        group.nodes = [node for node, ends in kept if not ends]
        return [node for node, ends in kept if ends]

    def room(self, group: Group) -> int:
        return group.beams - len(group.nodes)

    def dropped(self, group: Group, count: int) -> None:
        """Nobody takes the places: who might have was thrown away before, and a threshold would hold no more."""
        group.beams -= count

    def score(self, node: SearchNode, length: int) -> float:
        return node.order

    def figures(self, node: SearchNode, score: float) -> dict[str, float]:
        return {"score": score, "perturbed": node.order}

    def verdict(self, group: Group, text: Text) -> Mapping[str, float]:
        """A text's figures and inclusion probability 1 - exp(-exp(log p - threshold)); 1 where all texts were found."""
        return self.figures(text.node, text.score) | {"inclusion": inclusion(text.node.total, group.beyond)}


def below(largest: float, sums: np.ndarray) -> np.ndarray:
    """Gumbel sums given that the largest of them is `largest`: the algorithm's appendix B.3, which loses no digits."""
    gap = sums - sums.max()
    with np.errstate(divide="ignore"):
        log1mexp = np.where(gap > -math.log(2), np.log(-np.expm1(gap)), np.log1p(-np.exp(gap)))
    v = largest - sums + log1mexp
    perturbed: np.ndarray = largest - np.maximum(v, 0) - np.log1p(np.exp(-np.abs(v)))
    return perturbed


def inclusion(logprob: float, threshold: float) -> float:
    """The probability that a text's sum of log-probability and noise exceeds the threshold."""
    return -math.expm1(-math.exp(min(logprob - threshold, 700.0)))


def expected(values: Sequence[float], logprobs: Sequence[float], inclusions: Sequence[float]) -> tuple[float, float]:
    """An unbiased estimate of the mean of a function of texts, from its values at those drawn, and its standard error.

    The sum of p / inclusion times the value; the terms are uncorrelated (Duffield, Lund and Thorup 2007), so the
    variance is estimated by the sum of their squares times 1 - inclusion.
    """
    q = np.array(inclusions)
    terms = np.array(values) * np.exp(np.array(logprobs)) / q
    return float(terms.sum()), float(np.sqrt(((1 - q) * terms**2).sum()))
