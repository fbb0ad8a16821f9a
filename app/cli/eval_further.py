"""Figures of `likely eval` beyond a task's own, from what was kept of its items: at a fitted temperature, without what
was trained on, of the rows of a domain, of positions, by other tokenisations,
and of the answers of two models as a third sees them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from likely.app.evaluations import Evaluation, Evaluations
from likely.app.scoreboard import Score
from likely.engine.errors import DataError

if TYPE_CHECKING:
    from likely.app.task_sources import TaskSource


def scaled(store: Evaluations, each: Evaluation, validated: Sequence[Evaluation]) -> list[Score]:
    """The figures of choices at the temperature that was fitted on the same model's validation items."""
    from likely.engine.evaluate import scaling

    held = next((v for v in validated if v.model == each.model), None)
    if held is None or each.protocol["form"] != "choices":
        return []
    temperature = scaling.fit(store.rows(held))
    fitted = replace(each, protocol={**each.protocol, "temperature": temperature, "fitted_on": held.task})
    found = scaling.scaled(store.rows(each), temperature)
    return [Score(fitted, measure, estimate) for measure, estimate in found.items()]


def contaminated(
    store: Evaluations, done: Sequence[Evaluation], asked: "Sequence[TaskSource]", training: Path
) -> list[Score]:
    """How much of each task stands in the training texts, and what is left of its score without that."""
    from likely.app.cli.eval_samples import texts
    from likely.engine.evaluate import contamination
    from likely.engine.evaluate.tasks import Task

    known = contamination.known(texts(training))
    told = {s.source.name: contamination.seen(s.source, known) for s in asked if isinstance(s.source, Task)}
    found = []
    for each in done:
        if each.task in told:
            least = {row.number: row.detail["min_20"] for row in store.rows(each) if "min_20" in row.detail}
            figures = contamination.figures(store.tally(each), told[each.task], least)
            against = replace(each, protocol={**each.protocol, "training": str(training), "run": contamination.RUN})
            found += [Score(against, measure, estimate) for measure, estimate in figures.items()]
    return found


def by_column(done: Sequence[Evaluation], store: Evaluations, column: str) -> Iterator[Score]:
    """The measures over the rows of each value in a column; DataError where the rows are not there any more."""
    from likely.app.task_sources import again
    from likely.engine.evaluate import subgroups

    for each in done:
        if "task" not in each.place:
            continue  # a text, or rows that were made of answers: there are no columns
        task = again(each.place, str(each.asked["source"]))
        if task is None:
            raise DataError(f"{each.task} is not where it was when it was measured: --by reads its rows again")
        found = subgroups.by_column(store.tally(each), task, column)
        yield from (Score(each, measure, estimate, which) for (measure, which), estimate in found.items())


def by_position(done: Sequence[Evaluation], store: Evaluations) -> Iterator[Score]:
    """Perplexity by how many tokens stood before; UsageError where nothing is a text."""
    from likely.engine.evaluate import subgroups

    texts = [each for each in done if each.protocol["form"] in ("documents", "text")]
    if not texts:
        raise click.UsageError("--positions is of texts: --text FILE, or a task whose rows have a text")
    for each in texts:
        if "draws" in each.protocol:
            raise click.UsageError(
                f"{each.model} is a diffusion model, whose tokens have no order: leave out --positions"
            )
        rows = store.rows(each)
        found = subgroups.by_position(
            (r.number, r.cluster, r.detail["positions"]) for r in rows if "positions" in r.detail
        )
        yield from (Score(each, measure, estimate, which) for (measure, which), estimate in found.items())


def ambiguity(done: Sequence[Evaluation], store: Evaluations) -> Iterator[Score]:
    """Bits a byte by all tokenisations of texts, as far as they were drawn."""
    from likely.engine.evaluate import token_paths

    for each in done:
        rows = (r for r in store.rows(each) if "marginal" in r.detail)
        drawn = [(r.number, r.cluster, r.values["nats"], r.values["bytes"], r.detail["marginal"]) for r in rows]
        found = token_paths.figures(drawn) if drawn else {}
        yield from (Score(each, measure, estimate) for measure, estimate in found.items())


def check_judge(asked: "Sequence[TaskSource]", models: Sequence[str]) -> None:
    """UsageError where there is nothing to judge, before a model is loaded."""
    from likely.engine.evaluate.tasks import Question, Task

    if len(models) < 2:
        raise click.UsageError("--judge compares two models' answers: name both with -M; rows of pairs need no --judge")
    if not any(isinstance(each.source, Task) and each.source.form is Question for each in asked):
        raise click.UsageError("--judge is of answers that are drawn: TASKS with a prompt and an answer")


def judged(store: Evaluations, done: Sequence[Evaluation], asked: "Sequence[TaskSource]") -> "list[TaskSource]":
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
