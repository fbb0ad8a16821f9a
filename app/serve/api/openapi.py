"""OpenAPI description of the routes, made of the very schemas that requests are checked by. Knows no transport."""

from collections.abc import Mapping
from importlib.metadata import version
from types import NoneType
from typing import Any

from likely.app.serve.api import messages_api, ollama, openai_fields, responses_api

Json = dict[str, Any]
POSTS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "/v1/chat/completions": ("A chat's next message.", openai_fields.CHAT),
    "/v1/completions": ("A text's continuation.", openai_fields.COMPLETION),
    "/v1/embeddings": ("Mean hidden states of texts.", openai_fields.EMBEDDING),
    "/v1/responses": ("A response, of which nothing is kept.", responses_api.REQUEST),
    "/v1/messages": ("Anthropic's next message.", messages_api.REQUEST),
    "/v1/messages/count_tokens": ("The tokens of what it would read.", messages_api.COUNT),
    "/api/chat": ("Ollama's chat.", ollama.CHAT),
    "/api/generate": ("Ollama's answer to one prompt.", ollama.GENERATE),
    "/api/embed": ("Mean hidden states of texts, of length 1.", ollama.EMBED),
    "/api/embeddings": ("The mean hidden state of one text.", ollama.EMBED_PROMPT),
    "/api/show": ("Facts of a model, as Ollama has them.", ollama.SHOW),
}
GETS = {
    "/": "That a server is here, in words.",
    "/v1/models": "The models that may be asked for.",
    "/v1/models/{name}": "One of them.",
    "/health": "Whether the engine lives.",
    "/metrics": "Counters in Prometheus' text format.",
    "/api/tags": "The models, as Ollama lists them.",
    "/api/ps": "The models that are loaded.",
    "/api/version": "The version of Ollama's protocol.",
}
TYPES = {int: "integer", float: "number", str: "string", bool: "boolean", dict: "object", list: "array"}
REFUSALS = {
    "400": "What is wrong with a field, which `error.param` names.",
    "401": "The key is missing.",
    "403": "From another host or origin.",
    "404": "There is no such model.",
    "408": "The body did not come.",
    "413": "The body is too long.",
    "429": "Too many requests wait: Retry-After says when to come back.",
    "503": "The server is ending, or the GPU has no memory left.",
}


def description() -> Json:
    """The whole description, OpenAPI 3.1."""

    def answers(path: str) -> Json:
        error = _json(_LINE if path.startswith("/api/") else _ERROR["messages" if "/messages" in path else ""])
        refusals = {code: {"description": line, "content": error} for code, line in REFUSALS.items()}
        return {"200": {"description": "The answer.", "content": _json({"type": "object"})}, **refusals}

    paths: Json = {path: {"get": {"summary": line, "responses": answers(path)}} for path, line in GETS.items()}
    for path in ("/", "/metrics"):
        paths[path]["get"]["responses"] |= {"200": {"description": "Text.", "content": {"text/plain": {}}}}
    for path, (line, schema) in POSTS.items():
        body = {"required": True, "content": _json(json_schema(schema) | {"additionalProperties": False})}
        responses = answers(path)
        if "stream?" in schema:
            streamed = "application/x-ndjson" if path.startswith("/api/") else "text/event-stream"
            content = _json({"type": "object"}) | {streamed: {"schema": {"type": "string"}}}
            responses |= {"200": {"description": "The answer, whole or as a stream.", "content": content}}
        paths[path] = {"post": {"summary": line, "requestBody": body, "responses": responses}}
    return {"openapi": "3.1.0", "info": {"title": "likely serve", "version": version("likely")}, "paths": paths}


_ERROR: Mapping[str, Json] = {
    name: {
        "type": "object",
        "required": ["error"],
        "properties": {"error": {"type": "object", "required": ["message", "type", *more]}},
    }
    for name, more in (("", ("param", "code")), ("messages", ()))
}
_LINE: Json = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}


def _json(schema: Json) -> Json:
    return {"application/json": {"schema": schema}}


def json_schema(schema: Any) -> Json:
    """A schema of `engine.json_reader` as JSON Schema has it."""
    if isinstance(schema, tuple):
        return {"anyOf": [json_schema(kind) for kind in schema]}
    if isinstance(schema, list):
        return {"type": "array", "items": json_schema(schema[0])}
    if isinstance(schema, Mapping):
        if str in schema:
            return {"type": "object", "additionalProperties": json_schema(schema[str])}
        return {
            "type": "object",
            "properties": {name.removesuffix("?"): json_schema(kind) for name, kind in schema.items()},
            "required": [name for name in schema if not name.endswith("?")],
        }
    if schema is None or schema is NoneType:
        return {"type": "null"}
    return {} if schema is object else {"type": TYPES[schema]}
