"""Tokens to text as they come.

A token is a run of bytes, not of characters: an emoji is often four tokens, none of them valid UTF-8. Text leaves as
soon as it is certain, U+FFFD only for bytes that nothing to come can make valid, and what was pushed and flushed adds
up to `Tokenizer.decode`. Each push costs the bytes of its own token, whatever came before.
"""

import codecs
from collections.abc import Callable

__all__ = ["Detokenizer"]

_JOINER = "\u200d"


class Detokenizer:
    """Text of one run of tokens, piece by piece.

    piece        a token's bytes, none for one that is not to be seen
    strip_space  drop one blank at the very start, which SentencePiece encoders put before a text
    """

    def __init__(self, piece: Callable[[int], bytes], *, strip_space: bool = False) -> None:
        self._piece = piece
        self._strip = strip_space
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""

    def push(self, token: int) -> str:
        """The text that this token makes certain; empty while a character is still incomplete."""
        piece = self._piece(token)
        if self._strip and piece:
            self._strip = False
            piece = piece.removeprefix(b" ")
        text = self._held + self._utf8.decode(piece)
        self._held = text[len(text) - _unfinished(text) :]
        return text[: len(text) - len(self._held)]

    def flush(self) -> str:
        """The rest that was held at the end: an unfinished character comes as U+FFFD. The next push begins afresh."""
        text, self._held = self._held + self._utf8.decode(b"", final=True), ""
        self._utf8.reset()
        return text

    def fork(self) -> "Detokenizer":
        """A second one for a run that parts here."""
        twin = Detokenizer(self._piece, strip_space=self._strip)
        twin._utf8.setstate(self._utf8.getstate())
        twin._held = self._held
        return twin


def _unfinished(text: str) -> int:
    """How many characters at the end surely belong to the next one: a joiner, or the first half of a flag.

    A base character is not held for a mark that may follow: every answer would lag by a token.
    """
    if text.endswith(_JOINER):
        return 1
    halves = 0
    while halves < len(text) and "\U0001f1e6" <= text[-1 - halves] <= "\U0001f1ff":
        halves += 1
    return halves % 2
