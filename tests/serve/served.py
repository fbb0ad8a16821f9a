"""A server over a tiny model, as a process of its own on a real socket, and the plainest client."""

import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from likely.metal import mx
from tests.engine import tiny

TEMPLATE = (
    "{% for m in messages %}{{ m.role[0] }}:{{ m.content }};{% endfor %}"
    "{% if enable_thinking %}<think>{% endif %}{% if tools %}T{% endif %}{% if add_generation_prompt %}a:{% endif %}"
)
CONFIG = tiny.LLAMA | {"max_position_embeddings": 2048}


def write_model(folder: Path, seed: int = 0, **shape: int) -> Path:
    """A tiny model with a chat template, or one of some other shape."""
    arrays = {name: mx.array(array) for name, array in tiny.weights(CONFIG | shape, seed).items()}
    path = tiny.write_folder(folder, CONFIG | shape, arrays)
    settings = json.loads((path / "tokenizer_config.json").read_text())
    (path / "tokenizer_config.json").write_text(json.dumps(settings | {"chat_template": TEMPLATE}))
    return path


class Client:
    """One server's address, and requests of it."""

    def __init__(self, port: int, process: "subprocess.Popen[str]", home: Path) -> None:
        self.port, self.process, self.home = port, process, home
        self.log: list[str] = []

    def send(
        self, path: str, body: Any = None, headers: dict[str, str] | None = None, method: str = ""
    ) -> http.client.HTTPResponse:
        """The response to a body: bytes as they are, others as JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=280)
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection.request(method or ("GET" if data is None else "POST"), path, data, headers or {})
        return connection.getresponse()

    def ask(self, path: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        """Status and JSON of a response."""
        response = self.send(path, body, headers)
        data = response.read()
        return response.status, json.loads(data) if data.startswith((b"{", b"[")) else data.decode()

    def stream(self, path: str, body: Any) -> list[Any]:
        """The JSON of each line of a stream, of server-sent events without the last word."""
        text = self.send(path, body).read().decode()
        lines = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith(("data: ", "{"))]
        if "data: " in text and path != "/v1/responses":
            assert lines.pop() == "[DONE]", text
        return [json.loads(line) for line in lines]

    def metric(self, name: str) -> float:
        """The value of a line of /metrics."""
        text = self.send("/metrics").read().decode()
        return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name))


@contextmanager
def server(home: Path, models: Sequence[Path], *options: str, port: int = 0) -> Iterator[Client]:
    """`likely serve` of these models, until the block ends; port 0 is a free one."""
    named = [word for model in models for word in ("-M", str(model))]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "LIKELY_HOME": str(home)}
    process = subprocess.Popen(
        [sys.executable, "-m", "likely.app", "serve", *named, "--port", str(port), "--only", *options],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        assert "likely serves" in line, line + process.stderr.read()
        yield Client(int(line.rpartition(":")[2]), process, home)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stderr.close()
