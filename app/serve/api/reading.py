"""Reader of a run's events for a response: what each text has become, and what is new of it.

A text is parted as it grows into what is said, what is thought (between the model's marks, `engine.thinking`) and calls
of tools (`engine.tools.call_format`). Knows no protocol.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from likely.engine.base.errors import DataError
from likely.engine.chat.tools.call_format import JSON, CallFormat
from likely.engine.decode.loop.events import Done, Emitted, Event
from likely.engine.decode.loop.texts import GrownText, Texts, search_answers
from likely.engine.sampling.thinking import THINK, Kind, MarkSplitter, Thinking
from likely.engine.sampling.trace.step import TokenStep


@dataclass(slots=True)
class PartedText(GrownText):
    """One text so far, in its parts."""

    splitter: MarkSplitter = field(default_factory=MarkSplitter)
    parts: list[tuple[Kind, str]] = field(default_factory=list)
    thought_tokens: int = 0  # of its tokens those of a thought, the marks included
    format: CallFormat = JSON
    tools: tuple[Any, ...] = ()  # as the template was told of them

    def push(self, text: str, last: bool = False) -> tuple[tuple[Kind, str], ...]:
        """The parts that are certain now that `text` has come."""
        new = tuple(self.splitter.push(text, last))
        self.parts += new
        return new

    def of(self, kind: Kind) -> str:
        return "".join(text for k, text in self.parts if k == kind)

    @property
    def calls(self) -> list[dict[str, str]]:
        """The calls of tools that can be read, each a name and its arguments as JSON."""
        joined: list[str] = []
        before: Kind = "said"
        for kind, text in self.parts:
            if kind == "call":
                joined = [*joined[:-1], joined[-1] + text] if before == "call" and joined else [*joined, text]
            before = kind
        return [call for text in joined for call in read_calls(text, self.format, self.tools)]

    @property
    def likelihood(self) -> float:
        """Mean log-probability of its tokens, in nats."""
        known = [step.logprob for step in self.steps if step.logprob is not None]
        return sum(known) / len(known) if known else -math.inf

    def fork(self) -> "PartedText":
        twin = GrownText.fork(self)
        twin.splitter, twin.parts = self.splitter.fork(), list(self.parts)
        return twin


@dataclass(frozen=True, slots=True)
class TextDelta:
    """News of one text: parts and tokens more, and at its end the reason."""

    number: int
    parts: tuple[tuple[Kind, str], ...]
    steps: tuple[TokenStep, ...]
    reason: str = ""


class AnswerReader:
    """The texts of one run, by the number of their branch."""

    def __init__(
        self,
        n: int,
        *,
        opened: bool = False,
        thinking: Thinking = THINK,
        calls: CallFormat | None = None,
        tools: tuple[Any, ...] = (),
        figures: bool = True,
    ) -> None:
        """`opened`: the prompt ends within a thought, of these marks. `calls`: how `tools` are called, if any are
        offered. `figures`: the tokens' candidates are kept, which nobody may be going to ask for."""
        self._figures = figures
        kind: Kind = "thought" if opened else "said"
        marks = None if calls is None else calls.marks
        self.texts = Texts(
            n,
            lambda: PartedText(splitter=MarkSplitter(kind, marks, thinking), format=calls or JSON, tools=tools),
        )
        self.ended: list[PartedText] = []

    def read(self, events: Iterable[Event]) -> Iterator[TextDelta]:
        """News of each text with these events."""
        for event in self.texts.follow(events if self._figures else map(_light, events)):
            match event:
                case Emitted(number, step):
                    text = self.texts[number]
                    before, new = text.splitter.kind, text.push(text.splitter.text(step))
                    text.thought_tokens += "thought" in (before, text.splitter.kind)
                    yield TextDelta(number, new, (step,))
                case Done(number, reason, _, rest):
                    self.ended.append(self.texts[number])
                    yield TextDelta(number, self.texts[number].push(rest, last=True), (), reason)

    @property
    def tokens(self) -> int:
        """Tokens drawn so far, of all texts."""
        return sum(text.done.stats.tokens if text.done else len(text.steps) for text in self.texts.values())

    @property
    def reused(self) -> int:
        """Tokens of the prompt that were not read again."""
        return max((text.done.stats.reused_tokens for text in self.ended if text.done is not None), default=0)

    def best(self, n: int) -> list[PartedText]:
        """The n texts to be given: of a search the best, of more than n the likeliest a token, else in their order."""
        texts = list(self.texts.values())
        if any(text.figures for text in texts):
            return search_answers(texts, n)
        if len(texts) > n:
            texts.sort(key=lambda text: -text.likelihood)
        return texts[:n]


def _light(event: Event) -> Event:
    """An event without a token's candidates."""
    if not isinstance(event, Emitted):
        return event
    return replace(event, step=replace(event.step, snapshot=None, removed_by=None))


def read_calls(text: str, format: CallFormat = JSON, tools: tuple[Any, ...] = ()) -> list[dict[str, str]]:
    """The calls of tools in a text, none where it is no call."""
    try:
        return [call.function for call in format.read(text, tools)]
    except DataError:
        return []
