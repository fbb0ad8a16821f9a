"""Surprise of a call, argument by argument, and of its result: what a model chose, and what it expected to hear.

Plain data but for `hearing`, which reads the result. Knows no server. Log-probabilities in nats.
"""

import json
from bisect import bisect_left, bisect_right
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from likely.engine.chat.tools.tool import ToolCall, ToolDistribution
from likely.engine.decode.loop.text_stream import with_text
from likely.engine.decode.prompt import Prompt
from likely.engine.sampling.trace.step import TokenStep, unmeasured
from likely.engine.text.tokenizer.template import Message
from likely.engine.text.tokenizer.turns import turns

if TYPE_CHECKING:
    from likely.engine.decode.session import Session

MEASURED = 2048  # tokens of a result


@dataclass(frozen=True, slots=True)
class CallField:
    """An argument as it was written: its tokens, a half-open range of the answer's, and log p of them, given all before
    it, in nats."""

    name: str
    text: str
    tokens: tuple[int, int]
    logprob: float


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """A choice of an answer's: `law` over what it could have called, None where the template does not show how a call
    begins; `at` is the token, of its own, before which it was open; and what it called then, by name, argument by
    argument."""

    law: ToolDistribution | None
    at: int
    calls: tuple[tuple[str, tuple[CallField, ...]], ...] = ()


@dataclass(frozen=True, slots=True)
class Heard:
    """A result as the model reads it: its tokens, and log p of those that were measured, in nats."""

    tokens: int
    measured: int
    logprob: float


@dataclass(frozen=True, slots=True)
class HeardResults:
    """Results in the prompt that ends with them: the ids `before` the first, and the `steps` from there to the end of
    the last. What the template writes between two is among these, not measured."""

    before: tuple[int, ...] = ()
    steps: tuple[TokenStep, ...] = ()
    results: tuple[Heard, ...] = ()


def call_fields(
    call: ToolCall, written: Sequence[str], logprobs: Sequence[float | None], start: int = 0
) -> tuple[CallField, ...]:
    """The arguments of a call that stands in an answer's tokens, `written` as texts, from `start` on. One that cannot
    be found as it was written is left out."""
    text, owners = "", list[int]()
    for i, piece in enumerate(written[start:], start):
        text, owners = text + piece, owners + [i] * len(piece)
    fields, at = list[CallField](), max(0, text.find(call.name))
    for name, value in call.arguments.items():
        key = text.find(name, at)
        if key < 0:
            continue
        spans = [(begin, form) for form in _forms(value) if (begin := text.find(form, key + len(name))) >= 0]
        if not spans:
            continue
        begin, form = min(spans, key=lambda span: (span[0], -len(span[1])))
        at = begin + len(form)
        first, last = owners[begin], owners[at - 1] + 1
        fields.append(CallField(name, form, (first, last), sum(p for p in logprobs[first:last] if p is not None)))
    return tuple(fields)


def _forms(value: Any) -> list[str]:
    """How formats write a value."""
    forms = [json.dumps(value, ensure_ascii=False), json.dumps(value), json.dumps(value, separators=(",", ":"))]
    forms += [value] if isinstance(value, str) else [repr(value)]
    return [form for form in dict.fromkeys(forms) if form]


def hearing(session: "Session", prompt: Prompt, messages: int) -> Generator[int, None, HeardResults]:
    """The last `messages` of a prompt, of which an answer's results are, token by token, and how surprising they are,
    without their headers. In pieces, as tokens are read; of a long one the beginning is measured. Nothing where there
    is no template, or one that leaves them out."""
    tokenizer, told = session.tokenizer, prompt.told(session.tokenizer)
    if tokenizer.chat_template is None or not messages:
        return HeardResults()

    def render(part: Sequence[Message], generation_prompt: bool) -> str:
        return tokenizer.render(part, generation_prompt=generation_prompt, **told)

    text, spans = turns(render, prompt.messages)
    ids, ends = tokenizer.encoder.ends(text)
    places = [
        (bisect_right(ends, span.start), bisect_left(ends, span.stop) + 1)
        for span in spans[-messages:]
        if span.start < span.stop
    ]
    if not places:
        return HeardResults()
    begin, stop, found, measured = places[0][0], places[-1][1], list[Heard](), dict[int, TokenStep]()
    for first, last in places:
        end = min(last, first + MEASURED)
        steps = yield from session.scoring(ids[:end], start=first)
        measured |= {step.position: step for step in steps}
        found.append(Heard(last - first, end - first, sum(step.logprob or 0.0 for step in steps)))
    detokenizer, own = tokenizer.detokenizer(special=True), list[TokenStep]()
    for at in range(begin, stop):
        written = detokenizer.push(ids[at]) + (detokenizer.flush() if at == stop - 1 else "")
        own.append(with_text(tokenizer, measured.get(at) or unmeasured(ids[at], at), written, 0.0))
    return HeardResults(tuple(ids[:begin]), tuple(own), tuple(found))
