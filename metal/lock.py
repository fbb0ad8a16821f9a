"""A lock of the system on an open file: one process at a time has it, and it ends with that process, by a kill too.

The ground of `engine.lock`, which says who holds one; here nobody is named.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

POLL_S = 0.1


def lock(file: int, *, wait: bool) -> bool:
    """Lock an open file; False where another holds it and it is not waited for. OSError on a disk without locks."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def alone(path: Path, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """A block that one process at a time is in, of all that name this file, which is made and stays.

    `waiting` is called again and again until the others have left. Raises OSError as the disk gives it.
    """
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        while not lock(file, wait=waiting is None):
            if waiting is not None:
                waiting()
            time.sleep(POLL_S)
        yield
    finally:
        os.close(file)
