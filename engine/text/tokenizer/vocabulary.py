"""Table of a checkpoint's tokens: their spelling, their kind, and the bytes that each puts into a text.

Two spellings are in use. *Byte-level* vocabularies (GPT-2 and most since) write each byte of a token as one printable
character; *SentencePiece* ones write text itself, with U+2581 for a space and `<0x0A>` for a lone byte. Knows nothing
of how text is cut into tokens.
"""

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

__all__ = ["BYTE_LEVEL", "Kind", "TokenTable", "byte_level_bytes", "sentencepiece_bytes"]


class Kind(IntEnum):
    """The kind of a token, numbered as GGUF's `tokenizer.ggml.token_type`."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4  # matched in any text before the rest is cut: runs of blanks, `<think>`
    UNUSED = 5
    BYTE = 6


def _byte_level_alphabet() -> dict[str, int]:
    """GPT-2's character for each byte: itself where printable, else the next free one from U+0100 (Radford et al.
    2019)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + i): byte for i, byte in enumerate(others)}


BYTE_LEVEL = _byte_level_alphabet()
_SPACE = "\u2581"
_LONE_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def byte_level_bytes(token: str, kind: int) -> bytes:
    """The bytes of a byte-level token; those that were added to the vocabulary whole are spelled as plain text."""
    if kind not in (Kind.UNKNOWN, Kind.CONTROL, Kind.USER_DEFINED):
        try:
            return bytes([BYTE_LEVEL[character] for character in token])
        except KeyError:
            pass
    return token.encode()


def sentencepiece_bytes(token: str, kind: int) -> bytes:
    """The bytes of a SentencePiece token."""
    if (kind == Kind.BYTE) and (lone := _LONE_BYTE.fullmatch(token)):
        return bytes([int(lone[1], 16)])
    return token.replace(_SPACE, " ").encode()


@dataclass(frozen=True)
class TokenTable:
    """Every token of a checkpoint; a token's id is its index.

    `tokens[id]` is None where the checkpoint leaves an id without a token, which models with padded heads can still
    emit.
    """

    tokens: Sequence[str | None]
    kinds: bytes  # a Kind each
    spelling: Callable[[str, int], bytes]

    def __len__(self) -> int:
        return len(self.tokens)

    @cached_property
    def _pieces(self) -> dict[int, bytes]:
        """Those that were asked for."""
        return {}

    @cached_property
    def ids(self) -> dict[str, int]:
        """The id of each token by its spelling; the first where two are spelled alike."""
        ids = dict(zip(reversed(self.tokens), range(len(self.tokens) - 1, -1, -1), strict=True))
        ids.pop(None, None)
        return ids  # type: ignore[return-value]

    def piece(self, token: int) -> bytes:
        """The bytes that a token stands for; none for an id without a token. Raises IndexError for a negative id."""
        if (known := self._pieces.get(token)) is not None:
            return known
        if token < 0:
            raise IndexError(f"a token id is 0 or more, got {token}")
        if token >= len(self.tokens) or (text := self.tokens[token]) is None:
            return b""
        self._pieces[token] = piece = self.spelling(text, self.kinds[token])
        return piece

    def is_special(self, token: int) -> bool:
        """Whether the token steers the model (`<|im_end|>`, `<s>`) rather than being part of what it says."""
        return 0 <= token < len(self.kinds) and self.kinds[token] in (Kind.CONTROL, Kind.UNKNOWN)

    @cached_property
    def missing_bytes(self) -> re.Pattern[bytes] | None:
        """Finds bytes that no token of a byte-level vocabulary can spell; None where there is no such byte."""
        if self.spelling is not byte_level_bytes:
            return None
        missing = bytes([byte for character, byte in BYTE_LEVEL.items() if character not in self.ids])
        return re.compile(b"[" + re.escape(missing) + b"]") if missing else None

    @cached_property
    def fingerprint(self) -> str:
        """A hash that two vocabularies share when every id means the same in both, however each was spelled and
        padded."""
        digest = hashlib.sha256()
        for token, text in enumerate(self.tokens):
            if text is not None and (kind := self.kinds[token]) != Kind.UNUSED:
                piece = self.spelling(text, kind)
                digest.update(b"%d %d " % (token, len(piece)) + piece)
        return digest.hexdigest()
