"""Normalizers of a tokenizer.json: how many bytes they make of one, at most, told before any of them has run.

A few replacements one after another multiply a text beyond all memory, at the first token that is read already. Knows
the types of the `tokenizers` package, and no vocabulary.
"""

import json
import re
import struct
from collections.abc import Mapping
from math import prod
from typing import TYPE_CHECKING, Any

from likely.engine.base.errors import CheckpointError

if TYPE_CHECKING:
    import tokenizers

MOST = 16  # bytes that a text may have after it for each that it had; compatibility makes 11 of one
UTMOST = 4096  # that a file may ask for in the worst case: then each text is looked at
PIECE = 4096  # characters that are looked at together
SHORT = 1024  # bytes that any text may become
KEYED = re.compile(r'"\s*:\s*\{')  # the end of a key, and the beginning of its object
# in UTF-8 (unicode.org/faq/normalization.html); all others are as many as the letters with the most accents have
GROWTH = {"Strip": 1, "StripAccents": 1, "Nmt": 1, "ByteLevel": 2, "NFC": 3, "NFD": 3, "NFKC": 11, "NFKD": 11}
OTHERS = 4


def growth(text: str) -> int:
    """Bytes that the normalizer in the text of a tokenizer.json makes of one, in the worst case.

    CheckpointError for more than any text could bear, and for a normalizer that is none.
    """
    worst = 1
    for match in KEYED.finditer(text):
        key = text[text.rfind('"', 0, match.start()) : match.start() + 1]
        try:
            if json.loads(key) != "normalizer":  # it may be spelled with escapes
                continue
        except ValueError:  # words of a token that look like a key
            continue
        try:
            worst = max(worst, _growth(json.JSONDecoder().raw_decode(text, match.end() - 1)[0]))
        except (ValueError, LookupError, AttributeError, TypeError, RecursionError, struct.error) as error:
            raise CheckpointError(f"its normalizer cannot be read: {error}") from error
    if worst > UTMOST:
        raise CheckpointError(f"its normalizer can make more than {UTMOST:,} bytes of one")
    return worst


def _growth(normalizer: Mapping[str, Any]) -> int:
    match normalizer["type"]:
        case "Sequence":
            return prod(map(_growth, normalizer["normalizers"]))
        case "Prepend":  # to each piece between tokens that stand for themselves
            return 1 + len(normalizer["prepend"].encode())
        case "Replace":
            nbytes, pattern = len(normalizer["content"].encode()), normalizer["pattern"]
            if plain := pattern.get("String"):
                return max(1, -(-nbytes // len(plain.encode())))
            return 1 + nbytes  # a pattern may match between any two
        case "Precompiled":
            import base64

            table = base64.b64decode(normalizer["precompiled_charsmap"])
            (trie,) = struct.unpack("<I", table[:4])
            return max(map(len, table[4 + trie :].split(b"\0")), default=1) or 1
        case kind:
            return GROWTH.get(kind, OTHERS)


def check(text: str, normalizer: "tokenizers.normalizers.Normalizer") -> None:
    """CheckpointError for a text that a normalizer makes more than MOST times as long."""
    limit, length = SHORT + MOST * len(text.encode(errors="replace")), 0
    for start in range(0, len(text), PIECE):
        length += len(normalizer.normalize_str(text[start : start + PIECE]).encode())
        if length > limit:
            raise CheckpointError(f"the tokenizer's normalizer makes more than {MOST} bytes of each byte of a text")
