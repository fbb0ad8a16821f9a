"""Every route from a body to its response, to the last field, by a script in the place of a model."""

import json
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

from app.serve import ollama, openai_requests, openai_responses, responses_api, transport
from tests.pictures import assert_picture
from tests.serve.scripted import STATS, Asked, ScriptedFront, drawn, step

SAY = {"messages": [{"role": "user", "content": "x"}]}
CALL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names in their order, and one time for all."""
    numbers = count(1)
    monkeypatch.setattr(openai_responses, "identity", lambda kind: f"{kind}-{next(numbers)}")
    monkeypatch.setattr(transport.time, "time", lambda: 1_700_000_000.9)
    monkeypatch.setattr(responses_api.time, "time", lambda: 1_700_000_000.9)
    monkeypatch.setattr(ollama, "_now", lambda: "2026-01-02T03:04:05Z")
    monkeypatch.setattr(openai_requests.os, "urandom", lambda size: bytes([7, *[0] * (size - 1)]))
    monkeypatch.setattr(ollama.time, "perf_counter", lambda: 12.5)


async def responses(name: str, asked: list[tuple[str, Any, ScriptedFront]]) -> None:
    found = []
    for path, body, front in asked:
        served = Asked(front)
        answer = await served.send(path, body)
        words = "" if body is None else f" {json.dumps(body)}"
        found += [f"{path}{words}", f"{answer.status} {answer.headers}", *answer.body.decode().splitlines(), ""]
    assert_picture(f"app/pictures/{name}", "\n".join(found))


async def test_chats() -> None:
    plain, thought = ScriptedFront(drawn(0, 1, 4)), ScriptedFront(drawn(6, 7, 0, reason="length", thinking=True))
    called = ScriptedFront(drawn(0, rest='{"name": "f", "arguments": {"é": 1}}'))
    path = "/v1/chat/completions"
    bound = SAY | {"tools": [CALL], "tool_choice": "required", "seed": 3}
    call = ScriptedFront(drawn(rest='{"name": "f", "arguments": {"é": 1}}'))
    marked = ScriptedFront(drawn(0, rest='<tool_call>{"name": "f"}</tool_call>'))
    await responses(
        "served-chats.txt",
        [
            (path, SAY, plain),
            (path, SAY | {"stream": True}, plain),
            (path, SAY | {"n": 2, "stream": True, "stream_options": {"include_usage": True}}, thought),
            (path, SAY | {"logprobs": True, "top_logprobs": 2}, plain),
            (path, SAY | {"logprobs": True, "stream": True}, plain),
            (path, SAY | {"likely": {"steps": True, "snapshot": True}, "seed": 7, "temperature": 0.5}, plain),
            (path, SAY | {"likely": {"steps": True}, "seed": 7, "stream": True}, ScriptedFront(drawn(0))),
            (path, SAY, thought),
            (path, SAY, called),
            (path, bound, call),
            (path, bound | {"stream": True}, call),
            (path, SAY | {"tools": [CALL], "stream": True}, marked),
            (path, SAY | {"tools": [CALL]}, marked),
        ],
    )


async def test_texts() -> None:
    front, path = ScriptedFront(drawn(0, 2, 3)), "/v1/completions"
    await responses(
        "served-texts.txt",
        [
            (path, {"prompt": "x"}, front),
            (path, {"prompt": ["x", "y"], "n": 2}, front),
            (path, {"prompt": ["x", "y"], "n": 2, "stream": True, "stream_options": {"include_usage": True}}, front),
            (path, {"prompt": "x", "echo": True, "logprobs": 2}, front),
            (path, {"prompt": "x", "echo": True, "logprobs": 0, "stream": True}, front),
            (path, {"prompt": "x", "echo": True, "max_tokens": 0, "stream": True, "n": 2}, ScriptedFront(echo)),
            (path, {"prompt": "x", "best_of": 3, "n": 2}, ScriptedFront(better)),
            (path, {"prompt": "x", "likely": {"steps": True}, "seed": 1}, front),
        ],
    )


def echo(ask: Any) -> list[Any]:
    """A prompt that is measured and not continued."""
    return list(drawn()(ask))[:2]


def better(ask: Any) -> list[Any]:
    """Three texts, of which the first is the least likely."""
    from engine.decode.events import Done, Emitted

    opened, *_ = drawn()(ask)
    texts = [Emitted(i, step(i, logprob)) for i, logprob in enumerate((-3.0, -1.0, -2.0))]
    return [opened, tuple(texts), tuple(Done(i, "length", STATS) for i in range(3))]


async def test_responses() -> None:
    path, ask = "/v1/responses", {"input": "x"}
    plain, thought = ScriptedFront(drawn(0, 1, 4)), ScriptedFront(drawn(6, 7, 0, reason="length", thinking=True))
    call = ScriptedFront(drawn(rest='{"name": "f", "arguments": {}}'))
    tool = {"type": "function", "name": "f"}
    await responses(
        "served-responses.txt",
        [
            (path, ask, plain),
            (path, ask | {"stream": True}, plain),
            (path, ask, thought),
            (path, ask | {"stream": True}, thought),
            (path, ask | {"top_logprobs": 1}, plain),
            (path, ask | {"likely": {"steps": True}}, ScriptedFront(drawn(0))),
            (path, ask | {"tools": [tool], "tool_choice": "required"}, call),
            (path, ask | {"tools": [tool], "tool_choice": "required", "stream": True}, call),
        ],
    )


async def test_lines_of_ollama() -> None:
    plain, thought = ScriptedFront(drawn(0, 1, 4)), ScriptedFront(drawn(6, 7, 0, reason="length", thinking=True))
    chat, call = {"model": "m:latest", **SAY}, ScriptedFront(drawn(0, rest='<tool_call>{"name": "f"}</tool_call>'))
    ask = {"model": "m", "prompt": "x"}
    found = [
        ("/api/chat", chat, plain),
        ("/api/chat", chat | {"stream": False}, thought),
        ("/api/chat", chat, thought),
        ("/api/chat", chat | {"tools": [CALL]}, call),
        ("/api/generate", ask, plain),
        ("/api/generate", ask | {"stream": False}, thought),
    ]
    await responses(
        "served-ollama.txt", [*found, ("/api/show", {"name": "m:latest"}, plain), ("/api/tags", None, plain)]
    )
    assert plain.asked[0].model == "m" and plain.asked[-1].model == "m" and plain.places == 3


async def test_the_rest() -> None:
    front = ScriptedFront()
    await responses(
        "served-rest.txt",
        [
            ("/v1/embeddings", {"input": ["a", "b"]}, front),
            ("/v1/embeddings", {"input": "a", "encoding_format": "base64", "model": "m"}, front),
            ("/v1/models", None, front),
            ("/health", None, front),
            ("/health", None, ScriptedFront(alive=False)),
            ("/api/version", None, front),
            ("/metrics", None, front),
        ],
    )
    assert front.places == 2, "only a body takes a place"


def nothing(ask: Any) -> list[Any]:
    return []


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/responses", "/api/chat"])
async def test_a_request_that_never_begins_is_a_fault_of_the_server(path: str) -> None:
    body = {"model": "m", **SAY} if "chat" in path else {"prompt": "x"} if "/completions" in path else {"input": "x"}
    answer = await Asked(ScriptedFront(nothing)).send(path, body)
    assert answer.status == 503
    said = answer.json["error"]
    line = "the request ended before it began"
    assert said == line or (said["message"], said["type"]) == (line, "server_error")


@pytest.mark.parametrize(("path", "body"), [("/v1/embeddings", {"input": "x"}), ("/api/show", {"model": "m"})])
async def test_an_answer_that_never_comes_is_a_fault_of_the_server(path: str, body: Any) -> None:
    front = ScriptedFront()
    events: Callable[[Any], Any] = front.events

    async def without(request: Any) -> Any:
        async for event in events(request):
            if event in ((), None):
                yield event

    front.events = without  # type: ignore[method-assign]
    answer = await Asked(front).send(path, body)
    assert answer.status == 503 and "the request ended before it was answered" in answer.body.decode()


async def test_prompts_are_drawn_eight_at_once() -> None:
    front = ScriptedFront()
    answer = await Asked(front).send("/v1/completions", {"prompt": [str(i) for i in range(17)]})
    assert [choice["index"] for choice in answer.json["choices"]] == list(range(17))
    assert [ask.prompt.parts[0] for ask in front.asked] == [str(i) for i in range(17)]
    usage = answer.json["usage"]
    assert usage == {"prompt_tokens": 85, "completion_tokens": 68, "total_tokens": 153}


async def test_the_first_that_fails_ends_the_others() -> None:
    import asyncio

    ended = []

    async def slow() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.append("slow")

    async def wrong() -> None:
        await asyncio.sleep(0)
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        await transport._together([slow(), wrong()])
    assert ended == ["slow"]


async def test_an_unknown_route_is_named_and_seen() -> None:
    served = Asked()
    for method, path in (("GET", "/v1/none"), ("DELETE", "/v1/models"), ("GET", "/v1/models/")):
        answer = await served.send(path, None, method)
        line = f"there is no {method} {path} here: GET /openapi.json lists all there is"
        assert answer.json["error"]["message"] == line
        assert answer.status == (405 if method == "DELETE" else 404)
    assert (
        (await served.send("/x" * 100, None, "GET"))
        .json["error"]["message"]
        .startswith(f"there is no GET {'/x' * 40} ")
    )
    assert [line.split(" ")[:2] for line in served.log] == [
        ["other", status] for status in ("404", "405", "404", "404")
    ]
