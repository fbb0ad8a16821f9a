"""Which way a native model goes, with things of our own for its pass and its graph, and what its cache hands on."""

import copy
from typing import Any

import numpy as np
import pytest

from metal import mx, packed
from metal.attention import Mask
from models import native
from models.cache import Cache, KVCache
from models.errors import CacheError, ConfigError
from models.native import NativeCache, NativeModel, NativeRows, as_graph, drawing
from models.packed_cache import PackedCache
from tests.models.test_packed_cache import SHAPE, made, numbers, read


class Fast:
    """A native pass: hidden states are tokens, logits so many times as much as its bits say; its calls are noted."""

    config = "config"

    def __init__(self, bits: int = 10) -> None:
        self.activation_bits, self.calls = bits, list[Any]()

    def with_activations(self, bits: int) -> "Fast":
        return Fast(bits)

    def make_cache(self, capacity: int = 256) -> PackedCache:
        return PackedCache(SHAPE, capacity)

    def hidden(self, tokens: np.ndarray, cache: PackedCache) -> np.ndarray:
        self.calls.append((tokens.tolist(), cache._first, cache))
        return tokens[..., None].astype(np.float32)

    def head(self, hidden: np.ndarray) -> np.ndarray:
        return hidden * self.activation_bits


class Graph:
    """A graph, whose answers are negative."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def hidden(self, tokens: mx.array, cache: Any = None, *, mask: Any = None) -> mx.array:
        self.calls.append((cache, mask))
        return -tokens[..., None].astype(mx.float32)

    def head(self, hidden: mx.array) -> mx.array:
        return hidden * 100

    def make_cache(self, *given: Any, **options: Any) -> Cache:
        self.calls.append((given, options))
        return Cache([KVCache(), KVCache()])

    def lens(self, hidden: mx.array) -> mx.array:
        return hidden + 1

    def inspect(self, tokens: mx.array, cache: Any = None, *, emit: Any = None) -> Any:
        self.calls.append((cache, emit))
        return "inside"

    @property
    def arrays(self) -> dict[str, mx.array]:
        return {"graph": mx.ones((1,))}


def expanded(graph: Any) -> Any:
    """A graph that is made in two pieces."""
    yield
    yield
    return graph


def model() -> tuple[NativeModel, Any, Any]:
    fast, graph = Fast(), Graph()
    weights: Any = {"a": np.ones(3, np.float32)}
    return NativeModel(fast, lambda: expanded(graph), weights), fast, graph  # type: ignore[arg-type, return-value]


X = mx.array([[1, 2, 3]])


def test_a_pass_is_native_until_something_is_asked_for_that_it_has_not() -> None:
    net, fast, graph = model()
    assert net(X).tolist() == [[[10.0], [20.0], [30.0]]] and fast.calls[0][:2] == ([[1, 2, 3]], 3) and not net.expanded
    cache = net.make_cache(40)
    assert isinstance(cache, NativeCache) and cache.native._first == 40
    net.hidden(X, cache)
    assert fast.calls[1][2] is cache.native and cache.graph is None
    mask = Mask(causal=False)
    assert net.hidden(X, mask=mask).tolist() == [[[-1.0], [-2.0], [-3.0]]] and graph.calls[-1] == (None, mask)
    net.hidden(X, cache, mask=mask)
    assert cache.graph is not None and graph.calls[-1] == (cache.graph, mask)
    net.hidden(X, cache)
    assert graph.calls[-1] == (cache.graph, None) and len(fast.calls) == 2  # from here on it is the graph's
    other = Cache([KVCache()])
    net.hidden(X, other)
    assert graph.calls[-1] == (other, None)


def test_adapters_are_the_graph_s() -> None:
    net, fast, graph = model()
    net.altered = True
    assert net(X).tolist() == [[[-100.0], [-200.0], [-300.0]]] and not fast.calls
    net.make_cache(40)
    none = {"bits": None, "group_size": None, "exact": 64, "window": 0, "sinks": 0}
    assert graph.calls[-1] == ((40,), none)
    assert [*net.arrays] == ["graph"]
    net.altered = False
    assert {name: array.tolist() for name, array in net.arrays.items()} == {"a": [1, 1, 1]}


@pytest.mark.parametrize(
    "options", [{"bits": 8}, {"window": 4}, {"sinks": 1}, {"bits": (8, 4), "exact": 3, "group_size": 32}]
)
def test_other_kinds_of_cache_are_the_graph_s(options: dict[str, Any]) -> None:
    net, _, graph = model()
    cache = net.make_cache(**options)
    assert not isinstance(cache, NativeCache)
    given = {"bits": None, "group_size": None, "exact": 64, "window": 0, "sinks": 0} | options
    assert graph.calls[-1] == ((256,), given)
    assert isinstance(net.make_cache(exact=3, group_size=32), NativeCache)  # which say nothing by themselves


def test_the_inside_is_the_graph_s() -> None:
    net, _, graph = model()
    cache = net.make_cache()
    assert net.inspect(X, cache) == "inside" and graph.calls[-1] == (cache.graph, None)  # type: ignore[comparison-overlap, attr-defined]
    net.inspect(X)
    assert graph.calls[-1] == (None, None) and net.lens(mx.ones((1,))).tolist() == [2]
    assert not net.crosses(cache, 9) and net.rotations == () and net.dtype == mx.float32
    assert as_graph(net) is graph and net.config == "config"  # type: ignore[comparison-overlap]


def test_twins_share_the_weights() -> None:
    net, fast, graph = model()
    net.altered, _ = True, net.graph
    twin, less = copy.deepcopy(net), net.with_activations(8)
    assert twin.altered and less.altered and twin.graph is not graph and less.graph is graph
    twin.altered = False
    assert net.altered and not NativeModel(fast, lambda: expanded(graph), {}).altered
    for one, bits in ((less, 8), (net, 16), (twin, 16)):
        assert one.drawing is drawing(one) and one.drawing.drawing is one.drawing
        one.altered = False
        assert one.drawing(X).tolist() == [[[bits], [2 * bits], [3 * bits]]] and not one.drawing.altered
        one.altered = True
        assert one.drawing.altered  # an adapter that comes is on both
    assert net(X).tolist() == [[[-100.0], [-200.0], [-300.0]]] and drawing(graph) is graph


def test_rows_go_over_to_the_graph_once_with_their_lengths() -> None:
    cache = NativeCache(made(5))
    cache.native.select([0, 0])
    read(cache.native, [5], [50])
    cache.native.rewind([2, 0])
    graph: Any = Graph()
    carried = cache.carried(graph)
    assert cache.carried(graph) is carried and carried.each == [4, 6]
    for layer in carried.layers:
        assert layer.keys is not None and layer.values is not None and layer.keys.shape[:2] == (2, 3)
        assert layer.keys[0, 2, :4, 1].tolist() == [0, 1, 2, 3] and layer.keys[1, 0, :6, 3].tolist() == [
            0,
            1,
            2,
            3,
            4,
            50,
        ]
        assert layer.values[1, 1, :6, 0].tolist() == [1000, 1001, 1002, 1003, 1004, 1050]
    empty = NativeCache(made())
    assert empty.carried(graph).length == 0 and empty.layers == []
    even = NativeCache(made(5))
    assert even.carried(graph).each is None and even.length == 5


def test_a_cache_is_the_native_one_s_until_it_is_carried() -> None:
    cache = NativeCache(made(5))
    assert (cache.length, cache.each, cache.room, cache.joins) == (5, None, 5, True)
    assert cache.nbytes == cache.native.nbytes and cache.needs(300, None, 1) == cache.native.needs(300)  # type: ignore[arg-type]
    (rows,) = cache.layers
    assert isinstance(rows, NativeRows)
    cache.expected = 7
    twin = cache.fork()
    assert twin.expected == 7 and twin.graph is None
    cache.rewind(2)
    assert (cache.length, cache.expected, twin.length) == (3, 0, 5)
    cache.select([0, 0])
    assert len(cache.native.texts) == 2
    cache.freeze()
    assert cache.native.texts[0].own is None
    other = NativeCache(made(2))
    one = NativeCache(made(4))
    one.join(other, (2, 1))
    assert [text.length for text in one.native.texts] == [4, 4, 2]
    graph: Any = Graph()
    other.carried(graph)
    assert (
        other.length == 2
        and other.nbytes > 0
        and other.room == 2
        and other.joins
        and other.fork().graph is not other.graph
    )
    for bad in (other, Cache([])):
        with pytest.raises(
            CacheError, match="a text that the graph reads cannot stand beside one that is read natively"
        ):
            one.join(bad, (1, 1))
    third = NativeCache(made(3))
    third.carried(graph)
    third.join(other, (1, 1))
    assert third.each == [3, 2]


def test_rows_of_all_layers_are_cut_and_pasted_as_one_layer_s() -> None:
    rows = NativeRows(made(7))
    part = rows.cut(2, 5)
    assert part is not None and part["keys"].shape == (1, 6, 3, 4)
    assert part["keys"][0, 4, :, 1].tolist() == [2, 3, 4] and part["values"][0, 0, :, 0].tolist() == [1002, 1003, 1004]
    assert rows.cut(0, 8) is None and rows.cut(0, 7) is not None
    first, empty = rows.cut(0, 2), made()
    assert first is not None
    NativeRows(empty).paste([first, part], [2, 5])
    assert numbers(empty) == [0, 1, 2, 3, 4] and empty.length == 5
    two = made(3)
    two.select([0, 0])
    assert NativeRows(two).cut(0, 2) is None


def test_why_a_checkpoint_does_not_run_this_way(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = {
        "vocab_size": 9,
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "intermediate_size": 8,
        "num_attention_heads": 2,
    }
    llama = {"model_type": "llama"} | shape
    monkeypatch.setattr(packed, "available", lambda: True)
    assert native.refused(llama, []) is None
    assert native.refused(llama | {"mlp_bias": True}, []) == "biases past q, k and v"
    assert native.refused({"model_type": "mamba"}, []) == "a mamba runs by mlx-lm's class"
    neox = {"model_type": "gpt_neox"} | shape
    assert native.refused(neox, []) == "the tensors of a gpt_neox are rearranged"
    gpt = {"model_type": "gpt2", "vocab_size": 9, "n_embd": 16, "n_head": 2, "n_layer": 1}
    assert native.refused(gpt, ["h.0.ln_1.weight"]) == "the tensors of a gpt2 are rearranged"
    assert native.refused(gpt, ["model.h.0.ln_1.weight"]) == "norms of the kind 'layer'"
    monkeypatch.setattr(packed, "available", lambda: False)
    monkeypatch.setattr(packed, "load", lambda: None)
    assert native.refused(llama, []) == "no kernels for this processor"
    monkeypatch.setattr(packed, "load", lambda: object())
    assert native.refused(llama, []) == "LIKELY_PACKED=off"
    with pytest.raises(ConfigError, match="start with LIKELY_PACKED=off, which keeps them packed in the graph"):
        next(native._expanded(llama, {}, False))
    eye = {"model_type": "gemma3", "text_config": {}}
    assert native._renamed(eye, ["vision_tower.a", "language_model.model.norm.weight"]) == {
        "model.norm.weight": "language_model.model.norm.weight"
    }
