"""Seconds to the first token of a prompt that another run has read: with the prefix cache's files, and without.

    python benchmarks/prefix.py [--rounds 5] [--context 1000] [--bits 4]

`again` is the same prompt, `begun` one that begins with it and goes on with 24 other tokens. A fresh session for every
measurement, as in a new process, the model being loaded; the files are warm in the page cache. They take turns. With
`--bits` the cache is packed. One JSON line at the end.
"""

import argparse
import json
import shutil
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
    parser.add_argument("--bits", type=int, choices=[4, 8])
    options = parser.parse_args()

    from benchmarks.decode import prompt
    from likely.engine.decode.loop.control import RunControl
    from likely.engine.decode.loop.events import Emitted
    from likely.engine.decode.prefix_cache import Prefixes
    from likely.engine.decode.session import Session
    from likely.engine.weights.sources.checkpoint import load

    checkpoint = load("smollm2")
    ids = prompt(options.context)

    kind = {} if options.bits is None else {"bits": options.bits}

    def first_token(text: list[int], prefixes: Prefixes | None) -> float:
        session, began = Session(checkpoint, prefixes, **kind), time.perf_counter()
        next(event for event in session.generate(text, RunControl(), max_tokens=1) if isinstance(event, Emitted))
        return time.perf_counter() - began

    seconds: dict[str, list[float]] = {"read": [], "again": [], "begun": []}
    with tempfile.TemporaryDirectory() as stored, tempfile.TemporaryDirectory() as begun:
        first_token(ids, Prefixes("smollm2", folder=Path(stored)))
        nbytes = sum(file.stat().st_size for file in Path(stored).iterdir())
        for n in range(options.rounds):
            seconds["read"].append(first_token(ids, None))
            seconds["again"].append(first_token(ids, Prefixes("smollm2", folder=Path(stored))))
            folder = shutil.copytree(stored, Path(begun) / str(n))  # what is new in it is found by nobody else
            seconds["begun"].append(first_token([*ids, *range(2000, 2024)], Prefixes("smollm2", folder=folder)))
    figures: dict[str, float] = {f"{name}_s": median(values) for name, values in seconds.items()}
    figures |= {f"{name}_ratio": figures["read_s"] / figures[f"{name}_s"] for name in ("again", "begun")}
    rounded = {name: round(value, 4) for name, value in figures.items()}
    print(json.dumps({"benchmark": "prefix", "model": "smollm2", **vars(options), **rounded, "file_nbytes": nbytes}))


if __name__ == "__main__":
    main()
