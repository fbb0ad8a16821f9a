"""Anthropic's /v1/messages, by way of OpenAI's wire format: its names for fields, and answers in blocks.

What has no counterpart here (images, documents, tools that run on a server) is refused by name; what can change no
answer (`cache_control`, `metadata`) is passed over. A thought is a block of its own, and nothing is signed.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from likely.app.serve.api import openai_fields, openai_requests, openai_responses
from likely.app.serve.api.openai_fields import OPTIONAL_BOOL, OPTIONAL_FLOAT, OURS
from likely.app.serve.api.openai_requests import fitting, within
from likely.app.serve.api.reading import AnswerReader, PartedText, TextDelta
from likely.app.serve.requests import AnswerOpened, AnswerRequest, RequestRefused, refused_as
from likely.engine.decode.strategy_table import PLAIN
from likely.engine.sampling.thinking import Kind

Json = dict[str, Any]
CACHE = {"cache_control?": (dict, None)}  # what was read is remembered anyway
COUNT = {  # what /v1/messages/count_tokens reads
    "model?": (str, None),
    "messages": [{"role": str, "content": (str, [dict])}],
    "system?": (str, [dict], None),
    "tools?": ([dict], None),
    "tool_choice?": (dict, None),
    "thinking?": (dict, None),
    "output_config?": (dict, None),
    "speed?": (str, None),
    **CACHE,
}
REQUEST = {
    **COUNT,
    "max_tokens": int,
    "stop_sequences?": ([str], None),
    "stream?": OPTIONAL_BOOL,
    "temperature?": OPTIONAL_FLOAT,
    "top_p?": OPTIONAL_FLOAT,
    "top_k?": OPTIONAL_FLOAT,
    "metadata?": (dict, None),
    "service_tier?": (str, None),
    "inference_geo?": (str, None),
    "likely?": (OURS, None),
}
SAME = ("model", "max_tokens", "stream", "temperature", "top_p", "top_k", "likely")
PASSED_OVER = ("metadata", "service_tier", "inference_geo", "speed", "cache_control")
NAMES = {  # of what the chat's wire format refuses
    "response_format.json_schema.schema": "output_config.format.schema",
    "response_format": "output_config.format",
    "reasoning_effort": "output_config.effort",
    "stop": "stop_sequences",
}
BLOCKS: Mapping[str, Json] = {
    "text": {"text": str, "citations?": (list, None)},
    "thinking": {"thinking": str, "signature?": (str, None)},
    "tool_use": {"id": str, "name": str, "input": dict, "caller?": (dict, None)},
    "tool_result": {"tool_use_id": str, "content?": (str, [dict], None), "is_error?": OPTIONAL_BOOL},
}
SPOKEN: Mapping[str, Sequence[str]] = {  # the blocks of each role
    "user": ("text", "tool_result"),
    "assistant": ("text", "thinking", "tool_use"),
    "system": ("text",),
}
TOOL = {"name": str, "description?": (str, None), "input_schema": dict, "type?": (str, None), "strict?": OPTIONAL_BOOL}
CHOICE = {"type": str, "name?": (str, None), "disable_parallel_tool_use?": OPTIONAL_BOOL}
CHOICES = {"auto": "auto", "any": "required", "none": "none"}
THINKING = {"type": str, "budget_tokens?": (int, None), "display?": (str, None)}
OUTPUT = {"effort?": (str, None), "format?": ({"type": str, "schema": dict}, None)}
KINDS = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    503: "overloaded_error",
}


def refusal(error: RequestRefused) -> Json:
    """The body of a request that is not served."""
    return {"type": "error", "error": {"type": KINDS.get(error.status, "invalid_request_error"), "message": str(error)}}


# -- requests --------------------------------------------------------------------------------------------------------


def read(data: bytes) -> AnswerRequest:
    """The request of /v1/messages."""
    return _request(openai_requests.read(data, REQUEST))


def count(data: bytes) -> AnswerRequest:
    """The request of /v1/messages/count_tokens: the same prompt, behind which nothing is drawn."""
    body = openai_requests.read(data, COUNT) | {"max_tokens": 1 << 20}
    return replace(_request(body), max_tokens=0, strategy=PLAIN, constraint=None)


def _request(body: Json) -> AnswerRequest:
    chat: Json = {name: body[name] for name in SAME if name in body}
    turns = [turn for i, message in enumerate(body["messages"]) for turn in _turns(message, f"messages[{i}]")]
    if len(turns) > 1 and turns[-1]["role"] == "assistant" and "reasoning_content" in turns[-1]:
        where = f"messages[{len(body['messages']) - 1}].content"
        raise RequestRefused(f"{where}: an answer that is begun for the model is text alone, without a thought", where)
    system = _text(body["system"], "system") if "system" in body else ""
    chat["messages"] = [{"role": "system", "content": system}, *turns] if system and turns else turns
    if body.get("tools"):
        chat["tools"] = [_tool(tool, f"tools[{i}]") for i, tool in enumerate(body["tools"])]
    if "tool_choice" in body:
        chat["tool_choice"] = _choice(body["tool_choice"])
    elif any(tool.get("strict") for tool in body.get("tools", ())):
        raise RequestRefused("tools: strict goes with a tool_choice of any, or of a tool by its name", "tools")
    if "stop_sequences" in body:
        chat["stop"] = body["stop_sequences"]
    output = _only(body.get("output_config", {}), OUTPUT, "output_config")
    if effort := output.get("effort"):
        chat["reasoning_effort"] = "xhigh" if effort == "max" else effort
    if form := output.get("format"):
        if form["type"] != "json_schema":
            raise RequestRefused(
                f"output_config.format.type must be json_schema, got {form['type'][:60]}", "output_config.format.type"
            )
        chat["response_format"] = {"type": "json_schema", "json_schema": {"schema": form["schema"]}}
    thinking = _only(body.get("thinking", {"type": "adaptive"}), THINKING, "thinking")
    with refused_as(NAMES):
        told = _thinking(thinking, chat)
        request = openai_requests.chat(openai_requests.checked(chat, openai_fields.CHAT))
    if told and request.called:
        raise RequestRefused("thinking: a call that is asked for has no room for a thought", "thinking")
    return replace(
        request,
        prompt=replace(request.prompt, thinking=told),
        shown=replace(request.shown, thought=thinking.get("display") != "omitted"),
        ignored=tuple(name for name in PASSED_OVER if name in body),
    )


def _only(value: Json, schema: Json, where: str) -> Json:
    """An object without the fields that are null, which has no others than its schema."""
    for name, item in value.items():
        if item is not None and name not in schema and f"{name}?" not in schema:
            raise RequestRefused(f"{where}.{name[:60]} is not supported here: leave it out", f"{where}.{name[:60]}")
    fitting(value, schema, where)
    return {name: item for name, item in value.items() if item is not None}


def _block(block: Json, known: Sequence[str], where: str) -> Json:
    """A block of one of these types."""
    kind = str(block.get("type"))
    if kind not in known:
        raise RequestRefused(f"{where}.type: {' or '.join(known)} is read here, got {kind[:60]}", f"{where}.type")
    return _only(block, {"type": str, **BLOCKS[kind], **CACHE}, where)


def _text(content: str | list[Json], where: str) -> str:
    """A text, or blocks that are all text, as one."""
    if isinstance(content, str):
        return content
    fitting(content, [dict], where)
    return "".join(_block(block, ("text",), f"{where}[{i}]")["text"] for i, block in enumerate(content))


def _turns(message: Json, where: str) -> Iterator[Json]:
    """A message as messages of a chat: each result of a tool is one of its own."""
    role, content = message["role"], message["content"]
    if (known := SPOKEN.get(role)) is None:
        raise RequestRefused(f"{where}.role must be {', '.join(SPOKEN)}, got {role[:60]}", f"{where}.role")
    turn: Json = {}
    for i, given in enumerate([{"type": "text", "text": content}] if isinstance(content, str) else content):
        block = _block(given, known, place := f"{where}.content[{i}]")
        if block["type"] == "tool_result":
            if turn:
                yield {"role": role, **turn}
                turn = {}
            said = _text(block.get("content", ""), f"{place}.content")
            said = f"error: {said}" if block.get("is_error") else said
            yield {"role": "tool", "tool_call_id": block["tool_use_id"], "content": said}
            continue
        turn.setdefault("content", "")
        if block["type"] == "text":
            turn["content"] += block["text"]
        elif block["type"] == "thinking":
            turn["reasoning_content"] = turn.get("reasoning_content", "") + block["thinking"]
        else:
            function = {"name": block["name"], "arguments": block["input"]}
            turn.setdefault("tool_calls", []).append({"id": block["id"], "type": "function", "function": function})
    if turn or not content:
        yield {"role": role, "content": "", **turn}


def _tool(tool: Json, where: str) -> Json:
    if tool.get("type") not in (None, "custom"):
        raise RequestRefused(f"{where}.type must be custom, got {str(tool['type'])[:60]}", f"{where}.type")
    found = _only(tool, {**TOOL, **CACHE}, where)
    function = {"name": found["name"], "parameters": found["input_schema"]}
    return {"type": "function", "function": function | ({"description": d} if (d := found.get("description")) else {})}


def _choice(choice: Json) -> str | Json:
    found = _only(choice, CHOICE, "tool_choice")
    if found.get("disable_parallel_tool_use") and found["type"] == "auto":
        name = "tool_choice.disable_parallel_tool_use"
        raise RequestRefused(f"{name} goes with any or tool, which call one: a model that may call calls many", name)
    if found["type"] == "tool":
        return {"type": "function", "function": {"name": found.get("name", "")}}
    if found["type"] not in CHOICES:
        line = f"tool_choice.type must be auto, any, tool or none, got {found['type'][:60]}"
        raise RequestRefused(line, "tool_choice.type")
    return CHOICES[found["type"]]


def _thinking(wanted: Json, chat: Json) -> bool | None:
    """Whether the template is told to think, None where that is left to it; the budget of a thought is put into the
    chat as a way of finding tokens."""
    if wanted.get("display") not in (None, "summarized", "omitted"):
        raise RequestRefused("thinking.display must be summarized or omitted", "thinking.display")
    match wanted["type"]:
        case "adaptive" | "disabled" as kind:
            if "budget_tokens" in wanted:
                raise RequestRefused("thinking.budget_tokens goes with enabled", "thinking.budget_tokens")
            return None if kind == "adaptive" else False
        case "enabled":
            if "budget_tokens" not in wanted:
                raise RequestRefused("thinking.budget_tokens is missing", "thinking.budget_tokens")
            if chat["max_tokens"] < 2:
                raise RequestRefused("thinking: a thought and an answer want a max_tokens of 2 or more", "max_tokens")
            budget = within("thinking.budget_tokens", wanted["budget_tokens"], 1, chat["max_tokens"] - 1)
            ours = chat.get("likely", {})
            if "strategy" in ours or "draft_model" in ours:
                raise RequestRefused("thinking and likely.strategy both say how tokens are found: drop one", "thinking")
            chat["likely"] = ours | {"strategy": f"budget {budget}"}
            return True
    raise RequestRefused(
        f"thinking.type must be enabled, disabled or adaptive, got {wanted['type'][:60]}", "thinking.type"
    )


# -- responses -------------------------------------------------------------------------------------------------------


def head(opened: AnswerOpened) -> Json:
    """The message as it begins."""
    return {
        "id": openai_responses.identity("msg"),
        "type": "message",
        "role": "assistant",
        "model": opened.facts.name,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": opened.prompt_tokens, "output_tokens": 0},
    }


def response(request: AnswerRequest, opened: AnswerOpened, reader: AnswerReader, head: Json) -> Json:
    """The body of a whole message. What was read before is not among its `input_tokens`."""
    text = reader.best(1)[0]
    answer, calls = openai_responses.message(request, text)
    writer = BlockWriter(request)
    for _ in writer.parts(text.parts):
        pass
    for _ in writer.close("" if calls else answer["content"]):
        pass
    used = [
        {
            "type": "tool_use",
            "id": f"toolu_{call['id'].rpartition('-')[2]}",
            "name": call["function"]["name"],
            "input": json.loads(call["function"]["arguments"]),
        }
        for call in calls
    ]
    reason, sequence = ("tool_use", None) if calls else _stopped(request, text)
    return {
        **head,
        "content": [*writer.blocks, *used],
        "stop_reason": reason,
        "stop_sequence": sequence,
        "usage": {
            "input_tokens": opened.prompt_tokens - reader.reused,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": reader.reused,
            "output_tokens": reader.tokens,
            "output_tokens_details": {"thinking_tokens": text.thought_tokens},
        },
    }


def _stopped(request: AnswerRequest, text: PartedText) -> tuple[str, str | None]:
    """Why a text has ended, and the sequence that ended it."""
    if text.reason == "stop":
        words = [step for step in text.steps if not step.special]
        drawn = b"".join(step.piece for step in words).decode(errors="replace")
        at = sum(len(step.text) for step in words)  # behind what was left of it
        return "stop_sequence", next((stop for stop in request.stop if drawn.startswith(stop, at)), None)
    if text.reason != "length":
        return "end_turn", None
    full = request.max_tokens is not None and len(text.steps) < request.max_tokens
    return "model_context_window_exceeded" if full else "max_tokens", None


class BlockWriter:
    """The blocks of an answer as its parts come, and the events of a stream that tell of them.

    Blanks around a thought are of its marks; those of an answer without one are its own.
    """

    def __init__(self, request: AnswerRequest) -> None:
        self.blocks: list[Json] = []
        self._called, self._thought = request.called, request.shown.thought
        self._open = False  # whether more may come of the last block
        self._blank = ""  # held back until something stands behind it

    def parts(self, parts: Iterable[tuple[Kind, str]]) -> Iterator[Json]:
        """The events for more of an answer; calls come whole, at its end."""
        for kind, text in parts:
            if kind == "call" or (kind == "said" and self._called):
                continue
            name = "thinking" if kind == "thought" else "text"
            if not self._open or self.blocks[-1]["type"] != name:
                text = self._blank + text
                if not text.strip():
                    self._blank = text if name == "text" else ""
                    continue
                yield from self._begin(name, text)
            else:
                yield from self._more(self._blank + text)

    def close(self, said: str | None = "") -> Iterator[Json]:
        """The end of the last block; where none has come, one of what was `said`."""
        told = any(block["type"] == "text" for block in self.blocks)
        if said and not told and (said.strip() or not self.blocks):
            yield from self._begin("text", said)
        yield from self._end()

    def _begin(self, name: str, text: str) -> Iterator[Json]:
        yield from self._end()
        if self.blocks or name == "thinking":
            text = text.lstrip()
        block = {"type": name, name: ""} | ({"signature": ""} if name == "thinking" else {})
        self.blocks.append(block)
        self._open = True
        yield {"type": "content_block_start", "index": len(self.blocks) - 1, "content_block": dict(block)}
        yield from self._more(text)

    def _more(self, text: str) -> Iterator[Json]:
        block = self.blocks[-1]
        name = block["type"]
        kept = text.rstrip() if name == "thinking" else text
        self._blank = text[len(kept) :]
        if name == "thinking" and not self._thought:
            return
        block[name] += kept
        if kept:
            delta = {"type": f"{name}_delta", name: kept}
            yield {"type": "content_block_delta", "index": len(self.blocks) - 1, "delta": delta}

    def _end(self) -> Iterator[Json]:
        self._blank = ""
        if self._open:
            self._open = False
            yield {"type": "content_block_stop", "index": len(self.blocks) - 1}


class MessageWriter:
    """The events of a streamed message, in their order."""

    def __init__(self, request: AnswerRequest, opened: AnswerOpened, head: Json) -> None:
        self._head, self._writer = head, BlockWriter(request)

    def begin(self) -> Iterator[Json]:
        yield {"type": "message_start", "message": self._head}

    def grown(self, grown: TextDelta) -> Iterator[Json]:
        yield from self._writer.parts(grown.parts)

    def end(self, whole: Json) -> Iterator[Json]:
        """The last of them; calls are blocks that come whole."""
        writer, content = self._writer, whole["content"]
        said = "".join(block["text"] for block in content if block["type"] == "text")
        yield from writer.close(said)
        for index in range(len(writer.blocks), len(content)):
            block, delta = content[index] | {"input": {}}, json.dumps(content[index]["input"], ensure_ascii=False)
            yield {"type": "content_block_start", "index": index, "content_block": block}
            part = {"type": "input_json_delta", "partial_json": delta}
            yield {"type": "content_block_delta", "index": index, "delta": part}
            yield {"type": "content_block_stop", "index": index}
        ended = {name: whole[name] for name in ("stop_reason", "stop_sequence")}
        yield {"type": "message_delta", "delta": ended, "usage": whole["usage"]}
        yield {"type": "message_stop"}


writer = MessageWriter
