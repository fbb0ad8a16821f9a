"""One request and its response: who is let in, what a failure becomes, what the log and the figures have of it."""

import asyncio
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from likely.app.serve.api import exchange
from likely.app.serve.api.metrics import ServerMetrics
from likely.app.serve.bounds import Bounds
from likely.app.serve.front import WorkerFault
from likely.app.serve.guard import Guard, headers_of, read_body
from likely.app.serve.requests import RequestRefused, refused_as
from likely.app.serve.watch.lines import WATCH
from likely.engine.base.errors import DeviceFull, LikelyError, ParameterError
from tests.serve.scripted import Asked, ScriptedFront, drawn

SAY = {"messages": [{"role": "user", "content": "x"}]}
CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"


class Clock:
    """Seconds that pass when somebody looks."""

    def __init__(self, *times: float) -> None:
        self.times = list(times)

    def __call__(self) -> float:
        return self.times.pop(0) if len(self.times) > 1 else self.times[0]


async def test_a_line_of_the_log_says_what_a_request_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "perf_counter", Clock(10.0, 10.25, 12.5))  # at the beginning, token and end
    served = Asked(ScriptedFront(drawn(0, 1)))
    await served.send(CHAT, SAY)
    assert served.log == ["/v1/chat/completions 200 2.500 s model=tiny prompt=5 reused=2 tokens=4 first=0.250 s"]
    assert served.metrics.requests == {(CHAT, 200): 1}
    assert served.metrics.tokens == {"prompt": 5, "reused": 2, "completion": 4}
    assert (served.metrics.whole_s.total, served.metrics.first_s.total) == (2.5, 0.25)


async def test_a_server_that_is_quiet_writes_no_line_and_nobody_logs_its_health() -> None:
    quiet = Asked(quiet=True)
    await quiet.send(CHAT, SAY)
    assert quiet.log == [] and quiet.metrics.requests[CHAT, 200] == 1
    served = Asked()
    for path in ("/", "/health", "/metrics", "/v1/models"):
        assert (await served.send(path)).status == 200
    assert [line.split()[0] for line in served.log] == ["/v1/models"]


@pytest.mark.parametrize(
    ("error", "status", "kind", "param", "logged"),
    [
        (RequestRefused("no", "seed", 422, "odd"), 422, "odd", "seed", 1),
        (RequestRefused("no"), 400, "invalid_request_error", None, 1),
        (ParameterError("no"), 400, "invalid_request_error", None, 1),
        (LikelyError("no"), 400, "invalid_request_error", None, 1),
        (DeviceFull("no"), 503, "server_error", None, 1),
        (WorkerFault("no", "its trace"), 500, "server_error", None, 2),
        (ValueError("no"), 500, "server_error", None, 2),
    ],
)
async def test_a_failure_is_a_status_before_anything_is_sent(
    error: BaseException, status: int, kind: str, param: str | None, logged: int
) -> None:
    line = "a fault of this server: no" if status == 500 else "no"
    asked = SAY | {"stream": True}
    for path, body in ((CHAT, asked), ("/api/chat", {"model": "m", **SAY}), (MESSAGES, asked | {"max_tokens": 9})):
        served = Asked(ScriptedFront(error=error))
        answer = await served.send(path, body)
        assert answer.status == status and answer.headers["content-type"] == "application/json"
        if path == CHAT:
            assert answer.json == {"error": {"message": line, "type": kind, "param": param, "code": None}}
        elif path == MESSAGES:
            names = {404: "not_found_error", 500: "api_error", 503: "overloaded_error"}
            named = names.get(status, "invalid_request_error")
            assert answer.json == {"type": "error", "error": {"type": named, "message": line}}
        else:
            assert answer.json == {"error": line}
        assert len(served.log) == logged and served.log[-1].endswith(f"({param or kind})")
        assert served.metrics.requests == {(path, status): 1}
    if logged == 2:
        assert ("its trace" if isinstance(error, WorkerFault) else "Traceback (most recent call last)") in served.log[0]


@pytest.mark.parametrize("error", [RequestRefused("no", status=409), LikelyError("no"), ValueError("no")])
async def test_a_failure_in_a_stream_is_its_last_line(error: BaseException) -> None:
    served = Asked(ScriptedFront(drawn(0), error=error, after=4))
    answer = await served.send(CHAT, SAY | {"stream": True})
    assert answer.status == 200
    last = answer.body.decode().split("\n\n")[-2]
    assert last.startswith("data: ") and json.loads(last[6:])["error"]["message"].endswith("no")
    status = error.status if isinstance(error, RequestRefused) else 400 if isinstance(error, LikelyError) else 500
    assert served.metrics.requests == {(CHAT, status): 1}
    asked = SAY | {"stream": True, "max_tokens": 9}
    told = await Asked(ScriptedFront(drawn(0), error=error, after=4)).send(MESSAGES, asked)
    named, data, *_ = told.body.decode().split("\n\n")[-2].split("\n")
    assert named == "event: error" and json.loads(data[6:])["error"]["message"].endswith("no")
    lines = await Asked(ScriptedFront(drawn(0), error=error, after=4)).send("/api/chat", {"model": "m", **SAY})
    assert list(json.loads(lines.body.splitlines()[-1])) == ["error"] and lines.body.endswith(b"}\n")


async def test_a_request_that_is_cancelled_is_told_that_the_server_ends() -> None:
    begun = asyncio.Event()

    class Slow(ScriptedFront):
        async def events(self, request: Any) -> Any:
            begun.set()
            await asyncio.get_running_loop().create_future()
            yield ()

    served = Asked(Slow())
    sent: list[Any] = []

    async def receive() -> Any:
        await asyncio.get_running_loop().create_future()

    body = [{"type": "http.request", "body": json.dumps(SAY).encode()}]

    async def first() -> Any:
        return body.pop() if body else await receive()

    async def send(message: Any) -> None:
        sent.append(message)

    from likely.app.serve.api.exchange import LoggedResponse
    from likely.app.serve.api.transport import Endpoint

    does = Endpoint(served.state, lambda: (), lambda: ()).chat
    task = asyncio.create_task(
        LoggedResponse(served.state, does, CHAT)(
            {"type": "http", "method": "POST", "headers": [(b"host", b"localhost")]}, first, send
        )
    )
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [message.get("status") for message in sent] == [503, None]
    assert "the server is ending" in sent[1]["body"].decode() and served.log[0].startswith(f"{CHAT} 503 ")


async def test_a_client_that_leaves_ends_its_work() -> None:
    ended = asyncio.Event()

    class Slow(ScriptedFront):
        async def events(self, request: Any) -> Any:
            try:
                await asyncio.get_running_loop().create_future()
                yield ()
            finally:
                ended.set()

    served = Asked(Slow())
    body = {"type": "http.request", "body": json.dumps(SAY).encode()}
    parts = [body, {"type": "http.request"}, {"type": "http.disconnect"}]
    answer = await served.send(CHAT, parts=parts)
    assert ended.is_set() and answer.status == 0
    assert served.metrics.requests == {(CHAT, 499): 1} and served.log[0].startswith(f"{CHAT} gone ")


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/v1/models", {}, 401),
        ("/v1/models", {"authorization": "Bearer k"}, 200),
        ("/v1/models", {"authorization": "bearer  k "}, 200),
        ("/v1/models", {"authorization": "Basic k"}, 401),
        ("/v1/models", {"authorization": "Bearer kk"}, 401),
        ("/v1/models", {"x-api-key": "k"}, 200),
        ("/v1/models", {"x-api-key": "kk"}, 401),
        ("/", {}, 200),
        ("/", {"host": "evil.example"}, 403),
        ("/health", {}, 200),
        ("/health", {"host": "evil.example"}, 403),
        (WATCH, {"authorization": "Bearer k"}, 401),
        (WATCH, {"authorization": "Bearer w"}, 200),
        (WATCH, {"authorization": "Bearer w", "origin": "http://evil"}, 403),
        ("/v1/none", {}, 401),
        ("/v1/none", {"authorization": "Bearer k"}, 404),
    ],
)
async def test_who_is_let_in(path: str, headers: dict[str, str], status: int) -> None:
    served = Asked(guard=Guard("127.0.0.1", "k"), watch_key="w")
    answer = await served.send(path, headers=list(headers.items()))
    assert answer.status == status
    if status == 401:
        error = answer.json["error"]
        assert (error["type"], error["code"]) == ("authentication_error", "invalid_api_key")
        assert answer.headers["www-authenticate"] == "Bearer"
    if status == 200 and path == WATCH:
        assert answer.body == b'data: {"likely": "1"}\n\ndata: {}\n\ndata: [DONE]\n\n'
        assert (await Asked().send(path, headers=list(headers.items()))).status == 401  # a server without such a key


@pytest.mark.parametrize(
    ("host", "listens", "fine"),
    [
        ("127.0.0.1", "127.0.0.1", True), ("localhost:8080", "127.0.0.1", True), ("[::1]:80", "::1", True),
        ("127.0.0.1.evil.example:80", "127.0.0.1", False), ("", "127.0.0.1", False), ("10.0.0.1", "127.0.0.1", False),
        ("10.0.0.1:80", "0.0.0.0", True), ("[fe80::1]:80", "0.0.0.0", True), ("box.local", "0.0.0.0", False),
        ("box.local:80", "box.local", True), ("[::1", "127.0.0.1", False),
        ("[::1]evil.com", "127.0.0.1", False), ("[::1]evil.com:80", "0.0.0.0", False), ("[::1]", "127.0.0.1", True),
        ("localhost:evil.com", "127.0.0.1", False), ("localhost:80:80", "127.0.0.1", False),
    ],
)  # fmt: skip
def test_a_host_is_this_server_by_its_address_alone(host: str, listens: str, fine: bool) -> None:
    if fine:
        Guard(listens).check({"host": host})
        Guard(listens).check({"host": host, "origin": f"http://{host}"})
        for origin in ("http://evil", host, "null"):
            with pytest.raises(RequestRefused, match="pages of other origins") as refused:
                Guard(listens).check({"host": host, "origin": origin})
            assert refused.value.status == 403
    else:
        with pytest.raises(RequestRefused, match="the Host header must be") as refused:
            Guard(listens).check({"host": host})
        assert refused.value.status == 403
        assert repr(host) in str(refused.value)


def test_a_long_host_is_not_said_in_full() -> None:
    with pytest.raises(RequestRefused) as refused:
        Guard("127.0.0.1").check({"host": "h" * 100})
    assert str(refused.value).endswith(f"got '{'h' * 80}'")
    with pytest.raises(RequestRefused) as refused:
        Guard("127.0.0.1").check({"host": "localhost", "origin": "o" * 100})
    assert str(refused.value).endswith(f"got '{'o' * 80}'")


def test_headers_are_by_small_letters_and_some_come_once() -> None:
    assert headers_of({"headers": [(b"Host", b"a"), (b"X-A", b"1"), (b"x-a", b"2")]}) == {"host": "a", "x-a": "2"}
    for name in (b"Host", b"Origin", b"Authorization", b"Content-Length"):
        with pytest.raises(RequestRefused, match=f"the header {name.decode().lower()} came twice"):
            headers_of({"headers": [(name, b"1"), (name.lower(), b"1")]})


@pytest.mark.parametrize(
    ("length", "parts", "found"),
    [
        (None, [b"abc", b"de"], b"abcde"), ("5", [b"abcde"], b"abcde"), ("6", [b""], 413), ("x", [b"a"], b"a"),
        (None, [b"abc", b"def"], 413), ("1" * 30, [b""], 413), ("0", [b"abcdef"], 413), (None, None, 400),
    ],
)  # fmt: skip
async def test_a_body_is_read_up_to_its_bound(length: str | None, parts: list[bytes] | None, found: object) -> None:
    messages: list[dict[str, Any]] = [{"type": "http.request", "body": part, "more_body": True} for part in parts or ()]
    if messages:
        messages[-1].pop("more_body")
    else:
        messages = [{"type": "http.request", "more_body": True}, {"type": "http.disconnect"}]

    async def receive() -> Any:
        return messages.pop(0)

    headers = {} if length is None else {"content-length": length}
    if isinstance(found, bytes):
        assert await read_body(receive, headers, Bounds(body=5)) == found
        return
    with pytest.raises(RequestRefused) as refused:
        await read_body(receive, headers, Bounds(body=5))
    assert refused.value.status == found
    assert str(refused.value) == ("the client went away" if found == 400 else "a body has at most 5 bytes")


async def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    async def receive() -> Any:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(RequestRefused, match="the body did not come within 0 s") as refused:
        await read_body(receive, {}, Bounds(body_s=0))
    assert refused.value.status == 408


def test_a_refusal_names_fields_as_the_client_wrote_them() -> None:
    names = {"response_format.schema": "format", "response_format": "form", "seed": "options.seed"}
    for line, field, said, named in (
        ("response_format.schema is missing", "response_format", "format is missing", "form"),
        ("seed must be 0", "seed", "options.seed must be 0", "options.seed"),
        ("seeds are odd", "seeds", "seeds are odd", "seeds"),
        ("other", "", "other", ""),
    ):
        with pytest.raises(RequestRefused) as refused, refused_as(names):
            raise RequestRefused(line, field, 404, "kind")
        found = refused.value
        assert (str(found), found.field, found.status, found.kind) == (said, named, 404, "kind")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=30,
)


@given(JSON)
def test_a_body_in_parts_is_the_body(body: Any) -> None:
    assert b"".join(exchange.encoded(body)) == json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def test_a_large_body_comes_in_parts_of_some_size() -> None:
    body = {"choices": [{"logprobs": {"content": [{"token": "x" * 50, "top": [1, 2, 3]}] * 9000}}]}
    parts = list(exchange.encoded(body))
    assert json.loads(b"".join(parts)) == body and len(parts) > 5 and max(map(len, parts)) < 2 * exchange.PART


def test_a_histogram_counts_by_the_edge_that_is_not_passed() -> None:
    metrics = ServerMetrics()
    for seconds in (0.05, 0.051, 120.0, 120.1):
        metrics.whole_s.add(seconds)
    found = [line.rpartition(" ")[2] for line in metrics.whole_s.lines("n", "h")[2:]]
    assert found == ["1", "2", "2", "2", "2", "2", "2", "2", "2", "2", "3", "4", "240.201000", "4"]
    text = metrics.text({"a_b": 1.5})
    assert text.endswith("# HELP likely_a_b a b now.\n# TYPE likely_a_b gauge\nlikely_a_b 1.5\n")
