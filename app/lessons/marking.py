"""Marking: whether what a person typed is the answer. Numbers within 2 %, as powers, fractions and per cents; words.

`said` reads what was typed, `right` compares it. Of a power of two the exponent counts, to a half: 2^-48 is 2^-48.4.
"""

import math
import re
import unicodedata

from likely.app.lessons.expression import ExpressionError, Value, value

WITHIN = 0.02
HALF = 0.5  # of an exponent
OF_TWO = re.compile(r"=?\s*2\s*(?:\^|\*\*|[⁻⁺⁰¹²³⁴⁵⁶⁷⁸⁹])[^*/+×·]*")  # a power of two and nothing else
SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺·", "0123456789-+.")
POWER = re.compile(r"[⁻⁺]?[⁰¹²³⁴⁵⁶⁷⁸⁹][⁰¹²³⁴⁵⁶⁷⁸⁹·]*")
SIGNS = {"−": "-", "–": "-", "×": "*", "·": "*", "÷": "/", "^": "**", "√": "sqrt", "log₂": "log2", "≈": "", "~": ""}
UNITS = re.compile(r"(?<=[\d)%\s])\s*(bits?|nats?|tokens?|characters?|items?|times|x|×|words?|ways?)\.?$", re.I)
PER_CENT = re.compile(r"\s*(%|per ?cent\.?|prozent)$", re.I)
THOUSANDS = re.compile(r"\b\d{1,3}(?:,\d{3})+\b(?!,)")
YES, NO = {"yes", "y", "true", "right"}, {"no", "n", "false", "wrong"}


def number(text: str) -> float | None:
    """The number that a text says: `3`, `12.5 %`, `1/8`, `2^-48.4`, `2⁻³`, `½`, `12,5`, `3 bits`; None for none."""
    text = UNITS.sub("", text.strip().lstrip("=").strip())
    share = PER_CENT.search(text) is not None
    text = PER_CENT.sub("", text)
    text = THOUSANDS.sub(lambda found: found[0].replace(",", ""), text)
    text = re.sub(r"(?<=\d),(?=\d)", ".", text)
    text = POWER.sub(lambda found: f"**({found[0].translate(SUPERSCRIPTS)})", text)
    for sign, ours in SIGNS.items():
        text = text.replace(sign, ours)
    text = re.sub(r"sqrt\s*([\d.]+)", r"sqrt(\1)", text)
    text = "".join(f"({unicodedata.numeric(each)})" if unicodedata.category(each) == "No" else each for each in text)
    if not re.search(r"\d", text) or re.search(r"['\"<>=!]", text):
        return None
    try:
        found = value(text, {"e": math.e, "pi": math.pi})
    except ExpressionError:
        return None
    return None if isinstance(found, str) else float(found) / (100 if share else 1)


def right(said: str, wanted: Value, unit: str = "", within: float = WITHIN) -> bool:
    """Whether what was typed is the answer: of texts the words, of yes and no either, of numbers one so near. Of per
    cents (`unit` "%") the number alone and with its sign are the same."""
    if isinstance(wanted, bool):
        return bare(said) in (YES if wanted else NO)
    if isinstance(wanted, str):
        return bare(said) == bare(wanted)
    found = number(said)
    if found is None:
        return False
    if unit == "%" and PER_CENT.search(said.strip()) is not None:
        found *= 100
    if found > 0 and wanted > 0 and OF_TWO.fullmatch(said.strip()):
        return abs(math.log2(found / wanted)) <= min(HALF, abs(math.log2(wanted)) * within)
    return abs(found - wanted) <= within * abs(wanted)


def bare(text: str) -> str:
    """A word without what stands around it: quotes, the space of a token, a full stop, capitals."""
    return " ".join(text.replace("·", " ").strip(" \t\n\"'“”‘’.!").casefold().split())
