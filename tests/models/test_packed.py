"""A model on packed weights against the graph with the same weights, and the verbs of its cache."""

import mmap
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from likely.metal import malloc, mx, packed
from likely.metal.packed import EIGHT, LEVELS, SIXTEEN, PackedMatrix
from likely.models.errors import CacheError, CheckpointError, ConfigError, ContextOverflow
from likely.models.families import registry
from likely.models.packed_weights.cache import PackedCache, RowShape
from likely.models.packed_weights.packed import CHUNK, PackedModel
from likely.models.transformer import Transformer
from tests.models.oracle import flat, ours, reference, tokens
from tests.models.test_families import SAME, V
from tests.models.test_transformer import Exact, built
from tests.processes import by_threads
from tests.sharing import cores
from tests.support.everyday import everyday

pytestmark = pytest.mark.linux


def in_numpy(weights: dict[str, mx.array]) -> dict[str, PackedMatrix | np.ndarray]:
    """Matrices in panels of float32, vectors as they are."""
    arrays = {name: np.array(array) for name, array in weights.items()}
    return {name: PackedMatrix("F32", *a.shape).fill(a) if a.ndim == 2 else a for name, a in arrays.items()}


def both(config: dict[str, Any]) -> tuple[Any, PackedModel]:
    """The graph's model and ours, with the same random weights."""
    source = reference(config)
    weights = flat(source.parameters())
    shape, family = registry.described(config, weights), registry.family(config["model_type"])
    packed_model = PackedModel(shape, family.names(shape), in_numpy(weights))
    return ours(config, source), packed_model


@pytest.fixture(scope="module")
def model() -> PackedModel:
    return both(SAME["llama"])[1]


def off(got: np.ndarray, want: Any) -> float:
    wanted = np.array(want)
    return float(np.abs(got - wanted).max() / np.abs(wanted).max())


def text(n: int, b: int = 1, seed: int = 1) -> np.ndarray:
    return np.array(tokens(b, n, V, seed))


@pytest.fixture(params=LEVELS)
def kernels(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every kind of kernel up to what this processor has."""
    library = packed.load()
    assert library is not None
    library.handle.likely_packed_init(LEVELS.index(request.param))
    yield
    library.handle.likely_packed_init(len(LEVELS) - 1)


@pytest.mark.parametrize(("size", "bits"), [(16, 24), (64, 24), (80, 16), (20, 16)])
def test_a_token_is_the_same_to_the_bit_however_it_is_read(size: int, bits: int, kernels: None) -> None:
    """At once, in pieces, token by token, beside other texts, and behind a frozen prefix; more than a part of keys."""
    fast = both(SAME["llama"] | {"num_hidden_layers": 2, "head_dim": size})[1].with_activations(bits)
    n = 300
    x = text(n, 3)
    at_once = fast.make_cache()
    want = fast(x[:1], at_once)
    pieces, alone, frozen, beside = (fast.make_cache(capacity=16) for _ in range(4))
    edges = [0, 7, 8, 100, 101, 270, n]
    got = [fast(x[:1, a:b], pieces) for a, b in pairwise(edges)]
    np.testing.assert_array_equal(np.concatenate(got, axis=1), want)
    got = [fast(x[:1, i : i + 1], alone) for i in range(n)]
    np.testing.assert_array_equal(np.concatenate(got, axis=1), want)
    got = []
    for a, b in pairwise(edges):
        got.append(fast(x[:1, a:b], frozen))
        frozen.freeze()
    np.testing.assert_array_equal(np.concatenate(got, axis=1), want)
    np.testing.assert_array_equal(fast(x, beside)[:1], want)
    np.testing.assert_array_equal(fast(x[:, -1:], beside)[0], fast(x[:1, -1:], at_once)[0])


@pytest.mark.parametrize("name", ["llama yarn", "gemma 3"])
@pytest.mark.parametrize(("before", "bits"), [(5, 16), (250, 16), (270, 24)])
def test_answers_of_several_lengths_behind_one_prefix_are_what_each_is_alone(
    name: str, before: int, bits: int, kernels: None
) -> None:
    """To the bit: with windows and without, some past the part in which the prefix ends, a stranger among them."""
    fast = native(built(name)).with_activations(bits)
    lengths = [1, 20, 3, 2, 17, 20, 4, 9]
    prefix, strange = text(before, 1, 2), text(before, 1, 4)
    x = text(max(lengths) + 1, len(lengths), 5)
    beside, other = fast.make_cache(), fast.make_cache()
    fast(prefix, beside)
    fast(strange, other)
    for cache in (beside, other):
        cache.freeze()
    beside.select([0] * 5)
    beside.join(other)
    beside.select([0, 1, 5, 2, 3, 4, 0, 1])
    for i in range(max(lengths)):
        fast(x[:, i : i + 1], beside)
    beside.rewind([max(lengths) - length for length in lengths])
    got = fast(x[:, -1:], beside)
    for row, length in enumerate(lengths):
        alone = fast.make_cache()
        fast(strange if row == 2 else prefix, alone)
        if length:
            fast(x[row : row + 1, :length], alone)
        np.testing.assert_array_equal(fast(x[row : row + 1, -1:], alone)[0], got[row])


def native(model: Transformer, weights: dict[str, Any] | None = None) -> PackedModel:
    names = registry.family(model.config.family).names(model.config)
    return PackedModel(model.config, names, tensors(model) if weights is None else weights)


def tensors(model: Transformer) -> dict[str, Any]:
    """A model's tensors as a checkpoint has them, matrices in panels of float32."""
    return in_numpy({f"{p.path}.{leaf}": a for p in model.parts() for leaf, a in p.stored().items()})


@pytest.mark.parametrize("name", ["llama yarn", "gemma 3"])
def test_a_text_is_longer_than_the_table_of_angles_that_it_began_with(name: str) -> None:
    net = built(name)
    fast, x = native(net), text(1030)
    assert off(fast(x, fast.make_cache()), net(mx.array(x))) < 5e-5


@pytest.mark.parametrize(
    ("name", "change", "line"),
    [
        ("model.norm.weight", None, r"model\.norm\.weight must be \[48\] by the config, got nothing"),
        ("model.norm.weight", np.ones(47, np.float32), r"must be \[48\] by the config, got ndarray \[47\]"),
        ("model.layers.1.self_attn.q_proj.weight", None, r"must be a packed matrix \[48, 48\], got nothing"),
        ("model.layers.1.self_attn.k_proj.weight", (16, 32), r", got PackedMatrix \[16, 32\]"),
        ("model.layers.1.mlp.up_proj.weight", np.ones(3, np.float32), r"packed matrix \[72, 48\], got ndarray \[3\]"),
        ("model.layers.4.mlp.up_proj.weight", np.ones(3, np.float32), r"\[3\] has no place in the model"),
    ],
    ids=str,
)  # fmt: skip
def test_tensors_that_do_not_fit_are_named(name: str, change: Any, line: str) -> None:
    net = built("llama")
    weights = tensors(net)
    weights.pop(name, None)
    if change is not None:
        weights[name] = PackedMatrix("F32", *change) if isinstance(change, tuple) else change
    with pytest.raises(CheckpointError, match=line):
        native(net, weights)


def test_activations_of_eight_bits_are_for_weights_of_few_bits() -> None:
    fast = native(built("llama"))
    with pytest.raises(ConfigError, match=r"8-bit activations are for weights of 4 and 5 bits, .* \(it has F32\)"):
        fast.with_activations(EIGHT)
    assert (fast.activation_bits, fast.with_activations(SIXTEEN).activation_bits) == (24, 16)


@pytest.mark.parametrize(
    "name",
    everyday(["llama", "gemma 3", "qwen3", "qwen2", "llama interleaved", "mistral sliding", "phi 3", "granite"], 2),
)
def test_keys_and_values_of_whoever_draws_are_halves_and_all_else_is_as_exact(name: str, kernels: None) -> None:
    """By float64 with keys and values rounded (of two as near, another now and then); who measures has none rounded."""
    net, x = built(name), text(40)
    fast, exact = native(net), Exact(net)
    half, wanted = fast.with_activations(SIXTEEN), exact(x[0].tolist())
    exact.stored, drawn = np.float16, half(x, half.make_cache())[0]
    assert off(fast(x, fast.make_cache())[0], wanted) < 2e-6
    assert off(drawn, exact(x[0].tolist())) < 1e-4 and off(drawn, wanted) > 5 * off(drawn, exact(x[0].tolist()))
    assert 2 * half.make_cache().needs(300) == fast.make_cache().needs(300)


def test_a_key_is_the_nearest_half_and_what_is_larger_than_halves_are_the_largest(kernels: None) -> None:
    """Subnormal ones, too, and each beside a far larger one."""
    weights = tensors(built("llama"))
    for role in ("k", "v"):
        name = f"model.layers.0.self_attn.{role}_proj.weight"
        rows = weights[name].rows()
        weights[name] = PackedMatrix("F32", *rows.shape).fill(
            (rows * 10.0 ** (np.arange(len(rows))[:, None] % 18 - 10)).astype(np.float32)
        )
    fast, x = native(built("llama"), weights), text(90)
    (floats, halves) = (model.make_cache() for model in (fast, fast.with_activations(SIXTEEN)))
    fast.hidden(x, floats), fast.with_activations(SIXTEEN).hidden(x, halves)
    for full, found in zip(floats.taken(0, 90), halves.taken(0, 90), strict=True):
        want = np.clip(full[0], -65504, 65504).astype(np.float16)
        assert (np.abs(full[0]) > 65520).any() and ((want != 0) & (np.abs(want) < 6e-5)).any()
        np.testing.assert_array_equal(found[0].view(np.uint16), want.view(np.uint16))


def test_buffers_that_a_text_has_outgrown_go_back_to_the_system() -> None:
    """What the process holds is what the text takes, and the small buffers that it began in."""

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE

    with malloc.giving_back():
        pass  # from here on the allocator is as it is after a load: it keeps what is freed
    shape = RowShape(30, 3, 64, np.dtype(np.float32))
    cache, before = PackedCache(shape), resident()
    for _ in range(8):
        (sequence,) = cache.texts
        cache.reserve(256)
        assert sequence.own is not None
        for rows in (sequence.own.keys, sequence.own.values):
            first = sequence.rows * rows.shape[2] // sequence.own.capacity
            rows[:, :, first : first + 256 * rows.shape[2] // sequence.own.capacity] = 1
        sequence.rows += 256
    took = 2048 * shape.nbytes
    assert cache.nbytes == took
    assert resident() - before < 1.3 * took


def test_long_texts_come_in_chunks(model: PackedModel) -> None:
    x = text(2 * CHUNK + 3)
    cache, logits = model.make_cache(), model(x, model.make_cache())
    assert logits.shape == (1, 2 * CHUNK + 3, V)
    parts = [model(x[:, : CHUNK + 5], cache), model(x[:, CHUNK + 5 :], cache)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), logits)


def test_what_cannot_be_is_refused_in_a_line(model: PackedModel) -> None:
    cache: PackedCache = model.make_cache()
    with pytest.raises(ContextOverflow, match=f"tokens below {V} expected, got 0 to {V}"):
        model(np.array([[0, V]]), cache)
    with pytest.raises(CacheError, match="at most 256 texts side by side, got 257"):
        model(text(3, 257), cache)
    model(text(3, 2), cache)
    with pytest.raises(CacheError, match="holds 2 texts, 3 were to be read"):
        model(text(3, 3), cache)
    with pytest.raises(ContextOverflow, match="got -1 to 5"):
        model(np.array([[-1, 5]]), cache)
    assert model(np.zeros((256, 1), np.int64), model.make_cache()).shape == (256, 1, V)


THREADS = """
import sys
import numpy as np
from likely.metal import packed
from likely.models.packed_weights.additions import Additions, LowRank, PackedAdditions
from tests.models.test_packed import SAME, both, text

assert packed.use_threads() == int(sys.argv[1])
model = both(SAME["llama"])[1]
rng = np.random.default_rng(0)
a, b = (rng.normal(size=shape).astype(np.float32) / 9 for shape in ((48, 24), (24, 64)))
beside = [{"qkv": [LowRank(16, 80, a, b, 0.5)]} for _ in range(model.config.layers)]
model = model.with_additions(PackedAdditions(Additions(beside), model.outputs))
cache = model.make_cache()
out = [model(text(300, 2), cache), *(model(text(1, 2, seed), cache) for seed in range(40))]
sys.stdout.buffer.write(b"".join(logits.tobytes() for logits in out))
"""


@pytest.mark.slow
@pytest.mark.skipif(cores() == 1, reason="OpenBLAS takes no more threads than there are cores")
def test_threads_change_no_bit() -> None:
    assert by_threads(THREADS, 1) == by_threads(THREADS, 2) != b""
