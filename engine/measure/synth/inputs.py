"""Inputs of a pipeline: problems with known answers, rows to start from, texts to stay away from. No mlx."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from likely.engine.base.errors import DataError
from likely.engine.base.files.home import expanded
from likely.engine.measure.evaluate.figures.contamination import text_of, words
from likely.engine.measure.evaluate.tasks import task_files
from likely.engine.measure.evaluate.tasks.generated import MAKERS, generated
from likely.engine.measure.evaluate.tasks.tasks import Item, Question, Task
from likely.engine.measure.synth.config import PipelineConfig
from likely.engine.measure.synth.row import digest
from likely.engine.text.rows import values
from likely.engine.text.rows.training_row import FORMS, TrainingRow, form_of, parse, sides
from likely.engine.train.data import data


@dataclass(frozen=True, slots=True)
class AskedProblem:
    """A problem as it is asked, with its task's examples before it, and `bare`, as it is trained on."""

    number: int
    asked: Question
    bare: Question


def task_of(name: str, names: Mapping[str, str] = {}) -> Task:
    """A generated task, or that of a file, whose columns `names` may rename. DataError where there is none, or
    several."""
    if (task := generated(name)) is not None:
        return task
    path = expanded(name)
    if not path.exists():
        raise DataError(
            f"there is no task {name}: give a file ({', '.join(task_files.SUFFIXES)}), or {', '.join(MAKERS)}"
        )
    suite = task_files.read(path, names={} if path.suffix == ".toml" else names)
    if len(suite) != 1:
        raise DataError(f"{path} is a suite of {len(suite)} tasks: name one of them")
    return suite[0]


def problems(task: Task, limit: int = 0) -> list[AskedProblem]:
    """The questions of a task, as they are asked and bare; DataError where it has none."""
    if task.form is not Question:
        raise DataError(f"{task.name}: problems are rows with prompt and answer, not {task.form.NAME}")
    aside = task.aside
    bare = {item.number: item.body for item in task.bare.items() if isinstance(item, Item)}
    asked_problems = []
    for item in task.items(limit or None):
        if isinstance(item, Item) and item.number >= aside:
            body, own = item.body, bare[item.number]
            assert isinstance(body, Question) and isinstance(own, Question)
            asked_problems.append(AskedProblem(item.number, body, own))
    if not asked_problems:
        raise DataError(f"{task.name}: no problem is in it")
    return asked_problems


def rows(source: str, limit: int = 0, names: Mapping[str, str] = {}) -> tuple[TrainingRow, ...]:
    """Rows of a file or a folder, in their order."""
    training = data.read(source, names=names, valid=0).train
    return training[: limit or None]


def identity(training: Iterable[TrainingRow]) -> str:
    """A fingerprint of rows: different rows have another."""
    return hashlib.sha256(repr([row.content for row in training]).encode("utf-8", "replace")).hexdigest()[:16]


def columns(config: PipelineConfig) -> frozenset[str]:
    """The columns of all files of rows that a pipeline reads, by their own names."""
    g, keys = config.generate, frozenset[str]()
    sources = (g.data, g.task, config.report.real, config.report.heldout, config.train.task)
    for source in {*sources, *config.deduplicate.against, *config.decontaminate.against}:
        path = expanded(source)
        if not source or generated(source) is not None or path.suffix == ".toml":
            continue
        one_file = path.is_file() and values.kind(path) in values.KINDS
        keys |= task_files.columns(path) if one_file else data.read(source, names=config.names, valid=0).keys
    return keys


def _is_task(path: Path, names: Mapping[str, str]) -> bool:
    """Whether a file's rows are items of a task rather than rows of training."""
    if path.suffix == ".toml":
        return True
    if path.is_dir() or Path(path.name.removesuffix(".gz")).suffix not in (".jsonl", ".csv"):
        return False
    first = next(iter(task_files.rows(path)), {})
    keys = form_of(first, names)
    return keys is None or FORMS[keys] == "question"


def training_rows(source: str, names: Mapping[str, str] = {}) -> tuple[TrainingRow, ...]:
    """Rows of any form, or the items of a task, without its examples, as rows of prompt and completion, or of text."""
    path = expanded(source)
    if generated(source) is None and path.exists() and not _is_task(path, names):
        return rows(source, names=names)
    task, training = task_of(source, names), []
    for item in task.bare.items():
        if isinstance(item, Item):
            value = {"text": text_of(item)}
            if isinstance(item.body, Question):
                value = {"prompt": item.body.prompt, "completion": f" {item.body.answers[0]}"}
            training.append(parse(value, f"{source}:{item.number}"))
    return tuple(training)


def pairs(source: str, names: Mapping[str, str] = {}) -> list[tuple[str, str]]:
    """Question and answer of each of them."""
    return [sides(row) for row in training_rows(source, names)]


KIND_OF: Mapping[str, Callable[[TrainingRow], str]] = {
    "row": lambda row: digest("\n".join(sides(row))),
    "answer": lambda row: " ".join(words(sides(row)[1])),
    "opening": lambda row: " ".join(words("\n".join(sides(row)))[:2]),
}


def texts(some: Sequence[tuple[str, str]]) -> list[str]:
    """Question and answer of each pair as one text."""
    return ["\n".join(side for side in pair if side) for pair in some]
