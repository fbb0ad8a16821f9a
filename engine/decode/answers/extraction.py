"""`Extraction`: the answer in a text, by a rule, in a form in which equal answers are equal. Plain text in and out."""

import re
import unicodedata
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from likely.engine.base.errors import ParameterError
from likely.engine.decode.answers.program import VerifierError

# the blanks of a fraction are bounded: a text of blanks alone would take time that goes like their number squared
NUMBER = re.compile(r"[-+−]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?:\s{0,8}/\s{0,8}\d+)?(?:[eE][-+]?\d{1,3})?")
DIGITS = 3000  # of a number: Python spells none of more than 4,300, and an exponent adds up to 999
PATIENCE_S = 1.0  # for a person's expression and one text
MARKED = re.compile(r"####\s*|\\boxed\{|answer is:?\s*|answer:\s*", re.IGNORECASE)


def number(text: str) -> Fraction | None:
    """The number of an answer: the one after the last `####`, `\\boxed{` or "answer is", else the last one."""
    marks = list(MARKED.finditer(text))
    numbers = _numbers(text[marks[-1].end() :][:200]) if marks else []
    if numbers:
        return value(numbers[0])
    numbers = _numbers(text)
    return value(numbers[-1]) if numbers else None


def is_number(answer: str) -> bool:
    """Whether an answer is a number, or says one as its answer (`#### 7`), rather than words with one among them."""
    bare = answer.strip(" .$€£%\n")
    alone = NUMBER.fullmatch(bare) is not None and value(bare) is not None
    return alone or (MARKED.search(answer) is not None and number(answer) is not None)


def _numbers(text: str) -> list[str]:
    return [match[0] for match in NUMBER.finditer(text) if any(c.isdigit() for c in match[0])]


def value(text: str) -> Fraction | None:
    """The value of a number as it is written; None where it has none, or more than `DIGITS`."""
    if len(text) > DIGITS:
        return None
    over, _, under = "".join(text.replace(",", "").replace("−", "-").split()).partition("/")
    try:
        return Fraction(over) / (Fraction(under) if under else 1)
    except (ValueError, ZeroDivisionError):
        return None


def _number(text: str) -> str | None:
    fraction = number(text)
    return None if fraction is None else str(fraction)


def _last(pattern: str, flags: int = 0) -> Callable[[str], str | None]:
    """The last match of one of our expressions, none of which takes long."""
    compiled = re.compile(pattern, flags)
    return lambda text: _answer(compiled.finditer(text))


def _answer(matches: Iterable[Any]) -> str | None:
    """The first group of the last match that has one, else all of it; None for no match."""
    last = next(iter(deque(matches, maxlen=1)), None)
    return None if last is None else next((g for g in last.groups() if g is not None), str(last.group()))


def sought(pattern: str) -> Callable[[str], str | None]:
    """The last match of a person's regular expression, whose search may backtrack without end: the function that is
    given raises VerifierError where it takes longer than `PATIENCE_S`. ParameterError for no regular expression."""
    import regex

    try:
        compiled = regex.compile(pattern)
    except regex.error as error:
        raise ParameterError(f"{pattern!r} is no regular expression: {error}") from None

    def find(text: str) -> str | None:
        try:
            return _answer(compiled.finditer(text, timeout=PATIENCE_S))
        except TimeoutError:
            raise VerifierError(
                f"{pattern!r} was not done with a text of {len(text)} characters in {PATIENCE_S:g} s: repeat less in it"
            ) from None

    return find


def _line(text: str) -> str | None:
    """The last line that is not blank."""
    return next((line for line in reversed(text.split("\n")) if line.strip()), None)


def _boxed(text: str) -> str | None:
    r"""Content of the last \boxed{...}, braces in it included."""
    at = text.rfind("\\boxed{")
    depth = 0
    for i in range(at + len("\\boxed"), len(text)) if at >= 0 else ():
        depth += (text[i] == "{") - (text[i] == "}")
        if not depth:
            return text[at + len("\\boxed{") : i]
    return None


RULES: dict[str, Callable[[str], str | None]] = {
    "number": _number,
    "answer": _last(r"answer\s*(?:is|:|=)\s*([^\n]+)", re.IGNORECASE),
    "choice": _last(r"\(([A-Z])\)|\b([A-Z])\b(?=[.):]|\s*$)"),
    "boxed": _boxed,
    "line": _line,
    "all": str,
}


@dataclass(frozen=True, slots=True)
class Extraction:
    """A rule by its name in `RULES`, or a regular expression: its last match counts, of that the first group."""

    rule: str = "number"
    _find: Callable[[str], str | None] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        find = RULES.get(self.rule)
        if find is None:
            if re.fullmatch(r"[a-z-]+", self.rule):
                raise ParameterError(
                    f"{self.rule!r} is no rule of extraction: one of {', '.join(RULES)}, or a regular expression"
                )
            find = sought(self.rule)
        object.__setattr__(self, "_find", find)

    def __call__(self, text: str) -> str | None:
        """The answer in its one form; None where the text has none. VerifierError where a search takes too long."""
        answer = self._find(text)
        return (canonical(answer) or None) if answer is not None else None


def canonical(answer: str) -> str:
    """One form for answers that mean the same: case, spaces, the full stop behind; of numbers the value."""
    text = " ".join(unicodedata.normalize("NFKC", answer).replace("−", "-").split()).strip(" .,:;!*$").casefold()
    fraction = value(text) if NUMBER.fullmatch(text) else None
    return text if fraction is None else str(fraction)
