"""New rows by our kernel and by mlx: what is launched, what is refused at its border, and how rows are quantised."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from metal import kernel, mx, qkv_prepare
from metal.errors import KernelError
from metal.kv import Quantized
from metal.qkv_prepare import PLAIN, Format, Norm, Projected, Rotary, prepare, quantize

EIGHT, FOUR = Format(8, 64), Format(4, 32)


def new(b: int = 2, t: int = 3, every: int = 10, d: int = 64, **more: Any) -> Projected:
    """6 query heads, 2 of keys and 2 of values, by default."""
    rows = mx.random.normal((b, t, every, d), key=mx.random.key(0))
    given = {"kv_heads": 2, "offsets": mx.array([5], dtype=mx.int32), "rotary": Rotary(mx.ones((32,)))} | more
    return Projected(rows, **given)


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """What would be launched, which gives the number of each output."""
    found: list[dict[str, Any]] = []

    def prepared(file: str, inputs: Any, outputs: Any, **options: Any) -> Any:
        def call(given: list[mx.array]) -> list[mx.array]:
            found.append({"file": file, "inputs": dict(zip(inputs, given, strict=True)), "outputs": outputs} | options)
            return [mx.full(shape, i).astype(dtype) for i, (_, shape, dtype) in enumerate(outputs)]

        return call

    qkv_prepare._plan.cache_clear()
    monkeypatch.setattr(kernel, "prepared", prepared)
    yield found
    qkv_prepare._plan.cache_clear()


def test_a_simdgroup_prepares_a_head_of_a_token(launched: list[dict[str, Any]]) -> None:
    asked = new()
    got = qkv_prepare.by_kernel(asked)
    (one,) = launched
    assert (one["file"], one["grid"], one["threads"]) == ("qkv_prepare.metal", (10, 3, 2), 32)
    assert one["inputs"]["params"].tolist() == [6, 2, 3, 32, 0, 0]
    assert one["inputs"]["rows"] is asked.rows and one["inputs"]["offsets"] is asked.offsets
    assert [*one["inputs"]] == ["rows", "offsets", "frequencies", "params"]
    assert one["defines"] == {"NORM": 0, "K_BITS": 16, "K_GROUP": 0, "V_BITS": 16, "V_GROUP": 0}
    assert one["template"] == {"T": mx.float32, "D": 64, "TRADITIONAL": 0}
    heads = (2, 2, 3, 64)
    assert one["outputs"] == (
        ("out", (2, 6, 3, 64), mx.float32), ("keys", heads, mx.float32), ("values", heads, mx.float32),
    )  # fmt: skip
    assert isinstance(got.keys, mx.array) and isinstance(got.values, mx.array)
    assert (got.queries[0, 0, 0, 0].item(), got.keys[0, 0, 0, 0].item(), got.values[0, 0, 0, 0].item()) == (0, 1, 2)


def test_norms_and_packed_rows_are_structure(launched: list[dict[str, Any]]) -> None:
    weight = mx.ones((64,))
    norm, offsets = Norm(weight, weight + 1, 0.5), mx.array([5, 6], dtype=mx.int32)
    rotary = Rotary(mx.ones((8,)), traditional=True)
    got = qkv_prepare.by_kernel(new(norm=norm, offsets=offsets, rotary=rotary, key_format=EIGHT, value_format=FOUR))
    (one,) = launched
    assert one["inputs"]["params"].tolist() == [6, 2, 3, 8, kernel.bits(0.5), 1]
    assert one["inputs"]["query_weight"] is norm.query and one["inputs"]["key_weight"] is norm.key
    assert one["defines"] == {"NORM": 1, "K_BITS": 8, "K_GROUP": 64, "V_BITS": 4, "V_GROUP": 32}
    assert one["template"] == {"T": mx.float32, "D": 64, "TRADITIONAL": 1, "S": mx.bfloat16}
    assert [(name, shape[3], dtype) for name, shape, dtype in one["outputs"][1:]] == [
        ("key_codes", 16, mx.uint32), ("key_scales", 1, mx.bfloat16), ("key_biases", 1, mx.bfloat16),
        ("value_codes", 8, mx.uint32), ("value_scales", 2, mx.bfloat16), ("value_biases", 2, mx.bfloat16),
    ]  # fmt: skip
    keys, values = got.keys, got.values
    assert isinstance(keys, Quantized) and isinstance(values, Quantized)
    assert (keys.bits, keys.group_size, values.bits, values.group_size) == (8, 64, 4, 32)
    numbers = [
        x[0, 0, 0, 0].item() for x in (keys.codes, keys.scales, keys.biases, values.codes, values.scales, values.biases)
    ]
    assert numbers == [1, 2, 3, 4, 5, 6]


def test_it_goes_by_the_kernel_where_there_is_one_that_is_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qkv_prepare, "by_kernel", lambda new: "kernel")
    monkeypatch.setattr(qkv_prepare, "by_reference", lambda new: "reference")
    monkeypatch.setattr(kernel, "switched_off", {})
    for there, off, way in (
        (False, None, "reference"), (True, None, "kernel"), (True, "qkv_prepare float32 D=64", "reference"),
        (True, "qkv_prepare float32 D=32", "kernel"), (True, "qkv_prepare float16 D=64", "kernel"),
    ):  # fmt: skip
        kernel.switched_off.clear()
        if off is not None:
            kernel.switch_off(off, "")
        monkeypatch.setattr(kernel, "available", lambda there=there: there)
        assert prepare(new()) == way  # type: ignore[comparison-overlap]


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ({"t": 0}, r"rows must be \[B, T, H \+ 2 Hkv, D\] with no empty dimension"),
        ({"kv_heads": 0}, "rows must have H query heads, a multiple of Hkv = 0"),
        ({"every": 4}, "a multiple of Hkv = 2, and 2 Hkv more, got 4 in all"),
        ({"every": 7}, "got 7 in all"),
        ({"offsets": mx.zeros((3,), mx.int32)}, r"offsets must be int32 \[1\] or \[2\]"),
        ({"offsets": mx.zeros((1,))}, r"offsets must be int32 \[1\] or \[2\]"),
        ({"rotary": Rotary(mx.ones((33,)))}, r"rotary.frequencies must be float32 \[1..32\]"),
        ({"rotary": Rotary(mx.ones((0,)))}, "rotary.frequencies must be"),
        ({"rotary": Rotary(mx.ones((2, 2)))}, "rotary.frequencies must be"),
        ({"rotary": Rotary(mx.ones((4,), mx.float16))}, "rotary.frequencies must be"),
        ({"norm": Norm(mx.ones((64,)), mx.ones((63,)))}, r"norm weights must be \[64\]"),
        ({"key_format": Format(5)}, "key_format.bits must be 4, 8 or 16, got 5"),
        ({"value_format": Format(8, 16)}, "value_format.group_size must be 32, 64 or 128 and divide D = 64, got 16"),
        ({"value_format": Format(8, 128)}, "value_format.group_size must be .* got 128"),
        ({"key_format": EIGHT, "value_format": Format(8, 64, mx.float16)}, "must be the same dtype"),
    ],
)
def test_what_does_not_fit_together_is_named(more: dict[str, Any], line: str) -> None:
    with pytest.raises(KernelError, match=line):
        qkv_prepare.by_reference(new(**more))


@pytest.mark.parametrize(
    "more",
    [{"every": 6}, {"offsets": mx.zeros((2,), mx.int32)}, {"rotary": Rotary(mx.ones((1,)))}, {"key_format": EIGHT},
     {"value_format": Format(8, 64, mx.float16)}, {"key_format": Format(16, 7)}, {"kv_heads": 1, "every": 3}],
    ids=lambda more: next(iter(more)),
)  # fmt: skip
def test_what_fits_at_its_border_is_taken(more: dict[str, Any]) -> None:
    found = qkv_prepare.by_reference(new(**more))
    assert found.queries.shape[1] == more.get("every", 10) - 2 * more.get("kv_heads", 2)
    with pytest.raises(KernelError, match=r"rows must be float32, float16 or bfloat16"):
        asked = new(**more)
        qkv_prepare.by_reference(replace(asked, rows=asked.rows.astype(mx.int32)))


@pytest.mark.parametrize("form", [Format(8, 32), Format(4, 64), Format(8, 64, mx.float32), Format(4, 32, mx.float16)])
def test_codes_are_the_nearest_to_the_scale_and_bias_that_are_stored(form: Format) -> None:
    x = mx.random.normal((2, 3, 128), key=mx.random.key(3))
    got = quantize(x[None], form)
    assert (got.bits, got.group_size, got.scales.dtype) == (form.bits, form.group_size, form.scales)
    groups = np.array(x).astype(np.float64).reshape(2, 3, -1, form.group_size)
    scales, biases = (np.array(a.astype(mx.float32)).astype(np.float64)[0] for a in (got.scales, got.biases))
    most = 2**form.bits - 1
    least = np.array(mx.array(groups.min(-1).astype(np.float32)).astype(form.scales).astype(mx.float32))
    assert np.array_equal(biases, least)
    assert np.abs(scales / ((groups - biases[..., None]).max(-1) / most) - 1).max() < 0.005
    codes = np.floor(np.clip((groups - biases[..., None]) / scales[..., None], 0, most) + 0.5)
    want = codes * scales[..., None] + biases[..., None]
    assert np.abs(np.array(got.floats())[0] - want.reshape(2, 3, 128)).max() < 1e-5
    flat = quantize(mx.full((1, 1, 1, 64), 3.0), Format(8, 64))
    assert flat.floats().tolist() == [[[[3.0] * 64]]] and flat.scales.item() > 0


def test_formats_and_norms_say_what_most_have() -> None:
    assert Format() == Format(16, 64, mx.bfloat16) == PLAIN and Norm(mx.ones((1,)), mx.ones((1,))).eps == 1e-6
    asked = new()
    assert (asked.norm, asked.key_format, asked.value_format, asked.rotary.traditional) == (None, PLAIN, PLAIN, False)
