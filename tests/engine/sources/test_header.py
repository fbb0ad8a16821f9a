"""A GGUF header's own bytes at both sides of every bound, what packed files say, and what goes wrong with downloads."""

import errno
import io
import re
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from engine.errors import CheckpointError
from engine.sources.fetch import package
from engine.sources.fetch.progress import disk_errors, require_space
from engine.sources.gguf import header as headers
from engine.sources.gguf.blocks import _pack_codes, packed_bits
from engine.sources.gguf.header import TYPES, TensorInfo, read_header
from engine.sources.gguf.mapping import ARCHITECTURES
from engine.sources.gguf.weights import Whole, packed_config, whole_groups
from tests.engine.sources.test_mapping import file, tensor

# -- headers ---------------------------------------------------------------------------------------------------------


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def entry(name: str, dims: list[int], kind: int, offset: int) -> bytes:
    return (
        text(name)
        + struct.pack("<I", len(dims))
        + b"".join(struct.pack("<Q", n) for n in dims)
        + struct.pack("<IQ", kind, offset)
    )


def gguf(
    path: Path,
    keys: list[bytes],
    tensors: list[bytes],
    data: bytes = b"",
    version: int = 3,
    align: int = 32,
    counts: tuple[int, int] | None = None,
) -> Path:
    n_tensors, n_keys = counts or (len(tensors), len(keys))
    head = b"GGUF" + struct.pack("<IQQ", version, n_tensors, n_keys) + b"".join(keys) + b"".join(tensors)
    path.write_bytes(head + bytes(-len(head) % align) + data if tensors else head)
    return path


def key(name: str, kind: int, value: bytes) -> bytes:
    return text(name) + struct.pack("<I", kind) + value


def test_a_header_holds_every_kind_of_value(tmp_path: Path) -> None:
    array = (
        struct.pack("<IQ", 9, 2)
        + struct.pack("<IQ", 4, 2)
        + struct.pack("<II", 1, 2)
        + struct.pack("<IQ", 8, 1)
        + text("é")
    )
    keys = [
        key("u8", 0, b"\xff"),
        key("i8", 1, b"\xff"),
        key("u16", 2, b"\xff\xff"),
        key("i16", 3, b"\xfe\xff"),
        key("u32", 4, struct.pack("<I", 7)),
        key("i32", 5, struct.pack("<i", -7)),
        key("f32", 6, struct.pack("<f", 0.5)),
        key("b", 7, b"\1"),
        key("s", 8, text("word")),
        key("u64", 10, struct.pack("<Q", 1 << 40)),
        key("i64", 11, struct.pack("<q", -9)),
        key("f64", 12, struct.pack("<d", 0.25)),
        key("bs", 9, struct.pack("<IQ", 7, 3) + b"\0\1\0"),
        key("nested", 9, array),
        key("empty", 9, struct.pack("<IQ", 4, 0)),
    ]
    path = tmp_path / "m.gguf"
    found = read_header(gguf(path, keys, [entry("a", [64, 2], 2, 0), entry("b", [3], 0, 96)], bytes(108)))
    assert found.metadata == {
        "u8": 255,
        "i8": -1,
        "u16": 65535,
        "i16": -2,
        "u32": 7,
        "i32": -7,
        "f32": 0.5,
        "b": True,
        "s": "word",
        "u64": 1 << 40,
        "i64": -9,
        "f64": 0.25,
        "bs": [False, True, False],
        "nested": [[1, 2], ["é"]],
        "empty": [],
    }
    start = path.stat().st_size - 108
    assert found.tensors == {
        "a": TensorInfo("a", (2, 64), "Q4_0", start, 72),
        "b": TensorInfo("b", (3,), "F32", start + 96, 12),
    }
    assert start % 32 == 0 and read_header(gguf(path, [], [], version=2)).tensors == {}
    whole = gguf(path, keys, [entry("a", [64, 2], 2, 0)], bytes(72)).read_bytes()
    for beginning in (5, 40, 333):  # read a part at a time
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(headers, "BEGINNING", beginning)
            assert read_header(path).metadata == found.metadata
    for cut in range(0, len(whole) - 72, 7):
        path.write_bytes(whole[:cut])
        with pytest.raises(CheckpointError):
            read_header(path)


def test_a_header_is_believed_in_nothing(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    sixteen = key("general.alignment", 4, struct.pack("<I", 16))
    assert (
        read_header(gguf(path, [sixteen], [entry("a", [4], 0, 0), entry("b", [4], 0, 16)], bytes(32), align=16))
        .tensors["b"]
        .nbytes
        == 16
    )
    top = key("general.alignment", 4, struct.pack("<I", 1 << 16))
    assert (
        read_header(gguf(path, [top], [entry("a", [4], 0, 0)], bytes(16), align=1 << 16)).tensors["a"].offset == 1 << 16
    )
    four = entry("a", [2, 1, 1, 1], 0, 0)
    assert read_header(gguf(path, [], [four], bytes(8))).tensors["a"].shape == (1, 1, 1, 2)
    small = key("a", 4, struct.pack("<I", 1))
    for keys, tensors, data, more, line in (
        ([], [], 0, {"version": 1}, "version 2 or 3 expected, got 1"),
        ([], [], 0, {"version": 4}, "got 4"),
        ([small, small], [], 0, {}, "the key 'a' comes twice"),
        ([], [], 0, {"counts": (65537, 0)}, "at most 65,536 tensors expected, got 65,537"),
        ([], [], 0, {"counts": (0, 65537)}, "65,536 keys"),
        ([key("a", 13, b"")], [], 0, {}, "metadata of unknown type 13"),
        ([key("a", 7, b"\2")], [], 0, {}, "neither 0 nor 1"),
        ([key("a", 8, text(b"\xff"))], [], 0, {}, "not UTF-8"),
        ([key("a", 8, struct.pack("<Q", 99))], [], 0, {}, "runs past the end"),
        ([key("a", 9, struct.pack("<IQ", 0, 99))], [], 0, {}, "an array of 99 elements does not fit"),
        (
            [key("a", 9, struct.pack("<IQ", 9, 1) * 2 + struct.pack("<IQ", 9, 1) + bytes(40))],
            [],
            0,
            {},
            "unknown type 9",
        ),
        ([key("general.alignment", 4, struct.pack("<I", 12))], [], 0, {}, "multiple of 8 expected, got 12"),
        ([key("general.alignment", 4, struct.pack("<I", 0))], [], 0, {}, "got 0"),
        ([key("general.alignment", 4, struct.pack("<I", (1 << 16) + 8))], [], 0, {}, "multiple of 8"),
        ([key("general.alignment", 8, text("x"))], [], 0, {}, "got 'x'"),
        ([], [entry("a", [4], 0, 0)] * 2, 32, {}, "the tensor 'a' comes twice"),
        ([], [entry("a", [4], 0, 8)], 32, {}, "is not aligned to 32"),
        ([], [entry("a", [4], 0, 0)], 15, {}, "ends after the file does"),
        ([], [entry("a", [4], 0, 32)], 47, {}, "ends after"),
        ([], [entry("a", [], 0, 0)], 0, {}, "1 to 4 dimensions expected, got 0"),
        ([], [entry("a", [1] * 5, 0, 0)], 32, {}, "got 5"),
        ([], [entry("a", [4], 4, 0)], 32, {}, "has type 4, which is not supported; known: F32, F16, Q4_0"),
        ([], [entry("a", [0], 0, 0)], 0, {}, r"a shape of \[0\] does not fit F32"),
        ([], [entry("a", [33], 2, 0)], 99, {}, "does not fit Q4_0"),
        ([], [entry("a", [1 << 40], 0, 0)], 0, {}, "does not fit F32"),
    ):
        with pytest.raises(CheckpointError, match=line):
            read_header(gguf(path, keys, tensors, bytes(data), **more))
    for content, line in ((b"GGUX" + bytes(40), "does not begin with GGUF"), (b"", "is not a GGUF file")):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=line):
            read_header(path)
    with pytest.raises(CheckpointError, match=r"cannot read .*none: No such file"):
        read_header(tmp_path / "none")


def test_what_a_packed_file_says_of_its_modules() -> None:
    header = file()
    header.tensors.clear()
    for name, kind in (
        ("blk.0.attn_q.weight", "Q4_0"),
        ("blk.0.ffn_down.weight", "Q6_K"),
        ("blk.0.attn_output.weight", "F16"),
        ("token_embd.weight", "Q8_0"),
        ("rope_freqs.weight", "F32"),
    ):
        header.tensors[name] = tensor(name, (8, 256), kind)
    header.tensors["blk.0.attn_norm.weight"] = tensor("blk.0.attn_norm.weight", (256,), "Q4_0")
    layer = "model.layers.0"
    eight = {"group_size": 32, "bits": 8, "mode": "affine"}
    assert packed_config(header, ARCHITECTURES["llama"]) == {
        "group_size": 32,
        "bits": 4,
        "mode": "affine",
        f"{layer}.self_attn.q_proj": {**eight, "bits": 4},
        f"{layer}.mlp.down_proj": eight,
        "model.embed_tokens": eight,
    }
    assert whole_groups(header) == 256
    del header.tensors["blk.0.ffn_down.weight"]
    assert whole_groups(header) == 1
    assert [packed_bits(kind) for kind in ("Q4_0", "Q5_1", "Q8_0", "Q6_K", "F32", "IQ4_NL")] == [4, 5, 8, None, None, 8]
    parts = [("a", tensor("x", (2, 5))), ("b", tensor("y", (3, 5)))]
    whole = Whole("w", parts)
    assert whole.shape == (5, 5) and whole.rows == {"a": slice(0, 2), "b": slice(2, 5)} and whole.missing == 2
    whole.room("b")[:] = 7
    whole.room("a")[:] = 1
    assert np.array(whole.array).tolist() == [[1.0] * 5] * 2 + [[7.0] * 5] * 3


def test_codes_are_packed_lowest_bits_first() -> None:
    codes = np.random.default_rng(0).integers(0, 16, (3, 32), np.uint8)
    for bits in (4, 5, 8):
        want = [
            sum(int(code) << (bits * i) for i, code in enumerate(row)).to_bytes(4 * bits, "little") for row in codes
        ]
        assert [bytes(row) for row in _pack_codes(codes, bits)] == want
    assert len(TYPES) == 26 and all(values in (1, 32, 64, 256) for _, values, _ in TYPES.values())


# -- downloads -------------------------------------------------------------------------------------------------------


def test_disks_that_are_full_or_closed_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, line in (
        (errno.ENOSPC, "the disk is full at"),
        (errno.EDQUOT, "the disk is full"),
        (errno.EFBIG, "is full"),
        (errno.EACCES, "cannot write to .*set X elsewhere"),
        (errno.EROFS, "cannot write"),
        (errno.ENOTDIR, "cannot write"),
        (errno.EEXIST, "cannot write"),
        (errno.EPERM, "cannot write"),
        (errno.ENOENT, "cannot write"),
    ):
        with pytest.raises(CheckpointError, match=line), disk_errors(tmp_path, "X"):
            raise OSError(number, "why")
    with pytest.raises(OSError, match="why"), disk_errors(tmp_path):
        raise OSError(errno.EIO, "why")
    monkeypatch.setattr(
        "engine.sources.fetch.progress.shutil.disk_usage", lambda folder: SimpleNamespace(free=5_000_000)
    )
    require_space(tmp_path, 5_000_000)
    with pytest.raises(CheckpointError, match=r"6\.0 MB needed, 5\.0 MB free at .*set LIKELY_HOME"):
        require_space(tmp_path, 6_000_000)
    made: Any = SimpleNamespace(wheels=("w==1",))
    for complaint, line in (
        ("x\nNo space left on device", "the disk is full"),
        ("ERROR: NewConnectionError", "did not answer, so w==1"),
        ("timed out", "did not answer"),
        ("ERROR: No matching distribution", "pip's index has no w==1"),
        ("a\nERROR: bad wheel\nERROR: more", "could not download w==1: bad wheel$"),
        ("nothing", "no reason given"),
    ):
        assert re.search(line, str(package._pip_failed(made, io.StringIO(complaint), tmp_path / "wheels")))
