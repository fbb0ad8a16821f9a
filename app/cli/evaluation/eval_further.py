"""Figures of `likely eval` beyond a task's own, from what was kept of its items: at a fitted temperature, without what
was trained on, of the rows of a domain, of positions, by other tokenisations,
and of the answers of two models as a third sees them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from likely.app.results.scoreboard import Score
from likely.app.store.evaluations import Evaluation, Evaluations
from likely.engine.base.errors import DataError

if TYPE_CHECKING:
    from likely.app.results.task_sources import TaskSource


def scaled(store: Evaluations, evaluation: Evaluation, validated: Sequence[Evaluation]) -> list[Score]:
    """The figures of choices at the temperature that was fitted on the same model's validation items."""
    from likely.engine.measure.evaluate.figures import temperature_scaling

    held = next((v for v in validated if v.model == evaluation.model), None)
    if held is None or evaluation.protocol["form"] != "choices":
        return []
    temperature = temperature_scaling.fit(store.rows(held))
    fitted = replace(evaluation, protocol={**evaluation.protocol, "temperature": temperature, "fitted_on": held.task})
    estimates = temperature_scaling.scaled(store.rows(evaluation), temperature)
    return [Score(fitted, measure, estimate) for measure, estimate in estimates.items()]


def contaminated(
    store: Evaluations, done: Sequence[Evaluation], sources: "Sequence[TaskSource]", training: Path
) -> list[Score]:
    """How much of each task stands in the training texts, and what is left of its score without that."""
    from likely.app.cli.evaluation.eval_samples import texts
    from likely.engine.measure.evaluate.figures import contamination
    from likely.engine.measure.evaluate.tasks.tasks import Task

    known = contamination.known(texts(training))
    overlaps = {s.source.name: contamination.seen(s.source, known) for s in sources if isinstance(s.source, Task)}
    scores = []
    for evaluation in done:
        if evaluation.task in overlaps:
            least = {row.number: row.detail["min_20"] for row in store.rows(evaluation) if "min_20" in row.detail}
            figures = contamination.figures(store.tally(evaluation), overlaps[evaluation.task], least)
            against = replace(
                evaluation, protocol={**evaluation.protocol, "training": str(training), "run": contamination.RUN}
            )
            scores += [Score(against, measure, estimate) for measure, estimate in figures.items()]
    return scores


def by_column(done: Sequence[Evaluation], store: Evaluations, column: str) -> Iterator[Score]:
    """The measures over the rows of each value in a column; DataError where the rows are not there any more."""
    from likely.app.results.task_sources import again
    from likely.engine.measure.evaluate.figures import subgroups

    for evaluation in done:
        if "task" not in evaluation.place:
            continue  # a text, or rows that were made of answers: there are no columns
        task = again(evaluation.place, str(evaluation.asked["source"]))
        if task is None:
            raise DataError(f"{evaluation.task} is not where it was when it was measured: --by reads its rows again")
        estimates = subgroups.by_column(store.tally(evaluation), task, column)
        yield from (Score(evaluation, measure, estimate, which) for (measure, which), estimate in estimates.items())


def by_position(done: Sequence[Evaluation], store: Evaluations) -> Iterator[Score]:
    """Perplexity by how many tokens stood before; UsageError where nothing is a text."""
    from likely.engine.measure.evaluate.figures import subgroups

    texts = [evaluation for evaluation in done if evaluation.protocol["form"] in ("documents", "text")]
    if not texts:
        raise click.UsageError("--positions is of texts: --text FILE, or a task whose rows have a text")
    for evaluation in texts:
        if "draws" in evaluation.protocol:
            raise click.UsageError(
                f"{evaluation.model} is a diffusion model, whose tokens have no order: leave out --positions"
            )
        rows = store.rows(evaluation)
        estimates = subgroups.by_position(
            (r.number, r.cluster, r.detail["positions"]) for r in rows if "positions" in r.detail
        )
        yield from (Score(evaluation, measure, estimate, which) for (measure, which), estimate in estimates.items())


def ambiguity(done: Sequence[Evaluation], store: Evaluations) -> Iterator[Score]:
    """Bits a byte by all tokenisations of texts, as far as they were drawn."""
    from likely.engine.measure.evaluate.scoring import token_paths

    for evaluation in done:
        rows = (r for r in store.rows(evaluation) if "marginal" in r.detail)
        drawn = [(r.number, r.cluster, r.values["nats"], r.values["bytes"], r.detail["marginal"]) for r in rows]
        estimates = token_paths.figures(drawn) if drawn else {}
        yield from (Score(evaluation, measure, estimate) for measure, estimate in estimates.items())


def check_judge(sources: "Sequence[TaskSource]", models: Sequence[str]) -> None:
    """UsageError where there is nothing to judge, before a model is loaded."""
    from likely.engine.measure.evaluate.tasks.tasks import Question, Task

    if len(models) < 2:
        raise click.UsageError("--judge compares two models' answers: name both with -M; rows of pairs need no --judge")
    if not any(isinstance(source.source, Task) and source.source.form is Question for source in sources):
        raise click.UsageError("--judge is of answers that are drawn: TASKS with a prompt and an answer")


def judged(store: Evaluations, done: Sequence[Evaluation], sources: "Sequence[TaskSource]") -> "list[TaskSource]":
    """A task of pairs for each model after the first, of the questions that both answered: their first answers."""
    from likely.app.results.task_sources import TaskSource
    from likely.engine.measure.evaluate.tasks import judging
    from likely.engine.measure.evaluate.tasks.tasks import Question, Task

    pairs = []
    for source in (item.source for item in sources):
        if not isinstance(source, Task) or source.form is not Question:
            continue
        first, *others = [evaluation for evaluation in done if evaluation.task == source.name]
        for other in others:

            def answers(a: Evaluation = first, b: Evaluation = other) -> judging.AnswerPairs:
                for own, theirs in store.common(a, b):
                    yield own.number, own.detail["answers"][0], theirs.detail["answers"][0]

            models = first.model, other.model
            identity = f"{first.id} {other.id}"
            if next(answers(), None) is not None:
                pairs.append(TaskSource(judging.pairs(source, models, answers, identity), {}))
    return pairs
