"""What a token costs besides the matmuls: a random model of 28 layers and 0.1 million parameters, ours and mlx-lm's.

    python benchmarks/overhead.py [--rounds 7] [--tokens 64] [--compile]

The products are so small that nearly all the time is the engine's. `likely` decodes as the chat does, with everything
that is collected for a token; `bare` is the model and an argmax. They take turns. With `--compile` also `compiled`, our
decoding with its steps through mx.compile, which on a CPU needs g++. One JSON line at the end.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

CONFIG: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 16, "num_hidden_layers": 28, "intermediate_size": 48,
    "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "rms_norm_eps": 1e-5, "vocab_size": 512,
    "max_position_embeddings": 2048, "rope_theta": 10000.0, "tie_word_embeddings": True,
}  # fmt: skip
PROMPT = list(range(1, 65))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()

    from likely.metal import mx  # isort: skip  the tuned BLAS before mlx_lm imports mlx
    import mlx_lm.models.llama as llama
    import numpy as np
    from mlx.utils import tree_flatten
    from mlx_lm.generate import generate_step

    import likely.models as models
    from likely.engine.decode.bench import EngineContestant
    from likely.models.native_path.compiled import CompiledStep

    theirs = llama.Model(llama.ModelArgs.from_dict(CONFIG))
    mx.eval(theirs.parameters())
    theirs.eval()
    weights = dict(tree_flatten(theirs.parameters()))
    parameters = sum(w.size for w in weights.values())
    model = models.build(CONFIG, dict(weights))
    tokenizer = SimpleNamespace(eos=frozenset())

    def decoding(step: CompiledStep) -> Callable[[], list[float]]:
        ours = EngineContestant(SimpleNamespace(model=model, tokenizer=tokenizer, pool=SimpleNamespace(step=step)))  # type: ignore[arg-type]
        return lambda: ours.decode(PROMPT, options.tokens)[1]

    def bare() -> list[float]:
        cache, times = model.make_cache(), []
        token = mx.argmax(model.head(model.hidden(mx.array([PROMPT]), cache)[:, -1:])[:, -1], axis=-1)
        for _ in range(options.tokens):
            following = mx.argmax(model.head(model.hidden(token[None], cache))[:, -1], axis=-1)
            mx.async_eval(following)
            token.item()
            times.append(time.perf_counter())
            token = following
        return [b - a for a, b in pairwise(times)]

    def peer() -> list[float]:
        steps = generate_step(mx.array(PROMPT), theirs, max_tokens=options.tokens)
        times = [time.perf_counter() for _ in steps]
        return [b - a for a, b in pairwise(times)]

    contestants = {"likely": decoding(CompiledStep(model)), "bare": bare, "mlx-lm": peer}
    if options.compile:
        mx.enable_compile()
        contestants["compiled"] = decoding(CompiledStep(model, mx.compile))
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for round_ in range(options.rounds + 1):
        for name, run in contestants.items():
            times[name] += run() if round_ else run()[:0]
    figures: dict[str, Any] = {}
    for name, values in times.items():
        low, median = (float(np.quantile(values, q)) for q in (0.25, 0.5))
        base = float(np.quantile(times["mlx-lm"], 0.25))
        figures[name] = {"token_ms": [round(1e3 * low, 3), round(1e3 * median, 3)], "of_mlx_lm": round(low / base, 3)}
        print(f"{name:>8} {json.dumps(figures[name])}", flush=True)
    print(json.dumps({"benchmark": "overhead", "parameters": parameters, **vars(options), **figures}))


if __name__ == "__main__":
    main()
