"""`likely eval TASK -M a -M b --judge MODEL`: the answers of the others against the first's, as a model sees them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from likely.app.evaluations import Evaluation, Evaluations

if TYPE_CHECKING:
    from likely.app.task_sources import TaskSource


def check(asked: "Sequence[TaskSource]", models: Sequence[str]) -> None:
    """UsageError where there is nothing to judge, before a model is loaded."""
    from likely.engine.evaluate.tasks import Question, Task

    if len(models) < 2:
        raise click.UsageError("--judge compares two models' answers: name both with -M; rows of pairs need no --judge")
    if not any(isinstance(each.source, Task) and each.source.form is Question for each in asked):
        raise click.UsageError("--judge is of answers that are drawn: TASKS with a prompt and an answer")


def pairs(store: Evaluations, done: Sequence[Evaluation], asked: "Sequence[TaskSource]") -> "list[TaskSource]":
    """A task of pairs for each model after the first, of the questions that both answered: their first answers."""
    from likely.app.task_sources import TaskSource
    from likely.engine.evaluate import judging
    from likely.engine.evaluate.tasks import Question, Task

    found = []
    for source in (each.source for each in asked):
        if not isinstance(source, Task) or source.form is not Question:
            continue
        first, *others = [each for each in done if each.task == source.name]
        for other in others:

            def answers(a: Evaluation = first, b: Evaluation = other) -> judging.AnswerPairs:
                for own, said in store.common(a, b):
                    yield own.number, own.detail["answers"][0], said.detail["answers"][0]

            models = first.model, other.model
            identity = f"{first.id} {other.id}"
            if next(answers(), None) is not None:
                found.append(TaskSource(judging.pairs(source, models, answers, identity), {}))
    return found
