"""Coverage by function: a pytest plugin that records which functions of the program each test calls.

Functions rather than lines: a call is all that is traced, which costs a fraction of a line's trace. Written as JSON to
the file that LIKELY_CALLS names, a test at a time. Knows nothing of mutants.
"""

import json
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

ROOT = str(Path(__file__).parents[2]) + os.sep
FOLDERS = tuple(ROOT + name + os.sep for name in ("app", "engine", "metal", "models"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Record one test, with its fixtures."""
    called: set[tuple[str, int]] = set()

    def note(frame: FrameType, event: str, _: Any) -> None:  # gives no tracer: of a frame its call alone is told
        code = frame.f_code
        if code.co_filename.startswith(FOLDERS):
            called.add((code.co_filename[len(ROOT) :], code.co_firstlineno))

    sys.settrace(note)
    threading.settrace(note)
    try:
        return (yield)
    finally:
        sys.settrace(None)
        threading.settrace(None)  # type: ignore[arg-type]
        line = {"test": item.nodeid, "calls": sorted(called)}
        with open(os.environ["LIKELY_CALLS"], "a") as file:
            file.write(json.dumps(line) + "\n")
