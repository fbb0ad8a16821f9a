"""Admission, models within a budget, and wire formats, without a socket."""

import asyncio
import json
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from likely.app.cli import likely as program
from likely.app.jobs.worker import Tell
from likely.app.serve.api import openai_requests, openapi
from likely.app.serve.api.reading import MarkSplitter
from likely.app.serve.bounds import Bounds
from likely.app.serve.front import Front
from likely.app.serve.guard import Guard
from likely.app.serve.requests import AnswerRequest, RequestRefused
from likely.app.serve.server import ServedNames, ServeOptions, executor
from likely.engine.base.errors import CheckpointError, ParameterError
from likely.engine.chat.tools.call_format import JSON as HERMES
from likely.engine.decode.loop.events import Waiting


class Endless:
    """An executor whose jobs go on until they are stopped."""

    def execute(self, request: AnswerRequest, tell: Tell) -> Iterator[Any]:
        while True:
            yield ()

    def close(self) -> None: ...


def ask(name: str = "") -> AnswerRequest:
    return openai_requests.chat({"messages": [{"role": "user", "content": "x"}], "model": name})


async def test_what_is_too_many_is_told_to_come_back() -> None:
    front = Front(Endless, Bounds(running=2, waiting=1))
    front.start()

    async def one() -> None:
        async with front.admitted():
            async for _ in front.events(ask()):
                pass

    tasks = [asyncio.create_task(one()) for _ in range(3)]
    while front.running < 2 or front.waiting < 1:
        await asyncio.sleep(0)
    with pytest.raises(RequestRefused) as refused:
        await one()
    assert refused.value.status == 429 and refused.value.headers == {"Retry-After": "1"}
    tasks[0].cancel()  # the one that waits has its place
    while front.waiting:
        await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (front.running, front.waiting) == (0, 0)
    front.close()
    assert not front.alive


async def test_little_work_waits_for_little_work_alone() -> None:
    """Places beside those of all, and of these too where one is free; who waited longer is let in first."""
    front, said, leaves = Front(Endless, Bounds(running=2, brief=1)), list[str](), dict[str, asyncio.Event]()

    async def one(name: str) -> None:
        leaves[name] = asyncio.Event()
        async with front.admitted(brief=name.islower()):
            said.append(name)
            await leaves[name].wait()

    async def came(*names: str) -> list[str]:
        """Those that have a place when these have come."""
        tasks.extend(asyncio.create_task(one(name)) for name in names)
        return await after()

    async def after(*left: str) -> list[str]:
        """Those that have got a place when these have left."""
        before = len(said)
        for name in left:
            leaves[name].set()
        for _ in range(20):
            await asyncio.sleep(0)
        return said[before:]

    tasks: list[asyncio.Task[None]] = []
    assert await came("A", "B", "C", "a", "b") == ["A", "B", "a"] and (front.running, front.waiting) == (3, 2)
    assert await after("a") == ["b"], "C waits on: the place was none of all"
    assert await came("c", "D") == [] and await after("A") == ["C"] and await after("B") == ["c"]
    assert await after("b") == ["D"], "c has the place of little work now"
    await after("C", "c", "D")
    await asyncio.gather(*tasks)
    assert (front.running, front.waiting) == (0, 0)


async def test_a_response_that_nobody_reads_ends_its_work() -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()

    class Talks(Endless):
        """Three tokens a turn."""

        def execute(self, request: AnswerRequest, tell: Tell) -> Iterator[Any]:
            try:
                while True:
                    yield (Waiting(), Waiting(), Waiting())
            finally:
                loop.call_soon_threadsafe(ended.set)

    front = Front(Talks, Bounds(behind=100))
    front.start()
    events = front.events(ask())
    assert len(await anext(events)) == 3
    await ended.wait()
    seen = 3
    with pytest.raises(RequestRefused, match="was not read: more than 100 tokens waited") as refused:
        async for event in events:
            seen += len(event)
    assert refused.value.status == 408 and 100 < seen <= 106
    front.close()


@given(
    st.lists(st.sampled_from(["<think>", "</think>", "<tool_call>", "</tool_call>", "<", "th", "a", "ink>"])), st.data()
)
def test_a_text_is_parted_the_same_however_it_comes(words: list[str], data: st.DataObject) -> None:
    text = "".join(words)
    whole, pieces, found, at = (
        MarkSplitter(calls=HERMES.marks),
        MarkSplitter(calls=HERMES.marks),
        list[tuple[str, str]](),
        0,
    )
    while at < len(text):
        n = data.draw(st.integers(1, len(text) - at))
        found, at = [*found, *pieces.push(text[at : at + n])], at + n
    found += pieces.push("", last=True)

    def joined(parts: Any) -> list[tuple[str, str]]:
        return [(kind, "".join(part for _, part in run)) for kind, run in groupby(parts, key=itemgetter(0))]

    assert joined(found) == joined([*whole.push(text), *whole.push("", last=True)])


WORDS = st.text(st.sampled_from("ab1é\ud800 "), max_size=5) | st.sampled_from(["user", "type", "function", "content"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=9,
)
FIELDS = sorted({name.removesuffix("?") for _, schema in openapi.POSTS.values() for name in schema})


@given(st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=5), st.booleans())
def test_any_json_is_a_request_or_refused(fields: dict[str, Any], valid: bool) -> None:
    """Every reader, with fields of all: nothing but RequestRefused comes of it."""
    from likely.app.serve.api import messages_api, ollama, responses_api

    if valid:
        fields = {"messages": [{"role": "user", "content": "x"}], "prompt": "x", "input": "x", "model": "m"} | fields
        fields = {"max_tokens": 9} | fields
    for path, (_, schema) in openapi.POSTS.items():
        mine = {name: value for name, value in fields.items() if name in schema or f"{name}?" in schema}
        data = json.dumps(mine).encode()
        readers = {"/api/chat": ollama.chat, "/api/generate": ollama.generate, "/v1/responses": responses_api.read}
        readers |= {"/v1/messages": messages_api.read, "/v1/messages/count_tokens": messages_api.count}
        readers["/api/show"] = ollama.shown_name  # type: ignore[assignment]
        readers |= {"/api/embed": ollama.embed, "/api/embeddings": ollama.embed_prompt}  # type: ignore[dict-item]
        try:
            if path in readers:
                readers[path](data)
                continue
            body = openai_requests.read(data, schema)
            {
                "/v1/chat/completions": openai_requests.chat,
                "/v1/completions": openai_requests.completions,
                "/v1/embeddings": openai_requests.embeddings,
            }[path](body)
        except RequestRefused as refused:
            assert str(refused)


def test_an_adapter_that_is_none_is_refused_at_the_start(tmp_path: Path) -> None:
    options = ServeOptions(("m",), adapters=(str(tmp_path),))
    with pytest.raises(CheckpointError, match="adapter_config"):
        executor(options, ServedNames(options))()


def test_others_are_let_in_with_a_key_alone() -> None:
    with pytest.raises(ParameterError, match="--api-key"):
        ServeOptions(("m",), "0.0.0.0")
    assert ServeOptions(("m",), "0.0.0.0", key="k").host == "0.0.0.0"
    for more, line in (
        (["--api-key", " "], "--api-key is empty"),
        (["--host", "", "--api-key", "k"], "--host is empty"),
        (["-M", "a/m", "-M", "b/m"], "of one name, m"),
    ):
        said = CliRunner().invoke(program, ["serve", "--port", "0", *more])
        assert line in str(said.exception), said.output
    guard = Guard("0.0.0.0", "clé")  # a header's bytes are the key's, whatever letters they spell
    guard.check({"host": "10.0.0.1:80", "authorization": f"Bearer {'clé'.encode().decode('latin-1')}"})
    with pytest.raises(RequestRefused):
        guard.check({"host": "10.0.0.1:80", "authorization": "Bearer clé"})
