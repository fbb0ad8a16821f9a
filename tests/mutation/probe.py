"""Coverage by probe: statements that say they were reached, once a test, in this process and in those it starts.

A probe is `probe_hit(number)`, which stands among the builtins. Written are numbers, a line each, to the file that
LIKELY_HITS names. Knows nothing of mutants.
"""

import builtins
import os

_seen: set[int] = set()
_file: int | None = None


def begin(path: str) -> None:
    """From here on to this file, which starts empty."""
    global _file
    if _file is None:
        _file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.ftruncate(_file, 0)
    _seen.clear()


def hit(number: int) -> None:
    if number not in _seen and _file is not None:
        _seen.add(number)
        os.write(_file, b"%d\n" % number)


builtins.probe_hit = hit  # type: ignore[attr-defined]
if "LIKELY_HITS" in os.environ:  # a process that a test has started
    _file = os.open(os.environ["LIKELY_HITS"], os.O_WRONLY | os.O_APPEND)
