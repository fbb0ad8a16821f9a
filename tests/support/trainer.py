"""A scripted trainer: curves, answers and differences that follow from the step alone. No mlx, no waiting.

Stated properties: `pace` is called before every step, to hold a run where a test wants it; the loss falls from 3.2 to
1.1 with noise that repeats; what has moved at step n is a mixture of two fixed distributions with the weight n / steps.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from likely.engine.base.statistics.difference import Difference, Position, Shift
from likely.engine.decode.loop.control import RunControl as Drawing
from likely.engine.train.control import (
    Answer,
    Compare,
    Compared,
    Complete,
    Completion,
    Ended,
    Event,
    Memory,
    Paused,
    Refused,
    Request,
    Saved,
    Stepped,
    TrainControl,
    TrainingPlan,
    Validated,
)
from likely.engine.train.rewards.figures import AnsweredProblem, ExpertIteration, HeldOut, Rewarded, Rollout, held_out
from likely.engine.train.rewards.reward_history import RewardWarning
from likely.engine.train.verdict import TrainingVerdict
from likely.engine.weights.adapters.config import Config
from likely.engine.weights.sources.fetch.progress import Report
from tests.support.model import SKY, ScriptedEngine

BASE, GAIN = (0, 1, 2, 5, 3, 1, 0, 2), (0, 7, 6, 3, 5, -1, 0, 6)  # of rewards: right answers of 8, and what it learns
EXPERT = (1, 3, 4, 6, 4, 2, 1, 3)
PROMPTS = ("Why is the sky blue?", "what about sunsets")


NOTHING = Memory(1, 1, 1, 1)


def plan(*, memory: Memory = NOTHING, available: int = 1, steps: int = 4, **shown: Any) -> TrainingPlan:
    """A plan of numbers that do not matter."""
    return TrainingPlan(1, 1, 1, (), 1, 1, steps, 1, 1.0, memory, available, **shown)


class ScriptedTrainer:
    """A run of `config.steps` steps, or 40."""

    def __init__(
        self, start: int = 0, *, fail: dict[int, Exception] | None = None, end: Ended | None = None,
        verdict: TrainingVerdict | None = None,
    ) -> None:  # fmt: skip
        self.step, self.saved = start, start
        self.fail = fail or {}  # raised before these steps, once
        self.end = end  # in the place of the last step
        self.verdict = verdict  # before a good end
        self.refuse: Exception | None = None  # of `open`
        self.pace: Callable[[int], None] = lambda _: None
        self.requests: list[Request] = []
        self.foretold: list[Config] = []  # whose cost was asked for
        self.engine = ScriptedEngine()
        self.config = Config()

    @property
    def steps(self) -> int:
        return self.config.steps or 40

    def open(self, config: Config, resume: bool, progress: Report) -> TrainingPlan:
        self.config = config
        progress("reading the data", 0, 0)
        if self.refuse is not None:
            raise self.refuse
        progress("loading scripted", 1, 2)
        of = self.drawn if config.goal.drawn else self.events
        past = tuple(event for step in range(1, self.step + 1) for event in of(step)) if resume else ()
        lines = "rows      400 chat; 380 train, 20 valid", "tokens    52,000, of which trained 18,000 (35%)"
        return plan(
            steps=self.steps, lines=lines, model="scripted", folder=config.out, past=past, prompts=PROMPTS,
            vocabulary=tuple(self.engine.tokenizer.pieces),
        )  # fmt: skip

    def foretell(self, config: Config, progress: Report) -> Sequence[str]:
        self.foretold.append(config)
        progress("loading scripted", 1, 2)
        return "about 2 min 05 s and 1.3 GB in all", "400 rows, batch 4: 100 batches, 100 steps an epoch"

    def events(self, step: int) -> list[Stepped | Validated]:
        """What a step says: its loss, and at every tenth a validation."""
        smooth = 1.1 + 2.1 * math.exp(-4 * step / self.steps)
        noise = 0.35 * math.sin(12.9898 * step) * math.sin(78.233 * step)
        rate = 2e-4 * min(step / 8, 0.5 + 0.5 * math.cos(math.pi * step / self.steps))
        recorded: list[Stepped | Validated] = [
            Stepped(
                step,
                self.steps,
                step / 20,
                smooth + noise,
                smooth,
                rate,
                0.6 + abs(noise),
                450 * step,
                1204.0,
                0.0,
                0.0,
                1_310_000_000,
                1.5 * step,
            )
        ]
        if step % 10 == 0:
            valid = smooth + 0.1 + 0.3 * (step / self.steps) ** 4
            recorded.append(Validated(step, valid, valid - 0.08, valid + 0.08, step <= self.steps * 0.8, 0.0))
        return recorded

    def drawn(self, step: int) -> list[Rewarded | HeldOut | RewardWarning]:
        """The events of a step of rewards: what it drew; at every tenth a look, at the 30th a warning."""
        share, told = step / self.steps, list[Rewarded | HeldOut | RewardWarning]()
        if step:
            reward = 0.3 + 0.5 * share + 0.05 * math.sin(12.9898 * step)
            groups = 3 - round(2 * share), 4, 1 + round(2 * share)
            entropy, long = 1.2 - share, 31 + 40 * share
            told.append(
                Rewarded(
                    step,
                    reward,
                    reward - 0.2,
                    reward + 0.2,
                    groups,
                    2 * share,
                    entropy,
                    31.0,
                    long,
                    0.02,
                    0,
                    1.5,
                    0.5,
                    3.0,
                )
            )
        if step % 10 == 0:
            now = [max(0, min(8, round(right + share * gain))) for right, gain in zip(BASE, GAIN, strict=True)]
            seen = [
                AnsweredProblem(f"How much is {i} + 2?", f"{i + 2}", _answers(i, was), _answers(i, is_))
                for i, (was, is_) in enumerate(zip(BASE, now, strict=True))
            ]
            told.append(held_out(BASE, now, 8, step, seen))
        return [*told, RewardWarning(step, "length", 31.0, 61.0)] if step == 30 else told

    def train(self, control: TrainControl) -> Iterator[Event]:
        if self.config.goal.drawn and not self.step:
            yield from self.drawn(0)
        while self.step < self.steps:
            if control.waiting:
                yield Paused(self.step)
            if control.stopped:
                yield from self._over(Ended("stopped", self.step))
                return
            self.pace(self.step)
            error = self.fail.pop(self.step, None)
            if error is not None:
                raise error
            self.step += 1
            if self.end is not None and self.step == self.end.step:
                yield from self._over(self.end)
                return
            if self.config.goal.drawn:
                yield self.events(self.step)[0]
                yield from self.drawn(self.step)
            else:
                yield from self.events(self.step)
        if getattr(self.config, "expert", 0):
            yield ExpertIteration(3, 960, 80, 900, held_out(BASE, EXPERT, 8), held_out(EXPERT, BASE, 8))
        if self.verdict is not None:
            yield self.verdict
        yield from self._over(Ended("done", self.step))

    def _over(self, end: Ended) -> Iterator[Event]:
        self.saved = self.step
        yield Saved(self.step, Path(self.config.out))
        yield end

    def answer(self, request: Request) -> Answer:
        self.requests.append(request)
        if isinstance(request, Complete):
            return self._drawn(request)
        return self._compared(request)

    def _drawn(self, request: Complete) -> Answer:
        if not request.text.strip():
            return Refused(self.step, request, "there is nothing to look at: give a text")
        tokenizer, steps = self.engine.tokenizer, []
        ids = tokenizer.encode(request.text)
        script = tokenizer.encode(SKY)[: 24 if request.base else 12 + self.step]
        control = Drawing(request.recipe)
        for drawn, token in enumerate(script):
            steps.append(self.engine.step(ids, token, token, control, request.seed, "drawn", drawn))
            ids.append(token)
        return Completion(self.step, request, tuple(steps), "length")

    def _compared(self, request: Compare) -> Answer:
        tokenizer = self.engine.tokenizer
        ids = tokenizer.encode(request.text or SKY)
        share = self.step / self.steps
        rows = [self._place(i + 1, share) for i in range(len(ids))]
        positions = tuple(position(ids, i, a, b, request.top) for i, (a, b) in enumerate(rows))
        before, now = (np.mean([pair[side] for pair in rows], axis=0) for side in (0, 1))
        names = "base", f"step {self.step}"
        risen, fallen = shifts(before, now, request.top)
        difference = Difference(names, positions, risen, fallen)
        return Compared(self.step, request, difference, {})

    def _place(self, length: int, share: float) -> tuple[np.ndarray, np.ndarray]:
        """The distributions after a text of so many tokens, before and now."""
        before, after = self._ends(length)
        weight = share * (0.02, 0.9, 0.1, 0.4, 0.01)[length % 5]
        return before, (1 - weight) * before + weight * after

    @cache  # noqa: B019 - a trainer lives as long as its test
    def _ends(self, length: int) -> tuple[np.ndarray, np.ndarray]:
        script = self.engine.tokenizer.encode(SKY)
        before = self.engine.raw([0] * length, script[length % len(script)])
        after = self.engine.raw([0] * (length + 1), script[(length + 3) % len(script)])
        return softmax(before), softmax(after)


def _answers(i: int, right: int) -> tuple[Rollout, ...]:
    """Eight answers to a problem, of which the first are right."""
    texts = [f"{i + 2}" if k < right else f"{i + 3 + k % 2}" for k in range(8)]
    return tuple(Rollout("", (1, 2), text, float(text == f"{i + 2}"), -1.0, 1.0, False) for text in texts)


def softmax(logits: np.ndarray) -> np.ndarray:
    mass = np.exp(logits.astype(np.float64) - logits.max())
    total: np.ndarray = mass / mass.sum()
    return total


def shifts(before: np.ndarray, now: np.ndarray, top: int) -> tuple[tuple[Shift, ...], tuple[Shift, ...]]:
    order = np.argsort(before - now)
    every = [Shift(int(t), math.log(before[t]), math.log(now[t])) for t in (*order[:top], *order[::-1][:top])]
    return tuple(s for s in every[:top] if s.change > 0), tuple(s for s in every[top:] if s.change < 0)


def position(ids: Sequence[int], at: int, before: np.ndarray, now: np.ndarray, top: int) -> Position:
    """What is said of the place after a token."""
    most = {*np.argsort(-before)[:top].tolist(), *np.argsort(-now)[:top].tolist()}
    likely = sorted((Shift(t, math.log(before[t]), math.log(now[t])) for t in most), key=lambda s: -s.now)
    entropy = (-float(before @ np.log(before)), -float(now @ np.log(now)))
    following = None
    if at + 1 < len(ids):
        following = math.log(before[ids[at + 1]]), math.log(now[ids[at + 1]])
    return Position(
        ids[at], float(now @ (np.log(now) - np.log(before))), entropy, following,
        (int(before.argmax()), int(now.argmax())), *shifts(before, now, top), tuple(likely),
    )  # fmt: skip
