"""Several processes over mlx's ring on this machine, as `mlx.launch` would start them; and one of so many threads."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


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
