"""Which library of packed weights and which BLAS a machine has, with the machine put aside, and rows at borders."""

import ctypes
import os
import platform
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from metal import blas, packed
from metal.blas import Blas
from metal.packed import PackedError, PackedMatrix, aligned

ON_LINUX = pytest.mark.linux
BYTES = {"Q4_0": (32, 18), "Q4_1": (32, 20), "Q5_0": (32, 22), "Q5_1": (32, 24), "Q8_0": (32, 34), "Q4_K": (256, 144),
         "Q5_K": (256, 176), "Q6_K": (256, 210)}  # fmt: skip


@ON_LINUX
@pytest.mark.parametrize("layout", BYTES)
def test_a_row_has_the_bytes_of_its_blocks_in_a_file(layout: str) -> None:
    values, nbytes = BYTES[layout]
    matrix = PackedMatrix(layout, 5, 3 * values)
    assert matrix.row_bytes == 3 * nbytes and matrix.shape == (5, 3 * values) and matrix.layout == layout
    assert PackedMatrix("F32", 2, 7).row_bytes == 28 and PackedMatrix("AFFINE4", 2, 64, group=32).row_bytes == 0


@ON_LINUX
@pytest.mark.parametrize(
    ("first", "n", "fine"), [(0, 5, True), (3, 2, True), (4, 1, True), (5, 0, True), (4, 2, False), (-1, 1, False)]
)
def test_rows_are_filled_where_there_are_some(first: int, n: int, fine: bool) -> None:
    matrix = PackedMatrix("F32", 5, 8)
    matrix.fill(np.zeros((5, 8), np.float32))
    raw = np.arange(8 * n, dtype=np.float32).reshape(n, 8) + 1
    codes, zeros = np.zeros((n, 8), np.uint32), np.ones((n, 2), np.float32)
    affine = PackedMatrix("AFFINE4", 5, 64, group=32)
    affine.fill_affine(np.zeros((5, 8), np.uint32), np.zeros((5, 2), np.float32), np.zeros((5, 2), np.float32))
    if not fine:
        with pytest.raises(PackedError, match=f"rows of 32 bytes for rows {first}"):
            matrix.fill(raw, first)
        with pytest.raises(PackedError, match=f"{n} rows from {first} leave the 5 of the matrix"):
            affine.fill_affine(codes, zeros, zeros, first)
        return
    assert matrix.fill(raw, first) is matrix and affine.fill_affine(codes, zeros, zeros, first) is affine
    want = np.zeros((5, 8), np.float32)
    want[first : first + n] = raw
    assert np.array_equal(matrix.rows(), want) and np.array_equal(matrix.rows([4, 0]), want[[4, 0]])
    assert np.array_equal(affine.rows()[:, 0], [1.0 if first <= i < first + n else 0.0 for i in range(5)])


@ON_LINUX
def test_rows_and_products_are_asked_for_within_the_matrix() -> None:
    matrix = PackedMatrix("F32", 5, 8).fill(np.eye(5, 8, dtype=np.float32))
    assert matrix.rows([]).shape == (0, 8) and matrix.rows([0, 4]).shape == (2, 8)
    for bad in ([5], [-1], [0, 5]):
        with pytest.raises(PackedError, match="rows below 5 expected, got"):
            matrix.rows(bad)
    x = np.arange(16, dtype=np.float32).reshape(2, 8)
    assert np.array_equal(matrix.product(x), x[:, :5]) and matrix.product(x[:0]).shape == (0, 5)
    assert np.array_equal(matrix.product(np.asfortranarray(x)), x[:, :5])
    for wrong in (x[0], x[:, :7], x.astype(np.float64)):
        with pytest.raises(PackedError, match="float32 rows of 8 expected, got"):
            matrix.product(wrong)
    with pytest.raises(PackedError, match="with scales in float64"):
        PackedMatrix("AFFINE4", 5, 64, group=64, number="float64")


@pytest.mark.parametrize("nbytes", [1, 64, 1000])
def test_room_begins_at_a_cache_line(nbytes: int) -> None:
    for _ in range(5):
        room = aligned(nbytes)
        assert room.ctypes.data % 64 == 0 and room.nbytes == nbytes and room.dtype == np.uint8


def test_weights_stay_packed_where_there_are_kernels_and_nobody_says_off(monkeypatch: pytest.MonkeyPatch) -> None:
    for library, said, there in (
        (object(), None, True),
        (object(), "plain", True),
        (object(), "off", False),
        (None, None, False),
    ):
        monkeypatch.setattr(packed, "load", lambda library=library: library)
        monkeypatch.delenv("LIKELY_PACKED", raising=False)
        if said is not None:
            monkeypatch.setenv("LIKELY_PACKED", said)
        assert packed.available() == there
    with pytest.raises(PackedError, match="there are no kernels for packed weights on"):
        packed._library()


def test_threads_are_those_that_help_the_blas(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    handle = SimpleNamespace(likely_packed_threads=given.append)
    share = ctypes.CFUNCTYPE(None)(lambda: None)
    front: Any = SimpleNamespace(likely_share=share, likely_workers=lambda: 3)
    monkeypatch.setattr(packed, "load", lambda: SimpleNamespace(handle=handle))
    for library, threads in (
        (Blas("OpenBLAS", "", gemv=front, attention=True), 4), (Blas("OpenBLAS", "", gemv=front), 1),
        (Blas("OpenBLAS", "", attention=True), 1),
    ):  # fmt: skip
        monkeypatch.setattr(blas, "load", lambda library=library: library)
        given.clear()
        assert packed.use_threads() == threads and len(given) == (threads == 4)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A Linux machine whose site-packages are a folder, with no mlx imported yet."""
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delitem(sys.modules, "mlx.core", raising=False)
    monkeypatch.setattr(blas, "_site", lambda: tmp_path)
    blas.load.cache_clear()
    return tmp_path


def loaded() -> Blas:
    try:
        return blas.load()
    finally:
        blas.load.cache_clear()


def test_a_mac_has_its_own(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert loaded() == Blas("Accelerate", "system framework")


def test_what_stands_in_the_way_of_a_tuned_one_is_said(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def reason() -> str:
        found = loaded()
        assert (found.name, found.path, found.handle, found.gemv, found.attention) == (
            "reference", "mlx wheel", None, None, False,
        )  # fmt: skip
        return found.reason

    monkeypatch.setitem(sys.modules, "mlx.core", SimpleNamespace())  # type: ignore[arg-type]
    assert reason() == "mlx.core was imported before `metal`"
    monkeypatch.delitem(sys.modules, "mlx.core")
    assert reason() == "the package scipy-openblas32 is not installed: pip install scipy-openblas32"
    path = machine / "scipy_openblas32/lib/libscipy_openblas.so"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no library")
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    assert reason() == "there is no library in front of OpenBLAS for riscv64"
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    assert reason().startswith("OpenBLAS would not load: ")
    one = SimpleNamespace(scipy_openblas_get_config=lambda: b"OpenBLAS HASWELL")
    monkeypatch.setattr(ctypes, "CDLL", lambda *given: one)
    assert reason() == f"{path} was built for one processor, which this one may not be"


@pytest.mark.parametrize(("cores", "load", "idle"), [(8, 0.0, 8), (8, 2.4, 6), (8, 2.6, 5), (8, 7.6, 1), (2, 9.0, 1)])
def test_cores_that_others_use_are_left_to_them(
    cores: int, load: float, idle: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)), raising=False)
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 99.0, 99.0))
    assert blas.idle_cores() == idle


def test_threads_are_counted_where_openblas_is_the_blas(monkeypatch: pytest.MonkeyPatch) -> None:
    handle: Any = SimpleNamespace(scipy_openblas_get_num_threads=lambda: 3)
    monkeypatch.setattr(blas, "load", lambda: Blas("OpenBLAS", "", handle=handle))
    assert blas.threads() == 3
    monkeypatch.setattr(blas, "load", lambda: Blas("Accelerate", ""))
    assert blas.threads() is None
    assert float(np.finfo(np.float32).min) == blas.LEAST and (blas.QUERIES, blas.WIDTH) == (32, 256)


def test_packages_stand_where_mlx_is_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "work" / "mlx").mkdir(parents=True)
    (tmp_path / "site" / "mlx").mkdir(parents=True)
    (tmp_path / "site" / "mlx" / "core.so").touch()
    places = [str(tmp_path / "work" / "mlx"), str(tmp_path / "site" / "mlx")]
    monkeypatch.setattr(blas, "find_spec", lambda name: SimpleNamespace(submodule_search_locations=places))
    assert blas._site() == tmp_path / "site"
    monkeypatch.setattr(blas, "find_spec", lambda name: None)
    assert blas._site() == Path()
