"""Text as tokens come: nothing early, nothing wrong, nothing lost."""

from collections.abc import Callable
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from likely.engine.text.tokenizer import Detokenizer, Tokenizer, from_gguf
from tests.engine.vocabularies import byte_level, scored

BYTES = [bytes([byte]) for byte in range(256)]


def of_bytes(data: bytes, **options: bool) -> tuple[list[str], str]:
    """What each byte gives, pushed one at a time, and what flushing gives."""
    detokenizer = Detokenizer(BYTES.__getitem__, **options)
    return [detokenizer.push(byte) for byte in data], detokenizer.flush()


@cache
def tokenizers() -> list[Tokenizer]:
    return [from_gguf(byte_level()), from_gguf(scored()), from_gguf(scored(prefix=False))]


@pytest.mark.slow
@given(st.data())
@settings(max_examples=300)
def test_pushes_and_flush_add_up_to_decode(data: st.DataObject) -> None:
    tokenizer = data.draw(st.sampled_from(tokenizers()))
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size + 3)))
    for special in (False, True):
        detokenizer = tokenizer.detokenizer(special=special)
        text = "".join(map(detokenizer.push, ids)) + detokenizer.flush()
        assert text == tokenizer.decode(ids, special=special)
        pieces = b"".join(tokenizer.piece(i) for i in ids if special or not tokenizer.is_special(i))
        expected = pieces.decode(errors="replace")
        assert text == (expected.removeprefix(" ") if tokenizer is tokenizers()[1] else expected)


@pytest.mark.slow
@given(st.text(), st.data())
@settings(max_examples=200)
def test_valid_text_never_shows_a_replacement(text: str, data: st.DataObject) -> None:
    """However it is cut, what has come is a prefix of the text, and no more than one character short of it."""
    encoded = text.encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(encoded)))))
    pieces = [encoded[a:b] for a, b in zip([0, *cuts], [*cuts, len(encoded)], strict=True)]
    detokenizer = Detokenizer(pieces.__getitem__)
    come, given_ = "", 0
    for i, piece in enumerate(pieces):
        come, given_ = come + detokenizer.push(i), given_ + len(piece)
        assert text.startswith(come)
        assert len(encoded[:given_].decode(errors="ignore")) - len(come) <= 1
    assert come + detokenizer.flush() == text


@pytest.mark.parametrize(
    ("text", "arrivals", "rest"),
    [
        ("né".encode(), ["n", "", "é"], ""), ("👍".encode(), ["", "", "", "👍"], ""),
        ("e\u0301".encode(), ["e", "", "\u0301"], ""),  # a base is not held for the mark that may follow
        # invalid bytes are shown once nothing can save them
        (b"a\xffb", ["a", "\ufffd", "b"], ""), (b"\xf0\x9f\x91", ["", "", ""], "\ufffd"),
        (b"\xe2\x82a", ["", "", "\ufffda"], ""),
    ],
)  # fmt: skip
def test_characters_come_whole(text: bytes, arrivals: list[str], rest: str) -> None:
    assert of_bytes(text) == (arrivals, rest)
    detokenizer = Detokenizer(BYTES.__getitem__)  # flushing begins afresh
    assert detokenizer.push(0xF0) + detokenizer.flush() + "".join(
        map(detokenizer.push, text)
    ) + detokenizer.flush() == ("\ufffd" + "".join(arrivals) + rest)


def test_joiners_come_with_what_they_join_and_flags_whole() -> None:
    def arrivals(text: str) -> list[str]:
        pushed, rest = of_bytes(text.encode())
        return [part for part in [*pushed, rest] if part]

    assert arrivals("👩\u200d👧!") == ["👩", "\u200d👧", "!"]
    assert arrivals("🇩🇪🇫🇷x") == ["🇩🇪", "🇫🇷", "x"]
    assert arrivals("🇩x") == ["🇩x"]
    assert arrivals("a\u200d\u200d\u200d") == ["a", "\u200d", "\u200d", "\u200d"]


def test_a_push_reads_its_own_token_alone() -> None:
    """O(1) a token: the number of pieces looked up is the number of pushes."""
    looked: list[int] = []
    piece: Callable[[int], bytes] = lambda token: looked.append(token) or b"x"  # type: ignore[func-returns-value]  # noqa: E731
    detokenizer = Detokenizer(piece)
    for token in range(1000):
        detokenizer.push(token)
    assert looked == list(range(1000))


def test_one_blank_is_dropped_at_the_start_alone_where_it_is_no_ones() -> None:
    assert of_bytes(b"  a b", strip_space=True) == (["", " ", "a", " ", "b"], "")
    assert of_bytes(b"a b", strip_space=True) == (["a", " ", "b"], "")
    for options in ({}, {"strip_space": False}):
        assert of_bytes(b" a", **options) == ([" ", "a"], "")
