"""OpenAI's /v1/responses in its stateless part, by way of the chat's: nothing is kept from one response to the next.

What would need a memory of earlier ones (`previous_response_id`, `conversation`, `background`) is refused by name.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from likely.app.serve.api import openai_fields, openai_requests, openai_responses
from likely.app.serve.api.openai_fields import OPTIONAL_BOOL, OPTIONAL_FLOAT, OPTIONAL_INT, OURS
from likely.app.serve.api.reading import AnswerReader, TextDelta
from likely.app.serve.requests import AnswerOpened, AnswerRequest, RequestRefused, refused_as
from likely.engine.sampling.trace.step import TokenStep

Json = dict[str, Any]
REQUEST = {
    "model?": (str, None),
    "input": (str, [dict]),
    "instructions?": (str, None),
    "max_output_tokens?": OPTIONAL_INT,
    "temperature?": OPTIONAL_FLOAT,
    "top_p?": OPTIONAL_FLOAT,
    "top_logprobs?": OPTIONAL_INT,
    "include?": ([str], None),
    "stream?": OPTIONAL_BOOL,
    "store?": OPTIONAL_BOOL,
    "text?": ({"format?": (dict, None)}, None),
    "tools?": ([dict], None),
    "tool_choice?": (str, dict, None),
    "parallel_tool_calls?": OPTIONAL_BOOL,
    "metadata?": (dict, None),
    "user?": (str, None),
    "safety_identifier?": (str, None),
    "prompt_cache_key?": (str, None),
    "prompt_cache_retention?": (str, None),
    "service_tier?": (str, None),
    "truncation?": (str, None),
    "reasoning?": (openai_fields.REASONING, None),
    "likely?": (OURS, None),
}
SAME = ("model", "temperature", "top_p", "stream", "parallel_tool_calls", "metadata", "user", "likely",
        "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "service_tier", "reasoning")  # fmt: skip
NAMES = {  # of what the chat's wire format refuses
    "response_format.json_schema": "text.format",
    "response_format": "text.format",
    "max_tokens": "max_output_tokens",
}
LOGPROBS = "message.output_text.logprobs"


def read(data: bytes) -> AnswerRequest:
    """The request of /v1/responses."""
    body = openai_requests.read(data, REQUEST)
    chat: Json = {name: body[name] for name in SAME if name in body}
    if body.get("truncation", "disabled") != "disabled":
        raise RequestRefused("truncation: an input that is too long is refused here, not cut", "truncation")
    content = body["input"]
    turns = (
        [{"role": "user", "content": content}]
        if isinstance(content, str)
        else [_turn(t, i) for i, t in enumerate(content)]
    )
    names = {**NAMES, "messages": "input"}
    if body.get("instructions"):
        turns.insert(0, {"role": "system", "content": body["instructions"]})
        del names["messages"]  # they are numbered otherwise
    chat["messages"] = turns
    if "max_output_tokens" in body:
        chat["max_tokens"] = body["max_output_tokens"]
    for wanted in body.get("include", []):
        if wanted != LOGPROBS:
            raise RequestRefused(f"include: {wanted[:60]} is not supported here, {LOGPROBS} is", "include")
    if "top_logprobs" in body or body.get("include"):
        chat |= {"logprobs": True, "top_logprobs": body.get("top_logprobs", 0)}
    form = dict(body.get("text", {}).get("format") or {"type": "text"})
    if form.get("type") == "json_schema":
        form = {"type": "json_schema", "json_schema": {"schema": form.get("schema")}}
    chat["response_format"] = form
    if body.get("tools"):
        chat["tools"] = [_tool(tool, i) for i, tool in enumerate(body["tools"])]
    choice = body.get("tool_choice")
    if isinstance(choice, dict):
        choice = {"type": "function", "function": {"name": str(choice.get("name"))}}
    if choice is not None:
        chat["tool_choice"] = choice
    with refused_as(names):
        return replace(openai_requests.chat(openai_requests.checked(chat, openai_fields.CHAT)), field="input")


def _turn(turn: Json, i: int) -> Json:
    """An item of the input as a message of a chat."""
    match turn.get("type", "message"):
        case "message":
            return {"role": turn.get("role"), "content": turn.get("content")}
        case "function_call":
            call = {"name": turn.get("name"), "arguments": turn.get("arguments")}
            tool_call = {"id": turn.get("call_id"), "type": "function", "function": call}
            return {"role": "assistant", "tool_calls": [tool_call]}
        case "function_call_output":
            return {"role": "tool", "tool_call_id": turn.get("call_id"), "content": turn.get("output")}
        case other:
            raise RequestRefused(f"input[{i}].type: {str(other)[:60]} is not supported here", f"input[{i}].type")


def _tool(tool: Json, i: int) -> Json:
    if tool.get("type") != "function":
        raise RequestRefused(f"tools[{i}].type must be function, got {str(tool.get('type'))[:60]}", f"tools[{i}].type")
    function = {name: tool[name] for name in ("name", "description", "parameters") if name in tool}
    return {"type": "function", "function": function}


def head(opened: AnswerOpened) -> Json:
    """The fields of a response that are known when it begins."""
    return {
        "id": openai_responses.identity("resp"),
        "object": "response",
        "created_at": int(time.time()),
        "model": opened.facts.name,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "output": [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "store": False,
    }


def response(request: AnswerRequest, opened: AnswerOpened, reader: AnswerReader, head: Json) -> Json:
    """The body of a whole response."""
    text = reader.best(1)[0]
    message, calls = openai_responses.message(request, text)
    output: list[Json] = []
    if thought := message.get("reasoning_content"):
        content = [{"type": "reasoning_text", "text": thought}]
        output.append({"type": "reasoning", "id": openai_responses.identity("rs"), "summary": [], "content": content})
    if message["content"] is not None:
        part: Json = {"type": "output_text", "text": message["content"], "annotations": []}
        if request.shown.logprobs is not None:
            part["logprobs"] = _logprobs(request, opened, text.steps)
        more = openai_responses.ours(request, text.steps, opened.facts.vocabulary)
        output.append(_message("incomplete" if text.reason == "length" else "completed", [part]) | more)
    for call in calls:
        named = {"type": "function_call", "id": openai_responses.identity("fc"), "status": "completed"}
        output.append({**named, "call_id": call["id"], **call["function"]})
    whole = text.reason != "length"
    drawn = reader.tokens
    return {
        **head,
        "status": "completed" if whole else "incomplete",
        "incomplete_details": None if whole else {"reason": "max_output_tokens"},
        "output": output,
        "usage": {
            "input_tokens": opened.prompt_tokens,
            "input_tokens_details": {"cached_tokens": reader.reused},
            "output_tokens": drawn,
            "output_tokens_details": {"reasoning_tokens": text.thought_tokens},
            "total_tokens": opened.prompt_tokens + drawn,
        },
    }


def _logprobs(request: AnswerRequest, opened: AnswerOpened, steps: Sequence[TokenStep]) -> list[Json]:
    """Those of tokens, none where they were not asked for."""
    if (count := request.shown.logprobs) is None:
        return []
    content: list[Json] = openai_responses.chat_logprobs(steps, count, opened.facts.vocabulary)["content"]
    return content


def _message(status: str, content: list[Json]) -> Json:
    identity = openai_responses.identity("msg")
    return {"type": "message", "id": identity, "status": status, "role": "assistant", "content": content}


class ResponseWriter:
    """The events of a streamed response, in their order."""

    def __init__(self, request: AnswerRequest, opened: AnswerOpened, head: Json) -> None:
        self._request, self._answer, self._head = request, opened, head
        self._called = request.called  # a call of a tool comes whole at the end
        self._logprobs: list[Json] = []  # of tokens whose text is not told yet
        self._item = _message("in_progress", [])
        self._text = ""
        self._thought = False  # before anything was said: that is the first item then
        self._opened = False
        self._number = -1

    def begin(self) -> Iterator[Json]:
        yield self._event("response.created", response=self._head)

    def grown(self, grown: TextDelta) -> Iterator[Json]:
        self._logprobs += _logprobs(self._request, self._answer, grown.steps)
        for kind, new in grown.parts:
            if kind == "thought":
                self._thought = self._thought or (not self._opened and bool(new.strip()))
            elif kind == "said" and new and not self._called:
                yield from self._says(new)

    def end(self, whole: Json) -> Iterator[Json]:
        """The last of them; the item keeps the name that it was given first."""
        messages = [item for item in whole["output"] if item["type"] == "message"]
        others = [item for item in whole["output"] if item["type"] != "message"]
        numbers = iter(range(len(whole["output"])))
        if messages:
            yield from self._says(messages[0]["content"][0]["text"][len(self._text) :])  # of a call that was cut short
            messages[0]["id"] = self._item["id"]
            (part,) = messages[0]["content"]
            told = {"text": part["text"], "logprobs": part.get("logprobs", [])}
            yield self._event("response.output_text.done", **self._place, **told)
            yield self._event("response.content_part.done", **self._place, part=part)
            item = self._item | {"status": messages[0]["status"], "content": [part]}
            yield self._event("response.output_item.done", output_index=self._index, item=item)
            numbers = iter(number for number in range(len(whole["output"])) if number != self._index)
        for number, item in zip(numbers, others, strict=True):
            yield self._event("response.output_item.added", output_index=number, item=item)
            yield self._event("response.output_item.done", output_index=number, item=item)
        yield self._event(f"response.{whole['status']}", response=whole)

    def _says(self, new: str) -> Iterator[Json]:
        """More of the message, which begins with the first."""
        if not self._opened:
            self._opened = True
            yield self._event("response.output_item.added", output_index=self._index, item=self._item)
            part = {"type": "output_text", "text": "", "annotations": []}
            yield self._event("response.content_part.added", **self._place, part=part)
        if new or self._logprobs:
            self._text += new
            logprobs, self._logprobs = self._logprobs, []
            yield self._event("response.output_text.delta", **self._place, delta=new, logprobs=logprobs)

    @property
    def _index(self) -> int:
        return int(self._thought)

    @property
    def _place(self) -> Json:
        return {"item_id": self._item["id"], "output_index": self._index, "content_index": 0}

    def _event(self, kind: str, **more: Any) -> Json:
        self._number += 1
        return {"type": kind, "sequence_number": self._number, **more}


writer = ResponseWriter
