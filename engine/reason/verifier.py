"""`Verifier`: a program of the user's that judges an answer, read on its standard input, by one number on its output.

It is started once for each answer. That it crashes, hangs or prints something else is said in one line, and is no
verdict.
"""

import json
import math
import shlex
import subprocess
from dataclasses import dataclass

from engine.errors import LikelyError, ParameterError

WORDS = {"true": 1.0, "yes": 1.0, "right": 1.0, "false": 0.0, "no": 0.0, "wrong": 0.0}


class VerifierError(LikelyError):
    """A program that gave no verdict."""


@dataclass(frozen=True, slots=True)
class Verifier:
    """Judges with `command`, at most `timeout_s` seconds an answer."""

    command: str
    timeout_s: float = 10.0

    def __post_init__(self) -> None:
        try:
            words = shlex.split(self.command)
        except ValueError as error:
            raise ParameterError(f"the verifier {self.command!r} is no command: {error}") from None
        if not words:
            raise ParameterError("the verifier is an empty command: give a program and its arguments")

    def __call__(self, question: str, text: str, answer: str | None) -> float:
        """The verdict: a number, larger for better, or a word of `WORDS`. VerifierError where there is none.

        The program reads {"question", "text", "answer"}, one line of JSON.
        """
        given = json.dumps({"question": question, "text": text, "answer": answer}) + "\n"
        try:
            ran = subprocess.run(
                shlex.split(self.command), input=given, capture_output=True, text=True, errors="replace",
                timeout=self.timeout_s, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise VerifierError(f"the verifier gave no verdict in {self.timeout_s:g} s: it was stopped") from None
        except OSError as error:
            raise VerifierError(f"the verifier cannot be started: {error.strerror or error}") from None
        if ran.returncode:
            said = next((line for line in reversed(ran.stderr.splitlines()) if line.strip()), "it said nothing")
            raise VerifierError(f"the verifier ended with code {ran.returncode}: {said.strip()[:200]}")
        word = ran.stdout.strip()
        if word.casefold() in WORDS:
            return WORDS[word.casefold()]
        try:
            value = float(word)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise VerifierError(f"the verifier must print one number, or yes or no, got {word[:80]!r}")
        return value
