"""What it costs to observe a token: from logits before and after the transforms, every number of a step. One thread.

    python benchmarks/observe.py [--rounds 40]

Processor time, the least of the rounds, for vocabularies of 49,152 and 151,936 and three recipes; by numpy and by the
library of packed weights where it is built, by turns. One JSON line.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

VOCABULARIES = 49_152, 151_936
LIMIT_MS = {49_152: 0.3, 151_936: 0.7}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args()

    import numpy as np

    from likely.engine.sampling.trace import row
    from likely.engine.sampling.trace.observe import observe
    from likely.engine.sampling.trace.step import SamplingConfig
    from likely.engine.sampling.transforms import Temperature, TopK, TopP, run, start
    from likely.metal.malloc import giving_back

    with giving_back():  # as after a load: what numpy frees is kept for the next token
        pass
    recipes = {
        "none": SamplingConfig(),
        "temperature": SamplingConfig((Temperature(0.7),)),
        "top-k, top-p": SamplingConfig((TopK(40), TopP(0.9), Temperature(0.7))),
    }
    measures: dict[str, Callable[..., Any]] = {"numpy": row.by_numpy, "library": row.measured}
    figures: dict[str, Any] = {}
    for vocab in VOCABULARIES:
        rng = np.random.default_rng(0)
        raw = rng.normal(0, 3, vocab).astype(np.float32)
        recent = rng.integers(0, vocab, 64)
        times: dict[str, float] = {}
        for _ in range(options.rounds):
            for label, recipe in recipes.items():
                states = start(recipe.transforms, None, [], np)
                after, removed_by = run(recipe.transforms, raw, states, (0, 0), np)
                changed: dict[str, Any] = {"after": after, "removed_by": removed_by} if recipe.transforms else {}
                for name, measured in measures.items():
                    begin = time.process_time()
                    observe(measured(raw, 7, recent), 7, **changed, recipe=recipe, position=64)
                    spent = 1e3 * (time.process_time() - begin)
                    times[f"{name} {label}"] = min(times.get(f"{name} {label}", spent), spent)
        figures[str(vocab)] = {name: round(spent, 3) for name, spent in times.items()} | {"limit": LIMIT_MS[vocab]}
    print(json.dumps({"benchmark": "observe", "rounds": options.rounds, "ms": figures}))


if __name__ == "__main__":
    main()
