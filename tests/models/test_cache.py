"""Every kind of cache against the uncached model, and the verbs of its contract."""

from collections.abc import Callable

import pytest

from likely.metal import mx
from likely.models.caches.kv_cache import Cache
from likely.models.caches.layer_cache import KVCache, RowSize
from likely.models.caches.window_cache import WindowCache
from likely.models.errors import CacheError
from likely.models.transformer import Transformer
from tests.models.oracle import difference, pair, tokens
from tests.models.test_families import SAME
from tests.support.everyday import everyday

TINY = SAME["llama"] | {"vocab_size": 97, "num_hidden_layers": 3}
SIZED = TINY | {"hidden_size": 64, "num_attention_heads": 4, "head_dim": 64, "num_key_value_heads": 2}


@pytest.fixture(scope="module")
def model() -> Transformer:
    made: Transformer = pair(SIZED)[1]
    return made


def run(model: Transformer, x: mx.array, cache: Cache, *sizes: int) -> mx.array:
    """Logits of x read in pieces of these sizes."""
    parts, start = [], 0
    for size in sizes:
        parts.append(model(x[:, start : start + size], cache))
        mx.eval(parts[-1])
        start += size
    assert start == x.shape[1]
    return mx.concatenate(parts, axis=1)


KINDS: dict[str, Callable[[Transformer], Cache]] = {
    "full": lambda m: m.make_cache(),
    "window": lambda m: m.make_cache(window=300),
    "8 bits": lambda m: m.make_cache(bits=8, exact=8),
    "keys 8, values 4": lambda m: m.make_cache(bits=(8, 4), exact=8),
    "keys as they come": lambda m: m.make_cache(bits=(16, 8), exact=8),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("b", [1, 3])
def test_a_cache_changes_nothing_but_rounding(model: Transformer, kind: str, b: int) -> None:
    x = tokens(b, 200, 97)
    got = run(model, x, KINDS[kind](model), 90, 1, 1, 100, 8)
    want = model(x)
    error = float(mx.sqrt(mx.mean(mx.square(got - want)) / mx.mean(mx.square(want))))
    assert error < (1e-5 if kind in ("full", "window") else 0.1 if "4" in kind else 0.005)


def naive(q: mx.array, k: mx.array, v: mx.array, window: int, sinks: int) -> mx.array:
    """Attention of the last T rows, from the definition, with all rows there."""
    t, n = q.shape[2], k.shape[2]
    groups = q.shape[1] // k.shape[1]
    k, v = mx.repeat(k, groups, axis=1), mx.repeat(v, groups, axis=1)
    at, to = mx.arange(n - t, n)[:, None], mx.arange(n)[None]
    seen = (to <= at) & ((at - to < window) | (to < sinks))
    scores = mx.where(seen, (q @ k.swapaxes(-1, -2)) * 0.25, -mx.inf)
    return mx.softmax(scores, axis=-1) @ v


@pytest.mark.parametrize("sinks", [0, 3])
@pytest.mark.parametrize("frozen", everyday([40, 0, 2, 150], 2))
def test_a_window_sees_the_last_positions_and_the_sinks(sinks: int, frozen: int) -> None:
    from likely.metal.attention import attention

    window = 20
    key = mx.random.key(3)
    q, k, v = (mx.random.normal((2, h, 400, 16), key=mx.random.split(key, 3)[i]) for i, h in enumerate((4, 2, 2)))
    cache = WindowCache(window, sinks)
    start = 0
    for size in (2, 38, 110, *(1,) * 90, 7, 60, 93):
        end = start + size
        kv = cache.append(k[:, :, start:end], v[:, :, start:end])
        assert cache.mask is not None
        want = naive(q[:, :, start:end], k[:, :, :end], v[:, :, :end], window, sinks)
        for held in (kv, cache.located(kv)):
            got = attention(q[:, :, start:end], held, scale=0.25, mask=cache.mask)
            assert difference(got, want) < 1e-5, (start, end)
        start = end
        if start == frozen:
            cache.freeze()
    assert cache.length == start
    assert cache.nbytes < 400 * 2 * 2 * 2 * 16 * 4


def test_fork_and_rewind_leave_no_trace(model: Transformer) -> None:
    x, other = tokens(1, 60, 97), tokens(1, 60, 97, seed=9)
    for kind in KINDS.values():
        cache = kind(model)
        run(model, x[:, :40], cache, 30, 10)
        want = run(model, x[:, 40:], cache.fork(), 1, 19)
        twin = cache.fork()
        run(model, other, twin, 50, 10)
        assert (cache.length, twin.length) == (40, 100)
        run(model, other[:, :5], cache, 5)
        cache.rewind(5)
        assert difference(run(model, x[:, 40:], cache, 1, 19), want) < 1e-6


def test_a_rewind_that_cannot_be_touches_nothing(model: Transformer) -> None:
    x = tokens(1, 300, 97)
    mixed = Cache([KVCache(), WindowCache(20), KVCache()])
    run(model, x, mixed, 290, 10)
    assert mixed.room < 300
    with pytest.raises(CacheError, match=f"cannot go back 200 positions: {mixed.room} are held"):
        mixed.rewind(200)
    assert [layer.length for layer in mixed.layers] == [300] * 3
    mixed.rewind(mixed.room)
    with pytest.raises(CacheError, match="cannot go back -1 positions"):
        mixed.rewind(-1)
    full = model.make_cache()
    model(x, full)
    with pytest.raises(CacheError, match="a number for each of 2 rows, got 3"):
        two = full.fork()
        two.select([0, 0])
        two.rewind([1, 0])
        two.rewind([1, 0, 0])


@pytest.mark.parametrize("kind", KINDS)
def test_samples_share_a_frozen_prefix(model: Transformer, kind: str) -> None:
    x, more = tokens(1, 100, 97), tokens(4, 12, 97, seed=5)
    cache, plain = KINDS[kind](model), KINDS[kind](model)
    model(x, cache)
    model(x, plain)
    cache.freeze()
    cache.select([0] * 4)
    plain.select([0] * 4)
    assert cache.nbytes == 0
    assert difference(run(model, more, cache, 4, 1, 7), run(model, more, plain, 4, 1, 7)) < 2e-2
    for layer in cache.layers:
        assert layer.prefix is not None and layer.prefix.keys.shape[0] == 1
    cache.select([3, 1])
    assert difference(model(more[:2, :1], cache)[:, 0], model(more[:2, :1], cache)[:, 0]) < 1
    back = cache.fork()
    back.rewind(back.length)
    assert back.length == 0


def test_texts_of_other_lengths_stand_side_by_side(model: Transformer) -> None:
    """Two that share a prefix, and one alone, with room for the next token of each."""
    x = tokens(3, 300, 97)
    two, one = model.make_cache(), model.make_cache()
    model(x[:1, :20], two)
    two.freeze()
    two.select([0, 0])
    model(x[1:, :256], one)
    one.rewind([0, 40])
    two.join(one, (2, 2))
    assert two.each == [20, 20, 256, 216]
    buffer = two.layers[0].nbytes
    fed = mx.concatenate([x[:1, 20:21], x[:1, 21:22], x[1:2, 256:257], x[2:, 216:217]])
    got = model(fed, two)[:, 0]
    assert two.layers[0].nbytes == buffer and two.each == [21, 21, 257, 217]
    second = mx.concatenate([x[:1, :20], x[:1, 21:22]], axis=1)
    for row, text in enumerate((x[:1, :21], second, x[1:2, :257], x[2:, :217])):
        assert difference(got[row], model(text)[0, -1]) < 1e-4
    two.select([1, 2])
    assert two.each == [21, 257]


def test_a_donated_buffer_is_written_in_place(model: Transformer) -> None:
    cache = model.make_cache(capacity=4096)
    x = tokens(1, 8, 97)
    mx.eval(model(x, cache))
    nbytes = cache.nbytes
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    for i in range(8):
        mx.eval(model(x[:, i : i + 1], cache), [layer.keys for layer in cache.layers])
    assert mx.get_peak_memory() - before < nbytes / 4


def test_a_window_holds_all_that_was_just_read(model: Transformer) -> None:
    """So that who keeps the beginnings of texts finds them, however small the window."""
    x = tokens(1, 400, 97)
    cache = model.make_cache(window=20, sinks=2)
    for start in range(0, 400, 100):
        model(x[:, start : start + 100], cache)
        for layer in cache.layers:
            part = layer.cut(start, start + 100)
            assert part is not None and part["keys"].shape[2] == 100
            assert start == 0 or layer.cut(start - 60, start) is None


def test_caches_that_cannot_be(model: Transformer) -> None:
    for options, line in (
        ({"bits": 3}, "bits of cached keys must be 4, 8 or 16, got 3"),
        ({"bits": 8, "group_size": 48}, "cannot be quantised with group_size 48"),
        ({"bits": 8, "window": 4}, "not both"),
        ({"sinks": 4}, "sinks go with a window"),
        ({"window": 4, "sinks": -1}, "sinks 0 or more"),
    ):
        with pytest.raises(CacheError, match=line):
            model.make_cache(**options)  # type: ignore[arg-type]
    odd = pair(TINY | {"head_dim": 80})[1]
    with pytest.raises(CacheError, match="heads of 80 numbers cannot be quantised with any group size"):
        odd.make_cache(bits=8)


@pytest.mark.parametrize("positions", [5, 300, 1000, pytest.param(2100, marks=pytest.mark.slow)])
def test_what_a_text_takes_is_known_beforehand(model: Transformer, positions: int) -> None:
    """An upper bound, and no loose one, however a text is read."""
    kinds = KINDS | {"small window": lambda m: m.make_cache(window=30, sinks=7)}
    chunks, first = [512] * (positions // 512) + [positions % 512], min(positions, 400)
    for name, kind in kinds.items():
        needs = kind(model).needs(positions, RowSize(2 * 64, 4), 512)
        for sizes in (chunks, [first, *[1] * (positions - first)]):
            cache, most = kind(model), 0
            for size in filter(None, sizes):
                rows = mx.zeros((1, 2, size, 64))
                for layer in cache.layers:
                    layer.append(rows, rows)
                most = max(most, cache.nbytes)
            assert most <= needs, name
            assert sizes is not chunks or positions < 1000 or needs < 2 * most, name
