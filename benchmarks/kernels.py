"""Counts of our Metal kernels beside MLX's own in the simulator, against their targets.

    python benchmarks/kernels.py [part of a case's name]

Bytes and operations are exact; there is no time in it, for nothing here runs on a GPU. One JSON line at the end.
"""

import dataclasses
import json
import platform
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from metal.counts import table


def main() -> int:
    rows = []
    for row in table(sys.argv[1] if len(sys.argv) > 1 else ""):
        rows.append(row)
        print(f"{row.case}: {row.ours.distinct} bytes, {row.minimum} at least; {row.ours.states} between launches")
        for target in row.targets:
            print(
                f"    {'ok  ' if target.reached else 'MISS'} {target.what}: {target.got:.4f} (limit {target.limit:.4f})"
            )
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout
    missed = [f"{row.case}: {t.what}" for row in rows for t in row.targets if not t.reached]
    record = {
        "benchmark": "kernels",
        "commit": commit.strip(),
        "machine": f"simulator on {platform.machine()}",
        "targets": sum(len(row.targets) for row in rows),
        "missed": missed,
        "rows": [dataclasses.asdict(row) for row in rows],
    }
    print(json.dumps(record))
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())
