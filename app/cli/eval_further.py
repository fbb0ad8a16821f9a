"""Figures of `likely eval` beyond a task's own, from what was kept of its items: at a fitted temperature, without what
was trained on, of the rows of a domain, of positions, by other tokenisations.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from likely.app.cli.eval_output import Figure
from likely.engine.errors import DataError

if TYPE_CHECKING:
    from likely.app.evaluations import Evaluations
    from likely.app.scoreboard import Measurement
    from likely.app.task_sources import TaskSource
    from likely.engine.evaluate.scaling import ScoredChoices


def scaled(store: "Evaluations", each: "Measurement", validated: "Sequence[Measurement]") -> "list[Figure]":
    """The figures of choices at the temperature that was fitted on the same model's validation items."""
    from likely.engine.evaluate import scaling

    model = each.evaluation.model
    held = next((v for v in validated if v.evaluation.model == model), None)
    if held is None or each.protocol["form"] != "choices":
        return []
    temperature = scaling.fit(_answered(store, held))
    protocol = {**each.protocol, "temperature": temperature, "fitted_on": held.evaluation.task}
    found = scaling.scaled(_answered(store, each), temperature)
    return [Figure(each.evaluation.task, model, name, figure, protocol) for name, figure in found.items()]


def contaminated(
    store: "Evaluations", done: "Sequence[Measurement]", asked: "Sequence[TaskSource]", training: Path
) -> "list[Figure]":
    """How much of each task stands in the training texts, and what is left of its score without that."""
    from likely.app.cli.eval_samples import texts
    from likely.engine.evaluate import contamination
    from likely.engine.evaluate.tasks import Task

    known = contamination.known(texts(training))
    told = {s.source.name: contamination.seen(s.source, known) for s in asked if isinstance(s.source, Task)}
    found = []
    for each in done:
        name, model = each.evaluation.task, each.evaluation.model
        rows = store.rows(each.evaluation, each.below) if name in told else ()
        least = {row.number: row.detail["min_20"] for row in rows if "min_20" in row.detail}
        if name in told:
            figures = contamination.figures(store.tally(each.evaluation, each.below), told[name], least)
            protocol = {**each.protocol, "training": str(training), "run": contamination.RUN}
            found += [Figure(name, model, measure, figure, protocol) for measure, figure in figures.items()]
    return found


def by_column(done: "Sequence[Measurement]", store: "Evaluations", column: str) -> "Iterator[Figure]":
    """The measures over the rows of each value in a column; DataError where the rows are not there any more."""
    from likely.app.task_sources import again
    from likely.engine.evaluate import subgroups

    for each in done:
        if "task" not in each.evaluation.place:
            continue  # a text, or rows that were made of answers: there are no columns
        name, model, source = each.evaluation.task, each.evaluation.model, str(each.evaluation.asked["source"])
        task = again(each.evaluation.place, source)
        if task is None:
            raise DataError(f"{name} is not where it was when it was measured: --by reads its rows again")
        found = subgroups.by_column(store.tally(each.evaluation, each.below), task, column)
        yield from (Figure(name, model, measure, of, each.protocol, which) for (measure, which), of in found.items())


def by_position(done: "Sequence[Measurement]", store: "Evaluations") -> "Iterator[Figure]":
    """Perplexity by how many tokens stood before; UsageError where nothing is a text."""
    from likely.engine.evaluate import subgroups

    texts = [each for each in done if each.protocol["form"] in ("documents", "text")]
    if not texts:
        raise click.UsageError("--positions is of texts: --text FILE, or a task whose rows have a text")
    for each in texts:
        if "draws" in each.protocol:
            name = each.evaluation.model
            raise click.UsageError(f"{name} is a diffusion model, whose tokens have no order: leave out --positions")
        rows = store.rows(each.evaluation, each.below)
        found = subgroups.by_position(
            (r.number, r.cluster, r.detail["positions"]) for r in rows if "positions" in r.detail
        )
        task, model = each.evaluation.task, each.evaluation.model
        yield from (Figure(task, model, measure, of, each.protocol, which) for (measure, which), of in found.items())


def ambiguity(done: "Sequence[Measurement]", store: "Evaluations") -> "Iterator[Figure]":
    """Bits a byte by all tokenisations of texts, as far as they were drawn."""
    from likely.engine.evaluate import token_paths

    for each in done:
        rows = (r for r in store.rows(each.evaluation, each.below) if "marginal" in r.detail)
        drawn = [(r.number, r.cluster, r.measures["nats"], r.measures["bytes"], r.detail["marginal"]) for r in rows]
        found = token_paths.figures(drawn) if drawn else {}
        task, model = each.evaluation.task, each.evaluation.model
        yield from (Figure(task, model, measure, of, each.protocol) for measure, of in found.items())


def _answered(store: "Evaluations", each: "Measurement") -> "Iterator[ScoredChoices]":
    from likely.engine.evaluate.scaling import ScoredChoices

    for row in store.rows(each.evaluation, each.below):
        yield ScoredChoices(row.number, row.cluster, row.detail["loglikelihoods"], int(row.detail["gold"]))
