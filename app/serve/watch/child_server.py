"""Server as a child process: started for one model, its address once it listens, its last line where it does not.

It ends with whoever holds it (`app.cli.tied_server`). Knows nothing of screens.
"""

import os
import subprocess
from pathlib import Path
from threading import Thread

from likely.engine.base.concurrency import child_python

LONGEST = 400  # characters of a line that is kept
READY = " at http"  # in the line that says where it listens


class ChildServer:
    """`likely serve` for one model alone, at a free port of this machine."""

    def __init__(self, model: str, home: Path, activation_bits: int | None = None, context: int | None = None) -> None:
        self.model = model
        rounded = () if activation_bits is None else ("--activation-bits", str(activation_bits))
        bounded = () if context is None else ("--context", str(context))
        self.address = ""  # once it listens
        self.stopped = False
        self._last = ""
        self._process: subprocess.Popen[str] | None = None
        try:
            self._process = subprocess.Popen(
                child_python.command(
                    *("likely.app.cli.commands.tied_server", "-M", model, "--only", "--port", "0", "--quiet"),
                    *rounded,
                    *bounded,
                ),
                env={**os.environ, "LIKELY_HOME": str(home)},
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,  # the terminal's signals are for who draws on it
            )
        except OSError as error:  # too many processes, or no memory for another
            self._last = f"no process can be started here: {error.strerror or error}"
            return
        self._reader = Thread(target=self._read, args=(self._process,), name="server's lines", daemon=True)
        self._reader.start()

    def _read(self, process: "subprocess.Popen[str]") -> None:
        assert process.stderr is not None
        for line in process.stderr:
            if not self.address and READY in line:
                self.address = "http" + line.rpartition(READY)[2].strip()
                self._last = ""  # no line so far is why it ends
            else:
                self._last = line.strip()[:LONGEST] or self._last

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def failure(self) -> str:
        """Why it is not there, in a line; "" while it is, or was told to go."""
        if self.alive or self.stopped:
            return ""
        if self._process is None:
            return self._last
        self._reader.join(0.2)
        code = self._process.returncode
        status = f"signal {-code}" if code < 0 else f"status {code}"
        return f"the server has ended: {self._last.removeprefix('Error: ') or status}"

    def stop(self) -> None:
        """End the server; returns at once."""
        self.stopped = True
        if self._process is None:
            return
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()
        if self.alive:
            self._process.terminate()
