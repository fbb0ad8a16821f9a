"""The BLAS that stands in front of mlx's."""

import ctypes
import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from metal import blas, mx

linux = pytest.mark.skipif(sys.platform != "linux", reason="a Mac uses Accelerate")


@linux
def test_a_tuned_blas_is_loaded() -> None:
    assert blas.load().name == "OpenBLAS", blas.load().reason


@linux
def test_mlx_imported_first_is_reported_not_hidden() -> None:
    code = "import mlx.core; from metal import blas; print(blas.load().reason)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "imported before" in out.stdout


@linux
def test_a_folder_called_mlx_in_the_working_directory_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "mlx").mkdir()
    code = f"import sys; sys.path.insert(1, {str(Path.cwd())!r}); from metal import blas; print(blas.load().name)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert out.stdout.strip() == "OpenBLAS"


@linux
@pytest.mark.parametrize("arch", ["x86_64", "aarch64"])
def test_the_shipped_library_is_built_from_the_source_beside_it(arch: str) -> None:
    folder = Path(blas.__file__).parent
    source = hashlib.sha256((folder / "gemv.c").read_bytes()).hexdigest()
    assert source.encode() in (folder / f"gemv-{arch}.so").read_bytes(), "run `make metal/blas`"


@linux
@pytest.mark.parametrize("rows", [1, 2, 5, 9])
def test_products_equal_float64(rows: int) -> None:
    """Every layout that mlx can ask for: plain, transposed, strided, with an added bias."""
    rng = np.random.default_rng(rows)
    x, w, c = rng.normal(size=(rows, 96)), rng.normal(size=(160, 96)), rng.normal(size=(rows, 160))
    want = x @ w.T
    mx_x, mx_w, mx_c = (mx.array(a.astype(np.float32)) for a in (x, w, c))
    got = {
        "x w^T": mx_x @ mx_w.T,
        "x w": mx_x @ mx.contiguous(mx_w.T),
        "(x^T)^T w": mx.contiguous(mx_x.T).T @ mx.contiguous(mx_w.T),
        "batched": (mx.broadcast_to(mx_x, (3, rows, 96)) @ mx.broadcast_to(mx_w.T, (3, 96, 160)))[1],
    }
    for name, value in got.items():
        np.testing.assert_allclose(np.array(value), want, atol=2e-4, err_msg=name)
    np.testing.assert_allclose(np.array(mx.addmm(mx_c, mx_x, mx_w.T, alpha=0.5, beta=2.0)), want / 2 + 2 * c, atol=2e-4)


@linux
def test_up_to_eight_rows_of_a_weight_take_the_fast_path() -> None:
    library = blas.load().gemv
    assert library is not None
    taken = ctypes.c_long.in_dll(library, "likely_rows_to_gemv")
    weight = mx.random.normal((64, 32))
    for rows, more in ((1, 1), (2, 2), (8, 8), (9, 0)):
        before = taken.value
        mx.eval(mx.random.normal((rows, 32)) @ weight.T)
        assert taken.value == before + more, rows


@linux
def test_a_row_is_the_same_whatever_stands_beside_it() -> None:
    """A weight of several blocks, the last one short; one thread, since two share out a short sum otherwise."""
    before, handle = blas.threads(), blas.load().handle
    assert before is not None
    assert handle is not None
    handle.openblas_set_num_threads(1)
    rng = np.random.default_rng(0)
    x, w = (mx.array(rng.normal(size=s).astype(np.float32)) for s in ((8, 576), (1001, 576)))
    together, alone = np.array(x @ w.T), np.concatenate([np.array(x[i : i + 1] @ w.T) for i in range(8)])
    np.testing.assert_allclose(together, np.array(x, np.float64) @ np.array(w, np.float64).T, atol=1e-4)
    np.testing.assert_array_equal(together, alone)
    handle.openblas_set_num_threads(before)
