"""The tokens of a Metal source text, spaces and comments included, so that joining them gives the text back.

Knows where words end, not what they mean.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_PATTERN = re.compile(
    r"""
    (?P<space>[ \t\r\n\f\v]+ | //[^\n]* | /\*.*?\*/ | \\\n)
  | (?P<directive>\#(?:[^\n\\]|\\.|\\\n)*)
  | (?P<string>"(?:[^"\\\n]|\\.)*" | '(?:[^'\\\n]|\\.)*')
  | (?P<number>(?:0[xX][0-9a-fA-F']+ | (?:\d[\d']*)?\.\d+(?:[eE][+-]?\d+)? | \d[\d']*\.?(?:[eE][+-]?\d+)?)[a-zA-Z]*)
  | (?P<word>[A-Za-z_]\w*)
  | (?P<mark>\[\[|::|->|<<=|>>=|<<|<=|>=|==|!=|&&|\|\||\+\+|--|[-+*/%&|^]=|\.\.\.|.)
    """,
    re.VERBOSE | re.DOTALL,
)
MULTILINE = ("space", "directive", "string")  # kinds that may hold the end of a line


@dataclass(slots=True)
class MslToken:
    """One piece of text; `kind` is space, directive, string, number, word or mark. `text` may be replaced in place."""

    kind: str
    text: str
    line: int

    @property
    def solid(self) -> bool:
        return self.kind not in ("space", "directive")


def tokenize(text: str) -> list[MslToken]:
    """All tokens of the text, in order; a character that fits nothing becomes a mark of its own."""
    return list(_scan(text))


def _scan(text: str) -> Iterator[MslToken]:
    line = 1
    for match in _PATTERN.finditer(text):
        kind, piece = match.lastgroup or "mark", match.group()
        yield MslToken(kind, piece, line)
        if kind in MULTILINE:
            line += piece.count("\n")


def join(tokens: list[MslToken]) -> str:
    """The texts of tokens, one after another."""
    return "".join(token.text for token in tokens)


OPEN = {"(": ")", "[": "]", "{": "}", "[[": "]"}


def closing(tokens: list[MslToken], at: int) -> int:
    """The index of the token that closes the bracket at `at`; the last index when none does."""
    depth = 0
    for i in range(at, len(tokens)):
        text = tokens[i].text if tokens[i].kind == "mark" else ""
        if text in ("(", "[", "{"):
            depth += 1
        elif text == "[[":
            depth += 2
        elif text in (")", "]", "}"):
            depth -= 1
            if depth <= 0:
                return i
    return len(tokens) - 1


def closing_angle(tokens: list[MslToken], at: int) -> int | None:
    """The index of the `>` that closes the `<` at `at`, or None when it is a comparison."""
    depth = 0
    i = at
    while i < len(tokens):
        text = tokens[i].text if tokens[i].kind == "mark" else ""
        if text == "<":
            depth += 1
        elif text == ">":
            depth -= 1
            if depth == 0:
                return i
        elif text in OPEN:
            i = closing(tokens, i)
        elif text in (";", "}", "{", "&&", "||"):
            return None
        i += 1
    return None


def after(tokens: list[MslToken], at: int, step: int = 1) -> int | None:
    """The index of the next solid token in that direction, or None."""
    at += step
    while 0 <= at < len(tokens):
        if tokens[at].solid:
            return at
        at += step
    return None
