"""Format of calls: how a model's template has it write the call of a tool, and the reader of that.

The readers are mlx-lm's `tool_parsers`, each a file of functions on strings, and ours for OpenAI's Harmony format, OLMo
3's lines, Hunyuan's lists and DeepSeek V3.2's markup, which are not among them. They are loaded without mlx-lm itself,
which imports transformers. Which is a model's is found in its chat template, by marks that are facts about published
models. Knows no server and no protocol.
"""

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module, util
from typing import Any, Protocol

from likely.engine.base.errors import DataError
from likely.engine.chat.tools.tool import ToolCall
from likely.engine.sampling.thinking import CallMarks

Read = Callable[[str, Any], Any]  # a call's text and the tools, as templates read them, to one call or several


class Templates(Protocol):
    """The tokenizer as far as a format is looked for in it."""

    @property
    def templates(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True, slots=True)
class CallFormat:
    """One format: its marks, and the name of its reader."""

    reader: str
    marks: CallMarks

    def read(self, text: str, tools: Sequence[Any] = ()) -> tuple[ToolCall, ...]:
        """The calls in a text that stood between the marks, `tools` as templates read them: a value is what the schema
        has it be where the format has no types of its own. DataError where there is none to be read."""
        try:
            found = OURS[self.reader](text) if self.reader in OURS else _reader(self.reader)(text, list(tools))
            calls = tuple(map(_call, found if isinstance(found, list) else [found]))
        except Exception as error:  # strangers' readers raise whatever comes
            raise DataError(f"what it wrote is no call of a tool: {str(error)[:80] or type(error).__name__}") from None
        if not calls:
            raise DataError("what it wrote is no call of a tool: there is none in it")
        return calls


def _format(reader: str, begin: str, end: str, *inner: str) -> CallFormat:
    return CallFormat(reader, CallMarks(begin, end, inner))


JSON = _format("json_tools", "<tool_call>", "</tool_call>")  # Hermes, Qwen3, SmolLM3
HARMONY = CallFormat("harmony", CallMarks(  # gpt-oss: whom it calls may stand in the channel, or before it
    "<|channel|>commentary to=functions.", "<|call|>", ("<|constrain|>", "<|message|>"), " to=functions."
))  # fmt: skip
DSML = _format("dsml", "<\uff5cDSML\uff5cfunction_calls>", "</\uff5cDSML\uff5cfunction_calls>", "\uff5cDSML\uff5c")
FORMATS: tuple[tuple[str, CallFormat], ...] = (  # found by what stands in the template, the first that does
    ("<minimax:tool_call>", _format("minimax_m2", "<minimax:tool_call>", "</minimax:tool_call>")),
    ("<|tool_call>", _format("gemma4", "<|tool_call>", "<tool_call|>", '<|"|>')),
    ("<start_function_call>", _format("function_gemma", "<start_function_call>", "<end_function_call>", "<escape>")),
    ("<longcat_tool_call>", _format("longcat", "<longcat_tool_call>", "</longcat_tool_call>",
        "<longcat_arg_key>", "</longcat_arg_key>", "<longcat_arg_value>", "</longcat_arg_value>")),
    ("<arg_key>", _format("glm47", "<tool_call>", "</tool_call>",
        "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>")),  # GLM 4.5 and later, Laguna
    ("<|tool_call_start|>", _format("pythonic", "<|tool_call_start|>", "<|tool_call_end|>")),  # LFM2
    ("<|tool_list_start|>", _format("pythonic", "<|tool_call_start|>", "<|tool_call_end|>")),
    ("<tool_call>\n<function=", _format("qwen3_coder", "<tool_call>", "</tool_call>")),  # Qwen3-Coder, Qwen3.5
    ("<tool_call>\\n<function=", _format("qwen3_coder", "<tool_call>", "</tool_call>")),
    ("<|tool_calls_section_begin|>", _format("kimi_k2", "<|tool_calls_section_begin|>", "<|tool_calls_section_end|>",
        "<|tool_call_begin|>", "<|tool_call_argument_begin|>", "<|tool_call_end|>")),
    ("<seed:tool_call>", _format("qwen3_coder", "<seed:tool_call>", "</seed:tool_call>")),
    ("<function_calls>", _format("lines", "<function_calls>", "</function_calls>")),  # OLMo 3
    ("<|START_ACTION|>", _format("json_tools", "<|START_ACTION|>", "<|END_ACTION|>")),  # Command R7B, Command A
    ("<TOOLCALL>", _format("json_tools", "<TOOLCALL>", "</TOOLCALL>")),  # Nemotron Nano 2
    ('<param name="', _format("minicpm5", "<function name=", "</function>")),
    ("[TOOL_CALLS]", _format("mistral", "[TOOL_CALLS]", "", "[ARGS]", "[CALL_ID]")),
    ("<atem:function_calls>", _format("muse_spark", "<atem:function_calls>", "</atem:function_calls>")),
    ("<|channel|>commentary", HARMONY),
    ("\uff5cDSML\uff5c", DSML),  # DeepSeek V3.2
    ("<tool_calls>", _format("hunyuan", "<tool_calls>", "</tool_calls>")),  # Hunyuan A13B and dense
    ("<tool_call>", JSON),
)  # fmt: skip


def call_format(tokenizer: Templates) -> CallFormat | None:
    """The format of a model; None where its template knows no tools, or has them called in one that nobody reads."""
    templates = tokenizer.templates
    template = templates.get("tool_use") or templates.get("default")
    if template is None or "tools" not in template.variables:
        return None
    return next((format for mark, format in FORMATS if mark in template.source), None)


def _call(found: Any) -> ToolCall:
    arguments = found.get("arguments", found.get("parameters", {}))
    if isinstance(arguments, str):
        arguments = json.loads(arguments)
    if not isinstance(arguments, Mapping):
        raise ValueError(f"its arguments are an object, not {json.dumps(arguments)[:40]}")
    name = found["tool_name"] if "tool_name" in found else found["name"]  # Command's word for it
    return ToolCall(str(name), {str(name): value for name, value in arguments.items()})


def _harmony(text: str) -> dict[str, Any]:
    """Of `NAME <|constrain|>json<|message|>{...}`, and of `NAME<|channel|>commentary json<|message|>{...}`."""
    match = re.match(r"([\w.:-]+)[^{]*<\|message\|>(.*)", text, re.DOTALL)
    if match is None:
        raise ValueError("a name and <|message|> expected")
    return {"name": match[1], "arguments": json.loads(match[2])}


def _lines(text: str) -> Any:
    """Of calls in Python's notation, one a line."""
    return _reader("pythonic")(f"[{', '.join(text.strip().splitlines())}]", None)


INVOKED = re.compile(r'<\uff5cDSML\uff5cinvoke name="([^"]*)">(.*?)</\uff5cDSML\uff5cinvoke>', re.DOTALL)
PARAMETER = re.compile(
    r'<\uff5cDSML\uff5cparameter name="([^"]*)" string="(true|false)">(.*?)</\uff5cDSML\uff5cparameter>', re.DOTALL
)


def _dsml(text: str) -> list[dict[str, Any]]:
    """Of `<|DSML|invoke name="NAME">` elements, each parameter with whether its value is a string, or else JSON."""

    def value(kind: str, written: str) -> Any:
        return written if kind == "true" else json.loads(written)

    return [
        {"name": name, "arguments": {key: value(kind, written) for key, kind, written in PARAMETER.findall(inner)}}
        for name, inner in INVOKED.findall(text)
    ]


def _hunyuan(text: str) -> Any:
    """Of a JSON list, as A13B was first told to write it, or of elements with a name and a block of JSON."""
    elements = re.findall(r"<tool_call>\s*([^\n`]+?)\s*```json\s*(.*?)\s*```\s*</tool_call>", text, re.DOTALL)
    return [{"name": name, "arguments": json.loads(inner)} for name, inner in elements] or json.loads(text)


OURS: Mapping[str, Callable[[str], Any]] = {
    HARMONY.reader: _harmony, "lines": _lines, DSML.reader: _dsml, "hunyuan": _hunyuan
}  # fmt: skip


@cache
def _reader(name: str) -> Read:
    """A reader of mlx-lm's."""
    package = "mlx_lm_tool_parsers"
    if package not in sys.modules:
        found = util.find_spec("mlx_lm")
        assert found is not None and found.submodule_search_locations
        folder = f"{found.submodule_search_locations[0]}/tool_parsers"
        spec = util.spec_from_file_location(package, f"{folder}/__init__.py", submodule_search_locations=[folder])
        assert spec is not None
        sys.modules[package] = util.module_from_spec(spec)
    read: Read = import_module(f"{package}.{name}").parse_tool_call
    return read
