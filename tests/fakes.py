"""Stand-ins with a stated property, so that engine tests need no weights.

`MarkovModel`: p(next | text) depends on the last token alone and is a table, so every probability is known exactly.
`ByteTokenizer`: token = byte, with 256 as end of text and 257 as beginning of text.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

from likely.engine.text.tokenizer.detokenizer import Detokenizer
from likely.engine.weights.sources.gguf.precision import Precision
from likely.metal import mx

EOS, BOS, VOCAB = 256, 257, 258


class FakeCache:
    """Counts positions."""

    def __init__(self, length: int = 0) -> None:
        self.length = length
        self.nbytes = 0
        self.expected = 0

    @property
    def room(self) -> int:
        return self.length

    def rewind(self, n: int) -> None:
        assert 0 <= n <= self.length
        self.length -= n

    def fork(self) -> "FakeCache":
        return FakeCache(self.length)

    def freeze(self) -> None:
        """Nothing is held, so nothing has to be shared."""

    def select(self, rows: list[int]) -> None:
        """Every branch has read as much."""


class MarkovModel:
    """A table of log-probabilities [V, V]: row = last token. Records how many tokens it has read."""

    dtype = mx.float32

    def __init__(self, table: np.ndarray, context: int = 4096) -> None:
        self.table = mx.array(table.astype(np.float32))
        self.config = SimpleNamespace(context=context)
        self.read = 0

    def make_cache(self) -> FakeCache:
        return FakeCache()

    def crosses(self, cache: FakeCache, length: int) -> bool:
        return False

    def hidden(self, tokens: mx.array, cache: FakeCache) -> mx.array:
        cache.length += tokens.shape[1]
        self.read += tokens.shape[1]
        return tokens[..., None].astype(mx.float32)

    def head(self, hidden: mx.array) -> mx.array:
        return self.table[hidden[..., 0].astype(mx.int32)]


def random_table(seed: int, scale: float = 2.0, vocab: int = VOCAB) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(vocab, vocab)) * scale


def certain_table(text: bytes, end: int = EOS) -> np.ndarray:
    """After each byte of a text in which none comes twice, the next one is nearly certain; then `end`."""
    table = np.zeros((VOCAB, VOCAB))
    for a, b in zip(text, [*text[1:], end], strict=True):
        table[a, b] = 20.0
    return table


class ByteTokenizer:
    """Bytes as tokens."""

    vocab_size = VOCAB
    bos: int | None = None
    eos = frozenset({EOS})
    end = EOS
    newline = (10,)
    chat_template: str | None = "fake"

    def encode(self, text: str, *, bos: bool = False, special: bool = False) -> list[int]:
        return ([self.bos] if bos and self.bos is not None else []) + list(text.encode())

    def decode(self, ids: Iterable[int]) -> str:
        return b"".join(self.piece(i) for i in ids).decode(errors="replace")

    def piece(self, token: int, /) -> bytes:
        return bytes([token]) if token < 256 else {EOS: b"<eos>", BOS: b"<bos>"}[token]

    def is_special(self, token: int) -> bool:
        return token >= 256

    def detokenizer(self, *, special: bool = False, at_start: bool = True) -> Detokenizer:
        return Detokenizer(lambda t: b"" if t >= 256 and not special else self.piece(t))

    def chat(self, messages: list[dict[str, str]], **_: Any) -> list[int]:
        return self.encode("".join(f"{m['role'][0]}:{m['content']};" for m in messages) + "a:")


@dataclass
class FakeCheckpoint:
    """What a session is made of."""

    model: MarkovModel
    tokenizer: ByteTokenizer = field(default_factory=ByteTokenizer)
    info: Any = field(default_factory=lambda: SimpleNamespace(name="fake", weights="0"))
    precision: Precision = field(default_factory=lambda: Precision(mx.float32, packed=False))

    def widened(self) -> None:
        """There is no file to load it from again."""
