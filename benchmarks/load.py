"""From the call that loads a model to its first token, in fresh processes that take turns: ours and mlx-lm.

    python benchmarks/load.py [--rounds 5] [--tiny]

Both load the same float32 folder with the same BLAS and answer the same prompt: SmolLM2, or with `--tiny` a random
model of 28 layers and 0.1 million parameters with its tokenizer, where nearly all the time is the programs'. `load_s`
begins when the libraries are imported, `start_s` when the process does. One JSON line at the end.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.peers import export

PROMPT = list(range(100, 132))


def tiny(folder: Path) -> Path:
    """The random model as a folder, once, with SmolLM2's tokenizer; gives its place."""
    target = folder / "tiny"
    if (target / "config.json").exists():
        return target
    from benchmarks.overhead import CONFIG
    from likely.metal import mx
    from tests.engine.tiny import weights

    for file in export(folder, "float32").glob("tokenizer*"):
        target.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target / file.name)
    arrays = {name: mx.array(array) for name, array in weights(CONFIG).items()}
    mx.save_safetensors(str(target / "model.safetensors"), arrays, {"format": "pt"})
    (target / "config.json").write_text(json.dumps(CONFIG))
    return target


def ours(folder: Path) -> float:
    from likely.engine.decode.loop.control import RunControl
    from likely.engine.decode.loop.events import Emitted
    from likely.engine.decode.session import Session
    from likely.engine.weights.sources.checkpoint import load

    began = time.perf_counter()
    session = Session(load(folder))
    next(event for event in session.generate(PROMPT, RunControl(), max_tokens=1) if isinstance(event, Emitted))
    return time.perf_counter() - began


def theirs(folder: Path) -> float:
    from likely.metal import mx  # isort: skip  the tuned BLAS before mlx_lm imports mlx
    from mlx_lm import load
    from mlx_lm.generate import generate_step

    began = time.perf_counter()
    model, _ = load(str(folder))
    next(generate_step(mx.array(PROMPT), model, max_tokens=1))
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "likely-bench-load")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--worker", choices=["likely", "mlx-lm"])
    options = parser.parse_args()
    if options.worker:
        run = ours if options.worker == "likely" else theirs
        print(json.dumps(run(options.folder)))
        return

    folder = tiny(options.folder) if options.tiny else export(options.folder, "float32")
    seconds: dict[str, dict[str, list[float]]] = {n: {"load_s": [], "start_s": []} for n in ("likely", "mlx-lm")}
    for round_ in range(options.rounds + 1):
        for name, kinds in seconds.items():
            began = time.perf_counter()
            command = [sys.executable, __file__, "--worker", name, "--folder", str(folder)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            if round_:
                kinds["load_s"].append(float(done.stdout.splitlines()[-1]))
                kinds["start_s"].append(time.perf_counter() - began)
    figures = {n: {kind: round(median(values), 3) for kind, values in kinds.items()} for n, kinds in seconds.items()}
    ratios = {kind: round(figures["likely"][kind] / figures["mlx-lm"][kind], 3) for kind in ("load_s", "start_s")}
    print(
        json.dumps(
            {"benchmark": "load", "tiny": options.tiny, "rounds": options.rounds, **figures, "of_mlx_lm": ratios}
        )
    )


if __name__ == "__main__":
    main()
