"""A scripted diffusion model: a fixed text comes in a fixed order, some words wrong at first and taken back later."""

import math
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from likely.engine.base.statistics.estimates import Estimate
from likely.engine.decode.loop.control import RunControl
from likely.engine.sampling.trace.observe import observe
from likely.engine.sampling.trace.unmasking import DenoisingStep, OpenMask, Unmasked, Unmasking, unordered
from tests.support.model import SKY, ScriptedEngine

WRONG = {8: (" glow", 14), 21: (" hue", 20)}  # by index: what is drawn first, and the step that takes it back
TAKEN = 3  # masks of a pass


class ScriptedDiffusion(ScriptedEngine):
    """Fills masks with the words of `SKY`; `pace` is called before every pass."""

    def __init__(self, name: str = "scripted-mdlm", scripts: Sequence[str] = (SKY,)) -> None:
        super().__init__(name, scripts)
        self.tokenizer.pieces.append(b"<|mask|>")
        self.mask = len(self.tokenizer.pieces) - 1
        self.facts = replace(self.facts, vocabulary=tuple(self.tokenizer.pieces), mask=self.mask)
        self.hows: list[Unmasking] = []

    def canvas(self, text: str) -> list[int] | None:
        before, gap, rest = text.partition("[MASK:")
        if not gap:
            return None
        count, _, after = rest.partition("]")
        return [*self.tokenizer.encode(before), *[self.mask] * int(count), *self.tokenizer.encode(after)]

    def answer_canvas(self, prompt: Sequence[int], prefill: Sequence[int], masks: int, block: int) -> list[int]:
        return [*prompt, *prefill, *[self.mask] * ((masks or 64) - len(prefill))]

    def fill(
        self, ids: Sequence[int], first: int, how: Unmasking, control: RunControl, *, seed: int
    ) -> Iterator[DenoisingStep]:
        self.calls.append(("fill", list(ids)))
        self.hows.append(how)
        places = [i for i, token in enumerate(ids) if token == self.mask]
        script = [*self.tokenizer.encode(self.scripts[0]), *[self.tokenizer.END] * len(ids)]
        first = first or (places[0] if places else 0)
        order = np.random.default_rng(seed).permutation(places).tolist()
        number = 0
        while order:
            unordered(control.recipe)
            self.pace(number)
            number += 1
            now, order = sorted(order[:TAKEN]), order[TAKEN:]
            unmasked = [self._unmasked(number, at, script[at - first], at - first, control, seed) for at in now]
            for index, (_, step) in WRONG.items():
                if step == number and first + index in places and first + index not in (*now, *order):
                    wrong = self.tokenizer.encode(WRONG[index][0])[0]
                    token = self._unmasked(number, first + index, script[index], -1, control, seed)
                    unmasked.append(replace(token, before=wrong))
            unmasked.sort(key=lambda each: each.token.position)
            opened = tuple(self._open(number, at, script[at - first]) for at in sorted(order))
            yield DenoisingStep(number, tuple(unmasked), opened)

    def _unmasked(self, number: int, at: int, token: int, index: int, control: RunControl, seed: int) -> Unmasked:
        if index in WRONG and number < WRONG[index][1]:
            token = self.tokenizer.encode(WRONG[index][0])[0]
        raw = self.raw([0] * at, token)
        step = observe(raw, token, after=raw, recipe=control.recipe, position=at)
        return Unmasked(number, step)

    def _open(self, number: int, at: int, token: int) -> OpenMask:
        raw = self.raw([0] * at, token) * np.float32(min(0.15 + 0.05 * number, 0.9))
        p = raw.astype(np.float64) - math.log(np.exp(raw.astype(np.float64)).sum())
        best = np.argsort(-p, kind="stable")[:10]
        return OpenMask(at, float(-(np.exp(p) * p).sum()), best.astype(np.int32), p[best].astype(np.float32))

    def bounding(self, ids: Sequence[int], free: Sequence[int]) -> Generator[int, None, Estimate]:
        self.calls.append(("bound", list(ids)))
        yield 8
        return Estimate(2.5 * len(free), 0.05 * len(free), 7, n=8)

    def generate(self, *args: Any, **options: Any) -> Iterator[Any]:
        raise AssertionError("a diffusion model was asked to write from left to right")
        yield
