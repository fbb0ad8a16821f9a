"""`Verifier`: a program of the user's that judges one answer. No model.

It reads one line of JSON, {"prompt", "said", "answer", "answers", "row"}: what was asked, all that was said, the answer
that a rule found in it, those known to be right, and the row of the data. Its verdict is what it prints: a number,
larger for better, or a word; of one that prints nothing, the exit code: 0 says right, 1 wrong.
"""

import json
import math
import os
import shlex
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from engine.errors import LikelyError, ParameterError

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
        """By a command line. ParameterError for one that is none."""
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
        asked = {"prompt": prompt, "said": said, "answer": answer, "answers": list(answers), "row": dict(row or {})}
        pipe = subprocess.PIPE
        try:
            process = subprocess.Popen(self.words, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True)
        except OSError as error:
            raise VerifierError(f"cannot start the verifier {self.words[0]}: {error.strerror or error}") from None
        try:
            out, err = process.communicate((json.dumps(asked, default=str) + "\n").encode(), timeout=self.timeout_s)
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
