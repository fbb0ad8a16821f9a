"""Ambiguity of a text's tokens: how much likelier it is by all its tokenisations than by the tokenizer's own, sampled.

A text's probability is the sum over all sequences of tokens that spell it (Cao and Rimell 2021), far too many to
score. The own one is; others are drawn token by token from those that go on as the text does, by the model's
probability and what a byte of the text costs, since a longer token leaves less to come. A path's probability over that
of drawing it is its weight, and the mean weight estimates the sum without bias (Chirkova et al. 2023, who draw by the
model alone). Of a long text few paths carry the mean: it is too low more often than too high, as its standard error is.
A path that the context cannot hold counts as 0. Each window is taken for itself, after the tokens before it as the
tokenizer writes them.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from likely.engine.base.arrays import logsumexp
from likely.engine.base.statistics.estimates import Estimate
from likely.engine.decode.loop.branches import Branches
from likely.engine.decode.session import Session
from likely.engine.inside.tokenization import spelled, tokens_by_piece
from likely.engine.measure.evaluate.figures.figures import LIKELIHOOD, Tally
from likely.engine.measure.evaluate.scoring.likelihood import ROWS, Likelihood, Request
from likely.metal import mx

Marginal = tuple[float, float]  # -log p of the text by all its tokenisations, nats, and the standard error of that


Steps = tuple[tuple[int, int], ...]  # tokens, and how many bytes each is


@dataclass(frozen=True, slots=True)
class _Ways:
    """Tokens that stand before a text, its own, at each of its bytes those that go on there and can be gone on from,
    and what a byte costs, in nats."""

    before: tuple[int, ...]
    own: tuple[int, ...]
    steps: tuple[Steps, ...]
    cost: float


class PathSampler:
    """Draws `paths` tokenisations of each window."""

    def __init__(self, session: Session, paths: int, seed: int) -> None:
        self.session, self.paths, self.seed = session, paths, seed
        self.pieces = tokens_by_piece(session.tokenizer)
        self.longest = max(map(len, self.pieces), default=0)

    def marginal(self, number: int, read: Sequence[tuple[Request, Likelihood]]) -> Marginal:
        """Of the windows of item `number`, with their own tokens' likelihoods: their sum."""
        random = np.random.default_rng([self.seed, number])
        nats, variance = 0.0, 0.0
        for request, likelihood in read:
            ways, own = self._ways(request, likelihood.total), likelihood.total
            if not ways.steps:  # tokens that spell nothing
                nats -= own
                continue
            batches = range(0, self.paths, ROWS)
            weights = np.concatenate([self._draw(ways, min(ROWS, self.paths - done), random) for done in batches])
            share = np.exp(weights - own)  # of what the own tokens have
            nats -= own + math.log1p(float(share.mean()))
            variance += float(share.var(ddof=1)) / len(share) / (1 + float(share.mean())) ** 2
        return nats, math.sqrt(variance)

    def _ways(self, request: Request, logprob: float) -> _Ways:
        ids, start = request.texts[0], request.starts[0]
        text = spelled(self.session, ids[start:])
        steps: list[Steps] = [()] * len(text)
        for at in reversed(range(len(text))):
            reached = range(at + 1, min(at + self.longest, len(text)) + 1)
            ends = [end for end in reached if end == len(text) or steps[end]]
            steps[at] = tuple((token, end - at) for end in ends for token in self.pieces.get(text[at:end], ()))
        return _Ways(ids[:start], ids[start:], tuple(steps), -logprob / max(1, len(text)))

    def _draw(self, ways: _Ways, rows: int, random: np.random.Generator) -> np.ndarray:
        """The log-weights [rows] of as many paths; -inf of the tokenizer's own."""
        model = self.session.model
        branches = Branches(model, model.make_cache())
        for _ in branches.read(ways.before):
            pass
        branches.select([0] * rows)
        weights, at, alive = np.zeros(rows), [0] * rows, list(range(rows))
        drawn_ids: list[list[int]] = [[] for _ in range(rows)]
        while alive:
            if branches.length >= self.session.context:
                weights[alive] = -np.inf
                break
            steps = [ways.steps[at[row]] for row in alive]
            for row, step, logp in zip(alive, steps, _logprobs(branches, steps), strict=True):
                drawn = logp + [ways.cost * size for _, size in step]
                drawn -= np.logaddexp.reduce(drawn)
                one = int(random.choice(len(step), p=np.exp(drawn)))
                weights[row] += logp[one] - drawn[one]
                at[row] += step[one][1]
                drawn_ids[row].append(step[one][0])
            going = [i for i, row in enumerate(alive) if at[row] < len(ways.steps)]
            alive = [alive[i] for i in going]
            if alive:
                branches.select(going)
                branches.feed([drawn_ids[row][-1] for row in alive])
                branches.settle([drawn_ids[row][-1] for row in alive])
        weights[[tuple(path) == ways.own for path in drawn_ids]] = -np.inf
        return weights


def _logprobs(branches: Branches, steps: Sequence[Steps]) -> list[np.ndarray]:
    """The log-probabilities of some tokens after each branch, in nats; the logits [B, V] go at once."""
    widest = max(map(len, steps))
    index = mx.array([[token for token, _ in (*step, *step[:1] * (widest - len(step)))] for step in steps])
    logits = branches.logits().astype(mx.float32)
    chosen_logits, mass = mx.take_along_axis(logits, index, axis=-1), logsumexp(logits, mx, exact=True)
    mx.eval(chosen_logits, mass)
    logp = np.asarray(chosen_logits, np.float64) - np.asarray(mass, np.float64)[:, None]
    return [row[: len(step)] for row, step in zip(logp, steps, strict=True)]


def figures(items: Iterable[tuple[int, str | None, float, float, Marginal]]) -> dict[str, Estimate]:
    """Bits a byte by all tokenisations, and by how many the tokenizer's own takes more, over items by number, cluster,
    nats, bytes and marginal. The error is that of the items, the drawing's in it; of a single one, the drawing's."""
    whole, more = Tally(), Tally()
    drawn, size = 0.0, 0.0
    for number, cluster, nats, count, (marginal, error) in items:
        whole.add(number, cluster, dict(zip(LIKELIHOOD, (marginal, 0.0, count), strict=True)))
        more.add(number, cluster, dict(zip(LIKELIHOOD, (nats - marginal, 0.0, count), strict=True)))
        drawn, size = error, count
    estimates = {"bits_per_byte_marginal": whole.estimate("bits_per_byte"), "ambiguity": more.estimate("bits_per_byte")}
    if len(more.numbers) == 1:
        bits = drawn / math.log(2) / size
        estimates = {name: Estimate(estimate.mean, bits, n=1) for name, estimate in estimates.items()}
    return estimates
