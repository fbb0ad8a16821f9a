"""Pretraining beside the plain mlx loop on this machine: the same model, tokens, batch and BLAS, by turns.

    python benchmarks/pretraining.py [--shape small|transformer-lm] [--steps 6] [--rounds 3]

The plain loop is the one of mlx-examples' transformer_lm: `nn.value_and_grad` of the mean cross entropy over tokens
[B, T], mlx's own Adam, one evaluation a step; its model is mlx-lm's Llama of the very configuration and start.
`transformer-lm` is that example's shape, narrower (width 256 by 6 blocks), `small` a model of a million. Both compute
in float32 and uncompiled, as a CPU does. Each round is a process of each. Figures: trained tokens a second, of the
clock and of the processor; the mean loss of the steps; peak memory, and over what was announced. One JSON line at the
end.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

BATCH, CONTEXT = 16, 256
SHAPES = {
    "small": {"width": 96, "layers": 5, "heads": 3, "vocab": 1024},
    "transformer-lm": {"width": 256, "layers": 6, "heads": 8, "vocab": 4096},
}


def rows(count: int, vocab: int) -> Any:
    """Ids [count, CONTEXT + 1] with some order in them."""
    import numpy as np

    random = np.random.default_rng(0)
    starts, strides = random.integers(0, vocab, (count, 1)), random.integers(1, 5, (count, 1))
    return (starts + strides * (np.arange(CONTEXT + 1) % 40)) % vocab


def described(shape: dict[str, int]) -> dict[str, Any]:
    from likely.engine.train.pretrain.shape import ModelShape, config_of

    model_shape = ModelShape("llama", shape["layers"], shape["width"], shape["heads"])
    return config_of(model_shape, shape["vocab"], CONTEXT)


def ours(shape: dict[str, int], steps: int, folder: Path) -> dict[str, Any]:
    import numpy as np

    from likely.engine.train.assess import report
    from likely.engine.train.data.token_rows import TokenRows
    from likely.engine.train.pretrain import parametrization
    from likely.engine.train.pretrain.config import configure
    from likely.engine.train.run import trainer
    from likely.engine.weights.adapters.config import Config
    from likely.metal import mx
    from likely.models.families import registry

    config = described(shape)
    model = registry.blank(config)
    chosen = parametrization.parametrisation(configure({}), model)
    parametrization.start(model, chosen, 0)
    ids = rows(BATCH * steps, shape["vocab"])
    data = TokenRows(ids.reshape(-1), np.full(len(ids), CONTEXT + 1), CONTEXT + 1)
    settings = Config(kind="full", loss="all", length=CONTEXT + 1, batch=BATCH, steps=steps, rate=1e-3, eval_every=0,
                      save_every=0, schedule="constant", packing=True)  # fmt: skip
    groups = parametrization.groups(model, chosen, "adamw", 0.0)
    run = trainer.prepare(model, settings, trainer.Set(data), folder, groups=groups)
    run.keep = lambda run, folder: None
    expected = report.report(run).memory.total
    trainer.settle(run)
    mx.save_safetensors(str(folder.with_suffix(".safetensors")), dict(model.arrays))
    began, used = time.perf_counter(), time.process_time()
    events = [e for e in trainer.train(run) if isinstance(e, trainer.Stepped)]
    seconds, used = time.perf_counter() - began, time.process_time() - used
    return {
        "tokens_per_s": events[-1].tokens / seconds, "per_processor_s": events[-1].tokens / used,
        "peak": mx.get_peak_memory(), "announced": expected, "loss": float(np.mean([e.loss for e in events])),
    }  # fmt: skip


def theirs(shape: dict[str, int], steps: int, folder: Path) -> dict[str, Any]:
    import mlx.optimizers as optim
    import numpy as np
    from mlx_lm.models import llama

    from likely.metal import mx, nn  # before mlx-lm's own import: the same BLAS, and no compilation on a CPU

    config = described(shape)
    mx.disable_compile()
    model = llama.Model(llama.ModelArgs.from_dict(config))
    model.load_weights(str(folder.with_suffix(".safetensors")))
    mx.eval(model.parameters())
    optimizer = optim.Adam(1e-3, betas=[0.9, 0.95], bias_correction=True)

    def loss_of(model: Any, inputs: Any, targets: Any) -> Any:
        return nn.losses.cross_entropy(model(inputs), targets, reduction="mean")

    step = nn.value_and_grad(model, loss_of)
    ids = rows(BATCH * steps, shape["vocab"])
    order = np.random.default_rng(0).permutation(len(ids))
    mx.reset_peak_memory()
    losses = []
    began, used = time.perf_counter(), time.process_time()
    for t in range(steps):
        batch = mx.array(ids[order[t * BATCH : (t + 1) * BATCH]].astype(np.int32))
        loss, gradients = step(model, batch[:, :-1], batch[:, 1:])
        optimizer.update(model, gradients)
        mx.eval(loss, model.parameters(), optimizer.state)
        losses.append(float(loss))
    seconds, used = time.perf_counter() - began, time.process_time() - used
    tokens = steps * BATCH * CONTEXT
    return {"tokens_per_s": tokens / seconds, "per_processor_s": tokens / used, "peak": mx.get_peak_memory(),
            "loss": float(np.mean(losses))}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="small")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--worker", choices=("ours", "theirs"))
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    if options.worker:
        work = ours if options.worker == "ours" else theirs
        print(json.dumps(work(SHAPES[options.shape], options.steps, options.folder)))
        return
    reports: dict[str, list[dict[str, Any]]] = {"ours": [], "theirs": []}
    with tempfile.TemporaryDirectory() as root:
        for number in range(options.rounds):
            for name in reports:
                words = ["--worker", name, "--folder", f"{root}/{number}", "--steps", str(options.steps)]
                command = [sys.executable, __file__, "--shape", options.shape, *words]
                text = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
                reports[name].append(json.loads(text.strip().splitlines()[-1]))
                print(name, reports[name][-1], flush=True)
    middle = {name: {key: statistics.median(r[key] for r in runs) for key in runs[0]} for name, runs in reports.items()}
    mine, other = middle["ours"], middle["theirs"]
    ratios = {key: round(mine[key] / other[key], 3) for key in ("tokens_per_s", "per_processor_s", "peak", "loss")}
    held = round(mine["peak"] / mine["announced"], 3)
    print(json.dumps({"shape": options.shape, "ratios": ratios, "peak_of_announced": held, **middle}))


if __name__ == "__main__":
    main()
