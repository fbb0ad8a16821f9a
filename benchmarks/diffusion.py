"""What masked diffusion costs, as ratios by turns: caches, a threshold, a step's bookkeeping, training.

    python benchmarks/diffusion.py [cache threshold bookkeeping training] [--rounds 3] [--tokens 2400000]

Processor time, the least of the rounds, of random models in float32.

cache        256 masks in blocks of 16, one a pass, by a model of blocks: without a cache, which reads to the end of the
             block, over with finished blocks kept; and of a model that sees both ways (blocks of 32, 4 a pass) without
             over prefix and dual, with their disagreement. Of a random model that is what such a cache does to noise.
threshold    a model trained here on sentences of four words of five letters, eight choices each: one mask a pass over
             thresholds, greedy; the share of positions at which both say the same, and of texts that are sentences.
bookkeeping  a canvas of 64 with 48 masks by SmolLM2's shape, 49,152 tokens: all of a step that is not its forward
             pass, over that pass.
training     steps on the same rows of 128 tokens: tokens a second of mdlm, and of block, over the autoregressive ones.

One JSON line.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

SMALL: dict[str, Any] = {
    "model_type": "llama", "vocab_size": 4096, "hidden_size": 256, "num_hidden_layers": 6, "intermediate_size": 768,
    "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 64, "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": True,
}  # fmt: skip
SMOLLM2 = SMALL | {
    "vocab_size": 49_152, "hidden_size": 576, "num_hidden_layers": 30, "intermediate_size": 1536,
    "num_attention_heads": 9, "num_key_value_heads": 3,
}  # fmt: skip
PARTS = "cache", "threshold", "bookkeeping", "training"
MASKS, THRESHOLDS = 256, (0.9, 0.8, 0.7, 0.6, 0.5)
WORDS = (
    "small large quiet brave young happy white green",
    "birds foxes mules bears crows goats moths wasps",
    "watch chase greet trust guard catch avoid scare",
    "trees rocks ponds roads hills walls boats lakes",
)


def made(config: dict[str, Any], **further: Any) -> Any:
    """A random model that says something else everywhere; without `mask_token_id` an autoregressive one."""
    from likely.metal import mx
    from likely.models.families import registry

    model = registry.blank({**config, **further})
    mx.random.seed(0)
    for part in model.parts():
        arrays = part.arrays()
        weight = arrays["weight"]
        scale = weight.shape[-1] ** -0.5
        model.put(part, mx.ones_like(weight) if weight.ndim == 1 else scale * mx.random.normal(weight.shape))
    mx.eval(model.arrays)
    return model


def spent(action: Callable[[], Any]) -> float:
    begin = time.process_time()
    action()
    return time.process_time() - begin


def by_turns(rounds: int, actions: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Seconds of the processor, the least of the rounds."""
    seconds = {name: float("inf") for name in actions}
    for _ in range(rounds):
        for name, action in actions.items():
            seconds[name] = min(seconds[name], spent(action))
    return seconds


def passes(model: Any, ids: list[int], how: Any, recipe: Any = None) -> Iterator[Any]:
    import numpy as np

    from likely.engine.diffusion.cached import denoiser_of
    from likely.engine.sampling.trace.step import SamplingConfig
    from likely.engine.sampling.trace.unmasking import fill

    mask = model.config.diffusion.mask
    denoiser = denoiser_of(model, "model", how, np.array(ids) != mask)
    for step in fill(
        denoiser.logits,
        ids,
        mask,
        how,
        recipe or SamplingConfig(greedy=True),
        own=denoiser.diffusion.block,
        begin=denoiser.begin,
    ):
        yield step, denoiser.disagreement


def cache(rounds: int) -> dict[str, Any]:
    from likely.engine.sampling.trace.unmasking import Unmasking

    mask = SMALL["vocab_size"] - 1
    blocks, both = made(SMALL, mask_token_id=mask, block_size=16), made(SMALL, mask_token_id=mask)
    ids = [*range(16), *[mask] * MASKS]

    def filled(model: Any, how: Unmasking) -> Callable[[], Any]:
        return lambda: list(passes(model, ids, how))

    exact = by_turns(rounds, {name: filled(blocks, Unmasking(cache=name)) for name in ("none", "exact")})
    how = {"block": 32, "steps": MASKS // 4}
    rough = by_turns(rounds, {name: filled(both, Unmasking(cache=name, **how)) for name in ("none", "prefix", "dual")})
    off = {}
    for name in ("prefix", "dual"):
        disagreements = [d for _, d in passes(both, ids, Unmasking(cache=name, check=True, **how)) if d is not None]
        masks = sum(d.masks for d in disagreements)
        other, kl = (sum(getattr(d, field) for d in disagreements) / masks for field in ("other", "kl"))
        off[name] = {"other": other, "kl": kl}
    return {
        "exact_ratio": exact["none"] / exact["exact"],
        **{f"{name}_ratio": rough["none"] / rough[name] for name in ("prefix", "dual")},
        "disagreement": off,
    }


def sentences(folder: Path, tokens: int) -> tuple[Any, list[str]]:
    """A model of masked diffusion that has learned them, as a session, and 24 that have holes."""
    import numpy as np

    from likely.engine.decode.session import Session
    from likely.engine.train.pretrain.config import configure
    from likely.engine.train.pretrain.pretraining import pretrain
    from likely.engine.weights.sources.checkpoint import load

    random = np.random.default_rng(0)
    every = [" ".join(words) + "." for words in product(*map(str.split, WORDS))]
    rows = "".join(json.dumps({"text": text}) + "\n" for text in random.permutation(every))
    (folder / "rows.jsonl").write_text(rows)
    options = {
        "data": str(folder / "rows.jsonl"), "out": str(folder / "m"), "objective": "mdlm", "size": "150k",
        "tokenizer": "characters", "context": 32, "batch": 16, "accumulate": 1, "rate": 0.01, "tokens": tokens,
        "eval_every": 0, "save_every": 0,
    }  # fmt: skip
    for event in pretrain(configure(options)):
        if hasattr(event, "bits_per_byte"):
            print(event, file=sys.stderr)
    first, last = WORDS[0].split(), WORDS[3].split()
    texts = [f"{word} [MASK:18]" for word in first] + [f"[MASK:18]{word}." for word in last]
    texts += [f"{a} [MASK:12]{b}." for a, b in zip(first, last, strict=True)]
    return Session(load(folder / "m")), texts


def threshold(rounds: int, tokens: int) -> dict[str, Any]:
    from likely.engine.diffusion import infilling
    from likely.engine.sampling.trace.step import SamplingConfig
    from likely.engine.sampling.trace.unmasking import Unmasking

    with tempfile.TemporaryDirectory() as root:
        session, texts = sentences(Path(root), tokens)
    mask = session.model.config.diffusion.mask
    end = sorted(session.tokenizer.eos)[:1]  # which stands behind each text that was learned
    canvases = [[*infilling.canvas(text, session.tokenizer, mask, session.context), *end] for text in texts]
    ends: dict[str, list[dict[int, int]]] = {}
    counts: dict[str, int] = {}

    def filled(name: str, how: Unmasking) -> None:
        ends[name], counts[name] = [], 0
        for ids in canvases:
            steps = list(infilling.infill(session, ids, how, SamplingConfig(greedy=True)))
            ends[name].append({one.token.position: one.token.token for step in steps for one in step.unmasked})
            counts[name] += len(steps)

    hows = {"one": Unmasking(), **{f"{p}": Unmasking(threshold=p) for p in THRESHOLDS}}
    took = by_turns(rounds, {name: lambda name=name, how=how: filled(name, how) for name, how in hows.items()})
    known = [set(words.split()) for words in WORDS]

    def holds(ids: list[int], by_position: dict[int, int]) -> bool:
        text = "".join(session.tokenizer.piece(by_position.get(at, token)).decode() for at, token in enumerate(ids))
        words = text.partition(".")[0].split(" ")
        return len(words) == len(known) and all(word in of for word, of in zip(words, known, strict=True))

    figures = {}
    for name, filled_in in ends.items():
        pairs = [(x[at], token) for x, y in zip(ends["one"], filled_in, strict=True) for at, token in y.items()]
        figures[name] = {
            "ratio": took["one"] / took[name],
            "passes": counts[name],
            "same_tokens": sum(a == b for a, b in pairs) / len(pairs),
            "of_the_language": sum(map(holds, canvases, filled_in)) / len(canvases),
        }
    return {"texts": len(canvases), "positions": len(pairs), **figures}


def bookkeeping(rounds: int) -> dict[str, Any]:
    import numpy as np

    from likely.engine.diffusion.denoiser import ModelDenoiser
    from likely.engine.sampling.trace.step import SamplingConfig
    from likely.engine.sampling.trace.unmasking import Unmasking, fill
    from likely.engine.sampling.transforms import Temperature, TopK, TopP

    mask = SMOLLM2["vocab_size"] - 1
    denoiser = ModelDenoiser(made(SMOLLM2, mask_token_id=mask))
    ids = [*range(16), *[mask] * 48]
    shares: dict[str, list[float]] = {}
    recipes = {"plain": SamplingConfig(), "top-k, top-p": SamplingConfig((TopK(40), TopP(0.9), Temperature(0.7)))}
    inside = 0.0

    def predict(canvas: np.ndarray, places: np.ndarray) -> np.ndarray:
        nonlocal inside
        begin = time.process_time()
        logits = denoiser.logits(canvas, places)
        inside += time.process_time() - begin
        return logits

    for _ in range(rounds):
        for name, recipe in recipes.items():
            inside = 0.0
            whole = spent(lambda recipe=recipe: list(fill(predict, ids, mask, Unmasking(steps=4), recipe)))
            shares.setdefault(name, []).append((whole - inside) / inside)
    return {name: min(of_rounds) for name, of_rounds in shares.items()}


def training(rounds: int) -> dict[str, Any]:
    import numpy as np

    from likely.engine.train.data.samples import TrainingSample
    from likely.engine.train.losses import activation_memory, batch_losses
    from likely.engine.weights.adapters import full
    from likely.engine.weights.adapters.config import Config
    from likely.metal import mx

    random, mask = np.random.default_rng(0), SMALL["vocab_size"] - 1
    rows = [TrainingSample(tuple(random.integers(0, mask, 128).tolist()), (True,) * 128, "") for _ in range(8)]

    def step(objective: str, **further: Any) -> Callable[[], Any]:
        model = made(SMALL, **further)
        activation_memory.lean(model)
        trained, config = full.weights(model, -1), Config(kind="full", objective=objective)

        def action() -> None:
            for key in range(2):
                sums, gradients = batch_losses.gradient(model, trained, rows, config, key=(0, key))
                mx.eval(sums.lost, gradients)

        return action

    took = by_turns(
        rounds,
        {
            "sft": step("sft"),
            "mdlm": step("mdlm", mask_token_id=mask),
            "block": step("block", mask_token_id=mask, block_size=8),
        },
    )
    return {name: took["sft"] / took[name] for name in ("mdlm", "block")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], default=[])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=2_400_000, help="that the model of threshold learns from")
    options = parser.parse_args()
    figures: dict[str, Any] = {}
    actions: dict[str, Callable[[int], dict[str, Any]]] = {
        "cache": cache,
        "threshold": lambda rounds: threshold(rounds, options.tokens),
        "bookkeeping": bookkeeping,
        "training": training,
    }
    for part in options.parts or PARTS:
        figures[part] = actions[part](options.rounds)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
