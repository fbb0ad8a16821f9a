"""What sharing a model between processes costs and saves: bytes that each rank reads, and tokens a second.

    python benchmarks/ranks.py [--ranks 3] [--parallel tensor] [--model smollm2] [--tokens 16]

The ranks are processes of this machine over mlx's ring on loopback: they share its cores and its memory's bandwidth, so
the speed says what the exchange costs, never what two machines would give. One JSON line at the end.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, default=3)
    parser.add_argument("--parallel", choices=["tensor", "pipeline"], default="tensor")
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--tokens", type=int, default=16)
    options = parser.parse_args()
    if "MLX_RANK" in os.environ:
        print(json.dumps(measure(options)))
        return
    alone = run(1, sys.argv[1:])[0]
    ranks = run(options.ranks, sys.argv[1:])
    assert all(rank["ids"] == alone["ids"] for rank in ranks), "the ranks drew other tokens"
    figures = {
        "read_nbytes": {"alone": alone["read_nbytes"], "ranks": [rank["read_nbytes"] for rank in ranks]},
        "tokens_per_s": {"alone": alone["tokens_per_s"], "ranks": ranks[0]["tokens_per_s"]},
    }
    print(json.dumps({"benchmark": "ranks", **vars(options), **figures}))


def run(count: int, words: list[str]) -> list[dict[str, Any]]:
    """What each of so many processes measured."""
    with tempfile.TemporaryDirectory() as folder:
        hosts = Path(folder) / "hosts.json"
        sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
        hosts.write_text(json.dumps([[f"127.0.0.1:{listener.getsockname()[1]}"] for listener in sockets]))
        for listener in sockets:
            listener.close()
        where = {**os.environ, "MLX_HOSTFILE": str(hosts)}
        command = [sys.executable, __file__, *words]
        ranks = [
            subprocess.Popen(command, env={**where, "MLX_RANK": str(rank)}, stdout=subprocess.PIPE, text=True)
            for rank in range(count)
        ]
        return [json.loads(rank.communicate()[0].splitlines()[-1]) for rank in ranks]


def measure(options: argparse.Namespace) -> dict[str, Any]:
    from benchmarks.decode import prompt
    from likely.engine.base.distributed.launch import launched
    from likely.engine.base.distributed.together import join
    from likely.engine.decode.loop.control import RunControl
    from likely.engine.decode.loop.events import Done, Emitted
    from likely.engine.decode.session import Session
    from likely.engine.weights.sources.checkpoint import Partition, load

    launch = launched()
    ranks = None if launch is None else join(launch, lambda end: os._exit(1))
    before = read()
    checkpoint = load(options.model, parting=None if ranks is None else Partition(ranks, options.parallel))
    nbytes = read() - before
    session, ids, done = Session(checkpoint, ranks=ranks), [], None
    for event in session.generate(prompt(32), RunControl(), max_tokens=options.tokens):
        if isinstance(event, Emitted):
            ids.append(event.step.token)
        elif isinstance(event, Done):
            done = event
    assert done is not None
    if ranks is not None:
        ranks.finish()
    return {"read_nbytes": nbytes, "tokens_per_s": round(done.stats.tokens_per_s, 2), "ids": ids}


def read() -> int:
    """Bytes that this process has asked the system for."""
    return int(Path("/proc/self/io").read_text().split()[1])


if __name__ == "__main__":
    main()
