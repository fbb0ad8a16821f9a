"""A GGUF file's weights kept packed: the numbers of its tensors, and the model that they make."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from likely.engine.base.errors import CheckpointError
from likely.engine.weights.sources import gguf
from likely.engine.weights.sources.checkpoint import load
from likely.engine.weights.sources.gguf import mapping
from likely.engine.weights.sources.gguf import weights as gguf_weights
from likely.engine.weights.sources.gguf.packed import read_packed
from likely.engine.weights.sources.gguf.precision import Precision
from likely.engine.weights.sources.model_info import ModelInfo
from likely.metal import mx
from likely.metal.packed import LEVELS, PackedMatrix
from likely.metal.packed import load as load_library
from likely.models.families import registry
from likely.models.packed_weights.packed import PackedModel
from tests.engine.tiny import LLAMA, WIDE, weights, write_gguf
from tests.metal.test_packed import ROUNDS

pytestmark = pytest.mark.linux
EXACT = Precision(mx.float32, packed=False)


def packed_model(path: Path) -> PackedModel:
    header = gguf.read_header(path)
    config = mapping.config(header, lambda tensor: gguf_weights.read_values(header, tensor))
    shape, names = registry.configure(config), registry.family(config["model_type"])
    tensors = read_packed(header, mapping.architecture(header), (shape.heads, shape.kv_heads))
    return PackedModel(shape, names.names(shape), tensors)


def near(fast: Callable[[], np.ndarray], want: np.ndarray) -> None:
    """Logits within the rounding of activations, and of nothing where these are float32."""
    library = load_library()
    assert library is not None
    bound = 1e-3 if library.kernels in ROUNDS else 2e-5
    assert np.abs(fast() - want).max() < bound * np.abs(want).max()
    library.handle.likely_packed_init(LEVELS.index("plain"))  # activations in float32 everywhere
    try:
        assert np.abs(fast() - want).max() < 2e-5 * np.abs(want).max()
    finally:
        library.handle.likely_packed_init(len(LEVELS) - 1)


@pytest.mark.parametrize("type_", ["F16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"])
@pytest.mark.parametrize("tied", [True, False])
def test_a_file_gives_the_same_numbers_and_logits_packed_as_expanded(type_: str, tied: bool, tmp_path: Path) -> None:
    """Types that have no packed layout included, and the rows of q and k, which a file interleaves head by head."""
    config = WIDE | {"tie_word_embeddings": tied}
    path = write_gguf(tmp_path / "m.gguf", "llama", config, weights(config), type_)
    header = gguf.read_header(path)
    arch = mapping.architecture(header)
    expanded = dict(gguf_weights.read_weights(header, arch, (4, 2), EXACT))
    packed = read_packed(header, arch, (4, 2))
    assert packed.keys() == expanded.keys()
    parts = ("self_attn.q", "self_attn.k", "self_attn.v", "self_attn.o", "mlp.gate", "mlp.up", "mlp.down")
    read = [packed[f"model.layers.{i}.{part}_proj.weight"] for i in range(2) for part in parts]
    places = [(m.packed.ctypes.data, m.nbytes) for m in read if isinstance(m, PackedMatrix)]
    assert len(places) == 14 and all(0 <= b - (a + size) < 64 for (a, size), (b, _) in pairwise(places))
    for name, found in packed.items():
        numbers = found.rows() if isinstance(found, PackedMatrix) else found
        np.testing.assert_array_equal(numbers, np.array(expanded[name]), err_msg=name)
    layouts = {found.layout for found in packed.values() if isinstance(found, PackedMatrix)}
    assert layouts == {"F32" if type_ == "F16" else type_}
    fast, graph = packed_model(path), load(path, precision=EXACT).model
    x = np.random.default_rng(0).integers(0, LLAMA["vocab_size"], (2, 50))
    near(lambda: fast(x, fast.make_cache()), np.array(graph(mx.array(x))))


def test_a_file_that_is_truncated_while_it_is_read_is_named_in_a_line(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", "llama", WIDE, weights(WIDE), "Q4_1")
    header = gguf.read_header(path)
    with open(path, "r+b") as file:
        file.truncate(path.stat().st_size - 5000)
    with pytest.raises(CheckpointError, match=r"m\.gguf: .* ends early; it was truncated, fetch it again"):
        read_packed(header, mapping.architecture(header), (4, 2))


@pytest.mark.real
def test_smollm2_packed_is_smollm2_in_float32(smollm2: ModelInfo) -> None:
    """Logits of 200 tokens, 50 greedy tokens (`test_native` has 200 of a session), and what is read at once against
    token by token, to the bit.

    The bounds: each of some 150 products that follow each other takes activations that are off by 1e-5 of the largest
    of 32, and independent errors add as the root of their number: 1.2e-4 of the spread of the logits, and six times
    that for the largest of ten million. The divergence is half the variance of the error. Measured on 1,000 tokens of
    Wikipedia: 4e-4 of the largest logit, 5e-8 nats in the mean, no other most likely token.
    """
    graph, fast = load("smollm2", precision=EXACT), packed_model(smollm2.path)
    text = "The history of the sea is the history of those who crossed it, and of those who did not. " * 12
    ids = graph.tokenizer.encode(text)[:200]
    x = np.array([ids])
    want = np.array(graph.model(mx.array(x), graph.model.make_cache()))[0].astype(float)
    got = fast(x, fast.make_cache())[0].astype(float)
    assert np.abs(got - want).max() < 7e-4 * np.abs(want).max()
    p, q = (z - np.logaddexp.reduce(z, axis=-1, keepdims=True) for z in (want, got))
    assert (np.exp(p) * (p - q)).sum(-1).mean() < 1e-6

    cache, rows = fast.make_cache(), graph.model.make_cache()
    token = int(fast(x, cache)[0, -1].argmax())
    assert token == int(graph.model(mx.array(x), rows)[0, -1].argmax())
    drawn = []
    for _ in range(50):
        drawn.append(token)
        token = int(fast(np.array([[token]]), cache)[0, -1].argmax())
        other = int(graph.model(mx.array([[drawn[-1]]]), rows)[0, -1].argmax())
        assert token == other, len(drawn)
    again = fast.make_cache()
    whole = fast(np.array([[*ids, *drawn]]), again)
    cache.rewind(1)
    np.testing.assert_array_equal(whole[0, -1], fast(np.array([[drawn[-1]]]), cache)[0, -1])
