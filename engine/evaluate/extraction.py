"""`Extraction`: the answer in a text, by a rule, in a form in which equal answers are equal. Plain text in and out."""

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction

from engine.errors import ParameterError

NUMBER = re.compile(r"[-+−]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?:\s*/\s*\d+)?(?:[eE][-+]?\d{1,3})?")
MARKED = re.compile(r"####\s*|\\boxed\{|answer is:?\s*|answer:\s*", re.IGNORECASE)


def number(text: str) -> Fraction | None:
    """The number of an answer: the one after the last `####`, `\\boxed{` or "answer is", else the last one."""
    marks = list(MARKED.finditer(text))
    found = _numbers(text[marks[-1].end() :][:200]) if marks else []
    if found:
        return value(found[0])
    found = _numbers(text)
    return value(found[-1]) if found else None


def _numbers(text: str) -> list[str]:
    return [match[0] for match in NUMBER.finditer(text) if any(c.isdigit() for c in match[0])]


def value(text: str) -> Fraction | None:
    """The value of a number as it is written; None where it has none."""
    over, _, under = "".join(text.replace(",", "").replace("−", "-").split()).partition("/")
    try:
        return Fraction(over) / (Fraction(under) if under else 1)
    except (ValueError, ZeroDivisionError):
        return None


def _number(text: str) -> str | None:
    found = number(text)
    return None if found is None else str(found)


def _last(pattern: str, flags: int = 0) -> Callable[[str], str | None]:
    compiled = re.compile(pattern, flags)

    def find(text: str) -> str | None:
        found = [next((g for g in match.groups() if g is not None), match.group()) for match in compiled.finditer(text)]
        return found[-1] if found else None

    return find


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
    "line": _last(r"[^\n]*\S[^\n]*"),
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
            try:
                find = _last(self.rule)
            except re.error as error:
                raise ParameterError(f"{self.rule!r} is no regular expression: {error}") from None
        object.__setattr__(self, "_find", find)

    def __call__(self, text: str) -> str | None:
        """The answer in its one form; None where the text has none."""
        found = self._find(text)
        return (canonical(found) or None) if found is not None else None


def canonical(answer: str) -> str:
    """One form for answers that mean the same: case, spaces, the full stop behind; of numbers the value."""
    text = " ".join(unicodedata.normalize("NFKC", answer).replace("−", "-").split()).strip(" .,:;!*$").casefold()
    found = value(text) if NUMBER.fullmatch(text) else None
    return text if found is None else str(found)


def extracted(said: str, pattern: str) -> str:
    """The last match of a pattern, of its first group if it has one; "" for none."""
    return _last(pattern)(said) or ""
