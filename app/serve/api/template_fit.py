"""Fit of a request to its model's chat template: tools and effort, in the form that this template reads.

A template without tools has them said in words, as the clients of others' servers expect; effort goes to whichever
option is there for it, and changes nothing where there is none. Knows no protocol and no model.
"""

import json
from dataclasses import replace
from typing import Any

from likely.app.serve.requests import AnswerRequest, RequestRefused
from likely.engine.decode.prompt import Prompt
from likely.engine.sampling.thinking import EFFORT, THINK, switch, thinking_of, without_thought
from likely.engine.text.tokenizer.template import Message

THOUGHTLESS = ("none", "minimal")  # efforts at which a model that can leave thinking out does
TOOLS = (
    "You may call these functions. To call one, write <tool_call>, then a JSON object with its name and arguments, "
    "then </tool_call>; otherwise answer in words.\n"
)


def fitted(request: AnswerRequest, tokenizer: Any, model: str) -> tuple[Prompt, tuple[str, ...]]:
    """The prompt as the template of `tokenizer` takes it, and the fields that change nothing there. RequestRefused
    where there is no template for what it alone could read."""
    prompt = request.prompt
    if prompt.thinking is not None:
        prompt = replace(prompt, thinking=_told(prompt.thinking, request.effort, tokenizer, model))
    if tokenizer.chat_template is None:
        if prompt.options or prompt.tools:
            name = "tools" if prompt.tools else "chat_template_kwargs"
            raise RequestRefused(f"{name}: {model} has no chat template that could read it", name)
        return prompt, ("reasoning_effort",) if request.effort else ()
    if not (prompt.tools or request.effort):
        return prompt, ()
    reads = tokenizer.templates["default"].variables
    if prompt.tools and "tools" not in reads and "tool_use" not in tokenizer.templates:
        prompt = replace(prompt, turns=with_tools(prompt), tools=())
    if not request.effort:
        return prompt, ()
    if EFFORT in reads:
        return replace(prompt, options=(*prompt.options, (EFFORT, request.effort))), ()
    if (option := switch(reads, request.effort not in THOUGHTLESS)) is not None:
        return replace(prompt, options=(*prompt.options, option)), ()
    return prompt, ("reasoning_effort",)


def _told(thinking: bool, effort: str, tokenizer: Any, model: str) -> bool | None:
    """Whether the template is told to think, or not to: None where that is so anyway, or is said by an effort.
    RequestRefused where it cannot be told."""
    if thinking_of(tokenizer) is None:
        if thinking:
            raise RequestRefused(f"thinking: {model} does not think", "thinking")
        return None
    option = None
    if tokenizer.chat_template is not None:
        option = switch(tokenizer.templates["default"].variables, thinking)
    if option is not None and not (effort and option[0] == EFFORT):
        return thinking
    if thinking:
        return None
    raise RequestRefused(f"thinking: {model} cannot be told not to think: leave it out", "thinking")


def answer_begun(prompt: Prompt, tokenizer: Any) -> list[int]:
    """The ids of a prompt with the words that its answer begins with. They are no thought: one that the template opens
    is ended before them, unless their own marks say otherwise."""
    opened = replace(prompt, parts=()).ids(tokenizer)
    marks, begun = thinking_of(tokenizer) or THINK, "".join(str(part) for part in prompt.parts)
    ended = opened if any(mark in begun for mark in (marks.begin, marks.end)) else without_thought(opened, tokenizer)
    return [*ended, *prompt.ids(tokenizer)[len(opened) :]]


def with_tools(prompt: Prompt) -> tuple[Message, ...]:
    """The turns of a prompt, its tools in words before them: in what the system says, where it says something."""
    words = TOOLS + "\n".join(json.dumps(tool["function"], ensure_ascii=False) for tool in prompt.tools)
    turns = prompt.messages
    if turns and turns[0]["role"] == "system":
        return {**turns[0], "content": f"{turns[0]['content']}\n\n{words}"}, *turns[1:]
    return {"role": "system", "content": words}, *turns
