"""`likely eval TASK --vary KIND`: the same items otherwise, and what that does to scores and distributions."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import click

from likely.app.cli.options.opening import Progress
from likely.app.results.scoreboard import Score
from likely.app.store.evaluations import Evaluation, Evaluations

if TYPE_CHECKING:
    from likely.app.results.task_sources import TaskSource
    from likely.engine.decode.session import Session
    from likely.engine.measure.evaluate.figures.robustness import Variant
    from likely.engine.measure.evaluate.tasks.tasks import Task
    from likely.engine.measure.evaluate.tasks.variations import Paraphrases, Variation


@dataclass(frozen=True)
class VariedTask:
    """A task's variations of one kind: what is asked for them, and what they are set against."""

    task: "Task"
    kind: str
    base: "Sequence[TaskSource]"  # one in the place of the task itself, where that is asked otherwise too
    variants: "Sequence[TaskSource]"
    contexts: "Sequence[TaskSource]"  # for the distribution after questions
    ways: "Sequence[Variation]"  # of the variants
    by: str = ""  # who paraphrased

    @property
    def sources(self) -> "list[TaskSource]":
        return [*self.base, *self.variants, *self.contexts]


def plan(
    sources: "Sequence[TaskSource]",
    kinds: Sequence[str],
    variants: int,
    seed: int,
    limit: int | None,
    paraphraser: str | None,
    open_model: "Callable[[str], Session]",
) -> list[VariedTask]:
    """Every kind of variation of every task; what a model is to say otherwise is said here, before the others load."""
    variations = planned(sources, kinds, variants, seed)
    if paraphraser is None:
        return variations
    if "paraphrase" not in kinds:
        raise click.UsageError("--paraphraser goes with --vary paraphrase")
    with Progress() as progress:
        rewordings = paraphrased(open_model(paraphraser), sources, variants, seed, limit, progress.show)
    return planned(sources, kinds, variants, seed, rewordings, paraphraser)


def planned(
    sources: "Sequence[TaskSource]",
    kinds: Sequence[str],
    variants: int,
    seed: int,
    rewordings: "Mapping[str, Paraphrases] | None" = None,
    by: str = "",
) -> list[VariedTask]:
    """ParameterError for a task that a kind is not of."""
    from likely.app.results.task_sources import TaskSource
    from likely.engine.base.errors import ParameterError
    from likely.engine.measure.evaluate.tasks.tasks import Question, Task
    from likely.engine.measure.evaluate.tasks.variations import Variation, contexts, varied

    plans = []
    for source in sources:
        task = source.source
        if kinds and not isinstance(task, Task):
            raise ParameterError("--vary is of TASKS with choices or questions, not of a text file")
        for kind in dict.fromkeys(kinds):
            assert isinstance(task, Task)
            own = rewordings[task.name] if rewordings is not None and kind == "paraphrase" else None
            ways = [Variation(kind, number, seed, own) for number in range(1, variants + 1)]
            others = [varied(task, way) for way in ways]
            moved = [contexts(task, other) for other in others] if task.form is Question else []
            base = [varied(task, Variation(kind, 0))] if kind == "choices" else []
            sourced = [[TaskSource(other, {}) for other in some] for some in (base, others, moved)]
            by_whom = by if own is not None else ""
            plans.append(VariedTask(task, kind, sourced[0], sourced[1], sourced[2], ways, by_whom))
    return plans


def paraphrased(
    session: "Session",
    sources: "Sequence[TaskSource]",
    variants: int,
    seed: int,
    limit: int | None,
    progress: Callable[[str, int, int], None],
) -> "dict[str, Paraphrases]":
    """Of each task, the paraphrases of its items by their numbers."""
    from likely.engine.measure.evaluate.paraphrase import paraphrases
    from likely.engine.measure.evaluate.tasks.tasks import Task

    rewordings: dict[str, Paraphrases] = {}
    for source in sources:
        if isinstance(source.source, Task):
            own = {}
            for number, texts in paraphrases(session, source.source, variants, limit=limit, seed=seed):
                own[number] = texts
                progress(f"{source.source.name} in other words", len(own), 0)
            rewordings[source.source.name] = own
    return rewordings


def figures(
    store: Evaluations, done: Sequence[Evaluation], aside: Sequence[Evaluation], varied: Sequence[VariedTask]
) -> Iterator[Score]:
    """Each task's figures of robustness by each model, of the items that all its variations have."""
    from likely.engine.measure.evaluate.figures import robustness

    there = {evaluation.cell: evaluation for evaluation in (*done, *aside)}
    for own in done:
        name, model = own.cell
        for varied_task in (plan for plan in varied if plan.task.name == name):
            names = [source.source.name for source in varied_task.variants]
            base = there.get((varied_task.base[0].source.name if varied_task.base else name, model))
            others = [there[key, model] for key in names if (key, model) in there]
            if base is None or len(others) < len(names):
                continue  # it was stopped before
            items = [_items(store, other, way) for other, way in zip(others, varied_task.ways, strict=True)]
            first = _items(store, base, None)
            _lost(store, name, model, varied_task.kind, len(set(first).intersection(*items)), len(first), others)
            estimates = robustness.figures(first, items, varied_task.kind, _scores(own, varied_task.kind, first))
            moved = [there.get((source.source.name, model)) for source in varied_task.contexts]
            tallies = [store.tally(evaluation) for evaluation in moved if evaluation is not None]
            if tallies and len(tallies) == len(names):
                estimates |= robustness.moved(tallies, varied_task.kind)
            protocol = {
                **own.protocol,
                "vary": varied_task.kind,
                "variants": len(names),
                "seed": varied_task.ways[0].seed,
            }
            protocol |= {"paraphraser": varied_task.by} if varied_task.by else {}
            yield from (
                Score(replace(own, protocol=protocol), measure, estimate) for measure, estimate in estimates.items()
            )


def _lost(
    store: Evaluations, name: str, model: str, kind: str, n: int, total: int, others: Sequence[Evaluation]
) -> None:
    """Say of how many items a variation is, where some could not be varied."""
    if n < total:
        odd = (p for other in others for p in store.problems(other) if not p.scored)
        why = next((f": {problem.words}" for problem in odd if problem.kind != "example"), "")
        click.echo(f"{name}, {model}: {kind} of {n} of {total} items{why}", err=True)


def _scores(own: Evaluation, kind: str, items: "Variant") -> Sequence[str]:
    """Measures that are looked at: of questions every scorer's; letters are all of one length."""
    if own.protocol["form"] == "choices":
        return ("acc",) if kind == "choices" else ("acc", "acc_norm")
    return [name for name in dict.fromkeys(name for item in items.values() for name in item.values) if " " not in name]


def _items(store: Evaluations, evaluation: Evaluation, way: "Variation | None") -> "Variant":
    """Its items, choices' log-probabilities in the order that the task itself has them in."""
    from likely.engine.measure.evaluate.tasks.variations import order

    items = {}
    for row in store.rows(evaluation):
        logs = row.detail.get("loglikelihoods", ())
        if way is not None and way.kind == "choices":
            places = order(way, row.number, len(logs))
            logs = [logs[places.index(i)] for i in range(len(logs))]
        items[row.number] = replace(row, detail={"loglikelihoods": logs})
    return items
