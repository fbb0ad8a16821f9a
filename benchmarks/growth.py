"""How SmolLM2's time a token grows with the context: a line, and its slope beside what the memory bandwidth gives.

    python benchmarks/growth.py [--rounds 5] [--contexts 128,512,1024,2048,4096,8128] [--bits 4]

In each round one place reads on from context to context and draws a few tokens at each, which are taken back. A
one-row product's bandwidth is measured in every round. One JSON line at the end.
"""

import argparse
import json
import sys
import time
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parent.parent))

DRAWN = 24  # tokens


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--contexts", default="128,512,1024,2048,4096,8128")
    parser.add_argument("--bits", type=int, choices=[4, 8])
    options = parser.parse_args()

    from benchmarks.decode import prompt
    from likely.engine.base.machine import hardware
    from likely.engine.decode.bench import Growth, cache_nbytes, plot
    from likely.engine.decode.loop.branches import Branches
    from likely.engine.decode.loop.control import RunControl
    from likely.engine.decode.loop.sampler import Sampler
    from likely.engine.decode.sampled.sample import Sample
    from likely.engine.decode.session import Session
    from likely.engine.sampling.trace.step import SamplingConfig
    from likely.engine.weights.sources.checkpoint import load

    session = Session(load("smollm2"))
    contexts = [int(part) for part in options.contexts.split(",")]
    ids = prompt(contexts[-1])
    times: dict[int, list[float]] = {context: [] for context in contexts}
    bandwidths = []
    for _ in range(options.rounds):
        bandwidths.append(hardware.bandwidth())
        place = Branches(session.model, session.model.make_cache(**({"bits": options.bits} if options.bits else {})))
        for context in contexts:
            for _ in place.read(ids[place.length : context]):
                pass
            control = RunControl(SamplingConfig(greedy=True))
            steps = Sample().steps(place, Sampler.start(control.recipe, place.ids), control, limit=DRAWN)
            at = [time.perf_counter() for _ in steps]
            times[context] += [b - a for a, b in pairwise(at)]
            place.rewind(context)
    token_ms = {context: 1e3 * median(seconds) for context, seconds in times.items()}
    held = {context: cache_nbytes(session, context) for context in contexts}
    bandwidth = median(bandwidths)
    growth = Growth.of(token_ms, held, bandwidth)
    assert growth is not None
    for line in plot(token_ms):
        print(line)
    figures = {"token_ms": token_ms, "bandwidth": bandwidth, **asdict(growth)}
    print(json.dumps({"benchmark": "growth", "model": "smollm2", **vars(options), **figures}))


if __name__ == "__main__":
    main()
