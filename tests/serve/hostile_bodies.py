"""Hostile requests of a server, each from its seed: fields out of their ranges, work without end, bodies that are none,
clients that leave, that stop half-way, and that never read."""

import json
import random
import socket
import time
from typing import Any

WAYS = ("read", "read", "read", "leave", "half", "deaf")  # how a client behaves
PATHS = (
    *("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"),
    *("/v1/messages", "/v1/messages/count_tokens", "/api/chat", "/api/generate", "/api/show", "/v1/nothing"),
)
REGEXES = ("([a-z]{1,1000}){1,1000}", "(a+)+$", ".*(a.{50}b|b.{50}a|c.{60}d).*", "[ab]*a[ab]{20}[cd]*", "(", "a" * 9000)
STRATEGIES = [
    "beam 64",
    "diverse 64 8",
    "vote 64",
    "stochastic 4",
    "power",
    "exact",
    "guidance 1.5",
    "ngram 9",
    "magic",
]
NUMBERS = (0, -1, 1, 2, 16, 17, 256, 257, 10**9, 10**40, 1.5, True, None, "1", float("1e300"), [], {})


def request(seed: int) -> tuple[str, bytes, str]:
    """A path, a body, and how its client behaves."""
    r = random.Random(seed)
    path = r.choice(PATHS[:2] if r.random() < 0.5 else PATHS)
    text = r.choice(["hi", "a" * r.randrange(1, 4000), "\u202e\x00é" * 40, "x " * r.randrange(1, 1500), ""])
    ids = [r.randrange(1, 250) for _ in range(r.randrange(1, 1500))]
    turns = [{"role": "user", "content": text}] * r.choice([1, 1, 1, 2, 40, 3000])
    body: dict[str, Any] = {"model": r.choice(["", "", "", "none", "../x"]), "max_tokens": r.choice([1, 4, 30, 200])}
    body |= {"messages": turns} if path.endswith(("chat/completions", "api/chat", "messages", "count_tokens")) else {}
    body |= {"prompt": r.choice([text, ids, [ids, ids], [text] * 9])} if path.endswith("v1/completions") else {}
    body |= {"input": r.choice([text, ids, [text] * 70])} if path.endswith(("embeddings", "responses")) else {}
    for name, values in r.sample(sorted(MORE.items()), r.randrange(6)):
        body[name] = r.choice(values)
    if r.random() < 0.2:
        body[r.choice(sorted(body))] = r.choice(NUMBERS)
    data = json.dumps(body).encode()
    if r.random() < 0.1:
        data = r.choice([b"", b"{", b"[" * 5000, b"null", data[: len(data) // 2], data.replace(b'"', b"\xff", 3)])
    return path, data, r.choice(WAYS)


MORE: dict[str, Any] = {
    "stream": [True, True, False],
    "n": [1, 3, 16, *NUMBERS],
    "logprobs": [True, 5, 256, *NUMBERS],
    "top_logprobs": [5, 256],
    "echo": [True],
    "temperature": [0, 1, 1.5, *NUMBERS],
    "top_p": [0.5, *NUMBERS],
    "seed": [1, *NUMBERS],
    "stop": ["a", ["b"] * 17, "c" * 300],
    "logit_bias": [{"65": 100}, {"999999": 1}, {str(i): 1 for i in range(2000)}],
    "likely": [
        *({"strategy": strategy} for strategy in STRATEGIES),
        *({"regex": regex} for regex in REGEXES),
        *({"choices": [f"choice {i}" for i in range(n)]} for n in (2, 200, 2000)),
        *({"steps": True}, {"snapshot": True}, {"layer": 1}, {"layer": 99}, {"adapter": "/etc"}),
    ],
    "response_format": [
        {"type": "json_object"},
        {"type": "json_schema", "json_schema": {"schema": {"anyOf": [{"pattern": f"a{{{i}}}b"} for i in range(90)]}}},
    ],
    "system": ["be", [{"type": "text", "text": "be"}], [{"type": "text"}], [{}]],
    "thinking": [{"type": kind, "budget_tokens": n} for kind in ("enabled", "adaptive", "") for n in NUMBERS],
    "stop_sequences": [["a"], ["b"] * 17, [""]],
    "tool_choice": ["auto", "none", {"type": "any"}, {"type": "tool"}, {"type": "tool", "name": "f"}],
    "tools": [[{"type": "function", "function": {"name": "f"}}] * n for n in (1, 65)]
    + [[{"name": "f", "input_schema": schema}] for schema in ({}, {"type": "object"}, {"enum": list(range(999))})],
}


def sent(port: int, seed: int, patience_s: float = 60.0) -> tuple[int, float]:
    """The status that a request is answered with, 0 where its client leaves; and the seconds until its first byte."""
    path, data, way = request(seed)
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: {len(data)}\r\n\r\n"
    began = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port), timeout=patience_s) as sock:
        if way == "deaf":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        try:
            sock.sendall(head.encode() + (data[: len(data) // 2] if way == "half" else data))
            if way == "half":
                return 0, 0.0
            first = sock.recv(200)
            waited = time.perf_counter() - began
            if way != "read":
                time.sleep(random.Random(seed).random() * (1.0 if way == "deaf" else 0.1))
                return 0, waited
            while sock.recv(1 << 16):
                pass
        except (ConnectionResetError, BrokenPipeError):  # refused before all of it was sent
            return 0, time.perf_counter() - began
    return int(first.split()[1]), waited
