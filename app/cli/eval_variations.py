"""`likely eval TASK --vary KIND`: the same items otherwise, and what that does to scores and distributions."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import click

from likely.app.cli.opening import Progress
from likely.app.evaluations import Evaluation, Evaluations
from likely.app.scoreboard import Score

if TYPE_CHECKING:
    from likely.app.task_sources import TaskSource
    from likely.engine.evaluate.robustness import Variant
    from likely.engine.evaluate.tasks import Task
    from likely.engine.evaluate.variations import Paraphrases, Variation
    from likely.engine.session import Session


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
    asked: "Sequence[TaskSource]",
    kinds: Sequence[str],
    variants: int,
    seed: int,
    limit: int | None,
    paraphraser: str | None,
    open_model: "Callable[[str], Session]",
) -> list[VariedTask]:
    """Every kind of variation of every task; what a model is to say otherwise is said here, before the others load."""
    found = planned(asked, kinds, variants, seed)
    if paraphraser is None:
        return found
    if "paraphrase" not in kinds:
        raise click.UsageError("--paraphraser goes with --vary paraphrase")
    with Progress() as progress:
        said = paraphrased(open_model(paraphraser), asked, variants, seed, limit, progress.show)
    return planned(asked, kinds, variants, seed, said, paraphraser)


def planned(
    asked: "Sequence[TaskSource]",
    kinds: Sequence[str],
    variants: int,
    seed: int,
    said: "Mapping[str, Paraphrases] | None" = None,
    by: str = "",
) -> list[VariedTask]:
    """ParameterError for a task that a kind is not of."""
    from likely.app.task_sources import TaskSource
    from likely.engine.errors import ParameterError
    from likely.engine.evaluate.tasks import Question, Task
    from likely.engine.evaluate.variations import Variation, contexts, varied

    found = []
    for each in asked:
        task = each.source
        if kinds and not isinstance(task, Task):
            raise ParameterError("--vary is of TASKS with choices or questions, not of a text file")
        for kind in dict.fromkeys(kinds):
            assert isinstance(task, Task)
            own = said[task.name] if said is not None and kind == "paraphrase" else None
            ways = [Variation(kind, number, seed, own) for number in range(1, variants + 1)]
            others = [varied(task, way) for way in ways]
            moved = [contexts(task, other) for other in others] if task.form is Question else []
            base = [varied(task, Variation(kind, 0))] if kind == "choices" else []
            sourced = [[TaskSource(other, {}) for other in some] for some in (base, others, moved)]
            by_whom = by if own is not None else ""
            found.append(VariedTask(task, kind, sourced[0], sourced[1], sourced[2], ways, by_whom))
    return found


def paraphrased(
    session: "Session",
    asked: "Sequence[TaskSource]",
    variants: int,
    seed: int,
    limit: int | None,
    progress: Callable[[str, int, int], None],
) -> "dict[str, Paraphrases]":
    """Of each task, the paraphrases of its items by their numbers."""
    from likely.engine.evaluate.paraphrase import paraphrases
    from likely.engine.evaluate.tasks import Task

    found: dict[str, Paraphrases] = {}
    for each in asked:
        if isinstance(each.source, Task):
            said = {}
            for number, texts in paraphrases(session, each.source, variants, limit=limit, seed=seed):
                said[number] = texts
                progress(f"{each.source.name} in other words", len(said), 0)
            found[each.source.name] = said
    return found


def figures(
    store: Evaluations, done: Sequence[Evaluation], aside: Sequence[Evaluation], varied: Sequence[VariedTask]
) -> Iterator[Score]:
    """Each task's figures of robustness by each model, of the items that all its variations have."""
    from likely.engine.evaluate import robustness

    there = {each.cell: each for each in (*done, *aside)}
    for own in done:
        name, model = own.cell
        for each in (plan for plan in varied if plan.task.name == name):
            names = [source.source.name for source in each.variants]
            base = there.get((each.base[0].source.name if each.base else name, model))
            others = [there[key, model] for key in names if (key, model) in there]
            if base is None or len(others) < len(names):
                continue  # it was stopped before
            items = [_items(store, other, way) for other, way in zip(others, each.ways, strict=True)]
            first = _items(store, base, None)
            _lost(store, name, model, each.kind, len(set(first).intersection(*items)), len(first), others)
            found = robustness.figures(first, items, each.kind, _scores(own, each.kind, first))
            moved = [there.get((source.source.name, model)) for source in each.contexts]
            tallies = [store.tally(each) for each in moved if each is not None]
            if tallies and len(tallies) == len(names):
                found |= robustness.moved(tallies, each.kind)
            protocol = {**own.protocol, "vary": each.kind, "variants": len(names), "seed": each.ways[0].seed}
            protocol |= {"paraphraser": each.by} if each.by else {}
            yield from (
                Score(replace(own, protocol=protocol), measure, estimate) for measure, estimate in found.items()
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


def _items(store: Evaluations, each: Evaluation, way: "Variation | None") -> "Variant":
    """Its items, choices' log-probabilities in the order that the task itself has them in."""
    from likely.engine.evaluate.variations import order

    found = {}
    for row in store.rows(each):
        logs = row.detail.get("loglikelihoods", ())
        if way is not None and way.kind == "choices":
            places = order(way, row.number, len(logs))
            logs = [logs[places.index(i)] for i in range(len(logs))]
        found[row.number] = replace(row, detail={"loglikelihoods": logs})
    return found
