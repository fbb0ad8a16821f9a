"""A machine that stays awake while long work is done: macOS would sleep in the middle of a training.

The child that holds sleep off waits for the end of a pipe from this process, so that it goes when this process does,
however that ends.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

HOLD = ("/usr/bin/caffeinate", "-i", "/bin/cat")  # no idle sleep, as long as cat reads


def words() -> str:
    """A line for the person on how sleep is held off here; "" where it is not."""
    if sys.platform != "darwin":
        return ""
    return "sleep is held off until it ends (caffeinate); a closed lid still sleeps"


@contextmanager
def kept_awake() -> Iterator[None]:
    """Hold sleep off until the block ends; without effect where the system has no caffeinate."""
    child = None
    if sys.platform == "darwin":
        with suppress(OSError):  # no caffeinate: the work is done all the same
            child = subprocess.Popen(HOLD, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        if child is not None and child.stdin is not None:
            child.stdin.close()
            child.wait()
