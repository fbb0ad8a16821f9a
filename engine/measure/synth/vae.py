"""Text VAE: a small model of rows with a latent vector, learned from the rows alone, to compare other generators with.

An encoder gives q(z | x) = N(mu, sigma^2) of a row x, a decoder the words of x after z and the `context` words before
each; what is learned is the bound log p(x) >= E_q log p(x | z) - KL(q || N(0, I)) (Kingma and Welling 2014; of text
Bowman et al. 2016). Against a posterior that collapses onto the prior: the weight of the KL rises from 0, it costs
nothing below `free_bits` a dimension (Kingma et al. 2016), and a decoder of a few words cannot do without z. It has a
loop of its own: `engine.tune.trainer` trains models of text with a cache and a head, by rows of tokens.

Knows no grammar and no world: it shuffles what it has read.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from likely.engine.base.errors import DataError
from likely.engine.measure.synth.method import LONG
from likely.engine.measure.synth.rewriting import OfRows
from likely.engine.measure.synth.row import SynthRow
from likely.engine.text.rows.training_row import sides
from likely.engine.train.run.optimizers import State, adamw
from likely.metal import mx

Weights = dict[str, mx.array]
PAD, END, TURN = 0, 1, 2  # nothing before a row, its end, and what stands between its prompt and its answer
SIGNS = 3
PIECES = re.compile(r"\s?[^\W\d_]+|\s?\d|\s?[^\w\s]|\s|_")
WORDS = 4000  # of the vocabulary; the others are spelled
WIDTH, HIDDEN, BATCH, RATE = 32, 128, 16, 3e-3
LEAST = 20  # rows to learn from
HELD = 10  # one of so many is held out
COLLAPSED = 0.1  # nats of a row's KL below which z says nothing


@dataclass(frozen=True, slots=True)
class Pieces:
    """A vocabulary of words, digits and signs of some texts, with every character that they have."""

    names: tuple[str, ...]
    numbers: Mapping[str, int]

    def ids(self, asks: str, says: str) -> list[int]:
        """A row, to its end. Characters that are new are left out."""
        ids = [*self._text(asks), TURN] if asks else []
        return [*ids, *self._text(says), END]

    def _text(self, text: str) -> Iterator[int]:
        for piece in PIECES.findall(text):
            for part in (piece,) if piece in self.numbers else piece:
                if part in self.numbers:
                    yield self.numbers[part]

    def row(self, ids: Sequence[int]) -> tuple[str, str]:
        """Prompt and answer of a row's ids; ("", text) of one without a turn."""
        at = ids.index(TURN) if TURN in ids else -1
        asks, says = ("".join(self.names[i] for i in part if i >= SIGNS) for part in (ids[: max(at, 0)], ids[at + 1 :]))
        return asks, says


def pieces(texts: Sequence[str]) -> Pieces:
    """The vocabulary of texts."""
    counts = Counter(piece for text in texts for piece in PIECES.findall(text))
    known = [piece for piece, _ in counts.most_common(WORDS)]
    names = ("", "", "", *dict.fromkeys([*sorted({c for text in texts for c in text}), *known]))
    return Pieces(names, {name: i for i, name in enumerate(names) if i >= SIGNS})


# -- the model --------------------------------------------------------------------------------------------------------


def start(vocab: int, latent: int, context: int, seed: int, width: int = WIDTH, hidden: int = HIDDEN) -> Weights:
    """Weights before learning; matrices [in, out]."""
    chance = np.random.default_rng(seed)

    def matrix(*shape: int) -> mx.array:
        return mx.array(chance.normal(0, 1 / math.sqrt(shape[0]), shape).astype(np.float32))

    return {
        "words": mx.array(chance.normal(0, 0.3, (vocab, width)).astype(np.float32)),
        "pairs": matrix(2 * width, hidden), "mean": matrix(hidden, latent), "spread": 0.1 * matrix(hidden, latent),
        "before": matrix(context * width, hidden), "latent": matrix(latent, hidden), "bias": mx.zeros((hidden,)),
        "out": matrix(hidden, width), "often": mx.zeros((vocab,)),
    }  # fmt: skip


def posterior(weights: Weights, ids: mx.array) -> tuple[mx.array, mx.array]:
    """Mean and log-variance [B, Z] of z after rows [B, T], by their pairs of neighbours."""
    words = weights["words"][ids]
    before = mx.concatenate([weights["words"][mx.zeros_like(ids[:, :1])], words[:, :-1]], axis=1)
    there = (ids != PAD)[..., None]
    hidden = mx.maximum(mx.concatenate([before, words], axis=-1) @ weights["pairs"], 0) * there
    pooled = hidden.sum(axis=1) / mx.sqrt(there.sum(axis=1))
    return pooled @ weights["mean"], mx.clip(pooled @ weights["spread"], -8, 4)


def logits(weights: Weights, z: mx.array, before: mx.array) -> mx.array:
    """[..., V] after the last words [..., K] and z [..., Z]."""
    context = weights["words"][before].reshape(*before.shape[:-1], -1)
    hidden = mx.maximum(context @ weights["before"] + z @ weights["latent"] + weights["bias"], 0)
    scores: mx.array = (hidden @ weights["out"]) @ weights["words"].T + weights["often"]
    return scores


def windows(ids: np.ndarray, context: int) -> np.ndarray:
    """The `context` words before each of [B, T], oldest first: [B, T, K]."""
    padded = np.pad(ids, ((0, 0), (context, 0)), constant_values=PAD)
    return np.stack([padded[:, k : k + ids.shape[1]] for k in range(context)], axis=-1)


def likelihood(weights: Weights, z: mx.array, ids: mx.array, before: mx.array) -> mx.array:
    """log p(x | z) of rows, nats [B]."""
    scores = logits(weights, mx.broadcast_to(z[:, None], (*ids.shape, z.shape[-1])), before)
    logp = mx.take_along_axis(scores, ids[..., None], axis=-1)[..., 0] - mx.logsumexp(scores, axis=-1)
    return (logp * (ids != PAD)).sum(axis=1)


def divergence(mean: mx.array, spread: mx.array) -> mx.array:
    """KL(N(mean, e^spread) || N(0, 1)) of each dimension, nats [B, Z]."""
    return 0.5 * (mx.exp(spread) + mx.square(mean) - 1 - spread)


def bound(weights: Weights, ids: np.ndarray, context: int, noise: np.ndarray) -> tuple[mx.array, mx.array]:
    """E_q log p(x | z) by one draw, nats [B], and KL(q || p) [B, Z]: their difference bounds log p(x) from below."""
    rows = mx.array(ids)
    mean, spread = posterior(weights, rows)
    z = mean + mx.exp(0.5 * spread) * mx.array(noise.astype(np.float32))
    return likelihood(weights, z, rows, mx.array(windows(ids, context))), divergence(mean, spread)


@dataclass(frozen=True, slots=True)
class LearnedVae:
    """A VAE as it was learned; on rows held out its bound in nats a word and its KL in nats a row."""

    weights: Weights
    context: int
    bound: float
    kl: float

    def draw(self, seeds: Sequence[int], most: int, temperature: float = 1.0) -> list[tuple[list[int], float]]:
        """A row a seed, of at most `most` words and its end, with the log-probability after z of its words, nats; the
        end is missing of one that is longer."""
        chances = [np.random.default_rng(seed) for seed in seeds]
        z = mx.array(np.stack([c.normal(size=self.weights["mean"].shape[1]) for c in chances]).astype(np.float32))
        ids = np.full((len(seeds), self.context + most), PAD)
        total, over = np.zeros(len(seeds)), np.zeros(len(seeds), bool)
        for at in range(self.context, ids.shape[1]):
            scores = np.array(logits(self.weights, z, mx.array(ids[:, at - self.context : at])), np.float64)
            scores[:, PAD] = -np.inf  # stands for nothing, and is never said
            scores -= np.logaddexp.reduce(scores, axis=1, keepdims=True)
            gumbel = np.stack([c.gumbel(size=scores.shape[1]) for c in chances])
            tokens = (scores / temperature + gumbel if temperature else scores).argmax(axis=1)
            ids[:, at] = np.where(over, PAD, tokens)
            total += np.where(over, 0.0, scores[np.arange(len(seeds)), tokens])
            over |= tokens == END
            if over.all():
                break
        return [([int(i) for i in row if i != PAD], float(p)) for row, p in zip(ids, total, strict=True)]


def learn(
    rows: Sequence[Sequence[int]], vocab: int, *, latent: int, context: int, steps: int, free_bits: float,
    anneal: float, seed: int,
) -> LearnedVae:  # fmt: skip
    """Learn from rows of ids; one of `HELD` is held out. DataError for fewer than `LEAST`, or where it fails."""
    if len(rows) < LEAST:
        raise DataError(f"method = vae learns from at least {LEAST} rows, got {len(rows)}")
    chance = np.random.default_rng(seed)
    order = chance.permutation(len(rows))
    held, taught = order[: len(rows) // HELD], order[len(rows) // HELD :]
    weights, states = start(vocab, latent, context, seed), dict[str, State]()
    update = adamw()

    def loss(weights: Weights, ids: np.ndarray, noise: np.ndarray, beta: float) -> mx.array:
        logp, kl = bound(weights, ids, context, noise)
        lost: mx.array = beta * mx.maximum(kl.mean(axis=0), free_bits).sum() - logp.mean()
        return lost / float((ids != PAD).sum(axis=1).mean())

    slope: Any = mx.value_and_grad(loss)
    for step in range(1, steps + 1):
        ids = _batch([rows[i] for i in chance.choice(taught, min(BATCH, len(taught)), replace=False)])
        beta = min(1.0, step / (anneal * steps)) if anneal else 1.0
        value, gradients = slope(weights, ids, chance.normal(size=(len(ids), latent)), beta)
        rate = RATE * min(1.0, 2 * (1 - step / (steps + 1)))
        for name, gradient in gradients.items():
            direction, states[name] = update(gradient, states.get(name, {}), step)
            weights[name] = weights[name] - rate * direction
        mx.eval(value, weights, states)
        if not math.isfinite(_number(value)):
            raise DataError(f"the VAE's bound is not finite after step {step}: lower generate.learn or free_bits")
    ids = _batch([rows[i] for i in held])
    logp, kl = bound(weights, ids, context, chance.normal(size=(len(ids), latent)))
    kl_nats, words = _number(kl.sum(axis=1).mean()), float((ids != PAD).sum(axis=1).mean())
    return LearnedVae(weights, context, (_number(logp.mean()) - kl_nats) / words, kl_nats)


def _number(value: mx.array) -> float:
    return float(np.array(value))


def _batch(rows: Sequence[Sequence[int]]) -> np.ndarray:
    """Rows side by side, [B, T]."""
    longest = max(map(len, rows))
    return np.array([[*row, *[PAD] * (longest - len(row))] for row in rows])


# -- the method -------------------------------------------------------------------------------------------------------


class TextVae(OfRows):
    """Rows drawn from a VAE that has learned those of the data: anew in each process, and the same by the seed."""

    @property
    def jobs(self) -> int:
        return math.ceil(self.options.rows / self.options.answers)

    @cached_property
    def pieces(self) -> Pieces:
        return pieces(["\n".join(sides(row)) for row in self.rows])

    @cached_property
    def learned(self) -> LearnedVae:
        o = self.options
        rows = [self.pieces.ids(*sides(row))[: o.max_tokens] for row in self.rows]
        return learn(rows, len(self.pieces.names), latent=o.latent, context=o.context, steps=o.learn,
                     free_bits=o.free_bits, anneal=o.anneal, seed=self.config.seed)  # fmt: skip

    def make(self, job: int, before: Sequence[SynthRow]) -> Iterator[SynthRow]:
        o, vae = self.options, self.learned
        seeds = [self.seed(job) + branch for branch in range(min(o.answers, o.rows - job * o.answers))]
        turned = any(sides(row)[0] for row in self.rows)
        drawn = vae.draw(seeds, o.max_tokens, o.sampling.get("temp", 1.0))
        for branch, (ids, logprob) in enumerate(drawn):
            asks, says = self.pieces.row(ids)
            content = {"prompt": asks.strip(), "completion": says} if turned else {"text": says.strip()}
            row = self.row(content, job, branch, f"latent:{job}-{branch}")
            row = row.scored(logprob=logprob / len(ids), tokens=len(ids), bound=vae.bound, kl=vae.kl)
            if ids[-1] != END:
                row = row.out(LONG)
            elif turned and not (asks.strip() and says.strip()):
                row = row.out("generate: no prompt with an answer to it")
            elif not says.strip():
                row = row.out("generate: an empty text")
            yield row

    def remarks(self, rows: Sequence[SynthRow]) -> Iterator[str]:
        if not rows or "kl" not in rows[0].scores:
            return
        scores = rows[0].scores
        bits, carried = -scores["bound"] / math.log(2), scores["kl"] / math.log(2)
        yield f"rows held out take the VAE at most {bits:.2f} bits a word; its latent vector has {carried:.2f} a row"
        if scores["kl"] < COLLAPSED:
            yield "its posterior has collapsed: z says nothing; raise generate.free_bits, or lower generate.context"
