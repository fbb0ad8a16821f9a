"""Do two readings of one text agree? `python agree.py A.json B.json`, as `likely explain --json` writes them.

Red (exit code 1) where a token's log-probability is more than 0.05 nats apart: 16-bit arithmetic of a GPU beside
float32 of a CPU moves it by less, a wrong product by far more.
"""

import json
import sys
from pathlib import Path

APART = 0.05  # nats


def main() -> int:
    read = [json.loads(Path(name).read_text(encoding="utf-8"))["tokens"] for name in sys.argv[1:3]]
    if [token["id"] for token in read[0]] != [token["id"] for token in read[1]]:
        print("the texts are not the same tokens")
        return 1
    pairs = [(a["logprob"], b["logprob"]) for a, b in zip(*read, strict=True) if a["logprob"] is not None]
    apart = [abs(a - b) for a, b in pairs]
    fine = bool(apart) and all(each <= APART for each in apart)  # no number is not fine
    print(f"{len(pairs)} tokens, at most {max(apart, default=0.0):.2g} nats apart: {'the same' if fine else 'WRONG'}")
    return not fine


if __name__ == "__main__":
    sys.exit(main())
