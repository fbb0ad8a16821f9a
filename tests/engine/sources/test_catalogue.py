"""Sizes of the catalogue by hand, headers and parts of files at both sides of every bound, choices for a machine."""

import hashlib
import json
import os
import struct
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from engine.errors import CheckpointError
from engine.sources import catalogue, packed_folder, partial_read, precision, preferences, safetensors, store
from engine.sources.catalogue import (
    GIB,
    Hub,
    Known,
    Package,
    _known,
    download_bytes,
    fits,
    lookup,
    named,
    nearest,
    offers,
    parameters,
    suits,
)
from engine.sources.hf_folder import array_of
from engine.sources.model_info import _card_license, fingerprint, quantization_of, weight_files
from engine.sources.precision import Precision
from engine.sources.safetensors import StoredTensor, read_header
from metal import mx

SHAPE = {"width": 10, "heads": 3, "kv_heads": 2, "head": 4, "inner": 7, "layers": 5, "vocabulary": 11, "tied": False}


def test_weights_are_counted_matrix_by_matrix() -> None:
    """q and o 10 * 12, k and v 10 * 8, three of 10 * 7, in five layers; the embedding once or twice."""
    layer = 2 * 10 * 12 + 2 * 10 * 8 + 3 * 10 * 7
    assert parameters(SHAPE) == 2 * 110 + 5 * layer and parameters({**SHAPE, "tied": True}) == 110 + 5 * layer
    weights = 220 + 5 * layer
    for bits, each in ((32, 32), (16, 16), (8, 8.5), (4, 4.5), (15, 15.5)):
        assert download_bytes(SHAPE, bits) == round(weights * each / 8)


def test_an_entry_says_where_its_model_comes_from() -> None:
    made = _known({"name": "a", "title": "A", "license": "x", "hub": "o/a", "shape": SHAPE})
    assert made == Known("a", "A", Hub("o/a", "main"), "x", download_bytes(SHAPE, 4), True, "", 0, False)
    more = _known(
        {
            "name": "a",
            "title": "A",
            "license": "x",
            "hub": "o/a",
            "shape": SHAPE,
            "bits": 16,
            "checked": True,
            "memory_gb": 8,
        }
    )
    assert more.checked and more.memory_gb == 8 and more.nbytes == download_bytes(SHAPE, 16)
    package = {"wheels": ["w==1"], "parts": ["p"], "filename": "f", "sha256": "0", "nbytes": 5, "notices": ["n"]}
    held = _known({"name": "b", "title": "B", "license": "x", "nbytes": 7, "chat": False, "package": dict(package)})
    assert (
        held.source == Package(("w==1",), ("p",), "f", "0", 5, ("n",))
        and held.checked
        and not held.chat
        and held.nbytes == 7
    )


def test_names_are_found_however_they_are_written() -> None:
    assert lookup("SmolLM2") is lookup("smollm2") is catalogue.KNOWN["smollm2"] and lookup("none") is None
    hub = next(known for known in catalogue.KNOWN.values() if isinstance(known.source, Hub))
    assert lookup(hub.source.repo) is hub and named(hub.source.repo) is hub
    assert named("o/n") == Known("o/n", "o/n", Hub("o/n"), "", 0) and named("o/n/f.gguf") == Known(
        "o/n/f.gguf", "o/n/f.gguf", Hub("o/n"), "", 0
    )
    assert [named(name) for name in ("n", "o/", "/n", "o/n/f", "o/n/f.gguf/x", "o//f.gguf", "")] == [None] * 7
    assert (
        nearest("smolm2")[0] == "smollm2"
        and nearest("mine-modl", ("mine-model",)) == ["mine-model"]
        and nearest("zzzzzz") == []
    )
    assert nearest(hub.source.repo[:-1])[0] == hub.name and len(nearest("smollm2")) <= 3


def test_a_model_suits_a_machine_with_nine_tenths_of_its_memory() -> None:
    known = Known("a", "A", Hub("o/a"), "", 8 * GIB, memory_gb=10)
    assert suits(known, 9 * GIB) and not suits(known, 9 * GIB - 1) and GIB == 1 << 30
    assert fits(known, 16 * GIB) and fits(known, 16 * GIB + 1) and not fits(known, 16 * GIB - 1)
    for gb in (1, 8, 16, 64):
        found = offers(gb * GIB)
        assert found[-1].name == "smollm2" and [k.name for k in found].count("smollm2") == 1
        assert all(known.chat and known.memory_gb * 0.9 <= gb for known in found[:-1])
        assert [k.memory_gb for k in found[:-1]] == sorted((k.memory_gb for k in found[:-1]), reverse=True)
        others = [k for k in catalogue.KNOWN.values() if k.chat and k.memory_gb * 0.9 <= gb and k.name != "smollm2"]
        assert len(found) == 1 + len(others)


# -- headers ---------------------------------------------------------------------------------------------------------


def written(path: Path, entries: Any, data: bytes = b"", length: int | None = None) -> Path:
    head = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    path.write_bytes(struct.pack("<Q", len(head) if length is None else length) + head + data)
    return path


def entry(dtype: str, shape: list[Any], begin: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def test_a_header_is_checked_against_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "m.safetensors"
    good = {
        "__metadata__": {"a": "b"},
        "x": entry("F32", [2, 3], 0, 24),
        "y": entry("BOOL", [], 24, 25),
        "z": entry("I64", [0], 25, 25),
    }
    found = read_header(written(file, good, bytes(25)))
    start = 8 + len(json.dumps(good))
    assert found == {
        "x": StoredTensor("F32", (2, 3), 24, start),
        "y": StoredTensor("BOOL", (), 1, start + 24),
        "z": StoredTensor("I64", (0,), 0, start + 25),
    }
    assert read_header(written(file, {})) == {} and read_header(written(file, {"__metadata__": None})) == {}
    for dtype, size in safetensors.SIZES.items():
        assert (
            read_header(written(file, {"x": entry(dtype, [3], 0, 3 * size)}, bytes(3 * size)))["x"].nbytes == 3 * size
        )
        with pytest.raises(CheckpointError, match="is damaged"):
            read_header(written(file, {"x": entry(dtype, [3], 0, 3 * size - 1)}, bytes(3 * size)))
    for entries, data, line in (
        ({"x": entry("F32", [2], 0, 8)}, 7, "ends after the file does"),
        ({"x": entry("F64", [1], 0, 8)}, 8, "has dtype F64, which"),
        ({"x": entry("F32", [2], 4, 8)}, 8, "entry of tensor 'x' is damaged"),
        ({"x": entry("F32", [-1], 0, 0)}, 8, "is damaged"),
        ({"x": entry("F32", [True], 0, 4)}, 8, "is damaged"),
        ({"x": entry("F32", [0], -1, -1)}, 8, "is damaged"),
        ({"x": entry("F32", [0], 2, 1)}, 8, "is damaged"),
        ({"x": {"dtype": "F32"}}, 8, "is damaged"),
        ({"__metadata__": 1}, 0, "no table"),
        ([], 0, "no table of tensors"),
        (b"{]", 0, "no table"),
    ):
        with pytest.raises(CheckpointError, match=line):
            read_header(written(file, entries, bytes(data)))
    for length, line in ((1, "does not fit"), (3, "does not fit"), (0, "does not fit")):
        with pytest.raises(CheckpointError, match=line):
            read_header(written(file, b"{}", length=length))
    monkeypatch.setattr(safetensors, "MAX_HEADER", 4)
    assert read_header(written(file, b"{  }")) == {}
    with pytest.raises(CheckpointError, match="does not fit"):
        read_header(written(file, b"{   }"))
    file.write_bytes(b"\x02")
    with pytest.raises(CheckpointError, match="does not fit"):
        read_header(file)
    with pytest.raises(CheckpointError, match=r"cannot read .*No such file"):
        read_header(tmp_path / "none")


def test_any_ranges_of_any_axis_are_read(tmp_path: Path) -> None:
    whole = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 2), np.uint8)
    path = tmp_path / "t"
    path.write_bytes(b"head" + whole.tobytes() + b"tail")
    with path.open("rb") as file:
        for axis, ranges in product((0, 1, 2, -1, -2), (None, [(0, 1)], [(1, 3)], [(0, 1), (2, 3)], [(1, 1)], [])):
            parts = [whole.take(range(a, b), axis % 3) for a, b in ranges] if ranges is not None else [whole]
            want = np.concatenate(parts, axis % 3) if parts else whole[:0]
            found = partial_read.read(file, "t", 4, (3, 4, 5), 2, axis, ranges)
            assert found.tobytes() == want.tobytes(), (axis, ranges)
        with pytest.raises(CheckpointError, match=r"t ends inside tensor 'x'; it is truncated"):
            partial_read.read(file, "x", 4, (3, 4, 6), 2)


def test_bytes_become_the_arrays_that_they_are() -> None:
    for dtype, kind in (
        ("F32", np.float32),
        ("F16", np.float16),
        ("I8", np.int8),
        ("U16", np.uint16),
        ("I32", np.int32),
        ("U32", np.uint32),
    ):
        values = np.arange(6).astype(kind)
        found = array_of(values.view(np.uint8), dtype, (2, 3))
        assert np.array(found).dtype == kind and np.array_equal(np.array(found), values.reshape(2, 3))
    half = mx.array([1.5, -2.0]).astype(mx.bfloat16)
    found = array_of(np.array(half.view(mx.uint16)).view(np.uint8), "BF16", (2,))
    assert found.dtype == mx.bfloat16 and found.tolist() == [1.5, -2.0]
    assert array_of(np.array([True, False]).view(np.uint8), "BOOL", (2,)).tolist() == [True, False]


def test_a_fingerprint_looks_at_slices_of_the_whole(tmp_path: Path) -> None:
    path, data = tmp_path / "a", np.random.default_rng(0).integers(0, 256, 300_000, np.uint8).tobytes()
    for size in (0, 10, 4096, 5000, 300_000):
        path.write_bytes(data[:size])
        digest = hashlib.sha256(struct.pack("<Q", size))
        for i in range(64):
            at = max(0, size - 4096) * i // 63
            digest.update(data[:size][at : at + 4096])
        assert fingerprint([path]) == digest.hexdigest()
    other = tmp_path / "b"
    other.write_bytes(b"x")
    assert fingerprint([path, other]) != fingerprint([path]) != fingerprint([other, path])


def test_files_of_weights_are_those_that_the_index_names(tmp_path: Path) -> None:
    for name in ("model-1.safetensors", "model-2.safetensors", "other.safetensors"):
        (tmp_path / name).write_bytes(b"")
    assert [f.name for f in weight_files(tmp_path)] == ["model-1.safetensors", "model-2.safetensors"]
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(
        json.dumps(
            {"weight_map": {"a": "other.safetensors", "b": "../x/model-2.safetensors", "c": "other.safetensors"}}
        )
    )
    assert [f.name for f in weight_files(tmp_path)] == ["model-2.safetensors", "other.safetensors"]
    for content, line in (
        ({"weight_map": []}, "no weight_map"),
        ({"weight_map": {"a": 1}}, "no weight_map"),
        ({}, "no weight_map"),
        ({"weight_map": {}}, r"has no \.safetensors weights"),
        ({"weight_map": {"a": "gone"}}, "lacks gone, which its index"),
    ):
        index.write_text(json.dumps(content))
        with pytest.raises(CheckpointError, match=line):
            weight_files(tmp_path)
    index.unlink()
    for name in ("model-1.safetensors", "model-2.safetensors"):
        (tmp_path / name).unlink()
    assert [f.name for f in weight_files(tmp_path)] == ["other.safetensors"]
    (tmp_path / "other.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"has no \.safetensors weights"):
        weight_files(tmp_path)


def test_a_card_names_its_licence_in_its_first_lines(tmp_path: Path) -> None:
    card = tmp_path / "README.md"
    for text, want in (
        ("---\nlicense: mit\n---", "mit"),
        ("license:  apache-2.0 \n", "apache-2.0"),
        ("the license: mit", ""),
        ("a" * 9_986 + "\nlicense: mit", "mit"),
        ("a" * 10_000 + "\nlicense: mit", ""),
    ):
        card.write_text(text)
        assert _card_license(card) == want
    assert _card_license(tmp_path / "none") == ""
    assert quantization_of({}) == {} and quantization_of({"quantization_config": {"bits": 4}}) == {"bits": 4}
    assert quantization_of({"quantization": {"group_size": 32}, "quantization_config": {"bits": 4}}) == {
        "group_size": 32
    }
    for wrong in ({"quantization": "x"}, {"quantization": {"group_size": "64"}}):
        with pytest.raises(CheckpointError, match="quantization must be a table"):
            quantization_of(wrong)


# -- layouts and choices -----------------------------------------------------------------------------------------------


def stored(*tensors: tuple[str, str, tuple[int, ...]]) -> Any:
    return {name: (Path("f"), StoredTensor(dtype, shape, 0, 0)) for name, dtype, shape in tensors}


def test_a_matrix_is_packed_as_its_tensors_say() -> None:
    settings = {"group_size": 32, "bits": 4}
    four = stored(("m.weight", "U32", (6, 8)), ("m.scales", "F16", (6, 2)), ("m.biases", "F16", (6, 2)))
    found = packed_folder.layout("m", four, settings)
    assert (found.group_size, found.bits, found.mode) == (32, 4, "affine")
    eight = stored(("m.weight", "U32", (6, 16)), ("m.scales", "F16", (6, 2)))
    assert packed_folder.layout("m", eight, {"group_size": 64, "bits": 4, "m": {"group_size": 32, "bits": 8}}).bits == 8
    for tensors, how, line in (
        (stored(("m.weight", "U32", (6, 8))), settings, "is not packed as"),
        (stored(("m.scales", "F16", (6, 2))), settings, "is not packed"),
        (stored(("m.weight", "F32", (6, 8)), ("m.scales", "F16", (6, 2))), settings, "is not packed"),
        (four, {"bits": 4}, "is not packed"),
        (stored(("m.weight", "U32", (8,)), ("m.scales", "F16", (2,))), settings, "is not packed"),
        (four, {"m": 4}, "is not packed"),
        (
            stored(("m.weight", "U32", (6, 9)), ("m.scales", "F16", (6, 2))),
            settings,
            "is not a matrix in groups of 32: weight .6, 9., scales .6, 2.",
        ),
        (stored(("m.weight", "U32", (6, 8)), ("m.scales", "F16", (5, 2))), settings, "not a matrix in groups"),
        (
            stored(("m.weight", "U32", (6, 8)), ("m.scales", "F16", (6, 2)), ("m.biases", "F16", (6, 3))),
            settings,
            "not a matrix",
        ),
        (stored(("m.weight", "U32", (6, 8)), ("m.scales", "F16", (6, 0))), settings, "not a matrix|bits"),
    ):
        with pytest.raises(CheckpointError, match=line):
            packed_folder.layout("m", tensors, how)


def test_who_stays_packed_says_why_not() -> None:
    four = (("m.weight", "U32", (6, 8)), ("m.scales", "F16", (6, 2)), ("m.biases", "F16", (6, 2)))
    three = (("k.weight", "U32", (6, 6)), ("k.scales", "F16", (6, 2)), ("k.biases", "F16", (6, 2)))
    config = {"quantization": {"group_size": 32, "bits": 4, "k": {"group_size": 32, "bits": 3}}}
    assert packed_folder.refused(stored(*four), config, expand=False) is None
    assert packed_folder.refused(stored(*four, *three), config, expand=True) is None
    assert packed_folder.refused(stored(*four, *three), config, expand=False) == packed_folder.NO_MEMORY
    assert (
        packed_folder.refused(stored(*three), config, expand=True)
        == "nothing in it is packed in affine codes of 4 or 8 bits"
    )
    assert (
        packed_folder.refused(stored(), config, expand=True) == "nothing in it is packed in affine codes of 4 or 8 bits"
    )
    assert "awq packed are translated" in str(
        packed_folder.refused(stored(*four), {"quantization": {"quant_method": "awq"}}, expand=True)
    )
    assert "is not packed" in str(packed_folder.refused(stored(*four[1:]), config, expand=True))


def test_the_precision_is_of_the_machine_and_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "available_memory", lambda: 8000)
    for count, packed in ((1000, False), (1001, True), (0, False)):
        assert precision.choose(count, "llama") == Precision(mx.float32, packed)
    monkeypatch.setattr(precision.mx, "default_device", lambda: mx.gpu)
    for bfloat16, family, held, dtype in (
        (True, "llama", mx.bfloat16, mx.bfloat16),
        (False, "llama", mx.bfloat16, mx.float16),
        (False, "gemma3_text", mx.bfloat16, mx.bfloat16),
        (False, "gemma", None, mx.bfloat16),
        (True, "llama", None, mx.float16),
        (False, "llama", mx.float32, mx.float32),
        (True, "llama", mx.float16, mx.float16),
    ):
        monkeypatch.setattr(precision, "device", lambda bfloat16=bfloat16: SimpleNamespace(bfloat16=bfloat16))
        assert precision.choose(1, family, held) == Precision(dtype, True, False, 16)


def test_what_memory_is_available(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told = tmp_path / "meminfo"
    told.write_text("MemTotal:  99 kB\nMemAvailable:    7 kB\n")
    real = Path
    monkeypatch.setattr(precision, "Path", lambda name: told if name == "/proc/meminfo" else real(name))
    assert precision.available_memory() == 7 * 1024
    for missing in ("MemTotal: 9 kB\n", None):
        told.unlink() if missing is None else told.write_text(missing)
        assert precision.available_memory() == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_preferences_are_kept_beside_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIKELY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LIKELY_MODELS", f"/a{os.pathsep}{os.pathsep}/b")
    assert preferences.chosen() == "" and preferences.folders() == (Path("/a"), Path("/b"))
    preferences.choose("smollm2")
    preferences.add_folder(tmp_path / "mine")
    preferences.add_folder(tmp_path / "mine")
    preferences.add_folder(Path("/b"))
    assert preferences.chosen() == "smollm2" and preferences.folders() == (Path("/a"), Path("/b"), tmp_path / "mine")
    told = json.loads((tmp_path / "home" / "preferences.json").read_text())
    assert told == {"model": "smollm2", "folders": [str(tmp_path / "mine")]}
    preferences.choose("other", tmp_path)
    assert preferences.chosen(tmp_path) == "other" and preferences.chosen() == "smollm2"
    for damaged, folders in (({"model": 3, "folders": "x"}, 2), ({"folders": [3, "/c"]}, 3), ([], 2)):
        (tmp_path / "home" / "preferences.json").write_text(json.dumps(damaged))
        assert preferences.chosen() == "" and len(preferences.folders()) == folders
    assert sorted(path.name for path in (tmp_path / "home").iterdir()) == ["preferences.json"]


def test_names_of_a_store() -> None:
    assert store._slug("a/b/c") == "a--b--c" and store._file_of("a/b/c") == "c" and store._file_of("a/b") is None
    assert (
        store._spelled(Known("a", "", Hub("o/a"), "", 0)) == "o/a"
        and store._spelled(Known("o/x", "", Hub("o/a"), "", 0)) == "o/x"
    )
    assert store._spelled(catalogue.KNOWN["smollm2"]) == "smollm2"
    assert [store._looks_like_path(name) for name in ("./a", "/a", "~", "smollm2", "o/n")] == [
        True,
        True,
        True,
        False,
        False,
    ]
