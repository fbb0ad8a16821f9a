"""Calls in the forms of published templates, read as they are drawn: marks, control tokens and thoughts in between."""

import os
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from likely.app.serve.api.reading import AnswerReader
from likely.engine.base.errors import DataError
from likely.engine.chat.tools.call_format import JSON, call_format
from likely.engine.chat.tools.choice import openings
from likely.engine.chat.tools.tool import Tool, ToolCall, ToolResult
from likely.engine.chat.tools.use import ToolAnswer, ToolUse
from likely.engine.decode.loop.events import Done, Emitted, Stats
from likely.engine.sampling.thinking import THINK, spoken, thinking_of
from likely.engine.text.tokenizer.template import ChatTemplate
from tests.support.dialects import ARGUMENTS, BLOCK, CALL, DIALECTS, HERMES, WEATHER, Dialect

MORE = [  # of templates that are not among the dialects: what says which it is, and what a model writes
    ('<function name="a"><param name="b">', '<function name="weather"><param name="city">12</param>\
<param name="days">3</param></function>'),
]  # fmt: skip


CONTROLS = re.compile(r"(<\|[^<>]*>|<[a-z_]*\|>|\[/?[A-Z_]+\]|<eos>)")


def drawn(text: str) -> list[Any]:
    """A text as it comes: its control tokens whole, all else in characters."""
    parts = [part if CONTROLS.fullmatch(part) else [*part] for part in CONTROLS.split(text)]
    pieces = [piece for part in parts for piece in ([part] if isinstance(part, str) else part)]
    return [Emitted(0, token(piece, len(piece) > 1)) for piece in pieces]


def token(piece: str, special: bool) -> Any:
    return SimpleNamespace(text="" if special else piece, special=special, piece=piece.encode(), written=piece)


def check(tokenizer: Any, written: str) -> None:
    """What a model writes is taken apart, with its thought, with words before the call and without."""
    format, thinking = call_format(tokenizer), thinking_of(tokenizer) or THINK
    assert format is not None
    thought = f"{thinking.begin}hm{thinking.longer.removesuffix(thinking.end) or thinking.end}"
    for before, parts in (("", {}), (thought, {"thought": "hm"}), ("so: ", {"said": "so: "})):
        reader = AnswerReader(1, thinking=thinking, calls=format, tools=(WEATHER.spec,))
        list(reader.read([*drawn(before + written + "<eos>"), Done(0, "eot", Stats(1, 0, 1, 0.0, 0.0))]))
        text = reader.texts[0]
        assert text.calls == [CALL.function]
        assert {kind: text.of(kind).strip("\n") for kind in ("said", "thought") if text.of(kind).strip("\n")} == parts


def in_order(pieces: tuple[str, ...], prompt: str) -> None:
    """All of these are in a prompt, one behind the other."""
    at = 0
    for piece in pieces:
        assert piece in prompt[at:], prompt
        at = prompt.index(piece, at) + len(piece)


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
def test_a_conversation_has_the_marks_of_its_family(dialect: Dialect) -> None:
    """A system's words, a thought, a call and its result are written so, and what the model writes is read so."""
    tokenizer = dialect.tokenizer()
    prompt = dialect.prompt(tokenizer)
    if dialect.ours:
        in_order(dialect.pieces, prompt)
    else:
        assert prompt == "".join(dialect.pieces)
    for written in {dialect.written, dialect.kept} - {""}:
        check(tokenizer, written)
    assert dialect.written or call_format(tokenizer) is None


@pytest.mark.parametrize("dialect", [each for each in DIALECTS.values() if each.written], ids=lambda it: it.source)
def test_a_call_begins_as_its_template_writes_it(dialect: Dialect) -> None:
    tokenizer = dialect.tokenizer()
    tokenizer.render = tokenizer.templates["default"].render
    tokenizer.encode = lambda text, special: list(filter(None, CONTROLS.split(text)))
    tokenizer.piece, tokenizer.is_special = str.encode, CONTROLS.fullmatch
    format = call_format(tokenizer)
    assert format is not None
    found = [opening.of("weather") for opening in openings(tokenizer, format)]
    written = (dialect.written, dialect.kept)[: len(found)]
    for text, begins in zip(written, found, strict=True):
        assert text.lstrip("\n").startswith(begins)
    assert found or "c." not in dialect.call  # its template has no place for one


PUBLISHED = {
    (name, file): DIALECTS[name]
    for name in DIALECTS
    for file in sorted(Path(os.environ.get("LIKELY_TEMPLATES") or "none").rglob(DIALECTS[name].source))
}


@pytest.mark.slow
@pytest.mark.skipif(not PUBLISHED, reason="LIKELY_TEMPLATES names no folder of published chat templates")
@pytest.mark.parametrize(("name", "file"), PUBLISHED, ids=str)
def test_a_published_template_writes_these_marks(name: str, file: Path) -> None:
    """In this order, whatever else it says of tools, dates and itself."""
    tokenizer = DIALECTS[name].tokenizer(file.read_text())
    in_order(DIALECTS[name].pieces, DIALECTS[name].prompt(tokenizer))
    if DIALECTS[name].written:
        check(tokenizer, DIALECTS[name].written)
    else:
        assert call_format(tokenizer) is None


CASES = {
    "gpt-oss": (  # words to a person in a channel of their own, behind a thought or without one, and a call, or none
        "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>commentary<|message|>I look.<|end|>"
        f"<|start|>assistant<|channel|>commentary to=functions.weather <|constrain|>json<|message|>{ARGUMENTS}<|call|>",
        f"<|channel|>commentary<|message|>I look.<|end|><|start|>assistant to=functions.weather<|channel|>commentary "
        f"json<|message|>{ARGUMENTS}<|call|>",
        "<|channel|>commentary<|message|>I look.<|end|><|start|>assistant<|channel|>final<|message|>",
    ),
    "hunyuan": (
        f"<think>\nhm\n</think>\n<answer>\nI look.{BLOCK}\n</answer>",
        f"<think>\nhm\n</think>\n<answer>I look.<tool_calls>[{HERMES}]</tool_calls></answer>",
        "<think>\nhm\n</think>\n<answer>\nI look.\n</answer>",
    ),
}


@pytest.mark.parametrize(("name", "written"), [(name, text) for name in CASES for text in CASES[name]])
def test_marks_around_what_is_said_are_no_part_of_it(name: str, written: str) -> None:
    tokenizer = DIALECTS[name].tokenizer()
    tokenizer.piece = lambda token: b""
    steps = [event.step for event in drawn(written)]
    answer = ToolUse.of(tokenizer, [WEATHER]).answer([], steps, "", tokenizer)
    calls = (CALL,) if "weather" in written else ()
    assert (answer.said, answer.calls, answer.problem) == ("I look.", calls, "")
    assert answer.thought == ("hm" if "hm" in written else "")
    if not calls:
        assert spoken(steps, thinking=thinking_of(tokenizer)).strip() == "I look."


def test_a_thought_and_words_before_a_call_are_both_kept_where_there_is_one_place_for_them() -> None:
    tokenizer = DIALECTS["gpt-oss"].tokenizer()
    turns = ToolUse.of(tokenizer, [WEATHER]).turns(
        ToolAnswer("so", "hm", (CALL,), "", 0, ""), [ToolResult("")], tokenizer
    )
    assert "analysis<|message|>hm\n\nso<|end|>" in tokenizer.templates["default"].render(turns, generation_prompt=False)


def test_two_calls_have_each_its_own_result() -> None:
    """By their ids, as templates tell them apart; those of a client are made what the template takes."""
    names = ("weather", "rain")
    use = ToolUse.of(DIALECTS["kimi"].tokenizer(), [Tool("", name) for name in names])
    calls = ToolAnswer("", "", tuple(map(ToolCall, names)), "", 0, "")
    turns = use.turns(calls, [ToolResult(name) for name in names], DIALECTS["kimi"].tokenizer())
    ids = "{% for m in messages %}{% for c in m.tool_calls %}{{ c.id }} {% endfor %}{{ m.tool_call_id }} {% endfor %}"
    assert ChatTemplate(ids).render(turns, generation_prompt=False).split() == ["call00000", "call00001"] * 2
    client = [{**turns[0], "tool_calls": [{**turns[0]["tool_calls"][0], "id": "call_1"}]}, {"tool_call_id": "call_1"}]
    for mark, wanted in (("<|tool_call_argument_begin|>", r"functions\.weather:0"), ("length 9", "[a-z0-9]{9}")):
        one, again = ChatTemplate(f"{ids}{{# {mark} #}}").render(client, generation_prompt=False).split()
        assert one == again and re.fullmatch(wanted, one)


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
