"""Ollama's wire format, by way of OpenAI's: its names for fields, and lines of JSON.

As far as its common clients use them; what has no counterpart (images, suffix, templates) is refused by name, unless it
is empty, as clients send it that have nothing to say.
"""

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from likely.app.jobs.requests import Load, ModelFacts
from likely.app.serve.api import openai_fields, openai_requests, openai_responses
from likely.app.serve.api.on_disk import ModelOnDisk
from likely.app.serve.api.reading import PartedText
from likely.app.serve.bounds import BOUNDS
from likely.app.serve.requests import (
    AnswerOpened,
    AnswerRequest,
    Embedded,
    EmbeddingRequest,
    RequestRefused,
    refused_as,
)
from likely.engine.decode.prompt import Prompt
from likely.engine.sampling.thinking import Kind
from likely.engine.sampling.trace.step import TokenStep

Json = dict[str, Any]
Parts = Sequence[tuple[Kind, str]]
Line = Callable[[AnswerOpened, Parts, PartedText | None, float | None], Json]

OPTIONS = {  # by OpenAI's names, or ours
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "seed": "seed",
    "num_predict": "max_tokens",
    "stop": "stop",
    "repeat_penalty": "repetition_penalty",
    "repeat_last_n": "repetition_context_size",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
}
NAMES = {  # of what OpenAI's wire format refuses
    "response_format.json_schema.schema": "format",
    "response_format": "format",
    "reasoning_effort": "think",
    **{theirs: f"options.{ours}" for ours, theirs in OPTIONS.items()},
}
PASSED_OVER = (  # of the machine
    "num_ctx", "num_batch", "num_gpu", "num_thread", "num_keep", "main_gpu", "use_mmap", "use_mlock", "low_vram", "numa"
)  # fmt: skip
COMMON = {
    "model": str,
    "stream?": (bool, None),
    "options?": (dict, None),
    "format?": (str, dict, None),
    "keep_alive?": (str, float, None),
    "think?": (bool, str, None),
    "logprobs?": (bool, None),
    "top_logprobs?": (int, None),
}
CHAT = {**COMMON, "messages?": ([dict], None), "tools?": ([dict], None)}
GENERATE = {
    **COMMON,
    "prompt?": (str, None),
    "system?": (str, None),
    "raw?": (bool, None),
    "images?": (list, None),
    "suffix?": (str, None),
    "template?": (str, None),
    "context?": (list, None),
}
EMPTY = ("images", "suffix", "template", "context")  # taken where there is nothing in them
EMBED = {
    "model": str,
    "input": (str, [str]),
    "truncate?": (bool, None),
    "options?": (dict, None),
    "keep_alive?": (str, float, None),
}
EMBED_PROMPT = {"model": str, "prompt": str, "options?": (dict, None), "keep_alive?": (str, float, None)}
EFFORT = {True: "medium", False: "none"}
NEVER = "9999-12-31T23:59:59Z"  # when a model leaves by itself
SHOW = {"model?": (str, None), "name?": (str, None), "verbose?": (bool, None)}


def refusal(error: RequestRefused) -> Json:
    """The body of a request that is not served: a line, by which these clients know it."""
    return {"error": str(error)}


def chat(data: bytes) -> AnswerRequest | Load:
    """The request of /api/chat."""
    body = openai_requests.read(data, CHAT)
    if not body.get("messages"):
        return _load(body)
    messages = [_message(turn, i) for i, turn in enumerate(body["messages"])]
    return _chat_request(body, messages)


def generate(data: bytes) -> AnswerRequest | Load:
    """The request of /api/generate; a `raw` prompt is gone on with as it is."""
    body = openai_requests.read(data, GENERATE)
    if not body.get("prompt"):
        return _load(body)
    system = [{"role": "system", "content": body["system"]}] if body.get("system") else []
    request = replace(_chat_request(body, [*system, {"role": "user", "content": body["prompt"]}]), field="prompt")
    if not body.get("raw"):
        return request
    if system:
        raise RequestRefused("raw: the prompt is read as it is, so there is no place for system", "system")
    return replace(request, prompt=Prompt(parts=(body["prompt"],)), effort="")


def _load(body: Json) -> Load:
    """The request without anything to answer, by which these clients have a model loaded before they ask it."""
    if body.get("keep_alive") in (0, "0", "0s"):
        raise RequestRefused("keep_alive: a model leaves when others want its memory, and not before", "keep_alive")
    return Load(_without_tag(body["model"]))


def embed(data: bytes) -> EmbeddingRequest:
    """The request of /api/embed."""
    body = openai_requests.read(data, EMBED)
    texts = openai_requests.texts(body["input"], "input", BOUNDS.inputs)
    return EmbeddingRequest(_without_tag(body["model"]), texts, truncate=body.get("truncate", True))


def embed_prompt(data: bytes) -> EmbeddingRequest:
    """The request of /api/embeddings, its older form."""
    body = openai_requests.read(data, EMBED_PROMPT)
    texts = openai_requests.texts(body["prompt"], "prompt")
    return EmbeddingRequest(_without_tag(body["model"]), texts, truncate=True, field="prompt")


def _message(turn: Json, i: int) -> Json:
    if turn.get("images"):
        raise RequestRefused(f"messages[{i}].images: only text is read here", f"messages[{i}].images")
    message = {"role": turn.get("role"), "content": turn.get("content")}
    more = {"tool_calls": turn.get("tool_calls"), "reasoning_content": turn.get("thinking")}
    return message | {name: value for name, value in more.items() if value}


def _chat_request(body: Json, messages: list[Json]) -> AnswerRequest:
    chat: Json = {"model": _without_tag(body["model"]), "messages": messages, "stream": body.get("stream", True)}
    for name in EMPTY:
        if body.get(name):
            raise RequestRefused(f"{name} is not supported here: leave it out", name)
    ignored = ["keep_alive"] if "keep_alive" in body else []
    for name, value in body.get("options", {}).items():
        if name in PASSED_OVER:
            ignored.append(f"options.{name}")
        elif name in OPTIONS:
            chat[OPTIONS[name]] = value
        else:
            raise RequestRefused(f"options.{name[:60]} is not supported here: leave it out", f"options.{name[:60]}")
    if chat.get("max_tokens") in (-1, -2):  # as much as there is room for
        del chat["max_tokens"]
    if chat.get("seed") == -1:  # one of its own each time
        del chat["seed"]
    match chat.get("repetition_context_size"):
        case -1:  # as far back as there is anything
            chat["repetition_context_size"] = BOUNDS.tokens
        case 0:  # not at all
            del chat["repetition_context_size"]
            chat.pop("repetition_penalty", None)
    chat |= {name: body[name] for name in ("logprobs", "top_logprobs") if name in body}
    form = body.get("format") or None
    if form == "json":
        chat["response_format"] = {"type": "json_object"}
    elif isinstance(form, dict):
        chat["response_format"] = {"type": "json_schema", "json_schema": {"schema": form}}
    elif form is not None:
        raise RequestRefused(f"format must be json or a schema, got {form[:60]!r}", "format")
    if body.get("tools"):
        chat["tools"] = body["tools"]
    if "think" in body:
        think = body["think"]
        chat["reasoning_effort"] = EFFORT[think] if isinstance(think, bool) else think
    with refused_as(NAMES):
        request = openai_requests.chat(openai_requests.checked(chat, openai_fields.CHAT))
    return replace(request, ignored=tuple(ignored))


def _without_tag(name: str) -> str:
    return name.removesuffix(":latest")


def chat_line(opened: AnswerOpened, parts: Parts, ended: PartedText | None, began: float | None) -> Json:
    """A line of /api/chat, the last with the figures of all."""
    message: Json = {"role": "assistant", "content": _of(parts, "said")}
    if thought := _of(parts, "thought"):
        message["thinking"] = thought
    if ended is not None and ended.calls:
        message["tool_calls"] = [
            {"function": {"name": call["name"], "arguments": json.loads(call["arguments"])}} for call in ended.calls
        ]
    return {**_stamp(opened), "message": message, **_figures(opened, ended, began)}


def generate_line(opened: AnswerOpened, parts: Parts, ended: PartedText | None, began: float | None) -> Json:
    """A line of /api/generate."""
    thought = _of(parts, "thought")
    more = {"thinking": thought} if thought else {}
    return {**_stamp(opened), "response": _of(parts, "said"), **more, **_figures(opened, ended, began)}


def logprobs(request: AnswerRequest, opened: AnswerOpened, steps: Sequence[TokenStep]) -> Json:
    """Log-probabilities for a line, where they were asked for: of each token, as OpenAI's chats have them, and how they
    were computed."""
    if (count := request.shown.logprobs) is None:
        return {}
    told = {"logprobs": openai_responses.chat_logprobs(steps, count, opened.facts.vocabulary)["content"]}
    how = openai_responses.precisions(steps)
    return told | ({"likely": how} if how else {})


def _of(parts: Parts, kind: Kind) -> str:
    return "".join(text for k, text in parts if k == kind)


def _stamp(opened: AnswerOpened) -> Json:
    return {"model": opened.facts.name, "created_at": _now()}


def _now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def _figures(opened: AnswerOpened, ended: PartedText | None, began: float | None) -> Json:
    if ended is None or ended.done is None or began is None:
        return {"done": False}
    stats = ended.done.stats
    return {
        "done": True,
        "done_reason": "length" if ended.reason == "length" else "stop",
        "total_duration": int((time.perf_counter() - began) * 1e9),
        "load_duration": 0,
        "prompt_eval_count": opened.prompt_tokens,
        "prompt_eval_duration": int(stats.prefill_s * 1e9),
        "eval_count": stats.tokens,
        "eval_duration": int(stats.decode_s * 1e9),
    }


def loaded(facts: ModelFacts, nothing: Json) -> Json:
    """The body for a model that was to be loaded, and said `nothing`."""
    return {"model": facts.name, "created_at": _now(), **nothing, "done": True, "done_reason": "load"}


def gone(facts: ModelFacts) -> ModelOnDisk:
    """A loaded model whose files are no longer there."""
    return ModelOnDisk(facts.name, digest=facts.digest, family=facts.family, quantization=facts.quantization)


def tags(models: Iterable[ModelOnDisk]) -> Json:
    """The body of /api/tags."""
    return {
        "models": [
            {
                "name": model.name,
                "model": model.name,
                "modified_at": model.written,
                "size": model.nbytes,
                "digest": model.digest,
                "details": _details(model),
            }
            for model in models
        ]
    }


def shown_name(data: bytes) -> str:
    """The model that /api/show asks for."""
    body = openai_requests.read(data, SHOW)
    return _without_tag(body.get("model") or body.get("name") or "")


def shown(facts: ModelFacts, model: ModelOnDisk) -> Json:
    """The body of /api/show."""
    known = {"general.parameter_count": model.parameters} if model.parameters else {}
    abilities = {"completion": True, "tools": facts.calls, "thinking": facts.chat and True in facts.thinks}
    return {
        "modified_at": model.written,
        "license": model.license,
        "details": _details(model),
        "model_info": {"general.architecture": facts.family, f"{facts.family}.context_length": facts.context} | known,
        "capabilities": [name for name, has in abilities.items() if has],
        "parameters": "\n".join(
            f"{theirs} {facts.sampling[ours]:g}"
            for theirs, openai in OPTIONS.items()
            if (ours := openai_fields.SAMPLED.get(openai, "")) in facts.sampling
        ),
    }


def embedded(request: EmbeddingRequest, embeddings: Embedded, began: float) -> Json:
    """The body of /api/embed: rows of length 1."""
    rows = np.array(embeddings.rows, np.float64)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    took = int((time.perf_counter() - began) * 1e9)
    figures = {"total_duration": took, "load_duration": 0, "prompt_eval_count": embeddings.tokens}
    return {"model": request.model, "embeddings": rows.tolist(), **figures}


def embedding(embeddings: Embedded) -> Json:
    """The body of /api/embeddings."""
    return {"embedding": np.asarray(embeddings.rows[0]).tolist()}


def running(models: Sequence[tuple[ModelFacts, int]], on_disk: Mapping[str, ModelOnDisk]) -> Json:
    """The body of /api/ps: of each model the bytes of its weights, and of what it has remembered of prompts."""
    return {
        "models": [
            {
                "name": facts.name,
                "model": facts.name,
                "size": facts.nbytes + remembered,
                "size_vram": facts.nbytes + remembered,
                "digest": facts.digest,
                "details": _details(on_disk.get(facts.name) or gone(facts)),
                "expires_at": NEVER,
                "context_length": facts.context,
            }
            for facts, remembered in models
        ]
    }


def _details(model: ModelOnDisk) -> Json:
    return {
        "parent_model": "",
        "format": model.format,
        "family": model.family,
        "families": [model.family] if model.family else None,
        "parameter_size": _rounded(model.parameters),
        "quantization_level": model.quantization,
    }


def _rounded(parameters: int) -> str:
    """As many parameters as Ollama writes them: 8.0B, 134.52M; "" where they are not known."""
    sizes = ((1e9, "B", 1), (1e6, "M", 2), (1e3, "K", 0))
    size, letter, places = next((each for each in sizes if parameters >= each[0]), (1, "", 0))
    return f"{parameters / size:.{places}f}{letter}" if parameters else ""
