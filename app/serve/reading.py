"""Reader of a run's events for a response: what each text has become, and what is new of it.

A text is parted as it grows into what is said, what is thought (`<think>`) and calls of tools (`<tool_call>`), by the
marks that open models write. Knows no protocol.
"""

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

from likely.engine.decode.events import Done, Emitted, Event
from likely.engine.decode.texts import GrownText, Texts
from likely.engine.trace.step import TokenStep

Kind = Literal["said", "thought", "call"]
MARKS: dict[Kind, dict[str, Kind]] = {  # that end each kind, and what begins behind them
    "said": {"<think>": "thought", "<tool_call>": "call"},
    "thought": {"</think>": "said"},
    "call": {"</tool_call>": "said"},
}


class MarkSplitter:
    """A text that arrives in pieces, parted by its marks; what may be the beginning of one is held back."""

    def __init__(self, kind: Kind = "said", calls: bool = False) -> None:
        """`calls`: tools were offered, so that their marks mean something."""
        self.kind: Kind = kind
        self._calls = calls
        self._held = ""

    def push(self, text: str, last: bool = False) -> Iterator[tuple[Kind, str]]:
        """The parts that are certain."""
        held, self._held = self._held + text, ""
        while held:
            marks = {m: k for m, k in MARKS[self.kind].items() if self._calls or k != "call"}
            first = min(((at, mark) for mark in marks if (at := held.find(mark)) >= 0), default=None)
            if first is not None:
                at, mark = first
                if at:
                    yield self.kind, held[:at]
                self.kind, held = marks[mark], held[at + len(mark) :]
                continue
            keep = 0 if last else max(_overlap(held, mark) for mark in marks)
            if held[: len(held) - keep]:
                yield self.kind, held[: len(held) - keep]
            self._held = held[len(held) - keep :]
            return

    def fork(self) -> "MarkSplitter":
        """A second one that holds back the same."""
        twin = MarkSplitter(self.kind, self._calls)
        twin._held = self._held
        return twin


def _overlap(text: str, mark: str) -> int:
    """How many characters at the end of a text may begin a mark."""
    return next((n for n in range(min(len(mark) - 1, len(text)), 0, -1) if text.endswith(mark[:n])), 0)


@dataclass(slots=True)
class PartedText(GrownText):
    """One text so far, in its parts."""

    splitter: MarkSplitter = field(default_factory=MarkSplitter)
    parts: list[tuple[Kind, str]] = field(default_factory=list)

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
        return [call for text in joined if (call := read_call(text)) is not None]

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

    def __init__(self, n: int, *, thinking: bool = False, calls: bool = False, figures: bool = True) -> None:
        """`figures`: the tokens' candidates are kept, which nobody may be going to ask for."""
        self._figures = figures
        self.texts = Texts(n, lambda: PartedText(splitter=MarkSplitter("thought" if thinking else "said", calls)))
        self.ended: list[PartedText] = []

    def read(self, events: Iterable[Event]) -> Iterator[TextDelta]:
        """News of each text with these events."""
        for event in self.texts.follow(events if self._figures else map(_light, events)):
            match event:
                case Emitted(number, step):
                    yield TextDelta(number, self.texts[number].push("" if step.special else step.text), (step,))
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
            texts.sort(key=lambda text: -text.score)
        elif len(texts) > n:
            texts.sort(key=lambda text: -text.likelihood)
        return texts[:n]


def _light(event: Event) -> Event:
    """An event without a token's candidates."""
    if not isinstance(event, Emitted):
        return event
    return replace(event, step=replace(event.step, snapshot=None, removed_by=None))


def read_call(text: str) -> dict[str, str] | None:
    """A call of a tool from its JSON; None where it is none."""
    try:
        call = json.loads(text)
        return {"name": str(call["name"]), "arguments": json.dumps(call.get("arguments", {}), ensure_ascii=False)}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
