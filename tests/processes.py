"""Several processes over mlx's ring on this machine, as `mlx.launch` would start them; and one of so many threads."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from random import SystemRandom
from typing import Any

ROOT = Path(__file__).parents[1]


def free_ports(count: int) -> list[int]:
    """Ports in a row that were free a moment ago, below those that a system gives to who asks for any. Each process of
    a run takes them from a thousand of its own: another one would find the same ones free before they are used."""
    share = 20_000 + 1000 * (int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 12)
    while True:
        first = SystemRandom().randrange(share, share + 1000 - count)
        ports = list(range(first, first + count))
        try:
            with ExitStack() as stack:
                for port in ports:
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return ports
        except OSError:  # one of them is taken
            continue


def start(ranks: int, folder: Path, arguments: Sequence[str], **environment: str) -> list[subprocess.Popen[str]]:
    """`python ARGUMENTS` as each of the ranks; their output is text, and their input a pipe."""
    hosts = folder / "hosts.json"
    hosts.write_text(json.dumps([[f"127.0.0.1:{port}"] for port in free_ports(ranks)]))
    shared = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "MLX_HOSTFILE": str(hosts)}
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    words, own = [sys.executable, *arguments], shared | environment
    return [subprocess.Popen(words, env={**own, "MLX_RANK": str(rank)}, text=True, **pipes) for rank in range(ranks)]


def finish(processes: Sequence[subprocess.Popen[str]]) -> list[tuple[int, str, str]]:
    """Exit code, stdout and stderr of each; all are ended where they are not waited for any more."""
    try:
        return [(p.returncode, *said) for p in processes for said in [p.communicate()]]
    finally:
        for process in processes:
            process.kill()
            process.wait()


def by_threads(code: str, threads: int) -> bytes:
    """What a text in Python writes where products have so many threads, which it is told."""
    environment = os.environ | {"OPENBLAS_NUM_THREADS": str(threads)}
    run = subprocess.run([sys.executable, "-c", code, str(threads)], capture_output=True, env=environment)
    assert run.returncode == 0, run.stderr.decode()
    return run.stdout
