"""Subgroups of an evaluation: figures of the items with one value in a column, and of tokens as far in. No mlx."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from likely.engine.base.statistics.estimates import Estimate
from likely.engine.measure.evaluate.figures.figures import LIKELIHOOD, Tally
from likely.engine.measure.evaluate.tasks.tasks import Item, Task

Positions = Mapping[str, tuple[float, float]]  # `evaluation.by_position`


def by_column(tally: Tally, task: Task, column: str) -> dict[tuple[str, str], Estimate]:
    """Each measure over the items of each value in a column, by measure and value: a domain, a subject, a source.

    DataError where the rows have no such column.
    """
    named = replace(task, settings=replace(task.settings, cluster=column))
    members: dict[str, set[int]] = {}
    for item in named.items():
        if isinstance(item, Item):
            members.setdefault(str(item.cluster), set()).add(item.number)
    estimates: dict[tuple[str, str], Estimate] = {}
    for value in sorted(members):
        part = tally.only(members[value])
        estimates |= {(name, f"{column}={value}"): of for name, of in _of_part(part).items()}
    return estimates


def _of_part(part: Tally) -> dict[str, Estimate]:
    if not part.texts:
        return {name: part.estimate(name) for name in part.values}
    return {name: of for name, of in part.figures().items() if name.startswith(("perplexity", "bits_per_byte"))}


def by_position(items: Iterable[tuple[int, str | None, Positions]]) -> dict[tuple[str, str], Estimate]:
    """Perplexity of the tokens that had 1, 2 to 3, 4 to 7, ... tokens of their window before them, over items by number
    and cluster: documents, or windows of one."""
    tallies: dict[int, Tally] = {}
    for number, cluster, positions in items:
        for low, (nats, tokens) in positions.items():
            values = dict(zip(LIKELIHOOD, (nats, tokens, 0.0), strict=True))
            tallies.setdefault(int(low), Tally()).add(number, cluster, values)
    labels = {low: f"position={low}" + (f"-{2 * low - 1}" if low > 1 else "") for low in sorted(tallies)}
    return {("perplexity", words): tallies[low].estimate("perplexity") for low, words in labels.items()}
