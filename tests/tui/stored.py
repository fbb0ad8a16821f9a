"""Texts that were looked at and kept: what is laid out or said is compared with them.

After a change that is meant: `LIKELY_PICTURES=write pytest` of the test, then look at the difference.
"""

import os
from collections.abc import Iterable
from pathlib import Path

KEPT = Path(__file__).with_name("pictures") / "texts"


def assert_stored(name: str, lines: Iterable[str]) -> None:
    """Lines are those of a file beside the pictures of screens."""
    path, text = KEPT / name, "\n".join(lines) + "\n"
    if os.environ.get("LIKELY_PICTURES") == "write":
        path.write_text(text, encoding="utf-8")
    wanted = path.read_text(encoding="utf-8")
    if text != wanted:
        both = list(zip(text.split("\n"), wanted.split("\n"), strict=False))
        at = next((i for i, (one, other) in enumerate(both) if one != other), len(both))
        raise AssertionError(
            f"{name}, line {at + 1}: got\n{chr(10).join(text.split(chr(10))[max(at - 6, 0) : at + 3])}\nwanted\n"
            + "\n".join(wanted.split("\n")[max(at - 6, 0) : at + 3])
        )
