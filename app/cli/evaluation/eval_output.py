"""Figures of `likely eval` for a person or a program: a table, sentences of comparison, one JSON object a row."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from likely.app.results.scoreboard import Score
from likely.app.store.evaluations import Evaluation, Evaluations
from likely.app.words.heat import sanitize_line
from likely.app.words.tables import Columns
from likely.app.words.units import LN2, NATS, bits, finite, json_line, predicted
from likely.engine.base.errors import ParameterError
from likely.engine.base.statistics.estimates import TELLING, TOO_FEW
from likely.engine.base.statistics.measures import measure
from likely.engine.base.statistics.scores import AT_MOST, stem

if TYPE_CHECKING:
    from likely.engine.base.statistics.estimates import Estimate
    from likely.engine.measure.evaluate.figures.figures import ComparedMeasure, Tally
    from likely.engine.measure.evaluate.tasks.tasks import Problem, Result


def say(
    store: Evaluations,
    done: Sequence[Evaluation],
    measures: Sequence[str],
    as_json: bool,
    items: bool,
    *,
    more: Sequence[Score] = (),
    difference: float | None = None,
) -> None:
    """Every figure, or every item; then which of two models is better, and how many items would show a named
    `difference`. `more` are figures from elsewhere."""
    if items:
        for evaluation in done:
            for row in store.rows(evaluation):
                click.echo(json_line(_item(evaluation, row), loglikelihoods=NATS))
        return
    from likely.engine.measure.evaluate.figures.figures import comparisons, left_out

    tallies = {evaluation.cell: store.tally(evaluation) for evaluation in done}
    rows: list[Score] = []
    for evaluation in done:
        odd = left_out(store.problems(evaluation))
        annotated = replace(evaluation, protocol={**evaluation.protocol, **({"rows": odd} if odd else {})})
        rows += [Score(annotated, name, estimate) for name, estimate in tallies[evaluation.cell].figures().items()]
        rows += [score for score in more if score.evaluation.cell == evaluation.cell]
    models = list(dict.fromkeys(e.model for e in done))
    compared = comparisons(tallies, models) if len(models) > 1 else []
    show(rows, measures, as_json=as_json)
    compared = [
        comparison for comparison in compared if not measures or comparison.measure in map(stem, _kept(measures))
    ]
    if as_json:
        for change in compared:
            units = _units(change.measure, "difference", "se", "low", "high", "values")
            click.echo(json_line(_comparison(change, difference), **units))
        return
    for task, about in {(e.task, e.protocol.get("about")): None for e in done}:
        if about:
            click.echo(f"{task}: {about}.")
    for evaluation in done:
        if (tally := tallies[evaluation.cell]).texts:
            click.echo(
                sanitize_line(f"{evaluation.task}, {evaluation.model}: {_predicted(tally, evaluation.protocol)}.")
            )
        _odd(evaluation, store.problems(evaluation))
    for change in compared:
        click.echo(sanitize_line(sentence(change, difference)))
    for task in dict.fromkeys(comparison.task for comparison in compared):
        read = {evaluation.protocol.get("window", 0) for evaluation in done if evaluation.task == task}
        if len(read) > 1:
            sizes = " and ".join(map(str, sorted(read)))
            click.echo(
                f"{task}: windows of {sizes} tokens, added up where they end alike; --window {min(read)} is for all"
            )


def show(rows: Sequence[Score], measures: Sequence[str], *, as_json: bool) -> None:
    """Figures, of these measures alone if any are named; ParameterError for a task that has not one of them."""
    measures = _kept(measures)
    for task, model in dict.fromkeys(row.evaluation.cell for row in rows):
        there = list(dict.fromkeys(row.measure for row in rows if row.evaluation.cell == (task, model)))
        for name in measures:
            if name not in {*there, *map(stem, there)}:
                raise ParameterError(f"{task} has no measure {name}: it has {', '.join(there)}")
    rows = [row for row in rows if not measures or {row.measure, stem(row.measure)} & {*measures}]
    if not as_json:
        _table(rows)
        for name in dict.fromkeys(row.measure for row in rows):
            if note := measure(name).note:
                click.echo(f"{name}: {note}")
        return
    for row in rows:
        click.echo(json_line(_figure(row), **_units(row.measure, "value", "se", "low", "high")))


def _figure(row: Score) -> dict[str, Any]:
    low, high = row.estimate.interval
    return {
        "task": row.evaluation.task,
        "model": row.evaluation.model,
        "measure": row.name,
        "value": finite(row.estimate.mean),
        "se": finite(row.estimate.error),
        "low": finite(low),
        "high": finite(high),
        "n": row.estimate.n,
        **({"bound": "upper"} if row.measure.endswith(AT_MOST) else {}),
        **({"note": note} if (note := measure(row.measure).note) else {}),
        "protocol": dict(row.evaluation.protocol),
    }


def _item(evaluation: Evaluation, row: "Result") -> dict[str, Any]:
    return {
        "task": evaluation.task,
        "model": evaluation.model,
        "item": row.number,
        **({"cluster": row.cluster} if row.cluster is not None else {}),
        **row.values,
        **row.detail,
    }


def _comparison(comparison: "ComparedMeasure", difference: float | None) -> dict[str, Any]:
    low, high = comparison.change.estimate.interval
    return {
        "task": comparison.task,
        "measure": comparison.measure,
        "models": list(comparison.models),
        "difference": finite(comparison.change.estimate.mean),
        "se": finite(comparison.change.estimate.error),
        "low": finite(low),
        "high": finite(high),
        "p": comparison.p,
        "n": comparison.n,
        "items": list(comparison.items),
        "values": [finite(x) for x in comparison.means],
        **({"clusters": comparison.change.groups} if comparison.change.groups != comparison.n else {}),
        "needed": comparison.change.needed if difference is None else comparison.change.items_to_see(difference),
        **({"needed_for": difference} if difference is not None else {}),
        "verdict": comparison.verdict,
        **({"bounds": list(comparison.bounds)} if any(comparison.bounds) else {}),
    }


def _kept(measures: Sequence[str]) -> list[str]:
    """Measures by the names they are kept under: what is kept in nats is read in bits."""
    return [f"nats{name[4:]}" if stem(name) == "bits" else name for name in measures]


def _predicted(tally: "Tally", protocol: Mapping[str, Any]) -> str:
    """How many tokens of the texts have a distribution: without a prefix token each text's first has none."""
    scored = int(tally.figures()["tokens"].mean)
    if tally.bounded or protocol.get("prefix_token", "") is not None:
        return predicted(scored, scored)
    return predicted(scored, scored + (1 if protocol.get("items") == "windows" else len(tally.numbers)))


def _units(name: str, *keys: str) -> dict[str, str]:
    """The unit of a measure, where it has one, for each of these keys."""
    unit = measure(name).unit
    return dict.fromkeys(keys, f"{unit} a token" if name == "nats" and "difference" in keys else unit) if unit else {}


def in_bits(name: str, estimate: "Estimate") -> tuple[str, str, "Estimate"]:
    """A measure as a person reads it: its name, its unit, and its figure, in bits where it is kept in nats."""
    unit = measure(name).unit
    if unit != NATS:
        return name, unit, estimate
    return f"bits{name[4:]}" if stem(name) == "nats" else name, "bits", estimate.map(bits, 1 / LN2)


def _table(rows: Sequence[Score]) -> None:
    names = ("task", "model", "measure", "unit", "value", "95 %", "n")
    cells = []
    for row in rows:
        name, unit, estimate = in_bits(row.measure, row.estimate)
        form = measure(row.measure).form
        value = f"{estimate.mean:{form}}" if form else number(estimate.mean)
        shown = span(estimate) if estimate.error or estimate.bounds else ""  # a sum is no sample
        if row.measure.endswith(AT_MOST):
            value = f"<= {value}"
        cells.append((*row.evaluation.cell, f"{name} {row.subgroup}".rstrip(), unit, value, shown, str(estimate.n)))
    sizes = [max(map(len, column)) for column in zip(names, *cells, strict=True)]
    columns = Columns("  ".join(f"{{{n}:{side}{size}}}" for n, side, size in zip(names, "<<<<>>>", sizes, strict=True)))
    for line in (columns.heading, *(columns.line(*row) for row in cells)):
        click.echo(sanitize_line(line))


def number(x: float) -> str:
    """Four digits after the point, fewer for what is large."""
    return (
        "-" if not math.isfinite(x) else f"{x:.4f}" if abs(x) < 10 else f"{x:.2f}" if abs(x) < 10_000 else f"{x:,.0f}"
    )


def span(estimate: "Estimate") -> str:
    """The 95 % interval."""
    low, high = estimate.interval
    return f"{number(low)} to {number(high)}" if math.isfinite(high - low) else "from one item: no error"


def _odd(evaluation: Evaluation, problems: "Sequence[Problem]") -> None:
    """Which rows are not like the others, so that none is dropped in silence."""
    kinds: dict[tuple[str, bool, str], list[Problem]] = {}
    for problem in problems:
        reason = re.sub(r"\d+", "", problem.words.partition(", got")[0])
        kinds.setdefault((problem.kind, problem.scored, reason), []).append(problem)
    for (kind, scored, _), group in kinds.items():
        rows = ", ".join(str(problem.number + 1) for problem in group[:8]) + (", ..." if len(group) > 8 else "")
        fate = "scored" if scored else "left out"
        row = "row" if len(group) == 1 else "rows"
        words = f"{evaluation.task}, {evaluation.model}: {len(group)} {kind} ({fate}), {row} {rows}"
        click.echo(sanitize_line(f"{words}: {group[0].words}"), err=True)


def sentence(comparison: "ComparedMeasure", difference: float | None) -> str:
    """A comparison in words, nats as bits; of a `difference`, how many items it takes to see it."""
    change = comparison.change
    name, unit, estimate = in_bits(comparison.measure, change.estimate)
    low, high = estimate.interval
    alone = "from one item" if comparison.n == 1 else "from one cluster" if change.groups == 1 else "all differ alike"
    span = f"{low:+.4f} to {high:+.4f}" if math.isfinite(high - low) else f"{alone}: no error"
    unit = f" {unit}" if unit == "bits" else ""
    unit += " a token" if comparison.measure == "nats" else ""
    least = [name for name, is_bound in zip(comparison.models, comparison.bounds, strict=True) if is_bound]
    unit += f" (of {' and '.join(least)} at most)" if least else ""
    items = f"{comparison.n} items" + (f" in {change.groups} clusters" if 1 < change.groups < comparison.n else "")
    if {*comparison.items} - {comparison.n, 0}:
        values = " and ".join(number(bits(x) if unit.startswith(" bits") else x) for x in comparison.means)
        items += f" that both have of {comparison.items[0]} and {comparison.items[1]}, with {values}"
    hint = ""
    if difference is not None:
        many = change.items_to_see(difference)
        shown_change = f"{bits(difference):.4g} bits" if measure(comparison.measure).unit == NATS else f"{difference:g}"
        hint = f"; to see {shown_change} four times in five: {f'{many:,} items' if many else 'these do not tell'}"
    elif comparison.verdict == TOO_FEW:
        hint = f"; {TELLING} items, or clusters of them, are the fewest that can"
    elif comparison.verdict == "not seen" and change.needed and change.needed > comparison.n:
        hint = f"; {change.needed:,} items would show a difference of this size four times in five"
    return (
        f"{comparison.task} {name}: {comparison.models[1]} against {comparison.models[0]} "
        f"{estimate.mean:+.4f}{unit} ({span}; {items}, p {comparison.p:.2g}): {comparison.verdict}{hint}"
    )
