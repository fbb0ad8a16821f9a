"""Bytes of SmolLM2's cache after a long prompt and the peak memory of reading it: packed to 4 and 8 bits, and as it is.

    python benchmarks/kvcache.py [--context 4000] [--dtype float32] [--rounds 3]

Every measurement is a process of its own: the peak is the most that it ever held. `nbytes_16` are the bytes of such a
cache with as many bfloat16 rows, as a GPU has it, room to grow included. A CPU computes in float32, where the cache as
it is takes twice that: `peak_below_16` first takes the surplus off the peak of the cache as it is. With `--dtype
bfloat16` nothing has to be taken off, and mlx's scalar arithmetic takes half an hour. One JSON line at the end.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

KINDS: dict[str, dict[str, Any]] = {"as it is": {}, "8 bits": {"bits": 8}, "4 bits": {"bits": 4}}
DECODED = 16  # tokens


def worker(kind: str, context: int, dtype: str) -> dict[str, Any]:
    """Read a prompt and go on a few tokens, in this process."""
    from benchmarks.decode import prompt
    from likely.engine.base.machine import hardware
    from likely.engine.decode.loop.branches import Branches
    from likely.engine.weights.sources.checkpoint import load
    from likely.engine.weights.sources.gguf.precision import Precision
    from likely.metal import mx

    model = load("smollm2", precision=Precision(getattr(mx, dtype), packed=False)).model
    place = Branches(model, model.make_cache(**KINDS[kind]))
    loaded = hardware.peak_memory()
    began = time.perf_counter()
    for _ in place.read(prompt(context)):
        pass
    read_s = time.perf_counter() - began
    nbytes = place.cache.nbytes
    peak = hardware.peak_memory()
    began = time.perf_counter()
    for _ in range(DECODED):
        place.feed([mx.argmax(place.logits())])
        mx.eval(place.logits())
    token_s = (time.perf_counter() - began) / DECODED
    nbytes_16 = filled(model.make_cache(**KINDS[kind]), model.config, context)
    return {
        "nbytes": nbytes, "nbytes_16": nbytes_16, "peak": peak, "loaded": loaded, "read_s": read_s, "token_s": token_s
    }  # fmt: skip


def filled(cache: Any, config: Any, context: int) -> int:
    """Bytes of a cache that has been given bfloat16 rows of so many tokens, as a prompt gives them."""
    from likely.engine.decode.loop.branches import CHUNK
    from likely.metal import mx

    for start in range(0, context, CHUNK):
        rows = mx.zeros((1, config.kv_heads, min(CHUNK, context - start), config.head_size), mx.bfloat16)
        for layer in cache.layers:
            layer.append(rows, rows)
    return int(cache.nbytes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--context", type=int, default=4000)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--worker", choices=list(KINDS))
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(worker(options.worker, options.context, options.dtype)))
        return

    runs: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
    for _ in range(options.rounds):
        for kind, reports in runs.items():
            command = [sys.executable, __file__, "--worker", kind, "--dtype", options.dtype]
            command += ["--context", str(options.context)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            reports.append(json.loads(done.stdout.splitlines()[-1]))
    figures = {
        kind: {name: median(report[name] for report in reports) for name in reports[0]}
        for kind, reports in runs.items()
    }
    plain = figures["as it is"]
    half = plain["peak"] - (plain["nbytes"] - plain["nbytes_16"])
    for kind, f in figures.items():
        f["of_16"] = f["nbytes_16"] / plain["nbytes_16"]
        f["peak_below_16"] = half - f["peak"]
        print(
            f"{kind:<9} cache {f['nbytes'] / 1e6:6.1f} MB, of bfloat16 rows {f['nbytes_16'] / 1e6:5.1f} MB "
            f"({f['of_16']:.3f}); peak {f['peak'] / 1e6:6.0f} MB (loaded {f['loaded'] / 1e6:.0f}); read in "
            f"{f['read_s']:.1f} s, {1e3 * f['token_s']:.1f} ms a token"
        )
    print(json.dumps({"benchmark": "kvcache", "model": "smollm2", **vars(options), "figures": figures}))


if __name__ == "__main__":
    main()
