"""Folders of safetensors: headers that are checked against their files, and bytes that become arrays."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from likely.engine.base.errors import CheckpointError
from likely.engine.weights.sources import safetensors
from likely.engine.weights.sources.hf_folder import array_of
from likely.engine.weights.sources.model_info import weight_files
from likely.engine.weights.sources.safetensors import StoredTensor, read_header
from likely.metal import mx


def written(path: Path, entries: Any, data: bytes = b"", length: int | None = None) -> Path:
    head = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    path.write_bytes(struct.pack("<Q", len(head) if length is None else length) + head + data)
    return path


def entry(dtype: str, shape: list[Any], begin: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def test_a_header_is_checked_against_its_file(tmp_path: Path) -> None:
    file = tmp_path / "m.safetensors"
    good = {
        "__metadata__": {"a": "b"}, "x": entry("F32", [2, 3], 0, 24), "y": entry("BOOL", [], 24, 25),
        "z": entry("I64", [0], 25, 25),
    }  # fmt: skip
    found = read_header(written(file, good, bytes(25)))
    start = 8 + len(json.dumps(good))
    assert found == {
        "x": StoredTensor("F32", (2, 3), 24, start),
        "y": StoredTensor("BOOL", (), 1, start + 24),
        "z": StoredTensor("I64", (0,), 0, start + 25),
    }
    assert read_header(written(file, {})) == {} and read_header(written(file, {"__metadata__": None})) == {}
    for dtype, size in safetensors.SIZES.items():
        data = bytes(3 * size)
        assert read_header(written(file, {"x": entry(dtype, [3], 0, 3 * size)}, data))["x"].nbytes == 3 * size
        with pytest.raises(CheckpointError, match="is damaged"):
            read_header(written(file, {"x": entry(dtype, [3], 0, 3 * size - 1)}, data))
    for entries, data, line in (
        ({"x": entry("F32", [2], 0, 8)}, 7, "ends after the file does"),
        ({"x": entry("F64", [1], 0, 8)}, 8, "has dtype F64, which"),
        ({"x": entry("F32", [2], 4, 8)}, 8, "entry of tensor 'x' is damaged"),
        ({"x": entry("F32", [-1], 0, 0)}, 8, "is damaged"), ({"x": entry("F32", [True], 0, 4)}, 8, "is damaged"),
        ({"x": entry("F32", [0], -1, -1)}, 8, "is damaged"), ({"x": entry("F32", [0], 2, 1)}, 8, "is damaged"),
        ({"x": {"dtype": "F32"}}, 8, "is damaged"), ({"__metadata__": 1}, 0, "no table"),
        ([], 0, "no table of tensors"), (b"{]", 0, "no table"),
    ):  # fmt: skip
        with pytest.raises(CheckpointError, match=line):
            read_header(written(file, entries, bytes(data)))
    for length in (0, 1, 3):
        with pytest.raises(CheckpointError, match="does not fit"):
            read_header(written(file, b"{}", length=length))
    file.write_bytes(b"\x02")
    with pytest.raises(CheckpointError, match="does not fit"):
        read_header(file)
    with pytest.raises(CheckpointError, match=r"cannot read .*No such file"):
        read_header(tmp_path / "none")


def test_bytes_become_the_arrays_that_they_are() -> None:
    for dtype, kind in (
        ("F32", np.float32), ("F16", np.float16), ("I8", np.int8), ("U16", np.uint16), ("I32", np.int32),
        ("U32", np.uint32),
    ):  # fmt: skip
        values = np.arange(6).astype(kind)
        found = array_of(values.view(np.uint8), dtype, (2, 3))
        assert np.array(found).dtype == kind and np.array_equal(np.array(found), values.reshape(2, 3))
    half = mx.array([1.5, -2.0]).astype(mx.bfloat16)
    found = array_of(np.array(half.view(mx.uint16)).view(np.uint8), "BF16", (2,))
    assert found.dtype == mx.bfloat16 and found.tolist() == [1.5, -2.0]
    assert array_of(np.array([True, False]).view(np.uint8), "BOOL", (2,)).tolist() == [True, False]


def test_files_of_weights_are_those_that_the_index_names(tmp_path: Path) -> None:
    def names() -> list[str]:
        return [file.name for file in weight_files(tmp_path)]

    shards, other = ["model-1.safetensors", "model-2.safetensors"], "other.safetensors"
    for name in (*shards, other):
        (tmp_path / name).write_bytes(b"")
    assert names() == shards
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": other, "b": f"../x/{shards[1]}", "c": other}}))
    assert names() == [shards[1], other]
    for content, line in (
        ({"weight_map": []}, "no weight_map"), ({"weight_map": {"a": 1}}, "no weight_map"), ({}, "no weight_map"),
        ({"weight_map": {}}, r"has no \.safetensors weights"),
        ({"weight_map": {"a": "gone"}}, "lacks gone, which its index"),
    ):  # fmt: skip
        index.write_text(json.dumps(content))
        with pytest.raises(CheckpointError, match=line):
            weight_files(tmp_path)
    for name in (index.name, *shards):
        (tmp_path / name).unlink()
    assert names() == [other]
    (tmp_path / other).unlink()
    with pytest.raises(CheckpointError, match=r"has no \.safetensors weights"):
        weight_files(tmp_path)
