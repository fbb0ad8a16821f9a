"""`ask`: chat templates run in a process of their own, kept warm, which is ended where it takes too long or too much.

A template is a program, and bounding its constructs one by one is a race: what grows or never ends is known by growing
or not ending. The child (`child`) has a bound of memory from the system; where that has none (a Mac) its
size is looked at from here. Knows nothing of conversations.
"""

import json
import os
import pickle
import select
import subprocess
import sys
import threading
import time
from typing import Any

from likely.engine.base.concurrency import child_python
from likely.engine.base.concurrency.warm_child import WarmChild
from likely.engine.base.sandbox.child import LENGTH, MEMORY

TIME_S = 3.0  # for one text
START_S = 60.0  # for the child to begin, on a busy machine
LONGEST = 1 << 28  # bytes of an answer
LOOK_S = 0.2


class ChildStopped(Exception):
    """The child was ended: what it did too much of."""


class NotBegun(Exception):
    """There is no child: what it says, or the system."""


Child = subprocess.Popen[bytes]

_lock = threading.Lock()
_child = WarmChild("likely.engine.base.sandbox.child", stderr=subprocess.PIPE)
end = _child.end  # the next template begins another


def ask(source: str, values: dict[str, Any] | None) -> dict[str, Any]:
    """The child's answer for a template and values, or for None about its names. Raises ChildStopped, NotBegun."""
    data = pickle.dumps({"source": source, "values": values})
    with _lock:
        child = _warm()
        try:
            stdin = child.stdin
            assert stdin is not None
            stdin.write(LENGTH.pack(len(data)) + data)
            stdin.flush()
            return _read(child, TIME_S)
        except BrokenPipeError:
            how = child_python.how_it_ended(child)
            end()  # it may go on behind a pipe that it has closed
            raise ChildStopped(how) from None
        except (ChildStopped, KeyboardInterrupt):
            end()
            raise


def _warm() -> Child:
    child, begun = _child.process()
    if begun:
        try:
            _read(child, START_S)
        except ChildStopped as error:
            end()
            raise NotBegun(f"its process did not begin: {error}") from None
    return child


def _read(child: Child, seconds: float) -> dict[str, Any]:
    deadline = time.monotonic() + seconds
    size = LENGTH.unpack(_exactly(child, LENGTH.size, deadline))[0]
    if size > LONGEST:
        raise ChildStopped(f"it wrote more than {LONGEST} bytes")
    answer: dict[str, Any] = json.loads(_exactly(child, size, deadline))
    return answer


def _exactly(child: Child, size: int, deadline: float) -> bytes:
    out = child.stdout
    assert out is not None
    data = b""
    while len(data) < size:
        rest_s = deadline - time.monotonic()
        if rest_s <= 0:
            raise ChildStopped(f"it took more than {TIME_S:g} seconds")
        if not select.select([out], [], [], min(rest_s, LOOK_S))[0]:
            if sys.platform != "linux" and child_python.resident(child.pid) > MEMORY:
                raise ChildStopped(f"it took more than {MEMORY >> 30} GB of memory")
            continue
        part = os.read(out.fileno(), min(size - len(data), 1 << 16))
        if not part:
            raise ChildStopped(child_python.how_it_ended(child))
        data += part
    return data
