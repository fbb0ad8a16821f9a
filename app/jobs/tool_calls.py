"""Calls of tools as a loaded model's engine reads and hears them: functions for `app.calls.call`. Imports no mlx."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from likely.app.jobs.calls import Engine
from likely.app.jobs.worker import worked
from likely.engine.chat.tools.tool import Tool, ToolResult
from likely.engine.decode.prompt import Prompt

if TYPE_CHECKING:
    from likely.engine.chat.tools.use import ToolAnswer
    from likely.engine.sampling.trace.step import TokenStep


def read_calls(
    engine: Engine, prompt: Sequence[int], steps: "Sequence[TokenStep]", tools: Sequence[Tool]
) -> Iterator[Any]:
    """The calls of an answer, and the law over them: `CallsRead`."""
    yield (yield from worked(engine.reading_calls(prompt, steps, tools)))


def hear_results(
    engine: Engine, prompt: Prompt, tools: Sequence[Tool], answer: "ToolAnswer", results: Sequence[ToolResult]
) -> Iterator[Any]:
    """The results as the next prompt has them, and how surprising they are there: `ResultsHeard`."""
    yield (yield from worked(engine.hearing_results(prompt, tools, answer, results)))
