"""Rows of training data in the field's forms. Each row is looked at by itself.

    text              {"text"}
    prompt            {"prompt", "completion"}
    chat, tools       {"messages"} with roles and contents, and perhaps {"tools"}
    alpaca            {"instruction", "output"} and perhaps {"input"}
    sharegpt          {"conversations"} of {"from", "value"}
    preference        {"chosen", "rejected"} and perhaps {"prompt"}

Knows nothing of files beyond the name of the place that an error is to give, and nothing of tokens.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from likely.engine.errors import DataError, ParameterError
from likely.engine.json_reader import shown

Message = dict[str, Any]
FORMS = {
    "chat": ("messages",),
    "sharegpt": ("conversations",),
    "preference": ("chosen", "rejected"),
    "prompt": ("prompt", "completion"),
    "alpaca": ("instruction", "output"),
    "text": ("text",),
}
SPEAKERS = {
    "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "chatgpt": "assistant",
    "system": "system", "tool": "tool", "function": "tool", "observation": "tool",
}  # fmt: skip
ROLES = ("system", "developer", "user", "assistant", "tool")


@dataclass(frozen=True)
class TrainingRow:
    """One row: a text, or a conversation, or a conversation with an answer that was rejected."""

    form: str
    where: str  # file:line
    text: str = ""
    messages: tuple[Message, ...] = ()
    rejected: tuple[Message, ...] = ()  # preference: the same conversation with the other answer
    tools: tuple[Any, ...] = ()

    @property
    def content(self) -> tuple[Any, ...]:
        """Key by which two rows are the same."""
        return self.text, self.messages, self.rejected, self.tools

    @property
    def digest(self) -> bytes:
        """Equal for equal contents, in every process."""
        return hashlib.sha256(json.dumps(self.content, sort_keys=True, default=str).encode(errors="replace")).digest()


def parse(value: object, where: str, names: Mapping[str, str] | None = None) -> TrainingRow:
    """The row in a JSON value; `names` maps what a file calls its columns to the names above.

    DataError for another form or a wrong type: the place, what was expected, what came.
    """
    if not isinstance(value, dict):
        raise DataError(f"{where}: a JSON object expected, got {shown(value)}")
    row = {(names or {}).get(key, key): item for key, item in value.items() if item is not None}
    form = next((form for form, keys in FORMS.items() if all(key in row for key in keys)), None)
    if form is None:
        forms = "; ".join("+".join(keys) for keys in FORMS.values())
        raise DataError(f"{where}: expected a row with {forms}; got {', '.join(value) or 'no keys'} (rename by --map)")
    if form == "text":
        return TrainingRow("text", where, text=_text(row, "text", where))
    if form == "chat":
        tools = tuple(_list(row.get("tools", []), "tools", where))
        messages = _messages(row["messages"], "messages", where)
        called = bool(tools) or any("tool_calls" in message for message in messages)
        return TrainingRow("tools" if called else "chat", where, messages=messages, tools=tools)
    if form == "sharegpt":
        return TrainingRow(form, where, messages=_sharegpt(row["conversations"], where))
    if form == "alpaca":
        question = _text(row, "instruction", where)
        if row.get("input"):
            question += "\n\n" + _text(row, "input", where)
        system = ({"role": "system", "content": _text(row, "system", where)},) if row.get("system") else ()
        answer = {"role": "assistant", "content": _text(row, "output", where)}
        return TrainingRow(form, where, messages=(*system, {"role": "user", "content": question}, answer))
    start = _side(row["prompt"], "prompt", "user", where) if "prompt" in row else ()
    if form == "prompt":
        tools = tuple(_list(row.get("tools", []), "tools", where))
        return TrainingRow(
            form, where, messages=(*start, *_side(row["completion"], "completion", "assistant", where)), tools=tools
        )
    chosen, rejected = (_side(row[name], name, "assistant", where) for name in ("chosen", "rejected"))
    if chosen == rejected:
        raise DataError(f"{where}: chosen and rejected are the same")
    return TrainingRow(form, where, messages=(*start, *chosen), rejected=(*start, *rejected))


def read_map(entries: Sequence[str]) -> dict[str, str]:
    """`theirs=ours` entries of --map; ParameterError for names of ours that do not exist."""
    ours = {key for keys in FORMS.values() for key in keys} | {"tools", "input", "system"}
    names: dict[str, str] = {}
    for entry in entries:
        theirs, equals, mine = entry.partition("=")
        if not equals or mine not in ours:
            raise ParameterError(f"--map must be COLUMN=NAME with a name of {', '.join(sorted(ours))}, got {entry!r}")
        names[theirs] = mine
    return names


def _side(value: object, name: str, role: str, where: str) -> tuple[Message, ...]:
    """One side of a row: a text said by `role`, or messages."""
    if isinstance(value, str):
        return ({"role": role, "content": value},)
    if not isinstance(value, list):
        raise DataError(f"{where}: {name} must be text or a list of messages, got {shown(value)}")
    return _messages(value, name, where)


def _messages(value: object, name: str, where: str) -> tuple[Message, ...]:
    messages = _list(value, name, where)
    if not messages:
        raise DataError(f"{where}: {name} is empty")
    for i, message in enumerate(messages):
        at = f"{where}: {name}[{i}]"
        if not isinstance(message, dict):
            raise DataError(f"{at} must be an object with role and content, got {shown(message)}")
        if message.get("role") not in ROLES:
            raise DataError(f"{at}.role must be one of {', '.join(ROLES)}, got {shown(message.get('role'))}")
        content = message.get("content")
        if not isinstance(content, str | list) and not (content is None and message.get("tool_calls")):
            raise DataError(f"{at}.content must be text, got {shown(content)}")
    return tuple(messages)


def _sharegpt(value: object, where: str) -> tuple[Message, ...]:
    messages = []
    for i, turn in enumerate(_list(value, "conversations", where)):
        at = f"{where}: conversations[{i}]"
        if not isinstance(turn, dict) or not isinstance(turn.get("value"), str):
            raise DataError(f"{at} must be an object with from and value, got {shown(turn)}")
        if (role := SPEAKERS.get(speaker) if isinstance(speaker := turn.get("from"), str) else None) is None:
            raise DataError(f"{at}.from must be one of {', '.join(SPEAKERS)}, got {shown(speaker)}")
        messages.append({"role": role, "content": turn["value"]})
    if not messages:
        raise DataError(f"{where}: conversations is empty")
    return tuple(messages)


def _text(row: Mapping[str, Any], name: str, where: str) -> str:
    if not isinstance(row[name], str):
        raise DataError(f"{where}: {name} must be text, got {shown(row[name])}")
    return str(row[name])


def _list(value: object, name: str, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise DataError(f"{where}: {name} must be a list, got {shown(value)}")
    return value
