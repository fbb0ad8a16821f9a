"""`likely serve` over a real socket: what it answers is what the engine says, and what it does not serve it names."""

import json
import math
import socket
import stat
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import numpy as np
import pytest
from click.testing import CliRunner

from likely.app.cli import likely as program
from likely.app.jobs.worker import Closed
from likely.app.serve.watch.address import ServerAddress
from likely.app.serve.watch.client import NumberedEvent, WatchControl, listen
from likely.app.serve.watch.lines import WatchAsked, WatchBegan
from likely.engine.decode.loop.events import Done, Emitted
from likely.engine.decode.session import Session
from likely.engine.sampling.transforms import TopK
from likely.engine.weights.adapters import adapters
from likely.engine.weights.sources.checkpoint import load
from tests.engine.write.test_gguf_adapter import adapter_on
from tests.serve.served import CONFIG, Client, server, write_model

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
HI = [{"role": "user", "content": "hi"}]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    home = tmp_path_factory.mktemp("served")
    tiny = write_model(home / "tiny")
    base = load(str(tiny))
    adapters.save(home / "style", adapter_on(base, "*"), cast(Any, base.model), {"kind": "lora", "model": str(tiny)})
    with server(home, [tiny, write_model(home / "other", seed=1)], "-A", str(home / "style")) as found:
        yield found


@pytest.fixture(scope="module")
def session(client: Client) -> Session:
    return Session(load(str(client.home / "tiny")))


def test_log_probabilities_are_those_of_run_under_load(client: Client) -> None:
    """Eight at once, each with another recipe: the tokens and numbers of `likely run --json`, one at a time."""
    asked = [
        {"temperature": 1.0, "seed": 3},
        {"temperature": 0.7, "top_p": 0.9, "seed": 4},
        {"temperature": 0, "seed": 5},
        {"temperature": 1.3, "top_k": 20, "seed": 6},
        {"temperature": 1, "presence_penalty": 0.8, "seed": 7},
        {"temperature": 0.9, "logit_bias": {"65": 5.0}, "seed": 8},
        {"temperature": 1, "likely": {"strategy": "ngram 3"}, "seed": 9},
        {"temperature": 1, "min_p": 0.01, "frequency_penalty": 0.5, "seed": 10},
    ]
    flags = {"temperature": "--temp", "top_p": "--top-p", "top_k": "--top-k", "min_p": "--min-p", "seed": "--seed"}
    flags |= {"presence_penalty": "--presence-penalty", "frequency_penalty": "--frequency-penalty"}
    bodies = [{**one, "messages": HI, "max_tokens": 12, "logprobs": True, "top_logprobs": 256} for one in asked]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda body: client.ask(CHAT, body), bodies))
    for one, (status, answer) in zip(asked, answers, strict=True):
        assert status == 200, answer
        args = ["run", "hi", "-M", str(client.home / "tiny"), "--json", "-q", "--max-tokens", "12"]
        args += ["--preset", "balanced"]  # for what a request does not say
        for name, value in one.items():
            if name == "logit_bias":
                args += ["--logit-bias", "65=5"]
            elif name == "likely":
                args += ["--strategy", "ngram 3"]
            else:
                args += [flags[name], str(value)]
        said = CliRunner().invoke(program, args)
        steps = [json.loads(line) for line in said.stdout.splitlines()]
        steps = [step for step in steps if "id" in step and (step["id"] < 256 or step["text"])]  # not the end of text
        got = answer["choices"][0]["logprobs"]["content"]
        assert [bytes(g["bytes"]).hex() for g in got] == [s["bytes"] for s in steps]
        np.testing.assert_allclose([g["logprob"] for g in got], [s["logprob"] for s in steps], atol=1e-4)
        for each in got:  # most of the vocabulary
            assert 0.5 < sum(np.exp(t["logprob"]) for t in each["top_logprobs"]) < 1 + 1e-6
            assert each["top_logprobs"] == sorted(each["top_logprobs"], key=lambda t: -t["logprob"])


def test_requests_choose_their_adapters(client: Client) -> None:
    """Six at once, on one model: each is what `likely run` says with that adapter, and none has another's."""
    weights = (None, 1.0, 0.5, None, 0.5, 1.0)
    bodies = [
        {"messages": HI, "max_tokens": 6, "seed": 2, "temperature": 1, "logprobs": True}
        | ({} if weight is None else {"likely": {"adapter": "style", "weight": weight}})
        for weight in weights
    ]
    with ThreadPoolExecutor(7) as pool:
        embedded = pool.submit(client.ask, "/v1/embeddings", {"input": "abab"})
        answers = list(pool.map(lambda body: client.ask(CHAT, body), bodies))
    by_name = client.ask(CHAT, bodies[0] | {"model": "style"})[1]
    alone, beside = (answer["choices"][0] for answer in (by_name, answers[1][1]))
    assert by_name["model"] == "style" and alone["message"] == beside["message"]
    figures = ([token["logprob"] for token in choice["logprobs"]["content"]] for choice in (alone, beside))
    assert next(figures) == pytest.approx(next(figures), abs=1e-5)  # beside others the sums are in another order
    assert "style" in [tagged["name"].partition(":")[0] for tagged in client.ask("/api/tags")[1]["models"]]
    want = {}
    for weight in (None, 0.5, 1.0):
        args = [
            "run",
            "hi",
            "-M",
            str(client.home / "tiny"),
            *["--json", "-q", "--max-tokens", "6", "--seed", "2", "--temp", "1", "--preset", "balanced"],
        ]
        args += [] if weight is None else ["-A", f"{client.home / 'style'}={weight}"]
        lines = CliRunner().invoke(program, args).stdout.splitlines()
        steps = [step for line in lines if "id" in (step := json.loads(line))]
        want[weight] = [step["logprob"] for step in steps if step["id"] < 256 or step["text"]]
    assert abs(want[None][0] - want[1.0][0]) > 1e-2
    for weight, (status, answer) in zip(weights, answers, strict=True):
        assert status == 200, answer
        got = [token["logprob"] for token in answer["choices"][0]["logprobs"]["content"]]
        np.testing.assert_allclose(got, want[weight], atol=1e-4)
    plain = client.ask("/v1/embeddings", {"input": "abab"})
    np.testing.assert_allclose(*(one[1]["data"][0]["embedding"] for one in (embedded.result(), plain)), atol=1e-5)


def test_who_asks_writes_no_line_of_the_log(client: Client) -> None:
    assert client.ask(CHAT, {"x\n/health 200 \x1b[2J": 1})[0] == 400
    assert client.process.stderr is not None
    while "(x" not in (line := client.process.stderr.readline()):
        pass
    assert line.startswith(f"{CHAT} 400 ") and "/health 200" in line and "\x1b" not in line


def test_a_prompt_is_echoed_with_its_log_probabilities(client: Client, session: Session) -> None:
    body = {"prompt": ["abab ab", "xyz"], "echo": True, "logprobs": 2, "max_tokens": 3, "n": 2, "seed": 1}
    status, answer = client.ask(TEXT, body)
    assert status == 200 and [c["index"] for c in answer["choices"]] == [0, 1, 2, 3]
    for choice, prompt in zip(answer["choices"], ["abab ab"] * 2 + ["xyz"] * 2, strict=True):
        want = session.score(session.tokenizer.encode(prompt, bos=True))
        got = choice["logprobs"]
        assert choice["text"].startswith(prompt) and got["token_logprobs"][0] is None
        np.testing.assert_allclose(got["token_logprobs"][1 : len(want)], [s.logprob for s in want[1:]], atol=1e-5)
    tokens = sum(len(c["logprobs"]["tokens"]) for c in answer["choices"][::2])
    assert answer["usage"]["prompt_tokens"] < tokens and answer["usage"]["completion_tokens"] == 12
    _, only = client.ask(TEXT, body | {"max_tokens": 0, "n": 1})  # as those who only score ask
    assert [c["text"] for c in only["choices"]] == ["abab ab", "xyz"]
    assert [c["finish_reason"] for c in only["choices"]] == ["length"] * 2
    scored = [c["logprobs"]["token_logprobs"] for c in only["choices"]]
    assert scored == [
        c["logprobs"]["token_logprobs"][: len(s)] for c, s in zip(answer["choices"][::2], scored, strict=True)
    ]
    (streamed,) = client.stream(TEXT, body | {"max_tokens": 0, "n": 1, "prompt": "xyz", "stream": True})
    assert streamed["choices"][0] == only["choices"][1] | {"index": 0}
    _, one = client.ask(TEXT, {"prompt": "ab", "best_of": 6, "n": 2, "seed": 1, "max_tokens": 4, "logprobs": 0})
    _, all_ = client.ask(TEXT, {"prompt": "ab", "n": 6, "seed": 1, "max_tokens": 4, "logprobs": 0})
    means = sorted((-np.mean(c["logprobs"]["token_logprobs"]), c["text"]) for c in all_["choices"])
    assert [c["text"] for c in one["choices"]] == [text for _, text in means[:2]]


def test_a_stream_is_the_whole_in_pieces(client: Client) -> None:
    body = {"messages": HI, "max_tokens": 20, "n": 2, "seed": 2, "logprobs": True, "stop": ["q", "zz"]}
    _, whole = client.ask(CHAT, body)
    chunks = client.stream(CHAT, body | {"stream": True, "stream_options": {"include_usage": True}})
    for choice in whole["choices"]:
        mine = [c["choices"][0] for c in chunks if c["choices"] and c["choices"][0]["index"] == choice["index"]]
        assert mine[0]["delta"]["role"] == "assistant"
        assert "".join(c["delta"].get("content", "") for c in mine) == choice["message"]["content"]
        assert mine[-1]["finish_reason"] == choice["finish_reason"]
        numbers = [t["logprob"] for c in mine if c["logprobs"] for t in c["logprobs"]["content"]]
        np.testing.assert_allclose(numbers, [t["logprob"] for t in choice["logprobs"]["content"]], atol=1e-5)
    assert chunks[-1]["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"]
    text = {"prompt": "ab", "max_tokens": 9, "seed": 3}
    pieces = client.stream(TEXT, text | {"stream": True})
    assert "".join(c["choices"][0]["text"] for c in pieces) == client.ask(TEXT, text)[1]["choices"][0]["text"]


REFUSED: list[tuple[str, Any, int, str | None]] = [  # of each reader one, and all that hangs on the model or the path
    (CHAT, b"", 400, None),
    (CHAT, b'{"messages": ' + b"[" * 99 + b"]" * 99 + b"}", 400, None),
    (CHAT, {}, 400, "messages"),
    (CHAT, {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "messages[0].content"),
    (CHAT, {"messages": HI, "modalities": ["text", "audio"]}, 400, "modalities"),
    (CHAT, {"messages": HI, "temperature": "hot"}, 400, "temperature"),
    (CHAT, {"messages": HI, "top_p": -0.1}, 400, "top_p"),
    (CHAT, {"messages": HI, "n": True}, 400, "n"),
    (CHAT, {"messages": HI, "logit_bias": {"999999": 1}}, 400, "logit_bias"),
    (CHAT, {"messages": HI, "tool_choice": "required"}, 400, "tool_choice"),
    (CHAT, {"messages": HI, "likely": {"strategy": "magic"}}, 400, "likely.strategy"),
    (CHAT, {"messages": HI, "likely": {"adapter": "/etc"}}, 404, "likely.adapter"),
    (CHAT, {"messages": HI, "likely": {"snapshots": True}}, 400, "likely.snapshots"),
    (CHAT, {"messages": HI, "model": "/etc/passwd"}, 404, "model"),
    (CHAT, {"messages": HI, "draft_model": "../x"}, 404, "model"),
    (CHAT, {"messages": [{"role": "user", "content": "x" * 5000}]}, 400, "messages"),
    (CHAT, {"messages": [{"role": "user", "content": "x" * 3_000_000}]}, 400, "messages"),
    (TEXT, {"prompt": "x" * 5000, "stream": True}, 400, "prompt"),
    (TEXT, {"prompt": ""}, 400, "prompt"),
    (CHAT, {"messages": HI, "n": 16, "logprobs": True, "top_logprobs": 256, "max_tokens": 200}, 400, "max_tokens"),
    (CHAT, {"messages": HI, "likely": {"snapshot": True, "strategy": "vote 64"}, "max_tokens": 40}, 400, "max_tokens"),
    (CHAT, {"messages": [{"role": "user", "content": ""}] * 3000}, 400, "messages"),
    (CHAT, {"messages": [{"role": "user", "content": ""}] * 20000}, 400, "messages"),
    (CHAT, {"messages": HI, "reasoning_effort": "hard"}, 400, "reasoning_effort"),
    (CHAT, {"messages": HI, "reasoning": {"max_tokens": 9}}, 400, "reasoning"),
    (CHAT, {"messages": HI, "verbosity": "low"}, 400, "verbosity"),
    (TEXT, {"prompt": [[1] * 1500] * 2, "echo": True, "max_tokens": 0, "logprobs": 256}, 400, "max_tokens"),
    (TEXT, {"prompt": [99999]}, 400, "prompt"),
    ("/v1/embeddings", {"input": ["a", ""]}, 400, "input"),
    ("/v1/embeddings", {"input": [99999]}, 400, "input"),
    ("/v1/embeddings", {"input": "a" * 5000}, 400, "input"),
    ("/v1/embeddings", {"input": "a", "likely": {"layer": 99}}, 400, "likely.layer"),
    ("/v1/responses", {"input": "x" * 5000}, 400, "input"),
    ("/api/generate", {"model": "tiny", "prompt": "x" * 5000}, 400, "prompt: "),
    ("/api/embed", {"model": "tiny", "input": "x" * 5000, "truncate": False}, 400, "input: "),
    ("/api/embeddings", {"model": "tiny", "prompt": ""}, 400, "prompt: "),
    ("/v1/responses", {"input": [{"role": "user", "content": ""}] * 20000}, 400, "input"),
    ("/v1/responses", {"input": "a", "previous_response_id": "r"}, 400, "previous_response_id"),
    ("/v1/responses", {"input": "a", "text": {"format": {"type": "json_schema"}}}, 400, "text.format.schema"),
    ("/v1/responses", {"input": "a", "truncation": "auto"}, 400, "truncation"),
    ("/api/chat", {"model": "tiny", "messages": HI, "options": {"num_predict": 0}}, 400, "options.num_predict must"),
    ("/api/chat", {"model": "tiny", "messages": HI, "think": "hard"}, 400, "think must be none, minimal"),
    ("/api/generate", {"model": "none", "prompt": "x"}, 404, "model"),
    ("/api/generate", {"model": "none"}, 404, "model"),
    (
        "/api/generate",
        {"model": "tiny", "keep_alive": 0},
        400,
        "keep_alive: a model leaves when others want its memory",
    ),
    ("/api/generate", {"model": "tiny", "prompt": "x", "images": ["aGk="]}, 400, "images"),
    ("/api/generate", {"model": "tiny", "prompt": "x", "raw": True, "system": "y"}, 400, "raw"),
    ("/api/embed", {"model": "none", "input": "x"}, 404, "model"),
    ("/api/nothing", {}, 404, "there is no POST /api/nothing here"),
    ("/v1/nothing", {}, 404, None),
    ("/v1/models/none", None, 404, "model"),
]


def test_what_changes_no_answer_is_passed_over_and_named_once(client: Client) -> None:
    """Whatever clients send besides, a seed gives the same answer; effort is heard where the template thinks."""
    body = {"messages": HI, "seed": 6, "max_tokens": 6, "temperature": 0.9}

    def answer(path: str = CHAT, **more: Any) -> Any:
        status, found = client.ask(path, body | more)
        assert status == 200, (more, found)
        return found["choices"][0]["message"]

    want = answer()
    more = {"prompt_cache_key": "k", "modalities": ["text"], "safety_identifier": "s", "service_tier": "auto"}
    for _ in range(2):
        assert answer(**more) == want
    assert client.ask("/v1/last")[0] == 404 and client.process.stderr is not None
    lines = [""]
    while not lines[-1].startswith("other 404"):
        lines.append(client.process.stderr.readline())
    named = [line for line in lines if "prompt_cache_key" in line]
    assert len(named) == 1 and "modalities" in named[0] and "passed over" in named[0]
    for effort, thinks in (("none", False), ("high", True)):
        thought = answer(chat_template_kwargs={"enable_thinking": thinks})
        assert answer(reasoning_effort=effort) == answer(reasoning={"effort": effort}) == thought
    assert client.ask("/v1/models/tiny")[1] == client.ask("/v1/models")[1]["data"][0]


def test_a_top_p_of_0_is_the_likeliest_token(client: Client) -> None:
    messages = {"messages": HI, "max_tokens": 12}
    _, greedy = client.ask(CHAT, messages | {"temperature": 0})
    want = greedy["choices"][0]["message"]["content"]
    for seed in (-1, 1 << 62):
        _, found = client.ask(CHAT, messages | {"temperature": 1.5, "top_p": 0, "seed": seed})
        assert found["choices"][0]["message"]["content"] == want
    options = {"temperature": 1.5, "top_p": 0, "seed": -3, "num_predict": 12}
    _, local = client.ask("/api/chat", {"model": "tiny", "messages": HI, "stream": False, "options": options})
    _, block = client.ask("/v1/messages", messages | {"temperature": 1, "top_p": 0})
    assert local["message"]["content"] == block["content"][0]["text"] == want


def test_clients_of_ollama_are_served(client: Client) -> None:
    """As they write it: empty fields, raw prompts, embeddings in both forms, and which models are loaded."""
    asked = {"model": "tiny", "options": {"seed": 4, "temperature": 0.8, "num_predict": 6}, "stream": False}
    for path, said in (
        ("/api/generate", {"response": ""}),
        ("/api/chat", {"message": {"role": "assistant", "content": ""}}),
    ):
        status, loaded = client.ask(path, {"model": "tiny:latest"})  # as it is wanted before there is a question
        assert (
            status == 200 and loaded.items() >= {"model": "tiny", "done": True, "done_reason": "load", **said}.items()
        )
    assert "tiny" in [each["name"] for each in client.ask("/api/ps")[1]["models"]]
    want = client.ask("/api/generate", asked | {"prompt": "hi"})[1]["response"]
    empty = {"images": [], "suffix": "", "template": "", "context": [], "keep_alive": 5, "raw": False}
    assert client.ask("/api/generate", asked | empty | {"prompt": "hi"})[1]["response"] == want
    body = {"prompt": "abab", "seed": 4, "temperature": 0.8, "max_tokens": 6}
    raw = client.ask("/api/generate", asked | {"prompt": "abab", "raw": True})[1]["response"]
    assert raw == client.ask(TEXT, body)[1]["choices"][0]["text"]
    rows = [each["embedding"] for each in client.ask("/v1/embeddings", {"input": ["abab", "xyz"]})[1]["data"]]
    found = client.ask("/api/embed", {"model": "tiny", "input": ["abab", "xyz"]})[1]
    np.testing.assert_allclose(found["embeddings"], [row / np.linalg.norm(row) for row in rows], atol=1e-6)
    (one,) = client.ask("/api/embed", {"model": "tiny", "input": "abab", "truncate": True})[1]["embeddings"]
    np.testing.assert_allclose(one, found["embeddings"][0], atol=1e-6)
    long = {"model": "tiny", "input": ["z" * 2048, "z" * 2048 + "ab" * 1000]}
    full, cut = client.ask("/api/embed", long)[1]["embeddings"]
    np.testing.assert_allclose(cut, full, atol=1e-6)  # of as much as the context holds
    assert client.ask("/api/embed", long | {"truncate": False})[0] == 400
    old = client.ask("/api/embeddings", {"model": "tiny", "prompt": "abab"})[1]["embedding"]
    np.testing.assert_allclose(old, rows[0], atol=1e-6)
    loaded = client.ask("/api/ps")[1]["models"]
    assert "tiny" in [each["name"] for each in loaded] and all(each["size"] > 0 for each in loaded)


def test_what_is_not_served_is_named(client: Client) -> None:
    for path, body, status, field in REFUSED:
        got, answer = client.ask(path, body)
        assert got == status, (path, body, answer)
        error = answer["error"]
        if path.startswith("/api/"):  # a line, as Ollama's clients read it
            assert (field or "") in error, (path, body, answer)
            continue
        assert error["param"] == field and error["message"], (path, body, answer)
    for more, code in (
        ({"messages": [{"role": "user", "content": "x" * 5000}]}, "context_length_exceeded"),
        ({"messages": [{"role": "user", "content": "x" * 3_000_000}]}, "context_length_exceeded"),
        ({"model": "none"}, "model_not_found"),
        ({"chat_template_kwargs": {"none": 1}}, None),
    ):
        error = client.ask(CHAT, {"messages": HI} | more)[1]["error"]
        assert (error["type"], error["code"]) == ("invalid_request_error", code), error
    assert error["param"] == "chat_template_kwargs"
    assert client.ask("/health") == (200, {"status": "ok"})


def test_only_this_machine_is_let_in(client: Client) -> None:
    address = f"127.0.0.1:{client.port}"
    for headers, status in [
        ({"Host": "evil.example"}, 403),
        ({"Host": f"evil.example:{client.port}"}, 403),
        ({"Host": address, "Origin": "http://evil.example"}, 403),
        ({"Host": address, "Origin": "null"}, 403),
        ({"Host": f"localhost:{client.port}"}, 200),
        ({"Host": f"[::1]:{client.port}"}, 200),
        ({"Host": address, "Origin": f"http://{address}"}, 200),
    ]:
        response = client.send("/v1/models", headers=headers)
        assert response.status == status, headers
        assert "access-control-allow-origin" not in response.headers
    before = client.metric('likely_requests_total{route="other",status="403"}')
    assert client.send("/v1/models/", headers={"Host": "evil.example"}).status == 403  # nor told where to go
    assert client.metric('likely_requests_total{route="other",status="403"}') == before + 1
    assert client.send(CHAT, b" " * (5 << 20)).status == 413
    assert client.send("/likely/watch").status == 401
    (key,) = (client.home / "servers").glob("*.key")
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_who_watches_sees_each_token(client: Client) -> None:
    control = WatchControl()
    watching = listen(ServerAddress.read(f"127.0.0.1:{client.port}", client.home), control)
    assert isinstance(next(watching), WatchBegan)
    body = {"messages": HI, "max_tokens": 3, "seed": 1, "logprobs": True, "likely": {"sampling": {"top_k": 5}}}
    _, answer = client.ask(CHAT, body)
    seen: list[Any] = []
    while not seen or not isinstance(seen[-1], Closed):
        sighted = next(watching)
        assert isinstance(sighted, NumberedEvent)
        seen.append(sighted.event)
    asked, opened = seen[:2]
    assert isinstance(asked, WatchAsked) and asked.turns == (("user", "hi"),) and asked.seed == 1
    assert len(opened.ids) == answer["usage"]["prompt_tokens"] and len(opened.pieces) == CONFIG["vocab_size"]
    steps = [one.step for one in seen if isinstance(one, Emitted)]
    told = answer["choices"][0]["logprobs"]["content"]
    assert [step.logprob for step in steps] == [token["logprob"] for token in told]
    for step in steps:  # all of a token's distribution came with it, and by what it was drawn
        assert step.snapshot is not None and step.kept == 5 and TopK(5) in step.recipe.transforms
        place = list(step.snapshot.ids).index(step.token)
        assert step.snapshot.logits[place] - step.snapshot.lse == pytest.approx(step.logprob, abs=1e-5)
    assert [one.reason for one in seen if isinstance(one, Done)] == [answer["choices"][0]["finish_reason"]]
    watching.close()


def test_a_client_that_goes_away_stops_its_work(client: Client) -> None:
    before = client.metric('likely_tokens_total{kind="completion"}')
    for stream in (True, False):
        body = json.dumps({"messages": HI, "max_tokens": 2000, "seed": 1, "stream": stream}).encode()
        head = f"POST {CHAT} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        with socket.create_connection(("127.0.0.1", client.port)) as sock:
            sock.sendall(head + body)
            if stream:
                said = b""
                while said.count(b"data: ") < 3:  # its beginning, and two tokens
                    said += sock.recv(512)
            else:
                while not client.metric("likely_requests_running"):
                    pass
        while client.metric("likely_requests_running"):
            time.sleep(0.01)
    assert client.metric(f'likely_requests_total{{route="{CHAT}",status="499"') >= 1
    assert 0 < client.metric('likely_tokens_total{kind="completion"}') - before < 2000


def test_an_answer_can_be_bound(client: Client) -> None:
    def said(body: Any) -> Any:
        status, answer = client.ask(CHAT, {"messages": HI, "seed": 3, "max_tokens": 200} | body)
        assert status == 200, answer
        return answer["choices"][0]

    schema = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"], "additionalProperties": False}
    bound = {"response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}}
    assert json.loads(said(bound)["message"]["content"])["a"] in (1, 2)
    drawn = said({"likely": {"choices": ["left", "right"], "steps": True}})
    assert drawn["message"]["content"] in ("left", "right")
    law = math.exp(sum(step["logprob_after"] for step in drawn["likely"]["steps"]))
    assert drawn["likely"]["probability"] == pytest.approx(law, rel=1e-4)
    assert said({"likely": {"choices": ["left"]}})["likely"] == {"probability": 1.0}
    parts = client.stream(CHAT, {"messages": HI, "stream": True, "likely": {"choices": ["left"]}})
    assert not any("likely" in part["choices"][0] for part in parts), "a part of a text has no share"
    tools = [{"type": "function", "function": {"name": "f", "parameters": schema}}]
    for choice in ("required", {"type": "function", "function": {"name": "f"}}):
        called = said({"tools": tools, "tool_choice": choice})
        (call,) = called["message"]["tool_calls"]
        assert called["finish_reason"] == "tool_calls" and call["function"]["name"] == "f"
        assert json.loads(call["function"]["arguments"])["a"] in (1, 2)
    streamed = client.stream(
        CHAT, {"messages": HI, "seed": 3, "max_tokens": 200, "stream": True, "tools": tools, "tool_choice": "required"}
    )
    assert any("tool_calls" in c["choices"][0]["delta"] for c in streamed)
    assert not any(c["choices"][0]["delta"].get("content") for c in streamed)
    thought = said({"chat_template_kwargs": {"enable_thinking": True}, "max_tokens": 4})
    assert thought["message"]["content"] is not None
    figures = said({"likely": {"steps": True, "snapshot": True, "sampling": {"top_k": 2}}, "max_tokens": 2})["likely"]
    step = figures["steps"][0]
    assert step["kept"] == 2 and step["entropy"] > 0 and figures["seed"] == 3
    assert [c["cut_by"] for c in step["candidates"][:3]] == [None, None, "TopK"]


def test_embeddings_are_mean_hidden_states(client: Client, session: Session) -> None:
    from likely.engine.measure.evaluate.scoring.features import mean_hidden

    ids = [session.tokenizer.encode(text, bos=True) for text in ("abab", "xyz")]
    for layer in (None, 0, 1):
        ours = {} if layer is None else {"likely": {"layer": layer}}
        _, answer = client.ask("/v1/embeddings", {"input": ["abab", "xyz"]} | ours)
        want = [mean_hidden(session, one, layer) for one in ids]
        np.testing.assert_allclose([one["embedding"] for one in answer["data"]], want, atol=1e-5)
    rows = client.ask("/v1/embeddings", {"input": ["a" * n for n in (3, 90, 1, 40, 3)]})[1]["data"]
    want = [mean_hidden(session, session.tokenizer.encode("a" * n, bos=True)) for n in (3, 90, 1, 40, 3)]
    np.testing.assert_allclose([row["embedding"] for row in rows], want, atol=1e-5)


@pytest.mark.slow
def test_other_protocols_say_the_same(client: Client) -> None:
    body = {"messages": HI, "seed": 4, "temperature": 0.8, "max_tokens": 12}
    want = client.ask(CHAT, body)[1]["choices"][0]["message"]["content"]
    options = {"seed": 4, "temperature": 0.8, "num_predict": 12, "num_ctx": 512}
    asked = {"model": "tiny:latest", "options": options}
    lines = client.stream("/api/chat", asked | {"messages": HI})
    assert "".join(line["message"]["content"] for line in lines) == want
    assert lines[-1]["done"] and lines[-1]["eval_count"] and not lines[0]["done"]
    _, whole = client.ask("/api/generate", asked | {"prompt": "hi", "stream": False})
    assert whole["response"] == want and whole["done_reason"] in ("stop", "length")
    assert [m["name"] for m in client.ask("/api/tags")[1]["models"]] == ["tiny", "other", "style"]
    assert client.ask("/api/show", {"model": "tiny"})[1]["model_info"]["llama.context_length"] == 2048
    given = {"input": "hi", "temperature": 0, "max_output_tokens": 5}
    _, response = client.ask("/v1/responses", given)
    text = response["output"][0]["content"][0]["text"]
    assert response["status"] in ("incomplete", "completed") and response["usage"]["output_tokens"] <= 5
    events = client.stream("/v1/responses", given | {"stream": True})
    assert [e["sequence_number"] for e in events] == list(range(len(events)))
    assert "".join(e["delta"] for e in events if e["type"] == "response.output_text.delta") == text
    assert events[-1]["response"]["output"][0]["content"][0]["text"] == text
    _, listed = client.ask("/v1/models")
    assert [m["id"] for m in listed["data"]] == ["tiny", "other", "style"]
    first, second = (client.ask(CHAT, body | {"model": name, "logprobs": True})[1] for name in ("tiny", "other"))
    assert second["model"] == "other"
    assert first["choices"][0]["logprobs"]["content"][0] != second["choices"][0]["logprobs"]["content"][0]
    status, drafted = client.ask(CHAT, body | {"draft_model": "other", "temperature": 0})
    assert status == 200, drafted
    assert drafted["choices"][0] == client.ask(CHAT, body | {"temperature": 0})[1]["choices"][0]
