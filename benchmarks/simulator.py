"""What simulating a Metal kernel costs: compiling, dispatching, checking, on MLX's decode attention.

    python benchmarks/simulator.py [--keys 1024]

Times are the least of several runs of `sdpa_vector` in float16 (8 heads, D 64); the caches are empty at first, so
`prepare` makes the precompiled header and the runtime, and `first` compiles the kernel. One JSON line at the end.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from likely.metal import mx
from likely.metal.simulator import compiler, stock

HEADS, WIDTH = 8, 64


def least(act: Callable[[], object], runs: int) -> float:
    """Seconds of the fastest of several runs."""
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        act()
        times.append(time.perf_counter() - began)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--keys", type=int, default=1024)
    keys = parser.parse_args().keys
    q = mx.random.normal((1, HEADS, 1, WIDTH)).astype(mx.float16)
    k = mx.random.normal((1, HEADS, keys, WIDTH)).astype(mx.float16)
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LIKELY_SIMULATOR_CACHE"] = folder
        for checked in (False, True):
            name = "checked" if checked else "plain"
            figures[f"prepare_{name}_s"] = least(lambda checked=checked: compiler.prepare(checked), 1)
            figures[f"first_{name}_s"] = least(
                lambda checked=checked: stock.sdpa_vector(q, k, k, 0.1, checked=checked), 1
            )
            seconds = least(lambda checked=checked: stock.sdpa_vector(q, k, k, 0.1, checked=checked), 9)
            figures[f"run_{name}_s"] = seconds
    # a lane stops at each reduction, one for each key, and in the merge of 32 simdgroups at 4 of them and 5 barriers
    switches = HEADS * 32 * (keys + 32 * (4 + 5))
    figures["plain_ns_per_switch"] = figures["run_plain_s"] / switches * 1e9
    figures["checked_over_plain"] = figures["run_checked_s"] / figures["run_plain_s"]
    for name, value in figures.items():
        print(f"{name:24} {value:10.4f}")
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout
    rounded = {name: round(value, 5) for name, value in figures.items()}
    machine = f"{platform.machine()}, {os.cpu_count()} cores"
    print(json.dumps({"benchmark": "simulator", "commit": commit.strip(), "machine": machine, "keys": keys, **rounded}))


if __name__ == "__main__":
    main()
