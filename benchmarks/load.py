"""From the call that loads SmolLM2 to its first token, in fresh processes that take turns: ours and mlx-lm.

    python benchmarks/load.py [--rounds 5]

Both load the same float32 folder with the same BLAS and answer the same prompt; `load_s` begins when the libraries are
imported, `start_s` when the process does. One JSON line at the end.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parent.parent))

PROMPT = list(range(1000, 1032))


def ours(folder: Path) -> float:
    from engine.checkpoint import load
    from engine.decode.control import Control, Emitted
    from engine.session import Session

    began = time.perf_counter()
    session = Session(load(folder))
    next(event for event in session.generate(PROMPT, Control(), max_tokens=1) if isinstance(event, Emitted))
    return time.perf_counter() - began


def theirs(folder: Path) -> float:
    from metal import mx  # isort: skip  the tuned BLAS before mlx_lm imports mlx
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
    parser.add_argument("--worker", choices=["likely", "mlx-lm"])
    options = parser.parse_args()
    if options.worker:
        run = ours if options.worker == "likely" else theirs
        print(json.dumps(run(options.folder / "float32")))
        return

    from benchmarks.peers import export

    export(options.folder, "float32")
    seconds: dict[str, dict[str, list[float]]] = {n: {"load_s": [], "start_s": []} for n in ("likely", "mlx-lm")}
    for round_ in range(options.rounds + 1):
        for name, kinds in seconds.items():
            began = time.perf_counter()
            command = [sys.executable, __file__, "--worker", name, "--folder", str(options.folder)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            if round_:
                kinds["load_s"].append(float(done.stdout.splitlines()[-1]))
                kinds["start_s"].append(time.perf_counter() - began)
    figures = {n: {kind: round(median(values), 3) for kind, values in kinds.items()} for n, kinds in seconds.items()}
    ratios = {kind: round(figures["likely"][kind] / figures["mlx-lm"][kind], 3) for kind in ("load_s", "start_s")}
    print(
        json.dumps({"benchmark": "load", "model": "smollm2", "rounds": options.rounds, **figures, "of_mlx_lm": ratios})
    )


if __name__ == "__main__":
    main()
