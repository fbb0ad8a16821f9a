"""Steps of a chain of thought: where one ends, and whether the equations in it hold, worked out exactly.

Equations between numbers alone, with + - * / and their typographic signs, in the usual order. Whether the numbers are
those of the question is not known here: a chain of true equations can answer another one.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

LINES, SENTENCES, WORDS = r"[^\n]*\n+|[^\n]+$", r".*?[.!?](?:\s+|$)|.+$", r"\S+\s*"
NUMBER = r"[£$€]?-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?"
SIGNS = {"−": "-", "–": "-", "×": "*", "x": "*", "·": "*", "÷": "/", "+": "+", "-": "-", "*": "*", "/": "/"}
SIGN = r"(?:\s*[-−–+*×·/÷]\s*|\s+x\s+)"
SIDE = rf"{NUMBER}(?:{SIGN}{NUMBER})*"
# with no sign of equality too: a long sum that is none would else be tried again from each of its numbers on
CHAIN = re.compile(rf"(?<![\w.,]){SIDE}(?:\s*[=≈]\s*{SIDE})*")
LONGEST = 1000  # characters of a number that is worked out


@dataclass(frozen=True, slots=True)
class Equation:
    """An equation as it is written, and whether it holds."""

    text: str
    holds: bool


def units(text: str, ways: Sequence[str] = (LINES, SENTENCES, WORDS)) -> list[str]:
    """The steps of a text, each with what parts it from the next: by the first of `ways` that finds several."""
    for pattern in ways:
        matches = re.findall(pattern, text, re.DOTALL if pattern.startswith(".") else 0)
        if len(matches) > 1:
            return [str(unit) for unit in matches]
    return [text] if text else []


def equations(text: str) -> list[Equation]:
    """The equations of a text in their order; one with a variable, a bracket or a percentage in it is left out."""
    checked = []
    for match in CHAIN.finditer(text):
        sides = re.split(r"[=≈]", match[0])
        if len(sides) == 1:
            continue
        before, after = text[: match.start()].rstrip(" "), text[match.end() :]
        if before.endswith((*SIGNS.keys() - {"x"}, "=", "≈", ")", "^")) or re.match(
            r"\s*[%(^*/×÷=+]|[a-z](?!\w)", after
        ):
            continue
        values = [_value(side) for side in sides]
        if any(value is None for value in values) or not any(re.search(rf"\d{SIGN}", side) for side in sides):
            continue
        pairs = zip(sides, values, sides[1:], values[1:], strict=False)
        close = "≈" in match[0]
        holds = all(abs(x - y) <= _slack(a, b, close) for a, x, b, y in pairs)  # type: ignore[operator]
        checked.append(Equation(" ".join(match[0].split()), holds))
    return checked


def _slack(left: str, right: str, close: bool) -> Fraction:
    """How far apart two sides may be: a lone number with decimals, or after ≈, is rounded to the digits that it has."""
    digits = [len(side.partition(".")[2].strip()) for side in (left, right) if not re.search(rf"\d{SIGN}", side)]
    return Fraction(1, 2 * 10 ** min(digits)) if digits and (close or min(digits)) else Fraction(0)


def _value(side: str) -> Fraction | None:
    """The value of numbers with signs between them; None where it divides by zero, or one is longer than `LONGEST`."""
    terms = re.findall(rf"({SIGN}?)({NUMBER})", side)
    total, term = Fraction(0), Fraction(1)
    for i, (sign, number) in enumerate(terms):
        if len(number) > LONGEST:
            return None
        value, sign = Fraction(number.lstrip("£$€").replace(",", "")), SIGNS.get(sign.strip(), "+")
        if i == 0 or sign in "+-":
            total, term = total + term * (i > 0), -value if sign == "-" else value
        elif sign == "/" and not value:
            return None
        else:
            term = term * value if sign == "*" else term / value
    return total + term
