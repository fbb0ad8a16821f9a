"""A kernel's text, its name and its call, with what would compile it put aside."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from metal import kernel, mx


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[dict[str, Any]]]:
    """Kernels as they are built of files in a folder of our own, each called with what it was called with."""
    files = {
        "both.metal": '#include "a.h"\n#include "b.h"\nhead\n//: body\nint x;\n//: body\nint y;\n',
        "a.h": '#include "b.h"\nof a\n',
        "b.h": "of b\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    found: list[dict[str, Any]] = []

    def build(**options: Any) -> Any:
        def call(**given: Any) -> list[mx.array]:
            found.append(options | given)
            shapes = zip(given["output_shapes"], given["output_dtypes"], strict=True)
            return [mx.zeros(shape, dtype) for shape, dtype in shapes]

        return call

    monkeypatch.setattr(kernel, "FOLDER", tmp_path)
    monkeypatch.setattr(mx.fast, "metal_kernel", build)
    kernel.text.cache_clear()
    yield found
    kernel.text.cache_clear()


def test_neighbours_stand_in_place_once_and_messages_name_their_lines(made: list[dict[str, Any]]) -> None:
    header, body = kernel.text("both.metal")
    at = "metal/kernels/"
    assert header.splitlines() == [
        f'#line 1 "{at}both.metal"', f'#line 1 "{at}a.h"', f'#line 1 "{at}b.h"', "of b", f'#line 2 "{at}a.h"', "of a",
        f'#line 2 "{at}both.metal"', "head", "//: body", f'#line 5 "{at}both.metal"', "int x;",
    ]  # fmt: skip
    assert body.splitlines() == [f'#line 7 "{at}both.metal"', "int y;"]


def test_a_launch_has_its_groups_in_threads_and_its_structure_in_its_name(made: list[dict[str, Any]]) -> None:
    x = mx.zeros((3,))
    kernel.launches.clear()
    got = kernel.launch(
        "both.metal", {"x": x, "params": kernel.int32(1, 2)}, {"out": ((2, 5), mx.float16), "top": ((3,), mx.int32)},
        grid=(4, 5, 6), threads=64, defines={"STATS": 1, "TOP": 0, "K_BITS": 16}, template={"T": mx.float16, "D": 64},
    )  # fmt: skip
    (call,) = made
    assert call["name"] == "likely_both_stats1_k_bits16"
    assert call["header"].startswith("#define STATS 1\n#define TOP 0\n#define K_BITS 16\n#line 1")
    assert (call["input_names"], call["output_names"]) == (["x", "params"], ["out", "top"])
    assert call["source"] == kernel.text("both.metal")[1]
    assert call["inputs"][0] is x and call["inputs"][1].tolist() == [1, 2]
    assert (call["grid"], call["threadgroup"]) == ((256, 5, 6), (64, 1, 1))
    assert call["template"] == [("T", mx.float16), ("D", 64)]
    assert (call["output_shapes"], call["output_dtypes"]) == ([(2, 5), (3,)], [mx.float16, mx.int32])
    assert got["out"].shape == (2, 5) and got["out"].dtype == mx.float16 and got["top"].shape == (3,)
    assert kernel.launches == {"both": 1}
    kernel.launch("both.metal", {"x": x}, {"out": ((1,), mx.float32)}, grid=(1, 1, 1), threads=256)
    assert made[-1]["name"] == "likely_both" and made[-1]["template"] is None and kernel.launches["both"] == 2


@pytest.mark.parametrize("threads", [31, 33, 257, 288])
def test_a_group_has_whole_simdgroups_and_no_more_than_every_chip_runs(
    threads: int, made: list[dict[str, Any]]
) -> None:
    with pytest.raises(AssertionError):
        kernel.launch("both.metal", {}, {}, grid=(1, 1, 1), threads=threads)


def test_parameters_are_made_once_and_carry_the_bits_of_a_float() -> None:
    assert kernel.int32(3, -4) is kernel.int32(3, -4) and kernel.int32(3, -4).tolist() == [3, -4]
    assert kernel.int32(3, -4).dtype == mx.int32
    for x in (0.0, 1.0, -2.5, 1e30):
        assert struct.pack("<i", kernel.bits(x)) == struct.pack("<f", x)


def test_a_variant_is_a_kernel_for_a_dtype_and_a_head_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "switched_off", {})
    assert kernel.variant("decode", mx.bfloat16, 64) == "decode bfloat16 D=64"
    assert kernel.variant("scan", mx.float32) == "scan float32"
    assert kernel.enabled("decode", mx.float16, 64)
    kernel.switch_off("decode float16 D=64", "it was wrong")
    assert kernel.switched_off == {"decode float16 D=64": "it was wrong"}
    assert not kernel.enabled("decode", mx.float16, 64)
    assert kernel.enabled("decode", mx.float16, 128) and kernel.enabled("decode", mx.float16)
    kernel.switch_off("scan float32", "")
    assert not kernel.enabled("scan", mx.float32) and kernel.enabled("scan", mx.float16)
