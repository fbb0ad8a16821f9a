"""Rows of training data in the field's forms. Each row is looked at by itself.

    text              {"text"}
    prompt            {"prompt", "completion"}
    question          {"prompt", "answer"} or {"question", "answer"}, as files of tasks have it
    chat, tools       {"messages"} with roles and contents, and perhaps {"tools"}
    alpaca            {"instruction", "output"} and perhaps {"input"}
    sharegpt          {"conversations"} of {"from", "value"}
    preference        {"chosen", "rejected"} and perhaps {"prompt"}

Knows nothing of files beyond the name of the place that an error is to give, and nothing of tokens.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from likely.engine.base.errors import DataError, ParameterError
from likely.engine.base.files import foreign_json
from likely.engine.base.files.foreign_json import shown
from likely.engine.text.rows.values import RowValue

Message = dict[str, Any]
FORMS: dict[tuple[str, ...], str] = {
    ("messages",): "chat",
    ("conversations",): "sharegpt",
    ("chosen", "rejected"): "preference",
    ("prompt", "completion"): "prompt",
    ("instruction", "output"): "alpaca",
    ("prompt", "answer"): "question",
    ("question", "answer"): "question",
    ("text",): "text",
}
BESIDE = {  # columns that a form reads where they are there
    "chat": ("tools",), "preference": ("prompt",), "prompt": ("tools",), "alpaca": ("input", "system"),
}  # fmt: skip
SPEAKERS = {
    "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "chatgpt": "assistant",
    "system": "system", "tool": "tool", "function": "tool", "observation": "tool",
}  # fmt: skip
LISTED = 12  # columns that an error names
ROLES = ("system", "developer", "user", "assistant", "tool")


class RowFault(DataError):
    """A row of no form, or with a column of another type: `words` without its place, and the column that it is about,
    as the file calls it."""

    def __init__(self, where: str, words: str, key: str = "") -> None:
        super().__init__(f"{where}: {words}")
        self.words, self.key = words, key


@dataclass(frozen=True)
class TrainingRow:
    """One row: a text, or a conversation, or a conversation with an answer that was rejected."""

    form: str  # of FORMS; "problem" of a task, which is asked as it stands, outside the chat template
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
        raise RowFault(where, f"a JSON object expected, got {shown(value)}")
    if (keys := form_of(value, names)) is None:
        forms = "; ".join(map("+".join, FORMS))
        lost = next((f"--map {theirs}: there is none" for theirs in names or {} if theirs not in value), "")
        empty = [key for key, item in value.items() if item is None]
        got = ", ".join(f"{key} (empty)" if key in empty else key for key in value) or "no keys"
        todo = lost or ("fill it, or leave the row out" if empty else "rename by --map")
        raise RowFault(where, f"expected a row with {forms}; got {got} ({todo})")
    try:
        return _parse(keys, renamed(value, names), where)
    except RowFault as fault:
        theirs = (key for key, ours in (names or {}).items() if ours == fault.key and key in value)
        fault.key = next(theirs, fault.key)
        raise


def read_row(each: RowValue, names: Mapping[str, str] | None, faults: list[tuple[str, str]]) -> TrainingRow | None:
    """The row that stands in a file; None of one that cannot be read, whose place and words go to `faults`."""
    if each.fault:
        faults.append((each.place(), each.fault))
        return None
    value = each.value
    if each.delimiter:  # an empty cell of a table is no value
        value = {key: None if cell == "" else cell for key, cell in value.items()}
    try:
        return parse(value, each.where, names)
    except RowFault as fault:
        faults.append((each.place(fault.key), fault.words))
        return None


def form_of(value: Mapping[str, Any], names: Mapping[str, str] | None = None) -> tuple[str, ...] | None:
    """The columns by which a row is read, of FORMS; None of a row that has none of them."""
    row = renamed(value, names)
    return next((keys for keys in FORMS if all(key in row for key in keys)), None)


def renamed(value: Mapping[str, Any], names: Mapping[str, str] | None) -> dict[str, Any]:
    """A row by our names for its columns, without those that hold nothing."""
    return {(names or {}).get(key, key): item for key, item in value.items() if item is not None}


UNREAD = "no row that can be learned from"


def read_as(value: Mapping[str, Any], names: Mapping[str, str] | None = None) -> str:
    """How a row's columns are read, in words: which is asked, which is learned, and which are not read."""
    if (keys := form_of(value, names)) is None:
        return f"{', '.join(value) or 'no columns'}: {UNREAD} (--map THEIRS=OURS renames)"
    form, row, theirs = FORMS[keys], renamed(value, names), {ours: key for key, ours in (names or {}).items()}
    beside = [key for key in BESIDE.get(form, ()) if row.get(key)]
    shown_keys = [theirs.get(key, key) for key in (*keys, *beside)]
    asked, *rest = shown_keys
    words = {
        "text": f"{asked} is learned",
        "chat": f"{asked}: what the assistant says is learned",
        "sharegpt": f"{asked}: what gpt says is learned",
        "preference": f"{asked} is to be likelier than {', after '.join(rest)}",
    }.get(form, f"{' and '.join([asked, *rest[1:]])} {'ask' if rest[1:] else 'asks'}, {''.join(rest[:1])} is learned")
    idle = [key for key in value if key not in shown_keys]
    return words + (f"; not read: {', '.join(idle)}" if idle else "")


def _parse(keys: tuple[str, ...], row: Mapping[str, Any], where: str) -> TrainingRow:
    form = FORMS[keys]
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
    if form == "question":
        asks = _side(row[keys[0]], keys[0], "user", where)
        said = {"role": "assistant", "content": _answer(row["answer"], where)}
        return TrainingRow(form, where, messages=(*asks, said))
    start = _side(row["prompt"], "prompt", "user", where) if "prompt" in row else ()
    if form == "prompt":
        tools = tuple(_list(row.get("tools", []), "tools", where))
        return TrainingRow(
            form, where, messages=(*start, *_side(row["completion"], "completion", "assistant", where)), tools=tools
        )
    chosen, rejected = (_side(row[name], name, "assistant", where) for name in ("chosen", "rejected"))
    if chosen == rejected:
        raise RowFault(where, "chosen and rejected are the same", "rejected")
    return TrainingRow(form, where, messages=(*start, *chosen), rejected=(*start, *rejected))


def read_map(entries: Sequence[str], also: Sequence[str] = ()) -> dict[str, str]:
    """`theirs=ours` entries of --map; ParameterError for names of ours that do not exist. `also` are further ones."""
    ours = {key for keys in (*FORMS, *BESIDE.values(), also) for key in keys}
    names: dict[str, str] = {}
    for entry in entries:
        theirs, equals, mine = entry.partition("=")
        if theirs in ours and equals and mine and mine not in ours:
            raise ParameterError(
                f"--map is COLUMN=NAME, the file's own name first: write {mine}={theirs}, got {entry!r}"
            )
        if not equals or mine not in ours:
            raise ParameterError(f"--map must be COLUMN=NAME with a name of {', '.join(sorted(ours))}, got {entry!r}")
        names[theirs] = mine
    return names


def check_map(names: Mapping[str, str], columns: Iterable[str]) -> None:
    """ParameterError for a column that --map names and that is none of these, which are those of all rows."""
    there = sorted(set(columns))
    if lost := next((theirs for theirs in names if theirs not in there), None):
        have = ", ".join([*there[:LISTED], *["..."] * (len(there) > LISTED)]) or "none, as they are texts"
        raise ParameterError(f"--map {lost}={names[lost]}: no row has a column {lost}; got {have}")


def _side(value: object, name: str, role: str, where: str) -> tuple[Message, ...]:
    """One side of a row: a text said by `role`, or messages."""
    if isinstance(value, str):
        return ({"role": role, "content": value},)
    if not isinstance(value, list):
        raise RowFault(where, f"{name} must be text or a list of messages, got {shown(value)}", name)
    return _messages(value, name, where)


def _answer(value: object, where: str) -> str:
    """A text, a number, or the first of several that are right."""
    first = value[0] if isinstance(value, list) and value else value
    if isinstance(first, bool) or not isinstance(first, str | int | float):
        raise RowFault(where, f"answer must be text, a number or a list of them, got {shown(value)}", "answer")
    return str(first)


def _messages(value: object, name: str, where: str) -> tuple[Message, ...]:
    messages = _list(value, name, where)
    if not messages:
        raise RowFault(where, f"{name} is empty", name)
    for i, message in enumerate(messages):
        at = f"{name}[{i}]"
        if not isinstance(message, dict):
            raise RowFault(where, f"{at} must be an object with role and content, got {shown(message)}", name)
        if message.get("role") not in ROLES:
            got = shown(message.get("role"))
            raise RowFault(where, f"{at}.role must be one of {', '.join(ROLES)}, got {got}", name)
        content = message.get("content")
        if not isinstance(content, str | list) and not (content is None and message.get("tool_calls")):
            raise RowFault(where, f"{at}.content must be text, got {shown(content)}", name)
    return tuple(messages)


def _sharegpt(value: object, where: str) -> tuple[Message, ...]:
    messages, name = [], "conversations"
    for i, turn in enumerate(_list(value, name, where)):
        at = f"{name}[{i}]"
        if not isinstance(turn, dict) or not isinstance(turn.get("value"), str):
            raise RowFault(where, f"{at} must be an object with from and value, got {shown(turn)}", name)
        if (role := SPEAKERS.get(speaker) if isinstance(speaker := turn.get("from"), str) else None) is None:
            raise RowFault(where, f"{at}.from must be one of {', '.join(SPEAKERS)}, got {shown(speaker)}", name)
        messages.append({"role": role, "content": turn["value"]})
    if not messages:
        raise RowFault(where, f"{name} is empty", name)
    return tuple(messages)


def _text(row: Mapping[str, Any], name: str, where: str) -> str:
    if not isinstance(row[name], str):
        raise RowFault(where, f"{name} must be text, got {shown(row[name])}", name)
    return str(row[name])


def _list(value: object, name: str, where: str) -> list[Any]:
    if isinstance(value, str):  # a cell of a table
        with suppress(ValueError):
            value = foreign_json.parse(value)
    if not isinstance(value, list):
        raise RowFault(where, f"{name} must be a list, got {shown(value)}", name)
    return value


def sides(row: TrainingRow) -> tuple[str, str]:
    """Question and answer of a row; ("", text) of a text."""
    if row.form == "text":
        return "", row.text
    contents = [str(message.get("content") or "") for message in row.messages]
    return "\n".join(contents[:-1]), contents[-1]
