"""The tiled kernel in the simulator: prefill under every mask, shared prefixes, trees, and gradients through it."""

import numpy as np
import pytest

from likely.metal import dispatch, mx
from likely.metal.attention import CAUSAL, FULL, Emit, Mask, attention
from likely.metal.metal_attention import Geometry
from tests.metal.build import cache, each, normal, recorded, stored
from tests.metal.test_decode import DTYPES, launch, verify
from tests.support.everyday import everyday

T, N = 20, 50
SUMS = Emit(lse=True, entropy=True)
TREE = mx.array(np.array([[[1 | (1 << t) | (1 << t // 2)] for t in range(T)]], dtype=np.uint32))
DOCUMENTS = mx.array([[0] * 10 + [1] * 25 + [2] * 29], dtype=mx.int32)
MASKS = [
    CAUSAL, FULL, Mask(window=7), Mask(window=7, keep=3), Mask(causal=False, window=7), Mask(prefix=40),
    Mask(block=8, block_start=13), Mask(block=8, window=5), Mask(documents=DOCUMENTS),
    Mask(documents=DOCUMENTS, window=9), Mask(tree=TREE), Mask(tree=TREE, window=30),
]  # fmt: skip


@pytest.mark.parametrize("i", everyday(range(len(MASKS)), 4))
def test_every_mask_whole_and_in_splits(i: int) -> None:
    q, k, v = normal(1, 1, 4, T, 64), normal(2, 1, 2, 64, 64), normal(3, 1, 2, 64, 64)
    verify(q, cache(k, v, N), mask=MASKS[i], emit=SUMS)
    verify(q, cache(k, v, N), mask=MASKS[i], emit=SUMS, geometry=Geometry(splits=2), sinks=normal(4, 4), softcap=2.0)


@pytest.mark.parametrize(("d", "dtype", "g"), everyday(each((64, 80, 96, 128, 256, 256), DTYPES, (1, 2, 3, 4)), 3))
def test_every_head_size_and_dtype(d: int, dtype: mx.Dtype, g: int) -> None:
    q, k, v = (
        normal(1, 2, 2 * g, T, d, dtype=dtype),
        normal(2, 2, 2, 64, d, dtype=dtype),
        normal(3, 2, 2, 64, d, dtype=dtype),
    )
    verify(q, cache(k, v, 50, 33), emit=SUMS, sinks=normal(4, 2 * g))
    verify(q, cache(k, v, 50), emit=Emit())


@pytest.mark.parametrize(
    ("k_bits", "v_bits", "d", "group_size"), [(8, 8, 64, 64), (4, 8, 128, 32), (8, 4, 96, 32), (4, 4, 256, 128)]
)
def test_quantised_rows(k_bits: int, v_bits: int, d: int, group_size: int) -> None:
    q = normal(1, 1, 4, T, d)
    keys, values = (stored(normal(seed, 1, 2, 64, d), bits, group_size) for seed, bits in ((2, k_bits), (3, v_bits)))
    verify(q, cache(keys, values, N), emit=SUMS)


def test_ring_rows_are_placed_by_their_positions() -> None:
    positions = np.concatenate([np.arange(64, 80), np.arange(32, 64), -np.ones(16)])[None].astype(np.int32)
    q, k, v = normal(1, 1, 4, T, 64), normal(2, 1, 2, 64, 64), normal(3, 1, 2, 64, 64)
    kv = cache(k, v, 48, positions=mx.array(positions))
    for mask in (CAUSAL, Mask(window=20), Mask(window=9, keep=40)):
        verify(q, kv, mask=mask, emit=SUMS)


@pytest.mark.parametrize("bits", everyday([8, 16, 4], 3))
def test_samples_of_one_prompt_share_its_rows(bits: int) -> None:
    q, k, v = normal(1, 8, 4, 1, 64), normal(2, 8, 2, 32, 64), normal(3, 8, 2, 32, 64)
    shared = cache(stored(normal(5, 1, 2, 64, 64), bits), stored(normal(6, 1, 2, 64, 64), bits), 60)
    verify(q, cache(k, v, 20, 3, 4, 5, 6, 7, 8, 9, prefix=shared), emit=SUMS)
    verify(q, cache(k, v, 7, prefix=shared), emit=SUMS, mask=Mask(window=40), sinks=normal(4, 4))


def test_a_prompt_goes_on_behind_a_frozen_prefix() -> None:
    q, k, v = normal(1, 1, 4, T, 64), normal(2, 1, 2, 64, 64), normal(3, 1, 2, 64, 64)
    before = cache(normal(5, 1, 2, 64, 64), normal(6, 1, 2, 64, 64), 37)
    for mask in (CAUSAL, Mask(window=25), Mask(block=16), Mask(tree=TREE)):
        verify(q, cache(k, v, 30, prefix=before), mask=mask, emit=SUMS)


def test_blocks_of_several_sequences_see_to_their_ends() -> None:
    q, k, v = normal(1, 3, 2, 16, 64), normal(2, 3, 2, 32, 64), normal(3, 3, 2, 32, 64)
    shared = cache(normal(5, 1, 2, 32, 64), normal(6, 1, 2, 32, 64), 32)
    verify(q, cache(k, v, 32, prefix=shared), mask=Mask(block=16), emit=SUMS)


def test_rows_that_see_nothing_get_zeros() -> None:
    q, k, v = normal(1, 1, 4, T, 64), normal(2, 1, 2, 64, 64), normal(3, 1, 2, 64, 64)
    nothing = Mask(tree=mx.zeros((1, T, 1), dtype=mx.uint32), window=T)
    out, seen = launch(q, cache(k, v, N), mask=nothing, emit=SUMS)
    assert mx.all(out[:, :, -1] == 0).item()
    assert mx.all(seen.lse[:, :, -1] == -mx.inf).item()
    verify(q, cache(k, v, N), mask=nothing, emit=SUMS)


@pytest.mark.parametrize(
    ("mask", "live"),
    [
        (CAUSAL, [1, 2, 3, 4]),
        (Mask(window=32), [1, 2, 2, 2]),
        (Mask(block=64), [2, 2, 4, 4]),
        (Mask(documents=mx.array([[0] * 64 + [1] * 64], dtype=mx.int32)), [1, 2, 1, 2]),
    ],
    ids=["causal", "window", "blocks", "documents"],
)
def test_masked_tiles_are_never_loaded(mask: Mask, live: list[int]) -> None:
    q, k, v = normal(1, 1, 1, 128, 64, dtype=mx.float16), *(normal(s, 1, 1, 128, 64, dtype=mx.float16) for s in (2, 3))
    from likely.metal import metal_attention

    with recorded() as reports:
        metal_attention.attention(q, cache(k, v, 128), scale=0.125, mask=mask)
    (report,) = reports
    tile = 32 * 64 * 2
    assert report.traffic["keys"].read == report.traffic["values"].read == sum(live) * tile
    assert report.traffic["keys"].distinct == k.nbytes


def test_gradients_through_the_kernel_are_the_reference_s() -> None:
    q, k, v, cotangent, sinks = (
        normal(1, 1, 4, T, 64),
        normal(2, 1, 2, N, 64),
        normal(3, 1, 2, N, 64),
        normal(5, 1, 4, T, 64),
        normal(4, 4),
    )

    def loss(q: mx.array, k: mx.array, v: mx.array, sinks: mx.array) -> mx.array:
        out = attention(q, cache(k, v, N), scale=0.2, mask=Mask(window=9), softcap=3.0, sinks=sinks)
        return mx.sum(out * cotangent)

    with dispatch.forced("reference"):
        value, expected = mx.value_and_grad(loss, argnums=(0, 1, 2, 3))(q, k, v, sinks)
    with recorded() as reports, dispatch.forced("ours"):
        ours, got = mx.value_and_grad(loss, argnums=(0, 1, 2, 3))(q, k, v, sinks)
    assert reports
    assert mx.allclose(ours, value, atol=1e-4).item()
    for a, b in zip(got, expected, strict=True):
        assert mx.allclose(a, b, atol=2e-6).item()


def test_kernels_run_where_stock_would_need_an_array() -> None:
    q, k, v = normal(1, 1, 4, T, 64), normal(2, 1, 2, 64, 64), normal(3, 1, 2, 64, 64)
    with recorded() as reports:
        attention(q, cache(k, v, N), scale=0.2, mask=Mask(window=9))
        attention(q[:, :, :1], cache(stored(k, 8), stored(v, 8), N), scale=0.2)
    assert {report.kernel.split("_")[1] for report in reports} >= {"tiles", "decode"}
