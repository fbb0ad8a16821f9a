"""`Verifier`: a program of the user's that judges one answer. No model.

It reads one line of JSON, {"prompt", "said", "answer", "answers", "row"}: what was asked, all that was said, the answer
that a rule found in it, those known to be right, and the row of the data. Its verdict is what it prints: a number,
larger for better, or a word; of one that prints nothing, the exit code: 0 says right, 1 wrong.
"""

import json
import math
import os
import selectors
import shlex
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from likely.engine.errors import LikelyError, ParameterError

RIGHT = 0.5  # the least verdict that says right
MOST = 1 << 16  # bytes of output that are kept
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
        """The verifier that a command line starts. ParameterError where it names no program."""
        try:
            words = shlex.split(command)
        except ValueError as error:
            raise ParameterError(f"the verifier {command!r} is no command: {error}") from None
        if not words:
            raise ParameterError("the verifier is an empty command: give a program and its arguments")
        return cls(tuple(words), timeout_s)

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
        pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        try:
            process = subprocess.Popen(self.words, **pipes, bufsize=0, start_new_session=True)
        except OSError as error:
            raise VerifierError(f"cannot start the verifier {self.words[0]}: {error.strerror or error}") from None
        try:
            out, err = _exchange(process, (json.dumps(request, default=str) + "\n").encode(), self.timeout_s)
        except subprocess.TimeoutExpired:
            raise VerifierError(f"the verifier gave no verdict within {self.timeout_s:g} s: it was stopped") from None
        finally:
            _end(process)
        word = out.decode(errors="replace").strip()
        if not word and (process.returncode == 0 or (process.returncode == 1 and not err.strip())):
            return 1.0 - process.returncode
        if process.returncode:
            lines = [line for line in err.decode(errors="replace").splitlines() if line.strip()]
            why = lines[-1].strip()[:200] if lines else "it said nothing"
            raise VerifierError(f"the verifier ended with {process.returncode}: {why}")
        return _verdict(word)


def _exchange(process: "subprocess.Popen[bytes]", request: bytes, timeout_s: float) -> tuple[bytes, bytes]:
    """The program's output and its last complaints, none longer than `MOST`: one that never ends takes no memory.

    VerifierError for more output, subprocess.TimeoutExpired where it does not end in time.
    """
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    heard = {process.stdout.fileno(): bytearray(), process.stderr.fileno(): bytearray()}
    ends = time.monotonic() + timeout_s
    os.set_blocking(process.stdin.fileno(), False)
    with selectors.DefaultSelector() as pipes, process.stdin, process.stdout, process.stderr:
        pipes.register(process.stdin, selectors.EVENT_WRITE)
        for pipe in heard:
            pipes.register(pipe, selectors.EVENT_READ)
        while pipes.get_map():
            if (rest_s := ends - time.monotonic()) <= 0:
                raise subprocess.TimeoutExpired(process.args, timeout_s)
            for key, _ in pipes.select(rest_s):
                if key.fd in heard:
                    part = os.read(key.fd, 1 << 16)
                    heard[key.fd] += part
                    over = not part
                else:
                    with suppress(BlockingIOError):
                        try:
                            request = request[os.write(key.fd, request) :]
                        except BrokenPipeError:  # it does not want to know
                            request = b""
                    over = not request
                if over:
                    pipes.unregister(key.fileobj)
                    if key.fd not in heard:
                        process.stdin.close()
            out, err = heard.values()
            if len(out) > MOST:
                raise VerifierError(
                    f"the verifier printed more than {MOST:,} bytes: it must print one number, or yes or no"
                )
            del err[:-MOST]
    process.wait(max(ends - time.monotonic(), 0.01))
    return bytes(out), bytes(err)


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
