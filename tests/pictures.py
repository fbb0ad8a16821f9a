"""Texts that were looked at and kept, as a page, a screen or an answer: what a test makes is compared with its file.

After a change that is meant: `LIKELY_PICTURES=write pytest` of the tests, then look at the difference.
"""

import os
from collections.abc import Iterable
from pathlib import Path

TESTS = Path(__file__).parent


def written_anew() -> bool:
    """Whether pictures are to be written, not compared."""
    return os.environ.get("LIKELY_PICTURES") == "write"


def is_picture(name: str, text: str) -> bool:
    """Whether a text is that of a file below the folder of the tests."""
    return text == (TESTS / name).read_text(encoding="utf-8")


def assert_picture(name: str, made: str | Iterable[str]) -> None:
    """A text, or lines, are those of a file below the folder of the tests, to the last character."""
    path, text = TESTS / name, made if isinstance(made, str) else "".join(f"{line}\n" for line in made)
    if written_anew():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    wanted = path.read_text(encoding="utf-8")
    if text != wanted:
        raise AssertionError(_difference(name, text.split("\n"), wanted.split("\n")))


def _difference(name: str, made: list[str], wanted: list[str]) -> str:
    """The first lines that differ, below some before them."""
    differ = (at for at, (one, other) in enumerate(zip(made, wanted, strict=False)) if one != other)
    at = next(differ, min(len(made), len(wanted)))
    parts = ("\n".join(lines[max(at - 6, 0) : at + 3]) for lines in (made, wanted))
    return "\nwanted\n".join((f"{name} looks different from line {at + 1} on: got\n{next(parts)}", next(parts)))
