"""Use of tools in a chat: what a model is told of them, what it answers, and what its calls become in the next prompt.

In one of two ways. A model whose template knows tools writes a call in its own `CallFormat`, or answers in words. Any
other is told of them in words and bound by a grammar: its answer is one JSON object, a call or its words (`WORDS`).
Knows no server and no person.
"""

import json
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Protocol, Self

from likely.engine.base.errors import DataError
from likely.engine.chat.tools.call_format import JSON, CallFormat, call_format
from likely.engine.chat.tools.tool import Tool, ToolCall, ToolDistribution, ToolResult
from likely.engine.chat.tools.tool_prompt import HeardResults, ToolChoice, call_fields, hearing
from likely.engine.decode.prompt import Prompt, Turn
from likely.engine.sampling.thinking import (
    THINK,
    Kind,
    MarkedVocabulary,
    MarkSplitter,
    answer_tokens,
    end_of,
    opens,
    thinking_of,
)
from likely.engine.sampling.trace.step import TokenStep
from likely.engine.sampling.transforms import Constraint
from likely.engine.text.tokenizer.template import Message

if TYPE_CHECKING:
    from likely.engine.decode.session import Session
    from likely.engine.text.tokenizer import Tokenizer

WORDS = "answer_in_words"  # a name beside the tools', for no call
TOLD = (
    'You have tools. Answer with one JSON object. To use a tool: {"name": its name, "arguments": {...}}. '
    f'To answer in words: {{"name": "{WORDS}", "arguments": {{"text": "..."}}}}. The tools:\n'
)


class ControlledVocabulary(MarkedVocabulary, Protocol):
    """The tokenizer as answers are read by it, and results written."""

    def is_special(self, token: int) -> bool: ...


@dataclass(frozen=True, slots=True)
class ToolAnswer:
    """An answer: what it says, what it thought, and what it calls. `problem` is why a call in it cannot be read, "" if
    none is; `choice` is the token, of its own, before which it was open whether and what to call."""

    said: str
    thought: str
    calls: tuple[ToolCall, ...]
    problem: str
    choice: int
    written: str


@dataclass(frozen=True, slots=True)
class ToolUse:
    """The tools that a model is offered, and the `format` of its calls; None where it is bound by a grammar."""

    tools: tuple[Tool, ...]
    format: CallFormat | None

    @classmethod
    def of(cls, tokenizer: "Tokenizer", tools: Sequence[Tool]) -> Self:
        return cls(tuple(tools), call_format(tokenizer))

    @property
    def specs(self) -> tuple[dict[str, Any], ...]:
        return tuple(tool.spec for tool in self.tools)

    def prompt(self, turns: Sequence[Turn], system: str = "", thinking: bool | None = None) -> Prompt:
        """The prompt of a chat, with the tools in it."""
        return self.told(Prompt(tuple(turns), system=system, thinking=thinking))

    def told(self, prompt: Prompt) -> Prompt:
        """A prompt with the tools in it: as its template is told of them, or in words of the system's."""
        if self.format is not None:
            return replace(prompt, tools=self.specs)
        words = TOLD + "\n".join(json.dumps(spec["function"], ensure_ascii=False) for spec in self.specs)
        turns, system = prompt.turns, prompt.system
        first = turns[0] if turns else None
        if isinstance(first, tuple) and first[0] == "system":
            turns, system = turns[1:], first[1]
        return replace(prompt, turns=turns, system=f"{system}\n\n{words}".strip())

    def constraint(self, start: int) -> Constraint | None:
        """The grammar that binds an answer behind `start` tokens; None where its format does. ParameterError for a
        tool whose schema cannot be followed."""
        return None if self.format is not None else Constraint("json", self.grammar, start)

    @property
    def grammar(self) -> str:
        """The JSON schema of an answer that is bound. What a tool's own does not say it takes cannot be given to it: a
        small model writes anything that may stand there."""
        text = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
        schemas = {tool.name: tool.spec["function"]["parameters"] for tool in self.tools} | {WORDS: text}
        calls = [
            {
                "type": "object",
                "properties": {"name": {"const": name}, "arguments": {"additionalProperties": False, **schema}},
                "required": ["name", "arguments"],
                "additionalProperties": False,
            }
            for name, schema in schemas.items()
        ]
        return json.dumps({"anyOf": calls})

    def choosing(
        self, session: "Session", ids: Sequence[int], steps: Sequence[TokenStep], answer: ToolAnswer
    ) -> Generator[None, None, ToolDistribution | None]:
        """The law over what is called, or nothing, where an answer in `steps` behind a prompt chose, in pieces. None
        where the template does not show how a call begins. Under a grammar, what follows is a tool or `WORDS`."""
        from likely.engine.chat.tools.choice import CallOpening, choosing, openings  # mlx

        tokenizer, names = session.tokenizer, tuple(tool.name for tool in self.tools)
        before = [*ids, *(step.token for step in steps[: answer.choice])]
        if self.format is None:
            before += tokenizer.encode('{"name": "')  # as each answer begins
            return (yield from choosing(session, before, (*names, WORDS), CallOpening("", "", '"'))).among_tools
        laws = list[ToolDistribution]()
        for begins in openings(tokenizer, self.format):
            laws.append((yield from choosing(session, before, names, begins)))
        return reduce(ToolDistribution.either, laws) if laws else None

    def splitter(self, ids: Sequence[int], tokenizer: ControlledVocabulary) -> MarkSplitter:
        """The splitter of an answer behind a prompt."""
        marks = None if self.format is None else self.format.marks
        kind: Kind = "thought" if opens(end_of(ids, tokenizer.piece)) else "said"
        return MarkSplitter(kind, marks, thinking_of(tokenizer) or THINK)

    def answer(
        self, ids: Sequence[int], steps: Sequence[TokenStep], rest: str, tokenizer: ControlledVocabulary
    ) -> ToolAnswer:
        """The answer in tokens that were drawn behind a prompt, and the `rest` that no token completed."""
        parting = self.splitter(ids, tokenizer)
        texts = [parting.text(step) for step in steps]
        written = "".join(texts) + rest
        opened = parting.kind == "thought"
        parts = [*parting.push(written, last=True)]
        said, thought = ("".join(text for kind, text in parts if kind == name).strip() for name in ("said", "thought"))
        if self.format is None:
            return self._bound(written)
        calls, problem = list[ToolCall](), ""
        for kind, text in parts:
            if kind == "call":
                try:
                    calls += self.format.read(text, self.specs)
                except DataError as error:
                    problem = str(error)
        own = answer_tokens([step.written for step in steps], opened)
        start = 0 if own is None else own.start
        ends = list(accumulate(map(len, texts), initial=0))
        mark = self.format.marks.find(written, ends[start])
        if mark < 0:
            choice = next((i for i in range(start, len(texts)) if texts[i].strip()), start)
        else:
            choice = max(i for i in range(start, len(texts)) if ends[i] <= mark)
        return ToolAnswer(said, thought, tuple(calls), problem, choice, written)

    def _bound(self, written: str) -> ToolAnswer:
        try:
            (call,) = JSON.read(written)
        except DataError as error:
            return ToolAnswer(written, "", (), str(error), 0, written)
        if call.name == WORDS:
            return ToolAnswer(str(call.arguments.get("text", "")), "", (), "", 0, written)
        return ToolAnswer("", "", (call,), "", 0, written)

    def turns(
        self, answer: ToolAnswer, results: Sequence[ToolResult], tokenizer: ControlledVocabulary
    ) -> tuple[Message, ...]:
        """The turns that an answer and the results of its calls are in the next prompt. A result spells no control
        token: it is a stranger's."""
        texts = [plain_words(heard_text(result), tokenizer) for result in results]
        if self.format is None:
            heard = "\n".join(f"{c.name} gave: {text}" for c, text in zip(answer.calls, texts, strict=True))
            return {"role": "assistant", "content": answer.written}, {"role": "user", "content": heard}
        turn: dict[str, Any] = {"role": "assistant", "content": answer.said}
        turn["tool_calls"] = calls = [{**call.message, "id": f"call{i:05}"} for i, call in enumerate(answer.calls)]
        if answer.thought:
            turn["reasoning_content"] = answer.thought
        heads = [{"role": "tool", "name": c["function"]["name"], "tool_call_id": c["id"]} for c in calls]
        return turn, *({**head, "content": text} for head, text in zip(heads, texts, strict=True))


def heard_text(result: ToolResult) -> str:
    """A result as the model reads it."""
    cut = f"\n[{result.cut} more characters were left out]" if result.cut else ""
    return f"{'error: ' if result.is_error else ''}{result.text}{cut}"


def plain_words(text: str, tokenizer: ControlledVocabulary) -> str:
    """A text in which what would be read as a control token is broken by a character of no width."""
    names = {tokenizer.piece(token).decode(errors="replace") for token in tokenizer.encode(text, special=True)
             if tokenizer.is_special(token)}  # fmt: skip
    for name in names:
        text = text.replace(name, f"{name[:1]}\u200b{name[1:]}")
    return text


@dataclass(frozen=True, slots=True)
class CallsRead:
    """An answer, and the choice that it made."""

    answer: ToolAnswer
    choice: ToolChoice


@dataclass(frozen=True, slots=True)
class ResultsHeard:
    """The turns that an answer and its calls' results are in the next prompt, and how surprising these are there."""

    messages: tuple[Message, ...]
    heard: HeardResults


def reading(
    session: "Session", ids: Sequence[int], steps: Sequence[TokenStep], tools: Sequence[Tool]
) -> Generator[None, None, CallsRead]:
    """The calls of an answer in `steps` behind a prompt that was told of tools, in pieces."""
    use = ToolUse.of(session.tokenizer, tools)
    answer = use.answer(ids, steps, "", session.tokenizer)
    law = yield from use.choosing(session, ids, steps, answer)
    written, logprobs = [step.written for step in steps], [step.logprob for step in steps]
    called = [(call.name, call_fields(call, written, logprobs, answer.choice)) for call in answer.calls]
    return CallsRead(answer, ToolChoice(law, answer.choice, tuple(called)))


def hearing_results(
    session: "Session", prompt: Prompt, tools: Sequence[Tool], answer: ToolAnswer, results: Sequence[ToolResult]
) -> Generator[int, None, ResultsHeard]:
    """The results of an answer's calls behind its prompt, in pieces, as tokens are read."""
    use = ToolUse.of(session.tokenizer, tools)
    messages = use.turns(answer, results, session.tokenizer)
    following = use.told(replace(prompt, turns=(*prompt.turns, *messages)))
    heard = yield from hearing(session, following, len(messages) - 1)
    return ResultsHeard(messages, heard)
