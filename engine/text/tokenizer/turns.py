"""Where each message stands in a rendered conversation.

A template is an opaque program, so this is found by experiment. A mark at the end of one message's own text changes the
rendering there and nowhere after: what both renderings share at their ends is what follows the message. A mark at the
start gives where its text begins. What a model is to write starts earlier than its text where the template itself opens
with something (a thinking tag, say): right after the generation prompt, of which as much is looked for as the rendering
repeats, since some templates prompt for more than they later keep. Shared prefixes of shorter conversations would be
simpler and are wrong where a template drops the reasoning of past turns.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from likely.engine.base.errors import TemplateError
from likely.engine.text.tokenizer.template import Message

__all__ = ["MessageSpan", "turns"]

_MARK = "\ue0f1\ue0f2"  # private-use characters: no template tests for them, and no sane text has the two in a row
_STRUCTURE = frozenset(("role", "type", "id", "tool_call_id", "name"))  # strings that templates branch on and validate


@dataclass(frozen=True)
class MessageSpan:
    """The characters of a rendered conversation that are a message's own, [start, stop).

    What an assistant has to write begins at once behind the generation prompt, any other message with its text;
    one that the template leaves out has none.
    """

    start: int
    stop: int


Render = Callable[[Sequence[Message], bool], str]


def turns(render: Render, messages: Sequence[Message]) -> tuple[str, list[MessageSpan]]:
    """The rendered conversation and where each message stands in it.

    `render(messages, generation_prompt)` is called up to five times a message.
    """
    text = render(messages, False)
    spans: list[MessageSpan] = []
    before = 0
    for i, message in enumerate(messages):

        def marked(where: _Where, i: int = i) -> str:
            return render([*messages[:i], _marked(messages[i], where), *messages[i + 1 :]], False)

        where = _Where(end=True)
        if (rendered := marked(where)) == text and (rendered := marked(where := _Where(end=True, names=True))) == text:
            spans.append(MessageSpan(before, before))
            continue
        stop = max(before, len(text) - _shared(text[::-1], rendered[::-1]))
        start = min(stop, max(before, _shared(text, marked(_Where(end=False, names=where.names)))))
        if message.get("role") == "assistant":
            prompt = _generation_prompt(render, messages[:i])
            for length in range(len(prompt), 0, -1):
                if (at := text.rfind(prompt[:length], before, start)) >= 0:
                    start = at + length
                    break
        spans.append(MessageSpan(start, stop))
        before = stop
    return text, spans


def _generation_prompt(render: Render, messages: Sequence[Message]) -> str:
    try:
        closed, opened = render(messages, False), render(messages, True)
    except TemplateError:  # nothing stands before the first message, and many templates read one
        return ""
    return opened[_shared(closed, opened) :]


def _shared(a: str, b: str) -> int:
    """How many characters two strings begin with in common."""
    low, high = 0, min(len(a), len(b))  # a[:low] == b[:low] throughout
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if a[low:middle] == b[low:middle] else (low, middle - 1)
    return low


@dataclass(frozen=True)
class _Where:
    """Which end of a message's strings is marked, and whether the names of what it calls are marked too."""

    end: bool
    names: bool = False


def _marked(message: Message, where: _Where) -> Message:
    """The message with the mark at one end of each of its strings, inside of blanks, which templates trim."""

    def mark(value: Any) -> Any:
        if isinstance(value, str):
            core = value.strip()
            lead = value[: len(value) - len(value.lstrip())]
            marked = core + _MARK if where.end else _MARK + core
            return lead + marked + value[len(lead) + len(core) :] if core else value
        if isinstance(value, dict):
            keep = _STRUCTURE - {"name"} if where.names else _STRUCTURE
            return {key: item if key in keep else mark(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [mark(item) for item in value]
        return value

    return {key: value if key in _STRUCTURE else mark(value) for key, value in message.items()}
