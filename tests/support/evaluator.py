"""A scripted evaluator: what each model says of an item follows from the two alone. No mlx, no waiting.

Stated properties: `pace` is called before every item, to hold a run where a test wants it. The model called "good" is
right more often than any other, and surer; choices are sure of the right one by `2 r - 1` nats, r even in (0, 1).
"""

import hashlib
import math
from collections.abc import Callable, Generator
from dataclasses import replace
from typing import Any

from likely.app.jobs.requests import Evaluate
from likely.app.results.task_sources import sources, with_variations
from likely.app.store.evaluations import Evaluation, Evaluations
from likely.engine.measure.evaluate.tasks.tasks import Choices, Document, Item, Problem, Question, Result, Task
from likely.engine.measure.evaluate.tasks.variations import task_of
from likely.engine.weights.sources.fetch.progress import Report

SKILL = {"good": 0.9, "bad": 0.35}


def even(*answers: object) -> float:
    """A number in (0, 1) that follows from what is said."""
    return int.from_bytes(hashlib.blake2b(repr(answers).encode(), digest_size=6).digest(), "big") / 2**48


class ScriptedEvaluator:
    """Any tasks by any models."""

    def __init__(self, refuse: Exception | None = None) -> None:
        self.refuse = refuse
        self.pace: Callable[[str, int], None] = lambda model, number: None
        self.asked: list[tuple[str, str, int]] = []

    def run(self, order: Evaluate, store: Evaluations, progress: Report) -> Generator[Any]:
        progress("opening", 0, 0)
        if self.refuse is not None:
            raise self.refuse
        for model in order.models:
            for entry_source in with_variations(sources(order.tasks), order.vary, order.variants):
                task = entry_source.source
                assert isinstance(task, Task)
                request = {"source": task.identity, "form": task.form.NAME, "protocol": {"chat": False}}
                evaluation = Evaluation(task.name, model, {**request, "weights": model}, (), entry_source.place)
                known = store.begin(evaluation)
                total = sum(1 for _ in task.rows()) - task.aside
                yield replace(evaluation, known=len(known), total=total)
                rows: list[Result] = []
                try:
                    for entry in task.items(order.limit):
                        if isinstance(entry, Problem):
                            yield entry
                        elif entry.number not in known:
                            self.pace(model, entry.number)
                            self.asked.append((task.name, model, entry.number))
                            outcome = answer(model, entry, *(task.name,) * (task_of(task.name) != task.name))
                            rows.append(outcome)
                            yield outcome
                finally:
                    store.keep(evaluation, rows)


def answer(model: str, item: Item, *way: str) -> Result:
    """What a model says of an item, or of one that is asked in another `way`."""
    skill, chance = SKILL.get(model, 0.6), even(model, item.number, *way)
    right, body = chance < skill, item.body
    if isinstance(body, Question):
        text = f" {body.answers[0]}" if right else " 42"
        return Result(item.number, None, {"exact": float(right)}, {"answers": [text], "finish": ["stop"]})
    if isinstance(body, Choices):
        lls = [-3.0 - even(model, item.number, i) for i in range(len(body.choices))]
        lls[body.gold] += 2 * (skill - chance) + (1.1 if right else -1.1)
        mass = [math.exp(x) for x in lls]
        best = max(range(len(lls)), key=lambda i: lls[i])
        values = {"acc": float(best == body.gold), "confidence": max(mass) / sum(mass)}
        return Result(item.number, None, values, {"loglikelihoods": lls, "gold": body.gold})
    assert isinstance(body, Document)
    tokens = len(body.text.split())
    nats = tokens * (2.0 - skill + 0.1 * chance)
    values = {"nats": nats, "tokens": float(tokens), "bytes": float(len(body.text.encode()))}
    return Result(item.number, None, values, {"loglikelihoods": [-nats]})
