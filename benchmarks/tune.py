"""LoRA beside mlx_lm's trainer on this machine: the same rows, model, rank, batches and steps, in one run by turns.

    python benchmarks/tune.py [--model tiny|smollm2] [--rows 48] [--rounds 3]

Chat-like rows of uneven length up to 512 tokens with their prompts masked, batches of 4, checkpointing off on both, the
same BLAS and no compilation on both. SmolLM2 is read here as it lies in its file, packed, there in float32, the same
numbers. Each round is a process of each, with a seed of its own: one epoch. Figures: trained tokens a second (real
targets, no pad), of the clock and of the processor, peak memory of the process, in all and above what it has before the
model is loaded, the validation loss of both adapters, measured by one evaluator, the loss of the first step on one
batch without padding, and what `--dry-run` says of time and peak over what they were. One JSON line at the end.
"""

import argparse
import json
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

TINY = {
    "model_type": "llama", "vocab_size": 49152, "hidden_size": 72, "num_hidden_layers": 4, "intermediate_size": 216,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 18, "max_position_embeddings": 1024,
    "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": True,
}  # fmt: skip
BATCH, LENGTH, RANK, SCALE, RATE = 4, 512, 8, 2.0, 1e-3


def rows(count: int, seed: int, length: int = 0) -> list[tuple[list[int], int]]:
    """Ids and how many of them are prompt: short and long rows, as chats are; all of `length` if that is given."""
    import numpy as np

    random = np.random.default_rng(seed)
    pairs = []
    for _ in range(count):
        n = length or int(np.clip(random.lognormal(4.8, 0.7), 24, LENGTH))
        prompt = int(n * random.uniform(0.3, 0.8))
        first, step = int(random.integers(100, 4000)), int(random.integers(1, 5))
        pairs.append(([(first + step * (j % 40)) % 49152 for j in range(n)], prompt))
    return pairs


def folder_of(model: str, root: Path) -> Path:
    """The model as a folder that mlx-lm reads."""
    if model != "tiny":
        from benchmarks.peers import export

        return export(root, "float32")
    target = root / "tiny"
    if not (target / "model.safetensors").exists():
        from likely.metal import mx
        from tests.engine import tiny

        target.mkdir(parents=True, exist_ok=True)
        arrays = {name: mx.array(a) for name, a in tiny.weights(TINY).items()}
        mx.save_safetensors(str(target / "model.safetensors"), arrays)
        (target / "config.json").write_text(json.dumps(TINY))
    return target


def model_of(folder: Path) -> Any:
    import likely.models as models
    from likely.engine.weights.sources.checkpoint import load
    from likely.metal import mx

    if folder.name != "tiny":
        return load("smollm2").model

    return models.build(json.loads((folder / "config.json").read_text()), mx.load(str(folder / "model.safetensors")))


def ours(folder: Path, out: Path, count: int, first: bool, seed: int) -> dict[str, Any]:
    from likely.engine.base.machine.hardware import peak_memory
    from likely.engine.train.assess.report import report
    from likely.engine.train.run import trainer
    from likely.engine.weights.adapters.config import configure

    base, model = peak_memory(), model_of(folder)
    data = trainer.Set(samples(rows(BATCH, 5, 64) if first else rows(count, 0)))
    steps = 1 if first else count // BATCH
    settings = configure(
        {"batch": BATCH, "length": LENGTH, "rank": RANK, "scale": SCALE, "rate": RATE, "schedule": "constant",
         "packing": False, "steps": steps, "clip": 0.0, "eval_every": 0, "save_every": 0,
         "seed": seed}
    )  # fmt: skip
    shutil.rmtree(out, ignore_errors=True)
    run = trainer.prepare(model, settings, data, out)
    trainer.settle(run)
    expected = report(run)
    began, used = time.perf_counter(), time.process_time()
    events = [e for e in trainer.train(run) if isinstance(e, trainer.Stepped)]
    seconds, used = time.perf_counter() - began, time.process_time() - used
    return {
        "seconds": seconds, "used": used, "peak": peak_memory(), "base": base, "loss": events[0].loss,
        "expected_s": expected.seconds, "expected_peak": expected.memory.total,
    }  # fmt: skip


def theirs(folder: Path, out: Path, count: int, first: bool, seed: int) -> dict[str, Any]:
    import likely.metal as metal

    mx = metal.mx  # before mlx-lm's own import: the same BLAS, and no compilation on a CPU
    import mlx.optimizers as optim
    import numpy as np
    from mlx_lm.tuner.trainer import TrainingArgs, default_loss, iterate_batches, train
    from mlx_lm.tuner.utils import linear_to_lora_layers
    from mlx_lm.utils import load_model

    from likely.engine.base.machine.hardware import peak_memory

    base = peak_memory()
    model, _ = load_model(folder)
    mx.random.seed(seed)
    model.freeze()
    linear_to_lora_layers(model, len(model.layers), {"rank": RANK, "scale": SCALE, "dropout": 0.0})
    data = rows(BATCH, 5, 64) if first else rows(count, 0)
    mx.eval(model.parameters())
    if first:
        batch = next(iterate_batches(data, BATCH, 64))
        return {"loss": float(default_loss(model, *batch)[0])}
    steps = count // BATCH
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    arguments = TrainingArgs(
        batch_size=BATCH, iters=steps, steps_per_report=10_000, steps_per_eval=10_000, steps_per_save=10_000,
        max_seq_length=LENGTH, adapter_file=str(out / "adapters.safetensors"),
    )  # fmt: skip
    np.random.seed(seed)
    began, used = time.perf_counter(), time.process_time()
    train(model, optim.AdamW(RATE, weight_decay=0.0, bias_correction=True), data, None, arguments)
    seconds, used = time.perf_counter() - began, time.process_time() - used
    lora = {"rank": RANK, "scale": SCALE, "dropout": 0.0}
    settings = {"fine_tune_type": "lora", "num_layers": len(model.layers), "lora_parameters": lora}
    (out / "adapter_config.json").write_text(json.dumps(settings))
    return {"seconds": seconds, "used": used, "peak": peak_memory(), "base": base}


def samples(pairs: list[tuple[list[int], int]]) -> list[Any]:
    from likely.engine.train.data.samples import TrainingSample

    return [
        TrainingSample(tuple(ids), tuple(j >= prompt for j in range(len(ids))), f"row {i}")
        for i, (ids, prompt) in enumerate(pairs)
    ]


def validation(folder: Path, out: Path) -> float:
    """The loss of an adapter on fresh rows, by one evaluator for both."""
    from likely.engine.train.run import trainer
    from likely.engine.weights.adapters import adapters, lora, sites
    from likely.engine.weights.adapters.config import Config

    model = sites.trainable(model_of(folder))
    adapter = adapters.build(model, adapters.read(out))
    assert isinstance(adapter, lora.Adapter)
    lora.attach(adapter)
    return trainer.evaluate(model, adapter, samples(rows(24, 99)), Config()).estimate.mean


def call(name: str, folder: Path, out: Path, count: int, first: bool, seed: int = 0) -> dict[str, Any]:
    arguments = ["--worker", name, "--folder", str(folder), "--out", str(out), "--rows", str(count)]
    arguments += ["--seed", str(seed)]
    command = [sys.executable, __file__, *arguments, *(["--first"] if first else [])]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    figures: dict[str, Any] = json.loads(text.strip().splitlines()[-1])
    return figures


def worse(ours: list[float], theirs: list[float]) -> dict[str, float]:
    """How much higher our validation loss is, over the rounds' seeds, with its standard error."""
    apart = [a - b for a, b in zip(ours, theirs, strict=True)]
    error = statistics.stdev(apart) / len(apart) ** 0.5 if len(apart) > 1 else float("nan")
    return {"difference": float(f"{statistics.mean(apart):.2g}"), "error": float(f"{error:.2g}")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=("tiny", "smollm2"), default="tiny")
    parser.add_argument("--rows", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--worker", choices=("ours", "theirs"))
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--first", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.worker:
        run = ours if options.worker == "ours" else theirs
        print(json.dumps(run(options.folder, options.out, options.rows, options.first, options.seed)))
        return
    root = Path(tempfile.gettempdir()) / "likely-bench-tune"
    folder = folder_of(options.model, root)
    targets = sum(s.targets for s in samples(rows(options.rows, 0)))
    outs = {name: root / f"{options.model}-{name}" for name in ("ours", "theirs")}
    firsts = {name: call(name, folder, root / "first", options.rows, True)["loss"] for name in outs}
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in outs}
    for seed in range(options.rounds):
        for name, out in outs.items():
            result = call(name, folder, out, options.rows, False, seed)
            results[name].append({**result, "validation": validation(folder, out)})
    figures: dict[str, Any] = {}
    for name in outs:
        seconds = min(r["seconds"] for r in results[name])
        peak = max(r["peak"] for r in results[name])
        base = max(r["base"] for r in results[name])
        figures[name] = {
            "trained_tokens_per_s": round(targets / seconds, 1),
            "per_processor_s": round(targets / min(r["used"] for r in results[name]), 1),
            "peak_above_base_mb": round((peak - base) / 1e6),
            "peak_mb": round(peak / 1e6),
            "validation": [round(r["validation"], 5) for r in results[name]],
            "first_loss": round(firsts[name], 6),
        }
        if name == "ours":  # what --dry-run says of this run, against what it took
            figures["dry_run"] = {
                "seconds": round(statistics.median(r["expected_s"] / r["seconds"] for r in results[name]), 2),
                "processor_seconds": round(statistics.median(r["expected_s"] / r["used"] for r in results[name]), 2),
                "peak": round(
                    statistics.median(r["expected_peak"] / (r["peak"] - r["base"]) for r in results[name]), 2
                ),
            }
        print(f"{name:>6}  {json.dumps(figures[name])}", flush=True)
    a, b = figures["ours"], figures["theirs"]
    ratios = {
        "speed": round(a["trained_tokens_per_s"] / b["trained_tokens_per_s"], 2),
        "speed_by_processor": round(a["per_processor_s"] / b["per_processor_s"], 2),
        "memory": round(a["peak_mb"] / b["peak_mb"], 3),
        "memory_above_base": round(a["peak_above_base_mb"] / b["peak_above_base_mb"], 3),
        "validation": worse(*([r["validation"] for r in results[name]] for name in ("ours", "theirs"))),
        "first_loss_difference": abs(firsts["ours"] - firsts["theirs"]),
    }
    steps = options.rows // BATCH
    print(json.dumps({"machine": platform.machine(), "model": options.model, "steps": steps, **figures, **ratios}))


if __name__ == "__main__":
    main()
