"""Problems of a task as rows that answers are drawn to: asked as `likely eval` asks them, judged by the task's scorers.

A task is one that is generated, by its name, or a TOML file; all else is read as rows of data are. No model.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from likely.engine.base.errors import DataError
from likely.engine.base.files.home import expanded
from likely.engine.measure.evaluate.tasks import task_files, verifiers
from likely.engine.measure.evaluate.tasks.generated import generated
from likely.engine.measure.evaluate.tasks.tasks import Item, Question, Task, TaskSettings
from likely.engine.text.rows.training_row import TrainingRow
from likely.engine.train.data import data
from likely.engine.train.data.data import Data, Judging
from likely.engine.weights.sources.fetch.progress import Report, silent

ASKED = ("program", "math", "regex")  # scorers that run in a process, whose verdicts are worth keeping


def read(
    source: str | Path,
    *,
    names: Mapping[str, str] | None = None,
    valid: float = 0.05,
    keep_duplicates: bool = True,
    progress: Report = silent,
) -> Data:
    """The problems of a task, in parts like rows of data (`tune.data.read`), or those rows.

    DataError for a task whose answers are not drawn, and where it has no problem.
    """
    path, task = expanded(source), generated(str(source))
    if task is None and path.suffix == ".toml":
        tasks = task_files.read(path, names=names or {})
        if len(tasks) != 1:
            raise DataError(f"{path} is a suite of {len(tasks)} tasks: give one of them")
        task = tasks[0]
    if task is None:
        return data.read(source, names=names, valid=valid, keep_duplicates=keep_duplicates, progress=progress)
    if task.form is not Question:
        raise DataError(
            f"{task.name}: its {task.form.NAME} are scored by their probability, and rewards are of answers that are "
            "drawn: give a task with prompt and answer"
        )
    rows, judges = _problems(task, str(source))
    if not rows:
        raise DataError(f"{task.name}: no problem is in it")
    settings = task.settings
    judging = Judging(judges, task.identity, settings.stop, bool({*settings.scorers} & {*ASKED}))
    return data.parted(
        {"train": rows}, str(source), valid=valid, keep_duplicates=keep_duplicates, judging=judging
    )  # fmt: skip


def _problems(task: Task, source: str) -> tuple[list[TrainingRow], dict[str, Callable[[str], float]]]:
    verifiers.check(task.settings)
    bare = {item.number: item.body for item in task.bare.items() if isinstance(item, Item)}
    rows, judges = list[TrainingRow](), dict[str, Callable[[str], float]]()
    for item in task.items():
        if isinstance(item, Item) and isinstance(item.body, Question):
            where, own = f"{source}:{item.number + 1}", bare[item.number]
            assert isinstance(own, Question)
            says = (("user", item.body.prompt), ("assistant", own.answers[0]))
            messages = tuple({"role": role, "content": content} for role, content in says)
            rows.append(TrainingRow("problem", where, messages=messages))
            judges[where] = partial(_judged, own, task.settings)
    return rows, judges


def _judged(question: Question, settings: TaskSettings, said: str) -> float:
    """1 where each scorer finds it right. VerifierError where one gives no verdict."""
    return min(verifiers.judge(question, said, settings).values())
