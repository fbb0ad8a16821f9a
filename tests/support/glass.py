"""A scripted engine that can be looked into: every look has one answer, drawn at random from its place. No mlx."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np

from likely.app import looks
from likely.engine.decode.control import RunControl
from likely.engine.errors import ParameterError
from likely.engine.inside.why import Omission, Why
from tests.support.model import ScriptedEngine

LAYERS, HEADS = 4, 2


class Glass(ScriptedEngine):
    """A scripted engine whose inside is drawn at random from its place: every look has one answer. Counts looks."""

    def __init__(self, name: str = "scripted") -> None:
        super().__init__(name)
        self.looks: list[looks.Look] = []
        self.refuses: tuple[type, ...] = ()
        self.first = 0  # position that is looked at first
        self.endless = False  # a lens that never ends, until it is broken off
        self.broken_off = 0

    def look_inside(self, ids: Any, look: looks.Look, control: RunControl) -> Iterator[Any]:
        self.looks.append(look)
        if isinstance(look, self.refuses):
            raise ParameterError("this inside cannot be seen")
        t, rng = len(ids), np.random.default_rng(len(ids))
        match look:
            case looks.OpenLook():
                yield looks.InspectedModel(tuple(ids), self.first, LAYERS, HEADS, 1, 8, 16, False, True)
            case looks.LensLook(start, stop, tuned):
                for low, high in ((start, stop), (self.first, start), (stop, t)):
                    while self.endless and not control.cancelled:
                        yield None
                    if control.cancelled:
                        self.broken_off += 1
                        return
                    if low < high:
                        yield self.part(low, high, tuned)
            case looks.PatternLook(layer):
                weights = np.tril(rng.random((HEADS, t, t))).astype(np.float32)
                weights[:, :, layer % t] += np.arange(t) >= layer % t
                yield looks.Pattern(layer, weights / weights.sum(axis=-1, keepdims=True))
            case looks.KindsLook():
                names = ("induction", "duplicate", "previous", "first", "distance", "entropy")
                yield looks.Kinds({name: rng.random((LAYERS, HEADS)).astype(np.float32) for name in names})
            case looks.RolloutLook():
                weights = np.tril(np.ones((t, t)))
                yield looks.Rollout(weights / weights.sum(axis=1, keepdims=True))
            case looks.MapLook():
                points = np.random.default_rng(1).normal(size=(len(self.facts.vocabulary), 2)).astype(np.float32)
                words = tuple(self.tokenizer.ids[word] for word in (b" sky", b" blue", b" red", b" light"))
                rows = (
                    looks.RelationRow("man : woman", 90, 0.1, 0.6, 0.2),
                    looks.RelationRow("walk : walked", 132, 0.3, 0.1, 0.1),
                    looks.RelationRow("all", 90, 0.1, 0.6, 0.2),
                )
                norms = np.linalg.norm(points, axis=1)
                yield looks.WordMap(points, 0.4, (("colour", words),), norms, 0.3, rows)
            case looks.NearLook():
                nearest = tuple((300 + i, 0.9 - i / 20) for i in range(10))
                yield looks.NearestTokens(nearest, ((301, 0.8),), tuple(0.95 - i / 20 for i in range(10)), 0.1, 0.4)
            case looks.AttributionLook(position):
                heads = rng.normal(size=(LAYERS, HEADS)).astype(np.float32)
                mlp = rng.normal(size=LAYERS).astype(np.float32)
                total = float(heads.sum() + mlp.sum() + 1.5)
                yield looks.LogitAddends(300 + position, 1.0, heads, mlp, 0.5, total, total)
            case looks.WhyLook(target, foil):
                yield self.why(tuple(ids), target, target + 1 if foil is None else foil)
                for at in range(t):
                    yield Omission(at, at + 1, float(rng.normal(scale=3.0)))
                yield looks.WhyEnded()
            case looks.ImportanceLook(position):
                left_out = rng.normal(size=position + 1).astype(np.float32)
                yield looks.TokenImportance(300 + position, left_out, 1.0)
            case looks.AblationLook(position):
                yield looks.HeadAblation(300 + position, 2.0, -0.25)
            case looks.PatchLook(position, corrupted, part):
                other = tuple(corrupted.ids(self.tokenizer))  # type: ignore[arg-type]
                if len(other) != position + 1:
                    raise ParameterError("both must have as many tokens")
                columns = HEADS if part == "heads" else position + 1
                effects = rng.random((LAYERS, columns)).astype(np.float32)
                yield looks.PatchEffects(other, 300, 301, 4.0, -3.0, effects, 0.75)
            case looks.SpellingsLook(start, stop):
                own = tuple(ids[start:stop])
                word = b"".join(self.facts.vocabulary[id] for id in own)
                yield looks.WordSpellings(word, ((b"a", b"b"), (b"ab",)), ((own, -1.0, True),), -0.9, False)

    @staticmethod
    def why(ids: tuple[int, ...], target: int, foil: int) -> Why:
        """One head wrote the larger id, another the smaller; the ranks meet at the last layer."""
        sign = 1.0 if target > foil else -1.0
        heads, mlp = np.zeros((LAYERS, HEADS), np.float32), np.zeros(LAYERS, np.float32)
        heads[3, 1], heads[0, 0], mlp[2] = 2.0 * sign, -0.5 * sign, 1.0 * sign
        ranks = np.array([[1000 - 240 * layer, 800 - 199 * layer] for layer in range(LAYERS + 1)], np.int32)
        attention = np.full((LAYERS, HEADS, len(ids)), 1 / len(ids), np.float32)
        wrote = SimpleNamespace(heads=heads, mlp=mlp, embedding=0.0, bias=0.0, logit=2.5 * sign, total=2.5 * sign)
        return Why(ids, target, foil, (-3.0, -1.0), ranks, wrote, attention)  # type: ignore[arg-type]

    def part(self, low: int, high: int, tuned: bool) -> looks.LensPart:
        """Layer l says token 300 + l at the positions, with probability l / layers; the last two layers agree."""
        n = high - low
        layer = np.minimum(np.arange(LAYERS + 1), LAYERS - 1)[:, None] * np.ones((1, n), np.int64)
        top = (300 + layer).astype(np.int32)
        kl = np.where(np.arange(LAYERS + 1)[:, None] == LAYERS, 0, (0.5 if tuned else 1.0) * (LAYERS - layer))
        best = np.stack([top + i for i in range(5)], axis=-1)
        p = ((layer + 1) / (LAYERS + 1)).astype(np.float32)
        return looks.LensPart(
            low, top, p, kl.astype(np.float32), 1 + LAYERS - 1 - layer, best, p[..., None] / np.arange(1, 6)
        )
