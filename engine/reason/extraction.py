"""`Extraction`: the answer in a text, by a rule, in a form in which equal answers are equal. Plain text in and out."""

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction

from engine.errors import ParameterError

NUMBER = r"[-+−]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:\s*/\s*\d+)?"


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
    "number": _last(NUMBER),
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
        """The answer, normalised; None where the text has none."""
        found = self._find(text)
        return (normalised(found) or None) if found is not None else None


def normalised(answer: str) -> str:
    """One form for answers that mean the same: case, spaces, the full stop behind; of numbers the value."""
    text = " ".join(unicodedata.normalize("NFKC", answer).replace("−", "-").split()).strip(" .,:;!*$").casefold()
    number = text.replace(" ", "")
    if not re.fullmatch(NUMBER, number):
        return text
    try:
        value = Fraction(number.replace(",", ""))
    except (ValueError, ZeroDivisionError):
        return text
    return str(value)
