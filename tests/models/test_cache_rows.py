"""The rows of the caches, one number each: which are held, where, in how large a buffer, and what is refused."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import pytest

from likely.metal import mx
from likely.metal.attention import KV, QuantizedRows
from likely.metal.qkv_prepare import PLAIN, Format
from likely.models.caches.kv_cache import Cache
from likely.models.caches.layer_cache import KVCache, RowSize, Tail
from likely.models.caches.quantized_cache import QuantizedCache
from likely.models.caches.window_cache import WindowCache
from likely.models.errors import CacheError
from tests.support.everyday import everyday

HEADS, D = 2, 64


def rows(*numbers: Sequence[int], d: int = D) -> mx.array:
    """[B, 2, T, D]: a row is its number, of the second head plus a half, and its last value is twice that."""
    each = np.array(numbers, np.float32)[:, None, :, None] + np.array([0, 0.5], np.float32)[None, :, None, None]
    wide = np.broadcast_to(each, (*each.shape[:3], d)).copy()
    wide[..., -1] *= 2
    return mx.array(wide)


def put(cache: KVCache, *numbers: Sequence[int]) -> KV:
    """Append these rows of each of B; values are the keys plus 1000."""
    keys = rows(*numbers)
    return cache.append(keys, keys + 1000)


def said(kv: KV | None, b: int = 0) -> list[int]:
    """The numbers of the rows that attention reads of one text, checked to be whole."""
    found: list[int] = []
    for part in kv.chain() if kv is not None else ():
        i = b if part.keys.shape[0] > 1 else 0
        n = int(part.lengths.tolist()[i])
        keys, values = (
            np.array(x.floats() if isinstance(x, QuantizedRows) else x)[i, :, :n] for x in (part.keys, part.values)
        )
        if n:
            assert np.abs(values - keys - 1000).max() < 8 and np.abs(keys[1] - keys[0] - 0.5)[:, :-1].max() < 4
        found += [round(float(x)) for x in keys[0, :, 0]]
    return found


def held(cache: KVCache, b: int = 0) -> list[int]:
    return said(cache.held(), b)


def span(n: int, start: int = 0) -> range:
    return range(start, start + n)


def packed(cache: QuantizedCache) -> int:
    """How many rows are packed, not counting those of a prefix."""
    return 0 if cache.old is None else cache.old.length or 0


def capacity(cache: KVCache) -> int:
    return 0 if cache.keys is None else cache.keys.shape[2]


KINDS: dict[str, Callable[[], KVCache]] = {
    "full": KVCache, "window": lambda: WindowCache(20), "sinks": lambda: WindowCache(20, 3),
    "more sinks than leave at once": lambda: WindowCache(4, 100),
    "8 bits": lambda: QuantizedCache(8, exact=5), "all packed": lambda: QuantizedCache(8, exact=0),
}  # fmt: skip


def check(cache: KVCache, texts: list[list[int]]) -> None:
    """It holds the rows of its texts: in a window those that are seen and the first, else all; packed ones nearly."""
    lengths = [len(text) for text in texts]
    assert cache.length == max(lengths) and (cache.each is None) == (len(set(lengths)) == 1)
    for i, want in enumerate(texts):
        got, gone = held(cache, i), cache.gone
        assert len(got) == len(want) - gone
        if isinstance(cache, WindowCache) and gone:
            assert len(got) >= cache.sinks + cache.window - 1
            want = want[: cache.sinks] + want[cache.sinks + gone :]
        exact = min(len(want), cache.rows if cache.each is None else cache.each[i])
        exact = exact if isinstance(cache, QuantizedCache) else len(want)
        assert got[len(got) - exact :] == want[len(want) - exact :]
        assert all(abs(a - b) <= 1 for a, b in zip(got, want, strict=True))


@pytest.mark.parametrize(("kind", "seed"), everyday([(kind, seed) for seed in range(16) for kind in KINDS], 5), ids=str)
def test_every_order_of_the_verbs_holds_what_lists_would(kind: str, seed: int) -> None:
    """Reading, forking, selecting, joining, freezing and going back, in turns, by all that came of one cache."""
    random = np.random.default_rng(seed)
    known: list[tuple[KVCache, list[list[int]]]] = [(KINDS[kind](), [[]])]
    for turn in range(40):
        cache, texts = known[int(random.integers(len(known)))]
        verb = random.choice(["read", "read", "read", "fork", "select", "freeze", "back", "each", "each", "join"])
        own = cache.each or [cache.rows] * len(texts)
        if verb == "read":
            n = int(random.choice([1, 1, 2, 31, 64, 130]))
            new = [[(7 * turn + 40 * i + j) % 97 for j in range(n)] for i in range(len(texts))]
            put(cache, *new)
            for text, more in zip(texts, new, strict=True):
                text += more
        elif verb == "fork" and len(known) < 4:
            known.append((cache.fork(), [[*text] for text in texts]))
        elif verb == "select" and cache.length:
            chosen = random.integers(0, len(texts), int(random.integers(1, 4))).tolist()
            cache.select(chosen)
            texts[:] = [[*texts[i]] for i in chosen]
        elif verb == "freeze":
            if cache.each is None:
                cache.freeze()
                assert cache.nbytes == 0  # what is frozen counts for nobody
            else:
                with pytest.raises(CacheError, match="different lengths cannot be frozen"):
                    cache.freeze()
        elif verb == "back" and cache.each is None:
            n = int(random.choice([1, cache.room // 2, cache.room])) if cache.room else 0
            with pytest.raises(CacheError, match=f"cannot go back {cache.room + 1} positions: {cache.room} are held"):
                cache.rewind(cache.room + 1)
            cache.rewind(n)
            texts[:] = [text[: len(text) - n] for text in texts]
        elif verb == "each" and len(texts) > 1:
            rooms = [max(0, min(rows, cache.room - (cache.rows - rows))) for rows in own]
            with pytest.raises(CacheError, match=f"where rows differ: {rooms[0]} are held"):
                cache.rewind([rooms[0] + 1, *[0] * (len(own) - 1)])
            back = [int(random.integers(0, room + 1)) for room in rooms]
            cache.rewind(back)
            texts[:] = [text[: len(text) - n] for text, n in zip(texts, back, strict=True)]
        elif verb == "join" and cache.joins and len(texts) < 4:
            other, others = known[int(random.integers(len(known)))]
            if cache.length and other.length and all(map(len, [*texts, *others])):
                cache.join(other, (len(texts), len(others)))
                texts += [[*text] for text in others]
        for one, want in known:
            check(one, want)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_text_goes_back_to_every_place_that_its_rows_allow_and_on_from_there(kind: str, frozen: bool) -> None:
    cache, text = KINDS[kind](), [i % 97 for i in range(174)]
    for start, end in pairwise((0, 90, 91, 140, 174)):
        put(cache, text[start:end])
        if frozen and end < 174:
            cache.freeze()
    for n in range(0, cache.room + 1, 3):
        twin = cache.fork()
        twin.rewind(n)
        check(twin, [text[: 174 - n]])
        put(twin, [5])
        check(twin, [[*text[: 174 - n], 5]])


@pytest.mark.parametrize(
    ("first", "sizes", "want"),
    [
        (256, [1], [256]), (256, [256], [256]), (256, [257], [512]), (256, [256, 1], [256, 512]),
        (256, [1000], [1024]), (256, [300, 300, 500], [512, 1024, 2048]), (4, [3, 1, 1], [256, 256, 256]),
        (1000, [1], [1000]), (1000, [1001], [1024]), (1000, [1000, 1], [1024, 1024]), (256, [512, 600], [512, 1280]),
    ],
)  # fmt: skip
def test_a_buffer_grows_by_doubling_in_whole_blocks(first: int, sizes: list[int], want: list[int]) -> None:
    cache, n = KVCache(first), 0
    for size, room in zip(sizes, want, strict=True):
        kv = put(cache, span(size, n))
        n += size
        assert (capacity(cache), cache.rows, cache.length, kv.capacity, kv.length) == (room, n, n, room, n)
        assert said(kv) == list(range(n)) == held(cache)
        assert not kv.ragged and kv.cached and kv.positions is None and kv.lengths.tolist() == [n]
        assert cache.nbytes == 2 * HEADS * room * D * 4


def test_what_cannot_be_gone_back_is_refused_and_nothing_is_touched() -> None:
    cache = KVCache()
    put(cache, span(4))
    cache.freeze()
    put(cache, span(3, 4))
    for n in (-1, 8):
        with pytest.raises(CacheError, match=f"^cannot go back {n} positions: 7 are held$"):
            cache.rewind(n)
    cache.check_rewind(7)
    cache.select([0, 0])
    for n in (4, -1):
        with pytest.raises(CacheError, match=f"cannot go back {n} positions where rows differ: 3 are held"):
            cache.rewind([0, n])
    cache.rewind([3, 0])
    assert cache.each == [0, 3] and held(cache, 0) == [0, 1, 2, 3] and held(cache, 1) == list(range(7))
    with pytest.raises(CacheError, match="a number for each of 2 rows, got 3"):
        cache.rewind([0, 0, 0])
    with pytest.raises(CacheError, match="cannot go back 1 positions where rows differ: 0 are held"):
        cache.rewind(1)
    cache.rewind(0)
    assert cache.each == [0, 3]
    with pytest.raises(CacheError, match="different lengths cannot be frozen"):
        cache.freeze()
    assert cache.each == [0, 3] and cache.keys is not None


@pytest.mark.parametrize(
    ("low", "high", "there"), [(0, 3, True), (1, 7, True), (6, 7, True), (0, 8, False), (-1, 3, False)]
)
def test_rows_of_one_text_are_cut_by_their_positions(low: int, high: int, there: bool) -> None:
    cache = KVCache()
    assert cache.cut(0, 0) is None
    put(cache, span(7))
    part = cache.cut(low, high)
    assert (part is not None) == there
    if part is not None:
        assert part["keys"][0, 0, :, 0].tolist() == [*range(low, high)]
        assert part["values"][0, 0, :, 0].tolist() == [*range(1000 + low, 1000 + high)]
        other = KVCache()
        other.paste([part, {name: array[:, :, :1] for name, array in part.items()}], [high - low, high - low + 1])
        assert held(other) == [*range(low, high), low]


def test_rows_behind_a_prefix_or_of_several_texts_are_not_cut() -> None:
    cache = KVCache()
    put(cache, span(3))
    cache.freeze()
    put(cache, span(3, 3))
    assert cache.cut(3, 6) is None
    two = KVCache()
    put(two, span(3), span(3))
    assert two.cut(0, 3) is None


def test_a_tail_keeps_what_is_recent_and_lets_a_block_or_more_go() -> None:
    assert Tail(10, 4).most == 18
    cache = KVCache(256, Tail(10, 4))
    put(cache, span(13))
    assert capacity(cache) == 18 and cache.shed(1) is None
    put(cache, [13])
    oldest = cache.shed(1)
    assert oldest is not None and [x.shape[2] for x in oldest] == [4, 4]
    assert oldest[0][0, 0, :, 0].tolist() == [0, 1, 2, 3] and oldest[1][0, 0, :, 0].tolist() == [1000, 1001, 1002, 1003]
    assert cache.rows == 10 and capacity(cache) == 14 and held(cache) == [*range(4, 14)]
    put(cache, span(9, 14))
    assert capacity(cache) == 19
    found = cache.shed(7)
    assert found is not None and found[0].shape[2] == 9 and capacity(cache) == 17 and held(cache) == [*range(13, 23)]
    small = KVCache(5, Tail(10, 4))
    put(small, [0])
    assert capacity(small) == 18  # no more than it will ever need
    long = KVCache(256, Tail(10, 4))
    put(long, span(40))
    assert capacity(long) == 40


@pytest.mark.parametrize(
    ("window", "sinks", "chunk", "rows_"),
    [(30, 7, 512, 29 + 16 + 64 + 512 + 7), (30, 7, 64, 29 + 16 + 128 + 7), (30, 7, 65, 29 + 16 + 129 + 7),
     (30, 7, 1, 29 + 16 + 128 + 7), (1, 0, 1, 16 + 128), (5000, 0, 512, 4096)],
)  # fmt: skip
def test_a_window_needs_its_rows_and_those_that_are_read_at_once(
    window: int, sinks: int, chunk: int, rows_: int
) -> None:
    """Two blocks, or one and a chunk, beside the window, its slack and the sinks; no more than all rows would take."""
    assert WindowCache(window, sinks).needs(4096, RowSize(3, 5), chunk) == 2 * rows_ * 15
    assert WindowCache(window, sinks, 4).needs(4, RowSize(3, 5), chunk) == 2 * 4 * 15


@pytest.mark.parametrize(("window", "sinks"), [(1, 0), (20, 0), (20, 3), (20, 100)])
def test_a_window_keeps_its_rows_and_the_first(window: int, sinks: int) -> None:
    cache, n = WindowCache(window, sinks), 0
    recent = window - 1 + 16
    assert cache.kind == f"window {window} sinks {sinks}" and cache.tail == Tail(recent, 64)
    assert cache.mask is not None and (cache.mask.window, cache.mask.keep) == (window, sinks)
    for size in (5, recent + 58, 1, 1, 100, 1, 200, 3):
        surplus = cache.rows - recent
        before = cache.rows
        kv = put(cache, span(size, n))
        n += size
        left = recent if surplus >= 64 else before
        assert cache.rows == left + size and cache.length == n
        first = min(sinks, n - cache.rows)
        assert said(kv) == [*range(first), *range(n - cache.rows, n)]
        assert cache.gone == n - cache.rows - first
        at = cache.located(kv).positions
        assert (at is None) == (cache.gone == 0)
        if at is not None:
            assert at.tolist()[0][: cache.rows] == [*range(n - cache.rows, n)] and at.dtype == mx.int32
        assert cache.room == (n if not cache.gone else max(0, cache.rows + first - sinks - (window - 1)))
    size = 4 * 2 * HEADS * D
    assert cache.nbytes == size * (capacity(cache) + min(sinks, cache.before - cache.gone))


@pytest.mark.parametrize(("window", "sinks", "fine"), [(1, 0, True), (0, 0, False), (-1, 0, False), (1, -1, False)])
def test_a_window_sees_at_least_itself(window: int, sinks: int, fine: bool) -> None:
    if fine:
        assert WindowCache(window, sinks).window == 1
        return
    with pytest.raises(CacheError, match=f"its sinks 0 or more, got {window} and {sinks}"):
        WindowCache(window, sinks)


def test_layers_with_as_many_rows_share_a_place() -> None:
    cache = Cache([KVCache(), WindowCache(1), KVCache()])
    for layer in cache.layers:
        put(layer, span(90))
    places = cache.places(1, 2)
    assert places[0] is places[2] and places[1] is not places[0]
    assert [place.end for place in places] == [92, 18, 92]  # the window let go of what is not seen
    assert cache.length == 90 and cache.lengths.tolist() == [90] and cache.each is None
    assert cache.room == min(layer.room for layer in cache.layers) and not cache.joins
    assert cache.nbytes == sum(layer.nbytes for layer in cache.layers)


def test_texts_of_a_cache_are_counted_with_their_prefix() -> None:
    cache = Cache([KVCache(), KVCache()])
    for layer in cache.layers:
        put(layer, span(3))
    cache.freeze()
    cache.select([0, 0])
    for layer in cache.layers:
        put(layer, span(4), span(4))
    cache.rewind([0, 2])
    assert cache.each == [7, 5] and cache.lengths.tolist() == [7, 5] and cache.length == 7
    with pytest.raises(CacheError, match="different lengths cannot be frozen"):
        cache.freeze()
    assert not any(each.joins for each in (WindowCache(3), QuantizedCache()))
    with pytest.raises(CacheError, match="cannot stand side by side in a cache that lets rows go"):
        cache.join(Cache([WindowCache(3), KVCache()]), (2, 1))


def test_a_cache_that_is_emptied_may_turn_its_keys_otherwise() -> None:
    cache = Cache([KVCache()])
    cache.regime, cache.expected = (1,), 9
    put(cache.layers[0], span(3))
    twin = cache.fork()
    assert (twin.regime, twin.expected, twin.length) == ((1,), 9, 3)
    cache.rewind(1)
    assert (cache.regime, cache.expected) == ((1,), 0)
    cache.rewind(2)
    assert cache.regime is None and (twin.regime, twin.expected) == ((1,), 9)
    kv = cache.append(0, rows([5]), rows([1005]))
    assert kv.length == 1 and cache.length == 1


@pytest.mark.parametrize("exact", [0, 5, 64])
def test_all_but_the_last_rows_are_packed_a_block_at_a_time(exact: int) -> None:
    cache, n = QuantizedCache(8, exact=exact), 0
    assert cache.kind == f"bits (8, 8) groups 64 exact {exact}" and cache.tail == Tail(exact, 32)
    for size in (exact + 31, 1, 31, 1, 100, 2):
        put(cache, span(size, n))
        n += size
        plain = cache.rows
        assert exact <= plain < exact + 32 or not packed(cache)
        assert packed(cache) + plain == n == cache.length
        got = held(cache)
        assert got[len(got) - plain :] == [*range(n - plain, n)]
        assert max(abs(a - b) for a, b in zip(got, range(n), strict=True)) <= 1


def test_a_block_goes_when_it_is_full() -> None:
    cache = QuantizedCache(8, exact=5)
    put(cache, span(36))
    assert (cache.rows, packed(cache)) == (36, 0) and cache.packed_nbytes == 0
    put(cache, [36])
    assert (cache.rows, packed(cache)) == (5, 32)
    codes, scales = HEADS * 96 * D, HEADS * 96 * 2 * 2  # room for 64 more rows
    assert cache.packed_nbytes == 2 * (codes + scales)
    assert cache.nbytes == cache.packed_nbytes + 2 * HEADS * capacity(cache) * D * 4 and capacity(cache) == 5 + 32


def test_rows_that_come_packed_are_taken_as_they_are_where_none_stays_exact() -> None:
    form = Format(8, 64)
    cache = QuantizedCache(8, exact=0)
    assert cache.formats(1) == (form, form) and cache.formats(2) == (PLAIN, PLAIN)
    kv = put(cache, [3])
    assert isinstance(kv.keys, QuantizedRows) and kv.length == 1 and kv.cached and cache.rows == 0 and said(kv) == [3]
    put(cache, [4, 5])
    assert cache.formats(1) == (PLAIN, PLAIN) and cache.rows == 2  # rows of a chunk stay exact until a block is full
    assert QuantizedCache(8, exact=1).formats(1) == (PLAIN, PLAIN)
    mixed = QuantizedCache((16, 4), 32, exact=0)
    assert mixed.formats(1) == (Format(16, 32), Format(4, 32))
    kv = put(mixed, [3])
    assert isinstance(kv.keys, mx.array) and isinstance(kv.values, QuantizedRows) and kv.values.bits == 4
    plain = QuantizedCache(16, exact=0)
    kv = put(plain, [3])
    assert isinstance(kv.keys, mx.array) and said(kv) == [3]


@pytest.mark.parametrize("exact", [0, 5])
def test_cut_at_several_ends_and_pasted_it_holds_the_same_rows_packed(exact: int) -> None:
    cache = QuantizedCache(8, exact=exact)
    parts, ends, start = [], [], 0
    for size in (40, 30, 100, 3):
        put(cache, span(size, start))
        end = start + size
        part = cache.cut(start, end)
        assert part is not None and cache.cut(start, end - 1) is None
        parts.append(part)
        ends.append(end)
        start = end
    assert "keys.codes" in parts[0] and ("keys.codes" in parts[3]) == (packed(cache) > 170)
    for n in range(1, 5):
        other = QuantizedCache(8, exact=exact)
        other.paste(parts[:n], ends[:n])
        twin = QuantizedCache(8, exact=exact)
        for size, first in zip((40, 30, 100, 3)[:n], (0, 40, 70, 170), strict=False):
            put(twin, span(size, first))
        assert (other.length, packed(other), other.rows) == (twin.length, packed(twin), twin.rows) == (
            ends[n - 1], packed(twin), ends[n - 1] - packed(twin)
        )  # fmt: skip
        assert held(other) == held(twin)
