"""Process start to the first token on stdout, beside `mlx_lm.generate`, both as installed, in one run by turns.

    python benchmarks/startup.py [--rounds 7]

The same weights (bfloat16 for mlx-lm, as its hub repository has them), the same prompt and template, greedy.
Lower quartile and median in seconds, the ratio, and where likely's own time goes (import, load, first token).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.decode import quartiles
from benchmarks.peers import export

PROMPT = "Why is the sky blue?"
PHASES = """
import time; began = time.perf_counter()
import likely.app.cli.commands.run, likely.app.cli.generate.text_chat
import likely.engine.decode.session, likely.engine.weights.sources.checkpoint
imported = time.perf_counter()
checkpoint = likely.engine.weights.sources.checkpoint.load("smollm2")
session = likely.engine.decode.session.Session(checkpoint); loaded = time.perf_counter()
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.events import Emitted
ids = session.tokenizer.chat([{"role": "user", "content": "Why is the sky blue?"}])
next(e for e in session.generate(ids, RunControl(), max_tokens=1) if isinstance(e, Emitted))
first = time.perf_counter()
print(imported - began, loaded - imported, first - loaded)
"""


def first_byte(command: list[str], skip: bytes = b"") -> float:
    """Seconds from starting a command to the first byte of its answer on stdout (after `skip`)."""
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=dict(os.environ))
    assert process.stdout is not None
    output = b""
    while not output.partition(skip)[2].strip() if skip else not output:
        byte = os.read(process.stdout.fileno(), 1)
        if not byte:
            raise RuntimeError(f"{command[0]} ended before its first token: {output!r}")
        output += byte
    elapsed = time.perf_counter() - began
    process.wait()
    return elapsed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "likely-bench-smollm2")
    options = parser.parse_args()
    folder = export(options.folder, "bfloat16")
    bin_ = Path(sys.executable).parent
    likely = [str(bin_ / "likely"), "run", PROMPT, "--temp", "0", "--max-tokens", "2", "-q"]
    peer = [str(bin_ / "mlx_lm.generate"), "--model", str(folder), "--prompt", PROMPT, "--max-tokens", "2"]
    times: dict[str, list[float]] = {"likely": [], "mlx_lm.generate": []}
    phases: list[list[float]] = []
    for round_ in range(options.rounds + 1):
        ours, theirs = first_byte(likely), first_byte(peer, skip=b"==========")
        inside = subprocess.run([sys.executable, "-c", PHASES], capture_output=True, text=True, check=True).stdout
        if round_:  # the first round fills the file cache
            times["likely"].append(ours)
            times["mlx_lm.generate"].append(theirs)
            phases.append([float(x) for x in inside.split()])
    figures = {name: [round(q, 3) for q in quartiles(values)] for name, values in times.items()}
    ratio = figures["likely"][0] / figures["mlx_lm.generate"][0]
    split = [round(quartiles(list(column))[0], 3) for column in zip(*phases, strict=True)]
    print(f"first token after {figures} s (lower quartile, median): {ratio:.2f} of mlx-lm's")
    print(f"inside likely: import {split[0]} s, load {split[1]} s, first token {split[2]} s")
    print(json.dumps({**figures, "ratio": round(ratio, 3), "import_load_first_s": split}))


if __name__ == "__main__":
    main()
