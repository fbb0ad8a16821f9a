"""The bigram over six letters as a model that is talked to: what comes next depends on the last letter alone.

Its probabilities are the table of `engine.proofs.enumeration`; ∎ ends a text, and stands before its first letter. All
that a chat draws by (session, sampler, strategies) runs on it as on any other model.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from likely.engine.decode.session import Session
from likely.engine.measure.proofs.enumeration import END, FREQUENCIES, LETTERS, TABLE
from likely.engine.text.tokenizer.detokenizer import Detokenizer
from likely.metal import mx

if TYPE_CHECKING:
    from likely.engine.weights.sources.checkpoint import Checkpoint
    from likely.models.model import LanguageModel

CONTEXT = 4096


@dataclass
class Positions:
    """A cache of a model that remembers nothing but how far it has read."""

    length: int = 0
    nbytes: int = 0
    expected: int = 0

    @property
    def room(self) -> int:
        return self.length

    def rewind(self, count: int) -> None:
        self.length -= count

    def fork(self) -> "Positions":
        return Positions(self.length)

    def freeze(self) -> None:
        """Does nothing: nothing is held that could be written."""

    def select(self, rows: Iterable[int]) -> None:
        """Does nothing: every branch has read as much."""


class BigramModel:
    """Logits [V] from a table of probabilities [V, V], a row for each last token."""

    dtype = mx.float32

    def __init__(self, table: np.ndarray) -> None:
        with np.errstate(divide="ignore"):
            self.table = mx.array(np.log(table).astype(np.float32))
        self.config = SimpleNamespace(context=CONTEXT)

    def make_cache(self, **_: Any) -> Positions:
        return Positions()

    def crosses(self, cache: Positions, length: int) -> bool:
        return False

    def hidden(self, tokens: mx.array, cache: Positions) -> mx.array:
        """The tokens themselves, [B, T, 1]."""
        cache.length += tokens.shape[1]
        return tokens[..., None].astype(mx.float32)

    def head(self, hidden: mx.array) -> mx.array:
        return self.table[hidden[..., 0].astype(mx.int32)]


class Letters:
    """A tokenizer whose tokens are the letters."""

    eos = frozenset({END})
    vocab_size = len(LETTERS)
    fingerprint = LETTERS

    def encode(self, text: str, /) -> list[int]:
        return [LETTERS.index(letter) for letter in text]

    def piece(self, token: int, /) -> bytes:
        return LETTERS[token].encode()

    def is_special(self, token: int) -> bool:
        return token == END

    def detokenizer(self, *, special: bool = False, at_start: bool = True) -> Detokenizer:
        return Detokenizer(lambda token: b"" if token == END and not special else self.piece(token))


@dataclass(frozen=True)
class SmallCheckpoint:
    """A checkpoint without files: all that a session is made of."""

    model: BigramModel
    tokenizer: Letters = field(default_factory=Letters)
    info: Any = field(default_factory=lambda: SimpleNamespace(name="six letters", weights=LETTERS))

    def widened(self) -> None:
        """None: it is in no file."""


def session() -> Session:
    """The model at work; to be used by the thread that asks."""
    return Session(cast("Checkpoint", SmallCheckpoint(BigramModel(TABLE))))


def smaller() -> "LanguageModel":
    """A model of the same letters that forgets even the last one: what guesses for the other."""
    return cast("LanguageModel", BigramModel(np.tile(FREQUENCIES, (len(LETTERS), 1))))
