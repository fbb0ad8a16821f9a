"""A request on templates that read more or less than it asks for: what the model is told, what changes nothing."""

from types import SimpleNamespace
from typing import Any

import pytest

from likely.app.serve.api.template_fit import fitted
from likely.app.serve.requests import AnswerRequest, RequestRefused
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.prompt import Prompt
from likely.engine.sampling.trace.step import SamplingConfig
from likely.engine.text.tokenizer.template import ChatTemplate

SAID = "{% for m in messages %}{{ m.role[0] }}:{{ m.content }};{% endfor %}"
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
USER, SYSTEM = {"role": "user", "content": "hi"}, {"role": "system", "content": "Be short."}


def read(template: str, turns: tuple[Any, ...] = (USER,), **asked: Any) -> tuple[str, tuple[str, ...]]:
    """The text that a template makes of a request, and the fields that change nothing."""
    made = ChatTemplate(template)
    tokenizer: Any = SimpleNamespace(chat_template=template, templates={"default": made})
    tools = asked.pop("tools", ())
    ask = AnswerRequest("m", Prompt(turns, tools=tools), RunControl(SamplingConfig()), tools=tools, **asked)
    prompt, ignored = fitted(ask, tokenizer, "m")
    options = dict(prompt.options) | ({"tools": prompt.tools} if prompt.tools else {})
    return made.render(prompt.messages, generation_prompt=False, **options), ignored


def test_tools_are_told_in_words_where_the_template_has_no_place_for_them() -> None:
    """After what the system says, if it says something; a template that reads tools gets them as they are."""
    text, ignored = read(SAID, tools=(TOOL,))
    assert text.startswith("s:You may call these functions.") and text.endswith("u:hi;") and ignored == ()
    assert '{"name": "look", "parameters": {"type": "object"}}' in text and "<tool_call>" in text
    assert read(SAID, (SYSTEM, USER), tools=(TOOL,))[0].startswith("s:Be short.\n\nYou may call these functions.")
    assert read(SAID + "{{ tools[0].function.name }}", tools=(TOOL,)) == ("u:hi;look", ())


@pytest.mark.parametrize(
    ("template", "effort", "text"),
    [
        ("{{ enable_thinking }}", "none", "False"), ("{{ enable_thinking }}", "minimal", "False"),
        ("{{ enable_thinking }}", "low", "True"), ("{{ enable_thinking }}", "high", "True"),
        ("{{ reasoning_effort }}", "low", "low"), ("{{ reasoning_effort }}{{ enable_thinking }}", "high", "high"),
    ],
)  # fmt: skip
def test_effort_goes_where_the_template_reads_it(template: str, effort: str, text: str) -> None:
    assert read(template, effort=effort) == (text, ())


def test_effort_changes_nothing_where_no_template_reads_it() -> None:
    assert read(SAID, effort="high") == ("u:hi;", ("reasoning_effort",)) and read(SAID) == ("u:hi;", ())


def test_an_effort_that_is_said_is_not_told_otherwise_by_thinking() -> None:
    source = "{{ reasoning_effort }}{# <|channel|>final<|message|> #}"
    known: Any = SimpleNamespace(
        chat_template=source, templates={"default": ChatTemplate(source)}, encode=lambda text, special: [0, 0]
    )
    for effort, thinking, options in (("low", None, {"reasoning_effort": "low"}), ("", True, {})):
        ask = AnswerRequest("m", Prompt((USER,), thinking=True), RunControl(SamplingConfig()), effort=effort)
        prompt, ignored = fitted(ask, known, "m")
        assert (prompt.thinking, dict(prompt.options), ignored) == (thinking, options, ())


def test_a_base_model_has_no_place_for_tools() -> None:
    ask = AnswerRequest("m", Prompt((USER,), tools=(TOOL,)), RunControl(SamplingConfig()))
    base: Any = SimpleNamespace(chat_template=None)
    with pytest.raises(RequestRefused, match=r"^tools: m has no chat template that could read it$"):
        fitted(ask, base, "m")
    plain = AnswerRequest("m", Prompt((USER,)), RunControl(SamplingConfig()), effort="low")
    assert fitted(plain, base, "m") == (plain.prompt, ("reasoning_effort",))
