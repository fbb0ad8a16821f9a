"""Fields of messages as a template reads them: thoughts and calls of tools, which published ones want otherwise.

Ours are those of most: `reasoning_content`, `tool_calls`. Others, by what stands in their texts: gpt-oss and LFM2.5
read `thinking`, Solar `reasoning`, Ministral 3 and Magistral a part of the content; Mistral's before them refuse ids of
calls that are not nine letters or figures; Kimi K2 writes a call's id alone, which has the name in it; SmolLM2, SmolLM3
and LFM2 read no calls, which are text of the message then. Plain Python; knows no template but by these marks.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Message = Mapping[str, Any]

THOUGHT, CALLS = "reasoning_content", "tool_calls"
OTHERS = ("thinking", "reasoning")  # names of a thought, where a template does not read ours
CHANNELS = "<|channel|>analysis"  # such a template has one place for a thought and for words before a call
NINE = "length 9"  # of an id, in the line by which a template refuses another
NUMBERED = "<|tool_call_argument_begin|>"  # before it an id: functions.NAME:NUMBER
PYTHONIC = "<|tool_list_start|>"  # a template with it is of models that call as Python does


def as_read(messages: Sequence[Message], source: str) -> list[Message]:
    """Messages with their thoughts and their calls as the template of this `source` reads them."""
    read = [_thinking(message, source) for message in messages]
    if CALLS not in source:
        return [_spoken(message, PYTHONIC in source) for message in read]
    if NUMBERED in source or NINE in source:
        return [*_named(read, NUMBERED in source)]
    return read


def _thinking(message: Message, source: str) -> Message:
    thought, said = message.get(THOUGHT), message.get("content") or ""
    if not thought or THOUGHT in source:
        return message
    rest = {name: value for name, value in message.items() if name != THOUGHT}
    if "[THINK]" in source and re.search(r"\[['\"]thinking['\"]\]", source):
        words = said if isinstance(said, list) else [{"type": "text", "text": said}] if said else []
        return rest | {"content": [{"type": "thinking", "thinking": thought}, *words]}
    name = next((name for name in OTHERS if re.search(rf"message\.{name}\b|message\[['\"]{name}['\"]\]", source)), None)
    if name is None:
        return rest
    if said and message.get(CALLS) and CHANNELS in source:
        thought, rest["content"] = f"{thought}\n\n{said}", ""
    return rest | {name: thought}


def _calls(message: Message) -> list[dict[str, Any]] | None:
    """The calls of a message, None where it has none, or what no template could read."""
    calls = message.get(CALLS)
    named = isinstance(calls, list) and all(isinstance(c, dict) and isinstance(c.get("function"), dict) for c in calls)
    return calls if named and calls and all(c["function"].get("name") for c in calls) else None


def _spoken(message: Message, pythonic: bool) -> Message:
    if (calls := _calls(message)) is None:
        return message
    said = str(message.get("content") or "")
    functions = [(call["function"]["name"], call["function"].get("arguments") or {}) for call in calls]
    if pythonic:
        written = ", ".join(f"{name}({_keywords(arguments)})" for name, arguments in functions)
        text = f"<|tool_call_start|>[{written}]<|tool_call_end|>{said}"
    else:
        tagged = [f'{{"name": {_json(name)}, "arguments": {_json(arguments)}}}' for name, arguments in functions]
        text = "\n".join([*([said] if said else []), *(f"<tool_call>\n{call}\n</tool_call>" for call in tagged)])
    return {name: value for name, value in message.items() if name != CALLS} | {"content": text}


def _keywords(arguments: Any) -> str:
    named = isinstance(arguments, dict)
    return ", ".join(f"{name}={_json(value)}" for name, value in arguments.items()) if named else str(arguments)


def _json(value: Any) -> str:
    return value if isinstance(value, str) and value.startswith("{") else json.dumps(value, ensure_ascii=False)


def _named(messages: Sequence[Message], numbered: bool) -> Iterator[Message]:
    names: dict[Any, str] = {}
    count = 0
    for message in messages:
        renamed = []
        for call in _calls(message) or ():
            was = str(call.get("id", ""))
            names[was] = f"functions.{call['function']['name']}:{count}" if numbered else _nine(was)
            renamed.append({**call, "id": names[was]})
            count += 1
        of = message.get("tool_call_id")
        answered = {} if of is None else {"tool_call_id": names.get(of, of)}
        yield {**message, **({CALLS: renamed} if renamed else {}), **answered}


def _nine(was: str) -> str:
    whole = re.fullmatch("[A-Za-z0-9]{9}", was)
    return was if whole else hashlib.sha256(was.encode(errors="surrogatepass")).hexdigest()[:9]
