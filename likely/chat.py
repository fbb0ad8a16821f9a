"""Conversation with a model: turns through its chat template, each answer a trace."""

from dataclasses import replace
from typing import Any

from likely.engine.base.errors import ParameterError
from likely.engine.decode.prompt import Prompt
from likely.engine.sampling.thinking import MarkSplitter, answer_tokens, end_of, opens, thinking_of
from likely.language_model import Model
from likely.trace import Trace


class Chat:
    """`send` adds a question and its answer; `branch` goes another way in the last answer. `messages` are what was
    said, without thoughts, as dicts of role and content."""

    def __init__(self, model: Model, system: str = "") -> None:
        self.model, self.system = model, system
        self.messages: list[dict[str, Any]] = []
        self.answers: list[Trace] = []

    def send(self, text: str, **options: Any) -> Trace:
        """Ask, and give the answer; takes what `Model.generate` takes but `n`. What is asked is taken back where it
        fails."""
        question = {"role": "user", "content": text}
        return self._answered([*self.messages, question], (), options)

    def branch(self, i: int, token: int | str, **options: Any) -> "Chat":
        """Another conversation, in which the last answer has another token at place i and goes on from there; this one
        stays. ParameterError where there is no such place."""
        if not self.answers:
            raise ParameterError("there is no answer to branch from yet: send a question first")
        last = self.answers[-1]
        if not -len(last) <= i < len(last):
            raise ParameterError(f"the last answer has the places 0 to {len(last) - 1}, got {i}")
        ids = self.model.tokenizer.encode(token) if isinstance(token, str) else [token]
        other = Chat(self.model, self.system)
        other.messages, other.answers = self.messages[:-2], self.answers[:-1]
        other._answered(self.messages[:-1], (*last.ids[:i], *ids), options)
        return other

    def _answered(self, messages: list[dict[str, Any]], begun: tuple[int, ...], options: dict[str, Any]) -> Trace:
        if "n" in options:
            raise ParameterError("a conversation goes on with one answer: Model.generate(n=...) gives several")
        turns = tuple(messages)
        thinking, tokenizer = options.pop("thinking", None), self.model.tokenizer
        prompt = Prompt(turns=turns, parts=(begun,) if begun else (), system=self.system, thinking=thinking)
        trace: Trace = self.model.generate(prompt.ids(tokenizer), **options)
        written = [*(tokenizer.piece(i).decode(errors="replace") for i in begun), *(step.written for step in trace)]
        kept = answer_tokens(written, opens(end_of(replace(prompt, parts=()).ids(tokenizer), tokenizer.piece)))
        before = b"".join(tokenizer.piece(begun[i]) for i in kept or () if i < len(begun)).decode(errors="replace")
        thought = trace[: max(kept.start - len(begun), 0)] if kept is not None else trace
        after = trace.text[sum(len(step.text) for step in thought) :] if kept is not None else ""
        said = before + after
        if (marks := thinking_of(tokenizer)) is not None and marks.around:
            said = "".join(words for _, words in MarkSplitter(thinking=marks).push(said, last=True))
        self.messages = [*messages, {"role": "assistant", "content": said}]
        self.answers.append(trace)
        return trace

    def __repr__(self) -> str:
        return "\n".join(f"{turn['role']}: {turn['content']}" for turn in self.messages) or "(nothing was said yet)"
