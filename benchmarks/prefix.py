"""Seconds to the first token of a prompt that another run has read: with the prefix cache's files, and without.

    python benchmarks/prefix.py [--rounds 5] [--context 1000]

A fresh session for every measurement, as in a new process, the model being loaded; the files are warm in the page
cache. The two take turns. One JSON line at the end.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parent.parent))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--context", type=int, default=1000)
    options = parser.parse_args()

    from benchmarks.decode import prompt
    from engine.checkpoint import load
    from engine.decode.control import Control, Emitted
    from engine.prefix import Prefixes
    from engine.session import Session

    checkpoint = load("smollm2")
    ids = prompt(options.context)

    def first_token(prefixes: Prefixes | None) -> float:
        session, began = Session(checkpoint, prefixes), time.perf_counter()
        next(event for event in session.generate(ids, Control(), max_tokens=1) if isinstance(event, Emitted))
        return time.perf_counter() - began

    seconds: dict[str, list[float]] = {"read": [], "restored": []}
    with tempfile.TemporaryDirectory() as folder:
        first_token(Prefixes("smollm2", folder=Path(folder)))
        for _ in range(options.rounds):
            seconds["read"].append(first_token(None))
            seconds["restored"].append(first_token(Prefixes("smollm2", folder=Path(folder))))
        nbytes = sum(file.stat().st_size for file in Path(folder).iterdir())
    read, restored = (median(values) for values in seconds.values())
    figures = {"read_s": round(read, 3), "restored_s": round(restored, 4), "ratio": round(read / restored, 1)}
    print(json.dumps({"benchmark": "prefix", "model": "smollm2", **vars(options), **figures, "file_nbytes": nbytes}))


if __name__ == "__main__":
    main()
