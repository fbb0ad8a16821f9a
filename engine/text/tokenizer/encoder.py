"""The two ways from text to ids behind one protocol, and the search for tokens that are matched whole."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from itertools import accumulate
from threading import Lock
from typing import TYPE_CHECKING, Protocol

from likely.engine.text.tokenizer import normalizers
from likely.engine.text.tokenizer.byte_pairs import BytePairs
from likely.engine.text.tokenizer.sentencepiece import SentencePiece

if TYPE_CHECKING:
    import tokenizers

__all__ = ["AddedTokens", "Encoder", "LibraryEncoder", "SentencePieceEncoder", "ShortEncoder"]

SHORT = 1 << 13  # characters: past them the library has been worth its making


class Encoder(Protocol):
    """Text to ids, without beginning or end tokens."""

    def encode(self, text: str, *, special: bool) -> list[int]:
        """The ids of a text; with `special`, control tokens spelled in it become themselves rather than text."""

    def ends(self, text: str) -> tuple[list[int], list[int]]:
        """The ids of a text, control tokens recognised, and for each the number of characters up to and with it."""


class LibraryEncoder:
    """Encodes with a `tokenizers.Tokenizer`, whose post-processor, truncation and padding are switched off.

    make    gives that tokenizer, when it is wanted first
    growth  bytes that its normalizer may make of one; where that is much, every text is looked at (CheckpointError)
    short   what encodes the first `SHORT` characters, in texts that end within them: they do not wait for the library
    """

    def __init__(
        self, make: Callable[[], "tokenizers.Tokenizer"], growth: int = 1, short: "ShortEncoder | None" = None
    ) -> None:
        self._make, self._short, self._left = make, short, SHORT
        self._checked = growth > normalizers.MOST
        self._lock = Lock()  # whether control tokens count is a setting of the library's object

    @cached_property
    def library(self) -> "tokenizers.Tokenizer":
        library, self._short = self._make(), None
        library.post_processor = None
        library.no_truncation()
        library.no_padding()
        return library

    def encode(self, text: str, *, special: bool) -> list[int]:
        self._left -= len(text)
        if (short := self._short) is not None and self._left >= 0:
            ids = short.encode(text, special=special)
            if ids is not None:
                return ids
        return list(self._encode(text, special).ids)

    def ends(self, text: str) -> tuple[list[int], list[int]]:
        encoding = self._encode(text, True)
        return list(encoding.ids), [end for _, end in encoding.offsets]

    def _encode(self, text: str, special: bool) -> "tokenizers.Encoding":
        with self._lock:
            if self._checked:
                normalizers.check(text, self.library.normalizer)
            self.library.encode_special_tokens = not special
            # as a batch of one: `encode` holds the interpreter for as long as it lasts
            return self.library.encode_batch([text], add_special_tokens=False)[0]


class ShortEncoder:
    """Encodes short texts by byte pairs.

    whole    the user-defined tokens, matched in any text
    control  the control tokens, which count where they are asked for; what one spans is no place for another
    """

    def __init__(self, pairs: BytePairs, whole: Mapping[str, int], control: Mapping[str, int]) -> None:
        self._pairs, self._added = pairs, AddedTokens({**control, **whole})
        self._control = frozenset(control.values())

    def encode(self, text: str, *, special: bool) -> list[int] | None:
        """The ids of a text; None where it has a word that is too long."""
        ids: list[int] = []
        plain = ""
        for part, token in (*self._added.split(text), ("", None)):
            if part and (token is None or (token in self._control and not special)):
                plain += part
                continue
            if (found := self._pairs.encode(plain)) is None:
                return None
            ids += found if token is None else [*found, token]
            plain = ""
        return ids


class AddedTokens:
    """Finds the tokens that stand for themselves in any text: at each place the longest, from the left.

    rstrip  the ids that swallow the blanks behind them
    """

    def __init__(self, ids: Mapping[str, int], rstrip: Iterable[int] = ()) -> None:
        self.ids = ids
        self.rstrip = frozenset(rstrip)
        self._lengths: dict[
            str, list[int]
        ] = {}  # by first character, longest first: thousands of tokens, a handful of lengths
        for text in ids:
            self._lengths.setdefault(text[0], []).append(len(text))
        for first, lengths in self._lengths.items():
            self._lengths[first] = sorted(set(lengths), reverse=True)
        self._first = re.compile(f"[{re.escape(''.join(self._lengths))}]" if ids else r"(?!)")

    def split(self, text: str) -> Iterator[tuple[str, int | None]]:
        """The text in pieces: (piece, None), or (what was matched, its id)."""
        start = position = 0
        while match := self._first.search(text, position):
            position = match.start()
            for length in self._lengths[match[0]]:
                token = self.ids.get(text[position : position + length])
                if token is not None:
                    if start < position:
                        yield text[start:position], None
                    start, position = position, position + length
                    while token in self.rstrip and position < len(text) and text[position].isspace():
                        position += 1
                    yield text[start:position], token
                    start = position
                    break
            else:
                position += 1
        if start < len(text):
            yield text[start:], None


class SentencePieceEncoder:
    """Encodes with scores.

    whole    the user-defined tokens, matched in any text
    control  the control tokens, matched where they are asked for
    prefix   whether a blank is put before a text, and anew behind each control token
    """

    def __init__(self, pieces: SentencePiece, whole: AddedTokens, control: AddedTokens, *, prefix: bool) -> None:
        self.pieces = pieces
        self.whole, self.control = whole, control
        self.prefix = " " if prefix else ""

    def encode(self, text: str, *, special: bool) -> list[int]:
        return [token for token, _ in self._tokens(text, special)]

    def ends(self, text: str) -> tuple[list[int], list[int]]:
        tokens = list(self._tokens(text, True))
        return [token for token, _ in tokens], list(accumulate(length for _, length in tokens))

    def _tokens(self, text: str, special: bool) -> Iterator[tuple[int, int]]:
        """(id, characters of the text that it takes) of each token; the blank that was put before is none of them."""
        for part, control in self.control.split(text) if special else [(text, None)] if text else []:
            if control is not None:
                yield control, len(part)
                continue
            surplus = len(self.prefix)
            for piece, token in self.whole.split(self.prefix + part):
                for id, length in [(token, len(piece))] if token is not None else self.pieces.encode(piece):
                    blanks = min(surplus, length)
                    surplus -= blanks
                    yield id, length - blanks
