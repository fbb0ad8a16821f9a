"""Verifiers: whether an answer that was drawn is right, from plain comparison to a program that is asked.

Each says exactly what it does, since a score is worth no more than its verifier. No model.
"""

import json
import os
import re
import signal
import subprocess
import unicodedata
from collections.abc import Callable, Sequence
from contextlib import suppress
from fractions import Fraction

from engine.errors import ParameterError
from engine.evaluate.tasks import Question, TaskSettings

SCORERS = ("exact", "normalised", "numeric", "regex", "program")
NUMBER = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?:/\d+)?(?:[eE][-+]?\d{1,3})?")
MARKED = re.compile(r"####\s*|\\boxed\{|answer is:?\s*|answer:\s*", re.IGNORECASE)
CLOSE = Fraction(1, 10**6)


class Hung(Exception):
    """A program that gave no verdict, in a few words."""


def check(settings: TaskSettings) -> None:
    """ParameterError for scorers that there are not, or that lack what they need."""
    for name in settings.scorers:
        if name not in SCORERS:
            raise ParameterError(f"there is no scorer {name!r}: one of {', '.join(SCORERS)}")
    if "program" in settings.scorers and not settings.program:
        raise ParameterError("the scorer program needs a program: a list of the words that start it")
    if "regex" in settings.scorers and not settings.pattern:
        raise ParameterError("the scorer regex needs a pattern")
    try:
        re.compile(settings.pattern)
    except re.error as error:
        raise ParameterError(f"pattern {settings.pattern!r} is no regular expression: {error}") from None


def judge(question: Question, said: str, settings: TaskSettings) -> dict[str, float]:
    """1 or 0 by each scorer: those that are set, or exact, normalised and, where the answer is a number, numeric.

    Raises Hung where a program gives no verdict.
    """
    names = settings.scorers
    if not names:
        numeric = all(number(answer) is not None for answer in question.answers)
        names = ("exact", "normalised", *(["numeric"] if numeric else []))
    found = {}
    for name in names:
        if name == "program":
            found[name] = float(verdict(question, said, settings))
        else:
            found[name] = float(any(_RIGHT[name](said, answer, settings) for answer in question.answers))
    return found


def final(said: str, scorer: str, settings: TaskSettings) -> str:
    """The answer in the form in which two of them are the same answer, for a vote."""
    if scorer == "numeric":
        value = number(said)
        return "" if value is None else str(value)
    if scorer == "regex":
        return extracted(said, settings.pattern)
    return normalised(said) if scorer == "normalised" else said.strip()


def exact(said: str, answer: str, _: TaskSettings) -> bool:
    """Equal but for white space around."""
    return said.strip() == answer.strip()


def normalised(text: str) -> str:
    """Lower case without punctuation, articles and repeated white space (SQuAD's rule, in Unicode)."""
    text = unicodedata.normalize("NFKC", text).casefold()
    text = "".join(" " if unicodedata.category(c)[0] in "PS" else c for c in text)
    return " ".join(word for word in text.split() if word not in ("a", "an", "the"))


def number(text: str) -> Fraction | None:
    """The number of an answer: the one after the last `####`, `\\boxed{` or "answer is", else the last one."""
    marks = list(MARKED.finditer(text))
    if marks and (found := _first(text[marks[-1].end() :])) is not None:
        return found
    values = [match[0] for match in NUMBER.finditer(text) if any(c.isdigit() for c in match[0])]
    return _fraction(values[-1]) if values else None


def _first(text: str) -> Fraction | None:
    values = (match[0] for match in NUMBER.finditer(text[:200]) if any(c.isdigit() for c in match[0]))
    return next((_fraction(value) for value in values), None)


def _fraction(text: str) -> Fraction | None:
    over, _, under = text.replace(",", "").partition("/")
    try:
        return Fraction(over) / (Fraction(under) if under else 1)
    except (ValueError, ZeroDivisionError):
        return None


def extracted(said: str, pattern: str) -> str:
    """The last match of a pattern, of its first group if it has one; "" for none."""
    found = list(re.finditer(pattern, said))
    if not found:
        return ""
    return (found[-1][1] if found[-1].re.groups else found[-1][0]) or ""


def _numeric(said: str, answer: str, _: TaskSettings) -> bool:
    a, b = number(said), number(answer)
    return a is not None and b is not None and abs(a - b) <= CLOSE * max(Fraction(1), abs(b))


_RIGHT: dict[str, Callable[[str, str, TaskSettings], bool]] = {
    "exact": exact,
    "normalised": lambda said, answer, _: normalised(said) == normalised(answer) != "",
    "numeric": _numeric,
    "regex": lambda said, answer, s: extracted(said, s.pattern).strip() == answer.strip(),
}


def verdict(question: Question, said: str, settings: TaskSettings) -> bool:
    """Verdict of a program on an answer: it gets {"prompt", "answers", "said", "row"} as JSON on standard input, and
    exits with 0 for right and 1 for wrong. Raises Hung for whatever else; it and what it started are ended then."""
    asked = {"prompt": question.prompt, "answers": question.answers, "said": said, "row": question.row}
    words: Sequence[str] = settings.program
    try:
        process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
    except OSError as error:
        raise ParameterError(f"cannot start the verifier {words[0]}: {error.strerror}") from None
    try:
        process.communicate(json.dumps(asked, default=str).encode(), timeout=settings.seconds)
    except subprocess.TimeoutExpired:
        raise Hung(f"the verifier gave no verdict within {settings.seconds:g} s") from None
    finally:
        _end(process)
    if process.returncode in (0, 1):
        return process.returncode == 0
    raise Hung(f"the verifier ended with {process.returncode}: 0 says right, 1 wrong")


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a program and all that it started, which would go on otherwise."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
