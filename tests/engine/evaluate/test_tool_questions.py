"""Questions with tools: scripted models that call as they should, otherwise, needlessly, or not."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from likely.engine.base.errors import DataError, ParameterError
from likely.engine.decode.session import Session
from likely.engine.measure.evaluate.evaluation import evaluate
from likely.engine.measure.evaluate.scoring.protocol import Protocol
from likely.engine.measure.evaluate.tasks.generated import generated
from likely.engine.measure.evaluate.tasks.tasks import Item, Problem, Result, Task
from likely.engine.measure.evaluate.tasks.tool_questions import ToolQuestion
from likely.engine.weights.sources.checkpoint import load
from tests.support import thinkers
from tests.support.dialects import DIALECTS, WEATHER
from tests.support.thinkers import Thinker

TOOLS = [{"name": name, "parameters": {"type": "object", "properties": {"a": {}}}} for name in ("add", "sub")]
CALLS = (
    "{% if tools %}{% endif %}{% for m in messages %}{% for c in m.tool_calls or [] %}{% raw %}<tool_call>{% endraw %}\
{{ '{\"name\": \"' + c.function.name + '\"}' }}{% endfor %}{% endfor %}a:"
)


THINKER = Thinker(CALLS, ("<think>",), "")


def measured(
    folder: Path, script: str, call: Any, thinker: Thinker = THINKER, tools: Sequence[Any] = TOOLS
) -> dict[str, float]:
    """What is measured of a model that writes a script where the right call is another, or none."""
    model = thinkers.write(folder / "model", thinker, script)
    task = Task("t", lambda: iter([{"prompt": "hi", "tools": [*tools], "call": call}]), "1")
    (result,) = evaluate(Session(load(str(model))), task, Protocol())
    assert isinstance(result, Result)
    return dict(result.values)


ADD = '<tool_call>{"name": "add", "arguments": {"a": 3}}</tool_call>'


@pytest.mark.slow(3)
@pytest.mark.parametrize(
    ("script", "call", "values"),
    [
        (ADD, {"name": "add", "arguments": {"a": 3}}, {"right_tool": 1, "right_arguments": 1, "right_choice": 1}),
        (ADD, {"name": "add", "arguments": {"a": 4}}, {"right_tool": 1, "right_arguments": 0, "right_choice": 1}),
        (ADD, {"name": "sub", "arguments": {"a": 3}}, {"right_tool": 0, "right_arguments": 0, "right_choice": 0}),
        (ADD + ADD, {"name": "add", "arguments": {"a": 3}}, {"right_tool": 0, "right_arguments": 0, "right_choice": 1}),
        (ADD, None, {"right_tool": 0, "needless_call": 1, "right_choice": 0}),
        ("Hello", None, {"right_tool": 1, "needless_call": 0, "right_choice": 1}),
        ("Hello", {"name": "add", "arguments": {}}, {"right_tool": 0, "right_arguments": 0, "right_choice": 0}),
        ("<tool_call>nothing", None, {"right_tool": 1, "needless_call": 0, "right_choice": 0}),
    ],
)
def test_a_call_is_compared_with_the_right_one(
    tmp_path: Path, script: str, call: Any, values: dict[str, float]
) -> None:
    assert measured(tmp_path, script, call) == pytest.approx(values, abs=1e-3)


FORMS = [(name, DIALECTS[name].written) for name in ("qwen3.5", "mistral", "glm", "gpt-oss")]
HARMONY = DIALECTS["gpt-oss"]


@pytest.mark.slow(3)
@pytest.mark.parametrize(("name", "script"), [*FORMS, ("gpt-oss", HARMONY.kept),
    *(("gpt-oss", HARMONY.thought.format("hm") + form) for form in (HARMONY.written, HARMONY.kept))])  # fmt: skip
def test_calls_in_published_forms_are_measured(tmp_path: Path, name: str, script: str) -> None:
    """A whole run each, by scripted tokens: the marks are control tokens, as they are of the published models."""
    calls = f"{{% for call in m.tool_calls or [] %}}{{% set c = call.function %}}{DIALECTS[name].call}{{% endfor %}}"
    template = f"{{% if tools %}}{{% endif %}}{{% for m in messages %}}{calls}{{% endfor %}}a:"
    marks = re.findall(r"<\|\w+\|>|</?(?:tool_call|arg_\w+)>|\[[A-Z_]+\]", script + "".join(DIALECTS[name].ends))
    words = tuple(dict.fromkeys(marks))
    call = {"name": "weather", "arguments": {"city": "12", "days": 3}}
    found = measured(tmp_path, script, call, Thinker(template, words, "", control=True), [WEATHER.spec["function"]])
    assert found == pytest.approx({"right_tool": 1, "right_arguments": 1, "right_choice": 1}, abs=1e-3)


def test_rows_that_are_no_question_with_tools_are_told() -> None:
    rows: list[dict[str, Any]] = [
        {"prompt": "a", "tools": [{"type": "function", "function": {"name": "f"}}], "call": None},
        {"prompt": "", "tools": TOOLS, "call": None},
        {"prompt": "a", "tools": "f", "call": None},
        {"prompt": "a", "tools": TOOLS, "call": {"name": "other"}},
        {"prompt": "a", "tools": TOOLS, "call": {"name": "add", "arguments": 3}},
    ]
    found = list(Task("t", lambda: iter(rows), "1").items())
    assert isinstance(found[0], Item) and isinstance(found[0].body, ToolQuestion)
    assert [each.kind for each in found[1:] if isinstance(each, Problem)] == ["empty"] * 2 + ["unanswerable"] * 2


def test_the_task_that_ships_asks_for_each_tool_and_for_none() -> None:
    task = generated("tools:items=300,size=4,seed=1")
    assert task is not None
    bodies = [item.body for item in task.items() if isinstance(item, Item)]
    assert all(isinstance(body, ToolQuestion) and len({tool.name for tool in body.tools}) == 4 for body in bodies)
    calls = [body.call for body in bodies if isinstance(body, ToolQuestion)]
    for body in bodies:
        assert isinstance(body, ToolQuestion)
        if body.call is not None:
            (tool,) = [tool for tool in body.tools if tool.name == body.call.name]
            assert {*body.call.arguments} == {*tool.schema["properties"]}
            assert all(str(value) in body.prompt for value in body.call.arguments.values())
    assert len({call.name for call in calls if call is not None}) == 6
    assert abs(np.mean([call is None for call in calls]) - 1 / 3) < 4 * (2 / 9 / 300) ** 0.5
    with pytest.raises(ParameterError, match="there are 6 tools"):
        generated("tools:size=7")
    with pytest.raises(DataError, match="rows"):
        _ = Task("t", lambda: iter(()), "1").form
