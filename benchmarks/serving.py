"""`likely serve` beside mlx_lm.server: the same weights, by turns in one run; that with our BLAS, and as it comes.

Eight chats at once: tokens a second by the clock and by the server's processor time, and the time to the first token.
One stream alone: processor time a token beside `Session.generate` in a process of its own, which is `likely run`.

    python -m benchmarks.serving [--rounds 3] [--tokens 48] [--chats 8]
"""

import argparse
import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.peers import export
from tests.processes import ROOT, free_ports

TICK = os.sysconf("SC_CLK_TCK")
TOPICS = ["a river", "bread", "the moon", "a bicycle", "winter", "a lighthouse", "music", "an old map"]
OURS: set[int] = set()  # ports
PEERS = {
    "mlx_lm": "from likely.metal import mx; from mlx_lm.server import main; main()",  # behind the BLAS that we load
    "mlx_lm_own": "from mlx_lm.server import main; main()",  # MLX's own, which on Linux is a reference
}


def processor_s(pid: int) -> float:
    """Seconds of processor time that a process has taken, in all of its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


@contextmanager
def served(kind: str, model: str) -> Iterator[tuple[int, int]]:
    """Port and process of a server that is ready."""
    (port,) = free_ports(1)
    OURS.update([] if kind in PEERS else [port])
    words = (
        ["-m", "likely.app", "serve", "-M", model, "--only", "-q"]
        if kind not in PEERS
        else ["-c", PEERS[kind], "--model", model]
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, *words, "--port", str(port)], env=environment, stdout=log, stderr=log
        )
        try:
            for _ in range(1200):
                try:
                    chat(port, model, "Hi", 2)
                    break
                except OSError:
                    time.sleep(0.1)
                    if process.poll() is not None:
                        log.seek(0)
                        raise RuntimeError(log.read().decode()[-2000:]) from None
            yield port, process.pid
        finally:
            process.kill()
            process.wait()


def chat(port: int, model: str, question: str, tokens: int) -> tuple[float, int]:
    """Seconds to the first token of a streamed chat, and how many tokens came."""
    body: dict[str, Any] = {
        "messages": [{"role": "user", "content": question}],
        "max_tokens": tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
        "logit_bias": {"2": -100},  # no answer ends before its time
    }
    if "/" in model:  # by mlx-lm's name: ours takes its first
        body |= {"model": "default_model"} if port not in OURS else {}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    began = time.perf_counter()
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
    response = connection.getresponse()
    if response.status != 200:
        raise RuntimeError(f"{response.status}: {response.read()[:500]!r}")
    first, count = 0.0, 0
    for line in response:
        if not line.startswith(b"data: {"):
            continue
        event = json.loads(line[6:])
        if event.get("choices") and event["choices"][0]["delta"].get("content"):
            first = first or time.perf_counter() - began
        if event.get("usage"):
            count = event["usage"]["completion_tokens"]
    return first, count


def at_once(port: int, pid: int, model: str, chats: int, tokens: int, turn: int) -> dict[str, float]:
    """Eight chats: tokens a second by the clock, by processor time, and the median time to the first token."""
    questions = [f"Write a long story about {TOPICS[i % len(TOPICS)]} ({turn})." for i in range(chats)]
    spent, began = processor_s(pid), time.perf_counter()
    with ThreadPoolExecutor(chats) as pool:
        timings = list(pool.map(lambda question: chat(port, model, question, tokens), questions))
    drawn = sum(count for _, count in timings)
    return {
        "tokens": drawn,
        "tokens_per_s": drawn / (time.perf_counter() - began),
        "tokens_per_processor_s": drawn / (processor_s(pid) - spent),
        "first_s": median(first for first, _ in timings),
    }


def alone(model: str, tokens: int) -> float:
    """Processor time of a token of `likely run`, without its prompt."""
    code = f"""
import time
from likely.app.cli.options.opening import open_session
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.events import Emitted
from likely.engine.sampling.presets import recipe
from likely.engine.decode.prompt import single_turn
session = open_session({model!r})
for turn in range(2):
    ids = single_turn(f"Write a long story about bread ({{turn}}).", session.tokenizer).ids(session.tokenizer)
    control = RunControl(recipe({{"temp": 0.0}}, bias={{2: -100.0}}))
    count = 0
    for event in session.generate(ids, control, max_tokens={tokens}):
        if isinstance(event, Emitted):
            count += 1
            if count == 1:
                began = time.process_time()
print((time.process_time() - began) / (count - 1))
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return float(
        subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True).stdout
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--chats", type=int, default=8)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "likely-bench-packed")
    parser.add_argument("--without", action="append", default=[], help="likely, packed, mlx_lm or mlx_lm_own")
    options = parser.parse_args()
    folder = str(export(options.folder, "float32"))
    servers = {"likely": folder, "packed": "smollm2", **dict.fromkeys(PEERS, folder)}
    servers = {kind: model for kind, model in servers.items() if kind not in options.without}
    figures: dict[str, list[dict[str, float]]] = {kind: [] for kind in servers}
    single: dict[str, list[float]] = {"serve": [], "run": []}
    for turn in range(options.rounds):
        for kind, model in servers.items():
            with served(kind, model) as (port, pid):
                figures[kind].append(at_once(port, pid, model, options.chats, options.tokens, turn))
                if kind == "packed":
                    chat(port, model, "Write a long story about bread (0).", 4)
                    few, many = (timed(port, pid, model, n) for n in (8, 8 + 2 * options.tokens))
                    single["serve"].append((many - few) / (2 * options.tokens))
        if "packed" in servers:
            single["run"].append(alone("smollm2", 2 * options.tokens))
    medians: dict[str, Any] = {
        kind: {k: median(r[k] for r in rounds) for k in rounds[0]} for kind, rounds in figures.items()
    }
    for kind in ("likely", "packed"):
        for name in PEERS.keys() & medians.keys() if kind in medians else ():
            peer = medians[name]
            medians[f"{kind}_over_{name}"] = {k: medians[kind][k] / peer[k] for k in peer if k != "tokens"}
    if single["run"]:
        medians["one_stream"] = {k: median(v) for k, v in single.items()}
        medians["one_stream"]["serve_over_run"] = medians["one_stream"]["serve"] / medians["one_stream"]["run"]
    print(json.dumps({"tokens": options.tokens, "chats": options.chats, "rounds": options.rounds, **medians}))


def timed(port: int, pid: int, model: str, tokens: int) -> float:
    """Processor time of the server for one stream."""
    began = processor_s(pid)
    chat(port, model, "Write a long story about bread (1).", tokens)
    return processor_s(pid) - began


if __name__ == "__main__":
    main()
