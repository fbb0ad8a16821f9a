"""Eight answers to one 512-token prompt of SmolLM2: ours side by side, mlx-lm eight times, and mlx-lm's own batch.

    python benchmarks/batch.py [--rounds 3] [--tokens 32] [--answers 8] [--context 512]

One process, so the same float32 weights, BLAS and device for all; they take turns, and the first round warms up.
Figures: median seconds, and how many times longer than ours. One JSON line at the end.
"""

import argparse
import json
import sys
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parent.parent))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--answers", type=int, default=8)
    parser.add_argument("--context", type=int, default=512)
    options = parser.parse_args()

    from benchmarks.decode import prompt
    from likely.engine.decode.bench import EngineContestant
    from likely.engine.decode.session import Session
    from likely.engine.weights.mlx_lm_baseline import MlxLm
    from likely.engine.weights.sources.checkpoint import load

    checkpoint = load("smollm2")
    ours, peer = EngineContestant(Session(checkpoint)), MlxLm(checkpoint.info, checkpoint.precision.dtype)
    ids, n, tokens = prompt(options.context), options.answers, options.tokens

    def one_after_another() -> float:
        runs = [peer.decode(ids, tokens) for _ in range(n)]
        return sum(first + sum(rest) for first, rest in runs)

    contestants = {
        "likely": lambda: ours.batch(ids, n, tokens),
        "mlx-lm batch": lambda: peer.batch(ids, n, tokens),
        "mlx-lm in turn": one_after_another,
    }
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for round_ in range(options.rounds + 1):
        for name, run in contestants.items():
            took = run()
            if round_:
                seconds[name].append(took)
                print(f"{name:>15} {took:7.2f} s", flush=True)
    base = median(seconds["likely"])
    figures = {name: {"s": round(median(s), 3), "ratio": round(median(s) / base, 2)} for name, s in seconds.items()}
    print(json.dumps({"benchmark": "batch", "model": "smollm2", **vars(options), **figures}))


if __name__ == "__main__":
    main()
