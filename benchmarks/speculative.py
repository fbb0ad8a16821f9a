"""n-gram speculation on SmolLM2 against plain decoding, greedy: a text to edit, and five prompts that repeat little.

    python benchmarks/speculative.py [--rounds 5] [--tokens 96]

For each prompt the two take turns in one process; the first round warms up. Figures: the ratio of plain seconds to
speculative ones, median and lower quartile over rounds, the same for the processor's seconds (`cpu`: on a CPU the
better measure where other programs run), and what was guessed. The tokens are the same. One JSON line.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parent.parent))

PASSAGE = (
    "The harbour wakes before the town does. At five the first boats come in, low in the water, and the men on the "
    "quay take the ropes without a word. By six the fish lie on ice in rows, silver and grey, and the buyers walk "
    "along them with their hands behind their backs. When the sun stands over the breakwater it is all done."
)
PROMPTS = {
    "edit": f"Write this text out again, with no changes except that 'boats' becomes 'ships':\n\n{PASSAGE}",
    "story": "Tell me a short story about a lighthouse keeper.",
    "list": "Name ten fruits and say one thing about each.",
    "explain": "Why is the sky blue?",
    "code": "Write a Python function that counts the words in a file.",
    "letter": "Write a polite letter that declines an invitation to a wedding.",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=96)
    options = parser.parse_args()

    from likely.engine.decode.drafts.draft import PromptLookup
    from likely.engine.decode.drafts.speculative import Speculative
    from likely.engine.decode.loop.branches import Branches
    from likely.engine.decode.loop.control import RunControl
    from likely.engine.decode.loop.events import Emitted
    from likely.engine.decode.loop.sampler import Sampler
    from likely.engine.decode.sampled.sample import Sample
    from likely.engine.sampling.trace.step import SamplingConfig
    from likely.engine.weights.sources.checkpoint import load

    checkpoint = load("smollm2")
    model, tokenizer = checkpoint.model, checkpoint.tokenizer

    def run(root: Branches, strategy: Sample | Speculative) -> tuple[float, float, list[int]]:
        place, began, cpu = root.fork(), time.perf_counter(), time.process_time()
        control = RunControl(SamplingConfig(greedy=True))
        sampler = Sampler.start(control.recipe, place.ids, vocabulary=tokenizer)
        events = strategy.steps(place, sampler, control, limit=options.tokens)
        tokens = [event.step.token for event in events if isinstance(event, Emitted)]
        return time.perf_counter() - began, time.process_time() - cpu, tokens

    figures, others, others_cpu = {}, [], []
    for name, text in PROMPTS.items():
        root = Branches(model, model.make_cache())
        for _ in root.read(tokenizer.chat([{"role": "user", "content": text}])):
            pass
        ratios, cpu = [], []
        for round_ in range(options.rounds + 1):
            strategy = Speculative(PromptLookup())
            plain, plain_cpu, want = run(root, Sample())
            fast, fast_cpu, tokens = run(root, strategy)
            if round_:
                ratios.append(plain / fast)
                cpu.append(plain_cpu / fast_cpu)
        ratios.sort()
        cpu.sort()
        if name != "edit":
            others += ratios
            others_cpu += cpu
        pace = strategy.pace
        figures[name] = {
            "ratio": round(median(ratios), 3), "lower": round(ratios[len(ratios) // 4], 3),
            "cpu": round(median(cpu), 3), "cpu_lower": round(cpu[len(cpu) // 4], 3), "same": tokens == want,
            "guessed": pace.guessed, "accepted": pace.accepted, "rounds": pace.rounds,
        }  # fmt: skip
        print(f"{name:>8} {json.dumps(figures[name])}", flush=True)
    lower = {name: round(sorted(r)[len(r) // 4], 3) for name, r in (("wall", others), ("cpu", others_cpu))}
    print(
        json.dumps({"benchmark": "speculative", "model": "smollm2", **vars(options), **figures, "others_lower": lower})
    )


if __name__ == "__main__":
    main()
