"""Tasks of lm-evaluation-harness by name, where that is installed: its requests become our rows. No model, no mlx.

Its data are fetched by its own means. Choices and rolling texts have the harness's measures; answers that are drawn are
judged by our scorers, not by a task's filters: they cannot be set beside published ones.
"""

from collections.abc import Iterator
from importlib import import_module
from typing import Any

from likely.engine.base.errors import DataError, ParameterError
from likely.engine.base.machine.installation import adding
from likely.engine.measure.evaluate.tasks.tasks import Row, Task, TaskSettings

PREFIX = "lm_eval:"


def named(name: str) -> Task:
    """The task `lm_eval:NAME`. ParameterError where the package is not installed, DataError for what it cannot give."""
    try:
        manager, library = import_module("lm_eval.tasks"), import_module("lm_eval")
    except ImportError:
        raise ParameterError(f"lm-evaluation-harness is not installed: {adding('lm-eval')}") from None
    wanted = name.removeprefix(PREFIX)
    try:
        task = manager.get_task_dict([wanted], manager.TaskManager())[wanted]
        task.build_all_requests(limit=None, rank=0, world_size=1)
    except Exception as error:  # whatever it raises for a name, a network or a file that is not there
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataError(f"lm-evaluation-harness gives no task {wanted}: {line}") from None
    rows = list(_rows(task))
    if not rows:
        raise DataError(f"{name}: its requests ({task.OUTPUT_TYPE}) are none that can be asked here")
    settings = _settings(task)
    identity = f"{name} {getattr(library, '__version__', '')} {len(rows)} {rows[0]} {settings}"
    return Task(name, lambda: iter(rows), identity, settings)


def _settings(task: Any) -> TaskSettings:
    settings = TaskSettings(delimiter=task.config.target_delimiter)
    if task.OUTPUT_TYPE != "generate_until":
        return settings
    options = task.config.generation_kwargs or {}
    until = options.get("until") or []
    stop = (until,) if isinstance(until, str) else tuple(until)
    return TaskSettings(stop=stop, max_tokens=int(options.get("max_gen_toks") or settings.max_tokens))


def _rows(task: Any) -> Iterator[Row]:
    kind, delimiter = task.OUTPUT_TYPE, str(task.config.target_delimiter)
    groups: dict[int, list[Any]] = {}
    for request in task.instances:
        groups.setdefault(request.doc_id, []).append(request)
    for requests in groups.values():
        doc, args = requests[0].doc, [request.args for request in requests]
        if kind == "multiple_choice":
            context = args[0][0]
            choices = [continuation.removeprefix(delimiter) for before, continuation in args if before == context]
            yield {"context": context, "choices": choices, "gold": task.doc_to_target(doc)}
        elif kind == "generate_until":
            yield {"prompt": args[0][0], "answer": task.doc_to_target(doc)}
        elif kind == "loglikelihood_rolling":
            yield {"text": args[0][0]}
