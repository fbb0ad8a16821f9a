"""Every route from a body to its response by a script in the place of a model: a stream says what the whole says."""

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from likely.engine.base.errors import ParameterError
from likely.engine.decode.loop.events import Done, Emitted
from tests.serve.scripted import STATS, Answer, Asked, ScriptedFront, drawn, forever, step

SAY = {"messages": [{"role": "user", "content": "x"}]}
CALL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
HAND = {"name": "f", "input_schema": {"type": "object"}}
CHAT, TEXT, RESPONSE, MESSAGES = "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"
PLAIN = drawn(0, 1, 4)  # "Hi there", and an end that is not said
THOUGHT = drawn(6, 7, 0, reason="length", thinking=True)  # "so" in a thought, then "Hi"
CALLED = drawn(rest='{"name": "f", "arguments": {"é": 1}}')
CUT = drawn(rest='{"name": "f"', reason="length")
MARKED = drawn(0, rest='<tool_call>{"name": "f"}</tool_call>')
MUST = {"tools": [{"type": "function", "name": "f"}], "tool_choice": "required"}


def parts(answer: Answer) -> list[Any]:
    """The JSON of each line of a stream."""
    lines = answer.body.decode().splitlines()
    if answer.headers["content-type"] == "text/event-stream; charset=utf-8":
        lines = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
        if "[DONE]" in lines:
            assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


def stopped(ask: Any) -> list[Any]:
    """ "Hi there", cut before its last word."""
    opened, *_, end = drawn(reason="stop")(ask)
    return [opened, (Emitted(0, step(0)), Emitted(0, replace(step(1), text=" "))), end]


async def both(script: Any, path: str, body: Any) -> tuple[Any, list[Any]]:
    """A whole answer, and the lines of its stream."""
    whole, stream = [await Asked(ScriptedFront(script)).send(path, body | {"stream": each}) for each in (False, True)]
    assert whole.status == stream.status == 200 and whole.headers["content-type"] == "application/json"
    assert stream.headers["cache-control"] == "no-cache"
    return whole.json, parts(stream)


@pytest.mark.parametrize(
    ("script", "more", "said", "thought", "reason"),
    [
        (PLAIN, {}, "Hi there", None, "stop"),
        (PLAIN, {"n": 2, "logprobs": True, "top_logprobs": 2}, "Hi there", None, "stop"),
        (THOUGHT, {}, "Hi", "so", "length"),
        (MARKED, {"tools": [CALL]}, "Hi", None, "tool_calls"),
        (CALLED, {"tools": [CALL], "tool_choice": "required"}, None, None, "tool_calls"),
        (CUT, {"tools": [CALL], "tool_choice": "required"}, '{"name": "f"', None, "length"),
    ],
)
async def test_chats(script: Any, more: dict[str, Any], said: str, thought: str | None, reason: str) -> None:
    whole, chunks = await both(script, CHAT, SAY | more | {"stream_options": {"include_usage": True}})
    texts = more.get("n", 1)
    assert whole["object"] == "chat.completion" and whole["model"] == "tiny" and len(whole["choices"]) == texts
    assert whole["usage"].items() >= chunks[-1]["usage"].items() and chunks[-1]["choices"] == []
    assert all(chunk["usage"] is None for chunk in chunks[:-1])
    assert {name: count / texts for name, count in whole["usage"].items() if name == "completion_tokens"} == {
        "completion_tokens": 4.0
    }
    assert len({chunk["id"] for chunk in chunks}) == 1 and {chunk["object"] for chunk in chunks} == {
        "chat.completion.chunk"
    }
    for choice in whole["choices"]:
        mine = [each for chunk in chunks for each in chunk["choices"] if each["index"] == choice["index"]]
        message, deltas = choice["message"], [each["delta"] for each in mine]
        assert deltas[0]["role"] == message["role"] == "assistant" and mine[-1]["finish_reason"] == reason
        assert choice["finish_reason"] == reason and message["content"] == said
        assert "".join(delta.get("content") or "" for delta in deltas) == (said or "")
        assert "".join(delta.get("reasoning_content", "") for delta in deltas) == (thought or "")
        assert message.get("reasoning_content") == thought
        calls = [call for delta in deltas for call in delta.get("tool_calls", ())]
        assert [call["function"] for call in message.get("tool_calls", ())] == [call["function"] for call in calls]
        if "logprobs" in more:
            told = [token for each in mine for token in (each["logprobs"] or {"content": []})["content"]]
            assert told == choice["logprobs"]["content"] and len(told[0]["top_logprobs"]) == 2
            assert told[0]["logprob"] == -0.25 and bytes(told[0]["bytes"]) == b"Hi"


async def test_figures_of_a_chat_are_told_where_they_are_asked_for() -> None:
    asked = SAY | {"seed": 3, "likely": {"steps": True, "snapshot": True}, "temperature": 0.5}
    whole, chunks = await both(PLAIN, CHAT, asked)
    ours = whole["choices"][0]["likely"]
    assert (ours["seed"], ours["strategy"]) == (3, "sample") and len(ours["steps"]) == 3
    assert ours["steps"][0]["candidates"][0]["cut_by"] is None
    told = [step for chunk in chunks for each in chunk["choices"] for step in each.get("likely", {}).get("steps", ())]
    assert told == ours["steps"]


def better(ask: Any) -> list[Any]:
    """Three texts, of which the first is the least likely."""
    opened, *_ = drawn()(ask)
    texts = [Emitted(i, step(i, logprob)) for i, logprob in enumerate((-3.0, -1.0, -2.0))]
    return [opened, tuple(texts), tuple(Done(i, "length", STATS) for i in range(3))]


@pytest.mark.parametrize("more", [{}, {"prompt": ["x", "y"], "n": 2}, {"echo": True, "logprobs": 2}])
async def test_texts(more: dict[str, Any]) -> None:
    whole, chunks = await both(
        drawn(0, 2, 3), TEXT, {"prompt": "x"} | more | {"stream_options": {"include_usage": True}}
    )
    assert whole["usage"] == chunks[-1]["usage"] and whole["object"] == "text_completion"
    for choice in whole["choices"]:
        mine = [each for chunk in chunks for each in chunk["choices"] if each["index"] == choice["index"]]
        assert "".join(each["text"] for each in mine) == choice["text"] and mine[-1]["finish_reason"] == "stop"
        assert choice["text"].endswith("Hi€") and choice["finish_reason"] == "stop"
        if "logprobs" in more:
            for name in ("tokens", "token_logprobs", "text_offset"):
                told = [value for each in mine if each["logprobs"] for value in each["logprobs"][name]]
                assert told == choice["logprobs"][name], name
            assert choice["logprobs"]["token_logprobs"][0] is None
    answer = await Asked(ScriptedFront(better)).send(TEXT, {"prompt": "x", "best_of": 3, "n": 2})
    assert [choice["text"] for choice in answer.json["choices"]] == [" there", ""], "the likeliest a token"


@pytest.mark.parametrize(
    ("script", "more", "kinds", "status"),
    [
        (PLAIN, {"top_logprobs": 1}, ["message"], "completed"),
        (drawn(0, 2, 3), {"include": ["message.output_text.logprobs"], "top_logprobs": 1}, ["message"], "completed"),
        (THOUGHT, {}, ["reasoning", "message"], "incomplete"),
        (drawn(rest="a<think>so</think>b"), {}, ["reasoning", "message"], "completed"),
        (drawn(rest="<think> </think>ab"), {}, ["message"], "completed"),
        (drawn(), {}, ["message"], "completed"),
        (CALLED, MUST, ["function_call"], "completed"),
        (drawn(rest='{"name": "f"'), MUST, ["message"], "completed"),
    ],
)
async def test_responses(script: Any, more: dict[str, Any], kinds: list[str], status: str) -> None:
    whole, events = await both(script, RESPONSE, {"input": "x"} | more)
    last = events[-1]["response"]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert events[0]["type"] == "response.created" and events[-1]["type"] == f"response.{status}"
    assert [item["type"] for item in whole["output"]] == [item["type"] for item in last["output"]] == kinds
    assert whole["status"] == last["status"] == status and whole["usage"] == last["usage"]
    assert {item["status"] for each in (whole, last) for item in each["output"] if item["type"] == "message"} <= {
        status
    }
    done = {event["output_index"]: event["item"]["id"] for event in events if event["type"].endswith("item.done")}
    added = [event["output_index"] for event in events if event["type"].endswith("item.added")]
    assert sorted(added) == sorted(done) == list(range(len(kinds)))
    assert set(done.values()) == {item["id"] for item in last["output"]}
    deltas = [event for event in events if event["type"] == "response.output_text.delta"]
    parts = [part for each in whole["output"] if each["type"] == "message" for part in each["content"]]
    given = [part.get("logprobs", []) for part in parts]
    ended = [event["logprobs"] for event in events if event["type"] == "response.output_text.done"]
    assert [each for event in deltas for each in event["logprobs"]] == [each for part in given for each in part]
    assert ended == given
    assert bool(given and given[0]) == ("top_logprobs" in more)
    said = "".join(event["delta"] for event in deltas)
    assert said == "".join(
        part["text"] for item in last["output"] if item["type"] == "message" for part in item["content"]
    )


@pytest.mark.parametrize(
    ("script", "more", "blocks", "stop"),
    [
        (PLAIN, {}, [("text", "Hi there")], ("end_turn", None)),
        (THOUGHT, {}, [("thinking", "so"), ("text", "Hi")], ("model_context_window_exceeded", None)),
        (THOUGHT, {"max_tokens": 3}, [("thinking", "so"), ("text", "Hi")], ("max_tokens", None)),
        (THOUGHT, {"thinking": {"type": "adaptive", "display": "omitted"}}, [("thinking", ""), ("text", "Hi")],
         ("model_context_window_exceeded", None)),
        (drawn(rest="\n<think>\n so \n\n</think>\n\n Hi \n"), {}, [("thinking", "so"), ("text", "Hi \n")],
         ("end_turn", None)),
        (drawn(rest="<think>\n</think>\n Hi"), {}, [("text", "\n Hi")], ("end_turn", None)),
        (drawn(6, thinking=True, reason="length"), {"max_tokens": 1}, [("thinking", "so")], ("max_tokens", None)),
        (stopped, {"stop_sequences": ["b", "there"]}, [("text", "Hi ")], ("stop_sequence", "there")),
        (MARKED, {"tools": [HAND]}, [("text", "Hi"), ("tool_use", {})], ("tool_use", None)),
        (CALLED, {"tools": [HAND], "tool_choice": {"type": "any"}}, [("tool_use", {"é": 1})], ("tool_use", None)),
        (drawn(rest='{"name": "f"'), {"tools": [HAND], "tool_choice": {"type": "any"}}, [("text", '{"name": "f"')],
         ("end_turn", None)),
        (drawn(rest=" \n"), {}, [("text", " \n")], ("end_turn", None)),
        (drawn(), {}, [], ("end_turn", None)),
    ],
)  # fmt: skip
async def test_messages(script: Any, more: dict[str, Any], blocks: Any, stop: Any) -> None:
    whole, events = await both(script, MESSAGES, {"messages": SAY["messages"], "max_tokens": 9} | more)
    content: list[Any] = []
    for event in events[1:-2]:  # as its clients put them together
        if event["type"] == "content_block_start":
            assert event["index"] == len(content)
            content.append(event["content_block"])
        elif event["type"] == "content_block_delta":
            delta, block = event["delta"], content[event["index"]]
            name = delta["type"].removesuffix("_delta")
            if name == "input_json":
                block["input"] = json.loads(delta["partial_json"])
            else:
                block[name] += delta[name]
    assert [event["index"] for event in events if event["type"] == "content_block_stop"] == list(range(len(content)))
    assert events[0]["message"]["content"] == [] and events[-1] == {"type": "message_stop"}
    end = events[-2]
    for found, last in ((whole["content"], whole), (content, end["delta"])):
        assert [
            (b["type"], b["input" if b["type"] == "tool_use" else b["type"].split("_")[0]]) for b in found
        ] == blocks
        assert (last["stop_reason"], last["stop_sequence"]) == stop
    assert whole["usage"] == end["usage"] and whole["usage"].items() >= {
        "input_tokens": 3, "cache_read_input_tokens": 2, "output_tokens": 4,
    }.items()  # fmt: skip
    if script is THOUGHT:
        assert whole["usage"]["output_tokens_details"] == {"thinking_tokens": 2}, "the mark that ends it is of it"


async def test_lines_of_ollama() -> None:
    for script, said, thought, reason in ((PLAIN, "Hi there", "", "stop"), (THOUGHT, "Hi", "so", "length")):
        for path, ask in (("/api/chat", SAY | {"model": "m:latest"}), ("/api/generate", {"model": "m", "prompt": "x"})):
            whole, lines = await both(script, path, ask)
            assert [line["done"] for line in lines] == [False] * (len(lines) - 1) + [True] and whole["done"]
            for found in ([whole], lines):
                texts = [line["message"] if path == "/api/chat" else line for line in found]
                assert "".join(each["content" if path == "/api/chat" else "response"] for each in texts) == said
                assert "".join(each.get("thinking", "") for each in texts) == thought
                assert found[-1]["done_reason"] == reason and found[-1]["eval_count"] == 4
                assert found[-1]["eval_duration"] == 1_500_000_000 and found[-1]["prompt_eval_count"] == 5
                assert found[-1]["total_duration"] >= 0 and found[-1]["created_at"].endswith("Z")
    for path, ask in (("/api/chat", SAY | {"model": "m"}), ("/api/generate", {"model": "m", "prompt": "x"})):
        whole, lines = await both(drawn(0, 2, 3), path, ask | {"logprobs": True, "top_logprobs": 1})
        told = [token for line in lines for token in line["logprobs"]]
        assert told == whole["logprobs"] and [bytes(t["bytes"]) for t in told] == [b"Hi", b"\xe2\x82", b"\xac"]
        assert told[0]["top_logprobs"][0]["token"] == "Hi" and "logprobs" not in (await both(PLAIN, path, ask))[0]
    front = ScriptedFront()
    shown = (await Asked(front).send("/api/show", {"name": "m:latest"})).json
    assert (
        shown["model_info"]["llama.context_length"] == 64
        and "tools" not in shown["capabilities"]
        and front.asked[-1].model == "m"
    )
    listed = (await Asked(front).send("/api/tags")).json["models"]
    assert [each["name"] for each in listed] == ["tiny", "other"] and listed[0]["size"] == 5
    assert listed[0]["modified_at"] == "2025-11-11T22:26:40Z" and listed[0]["details"]["parameter_size"] == "8.0B"


async def test_the_rest() -> None:
    front = ScriptedFront()
    found = (await Asked(front).send("/v1/embeddings", {"input": ["a", "b"]})).json
    assert [row["embedding"] for row in found["data"]] == [[0.0, -1.0], [0.5, -1.0]]
    assert found["usage"] == {"prompt_tokens": 7, "total_tokens": 7}
    packed = (await Asked(front).send("/v1/embeddings", {"input": "a", "encoding_format": "base64", "model": "m"})).json
    assert np.frombuffer(base64.b64decode(packed["data"][0]["embedding"]), "<f4").tolist() == [0.0, -1.0]
    assert packed["model"] == "m" and front.places == 2
    listed = (await Asked(front).send("/v1/models")).json["data"]
    assert [(each["id"], each["created"]) for each in listed] == [("tiny", 1762900000), ("other", 1762900000)]
    counted = await Asked(front).send(f"{MESSAGES}/count_tokens", {"messages": SAY["messages"]})
    assert counted.json == {"input_tokens": 5} and front.asked[-1].max_tokens == 0
    for alive, status in ((True, 200), (False, 503)):
        assert (await Asked(ScriptedFront(alive=alive)).send("/health")).status == status
    assert (await Asked(front).send("/api/version")).json == {"version": "0.6.4"}
    text = (await Asked(front).send("/metrics")).body.decode()
    assert "likely_requests_running 1\n" in text and "likely_requests_waiting 2\n" in text
    assert front.places == 3, "only a body takes a place"


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


async def test_the_first_prompt_that_fails_ends_the_others() -> None:
    ended = []

    class Fails(ScriptedFront):
        async def events(self, request: Any) -> Any:
            if request.prompt.parts == ("wrong",):
                raise ParameterError("wrong")
            try:
                await forever()
                yield ()
            finally:
                ended.append(request.prompt.parts[0])

    answer = await Asked(Fails()).send("/v1/completions", {"prompt": ["slow", "wrong", "late"]})
    assert answer.status == 400 and answer.json["error"]["message"] == "wrong" and sorted(ended) == ["late", "slow"]


async def test_an_unknown_route_is_named_and_seen() -> None:
    served = Asked()
    for method, path in (("GET", "/v1/none"), ("DELETE", "/v1/models"), ("GET", "/v1/models/")):
        answer = await served.send(path, None, method)
        line = f"there is no {method} {path} here: GET /openapi.json lists all there is"
        assert answer.json["error"]["message"] == line
        assert answer.status == (405 if method == "DELETE" else 404)
    long = (await served.send("/x" * 100, None, "GET")).json["error"]["message"]
    assert long.startswith(f"there is no GET {'/x' * 40} ")
    assert [line.split(" ")[:2] for line in served.log] == [
        ["other", status] for status in ("404", "405", "404", "404")
    ]
