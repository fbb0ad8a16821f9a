"""`Verifier`: a program of the user's that judges one answer. No model.

It reads one line of JSON, {"prompt", "said", "answer", "answers", "row"}: what was asked, all that was said, the answer
that a rule found in it, those known to be right, and the row of the data. Its verdict is what it prints: a number,
larger for better, or a word; of one that prints nothing, the exit code: 0 says right, 1 wrong.

What a model said may be run by it, so it is bounded: in time, memory, output, open files and the size of a file; it
begins in an empty folder that goes with it, with the environment of `KEPT` alone. It is no prison: it runs as the user,
may read and write what the user may by its whole name, and may use the network.
"""

import hashlib
import json
import math
import os
import selectors
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from likely.engine.base.concurrency.child_python import resident
from likely.engine.base.errors import LikelyError, ParameterError
from likely.engine.base.files.whole_file import open_file

RIGHT = 0.5  # the least verdict that says right
MOST = 1 << 16  # bytes of output that are kept
MEMORY = 4 << 30  # bytes that a process of it may have written to: macOS takes no such bound, there it is looked at
FILE = 16 << 20  # bytes of a file that it writes
OPEN = 64  # files that a process of it has open
LOOK_S = 0.1  # between two looks at a program that says nothing
KEPT = "HOME", "LANG", "LC_ALL", "LC_CTYPE", "PATH", "TZ"  # of our environment: no keys, no paths of modules
# a shell sets the bounds and becomes the program: nothing of ours runs between fork and exec; `-t` ends what has left
# the group, too
BOUNDED = f"for bound in '-c 0' '-d {MEMORY >> 10}' '-f {FILE >> 9}' '-n {OPEN}' \"-t $0\"; do " + (
    'ulimit $bound 2>/dev/null || :; done; exec "$@"'
)
WORDS = {"true": 1.0, "yes": 1.0, "right": 1.0, "false": 0.0, "no": 0.0, "wrong": 0.0}


class VerifierError(LikelyError):
    """A program that gave no verdict, in a few words."""


@dataclass(frozen=True, slots=True)
class Verifier:
    """Judges with a program, started once for each answer, that has `timeout_s` seconds."""

    words: tuple[str, ...]
    timeout_s: float = 10.0

    @classmethod
    def of(cls, command: str, timeout_s: float = 10.0) -> "Verifier":
        """The verifier that a command line starts. ParameterError where it names no program that can be started."""
        try:
            words = shlex.split(command)
        except ValueError as error:
            raise ParameterError(f"the verifier {command!r} is no command: {error}") from None
        if not words:
            raise ParameterError("the verifier is an empty command: give a program and its arguments")
        _found(words[0])
        return cls(tuple(words), timeout_s)

    @property
    def identity(self) -> str:
        """Another one for another command, or where the program or the first file that it is given has changed: a
        script, mostly. Files behind that may be what it writes."""
        digest = hashlib.sha256(json.dumps(self.words).encode())
        script = next(filter(os.path.isfile, self.words[1:]), None)
        for path in filter(None, (_found(self.words[0]), script)):
            with open_file(Path(path)) as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()

    def __call__(
        self,
        prompt: str,
        said: str,
        *,
        answer: str | None = None,
        answers: Sequence[str] = (),
        row: Mapping[str, Any] | None = None,
    ) -> float:
        """The verdict. VerifierError where there is none: it and what it started are ended then."""
        request = {"prompt": prompt, "said": said, "answer": answer, "answers": list(answers), "row": dict(row or {})}
        data = (json.dumps(request, default=str) + "\n").encode()
        pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        with tempfile.TemporaryDirectory(prefix="likely-verifier-", ignore_cleanup_errors=True) as empty:
            kept = {name: os.environ[name] for name in KEPT if name in os.environ} | {"TMPDIR": empty}
            try:
                words = _bounded(self.words, self.timeout_s)
                process = subprocess.Popen(words, **pipes, cwd=empty, env=kept, bufsize=0, start_new_session=True)
            except (OSError, ParameterError) as error:
                raise VerifierError(getattr(error, "strerror", None) or str(error)) from None
            try:
                out, err = _exchange(process, data, self.timeout_s)
            except subprocess.TimeoutExpired:
                line = f"the verifier gave no verdict within {self.timeout_s:g} s: it was stopped"
                raise VerifierError(line) from None
            finally:
                _end(process)
        word = out.decode(errors="replace").strip()
        if not word and (process.returncode == 0 or (process.returncode == 1 and not err.strip())):
            return 1.0 - process.returncode
        if process.returncode:
            lines = [line for line in _shown(err).split("\n") if line.strip()]
            why = lines[-1].strip()[:200] if lines else "it said nothing"
            raise VerifierError(f"the verifier ended with {process.returncode}: {why}")
        return _verdict(word)


def check(words: Sequence[str]) -> None:
    """ParameterError where these words start no program."""
    _found(words[0])


def _found(name: str) -> str:
    """The whole path of a program."""
    if (path := shutil.which(name)) is None:
        why = "it cannot be run (chmod +x makes it)" if os.path.isfile(name) else "there is no such program"
        raise ParameterError(f"cannot start the verifier {name}: {why}")
    return os.path.abspath(path)


def _bounded(words: Sequence[str], timeout_s: float) -> list[str]:
    """The command within its bounds; files that are named from our folder by their whole names, as it has another."""
    processor_s = (math.ceil(timeout_s) + 1) * (os.cpu_count() or 1)
    named = [os.path.abspath(word) if os.path.isfile(word) else word for word in words[1:]]
    return ["/bin/sh", "-c", BOUNDED, str(processor_s), _found(words[0]), *named]


def _exchange(process: "subprocess.Popen[bytes]", request: bytes, timeout_s: float) -> tuple[bytes, bytes]:
    """The program's output until it ended, and its last complaints, none longer than `MOST`: one that never ends takes
    no memory, and those whom it has started and left behind are not waited for.

    VerifierError for more output or memory, subprocess.TimeoutExpired where it does not end in time.
    """
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    heard = {process.stdout.fileno(): bytearray(), process.stderr.fileno(): bytearray()}
    ends = time.monotonic() + timeout_s
    os.set_blocking(process.stdin.fileno(), False)
    with selectors.DefaultSelector() as pipes, process.stdin, process.stdout, process.stderr:
        pipes.register(process.stdin, selectors.EVENT_WRITE)
        for pipe in heard:
            pipes.register(pipe, selectors.EVENT_READ)
        over = False
        while not over:
            over = process.poll() is not None  # before the look: all that it has said lies in the pipes then
            rest_s = ends - time.monotonic()
            if not over and rest_s > 0 and len(pipes.get_map()) == (not process.stdin.closed):  # it says no more
                process.wait(rest_s)
                continue
            if not over and rest_s <= 0:
                raise subprocess.TimeoutExpired(process.args, timeout_s)
            ready = pipes.select(0 if over else min(rest_s, LOOK_S))
            for key, _ in ready:
                if key.fd in heard:
                    part = os.read(key.fd, 1 << 16)
                    heard[key.fd] += part
                    done = not part
                else:
                    with suppress(BlockingIOError):
                        try:
                            request = request[os.write(key.fd, request) :]
                        except BrokenPipeError:  # it does not want to know
                            request = b""
                    done = not request
                if done:
                    pipes.unregister(key.fileobj)
                    if key.fd not in heard:
                        process.stdin.close()
            out, err = heard.values()
            if len(out) > MOST:
                raise VerifierError(
                    f"the verifier printed more than {MOST:,} bytes: it must print one number, or yes or no"
                )
            del err[:-MOST]
            if sys.platform != "linux" and not ready and resident(process.pid) > MEMORY:
                raise VerifierError(f"the verifier took more than {MEMORY >> 30} GB of memory: it was stopped")
    return bytes(out), bytes(err)


def _shown(said: bytes) -> str:
    """The text that a program wrote, without what would control a terminal."""
    return "".join(c if c.isprintable() or c == "\n" else " " for c in said.decode(errors="replace"))


def _verdict(word: str) -> float:
    """The verdict in what was printed."""
    if word.casefold() in WORDS:
        return WORDS[word.casefold()]
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise VerifierError(f"the verifier must print one number, or yes or no, got {word[:80]!r}")
    return value


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a program and all that it started, which would go on otherwise."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
