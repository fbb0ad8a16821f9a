"""Counts and errors of our Metal kernels beside MLX's own in the simulator, against their targets.

    python benchmarks/kernels.py [part of a case's name]
    python benchmarks/kernels.py --errors [seeds]

Bytes and operations are exact; there is no time in it, for nothing here runs on a GPU. One JSON line at the end.
Errors are the largest against float64, in float32; one is beyond where it is above 1.25 times the other's and a unit in
the last place, which is what the target allows ours.
"""

import dataclasses
import json
import math
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from likely.metal.counts import table

SIZES = ((1, 33, 64), (1, 200, 64), (1, 511, 64), (1, 90, 128), (17, 17, 64), (33, 70, 64), (32, 96, 128))  # T, N, D


def counts(only: str) -> dict[str, Any]:
    """Every case whose name contains `only`."""
    rows = []
    for row in table(only):
        rows.append(row)
        print(f"{row.case}: {row.ours.distinct} bytes, {row.minimum} at least; {row.ours.states} between launches")
        for target in row.targets:
            print(
                f"    {'ok  ' if target.reached else 'MISS'} {target.what}: {target.got:.4f} (limit {target.limit:.4f})"
            )
    missed = [f"{row.case}: {t.what}" for row in rows for t in row.targets if not t.reached]
    targets = sum(len(row.targets) for row in rows)
    return {"targets": targets, "missed": missed, "rows": [dataclasses.asdict(row) for row in rows]}


def errors(seeds: int) -> dict[str, Any]:
    """Of each kind of input, over seeds and sizes."""
    from tests.metal.test_errors import MAKERS

    print(f"{'':<14} {'':<8} {'rms of the errors, ulp':>24} {'beyond the other':>24}")
    print(f"{'':<14} {'':<8} {'ours':>12} {'stock':>11} {'ours':>12} {'stock':>11}")
    rows = [_errors(maker, kind, seeds) for kind in ("decode", "prefill") for maker in MAKERS]
    return {"seeds": seeds, "rows": rows}


def _errors(maker: Callable[..., Any], kind: str, seeds: int) -> dict[str, Any]:
    from likely.metal import mx
    from tests.metal.test_errors import compared

    sizes = [size for size in SIZES if (size[0] == 1) == (kind == "decode")]
    pairs = [compared(*maker(7 * s + 3, 4, t, n, d, dtype=mx.float32)) for t, n, d in sizes for s in range(seeds)]
    ours, theirs = (math.sqrt(sum((f[i] / f[2]) ** 2 for f in pairs) / len(pairs)) for i in (0, 1))
    beyond = sum(o > 1.25 * s + unit for o, s, unit in pairs) / len(pairs)
    stock_beyond = sum(s > 1.25 * o + unit for o, s, unit in pairs) / len(pairs)
    print(f"{maker.__name__:<14} {kind:<8} {ours:>12.2f} {theirs:>11.2f} {beyond:>12.2%} {stock_beyond:>11.2%}")
    figures = {"ours": ours, "stock": theirs, "beyond": beyond, "stock_beyond": stock_beyond}
    return {"inputs": maker.__name__, "kind": kind, "cases": len(pairs), **figures}


def main() -> int:
    part = sys.argv[1] if len(sys.argv) > 1 else ""
    result = errors(int(sys.argv[2]) if len(sys.argv) > 2 else 50) if part == "--errors" else counts(part)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout
    machine = f"simulator on {platform.machine()}"
    print(json.dumps({"benchmark": "kernels", "commit": commit.strip(), "machine": machine, **result}))
    return bool(result.get("missed"))


if __name__ == "__main__":
    sys.exit(main())
