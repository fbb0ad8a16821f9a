"""Calls in the forms of published templates, read as they are drawn: marks, control tokens and thoughts in between."""

import re
from types import SimpleNamespace
from typing import Any

import pytest

from likely.app.serve.reading import AnswerReader
from likely.engine.decode.events import Done, Emitted, Stats
from likely.engine.errors import DataError
from likely.engine.prompt import Prompt
from likely.engine.thinking import THINK, thinking_of
from likely.engine.tokenizer.template import ChatTemplate
from likely.engine.tools.call_format import JSON, call_format
from likely.engine.tools.tool import ToolCall
from tests.support.dialects import DIALECTS, Dialect

WEATHER = {"type": "function", "function": {"name": "weather", "description": "", "parameters": {
    "type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}}}  # fmt: skip
CALL = ToolCall("weather", {"city": "12", "days": 3})
MORE = [  # of templates that are not among the dialects: what says which it is, and what a model writes
    ('<function name="a"><param name="b">', '<function name="weather"><param name="city">12</param>\
<param name="days">3</param></function>'),
]  # fmt: skip


CONTROLS = re.compile(r"(<\|[^<>]*>|<[a-z_]*\|>|\[/?[A-Z_]+\]|<eos>)")


def drawn(text: str) -> list[Emitted]:
    """A text as it comes: its control tokens whole, all else in characters."""
    parts = [part if CONTROLS.fullmatch(part) else [*part] for part in CONTROLS.split(text)]
    pieces = [piece for part in parts for piece in ([part] if isinstance(part, str) else part)]
    return [Emitted(0, token(piece, len(piece) > 1)) for piece in pieces]


def token(piece: str, special: bool) -> Any:
    return SimpleNamespace(text="" if special else piece, special=special, piece=piece.encode())


def check(tokenizer: Any, written: str) -> None:
    """What a model writes is taken apart, with its thought, with words before the call and without."""
    format, thinking = call_format(tokenizer), thinking_of(tokenizer) or THINK
    assert format is not None
    thought = f"{thinking.begin}hm{thinking.longer.removesuffix(thinking.end) or thinking.end}"
    for before, parts in (("", {}), (thought, {"thought": "hm"}), ("so: ", {"said": "so: "})):
        reader = AnswerReader(1, thinking=thinking, calls=format, tools=(WEATHER,))
        list(reader.read([*drawn(before + written + "<eos>"), Done(0, "eot", Stats(1, 0, 1, 0.0, 0.0))]))
        text = reader.texts[0]
        assert text.calls == [CALL.function]
        assert {kind: text.of(kind).strip("\n") for kind in ("said", "thought") if text.of(kind).strip("\n")} == parts


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
def test_a_conversation_has_the_marks_of_its_family(dialect: Dialect) -> None:
    """A system's words, a thought, a call and its result are written so, and what the model writes is read so."""
    tokenizer = dialect.tokenizer
    called = {"role": "assistant", "content": "", "reasoning_content": "hm", "tool_calls": [CALL.message]}
    tools = {"tools": (WEATHER,)} if dialect.call else {}
    turns: list[Any] = [("user", "Rain?"), called, *([("tool", "no")] if dialect.call else [])]
    messages = Prompt(tuple(turns), system="Be brief.").messages
    prompt = tokenizer.templates["default"].render(messages, generation_prompt=True, **tools)
    assert prompt == dialect.conversation
    if dialect.call:
        check(tokenizer, dialect.written)
    else:
        assert call_format(tokenizer) is None


@pytest.mark.parametrize(("mark", "written"), MORE)
def test_a_call_is_read_as_published_templates_have_it(mark: str, written: str) -> None:
    template = "{{ tools }}{% raw %}" + mark + "{% endraw %}"
    templates = {"default": ChatTemplate(template)}
    check(SimpleNamespace(templates=templates, chat_template=template, encode=lambda text, special: [0, 0]), written)


def test_what_is_no_call_is_refused_and_a_template_without_tools_has_no_format() -> None:
    for source in ("{{ messages }}<tool_call>", "{{ tools }}"):
        assert call_format(SimpleNamespace(templates={"default": ChatTemplate(source)})) is None
    for wrong in ("", "[]", '{"name": "f", "arguments": 3}', '{"arguments": {}}', "[" * 100_000):
        with pytest.raises(DataError, match="no call of a tool"):
            JSON.read(wrong)
