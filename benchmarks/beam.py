"""Eight beams after a 512-token prompt of SmolLM2 against eight samples side by side, and what a step's choice costs.

    python benchmarks/beam.py [--rounds 3] [--tokens 64] [--beams 8] [--context 512]

One process, so the same weights, BLAS and device for both; they take turns, and the first round warms up. Figures: the
median of the rounds' ratios of decoding time, the ratio of the most bytes of their keys and values, the median of the
ratios of 16 runs in turn, which share what was read of the prompt, to a vote of 16 (processor time of the whole
process, from the prompt on), and the median of the processor's milliseconds in which the candidates of eight beams over
152,064 tokens are found and sifted, log-softmax and observation left out. One JSON line.
"""

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from statistics import median
from time import perf_counter, process_time, thread_time

sys.path.insert(0, str(Path(__file__).parent.parent))

VOCABULARY = 152_064


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--beams", type=int, default=8)
    parser.add_argument("--context", type=int, default=512)
    options = parser.parse_args()

    from benchmarks.decode import prompt
    from engine.decode.beam import Beam
    from engine.decode.control import RunControl
    from engine.decode.events import Emitted
    from engine.decode.sample import Sample
    from engine.decode.several import Vote
    from engine.decode.strategy import Strategy
    from engine.session import Session
    from engine.sources.checkpoint import load

    session = Session(load("smollm2"))
    session.tokenizer.eos = frozenset()  # both draw as many tokens
    ids = prompt(options.context)

    def decode(strategy: Strategy, n: int) -> tuple[float, int]:
        """Seconds from the first token on, and the most bytes of keys and values."""
        session.forget()
        began, most = 0.0, 0
        for event in session.generate(ids, RunControl(), n=n, max_tokens=options.tokens, strategy=strategy):
            if isinstance(event, Emitted):
                began = began or perf_counter()
                most = max(most, session.cache_nbytes)
        return perf_counter() - began, most

    def draw(strategy: Strategy, seeds: range) -> float:
        """The processor's seconds for a run with each seed."""
        session.forget()
        began = process_time()
        for seed in seeds:
            for _ in session.generate(ids, RunControl(), seed=seed, max_tokens=options.tokens, strategy=strategy):
                pass
        return process_time() - began

    ratios, votes = [], []
    for round_ in range(options.rounds + 1):
        (samples, held), (beams, most) = decode(Sample(), options.beams), decode(Beam(options.beams, 0.0, "never"), 1)
        turns, vote = draw(Sample(), range(16)), draw(Vote(16), range(1))
        print(f"in turn {turns:7.2f} s   vote  {vote:7.2f} s", flush=True)
        print(f"samples {samples:7.2f} s   beams {beams:7.2f} s", flush=True)
        if round_:
            ratios.append(beams / samples)
            votes.append(turns / vote)
    figures = {
        "beams_to_samples": round(median(ratios), 3), "memory": round(most / held, 3),
        "turns_to_vote": round(median(votes), 2), "choice_ms": round(choice(options.beams), 2),
    }  # fmt: skip
    print(json.dumps({"benchmark": "beam", "model": "smollm2", **vars(options), **figures}))


def choice(beams: int, times: int = 50) -> float:
    """The processor's milliseconds for a step's choice, median."""
    import numpy as np

    from engine.decode.beam import Beam
    from engine.decode.search import Group, NextTokens, SearchNode

    rows = np.random.default_rng(0).normal(size=(beams, VOCABULARY)).astype(np.float32)
    found = NextTokens(None, rows, rows, [], [])  # type: ignore[arg-type]
    strategy, took = Beam(beams), []
    for _ in range(times):
        group = Group(beams, [SearchNode(-float(i), -float(i), i, 0) for i in range(beams)])
        began = thread_time()
        nodes = strategy.children(group, found, 1, Counter())
        strategy.sift(group, nodes, [False] * len(nodes))
        took.append(1e3 * (thread_time() - began))
    return median(took)


if __name__ == "__main__":
    main()
