"""Tokenisation: the other ways to spell a text in tokens, and what the model gives to each.

A model gives probability to sequences of tokens, and a text has many. Its probability is the sum over all that spell
it (Cao and Rimell 2021), of which the tokenizer's own is one: so that one is a lower bound, and the sum over those that
were scored a better one. Ways are taken by the number of their tokens, the fewest first. Control tokens spell nothing.
"""

import heapq
from collections.abc import Iterator, Sequence

from likely.engine.base.errors import ParameterError
from likely.engine.decode.session import Session
from likely.engine.inside.questions import Spelling, Tokenisation
from likely.engine.text.tokenizer import Tokenizer

WAYS = 32
LONGEST = 64  # bytes of a text whose ways are looked for


def spellings(pieces: dict[bytes, list[int]], text: bytes) -> Iterator[tuple[int, ...]]:
    """Every sequence of tokens whose bytes are `text`, the shortest first. `pieces`: the ids of each run of bytes."""
    longest = max(map(len, pieces), default=0)
    fewest = [0] * (len(text) + 1)  # tokens to the end from each byte; more than there are bytes: no way
    for at in reversed(range(len(text))):
        ends = range(at + 1, min(at + longest, len(text)) + 1)
        fewest[at] = min((1 + fewest[end] for end in ends if text[at:end] in pieces), default=2 * len(text) + 2)
    queue: list[tuple[int, tuple[int, ...], int]] = [(fewest[0], (), 0)]
    while queue:
        total, ids, at = heapq.heappop(queue)
        if total > len(text):
            return
        if at == len(text):
            yield ids
            continue
        for end in range(at + 1, min(at + longest, len(text)) + 1):
            for token in pieces.get(text[at:end], ()):
                heapq.heappush(queue, (len(ids) + 1 + fewest[end], (*ids, token), end))


def tokenisation(session: Session, text: str, *, before: str = "", most: int = WAYS) -> Tokenisation:
    """The ways to write `text` after `before`, of which at most `most` are scored, the tokenizer's own among them.

    ParameterError where nothing precedes it that the model could be asked after, where the text is empty or longer
    than `LONGEST` bytes, and where the tokenizer adds to it or takes from it.
    """
    tokenizer = session.tokenizer
    prefix = tokenizer.encode(before, bos=True)
    if not prefix:
        raise ParameterError("this model begins texts with no token of its own: give words before the text")
    own = tuple(tokenizer.encode(before + text, bos=True)[len(prefix) :])
    written = text.encode()
    if not 0 < len(written) <= LONGEST:
        raise ParameterError(f"a text of 1 to {LONGEST} bytes can be spelled in other ways, got {len(written)}")
    if tokenizer.encode(before + text, bos=True)[: len(prefix)] != prefix or spelled(session, own) != written:
        raise ParameterError(f"{text!r} is not a run of whole tokens after what precedes it: move the boundary")
    listed, complete = [own], True
    for ids in spellings(tokens_by_piece(tokenizer), written):
        if ids == own:
            continue
        if len(listed) >= most:
            complete = False
            break
        listed.append(ids)
    scored = [Spelling(ids, _logprob(session, prefix, ids), ids == own) for ids in listed]
    return Tokenisation(tuple(sorted(scored, key=lambda spelling: -spelling.logprob)), complete)


def tokens_by_piece(tokenizer: Tokenizer) -> dict[bytes, list[int]]:
    """The tokens that spell each run of bytes; control tokens spell nothing."""
    pieces: dict[bytes, list[int]] = {}
    for token in range(tokenizer.vocab_size):
        if (piece := tokenizer.piece(token)) and not tokenizer.is_special(token):
            pieces.setdefault(piece, []).append(token)
    return pieces


def spelled(session: Session, ids: Sequence[int]) -> bytes:
    """The bytes of tokens."""
    return b"".join(session.tokenizer.piece(token) for token in ids)


def _logprob(session: Session, prefix: list[int], ids: tuple[int, ...]) -> float:
    steps = session.score([*prefix, *ids], start=len(prefix))
    return sum(step.logprob for step in steps if step.logprob is not None)
