"""The cache of packed weights: rows that are one number each, in every order of its verbs, and who shares a buffer."""

from collections.abc import Sequence

import numpy as np
import pytest

from likely.models.errors import CacheError
from likely.models.packed_weights.cache import SPAN, TEXT, PackedCache, RowShape, described

SHAPE = RowShape(2, 3, 4, np.dtype(np.float32))
ROW = 2 * 3 * 4 * 4 * 2  # bytes of a row, keys and values


def numbers(cache: PackedCache, text: int = 0) -> list[int]:
    """The rows of a text, checked to be whole."""
    keys, values = cache.taken(0, cache.length if cache.each is None else cache.each[text], text)
    assert np.array_equal(keys + 1000, values) and np.array_equal(
        keys, np.broadcast_to(keys[:1, :1, :, :1], keys.shape)
    )
    return [int(x) for x in keys[0, 0, :, 0]]


def read(cache: PackedCache, *rows: Sequence[int]) -> None:
    """As the native call does: room for as many more of each text, written behind those that it has."""
    cache.reserve(len(rows[0]))
    for text, values in zip(cache.texts, rows, strict=True):
        assert text.own is not None
        for at, value in enumerate(values, text.rows):
            text.own.keys[:, :, at // 16, :, at % 16] = value
            text.own.values[:, :, at] = value + 1000
        text.rows += len(values)


def made(n: int = 0, capacity: int = 16) -> PackedCache:
    cache = PackedCache(SHAPE, capacity)
    if n:
        read(cache, range(n))
    return cache


@pytest.mark.parametrize("seed", range(20))
def test_every_order_of_the_verbs_holds_what_lists_would(seed: int) -> None:
    """Reading, forking, selecting, joining, freezing and going back, in turns, by all that stand on the same rows."""
    random = np.random.default_rng(seed)
    held: list[tuple[PackedCache, list[list[int]]]] = [(made(), [[]])]
    for turn in range(30):
        cache, texts = held[int(random.integers(len(held)))]
        verb = random.choice(["read", "read", "read", "fork", "select", "freeze", "back", "each", "join"])
        if verb == "read":
            n = int(random.choice([1, 2, 15, 16, 17, 130]))
            rows = [[1000 * turn + 200 * i + j for j in range(n)] for i in range(len(texts))]
            read(cache, *rows)
            for text, new in zip(texts, rows, strict=True):
                text += new
        elif verb == "fork" and len(held) < 4:
            held.append((cache.fork(), [[*text] for text in texts]))
        elif verb == "select":
            chosen = random.integers(0, len(texts), int(random.integers(1, 4))).tolist()
            cache.select(chosen)
            texts[:] = [[*texts[i]] for i in chosen]
        elif verb == "freeze" and len({len(text) for text in texts}) == 1:
            cache.freeze()
        elif verb in ("back", "each"):
            most = min(len(text) for text in texts)
            back = [int(random.integers(0, min(most, 140) + 1)) for _ in texts]
            back = [back[0]] * len(texts) if verb == "back" else back
            cache.rewind(back[0] if verb == "back" else back)
            texts[:] = [text[: len(text) - n] for text, n in zip(texts, back, strict=True)]
        elif verb == "join" and len(texts) < 4:
            other, more = held[int(random.integers(len(held)))]
            cache.join(other)
            texts += [[*text] for text in more]
        for one, want in held:
            lengths = [len(text) for text in want]
            assert [numbers(one, i) for i in range(len(want))] == want
            assert (one.length, one.room) == (max(lengths), min(lengths))
            assert one.each == (lengths if len(set(lengths)) > 1 else None)


def test_a_buffer_is_held_once_by_all_that_share_it_and_copied_by_the_second_who_writes() -> None:
    cache = made(20)
    assert cache.nbytes == 256 * ROW
    cache.spread(1)
    cache.spread(2)
    assert len(cache.texts) == 2 and cache.nbytes == 256 * ROW
    read(cache, [3], [30])
    assert cache.nbytes == 2 * 256 * ROW
    for b in (1, 3):
        with pytest.raises(CacheError, match=f"the cache holds 2 texts, {b} were to be read"):
            cache.spread(b)
    cache.freeze()
    assert cache.nbytes == 0  # what is frozen counts for nobody
    read(cache, [4], [40])
    assert cache.nbytes == 2 * 64 * ROW  # several short answers to one prompt lie close together
    alone = made(20)
    buffer = alone.texts[0].own
    alone.rewind(5)
    read(alone, [99])
    assert alone.texts[0].own is buffer and numbers(alone) == [*range(15), 99]  # written over, for nobody else sees it


@pytest.mark.parametrize(
    ("first", "positions", "rows"),
    [(16, 1, 256), (16, 256, 256), (16, 257, 512), (16, 4000, 4096), (1, 16, 256), (300, 300, 512), (300, 301, 768),
     (1000, 1000, 1024), (1000, 1001, 2048)],
)  # fmt: skip
def test_bytes_are_known_before_a_text_is_read(first: int, positions: int, rows: int) -> None:
    cache, n = made(capacity=first), 0
    while n < positions:
        size = min(256, positions - n)
        read(cache, range(n, n + size))
        n += size
    assert made(capacity=first).needs(positions) == rows * ROW >= cache.nbytes >= positions * ROW


def test_what_cannot_be_gone_back_is_refused_and_nothing_is_touched() -> None:
    cache = made(4)
    cache.select([0, 0])
    for back, line in (
        (-1, "cannot go back -1 positions: 4 are held"),
        (5, "cannot go back 5 positions: 4 are held"),
        ([1, 5], "cannot go back 5 positions: 4 are held"),
        ([1], "rewind needs a number for each of 2 rows, got 1"),
        ([1, 0, 0], "rewind needs a number for each of 2 rows, got 3"),
    ):
        with pytest.raises(CacheError, match=line):
            cache.rewind(back)  # type: ignore[arg-type]
    assert [numbers(cache, i) for i in (0, 1)] == [[0, 1, 2, 3]] * 2 and cache.each is None
    cache.rewind([4, 1])
    with pytest.raises(CacheError, match="different lengths cannot be frozen"):
        cache.freeze()


@pytest.mark.parametrize(("low", "high"), [(0, 50), (0, 1), (3, 20), (16, 32), (15, 17), (39, 41), (40, 50), (5, 5)])
def test_rows_are_taken_out_of_their_spans_and_put_into_another(low: int, high: int) -> None:
    cache = made(20)
    cache.freeze()
    read(cache, range(20, 40))
    cache.freeze()
    read(cache, range(40, 50))
    keys, values = cache.taken(low, high)
    assert keys.shape == values.shape == (2, 3, high - low, 4) and keys.dtype == np.float32
    assert np.array_equal(values, keys + 1000) and keys[1, 2, :, 3].tolist() == list(range(low, high))
    texts, held = described(cache.texts)
    ((_, count, before),), found = list(TEXT.iter_unpack(texts)), list(SPAN.iter_unpack(bytes(held)))
    assert (count, before) == (3, 40)
    assert [length for _, _, _, length, _ in found] == [20, 20, 10] and all(keys % 64 == 0 for keys, *_ in found)
    if high > low:
        other = made()
        other.put(keys, values)
        read(other, [77])
        assert numbers(other) == [*range(low, high), 77]


def test_a_known_text_and_an_answer_behind_it_stand_where_they_were_first_put() -> None:
    """8,000 rows that were copied for the first token behind them took a fifth of a second."""
    cache = made()
    cache.expected = 800
    read(cache, range(500))
    held = cache.nbytes
    read(cache, range(500, 800))
    read(cache, range(800, 1050))
    assert cache.nbytes == held and numbers(cache) == [*range(1050)]
