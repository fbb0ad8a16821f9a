"""Files that `likely fuse` writes, in llama.cpp itself: how far its distribution is from ours on a held-out text.

    python benchmarks/llama_cpp.py --python VENV/bin/python [--models smollm2 gemma3 tiny] [--steps 6]

VENV is an environment with llama-cpp-python, which pip builds from its sources; nothing of it is imported here. For
SmolLM2 an adapter is trained for a few steps and fused, in Gemma 3 one of random numbers; both from their GGUF file,
and SmolLM2 from a folder too. `tiny` are random models of every family, in folders with their tokenizers. Each is
exported as F16, Q8_0 and Q4_0, and read by llama.cpp with a float32 cache. Figures, over the tokens of a text: mean
KL(ours || llama.cpp) in nats a token, the share of positions with the same most likely token, and whether llama.cpp
cuts the text into the same tokens. Ours are the logits of the fused model in float32. One JSON line at the end.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

TEXT = """The harbour was quiet when the ferry came in. Three people stood on the quay, and one of them held a lantern,
although it was not yet dark. "You are late," she said; "the tide turned at 4:30, and we'd nearly given you up."
He put down his bag - it weighed 12.5 kilos, he had checked - and looked back at the water. Nobody spoke for a while.
Then the engine stopped, the gulls settled on the rail, and somewhere behind the warehouses a clock struck six.
   def tide(hours):
       return {"high": 3.2, "low": 0.4}[hours % 12 < 6]
Au café, l'été dernier, ils avaient parlé d'autre chose: du prix du poisson, des élections, du frère absent."""
KINDS = ("f16", "q8_0", "q4_0")
LIMITS = {"f16": (1e-3, 0.99), "q8_0": (5e-3, 0.0), "q4_0": (float("inf"), 0.0)}
WIDTH, HEAD = 128, 32  # of the tiny models, and of their heads
SHARP = 2.7  # times the embedding and the head: logits of a spread like a trained model's


def worker(path: str, ids: list[int], text: str) -> dict[str, Any]:
    """In the other environment: log-probabilities [T, V] into a file beside the model, and the text's tokens."""
    import llama_cpp  # type: ignore[import-not-found]
    import numpy as np

    llm = llama_cpp.Llama(
        path, n_ctx=max(512, len(ids)), logits_all=True, verbose=False, n_threads=2, type_k=0, type_v=0, seed=0
    )
    llm.eval(ids)
    logits = np.array(llm.scores[: len(ids)], np.float64)
    top = logits.max(-1, keepdims=True)
    logp = logits - top - np.log(np.exp(logits - top).sum(-1, keepdims=True))
    np.save(f"{path}.npy", logp.astype(np.float32))
    tokens = llm.tokenize(text.encode(), add_bos=False, special=False)
    return {"tokens": [int(t) for t in tokens], "template": llm.metadata.get("tokenizer.chat_template", "")}


def compare(python: str, path: Path, logp: Any, ids: list[int], tokenizer: Any) -> dict[str, Any]:
    """llama.cpp on the file against our log-probabilities [T, V]."""
    import numpy as np

    from likely.engine.base import arrays

    request = json.dumps({"path": str(path), "ids": ids, "text": TEXT})
    done = subprocess.run([python, "-P", __file__, "--worker"], input=request, capture_output=True, text=True)
    if done.returncode:
        return {"failed": done.stderr.strip().splitlines()[-1:]}
    reply = json.loads(done.stdout.strip().splitlines()[-1])
    theirs = np.load(f"{path}.npy")[:, : logp.shape[-1]].astype(np.float64)
    Path(f"{path}.npy").unlink()
    ours = logp.astype(np.float64)
    kl = arrays.kl(ours, theirs, np)
    return {
        "kl": float(f"{kl.mean():.3g}"),
        "top1": round(float((ours.argmax(-1) == theirs.argmax(-1)).mean()), 4),
        "entropy": round(float(arrays.entropy(ours, np).mean()), 2),
        "same_tokens": reply["tokens"] == tokenizer.encode(TEXT),
        "same_template": reply["template"] == (tokenizer.chat_template or ""),
        "mb": round(path.stat().st_size / 1e6, 1),
    }


def measure(name: str, checkpoint: Any, python: str, folder: Path) -> dict[str, Any]:
    """All kinds of one model, its adapter fused."""
    import numpy as np

    from likely.engine.base import arrays
    from likely.engine.weights.write import gguf
    from likely.metal import mx

    ids = checkpoint.tokenizer.encode(TEXT, bos=True)
    logits = checkpoint.model(mx.array([ids]))[0].astype(mx.float32)
    logp = np.array(arrays.logprobs(logits, mx, exact=True))
    figures: dict[str, Any] = {"tokens": len(ids)}
    for kind in KINDS:
        path = folder / f"{name.replace(' ', '-')}-{kind}.gguf"
        gguf.write(checkpoint, path, kind)
        figures[kind] = own = compare(python, path, logp, ids, checkpoint.tokenizer)
        path.unlink()
        most, least = LIMITS[kind]
        own["reached"] = not own.get("failed") and own["kl"] <= most and own["top1"] >= least
        print(f"{name:>16} {kind:>5}  {json.dumps(own)}", flush=True)
    return figures


def merged(checkpoint: Any, adapter: Any, ids: list[int]) -> float:
    """Fuse an attached adapter in memory; gives KL(adapter || base) on the ids."""
    from likely.engine.base.statistics import compare
    from likely.engine.weights.adapters import lora
    from likely.engine.weights.write import fuse

    model = checkpoint.model
    both = compare.logits(model, lambda: lora.off(model)), compare.logits(model)
    comparison = compare.compare(*both, ids, ("base", "adapter"))
    fuse.merge(model, adapter)
    return comparison.kl


def fused(checkpoint: Any, size: float) -> float:
    """Put an adapter of random numbers on every product and fuse it; gives KL(adapter || base) on the text."""
    from likely.engine.weights.adapters import lora, sites
    from likely.metal import mx

    model = checkpoint.model
    chosen = sites.choose(sites.sites(model), -1, ["*"], model.config.layers)
    adapter = lora.create(chosen, rank=4, scale=1.0)
    named = adapter.parameters().items()
    adapter.set({n: size * mx.random.normal(p.shape, key=mx.random.key(i)) for i, (n, p) in enumerate(named)})
    lora.attach(adapter)
    ids = checkpoint.tokenizer.encode(TEXT, bos=True)[:64]
    return merged(checkpoint, adapter, ids)


def trained(checkpoint: Any, steps: int, folder: Path) -> float:
    """Train an adapter on a rule for a few steps and fuse it; gives KL(adapter || base) on the text."""
    from benchmarks.effect import WORDS, rule
    from likely.engine.text.rows.training_row import parse
    from likely.engine.train import open_run
    from likely.engine.train.data import data
    from likely.engine.train.run import trainer
    from likely.engine.weights.adapters import lora
    from likely.engine.weights.adapters.config import configure

    rows = data.Data(tuple(parse(rule(w), w) for w in WORDS[:80]), (), (), {"chat": 80}, 0, 0, False)
    settings = configure(
        {"out": str(folder / "adapter"), "steps": steps, "rate": 2e-3, "batch": 8, "length": 64, "layers": 10,
         "save_every": 0, "eval_every": 0, "warmup": 1}
    )  # fmt: skip
    run = open_run.assemble(checkpoint, settings, rows).run
    for event in trainer.train(run):
        if isinstance(event, trainer.Stepped):
            print(f"  step {event.step} loss {event.loss:.3f}", flush=True)
    assert isinstance(run.trained, lora.Adapter)
    return merged(checkpoint, run.trained, checkpoint.tokenizer.encode(TEXT, bos=True))


def tiny(root: Path) -> dict[str, Any]:
    """A random model of every family, in a folder with a byte-level tokenizer."""
    import numpy as np

    from likely.engine.weights.sources.checkpoint import load
    from likely.metal import mx
    from tests.engine import tiny as files
    from tests.engine.vocabularies import folder as tokenizer_folder
    from tests.engine.write.test_fuse import FOLDERS

    sizes = {"vocab_size": 600, "max_position_embeddings": 512, "hidden_size": WIDTH, "head_dim": HEAD}

    def alive(name: str, array: np.ndarray) -> mx.array:
        outer = "embed" in name or "lm_head" in name
        if "gemma" in family:  # its embedding comes in multiplied: the layers have to outweigh it
            return mx.array(array * (1 if "norm" in name else 1.5 if outer else 2.0))
        return mx.array(1 + array if "norm" in name else SHARP * array if outer else array)

    models = {}
    for family, changes in FOLDERS.items():
        config = files.LLAMA | changes | sizes | {"intermediate_size": 2 * WIDTH}
        config |= {"sliding_window": 1024} if family == "mistral" else {}
        config |= {"query_pre_attn_scalar": HEAD} if "query_pre_attn_scalar" in changes else {}
        arrays = {name: alive(name, array) for name, array in files.weights(config).items()}
        path = files.write_folder(root / family.replace(" ", "-"), config, arrays)
        tokenizer_folder(path)
        models[f"tiny {family}"] = load(path)
    return models


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", help="an interpreter that has llama-cpp-python")
    parser.add_argument("--models", nargs="+", default=["tiny", "smollm2", "gemma3"])
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--worker", action="store_true")
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(worker(**json.loads(sys.stdin.read()))))
        return
    from likely.engine.weights.sources.checkpoint import load
    from likely.engine.weights.write import fuse

    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        for name in options.models:
            if name == "tiny":
                for family, checkpoint in tiny(root).items():
                    fused(checkpoint, 0.02)
                    figures[family] = measure(family, checkpoint, options.python, root)
                continue
            checkpoint = load(name)
            kl = trained(checkpoint, options.steps, root) if name == "smollm2" else fused(checkpoint, 0.02)
            print(f"{name}: KL of the adapter to the base {kl:.3g} nats a token", flush=True)
            figures[name] = {"adapter": float(f"{kl:.3g}"), **measure(name, checkpoint, options.python, root)}
            if name == "smollm2":
                fuse.write(checkpoint, root / "folder")
                figures[f"{name} folder"] = measure(f"{name} folder", load(root / "folder"), options.python, root)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
