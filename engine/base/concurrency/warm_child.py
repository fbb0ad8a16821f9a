"""A Python child that is kept for the next question: begun when it is first asked, ended with the program.

Knows neither questions nor answers.
"""

import atexit
import os
import subprocess

from likely.engine.base.concurrency import child_python


class WarmChild:
    """The child of a module, at most one; a fork begins its own."""

    def __init__(self, module: str, *, stderr: int = subprocess.DEVNULL) -> None:
        self._module, self._stderr = module, stderr
        self._process: subprocess.Popen[bytes] | None = None
        atexit.register(self.end)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    def process(self) -> "tuple[subprocess.Popen[bytes], bool]":
        """The child, and whether it has been begun just now: then its first words are still to be read."""
        if self._process is not None and self._process.poll() is None:
            return self._process, False
        self.end()
        self._process = subprocess.Popen(
            child_python.command(self._module), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr,
            bufsize=0, start_new_session=True,
        )  # fmt: skip
        return self._process, True

    def end(self) -> None:
        """Let it go; the next question begins another."""
        child, self._process = self._process, None
        if child is None:
            return
        child.kill()
        for stream in (child.stdin, child.stdout, child.stderr):
            if stream is not None:
                stream.close()
        child.wait()

    def _forget(self) -> None:
        self._process = None
