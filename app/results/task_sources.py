"""Sources of an evaluation's items: tasks by their files or built-in names, and text files. Knows no model, no mlx."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from likely.engine.base.errors import DataError, LikelyError, ParameterError
from likely.engine.base.files.home import expanded
from likely.engine.base.files.whole_file import read_whole
from likely.engine.measure.evaluate.tasks import task_files
from likely.engine.measure.evaluate.tasks.derived import DERIVATIONS, derived
from likely.engine.measure.evaluate.tasks.generated import MAKERS, generated
from likely.engine.measure.evaluate.tasks.harness_tasks import PREFIX, named
from likely.engine.measure.evaluate.tasks.shipped import SHIPPED, shipped
from likely.engine.measure.evaluate.tasks.tasks import COLUMNS, Task
from likely.engine.measure.evaluate.tasks.variations import Variation, varied
from likely.engine.text.rows.training_row import check_map, read_map


@dataclass(frozen=True)
class TextFile:
    """A file whose perplexity is asked for."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def identity(self) -> str:
        return task_files.digest(self.path)

    def read(self) -> str:
        """Its text; DataError for one that is empty or not UTF-8."""
        text = read_whole(self.path, newline="")  # its bytes are counted
        if not text:
            raise DataError(f"{self.path} is empty: there is nothing to measure")
        return text


@dataclass(frozen=True)
class TaskSource:
    """A task or a text file, and what it takes to find it again."""

    source: Task | TextFile
    place: Mapping[str, Any]


def sources(
    names: Sequence[str],
    text: Path | None = None,
    shots: int | None = None,
    cluster: str | None = None,
    mapped: Sequence[str] = (),
    remembered: Sequence[str] = (),
) -> list[TaskSource]:
    """Every task that is named, with what options say in place of its own lines, then the text file. `mapped` are
    THEIRS=OURS of the columns of files of rows; without any those that an adapter was trained with, which need not be
    of these files.

    DataError for what is not there or malformed, before a model is loaded; ParameterError for two of one name.
    """
    loaded: list[TaskSource] = []
    used = mapped or remembered
    columns, keys = read_map(used, COLUMNS), set[str]()
    for name in names:
        path = expanded(name)
        own = named(name) if name.startswith(PREFIX) else generated(name) or shipped(name)
        kind, _, file = name.partition(":")
        if own is not None:
            read, where = [own], name
        elif kind in DERIVATIONS and file:
            path = expanded(file)
            keys |= task_files.columns(path) if columns else set()
            read, where = derived(kind, path, columns), f"{kind}:{path.absolute()}"
        else:
            if not path.exists() and path.suffix not in (*task_files.SUFFIXES, ".gz"):
                there = ", ".join((*MAKERS, *SHIPPED, *(f"{derivation}:FILE" for derivation in DERIVATIONS)))
                raise DataError(f"there is no task {name}: give a file ({', '.join(task_files.SUFFIXES)}), or {there}")
            read, where = task_files.read(path, names=columns), str(path.absolute())
            keys |= task_files.columns(path) if columns else set()
        place = {"task": where, "shots": shots, "cluster": cluster, **({"map": list(used)} if used else {})}
        loaded += [TaskSource(_changed(task, shots, cluster), place) for task in read]
    if mapped:
        check_map(columns, keys)
    if text is not None:
        TextFile(text).read()
        loaded.append(TaskSource(TextFile(text), {"text": str(text.absolute())}))
    for source in loaded:
        if isinstance(source.source, Task):
            _ = source.source.form
    called = [entry.source.name for entry in loaded]
    for name in called:
        if called.count(name) > 1:
            raise ParameterError(f"two tasks are called {name}: give one another name (name = ... in a .toml file)")
    return loaded


def with_variations(loaded: Sequence[TaskSource], kind: str, variants: int) -> list[TaskSource]:
    """Each task, and behind it so many variations of a kind. ParameterError for a text file, and for a task that has
    none of that kind."""
    found = []
    for source in loaded:
        task = source.source
        if kind and not isinstance(task, Task):
            raise ParameterError(f"{kind} are varied of tasks with choices or questions: {task.name} is a text file")
        found.append(source)
        if kind and isinstance(task, Task):
            place = {**source.place, "vary": kind, "variants": variants}
            others = (varied(task, Variation(kind, number)) for number in range(1, variants + 1))
            found += [TaskSource(other, place) for other in others]
    return found


def again(place: Mapping[str, Any], identity: str) -> Task | None:
    """The task of this identity where it was found before; None where it is gone, is another by now, or is a text."""
    if "task" not in place:
        return None
    try:
        candidates = sources([place["task"]], None, place["shots"], place["cluster"], place.get("map", ()))
        candidates = with_variations(candidates, place.get("vary", ""), place.get("variants", 0))
    except LikelyError:
        return None
    return next((s.source for s in candidates if isinstance(s.source, Task) and s.source.identity == identity), None)


def _changed(task: Task, shots: int | None, cluster: str | None) -> Task:
    own = task.settings
    settings = replace(
        own, shots=own.shots if shots is None else shots, cluster=own.cluster if cluster is None else cluster
    )
    if settings == own:
        return task
    return replace(task, settings=settings, identity=f"{task.identity} {settings.shots} {settings.cluster}")
