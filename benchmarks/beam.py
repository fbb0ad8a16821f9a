"""Eight beams after a 512-token prompt of SmolLM2 against eight samples side by side, and what a step's choice costs.

    python benchmarks/beam.py [--rounds 3] [--tokens 64] [--beams 8] [--context 512] [--torch PYTHON] [--folder DIR]

One process, so the same weights, BLAS and device for both; they take turns, and the first round warms up. Figures: the
median of the rounds' ratios of the processor's decoding time, the ratio of the most bytes of their keys and values, the
medians of the ratios of 16 runs in turn to a vote of 16 (processor time of the process, from the prompt on), where each
run reads the prompt by itself as a program of its own would, and where they share what was read of it, and the median
of the processor's milliseconds in which the candidates of eight beams over 152,064 tokens are found and sifted,
log-softmax and observation left out.

With `--torch`, a Python that has torch and transformers: `generate(num_beams=...)` on a CPU with the same weights in
float32, in a process of its own, one thread, by turns: its processor time, prompt included, over ours for the same
search, and whether both find the same text. One JSON line.
"""

import argparse
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from statistics import median
from time import process_time, thread_time

sys.path.insert(0, str(Path(__file__).parent.parent))

VOCABULARY = 152_064


class Transformers:
    """The peer's process: it answers a line of ids with its processor's seconds and the ids of its best text."""

    def __init__(self, python: str, folder: Path, beams: int, tokens: int) -> None:
        command = [python, "-P", __file__, "--serve", str(folder), "--beams", str(beams), "--tokens", str(tokens)]
        # -P: a file here has the name of a package that transformers looks for
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": ""}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)

    def search(self, ids: list[int]) -> tuple[float, list[int]]:
        assert self.process.stdin is not None and self.process.stdout is not None
        print(json.dumps(ids), file=self.process.stdin, flush=True)
        seconds, best = json.loads(self.process.stdout.readline())
        return seconds, best


def serve(folder: str, beams: int, tokens: int) -> None:
    """The peer's side; imports nothing of ours."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    model.generation_config.eos_token_id = None
    for line in sys.stdin:
        ids = torch.tensor([json.loads(line)])
        began = process_time()
        out = model.generate(
            ids, attention_mask=torch.ones_like(ids), num_beams=beams, do_sample=False, length_penalty=0.0,
            early_stopping="never", max_new_tokens=tokens, pad_token_id=0,
        )  # fmt: skip
        print(json.dumps([process_time() - began, out[0, ids.shape[1] :].tolist()]), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--beams", type=int, default=8)
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--torch", metavar="PYTHON")
    parser.add_argument("--folder", type=Path, default=Path("peers"))
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.beams, options.tokens)
        return

    from benchmarks.decode import prompt
    from likely.engine.decode.loop.control import RunControl
    from likely.engine.decode.loop.events import Emitted, Forked, Pruned, Rated
    from likely.engine.decode.loop.strategy import Strategy
    from likely.engine.decode.sampled.sample import Sample
    from likely.engine.decode.sampled.several import Vote
    from likely.engine.decode.searches.beam import Beam
    from likely.engine.decode.session import Session
    from likely.engine.weights.sources.checkpoint import load

    session = Session(load("smollm2"))
    session.tokenizer.eos = frozenset()  # both draw as many tokens
    ids = prompt(options.context)

    def decode(strategy: Strategy, n: int) -> tuple[float, int]:
        """The processor's seconds from the first token on, and the most bytes of keys and values."""
        session.forget()
        began, most = 0.0, 0
        for event in session.generate(ids, RunControl(), n=n, max_tokens=options.tokens, strategy=strategy):
            if isinstance(event, Emitted):
                began = began or process_time()
                most = max(most, session.cache_nbytes)
        return process_time() - began, most

    def draw(strategy: Strategy, seeds: range, *, alone: bool = False) -> float:
        """The processor's seconds for a run with each seed; `alone`, none of them has what another one has read."""
        session.forget()
        began = process_time()
        for seed in seeds:
            if alone:
                session.forget()
            for _ in session.generate(ids, RunControl(), seed=seed, max_tokens=options.tokens, strategy=strategy):
                pass
        return process_time() - began

    def best() -> tuple[float, list[int]]:
        """The processor's seconds for a search, prompt included, and the ids of its best text."""
        session.forget()
        began, steps, ratings = process_time(), dict[int, list[int]](), dict[int, float]()
        strategy = Beam(options.beams, 0.0, "never")
        for event in session.generate(ids, RunControl(), max_tokens=options.tokens, strategy=strategy):
            match event:
                case Forked(parent, child):
                    steps[child] = list(steps.get(parent, ()))
                case Emitted(branch, step):
                    steps.setdefault(branch, []).append(step.token)
                case Pruned(branch):
                    ratings.pop(branch, None)
                case Rated(branch, figures):
                    ratings[branch] = figures["score"]
        return process_time() - began, steps[max(ratings, key=lambda branch: ratings[branch])]

    peer = None
    if options.torch:
        from benchmarks.peers import export

        peer = Transformers(options.torch, export(options.folder, "float32"), options.beams, options.tokens)
    ratios, votes, alone, peers, same = [], [], [], [], True
    for round_ in range(options.rounds + 1):
        (samples, held), (beams, most) = decode(Sample(), options.beams), decode(Beam(options.beams, 0.0, "never"), 1)
        turns, whole, vote = draw(Sample(), range(16)), draw(Sample(), range(16), alone=True), draw(Vote(16), range(1))
        print(f"in turn {turns:7.2f} s   each alone {whole:7.2f} s   vote  {vote:7.2f} s", flush=True)
        print(f"samples {samples:7.2f} s   beams {beams:7.2f} s", flush=True)
        if round_:
            ratios.append(beams / samples)
            votes.append(turns / vote)
            alone.append(whole / vote)
        if peer is not None:
            (theirs, theirs_found), (ours, ours_found) = peer.search(ids), best()
            print(
                f"transformers {theirs:7.2f} s   here {ours:7.2f} s   the same text: {theirs_found == ours_found}",
                flush=True,
            )
            same = same and theirs_found == ours_found
            peers += [theirs / ours] if round_ else []
    figures = {
        "beams_to_samples": round(median(ratios), 3), "memory": round(most / held, 3),
        "turns_to_vote": round(median(alone), 2), "sharing_turns_to_vote": round(median(votes), 2),
        "choice_ms": round(choice(options.beams), 2),
    }  # fmt: skip
    if peer is not None:
        figures |= {"transformers_to_beams": round(median(peers), 2), "same_text": same}
    size = {name: getattr(options, name) for name in ("rounds", "tokens", "beams", "context")}
    print(json.dumps({"benchmark": "beam", "model": "smollm2", **size, **figures}))


def choice(beams: int, times: int = 50) -> float:
    """The processor's milliseconds for a step's choice, median."""
    import numpy as np

    from likely.engine.decode.searches.beam import Beam
    from likely.engine.decode.searches.search import Group, NextTokens, SearchNode

    rows = np.random.default_rng(0).normal(size=(beams, VOCABULARY)).astype(np.float32)
    next_tokens = NextTokens(None, rows, rows, [], [])  # type: ignore[arg-type]
    strategy, took = Beam(beams), []
    for _ in range(times):
        group = Group(beams, [SearchNode(-float(i), -float(i), i, 0) for i in range(beams)])
        began = thread_time()
        nodes = strategy.children(group, next_tokens, 1, Counter())
        strategy.sift(group, nodes, [False] * len(nodes))
        took.append(1e3 * (thread_time() - began))
    return median(took)


if __name__ == "__main__":
    main()
