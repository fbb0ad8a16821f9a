"""Pre-tokenization: cuts a text into the words of a rule, spelled as a byte-level vocabulary spells them.

A text of ASCII alone, as most are, is cut by the standard library's regular expressions: to import `tokenizers` for
Oniguruma's takes longer than to read a short prompt. Knows no vocabulary.
"""

import re
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from likely.engine.text.tokenizer.pretokenizers import Pretokenizer
from likely.engine.text.tokenizer.vocabulary import BYTE_LEVEL

if TYPE_CHECKING:
    from tokenizers.pre_tokenizers import PreTokenizer

__all__ = ["by_library", "cutter"]

# the ASCII characters of Unicode's general categories; of the others that the rules name there are none
_ASCII = {"L": "a-zA-Z", "Lu": "A-Z", "Ll": "a-z", "N": "0-9", "P": "!-#%-*,-/:;?@\\[-\\]_{}", "S": "$+<=>\\^`|~"}
NONE = "^\\x00-\\x7f"
_SPELLING = {byte: character for character, byte in BYTE_LEVEL.items()}
_TOKEN = re.compile(r"\\p\{(\w+)\}|\\.|[\[\]]")


@cache
def by_library(rule: Pretokenizer) -> "PreTokenizer":
    """The rule as the library's pre-tokenizer."""
    from tokenizers import Regex, pre_tokenizers

    cuts = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in rule.patterns]
    return pre_tokenizers.Sequence([*cuts, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def cutter(rule: Pretokenizer) -> Callable[[str], list[str]]:
    """Cuts texts by the rule."""

    @cache
    def patterns() -> list[re.Pattern[str]]:
        return [re.compile(_for_ascii(pattern), re.ASCII) for pattern in rule.patterns]

    def words(text: str) -> list[str]:
        if not text.isascii():
            return [word for word, _ in by_library(rule).pre_tokenize_str(text)]
        pieces = [text] if text else []
        for pattern in patterns():
            pieces = [part for piece in pieces for part in _isolated(pattern, piece)]
        return [piece.translate(_SPELLING) for piece in pieces]

    return words


def _isolated(pattern: re.Pattern[str], text: str) -> list[str]:
    """The matches, and what stands between them."""
    parts, end = [], 0
    for match in pattern.finditer(text):
        parts += [text[end : match.start()], match[0]]
        end = match.end()
    return [part for part in (*parts, text[end:]) if part]


def _for_ascii(pattern: str) -> str:
    """An expression in Oniguruma's syntax as one of `re` that matches the same in ASCII texts."""
    inside = False

    def translated(found: re.Match[str]) -> str:
        nonlocal inside
        if found[0] in "[]":
            inside = found[0] == "["
        if (category := found[1]) is None:
            return found[0]
        characters = _ASCII.get(category, "")
        return characters if inside else f"[{characters or NONE}]"

    return _TOKEN.sub(translated, pattern)
