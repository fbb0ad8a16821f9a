"""Questions with tools: what is asked, what is offered, and the call that is right, or none. Plain data, no model."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from likely.engine.chat.tools.tool import Tool, ToolCall


@dataclass(frozen=True, slots=True)
class ToolQuestion:
    """A prompt, the tools that are offered, and the right call; None where words are right."""

    prompt: str
    tools: tuple[Tool, ...]
    call: ToolCall | None

    NAME: ClassVar[str] = "tool questions"
    KEYS: ClassVar[tuple[str, ...]] = ("prompt", "tools", "call")

    @classmethod
    def of(cls, values: Mapping[str, Any], _: Mapping[str, Any]) -> Self | str:
        """The question of a row, or what is odd about it. Tools stand in OpenAI's form, or as the function in it."""
        prompt, tools, call = values["prompt"], values["tools"], values["call"]
        if not isinstance(prompt, str) or not prompt.strip():
            return "empty: prompt must be a text"
        functions = (
            [each.get("function", each) for each in tools if isinstance(each, dict)] if isinstance(tools, list) else []
        )
        if not functions or not all(isinstance(f, dict) and isinstance(f.get("name"), str) for f in functions):
            return "empty: tools must be a list of functions with names"
        offered = tuple(
            Tool("", f["name"], str(f.get("description") or ""), f.get("parameters") or {}, f["name"])
            for f in functions
        )
        if call is None:
            return cls(prompt, offered, None)
        named = call.get("name") if isinstance(call, dict) else None
        arguments = call.get("arguments", {}) if isinstance(call, dict) else None
        if named not in {tool.name for tool in offered} or not isinstance(arguments, dict):
            return "unanswerable: call must be null, or the name of one of the tools and its arguments"
        return cls(prompt, offered, ToolCall(str(named), arguments))

    def measures(self, calls: tuple[ToolCall, ...]) -> dict[str, float]:
        """right_tool: the right one is called and no other, or none where none is right; right_arguments, where a call
        is right: it is made with these very arguments; needless_call, where none is right: one is made."""
        names = [call.name for call in calls]
        values = {"right_tool": float(names == ([self.call.name] if self.call is not None else []))}
        if self.call is None:
            return values | {"needless_call": float(bool(calls))}
        right = values["right_tool"] and dict(calls[0].arguments) == dict(self.call.arguments)
        return values | {"right_arguments": float(bool(right))}
