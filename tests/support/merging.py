"""A tokenizer of bytes with two tokens of two, which its own spelling prefers, and models of it."""

import re
from itertools import pairwise, product
from typing import ClassVar

from likely.engine.decode.session import Session
from tests.fakes import BOS, EOS, ByteTokenizer, FakeCheckpoint, MarkovModel, random_table
from tests.support.decoding import PROMPT, log_softmax


class Merging(ByteTokenizer):
    merges: ClassVar = {b"ab": 258, b"cd": 259}
    vocab_size = 260

    def encode(self, text: str, *, bos: bool = False, special: bool = False) -> list[int]:
        return [self.merges[part] if part in self.merges else part[0] for part in re.findall(b"ab|cd|.", text.encode())]

    def piece(self, token: int, /) -> bytes:
        return next((piece for piece, merged in self.merges.items() if merged == token), None) or super().piece(token)

    def is_special(self, token: int) -> bool:
        return token in (EOS, BOS)


def merging(seed: int) -> tuple[Session, dict[tuple[int, ...], float]]:
    """A model of such tokens, and by all that spell (ab|cd){1,2}, end included, the sum of their log p."""
    raw = random_table(seed, 1.0, 260)
    raw[:, [97, 99, 258, 259]] += 2
    raw[:, EOS] -= 3  # an end is dear, so that beginnings seem better than what has ended
    logp, parts = log_softmax(raw), [(97, 98), (99, 100), (258,), (259,)]
    texts = [(*a, *b, EOS) for a, b in product(parts, [(), *parts])]
    every = {ids: sum(logp[i, j] for i, j in pairwise((PROMPT[-1], *ids))) for ids in texts}
    return Session(FakeCheckpoint(MarkovModel(raw), Merging())), every  # type: ignore[arg-type]
