"""The reference and the choice of path, against float64; no kernel runs here."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from likely.metal import dispatch, mx, reference
from likely.metal.attention import CAUSAL, FULL, KV, Emit, Mask, QuantizedRows, attention
from tests.metal import oracle
from tests.metal.build import cache, error, normal, rejects, stored

B, H, HKV, D, T, N = 2, 4, 2, 32, 9, 40
DOCUMENTS = mx.array([[0] * 12 + [1] * 20 + [2] * 20, [0] * 30 + [3] * 22], dtype=mx.int32)
TREE = mx.array(
    np.array([[[1 | (1 << t) | (1 << t // 2)] for t in range(T)]] * B, dtype=np.uint32)  # a heap: parents, root, self
)
MASKS = {
    "causal": CAUSAL, "full": FULL, "window": Mask(window=6), "window of one": Mask(window=1),
    "window, both sides": Mask(causal=False, window=4), "window and the first": Mask(window=6, keep=3),
    "prefix": Mask(prefix=36), "blocks": Mask(block=4),
    "blocks after a prompt": Mask(block=5, block_start=33, prefix=33),
    "blocks that begin late": Mask(block=16, block_start=37), "documents": Mask(documents=DOCUMENTS),
    "documents and a window": Mask(documents=DOCUMENTS, window=7),
    "tree": Mask(tree=TREE), "tree and a window": Mask(tree=TREE, window=11),
}  # fmt: skip


def operands(t: int = T) -> tuple[mx.array, mx.array, mx.array]:
    return normal(1, B, H, t, D), normal(2, B, HKV, 64, D), normal(3, B, HKV, 64, D)


@pytest.mark.parametrize("name", MASKS)
def test_masks_and_reports_match_float64(name: str) -> None:
    q, k, v = operands()
    kv, mask = cache(k, v, N), MASKS[name]
    truth = oracle.attention(q, kv, scale=0.2, mask=mask)
    assert error(attention(q, kv, scale=0.2, mask=mask), truth.out) < 2e-6
    out, seen = attention(q, kv, scale=0.2, mask=mask, emit=Emit(lse=True, entropy=True, top=5, scores=True))
    assert error(out, truth.out) < 2e-6
    assert seen.lse is not None and seen.entropy is not None and seen.scores is not None
    assert error(seen.lse, truth.lse) < 3e-6
    assert error(seen.entropy, truth.entropy) < 3e-6
    assert error(seen.scores, truth.scores[..., :N]) < 3e-6
    check_top(seen, truth, 5)


def check_top(seen: reference.AttentionReport, truth: oracle.Truth, k: int) -> None:
    """The reported positions carry the largest weights, and -1 stands where nothing is left to see."""
    assert seen.positions is not None and seen.weights is not None
    positions, weights = np.array(seen.positions), np.array(seen.weights)
    best = np.zeros(positions.shape)
    best[..., : truth.weights.shape[-1]] = -np.sort(-truth.weights, -1)[..., :k]
    assert np.abs(weights - best).max() < 3e-6
    for index in np.ndindex(*positions.shape):
        b, h, t, _ = index
        if positions[index] < 0:
            assert best[index] == 0
        else:
            row = np.flatnonzero(truth.at[b] == positions[index])[-1]
            assert abs(truth.weights[b, h, t, row] - weights[index]) < 3e-6


def test_softcap_and_sinks_match_float64() -> None:
    q, k, v = operands()
    sinks = normal(4, H)
    for mask in (CAUSAL, Mask(window=5)):
        for cap in (None, 1.5):
            truth = oracle.attention(q, cache(k, v, N), scale=0.5, mask=mask, softcap=cap, sinks=sinks)
            out, seen = attention(
                q, cache(k, v, N), scale=0.5, mask=mask, softcap=cap, sinks=sinks, emit=Emit(lse=True, entropy=True)
            )
            assert error(out, truth.out) < 2e-6
            assert error(attention(q, cache(k, v, N), scale=0.5, mask=mask, softcap=cap, sinks=sinks), truth.out) < 2e-6
            assert seen.lse is not None and error(seen.lse, truth.lse) < 3e-6
            assert seen.entropy is not None and error(seen.entropy, truth.entropy) < 3e-6


def test_a_sink_that_draws_nothing_changes_nothing() -> None:
    q, k, v = operands()
    emit, sinks = Emit(lse=True, entropy=True), mx.array([-mx.inf] * H)
    want, without = attention(q, cache(k, v, N), scale=0.5, emit=emit)
    out, seen = attention(q, cache(k, v, N), scale=0.5, emit=emit, sinks=sinks)
    for got, expected in ((out, want), (seen.lse, without.lse), (seen.entropy, without.entropy)):
        assert got is not None and expected is not None and mx.array_equal(got, expected)


def test_ragged_rows_and_shared_and_own_prefixes_match_float64() -> None:
    q, k, v = operands(3)
    shared = cache(normal(5, 1, HKV, 32, D), normal(6, 1, HKV, 32, D), 29)
    own = cache(normal(7, B, HKV, 16, D), normal(8, B, HKV, 16, D), 11, 14, prefix=shared)
    for kv in (cache(k, v, 40, 23), cache(k, v, 20, 5, prefix=shared), cache(k, v, 20, 5, prefix=own)):
        for mask in (CAUSAL, Mask(window=25), Mask(window=9, keep=4)):
            truth = oracle.attention(q, kv, scale=0.3, mask=mask)
            assert error(attention(q, kv, scale=0.3, mask=mask), truth.out) < 2e-6


def test_ring_rows_are_placed_by_their_positions() -> None:
    q, k, v = operands(2)
    positions = np.full((B, 64), -1)
    positions[0, :50] = np.roll(np.arange(70, 120), 17)
    positions[1, :44] = np.roll(np.arange(3, 47), 5)
    kv = cache(k, v, 50, 44, positions=mx.array(positions.astype(np.int32)))
    for mask in (CAUSAL, Mask(window=20), Mask(window=20, keep=5)):
        truth = oracle.attention(q, kv, scale=0.3, mask=mask)
        assert error(attention(q, kv, scale=0.3, mask=mask), truth.out) < 2e-6


@pytest.mark.parametrize("t", [1, 12])
def test_quantised_rows_match_float64_of_what_is_stored(t: int) -> None:
    q, k, v = normal(1, B, H, t, 64), normal(2, B, HKV, 64, 64), normal(3, B, HKV, 64, 64)
    kv = cache(stored(k, 8), stored(v, 4, 32), N)
    truth = oracle.attention(q, kv, scale=0.2, mask=CAUSAL)
    assert error(attention(q, kv, scale=0.2), truth.out) < 2e-6


def test_a_query_that_sees_nothing_gets_zeros() -> None:
    q, k, v = operands()
    kv = cache(k, v, N)
    mask = Mask(documents=mx.array([[0] * 39 + [1]] * B, dtype=mx.int32), window=1)
    tree = Mask(tree=mx.zeros((B, T, 1), dtype=mx.uint32), window=T)
    truth = oracle.attention(q, kv, scale=0.2, mask=tree)
    for m in (mask, tree):
        out, seen = attention(q, kv, scale=0.2, mask=m, emit=Emit(lse=True, entropy=True, top=2))
        assert not mx.any(mx.isnan(out)).item()
        assert (
            seen.entropy is not None and error(seen.entropy, oracle.attention(q, kv, scale=0.2, mask=m).entropy) < 3e-6
        )
    last = truth.lse[:, :, -1]
    assert np.isinf(last).all()
    assert mx.all(out[:, :, -1] == 0).item()
    assert seen.positions is not None and mx.all(seen.positions[:, :, -1] == -1).item()


def test_plain_attention_takes_mlx_s_own_kernel_and_forcing_is_obeyed() -> None:
    q, k, v = operands()
    kv = cache(k, v, N)
    with dispatch.forced("stock"):
        stock = attention(q, kv, scale=0.2)
        rejects(lambda: attention(q, kv, scale=0.2, softcap=2.0), "mlx's own kernel")
    keys, values = k[:, :, :N], v[:, :, :N]
    assert mx.array_equal(stock, mx.fast.scaled_dot_product_attention(q, keys, values, scale=0.2, mask="causal"))
    with dispatch.forced("reference"):
        assert mx.allclose(stock, attention(q, kv, scale=0.2), atol=1e-5).item()
    with dispatch.forced("ours"):
        rejects(lambda: attention(q, kv, scale=0.2), "head size", "32")


def test_gradients_are_those_of_autodiff() -> None:
    q, k, v = operands()
    kv, cotangent, sinks = cache(k, v, N), normal(9, B, H, T, D), normal(4, H)
    options = {"scale": 0.2, "mask": Mask(window=7), "softcap": 3.0}

    def loss(q: mx.array, k: mx.array, v: mx.array, sinks: mx.array) -> mx.array:
        out, _ = reference.attention(q, cache(k, v, N), sinks=sinks, **options)  # type: ignore[arg-type]
        return mx.sum(out * cotangent)

    expected = mx.grad(loss, argnums=(0, 1, 2, 3))(q, k, v, sinks)
    got = reference.gradients(q, k, v, sinks, kv=kv, cotangent=cotangent, **options)  # type: ignore[arg-type]
    for a, b in zip(got, expected, strict=True):
        assert mx.allclose(a, b, atol=2e-6).item()


@pytest.mark.slow
@pytest.mark.parametrize(
    "mask",
    [
        Mask(window=100),
        *(pytest.param(m, marks=pytest.mark.soak) for m in (Mask(documents=mx.zeros((1, 1200), mx.int32)), FULL)),
    ],
)
def test_long_prompts_are_taken_in_chunks_that_nobody_sees(mask: Mask) -> None:
    """More scores than are held at once: what all heads give, and their gradients, is what each half of them gives."""
    q, k, v, cotangent = (normal(s, 1, h, 1200, 8) for s, h in ((1, 32), (2, 2), (3, 2), (4, 32)))
    sinks, emit, options = (
        normal(5, 32),
        Emit(lse=True, entropy=True, top=3),
        {"scale": 0.4, "mask": mask, "softcap": None},
    )
    assert q.shape[1] * 1200 * 1200 > reference.SCORES > 16 * 1200 * 1200

    def given(i: int) -> tuple[mx.array, ...]:
        rows, own = slice(16 * i, 16 * i + 16), slice(i, i + 1)
        return q[:, rows], k[:, own], v[:, own], sinks[rows], cotangent[:, rows]

    def parts(q: mx.array, k: mx.array, v: mx.array, sinks: mx.array, cotangent: mx.array) -> list[mx.array]:
        kv = cache(k, v, 1200)
        out, seen = reference.attention(q, kv, sinks=sinks, emit=emit, **options)  # type: ignore[arg-type]
        assert seen.lse is not None and seen.entropy is not None and seen.weights is not None
        slopes = reference.gradients(q, k, v, sinks, kv=kv, cotangent=cotangent, **options)  # type: ignore[arg-type]
        return [out, seen.lse, seen.entropy, seen.weights, *slopes[:3], slopes[3][None]]

    for all_, *halves in zip(parts(q, k, v, sinks, cotangent), parts(*given(0)), parts(*given(1)), strict=True):
        assert mx.allclose(all_, mx.concatenate(halves, axis=1), atol=2e-5, rtol=1e-4).item()


def test_bad_input_is_named() -> None:
    q, k, v = operands()
    kv = cache(k, v, N)

    def call(q: mx.array = q, kv: KV = kv, **more: object) -> None:
        attention(q, kv, scale=0.2, **more)  # type: ignore[call-overload]

    rejects(lambda: call(q=q[0]), "q must be float32", "[B, H, T, D]", "(4, 9, 32)")
    rejects(lambda: call(q=q[:, :3]), "keys", "a divisor of 3")
    rejects(lambda: call(q=q[:1]), "keys must be [1,")
    rejects(lambda: call(kv=cache(k[:1], v[:1], N)), "keys must have the 2 rows of q")
    rejects(lambda: call(q=q[..., :16]), "keys", "16")
    rejects(lambda: call(q=q[:, :, :0]), "T >= 1")
    rejects(lambda: call(kv=cache(k, v, 0)), "length", "got 0")
    rejects(lambda: call(kv=cache(k, v, 65)), "length", "capacity = 64", "got 65")
    rejects(lambda: call(kv=cache(k, v, 8)), "length", "T = 9", "got 8")
    rejects(lambda: call(kv=cache(k, v[:, :, :32], 8)), "values must have the shape of keys")
    rejects(lambda: call(kv=cache(k.astype(mx.int32), v, N)), "keys", "int32")
    rejects(lambda: call(q=q.astype(mx.int32)), "q must be float32", "int32")
    rejects(lambda: call(sinks=mx.zeros((3,))), "sinks must be [4]")
    rejects(lambda: call(softcap=0.0), "softcap")
    rejects(lambda: attention(q, kv, scale=0.0), "scale")
    rejects(lambda: call(mask=Mask(window=-1)), "mask.window")
    rejects(lambda: call(mask=Mask(keep=2)), "mask.keep")
    rejects(lambda: call(mask=Mask(causal=False, block=4)), "mask")
    rejects(lambda: call(mask=Mask(documents=mx.zeros((3, 9), dtype=mx.int32))), "mask.documents")
    rejects(lambda: call(mask=Mask(documents=mx.zeros((1, 9)))), "mask.documents", "float32")
    four = mx.zeros((1, 4), dtype=mx.int32)
    rejects(lambda: call(mask=Mask(documents=four, lengths=(1, 2))), "mask.lengths", "(1, 2)")
    rejects(lambda: call(mask=Mask(tree=mx.zeros((B, 4, 1), dtype=mx.uint32))), "mask.tree", "(2, 9, 1)")
    rejects(lambda: call(mask=Mask(tree=TREE, window=5)), "mask.window")
    rejects(lambda: call(kv=KV(k, v, mx.array([1, 2, 3], dtype=mx.int32), N)), "lengths", "(3,)")
    rejects(lambda: call(kv=KV(k, v, mx.array([1.0, 2.0]), N)), "lengths", "float32")
    rejects(lambda: call(kv=cache(k, v, N, positions=mx.zeros((B, 3), dtype=mx.int32))), "positions", "[2, 64]")
    short = cache(normal(5, 1, 1, 32, D), normal(6, 1, 1, 32, D), 29)
    rejects(lambda: call(kv=cache(k, v, N, prefix=short)), "prefix.keys")
    wide = normal(2, B, HKV, 64, 64)
    codes = stored(wide, 8)
    assert isinstance(codes, QuantizedRows)
    broken = QuantizedRows(codes.codes, codes.scales[..., :0], codes.biases, 64, 8)
    rejects(lambda: call(q=normal(1, B, H, 2, 64), kv=cache(broken, wide, N)), "keys.scales")
    rejects(
        lambda: call(
            q=normal(1, B, H, 2, 64), kv=cache(QuantizedRows(codes.codes, codes.scales, codes.biases, 64, 3), wide, N)
        ),
        "keys",
    )
    half = wide.astype(mx.float16)
    of_two = partial(attention, normal(1, B, H, 2, 64), scale=0.2)
    rejects(lambda: of_two(kv=cache(wide, half, N)), "values must be", "float32", "float16")
    rejects(lambda: of_two(kv=cache(wide, wide, N, prefix=cache(half, wide, N))), "prefix.values must be", "float16")
    mixed = replace(codes, scales=codes.scales.astype(mx.float16), biases=codes.biases.astype(mx.float16))
    rejects(lambda: of_two(kv=cache(codes, mixed, N)), "values.scales must be", "float32", "float16")
    rejects(lambda: of_two(kv=cache(replace(mixed, biases=codes.biases), wide, N)), "keys.biases", "float16", "float32")
    rejects(lambda: of_two(kv=cache(replace(codes, scales=codes.codes[..., :1]), wide, N)), "keys.scales", "uint32")
