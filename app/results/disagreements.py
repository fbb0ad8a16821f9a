"""Items on which two models differ, or that one has wrong, each with what was said; and how sure against how right.

From stored results and, where it is still there, the task itself. No model, no mlx.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from likely.app.results.task_sources import again
from likely.app.store.evaluations import Evaluation, Evaluations
from likely.engine.base.errors import DataError
from likely.engine.base.files import foreign_json
from likely.engine.base.files.home import expanded
from likely.engine.base.statistics.estimates import Estimate
from likely.engine.measure.evaluate.figures.calibration import Bin, reliability
from likely.engine.measure.evaluate.figures.figures import Tally
from likely.engine.measure.evaluate.tasks.conditional import ChangedContext, ConditionedText, JudgedPair, RestatedText
from likely.engine.measure.evaluate.tasks.tasks import (
    Choices,
    Document,
    Item,
    KnownDistribution,
    MinimalPair,
    Question,
    Result,
    Task,
)

LISTED = 200
BINS = 10


GONE = "the items' texts are not where they were when this was measured"
WINDOWS = "windows of a text: f4 measures it word by word"


@dataclass(frozen=True, slots=True)
class ModelAnswer:
    """One model's answer to an item: its text after what stands `before` it, whether it was right, and log p of the
    right one in nats."""

    text: str
    before: str
    value: float
    right: bool
    gold: float | None = None


@dataclass(frozen=True, slots=True)
class DifferingItem:
    """An item; `said` has one entry a model."""

    number: int
    title: str
    prompt: str
    answer: str
    said: tuple[ModelAnswer, ...]

    @property
    def bits(self) -> float | None:
        """log2 of how much likelier the right answer is under the second model; None where nobody asked."""
        golds = [answer.gold for answer in self.said]
        if len(golds) < 2 or golds[0] is None or golds[1] is None:
            return None
        return (golds[1] - golds[0]) / math.log(2)


@dataclass(frozen=True, slots=True)
class Confidence:
    """How sure a model was, against how often it was right: bins of equal width, and their expected error."""

    bins: tuple[Bin, ...]
    ece: Estimate


@dataclass(frozen=True, slots=True)
class AdaptedModel:
    """A model by its name, and the adapters (folder, weight) that were on it."""

    model: str
    adapters: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class TaskDetail:
    """A task under one model or two. `won`: items that the second alone has right; `lost`: the first alone."""

    task: str
    models: tuple[str, ...]
    confidence: tuple[Confidence | None, ...] = ()
    items: tuple[DifferingItem, ...] = ()
    differing: int = 0
    common: int = 0
    won: int = 0
    lost: int = 0
    chat: bool = False  # the items went through the chat template
    note: str = ""  # why the texts of the items are not there
    windows: bool = False  # the items are windows of a text
    bases: Mapping[str, AdaptedModel] = field(default_factory=dict)  # of one whose name is not the model's alone


def detail(store: Evaluations, evaluations: Sequence[Evaluation], tallies: Sequence[Tally]) -> TaskDetail:
    """One evaluation, or two of one task."""
    first = evaluations[0]
    rows: Iterator[tuple[Result, ...]] = (
        ((row,) for row in store.rows(first)) if len(evaluations) == 1 else store.common(first, evaluations[1])
    )
    entries: list[tuple[float, tuple[Result, ...]]] = []
    common = won = lost = 0
    name = tallies[0].first
    for entry in rows:
        common += 1
        values = [row.values.get(name, math.nan) for row in entry]
        binary = all(value in (0.0, 1.0) for value in values)
        if len(entry) == 2:
            won, lost = won + (values[1] > values[0]), lost + (values[0] > values[1])
        elif binary and values[0] == 1.0:
            continue
        if len(entry) == 2 and values[0] == values[1]:
            continue
        entries.append((_weight(entry, values), entry))
    entries.sort(key=lambda pair: (-pair[0], pair[1][0].number))
    shown = [entry for _, entry in entries[:LISTED]]
    task = again(first.place, str(first.asked.get("source")))
    windows = "text" in first.place
    note = WINDOWS if windows else GONE if task is None else ""
    bodies = _bodies(task, {entry[0].number for entry in shown})
    return TaskDetail(
        first.task,
        tuple(evaluation.model for evaluation in evaluations),
        tuple(map(_confidence, tallies)),
        tuple(_item(entry, bodies.get(entry[0].number), name, task) for entry in shown),
        len(entries),
        common,
        won,
        lost,
        bool(first.asked.get("protocol", {}).get("chat")),
        note,
        windows,
        {evaluation.model: base for evaluation in evaluations if (base := _base(evaluation)) is not None},
    )


def _base(evaluation: Evaluation) -> AdaptedModel | None:
    """The model of an evaluation, and its adapters, where its name says more than the model's; else None."""
    name, known = str(evaluation.place.get("model", evaluation.model)), "adapters" in evaluation.place
    if known and (on := tuple((str(folder), float(weight)) for folder, weight in evaluation.place["adapters"])):
        return AdaptedModel(name, on)
    try:
        config = foreign_json.read(expanded(name) / "adapter_config.json", {"model?": str})
    except DataError:
        return AdaptedModel(name, ()) if known else None
    return AdaptedModel(str(config["model"]), ((name, 1.0),)) if config.get("model") else None


def _weight(entry: Sequence[Result], values: Sequence[float]) -> float:
    """How far apart the answers are: what is shown first."""
    golds = [_gold(row) for row in entry]
    if len(entry) == 2:
        if golds[0] is not None and golds[1] is not None:
            return abs(golds[1] - golds[0])
        return abs(values[1] - values[0])
    return -golds[0] if golds[0] is not None else 1.0 - values[0]


def _gold(row: Result) -> float | None:
    """log p of the right text; of a pair, of the good one beside the bad one."""
    lls = row.detail.get("loglikelihoods")
    if not lls:
        return None
    if "kl" in row.values:
        return -row.values["kl"]
    if "gold" in row.detail:
        return float(lls[row.detail["gold"]])
    return float(lls[0] - lls[1]) if len(lls) == 2 else float(lls[0])


def _confidence(tally: Tally) -> Confidence | None:
    rows = tally.confidences()
    if rows is None:
        return None
    bins = reliability(rows[:, 0].tolist(), rows[:, 1].tolist(), BINS)
    return Confidence(tuple(bins), tally.calibrated("ece"))


def _bodies(task: Task | None, wanted: set[int]) -> dict[int, Item]:
    """The items of these numbers, without the examples before them."""
    if task is None or not wanted:
        return {}
    bodies = {}
    for item in task.items():
        if isinstance(item, Item) and item.number in wanted:
            bodies[item.number] = item
            if len(bodies) == len(wanted):
                break
    return bodies


def _item(entry: Sequence[Result], item: Item | None, name: str, task: Task | None) -> DifferingItem:
    number = entry[0].number
    body = item.body if item is not None else None
    prompt, answer = "", ""
    match body:
        case Question():
            prompt, answer = body.prompt, body.answers[0]
        case Choices():
            prompt, answer = body.context, body.choices[body.gold]
        case MinimalPair():
            answer = body.good
        case JudgedPair():
            prompt, answer = body.prompt, body.answer_a
        case ConditionedText():
            prompt, answer = body.context, body.continuation
        case RestatedText():
            prompt, answer = body.original, body.paraphrase
        case ChangedContext():
            prompt = body.changed
        case Document(text) | KnownDistribution(text):
            prompt = text
    title = _title(prompt or answer, task) or f"item {number + 1}"
    before = prompt + (task.settings.delimiter if task is not None and isinstance(body, Choices) else "")
    answers = tuple(_said(row, body, name, before) for row in entry)
    return DifferingItem(number, title, prompt, answer, answers)


def _title(prompt: str, task: Task | None) -> str:
    """The item's own words: what stands after the examples, its last line that says something."""
    if task is not None and task.settings.shots and task.settings.separator:
        prompt = prompt.rpartition(task.settings.separator)[2]
    lines = [line.strip() for line in prompt.splitlines() if line.strip()]
    own = [line for line in lines if line.lower() not in ("answer:", "a:")]
    return (own or lines or [""])[-1]


def _said(row: Result, body: object, name: str, before: str) -> ModelAnswer:
    detail: Mapping[str, Any] = row.detail
    value = float(row.values.get(name, math.nan))
    lls, gold = detail.get("loglikelihoods") or [], _gold(row)
    if "answers" in detail:
        return ModelAnswer(str(next(iter(detail["answers"]), "")), before, value, value >= 0.5)
    if lls and (isinstance(body, Choices) or "gold" in detail):
        best = max(range(len(lls)), key=lambda i: lls[i])
        text = body.choices[best] if isinstance(body, Choices) else f"choice {best + 1}"
        return ModelAnswer(text, before, value, value == 1.0, gold)
    if len(lls) == 2 and "acc" in row.values:
        text = (body.good if value else body.bad) if isinstance(body, MinimalPair) else ("good" if value else "bad")
        return ModelAnswer(text, "", value, value == 1.0, gold)
    return ModelAnswer("", before, value, False, gold)
