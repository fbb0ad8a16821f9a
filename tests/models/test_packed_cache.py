"""The cache of packed weights: rows that are one number each, who shares a buffer, and where it is copied."""

from collections.abc import Sequence

import numpy as np
import pytest

from models import packed_cache
from models.errors import CacheError
from models.packed_cache import PackedCache, spans

SHAPE = (2, 3, 4)  # layers, Hkv, D
ROW = 2 * 3 * 4 * 4 * 2  # bytes of a row, keys and values


def numbers(cache: PackedCache, text: int = 0) -> list[int]:
    """The rows of a text as whoever reads its buffers finds them, checked to be whole."""
    found: list[int] = []
    own = cache.texts[text]
    for rows, length in own.prefix if own.own is None else (*own.prefix, (own.own, own.rows)):
        keys = rows.keys.swapaxes(3, 4).reshape(2, 3, -1, 4)[:, :, :length]
        assert np.array_equal(keys + 1000, rows.values[:, :, :length])
        assert np.array_equal(keys, np.broadcast_to(keys[:1, :1, :, :1], keys.shape))
        found += [int(x) for x in keys[0, 0, :, 0]]
    return found


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


def test_a_new_cache_holds_one_text_without_rows() -> None:
    cache = PackedCache(SHAPE)
    assert (cache.length, cache.each, cache.room, cache.nbytes, len(cache.texts)) == (0, None, 0, 0, 1)
    read(cache, [5])
    assert cache.texts[0].own is not None and cache.texts[0].own.capacity == 256 and cache.nbytes == 256 * ROW


@pytest.mark.parametrize(
    ("first", "sizes", "want"),
    [(16, [1], [256]), (300, [1], [304]), (512, [1], [512]), (16, [256], [256]), (16, [257], [512]),
     (16, [256, 1], [256, 512]), (16, [256, 400], [256, 768]), (1000, [1000, 24, 1], [1024, 1024, 2048])],
)  # fmt: skip
def test_a_buffer_grows_by_doubling_in_whole_lines_of_lanes(first: int, sizes: list[int], want: list[int]) -> None:
    cache, n = made(capacity=first), 0
    for size, capacity in zip(sizes, want, strict=True):
        read(cache, range(n, n + size))
        n += size
        own = cache.texts[0].own
        assert own is not None and own.capacity == capacity and own.used == n
        if n <= 256 or size == sizes[-1]:
            assert numbers(cache) == list(range(n)) and cache.length == n == cache.room
        assert own.keys.shape == (2, 3, capacity // 16, 4, 16) and own.values.shape == (2, 3, capacity, 4)
        assert cache.nbytes == capacity * ROW


def test_whoever_writes_first_past_common_rows_keeps_the_buffer() -> None:
    cache = made(20)
    twin = cache.fork()
    buffer = cache.texts[0].own
    assert twin.texts[0].own is buffer and twin.length == 20 and twin.shape == SHAPE and twin._first == 16
    read(cache, [20, 21])
    assert cache.texts[0].own is buffer
    read(twin, [70])
    other = twin.texts[0].own
    assert other is not buffer and other is not None and (other.capacity, other.used) == (256, 21)
    assert numbers(cache) == list(range(22)) and numbers(twin) == [*range(20), 70]
    assert buffer is not None and len(buffer.holders) == 1 and len(other.holders) == 1


def test_alone_a_text_writes_over_what_it_took_back() -> None:
    cache = made(20)
    buffer = cache.texts[0].own
    cache.rewind(5)
    read(cache, [99])
    assert cache.texts[0].own is buffer and numbers(cache) == [*range(15), 99]
    twin = cache.fork()
    cache.rewind(1)
    read(cache, [98])
    assert cache.texts[0].own is not buffer and numbers(twin) == [*range(15), 99] and numbers(cache) == [*range(15), 98]


def test_a_copy_has_room_for_what_comes() -> None:
    cache = made(256)
    twin = cache.fork()
    read(cache, [256])
    read(twin, [7])
    sizes = [text.own.capacity for text in (cache.texts[0], twin.texts[0]) if text.own is not None]
    assert sizes == [512, 512] and numbers(twin) == [*range(256), 7]
    own = cache.texts[0].own
    assert own is not None and own.used == 257


@pytest.mark.parametrize("n", [0, 1, 3, 4, 5, 8, 9])
def test_a_text_goes_back_through_its_spans(n: int) -> None:
    cache = made(3)
    cache.freeze()
    read(cache, range(3, 5))
    cache.freeze()
    read(cache, range(5, 9))
    text = cache.texts[0]
    assert (text.before, text.rows, text.length) == (5, 4, 9) and len(text.prefix) == 2
    cache.rewind(n)
    assert numbers(cache) == list(range(9 - n)) and cache.length == 9 - n and text.rows == max(0, 4 - n)
    assert [length for _, length in text.prefix] == [3, 2] if n <= 4 else sum(x for _, x in text.prefix) == 9 - n
    assert all(length for _, length in text.prefix)
    read(cache, [77])
    assert numbers(cache) == [*range(9 - n), 77]


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
    assert (cache.each, cache.length, cache.room) == ([0, 3], 3, 0)
    with pytest.raises(CacheError, match="different lengths cannot be frozen"):
        cache.freeze()


def test_texts_are_chosen_spread_and_joined() -> None:
    cache = made(3)
    cache.spread(1)
    cache.spread(2)
    assert len(cache.texts) == 2 and cache.nbytes == 256 * ROW  # one buffer, held by both
    read(cache, [3], [30])
    assert cache.nbytes == 2 * 256 * ROW
    for b in (1, 3):
        with pytest.raises(CacheError, match=f"the cache holds 2 texts, {b} were to be read"):
            cache.spread(b)
    cache.select([1, 0, 1])
    assert [numbers(cache, i) for i in range(3)] == [[0, 1, 2, 30], [0, 1, 2, 3], [0, 1, 2, 30]]
    other = made(2)
    cache.join(other)
    assert len(cache.texts) == 4 and numbers(cache, 3) == [0, 1] and cache.each == [4, 4, 4, 2]
    read(other, [5])
    assert numbers(cache, 3) == [0, 1]


def test_a_frozen_text_without_rows_stays_as_it_was() -> None:
    cache = made(3)
    cache.freeze()
    assert cache.texts[0].own is None and cache.nbytes == 0
    cache.freeze()
    assert len(cache.texts[0].prefix) == 1 and cache.length == 3
    read(cache, [3])
    cache.rewind(1)
    cache.freeze()
    assert len(cache.texts[0].prefix) == 1 and cache.texts[0].rows == 0 and cache.length == 3


def test_the_native_call_is_given_every_span() -> None:
    cache = made(3)
    cache.freeze()
    read(cache, [3, 4])
    text = cache.texts[0]
    found = list(spans(text))
    assert [(span.capacity, span.length) for span in found] == [(256, 3), (256, 2)]
    assert text.own is not None and found[1].keys == text.own.keys.ctypes.data
    assert found[1].values == text.own.values.ctypes.data and found[0].keys == text.prefix[0][0].keys.ctypes.data
    assert found[1].keys % 64 == 0


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
    assert made(capacity=first).needs(positions) == rows * ROW >= cache.nbytes


@pytest.mark.parametrize(("low", "high"), [(0, 50), (0, 1), (3, 20), (16, 32), (15, 17), (39, 41), (40, 50), (5, 5)])
def test_rows_are_taken_out_of_their_spans_and_put_into_another(low: int, high: int) -> None:
    cache = made(20)
    cache.freeze()
    read(cache, range(20, 40))
    cache.freeze()
    read(cache, range(40, 50))
    cache.join(made(60))
    for text in (0, 1):
        keys, values = cache.taken(low, high, text)
        assert keys.shape == values.shape == (2, 3, high - low, 4) and keys.dtype == np.float32
        assert np.array_equal(values, keys + 1000) and keys[1, 2, :, 3].tolist() == list(range(low, high))
    assert np.array_equal(cache.taken(low, high)[0], keys)
    if high > low:
        other = made()
        other.put(keys, values)
        assert numbers(other) == list(range(low, high)) and other.length == high - low
        read(other, [77])
        assert numbers(other) == [*range(low, high), 77]
    frozen = made(20)
    frozen.freeze()
    assert frozen.taken(3, 20)[0][0, 0, :, 0].tolist() == list(range(3, 20))


def test_a_large_buffer_has_pages_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    room = packed_cache.packed.aligned

    def aligned(nbytes: int) -> np.ndarray:
        asked.append(nbytes)
        return room(nbytes)

    monkeypatch.setattr(packed_cache.packed, "aligned", aligned)
    monkeypatch.setattr(packed_cache, "LARGE", 4000)
    small, large = packed_cache._room(999), packed_cache._room(10, 100)
    assert asked == [3996] and small.shape == (999,) and large.shape == (10, 100)
    assert large.dtype == np.float32 and not large.any() and large.flags.writeable and large.ctypes.data % 4096 == 0
    assert packed_cache._room(2, 3, 4).shape == (2, 3, 4) and asked == [3996, 96]
