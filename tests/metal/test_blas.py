"""The BLAS that stands in front of mlx's."""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from likely.metal import blas, mx
from tests.processes import by_threads
from tests.sharing import cores

linux = pytest.mark.linux  # a Mac uses Accelerate


@linux
def test_a_tuned_blas_is_loaded() -> None:
    assert blas.load().name == "OpenBLAS", blas.load().reason


OF_THE_OLDEST = """
from likely.metal import blas, mx
import ctypes
core = blas.load().handle.scipy_openblas_get_corename
core.restype = ctypes.c_char_p
x = mx.ones((64, 64))
print(core().decode(), *[int((x[:rows] @ x).sum().item()) for rows in (1, 8, 9, 64)])
"""


@linux
@pytest.mark.skipif(platform.machine() != "x86_64", reason="a name of x86-64")
def test_products_run_on_a_processor_without_avx() -> None:
    """A BLAS built for the processor of its builder ignores which one this is, and dies of an instruction it lacks."""
    env = os.environ | {"OPENBLAS_CORETYPE": "Nehalem"}
    run = subprocess.run([sys.executable, "-c", OF_THE_OLDEST], capture_output=True, text=True, env=env, check=False)
    assert run.stdout.split() == ["Nehalem", *(str(64 * 64 * rows) for rows in (1, 8, 9, 64))], run.stderr


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where mlx is installed on a Linux machine that has not imported it; a folder called mlx stands before it."""
    (tmp_path / "work" / "mlx").mkdir(parents=True)
    (tmp_path / "site" / "mlx").mkdir(parents=True)
    (tmp_path / "site" / "mlx" / "core.so").touch()
    monkeypatch.setattr("sys.path", [str(tmp_path / "work"), str(tmp_path / "site")])
    monkeypatch.setattr("sys.platform", "linux")
    for name in ("mlx", "mlx.core"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path / "site"


def test_what_stands_in_the_way_of_a_tuned_blas_is_said(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def reason() -> str:
        found = blas.load.__wrapped__()
        assert found == blas.Blas("reference", "mlx wheel", found.reason)
        return found.reason

    monkeypatch.setitem(sys.modules, "mlx.core", SimpleNamespace())  # type: ignore[arg-type]
    assert reason() == "mlx.core was imported before `metal`"
    monkeypatch.delitem(sys.modules, "mlx.core")
    assert reason() == "the package scipy-openblas32 is not installed: pip install scipy-openblas32"
    path = site / "scipy_openblas32/lib/libscipy_openblas.so"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no library")
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    assert reason() == "there is no library in front of OpenBLAS for riscv64"
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert reason().startswith("OpenBLAS would not load: ")
    for config in (b"OpenBLAS 0.3.31 NO_AFFINITY SKYLAKEX MAX_THREADS=4", b""):
        monkeypatch.setattr("ctypes.CDLL", lambda *_, config=config: built(config))
        assert reason() == f"{path} was built for one processor, which this one may not be"
    monkeypatch.setattr("sys.platform", "darwin")
    assert blas.load.__wrapped__() == blas.Blas("Accelerate", "system framework")


def built(config: bytes) -> SimpleNamespace:
    """An OpenBLAS that says this of itself."""
    return SimpleNamespace(scipy_openblas_get_config=lambda: config)


@pytest.mark.parametrize(("cores", "load", "idle"), [(8, 0.0, 8), (8, 2.4, 6), (8, 2.6, 5), (8, 7.6, 1), (2, 9.0, 1)])
def test_cores_that_others_use_are_left_to_them(
    cores: int, load: float, idle: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 99.0, 99.0))
    assert blas.idle_cores() == idle


@linux
def test_mlx_imported_first_is_reported_not_hidden() -> None:
    code = "import mlx.core; from likely.metal import blas; print(blas.load().reason)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "imported before" in out.stdout


@linux
def test_a_folder_called_mlx_in_the_working_directory_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "mlx").mkdir()
    code = (
        f"import sys; sys.path.insert(1, {str(Path.cwd())!r}); from likely.metal import blas; print(blas.load().name)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert out.stdout.strip() == "OpenBLAS"


@linux
@pytest.mark.parametrize("arch", ["x86_64", "aarch64"])
def test_the_shipped_library_is_built_from_the_source_beside_it(arch: str) -> None:
    folder = Path(blas.__file__).parent
    sources = sorted(path for path in folder.iterdir() if path.suffix in {".c", ".h"})
    source = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    assert source.encode() in (folder / f"gemv-{arch}.so").read_bytes(), "run `make metal/blas`"


@linux
@pytest.mark.parametrize("width", [96, 301])
@pytest.mark.parametrize("rows", [1, 2, 5, 9, 32, 33])
def test_products_equal_float64(rows: int, width: int) -> None:
    """Every layout that mlx can ask for: plain, transposed, strided, with an added bias."""
    rng = np.random.default_rng(rows)
    x, w, c = rng.normal(size=(rows, width)), rng.normal(size=(163, width)), rng.normal(size=(rows, 163))
    want = x @ w.T
    mx_x, mx_w, mx_c = (mx.array(a.astype(np.float32)) for a in (x, w, c))
    got = {
        "x w^T": mx_x @ mx_w.T,
        "x w": mx_x @ mx.contiguous(mx_w.T),
        "(x^T)^T w": mx.contiguous(mx_x.T).T @ mx.contiguous(mx_w.T),
        "(x^T)^T w^T": mx.contiguous(mx_x.T).T @ mx_w.T,
        "batched": (mx.broadcast_to(mx_x, (3, rows, width)) @ mx.broadcast_to(mx_w.T, (3, width, 163)))[1],
    }
    for name, value in got.items():
        np.testing.assert_allclose(np.array(value), want, atol=2e-4, err_msg=name)
    np.testing.assert_allclose(np.array(mx.addmm(mx_c, mx_x, mx_w.T, alpha=0.5, beta=2.0)), want / 2 + 2 * c, atol=2e-4)


def mixed(scores: np.ndarray, values: np.ndarray) -> np.ndarray:
    """softmax(scores) values by the library in front of the BLAS."""
    zeros = mx.zeros((len(scores), values.shape[1]))
    a, b = mx.array(scores.astype(np.float32)), mx.array(values.astype(np.float32))
    return np.array(mx.addmm(zeros, a, b, alpha=blas.LEAST, beta=0.0))


def softmax(scores: np.ndarray) -> np.ndarray:
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


@linux
@pytest.mark.parametrize("size", [1, 5, 64, 80, 256])
@pytest.mark.parametrize(("rows", "n"), [(1, 1), (3, 3), (1, 130), (2, 511), (3, 512), (4, 2049), (8, 700), (32, 9001)])
def test_the_softmax_in_a_product_equals_float64(rows: int, n: int, size: int) -> None:
    rng = np.random.default_rng(n)
    scores, values = 8 * rng.normal(size=(rows, n)), rng.normal(size=(n, size))
    scores[:, : n // 3] = -np.inf  # what a mask hides
    scores, values = scores.astype(np.float32), values.astype(np.float32)
    np.testing.assert_allclose(mixed(scores, values), softmax(scores.astype(float)) @ values, atol=2e-6)


@linux
@pytest.mark.parametrize("scale", [1e-30, 1, 80, 1e4, 1e30])
def test_a_softmax_of_any_size(scale: float) -> None:
    """Weights from all the same to one alone, those too small for a float among them."""
    scores = np.float32(scale) * np.linspace(-1, 1, 999, dtype=np.float32)[None]
    values = np.eye(999, 256, -743)  # those of the largest scores
    got, want = mixed(scores, values), softmax(scores.astype(float)) @ values
    np.testing.assert_allclose(got, want, rtol=3e-6, atol=1e-37)


@linux
def test_what_is_no_number_stays_none() -> None:
    for bad in (np.nan, np.inf):
        for n, at in ((5, 2), (2000, 0), (2000, 1999)):
            scores = np.zeros((2, n))
            scores[1, at] = bad
            got = mixed(scores, np.ones((n, 16)))
            np.testing.assert_allclose(got[0], 1.0, atol=1e-6)
            assert np.isnan(got[1]).all()


@linux
def test_a_query_is_the_same_whatever_stands_beside_or_after_it() -> None:
    """Beside other queries, and before keys that it must not see: what checks guesses draws as one at a time does."""
    rng = np.random.default_rng(0)
    scores, values = rng.normal(size=(8, 3000)), rng.normal(size=(3010, 64))
    together = mixed(scores, values[:3000])
    hidden = np.pad(scores, ((0, 0), (0, 10)), constant_values=-np.inf)
    np.testing.assert_array_equal(mixed(hidden, values), together)
    np.testing.assert_array_equal(np.concatenate([mixed(row[None], values[:3000]) for row in scores]), together)


THREADS = """
import sys, threading
import numpy as np
from likely.metal import blas, mx

rng = np.random.default_rng(0)
q, keys, values = (rng.normal(size=s).astype(np.float32) for s in ((6, 64), (8200, 64), (8200, 64)))
square = rng.normal(size=(700, 700)).astype(np.float32)
truth = square.astype(float) @ square

def work(out):
    for _ in range(20):
        scores = mx.array(q) @ mx.array(keys).T
        mix = np.array(mx.addmm(mx.zeros((6, 64)), scores, mx.array(values), alpha=blas.LEAST, beta=0.0))
        out.append(np.append(mix, np.array(mx.array(square[:7]) @ mx.array(square).T)))
        np.testing.assert_allclose(np.array(mx.array(square) @ mx.array(square)), truth, atol=1e-3)

outs = [[], []]
threads = [threading.Thread(target=work, args=(out,)) for out in outs]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
assert blas.threads() == int(sys.argv[1]) and blas.load().gemv.likely_workers() == int(sys.argv[1]) - 1
assert len(outs[0]) == len(outs[1]) == 20 and len({out.tobytes() for out in outs[0] + outs[1]}) == 1
sys.stdout.buffer.write(outs[0][0].tobytes())
"""


@linux
@pytest.mark.skipif(cores() == 1, reason="OpenBLAS takes no more threads than there are cores")
@pytest.mark.slow
def test_threads_share_the_work_and_change_no_bit() -> None:
    """Two callers at once, with one thread and with two: attention, a weight by few rows, and OpenBLAS between them."""
    assert by_threads(THREADS, 1) == by_threads(THREADS, 2) != b""


FORK = """
import os
from likely.metal import mx

mx.default_device()
child = os.fork()
if not child:
    mx.eval(mx.ones((600, 600)) @ mx.ones((600, 600)))
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
"""


@pytest.mark.slow
@linux
def test_a_fork_multiplies_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has none of the threads that would help it."""
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    subprocess.run([sys.executable, "-c", FORK], check=True)


@linux
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_attention_runs_on_both_machines(machine: str, tmp_path: Path) -> None:
    """The other one in an emulator (Debian: qemu-user), which has no libc either."""
    emulator = "" if platform.machine() == machine else shutil.which(f"qemu-{machine}")
    if emulator is None:
        pytest.skip(f"no emulator for {machine} here: apt-get install qemu-user")
    folder, program = Path(blas.__file__).parent, tmp_path / "attention"
    sources = [str(folder / "attention.c"), str(Path(__file__).with_name("standalone.c"))]
    compiler = [sys.executable, "-m", "ziglang", "cc", "-target", f"{machine}-linux-gnu", "-O2", "-I", str(folder)]
    flags = ["-nostdlib", "-static", "-ffreestanding", "-fno-sanitize=undefined", "-o", str(program)]
    subprocess.run([*compiler, *flags, *sources], check=True)
    run = subprocess.run([*([emulator] if emulator else []), str(program)], check=True, capture_output=True)
    got = np.frombuffer(run.stdout, np.float32)

    def filled(*shape: int) -> np.ndarray:
        return (np.arange(np.prod(shape)) * 37 % 101 / 50 - 1).reshape(shape)

    scores = filled(5, 70) @ filled(1030, 70).T
    np.testing.assert_allclose(got[: scores.size].reshape(scores.shape), scores, atol=1e-4)
    np.testing.assert_allclose(got[scores.size :].reshape(5, 44), softmax(scores) @ filled(1030, 44), atol=1e-4)


@linux
def test_a_row_is_the_same_whatever_stands_beside_it() -> None:
    """A weight of several tiles, the last one short, by a width that fills no vector."""
    rng = np.random.default_rng(0)
    x, w = (mx.array(rng.normal(size=s).astype(np.float32)) for s in ((8, 579), (1001, 579)))
    alone = np.concatenate([np.array(x[i : i + 1] @ w.T) for i in range(8)])
    np.testing.assert_allclose(alone, np.array(x, np.float64) @ np.array(w, np.float64).T, atol=1e-4)
    for rows in range(1, 9):
        np.testing.assert_array_equal(np.array(x[:rows] @ w.T), alone[:rows])
