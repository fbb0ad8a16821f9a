"""Spellings of a text: the tokens that its tokenizer writes it with, among all that stand for the same bytes.

Knows nothing of models.
"""

from collections.abc import Sequence

from likely.engine.sampling.transforms import Vocabulary

ANCHORS = ("", "\n")  # put before a text, so that a tokenizer that begins a text with a blank has it elsewhere


def spelling(vocabulary: Vocabulary, text: str) -> tuple[int, ...]:
    """The ids that the tokenizer writes a text with where it goes on another: their bytes are the text's, as far as
    the tokenizer can spell those. DataError for a character that no token can spell."""
    for before in ANCHORS:
        ids = vocabulary.encode(before + text)
        own, held, wanted = list[int](), b"", text.encode()
        while ids and len(held) < len(wanted):
            *ids, token = ids
            own.append(token)
            held = vocabulary.piece(token) + held
        if held == wanted:
            return tuple(reversed(own))
    return tuple(vocabulary.encode(text))


def respelled(vocabulary: Vocabulary, tokens: Sequence[int]) -> tuple[int, ...] | None:
    """The tokenizer's own spelling of what `tokens` spell, with their end of text.

    None where theirs is the own one, and where nobody can tell: of a text that was cut before its end, one with control
    tokens in it, or bytes that are no characters.
    """
    if not tokens or tokens[-1] not in vocabulary.eos:
        return None
    *body, end = tokens
    is_special = getattr(vocabulary, "is_special", lambda token: False)
    if any(is_special(token) for token in body):
        return None
    held = b"".join(map(vocabulary.piece, body))
    try:
        own = (*spelling(vocabulary, held.decode()), end)
    except UnicodeDecodeError:
        return None
    same = own == tuple(tokens) or b"".join(map(vocabulary.piece, own[:-1])) != held
    return None if same else own
