"""The native way of decoding against the graph with the same weights: passes, every verb of its cache, the way back."""

import copy
from functools import partial
from typing import Any

import numpy as np
import pytest

from likely.metal import mx
from likely.metal.attention import Emit, Mask
from likely.metal.packed import PackedMatrix
from likely.models.caches.kv_cache import Cache
from likely.models.errors import CacheError, ConfigError
from likely.models.families import registry
from likely.models.native_path import native
from likely.models.native_path.native import NativeCache, NativeModel, NativeRows, as_graph, drawing
from likely.models.transformer import Transformer
from tests.models.oracle import flat, reference
from tests.models.test_families import SAME, V
from tests.models.test_packed import in_numpy

pytestmark = pytest.mark.linux
CLOSE = 2e-5  # of the largest logit: both are float32, and sum in other orders


def both(name: str = "llama", **changes: Any) -> tuple[Transformer, NativeModel]:
    config = SAME[name] | changes
    weights = flat(reference(config).parameters())
    fast = native.build(config, in_numpy(weights))
    graph = registry.build(config, dict(weights))
    assert isinstance(graph, Transformer)
    return graph, fast


@pytest.fixture(scope="module", params=["llama", "gemma 3"])
def models(request: pytest.FixtureRequest) -> tuple[Transformer, NativeModel]:
    """One with windows, too."""
    return both(request.param)


def text(n: int, b: int = 1, seed: int = 1) -> mx.array:
    return mx.array(np.random.default_rng(seed).integers(0, V, (b, n)))


def same(got: mx.array, want: mx.array, bound: float = CLOSE) -> None:
    assert got.shape == want.shape and got.dtype == want.dtype
    assert np.abs(np.array(got - want)).max() <= bound * np.abs(np.array(want)).max()


@pytest.mark.parametrize("words", [V, 70_000])  # the table of the second is unpacked in several pieces
def test_the_expanded_weights_are_the_packed_ones_to_the_bit(words: int) -> None:
    config = SAME["llama"] | {"vocab_size": words}
    weights = {name: np.array(a) for name, a in flat(reference(config).parameters()).items()}
    matrices = {name: PackedMatrix("F32", *a.shape).fill(a) if a.ndim == 2 else a for name, a in weights.items()}
    graph = native.build(config, matrices).graph
    found = {f"{part.path}.{kind}": a for part in graph.parts() for kind, a in part.stored().items()}
    for name, array in found.items():
        np.testing.assert_array_equal(np.array(array), weights[name], err_msg=name)


def through_graph(model: NativeModel, x: mx.array, cache: Cache) -> mx.array:
    """The same pass by the graph: the native one has no masks."""
    return model.head(model.hidden(x, cache, mask=Mask()))


def run(model: Any, cache: Cache) -> list[mx.array]:
    """Every verb that a strategy uses, with reading between; the logits on the way."""
    out = [model(text(40), cache)[:, -1]]
    twin = cache.fork()
    out.append(model(text(7, seed=2), cache)[:, -1])
    out.append(model(text(3, seed=3), twin)[:, -1])  # by turns
    out.append(model(text(1, seed=4), cache)[:, -1])
    out.append(model(text(1, seed=5), twin)[:, -1])
    cache.rewind(5)
    cache.freeze()
    cache.select([0, 0, 0])
    out.append(model(text(4, 3, seed=6), cache)[:, -1])
    cache.select([2, 0, 2, 1])
    out.append(model(text(2, 4, seed=7), cache)[:, -1])
    cache.rewind([0, 1, 2, 0])
    assert cache.each == [49, 48, 47, 49]
    out.append(model(text(1, 4, seed=8), cache)[:, -1])
    cache.select([1])
    cache.rewind(1)
    out.append(model(text(1, seed=9), cache)[:, -1])
    out.append(model(text(2, seed=10), twin)[:, -1])
    return out


def test_every_verb_of_the_cache_gives_what_the_graphs_gives() -> None:
    graph, fast = both()
    for got, want in zip(run(fast, fast.make_cache()), run(graph, graph.make_cache()), strict=True):
        same(got, want)
    assert not fast.expanded


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_any_order_of_the_verbs_gives_what_the_graphs_gives(seed: int, models: tuple[Transformer, NativeModel]) -> None:
    """Forks in mid-answer, by turns, of several texts, on frozen prefixes; with odd seeds the graph reads on once.

    Nothing is done that the graph's cache refuses.
    """
    graph, fast = models
    random = np.random.default_rng(seed)
    pairs: list[tuple[Cache, Cache]] = [(fast.make_cache(16), graph.make_cache())]
    heights = [1]  # texts of each
    for turn in range(40):
        at = int(random.integers(len(pairs)))
        (cache, wanted), b = pairs[at], heights[at]
        verb = random.choice(["read", "read", "fork", "rewind", "each", "freeze", "select"])
        if verb == "fork" and len(pairs) < 4:
            pairs.append((cache.fork(), wanted.fork()))
            heights.append(b)
        elif verb == "select":
            rows = random.integers(0, b, random.integers(1, 4)).tolist()
            cache.select(rows), wanted.select(rows)
            heights[at] = b = len(rows)
        elif verb in ("rewind", "each", "freeze"):
            back: Any = int(random.integers(0, min(12, wanted.room) + 1))
            if verb == "each":
                back = [int(random.integers(0, back + 1)) for _ in range(b)]
            try:
                wanted.freeze() if verb == "freeze" else wanted.rewind(back)
            except CacheError:
                continue
            cache.freeze() if verb == "freeze" else cache.rewind(back)
        x = text(int(random.choice([1, 1, 3, 17])), b, seed=1000 * seed + turn)
        by = through_graph if seed % 2 == 1 and turn == 25 else NativeModel.__call__
        same(by(fast, x, cache), graph(x, wanted), 3 * CLOSE)
        assert (cache.length, cache.each) == (wanted.length, wanted.each)


def test_other_kinds_of_cache_are_the_graphs() -> None:
    graph, fast = both(head_dim=32)
    for how in ({"bits": 8}, {"window": 16, "sinks": 4}):
        caches = graph.make_cache(**how), fast.make_cache(**how)  # type: ignore[arg-type]
        assert type(caches[1].layers[0]) is type(caches[0].layers[0])
        for low, high in ((0, 40), (40, 41)):
            same(fast(text(60)[:, low:high], caches[1]), graph(text(60)[:, low:high], caches[0]))


def test_what_the_call_has_not_is_read_on_by_the_graph(models: tuple[Transformer, NativeModel]) -> None:
    """From what the native pass has read, and so does what follows; of several texts of other lengths too."""
    graph, fast = models
    x = text(40, 2)
    want, cache = graph.make_cache(), fast.make_cache()
    graph(x[:, :20], want), fast(x[:, :20], cache)
    want.rewind([3, 0]), cache.rewind([3, 0])
    for low, high in ((20, 25), (25, 26)):
        same(through_graph(fast, x[:, low:high], cache), graph(x[:, low:high], want))
    assert isinstance(cache, NativeCache) and cache.graph is not None
    same(fast(x[:, 26:30], cache), graph(x[:, 26:30], want))
    mask = Mask(window=4)
    same(fast.hidden(x, mask=mask), graph.hidden(x, mask=mask))
    seen, expected = (m.inspect(x, emit=Emit(lse=True)) for m in (fast, graph))
    for got, report in zip(seen.attention, expected.attention, strict=True):
        assert got.lse is not None and report.lse is not None
        same(got.lse, report.lse)


def test_what_each_layer_gives_is_the_graphs_and_so_is_what_it_would_say(
    models: tuple[Transformer, NativeModel],
) -> None:
    """Of several texts, more than one call reads, behind what was read; of the first layers alone."""
    graph, fast = models
    x, caches = text(300, 2), [model.make_cache() for model in models]
    for low, high in ((0, 280), (280, 281), (281, 300)):
        want, got = (model.inspect(x[:, low:high], cache) for model, cache in zip(models, caches, strict=True))
        for one, other in zip(got.hidden, want.hidden, strict=True):
            same(one, other)
        same(fast.lens(got.hidden[1]), graph.lens(want.hidden[1]))
        same(fast.head(got.final), graph.head(want.final))
    assert caches[0].length == 300
    lower = fast.inspect(x[:, :30], layers=2).hidden
    assert len(lower) == 3
    for one, other in zip(lower, graph.inspect(x[:, :30]).hidden, strict=False):
        same(one, other)


def test_what_is_on_the_graph_is_heard_with_a_cache_and_without() -> None:
    """Here a matrix of a part that is another, which only the graph can have; it is not on a twin made before."""
    graph, fast = both()
    x, before = text(30), both()[1](text(30))
    twin = copy.deepcopy(fast)
    for net in (graph, fast.graph):
        part = next(part for part in net.parts() if part.path.endswith("layers.1.mlp.up_proj"))
        net.put(part, part.matrix * 1.5)
    want = graph(x)
    same(fast(x), before)
    fast.renew()
    for one in (fast, fast.drawing, copy.deepcopy(fast)):
        for got in (one(x), one(x, one.make_cache()), one.head(one.hidden(x))):
            same(got, want)
    assert not isinstance(fast.make_cache(40), NativeCache)
    for _ in range(2):
        same(twin(x), before)
        twin.renew()


def test_who_draws_has_rounded_activations_and_who_measures_has_not() -> None:
    config = SAME["llama"] | {"hidden_size": 64, "intermediate_size": 64, "num_attention_heads": 4, "head_dim": 16}
    weights: dict[str, Any] = {}
    for name, array in flat(reference(config).parameters()).items():
        if array.ndim == 1:
            weights[name] = np.array(array)
            continue
        codes, scales, biases = (np.array(part) for part in mx.quantize(array, 32, 4))
        weights[name] = PackedMatrix("AFFINE4", *array.shape, group=32).fill_affine(codes, scales, biases)
    fast, x = native.build(config, weights), text(30)
    exact = np.array(fast.graph(x))
    measured, drawn = (np.abs(np.array(by(x)) - exact).max() / np.abs(exact).max() for by in (fast, fast.drawing))
    assert measured < CLOSE < 3 * CLOSE < drawn < 1e-2
    assert fast.drawing is drawing(fast) and fast.drawing.drawing is fast.drawing and as_graph(fast) is fast.graph
    assert drawing(fast.graph) is fast.graph is as_graph(fast.graph)


def test_a_prefix_is_cut_and_pasted_as_one_layer_s() -> None:
    """The rows of all layers, for whoever keeps prefixes."""
    fast = both()[1]
    x, cache, other = text(40), fast.make_cache(16), fast.make_cache(16)
    whole = fast(x, cache)
    (rows,), (empty,) = cache.layers, other.layers
    parts = [rows.cut(0, 17), rows.cut(17, 30)]
    assert rows.cut(0, 41) is None and rows.cut(0, 40) is not None
    assert isinstance(empty, NativeRows) and parts[0] is not None and parts[1] is not None
    empty.paste([part for part in parts if part is not None], [17, 30])
    same(fast(x[:, 30:], other), whole[:, 30:], 1e-6)
    cache.select([0, 0])
    assert rows.cut(0, 40) is None


def test_a_cache_knows_what_comes_until_it_goes_back() -> None:
    fast = both()[1]
    cache = fast.make_cache(16)
    cache.expected = 700
    fast(text(30), cache)
    room = cache.nbytes
    fast(text(600), cache)
    assert cache.nbytes == room  # nothing was copied
    twin = cache.fork()
    cache.rewind(2)
    assert (twin.expected, cache.expected, cache.length, twin.length, twin.room) == (700, 0, 628, 630, 630)


def test_texts_that_the_graph_reads_stand_side_by_side() -> None:
    graph, fast = both()
    x = text(30, 2)
    caches = [[model.make_cache(), model.make_cache()] for model in (fast, graph)]
    for by, (one, two) in zip((partial(through_graph, fast), graph), caches, strict=True):
        by(x[:1, :20], one), by(x[1:, :11], two)
        one.join(two, (1, 1))
    same(fast(x[:, 20:24], caches[0][0]), graph(x[:, 20:24], caches[1][0]))
    with pytest.raises(CacheError, match="cannot stand beside"):
        caches[0][0].join(both()[1].make_cache(), (1, 1))


def test_what_needs_the_graph_is_refused_in_a_line_where_there_is_no_memory_for_it() -> None:
    config = SAME["llama"]
    fast = native.build(config, in_numpy(flat(reference(config).parameters())), expandable=False)
    with pytest.raises(ConfigError, match="start with LIKELY_PACKED=off"):
        fast.inspect(text(3), emit=Emit(lse=True))


def test_the_bytes_that_a_text_needs_are_those_that_it_takes() -> None:
    fast = both()[1]
    for capacity in (16, 256):
        for n in (1, 255, 257, 700):
            cache = fast.make_cache(capacity)
            for low in range(0, n, 100):
                fast(text(n)[:, low : low + 100], cache)
            size = fast.config.kv_heads * fast.config.head_size
            assert cache.nbytes <= cache.needs(n, native.RowSize(size, 4), 100) <= 2 * max(cache.nbytes, 1) + (1 << 20)


def test_a_model_that_sees_is_read_without_its_eyes() -> None:
    config = SAME["gemma 3"]
    weights = in_numpy(flat(reference(config).parameters()))
    wrapped = {f"language_model.{name}": array for name, array in weights.items()}
    seeing = native.build(config, wrapped | {"vision_tower.a": np.ones(3, np.float32)})
    np.testing.assert_array_equal(np.array(seeing(text(9))), np.array(native.build(config, weights)(text(9))))
