"""Decode and prefill speed beside mlx-lm, on the same weights of SmolLM2, in one run.

    python benchmarks/decode.py [--rounds 9] [--context 100] [--tokens 64] [--only likely,b,...]

The contestants are processes that take turns, one decode each, so that a stall of the machine falls on all alike:

    likely     the session as the chat uses it: probabilities collected for every token
    bare       likely's model alone, greedy, nothing collected: what the collecting costs
    b          mlx-lm with the float32 weights and the same OpenBLAS
    b+gemv     the same with our one-row products too: what is left is the engine
    a          mlx-lm as it installs: bfloat16 weights, the BLAS of mlx's wheel

Figures: lower quartile and median over rounds of seconds a token and seconds a prefill; ratios to `likely`; share of
what a numpy gemv over the same weight bytes reaches in the same run. One JSON line at the end.
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.peers import export

CONTESTANTS = ("likely", "bare", "b", "b+gemv", "a")


def worker(name: str, folder: Path) -> None:
    """Answer each line {context, tokens} on stdin with {prefill_s, token_s: [...]} on stdout."""
    run = {"likely": likely, "bare": bare}.get(name, mlx_lm)(name, folder)
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(run(**json.loads(line))), flush=True)


def prompt(context: int, vocab: int = 49152) -> list[int]:
    import numpy as np

    return [int(t) for t in np.random.default_rng(0).integers(100, vocab - 100, context)]


def likely(name: str, folder: Path) -> Any:
    from likely.engine.decode.loop.control import RunControl
    from likely.engine.decode.loop.events import Emitted
    from likely.engine.decode.session import Session
    from likely.engine.sampling.trace.step import SamplingConfig
    from likely.engine.weights.sources.checkpoint import load

    session = Session(load("smollm2"))
    session.tokenizer.eos = frozenset()

    def run(context: int, tokens: int) -> dict[str, Any]:
        session.forget()
        began, times = time.perf_counter(), []
        for event in session.generate(prompt(context), RunControl(SamplingConfig(greedy=True)), max_tokens=tokens):
            times += [time.perf_counter()] if isinstance(event, Emitted) else []
        return {"prefill_s": times[0] - began, "token_s": [b - a for a, b in pairwise(times)]}

    return run


def bare(name: str, folder: Path) -> Any:
    from likely.engine.weights.sources.checkpoint import load
    from likely.metal import mx

    model = load("smollm2").model

    def run(context: int, tokens: int) -> dict[str, Any]:
        cache, began, times = model.make_cache(), time.perf_counter(), []
        token = mx.argmax(model.head(model.hidden(mx.array([prompt(context)]), cache)[:, -1:])[:, -1], axis=-1)
        mx.async_eval(token)
        for _ in range(tokens):
            following = mx.argmax(model.head(model.hidden(token[None], cache))[:, -1], axis=-1)
            mx.async_eval(following)
            token.item()
            times.append(time.perf_counter())
            token = following
        return {"prefill_s": times[0] - began, "token_s": [b - a for a, b in pairwise(times)]}

    return run


def mlx_lm(name: str, folder: Path) -> Any:
    if name == "b":
        from likely.metal import blas

        blas._load_gemv = lambda library: (None, False)
        blas.load()
    elif name == "b+gemv":
        from likely.metal import blas

        blas.load()
    import mlx.core as mx
    from mlx_lm.generate import generate_step
    from mlx_lm.utils import load_model

    if name != "a":
        mx.disable_compile()
    model, _ = load_model(folder / ("bfloat16" if name == "a" else "float32"))

    def run(context: int, tokens: int) -> dict[str, Any]:
        began, times = time.perf_counter(), []
        for _token, _ in generate_step(mx.array(prompt(context)), model, max_tokens=tokens):
            times.append(time.perf_counter())
        return {"prefill_s": times[0] - began, "token_s": [b - a for a, b in pairwise(times)]}

    return run


def gemv_bandwidth(nbytes: int = 1 << 29) -> list[float]:
    """Seconds that numpy's gemv needs for `nbytes` of float32 weights in matrices of SmolLM2's sizes, repeated."""
    import numpy as np

    rows = 49152
    weights = [np.ones((rows, 576), np.float32) for _ in range(nbytes // (rows * 576 * 4))]
    x, times = np.ones(576, np.float32), []
    for _ in range(7):
        began = time.perf_counter()
        for w in weights:
            w @ x
        times.append((time.perf_counter() - began) / (len(weights) * rows * 576 * 4))
    return times


def quartiles(values: list[float]) -> tuple[float, float]:
    values = sorted(values)
    return values[len(values) // 4], values[len(values) // 2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--context", type=int, default=100)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--only", default=",".join(CONTESTANTS))
    parser.add_argument("--worker")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "likely-bench-smollm2")
    options = parser.parse_args()
    if options.worker:
        return worker(options.worker, options.folder)
    for dtype in ("float32", "bfloat16"):
        export(options.folder, dtype)
    names = options.only.split(",")
    processes = {
        name: subprocess.Popen(
            [sys.executable, __file__, "--worker", name, "--folder", str(options.folder)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent.parent,
        )
        for name in names
    }  # fmt: skip
    for process in processes.values():
        assert process.stdout is not None and process.stdout.readline().strip() == "ready"
    results: dict[str, dict[str, list[float]]] = {name: {"prefill_s": [], "token_s": []} for name in names}
    slow = 3 if "a" in names else 0
    for round_ in range(options.rounds):
        for name, process in processes.items():
            if name == "a" and round_ >= slow:
                continue
            assert process.stdin is not None and process.stdout is not None
            tokens = min(options.tokens, 8) if name == "a" else options.tokens
            process.stdin.write(json.dumps({"context": options.context, "tokens": tokens}) + "\n")
            process.stdin.flush()
            answer = json.loads(process.stdout.readline())
            if round_:  # the first round warms up
                results[name]["prefill_s"].append(answer["prefill_s"])
                results[name]["token_s"] += answer["token_s"]
    bandwidth = 1 / quartiles(gemv_bandwidth())[0]
    weights = sum(p.stat().st_size for p in (options.folder / "float32").glob("*.safetensors"))
    figures: dict[str, Any] = {}
    print(f"context {options.context}, {options.tokens} tokens, numpy gemv {bandwidth / 1e9:.1f} GB/s", flush=True)
    for name in names:
        low, median = quartiles(results[name]["token_s"])
        fill, fill_median = quartiles(results[name]["prefill_s"])
        base, base_fill = (quartiles(results[names[0]][key])[0] for key in ("token_s", "prefill_s"))
        figures[name] = {
            "token_ms": [round(1e3 * low, 2), round(1e3 * median, 2)],
            "prefill_ms": [round(1e3 * fill, 1), round(1e3 * fill_median, 1)],
            "decode_ratio": round(low / base, 3),
            "prefill_ratio": round(fill / base_fill, 3),
            "of_gemv": round(weights / low / bandwidth, 3),
        }
        print(f"{name:>8}  {json.dumps(figures[name])}", flush=True)
    for process in processes.values():
        process.terminate()
    print(json.dumps({"machine": platform.machine(), "model": "smollm2", "context": options.context, **figures}))


if __name__ == "__main__":
    main()
