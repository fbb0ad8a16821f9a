"""Calls in the forms of published templates, read as they are drawn: marks, control tokens and thoughts in between."""

import re
from types import SimpleNamespace
from typing import Any

import pytest

from likely.app.serve.reading import AnswerReader
from likely.engine.decode.events import Done, Emitted, Stats
from likely.engine.errors import DataError
from likely.engine.thinking import FAMILIES, THINK
from likely.engine.tokenizer.template import ChatTemplate
from likely.engine.tools.call_format import JSON, call_format

WEATHER = {"type": "function", "function": {"name": "weather", "description": "", "parameters": {
    "type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}}}  # fmt: skip
HERMES = '<tool_call>\n{"name": "weather", "arguments": {"city": "12", "days": 3}}\n</tool_call>'
CODER = "<tool_call>\n<function=weather>\n<parameter=city>\n12\n</parameter>\n<parameter=days>\n3\n</parameter>\n\
</function>\n</tool_call>"
GLM = "<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>12</arg_value>\n<arg_key>days</arg_key>\n\
<arg_value>3</arg_value>\n</tool_call>"
PUBLISHED = [  # what of the template says which it is, what a model writes, and whether it thinks between other marks
    ("<tool_call>", HERMES, THINK),
    ("<tool_call>\n<function=", CODER, THINK),
    ("<arg_key>", GLM, THINK),
    ("[TOOL_CALLS]", '[TOOL_CALLS]weather[ARGS]{"city": "12", "days": 3}', THINK),
    ("[TOOL_CALLS]", '[TOOL_CALLS][{"name": "weather", "arguments": {"city": "12", "days": 3}}]', THINK),
    ("<|tool_call_start|>", '<|tool_call_start|>[weather(city="12", days=3)]<|tool_call_end|>', THINK),
    ('<function name="a"><param name="b">', '<function name="weather"><param name="city">12</param>\
<param name="days">3</param></function>', THINK),
    ("to=functions.", '<|channel|>commentary to=functions.weather <|constrain|>json<|message|>\
{"city": "12", "days": 3}<|call|>', FAMILIES[-1]),
]  # fmt: skip


CONTROLS = re.compile(r"(<\|[a-z_]+\|>|\[[A-Z_]+\]|<eos>)")


def drawn(text: str) -> list[Emitted]:
    """A text as it comes: its control tokens whole, all else in characters."""
    parts = [part if CONTROLS.fullmatch(part) else [*part] for part in CONTROLS.split(text)]
    pieces = [piece for part in parts for piece in ([part] if isinstance(part, str) else part)]
    return [Emitted(0, token(piece, len(piece) > 1)) for piece in pieces]


def token(piece: str, special: bool) -> Any:
    return SimpleNamespace(text="" if special else piece, special=special, piece=piece.encode())


@pytest.mark.parametrize(("mark", "written", "thinking"), PUBLISHED)
def test_a_call_is_read_as_published_templates_have_it(mark: str, written: str, thinking: Any) -> None:
    format = call_format(
        SimpleNamespace(templates={"default": ChatTemplate("{{ tools }}{% raw %}" + mark + "{% endraw %}")})
    )
    assert format is not None
    thought = f"{thinking.begin}hm{thinking.longer.removesuffix(thinking.end) or thinking.end}"
    for before, parts in (("", {}), (thought, {"thought": "hm"}), ("so: ", {"said": "so: "})):
        reader = AnswerReader(1, thinking=thinking, calls=format, tools=(WEATHER,))
        list(reader.read([*drawn(before + written + "<eos>"), Done(0, "eot", Stats(1, 0, 1, 0.0, 0.0))]))
        text = reader.texts[0]
        assert text.calls == [{"name": "weather", "arguments": '{"city": "12", "days": 3}'}]
        assert {kind: text.of(kind) for kind in ("said", "thought") if text.of(kind)} == parts


def test_what_is_no_call_is_refused_and_a_template_without_tools_has_no_format() -> None:
    for source in ("{{ messages }}<tool_call>", "{{ tools }}"):
        assert call_format(SimpleNamespace(templates={"default": ChatTemplate(source)})) is None
    for wrong in ("", "[]", '{"name": "f", "arguments": 3}', '{"arguments": {}}', "[" * 100_000):
        with pytest.raises(DataError, match="no call of a tool"):
            JSON.read(wrong)
