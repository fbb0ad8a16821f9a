"""A server under load: many requests of mixed kinds, some cut off and some malformed; killed, and started anew."""

import json
import os
import random
import signal
import socket
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.engine.tiny import EOS
from tests.processes import free_ports
from tests.serve.served import Client, server, write_model
from tests.serve.test_serve import CHAT, HI, REFUSED, TEXT

ROUNDS = 8
COUNT = int(os.environ.get("LIKELY_SOAK_REQUESTS", "1000"))


def kinds(seed: int) -> tuple[str, dict[str, Any]]:
    """One request of many kinds."""
    r = random.Random(seed)
    messages = [
        {"role": "system", "content": "be " * r.randrange(9)},
        {"role": "user", "content": f"{seed} " * r.randrange(1, 40)},
    ]
    body: dict[str, Any] = {"messages": messages, "max_tokens": r.randrange(1, 40), "seed": seed}
    return r.choice(
        [
            (CHAT, body),
            (CHAT, body | {"logprobs": True, "top_logprobs": 5, "n": 3}),
            (CHAT, body | {"likely": {"strategy": r.choice(["beam 3", "ngram 3", "vote 3"]), "steps": True}}),
            (CHAT, body | {"response_format": {"type": "json_object"}}),
            (TEXT, {"prompt": ["ab", f"x{seed}"], "max_tokens": 9, "best_of": 3, "echo": True, "logprobs": 1}),
            ("/v1/embeddings", {"input": [f"text {seed}"]}),
            ("/v1/responses", {"input": f"say {seed}", "max_output_tokens": 9}),
            ("/api/chat", {"model": "tiny", "messages": HI, "stream": False, "options": {"num_predict": 9}}),
        ]
    )


def cut_off(client: Client, seed: int) -> None:
    """A stream whose client leaves in the middle."""
    body = json.dumps({"messages": HI, "max_tokens": 1500, "seed": seed, "stream": True}).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", client.port), timeout=60) as sock:
        sock.sendall(head + body)
        for _ in range(random.Random(seed).randrange(4)):
            sock.recv(512)


def held(client: Client) -> tuple[float, float]:
    """Bytes in use when the server rests, but for its models' own, and Python's blocks. What it remembers of prompts
    and grammars is of the same few requests each time. Pages are no measure: one block in use keeps all of its page."""
    idle(client)
    for i in range(40):
        form: dict[str, Any] = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"const": i}}}
        more = {"response_format": form} if i % 4 == 0 else {}
        body = {"messages": [{"role": "user", "content": f"{i} " * 60}], "max_tokens": 8, "seed": i} | more
        assert client.ask(CHAT, body)[0] == 200
    idle(client)
    time.sleep(3)  # a second behind the last job it gives back what lies dead
    models = client.ask("/api/ps")[1]["models"]
    own = sum(int(model["size"]) for model in models)
    return client.metric("likely_heap_bytes_in_use") - own, client.metric("likely_python_blocks")


@pytest.mark.soak
@pytest.mark.linux
def test_nothing_is_lost_and_nothing_leaks(tmp_path: Path) -> None:
    with server(tmp_path, [write_model(tmp_path / "tiny")], "-q", "--waiting", "64") as client:

        def one(i: int) -> int:
            if i % 5 == 0:
                cut_off(client, i)
                return 0
            if i % 5 == 1:
                path, body, status, _ = REFUSED[i // 5 % len(REFUSED)]
                got = client.ask(path, body)[0]
                assert got == status or (got, status) == (200, 400), (path, got)
                return got
            path, body = kinds(i)
            status, answer = client.ask(path, body)
            assert status == 200, (path, body, answer)
            return status

        with ThreadPoolExecutor(12) as pool:
            rounds = []
            for _ in range(ROUNDS):
                list(pool.map(one, range(COUNT)))
                rounds.append(held(client))
                print({"held": rounds[-1]})
        assert not keeps(rounds, COUNT)
        assert client.metric("likely_requests_total") >= len(rounds) * COUNT * 0.8
        text = client.send("/metrics").read().decode()
        assert 'status="500"' not in text and 'status="503"' not in text


def keeps(rounds: Sequence[tuple[float, float]], count: int) -> bool:
    """Whether a request leaves a KB behind, or ten of Python's blocks, the least that a forgotten record takes: on the
    line through all rounds of `count` but the first two, which fill what is remembered."""
    used, blocks = (np.polyfit(range(len(rounds) - 2), kind[2:], 1)[0] / count for kind in zip(*rounds, strict=True))
    print({"bytes_a_request": used, "blocks_a_request": blocks})
    return bool(used >= 1024 or blocks >= 10)


def idle(client: Client) -> None:
    while client.metric("likely_requests_running") or client.metric("likely_requests_waiting"):
        time.sleep(0.05)


LONG = {"messages": HI, "max_tokens": 1900, "logit_bias": {str(EOS): -100}}


@pytest.mark.slow(4)
@pytest.mark.linux
def test_killed_under_load_it_starts_again(tmp_path: Path) -> None:
    model, (port,) = write_model(tmp_path / "tiny"), free_ports(1)
    keys = tmp_path / "servers"
    for _ in range(2):  # on the same port, with what the killed one has left behind
        with server(tmp_path, [model], "-q", port=port) as client, ThreadPoolExecutor(4) as pool:
            asked = [pool.submit(client.ask, CHAT, LONG | {"seed": i}) for i in range(4)]
            while client.metric("likely_requests_running") < 4:
                time.sleep(0.01)
            client.process.send_signal(signal.SIGKILL)
            assert all(each.exception() is not None for each in asked)  # they were at work
        assert [path.name for path in keys.glob("*.key")] == [f"{port}.key"]
    with server(tmp_path, [model], "-q") as first, server(tmp_path, [model], "-q") as second:
        for client in (first, second):
            assert client.ask(CHAT, {"messages": HI, "max_tokens": 3})[0] == 200
        assert {path.name for path in keys.glob("*.key")} == {f"{first.port}.key", f"{second.port}.key"}
        with ThreadPoolExecutor(4) as pool:
            asked_last = [pool.submit(first.ask, CHAT, LONG | {"seed": i}) for i in range(4)]
            while first.metric("likely_requests_running") < 4:
                time.sleep(0.01)
            first.process.terminate()
            answers = [each.result() for each in asked_last]
            ended = [answer["error"]["message"] for status, answer in answers if status == 503]
            assert ended and set(ended) == {"the server is ending"}
            assert {status for status, _ in answers} <= {200, 503}  # one may have come to its end before
    assert not list(keys.glob("*.key"))
