"""A scripted engine that can be looked into: every look has one answer, drawn at random from its place. No mlx."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from likely.app.jobs.interpretability import InsideQuestion, WhyEnded
from likely.engine.base.errors import ParameterError
from likely.engine.decode.loop.control import RunControl
from likely.engine.inside import questions
from likely.engine.inside.why import Omission, Why
from tests.support.model import SCRIPTS, ScriptedEngine

LAYERS, HEADS = 4, 2


class Glass(ScriptedEngine):
    """A scripted engine whose inside is drawn at random from its place: every look has one answer. Counts looks."""

    def __init__(self, name: str = "scripted", scripts: Sequence[str] = SCRIPTS) -> None:
        super().__init__(name, scripts)
        self.looks: list[InsideQuestion[Any]] = []
        self.refuses: tuple[str, ...] = ()  # methods
        self.first = 0  # position that is looked at first
        self.endless = False  # a lens that never ends, until it is broken off
        self.broken_off = 0

    def look_inside(self, ids: Any, look: InsideQuestion[Any], control: RunControl) -> Iterator[Any]:
        self.looks.append(look)
        if look.method in self.refuses:
            raise ParameterError("this inside cannot be seen")
        t, rng = len(ids), np.random.default_rng(len(ids))
        match look.method, look.args:
            case "opened", ():
                yield questions.InspectedModel(tuple(ids), self.first, LAYERS, HEADS, 1, 8, 16, False, True)
            case "lens", (tuned, start, stop, _):
                for low, high in ((start, stop), (self.first, start), (stop, t)):
                    while self.endless and not control.cancelled:
                        yield None
                    if control.cancelled:
                        self.broken_off += 1
                        return
                    if low < high:
                        yield self.part(low, high, tuned)
            case "pattern", (layer,):
                weights = np.tril(rng.random((HEADS, t, t))).astype(np.float32)
                weights[:, :, layer % t] += np.arange(t) >= layer % t
                yield weights / weights.sum(axis=-1, keepdims=True)
            case "kinds", ():
                names = ("induction", "duplicate", "previous", "first", "distance", "entropy")
                yield questions.HeadScores(**{name: rng.random((LAYERS, HEADS)).astype(np.float32) for name in names})
            case "rollout", ():
                weights = np.tril(np.ones((t, t)))
                yield weights / weights.sum(axis=1, keepdims=True)
            case "word_map", _:
                points = np.random.default_rng(1).normal(size=(len(self.facts.vocabulary), 2)).astype(np.float32)
                words = tuple(self.tokenizer.ids[word] for word in (b" sky", b" blue", b" red", b" light"))
                rows = (
                    questions.Accuracy("man : woman", 90, 0.1, 0.6, (0.4, 0.8)),
                    questions.Accuracy("walk : walked", 132, 0.3, 0.1, (0.0, 0.2)),
                    questions.Accuracy("all", 90, 0.1, 0.6, (0.4, 0.8)),
                )
                norms = np.linalg.norm(points, axis=1)
                yield questions.WordMap(points, 0.4, (("colour", words),), norms, 0.3, rows)
            case "neighbours", _:
                raw = tuple(0.95 - i / 20 for i in range(10))
                yield questions.Neighbourhood(self.near(), raw, 0.1, 0.4)
            case "word_sum", (plus, minus, _):
                yield questions.WordSum(plus, minus, self.near(), [questions.Neighbour(301, 0.8)])
            case "attribution", (position, against, token):
                heads = rng.normal(size=(LAYERS, HEADS)).astype(np.float32)
                mlp = rng.normal(size=LAYERS).astype(np.float32)
                logit = float(heads.sum() + mlp.sum() + 1.5)
                yield questions.Attribution(
                    300 + position if token is None else token, against, 1.0, heads, mlp, 0.5, logit
                )
            case "why", (target, foil):
                yield self.why(tuple(ids), target, target + 1 if foil is None else foil)
                for at in range(t):
                    yield Omission(at, at + 1, float(rng.normal(scale=3.0)))
                yield WhyEnded()
            case "importance", (position, token):
                left_out = rng.normal(size=position + 1).astype(np.float32)
                yield questions.Importance(300 + position if token is None else token, -1.0, left_out, left_out)
            case "ablation", (position, *_):
                yield questions.Ablation(2.0, -0.25, 300 + position)
            case "layer", (position, layer, head, target, silent):
                yield self.layer(tuple(ids[: position + 1]), layer, max(head, 0), silent)
            case "patching", (position, corrupted, part):
                other = tuple(corrupted.ids(self.tokenizer))
                if len(other) != position + 1:
                    raise ParameterError("both must have as many tokens")
                columns = HEADS if part == "heads" else position + 1
                effects = rng.random((LAYERS, columns)).astype(np.float32)
                yield questions.Patching(part, other, 300, 301, 4.0, -3.0, effects, effects)
            case "spellings", (start, stop):
                ways = (
                    questions.Spelling(tuple(ids[start:stop]), -1.0, True),
                    questions.Spelling((300, 301), -3.25, False),
                )
                yield questions.WordSpellings(((b"a", b"b"), (b"ab",)), questions.Tokenisation(ways, False))

    @staticmethod
    def near() -> list[questions.Neighbour]:
        return [questions.Neighbour(300 + i, 0.9 - i / 20) for i in range(10)]

    @staticmethod
    def why(ids: tuple[int, ...], target: int, foil: int) -> Why:
        """One head wrote the larger id, another the smaller; the ranks meet at the last layer."""
        sign = 1.0 if target > foil else -1.0
        heads, mlp = np.zeros((LAYERS, HEADS), np.float32), np.zeros(LAYERS, np.float32)
        heads[3, 1], heads[0, 0], mlp[2] = 2.0 * sign, -0.5 * sign, 1.0 * sign
        ranks = np.array([[1000 - 240 * layer, 800 - 199 * layer] for layer in range(LAYERS + 1)], np.int32)
        attention = np.full((LAYERS, HEADS, len(ids)), 1 / len(ids), np.float32)
        wrote = questions.Attribution(target, foil, 0.0, heads, mlp, 0.0, 2.5 * sign)
        return Why(ids, target, foil, (-3.0, -1.0), ranks, wrote, attention)

    @staticmethod
    def layer(ids: tuple[int, ...], layer: int, head: int, silent: bool) -> questions.LayerPass:
        """A head that reads the word before the last one, and halves what is said at last where it is silent."""
        t, rng = len(ids), np.random.default_rng(layer * HEADS + head)
        query, keys, values = rng.normal(size=8), rng.normal(size=(t, 8)), rng.normal(size=(t, 8))
        scores = np.where(np.arange(t) == t - 2, 3.0, np.arange(t) / t)
        weights = np.exp(scores) / np.exp(scores).sum()
        states, added = rng.normal(size=(5, 16)), rng.normal(size=(2, 16))
        best = np.tile(np.arange(300, 303, dtype=np.int32), (5, 1))
        shares, rank = np.tile([0.5, 0.3, 0.1], (5, 1)), np.array([90, 9, 3, 2, 1], np.int32)
        logp = np.log([0.001, 0.01, 0.1, 0.2, 0.25 if silent else 0.5])
        return questions.LayerPass(
            ids, layer, head, silent, 8**-0.5, query, keys, values, scores, weights, values.T @ weights * (not silent),
            (300, 301), added[0], rng.normal(size=64), added[1], states, 300, best, shares, rank, logp,
        )  # fmt: skip

    def part(self, low: int, high: int, tuned: bool) -> questions.Lens:
        """Layer l says token 300 + l at the positions, with probability l / layers; the last two layers agree."""
        n = high - low
        layer = np.minimum(np.arange(LAYERS + 1), LAYERS - 1)[:, None] * np.ones((1, n), np.int64)
        top = (300 + layer).astype(np.int32)
        kl = np.where(np.arange(LAYERS + 1)[:, None] == LAYERS, 0, (0.5 if tuned else 1.0) * (LAYERS - layer))
        best = np.stack([top + i for i in range(5)], axis=-1)
        p = ((layer + 1) / (LAYERS + 1)).astype(np.float32)
        shares = p[..., None] / np.arange(1, 6)
        return questions.Lens(
            top, p, kl.astype(np.float32), 1 + LAYERS - 1 - layer, best, shares, 10 * (LAYERS - layer), low
        )
