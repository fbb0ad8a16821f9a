"""Where a configuration, a key or a packed matrix begins to be refused: both sides of every border."""

from dataclasses import replace
from typing import Any

import pytest

from likely.metal import mx
from likely.models.configuration.config import Experts, MaskedDiffusion
from likely.models.configuration.keys import Keys, refuse_left
from likely.models.configuration.rope import Rope
from likely.models.errors import CheckpointError, ConfigError
from likely.models.modules.weights import BlankTensors, PackedLayout, PackedRows, Tensors, agreed, arrays, cut, join
from tests.models.test_defaults import PLAIN

ROPE = Rope(1e4, 8)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        *(
            ({name: 0}, f"{name} must be 1 or more, got 0")
            for name in ("vocab_size", "width", "layers", "heads", "kv_heads", "head_size", "mlp_width", "context")
        ),
        ({"head_size": 4097, "ropes": (None,) * 4}, "head_size must be at most 4096, got 4097"),
        ({"ropes": (ROPE, ROPE, None, replace(ROPE, dims=10))}, "10 dimensions of a head of 8 cannot turn"),
        ({"ropes": (replace(ROPE, dims=0),) * 4}, "0 dimensions of a head of 8 cannot turn"),
        ({"heads": 7}, "7 heads cannot share 6 key/value heads"),
        ({"windows": (0,) * 3}, "windows has 3 entries for 4 layers"),
        ({"ropes": (ROPE,) * 5}, "ropes has 5 entries for 4 layers"),
        ({"windows": (0, 0, 0, -1)}, "a sliding window must be 1 or more, got -1"),
        ({"activation": "swish"}, "activation must be one of"),
        ({"diffusion": MaskedDiffusion(101)}, "mask_token_id must be one of the 101 tokens, got 101"),
        ({"diffusion": MaskedDiffusion(-1)}, "mask_token_id must be one of the 101 tokens, got -1"),
        ({"diffusion": MaskedDiffusion(3, block=-1)}, "block_size must be 1 or more, got -1"),
        (
            {"diffusion": MaskedDiffusion(3, block=1), "windows": (0, 0, 0, 1)},
            "block_size goes with layers that see all",
        ),
        ({"experts": Experts(4, 5, 8)}, "5 of 4 experts cannot be active"),
        ({"experts": Experts(4, 0, 8)}, "0 of 4 experts cannot be active"),
    ],
)
def test_a_shape_that_cannot_be_is_named(change: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError, match=f"^config: {line}"):
        replace(PLAIN, **change).check()


@pytest.mark.parametrize(
    "change",
    [
        {},
        dict.fromkeys(("vocab_size", "width", "heads", "kv_heads", "mlp_width", "context"), 1),
        {"layers": 1, "windows": (1,), "ropes": (None,)}, {"head_size": 4096},
        {"head_size": 1, "ropes": (None,) * 4}, {"ropes": (replace(ROPE, dims=1), ROPE, None, None)},
        {"diffusion": MaskedDiffusion(100, block=0), "windows": (1, 0, 0, 0)},
        {"diffusion": MaskedDiffusion(0, block=8)}, {"experts": Experts(4, 4, 8)}, {"experts": Experts(4, 1, 8)},
    ],
)  # fmt: skip
def test_a_shape_at_its_border_can_be(change: dict[str, Any]) -> None:
    made = replace(PLAIN, **change)
    assert made.check() is made


def test_keys_are_taken_once_and_what_is_left_is_unknown() -> None:
    keys = Keys({"a": 1, "b": None, "use_cache": True}, "here")
    assert keys.take("a") == 1 and keys.take("b", 5) == 5
    keys.done()
    with pytest.raises(ConfigError, match=r"^here: a is missing$"):
        keys.take("a")
    left = Keys({"hiden": 1, "zzz": 2})
    left.take("hidden", None)
    with pytest.raises(ConfigError, match=r"^config: unknown key hiden = 1; did you mean hidden\?$"):
        left.done()
    assumed = Keys({"a": 1})
    assumed.assume(a=2, b=3)
    assert (assumed.take("a"), assumed.take("b")) == (1, 3)


@pytest.mark.parametrize(
    ("method", "value", "line"),
    [
        ("integer", 1.0, "x must be an integer, got 1.0"), ("integer", True, "x must be an integer, got True"),
        ("number", True, "x must be a number, got True"), ("number", float("nan"), "x must be a number, got nan"),
        ("number", "1", "x must be a number, got '1'"), ("flag", 1, "x must be true or false, got 1"),
        ("text", 1, "x must be a string, got 1"), ("table", [], r"x must be a table, got \[\]"),
        ("sequence", {}, r"x must be a list, got \{\}"),
        ("layers", 10_001, "x must be at most 10,000, got 10,001"),
        ("activation", "nothing", "x must be one of silu"), ("numbers", [1, "a"], "x: 1 must be a number, got 'a'"),
    ],
)  # fmt: skip
def test_a_key_of_another_kind_is_named(method: str, value: object, line: str) -> None:
    with pytest.raises(ConfigError, match=f"config: {line}"):
        getattr(Keys({"x": value}), method)("x")


@pytest.mark.parametrize(
    ("method", "value", "want"),
    [
        ("integer", 3, 3), ("number", 3, 3.0), ("number", 0.5, 0.5), ("flag", False, False), ("text", "", ""),
        ("table", {"a": 1}, {"a": 1}), ("sequence", [1], [1]), ("sequence", (1,), (1,)), ("layers", 10_000, 10_000),
        ("numbers", [1, 2.5], (1.0, 2.5)), ("activation", "gelu_new", "gelu_tanh"), ("activation", "swish", "silu"),
        ("activation", "gelu_fast", "gelu_tanh"),
    ],
)  # fmt: skip
def test_a_key_of_its_kind_is_taken(method: str, value: object, want: object) -> None:
    found = getattr(Keys({"x": value}), method)("x")
    assert found == want and type(found) is type(want)


def test_tensors_that_follow_from_the_configuration_may_be_left() -> None:
    refuse_left(
        {name: [1] for name in ("a.rotary_emb.inv_freq", "h.0.attn.bias", "h.0.attn.masked_bias", "x.attention.bias")}
    )
    with pytest.raises(CheckpointError, match=r"^weights: a.b \[2, 3\] has no place in the model$"):
        refuse_left({"a.b": (2, 3)})
    with pytest.raises(CheckpointError, match=r"^weights: a \[1\] and 2 more has no place"):
        refuse_left({"c": [3], "a": [1], "b": [2]})


@pytest.mark.parametrize(
    ("layout", "line"),
    [
        ((64, 4, "affine"), None), ((32, 2, "affine"), None), ((128, 8, "affine"), None), ((64, 3, "affine"), None),
        ((64, 5, "affine"), None), ((64, 6, "affine"), None), ((32, 4, "mxfp4"), None), ((32, 8, "mxfp8"), None),
        ((16, 4, "nvfp4"), None),
        ((64, 7, "affine"), "bits must be one of 2, 3, 4, 5, 6, 8 in mode affine, got 7"),
        ((16, 4, "affine"), "group_size must be one of 32, 64, 128 in mode affine, got 16"),
        ((32, 8, "mxfp4"), "bits must be one of 4 in mode mxfp4, got 8"),
        ((64, 8, "mxfp8"), "group_size must be one of 32 in mode mxfp8, got 64"),
        ((32, 4, "nvfp4"), "group_size must be one of 16 in mode nvfp4, got 32"),
        ((32, 4, "nf4"), "mode must be one of affine, mxfp4, mxfp8, nvfp4, got 'nf4'"),
    ],
)  # fmt: skip
def test_a_layout_is_one_that_mlx_has(layout: tuple[int, int, str], line: str | None) -> None:
    if line is None:
        assert PackedLayout(*layout).mode == layout[2]
        return
    with pytest.raises(ConfigError, match=f"^quantization: {line}$"):
        PackedLayout(*layout)


def packed(rows: int = 4, columns: int = 64, bits: int = 4, seed: int = 0) -> tuple[PackedRows, mx.array]:
    numbers = mx.random.normal((rows, columns), key=mx.random.key(seed))
    codes, scales, biases = mx.quantize(numbers, 32, bits)
    return PackedRows(codes, scales, PackedLayout(32, bits, "affine"), biases), mx.dequantize(
        codes, scales, biases, 32, bits
    )


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
def test_a_packed_matrix_has_the_shape_and_the_values_of_its_numbers(bits: int) -> None:
    matrix, numbers = packed(bits=bits)
    assert matrix.shape == (4, 64) and mx.array_equal(matrix.floats(mx.float32), numbers)
    assert matrix.floats(mx.float16).dtype == mx.float16 and set(arrays(matrix)) == {"weight", "scales", "biases"}
    part = cut(matrix, 1, 3)
    assert isinstance(part, PackedRows) and mx.array_equal(part.floats(mx.float32), numbers[1:3])
    whole = join([part, cut(matrix, 0, 1)])
    assert isinstance(whole, PackedRows) and mx.array_equal(whole.floats(mx.float32), numbers[mx.array([1, 2, 0])])
    assert whole.layout == matrix.layout
    stack = matrix.map(lambda x: mx.stack([x, x + 0]))
    assert stack.shape == (2, 4, 64)
    both = cut(stack, 1, 3, axis=1)
    assert isinstance(both, PackedRows) and both.shape == (2, 2, 64)
    assert mx.array_equal(both.floats(mx.float32)[1], numbers[1:3])
    again = join([both, both], axis=1)
    assert isinstance(again, PackedRows) and again.shape == (2, 4, 64)


def test_only_matrices_that_are_kept_alike_are_joined() -> None:
    four, eight = packed()[0], packed(bits=8)[0]
    plain, half = mx.ones((2, 3)), mx.ones((1, 3), mx.float16)
    joined = join([plain, plain * 2])
    assert isinstance(joined, mx.array) and joined.tolist() == [[1] * 3] * 2 + [[2] * 3] * 2
    wide = join([plain[None], plain[None]], axis=1)
    assert isinstance(wide, mx.array) and wide.shape == (1, 4, 3) and isinstance(cut(plain, 1, 2), mx.array)
    assert cut(plain, 1, 2).shape == (1, 3) and cut(plain, 1, 3, axis=1).shape == (2, 2)
    for unlike in ([four, eight], [four, plain], [plain, half], [four, replace(four, global_scale=mx.array(1.0))]):
        assert join(unlike) is None
    none = replace(four, biases=None)
    alike = join([none, none])
    assert isinstance(alike, PackedRows) and alike.biases is None and alike.shape == (8, 64)


def test_the_settings_of_a_path_bind_and_the_default_where_none_has_its_own() -> None:
    layout = PackedLayout(64, 4, "affine")
    for settings in (
        {},
        {"bits": 4},
        {"group_size": 64, "bits": 4, "mode": "affine"},
        {"a": {"bits": 8}, "bits": 3},
        {"p": {"bits": 4}, "bits": 8},
    ):
        assert agreed("p", layout, settings) is layout
    for settings, line in (
        ({"bits": 8}, "bits = 8 for p, its tensors say 4"),
        ({"group_size": 32}, "group_size = 32 for p, its tensors say 64"),
        ({"mode": "mxfp4"}, "mode = mxfp4 for p, its tensors say affine"),
        ({"p": {"bits": 8}}, "bits = 8 for p, its tensors say 4"),
        ({"p": False}, "p is not packed, its tensors are"),
    ):
        with pytest.raises(CheckpointError, match=f"^config: quantization says .*{line}"):
            agreed("p", layout, settings)


def tensors(**more: mx.array) -> Tensors:
    matrix, _ = packed()
    return Tensors({f"p.{name}": array for name, array in arrays(matrix).items()} | more)


def test_tensors_are_taken_once_with_the_shape_that_the_config_implies() -> None:
    given = tensors(**{"v.weight": mx.ones((3, 5))})
    assert "v.weight" in given and "w" not in given
    assert given.take("v.weight", 3, 5).shape == (3, 5) and "v.weight" not in given
    with pytest.raises(CheckpointError, match=r"^weights: v.weight \[3, 5\] is missing$"):
        given.take("v.weight", 3, 5)
    for bad, line in (((4, 96), "p is not a packed matrix of 96 columns"), ((5, 64), r"p.weight must be \[5, 8\]")):
        with pytest.raises(CheckpointError, match=line):
            tensors().matrix("p", *bad)
    assert isinstance(tensors().matrix("p", 4, 64), PackedRows)
    plain = Tensors({"p.weight": mx.ones((2, 3)), "q.weight": mx.zeros((2, 3), mx.uint32)})
    assert isinstance(plain.matrix("p", 2, 3), mx.array)
    with pytest.raises(CheckpointError, match=r"q.weight is packed but q.scales is missing"):
        plain.matrix("q", 2, 3)
    alone = tensors()
    del alone.arrays["p.weight"]
    with pytest.raises(CheckpointError, match=r"p.scales is there but p.weight is missing"):
        alone.matrix("p", 4, 64)
    unbiased = tensors()
    del unbiased.arrays["p.biases"]
    with pytest.raises(CheckpointError, match=r"p.biases is missing"):
        unbiased.matrix("p", 4, 64)
    dense = Tensors(dict(tensors().arrays), dense=mx.float16).matrix("p", 4, 64)
    assert isinstance(dense, mx.array) and dense.dtype == mx.float16 and dense.shape == (4, 64)


def test_what_no_part_took_is_refused_but_for_what_is_allowed() -> None:
    left = Tensors({"a": mx.ones((2,)), "b": mx.ones((3,))})
    with pytest.raises(CheckpointError, match=r"weights: b \[3\] has no place"):
        left.done(("a",))
    left.done(("a", "b"))
    assert not left.arrays
    blank = BlankTensors()
    assert blank.take("x", 2, 3).tolist() == [[0.0] * 3] * 2 and isinstance(blank.matrix("y", 4, 5), mx.array)
