"""Puts a tuned BLAS in front of mlx's reference one, on Linux.

The `cmeel-openblas` wheel has the standard symbol names, but expects a system `libgfortran.so.5`, which a fresh machine
lacks. mlx's own wheel carries that library under a hashed name; a copy of it in memory that calls itself
`libgfortran.so.5` satisfies the linker. Measured on 2 cores of an EPYC: 450 GFLOP/s in a float32 matmul against 4.3
(docs/log.md).

In front of that stands `gemv.c`, prebuilt for the two Linux architectures: it sends products of up to eight rows, which
is all that decoding does, to `cblas_sgemv`; one row three times faster than OpenBLAS's gemm on a vocabulary head, four
rows twice. The two products of attention for a few queries it computes itself (`attention.c`), at the speed of memory.
"""

import ctypes
import os
import platform
import sys
import threading
import time
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

GFORTRAN = b"libgfortran.so.5"
LEAST = -(2.0 - 2.0**-23) * 2.0**127  # the least float32: by this factor nobody multiplies
QUERIES, WIDTH = 32, 256  # the most rows of such a product, and numbers of a value (attention.h)


@dataclass(frozen=True)
class Blas:
    """The BLAS behind mlx's float32 matmul: its `name`, where it came from and, if it is not tuned, the `reason`."""

    name: str
    path: str
    reason: str = ""
    handle: ctypes.CDLL | None = None
    gemv: ctypes.CDLL | None = None  # products of few rows go to sgemv; None where gemm takes them
    attention: bool = False  # a product by LEAST has the softmax of its first matrix, and reads the second once


@cache
def load() -> Blas:
    """Load the tuned BLAS once; on a Mac, or where it cannot be had, say what is used instead."""
    if sys.platform != "linux":
        return Blas("Accelerate", "system framework")
    if "mlx.core" in sys.modules:
        return Blas("reference", "mlx wheel", "mlx.core was imported before `metal`")
    found = sorted(_site().glob("cmeel.prefix/lib/libopenblas.so*"))
    if not found:
        return Blas("reference", "mlx wheel", "the package cmeel-openblas is not installed: pip install cmeel-openblas")
    path = str(found[0])
    try:
        try:
            library = ctypes.CDLL(path)
        except OSError:
            _load_gfortran()
            library = ctypes.CDLL(path)
    except OSError as error:
        return Blas("reference", "mlx wheel", f"OpenBLAS would not load: {error}")
    # The linker takes the symbol of whichever became global first: the few-row library, once it knows where to pass on.
    gemv, attention = _load_gemv(library)
    ctypes.CDLL(path, ctypes.RTLD_GLOBAL)
    if "OPENBLAS_NUM_THREADS" not in os.environ:
        library.openblas_set_num_threads(idle_cores())
    if gemv is not None and attention:
        _share_threads(library, gemv)
    return Blas("OpenBLAS", path, handle=library, gemv=gemv, attention=attention)


def _load_gemv(library: ctypes.CDLL) -> tuple[ctypes.CDLL | None, bool]:
    """The library of gemv.c in front of `library`, and whether it has attention's products; None without a build."""
    path = Path(__file__).with_name(f"gemv-{platform.machine()}.so")
    if not path.exists():
        return None, False
    gemv = ctypes.CDLL(str(path))
    functions = library.cblas_sgemm, library.cblas_sgemv, ctypes.CDLL(None).syscall
    attention = bool(gemv.likely_blas_init(*map(_address, functions)))
    return ctypes.CDLL(str(path), ctypes.RTLD_GLOBAL), attention


def _share_threads(library: ctypes.CDLL, gemv: ctypes.CDLL) -> None:
    """Give `library`'s jobs to the threads that attention has, instead of threads of its own, as many as it may use.

    Its own spin for 20 ms after every product, on the core where ours would read half of the keys.
    """
    more = library.openblas_get_num_threads() - 1
    try:
        for _ in range(more):
            threading.Thread(target=gemv.likely_worker, name="blas", daemon=True).start()
    except RuntimeError:  # no more threads to be had: those that there are help attention
        return
    while gemv.likely_workers() < more:
        time.sleep(0)
    set_callback = library.openblas_set_threads_callback_function
    set_callback(_address(gemv.likely_blas_jobs))

    def alone() -> None:  # a fork has the thread that forked
        set_callback(None)
        gemv.likely_alone()

    os.register_at_fork(after_in_child=alone)


def _address(function: Any) -> ctypes.c_void_p:
    return ctypes.cast(function, ctypes.c_void_p)


def _site() -> Path:
    """The site-packages folder that mlx is installed in."""
    spec = find_spec("mlx")
    # mlx is a namespace package: any folder called mlx in the working directory counts as a part of it
    parts = [Path(part).parent for part in (spec and spec.submodule_search_locations) or ()]
    return next((site for site in parts if any(site.glob("mlx/core.*"))), Path())


def _load_gfortran() -> None:
    """Make `libgfortran.so.5` known to the linker from mlx's or numpy's wheel; OSError if neither has one."""
    for source in [*_site().glob("mlx_cpu.libs/libgfortran-*"), *_site().glob("numpy.libs/libgfortran-*")]:
        for quadmath in source.parent.glob("libquadmath-*"):
            ctypes.CDLL(str(quadmath), ctypes.RTLD_GLOBAL)
        soname = source.name.encode() + b"\0"
        image = source.read_bytes().replace(soname, GFORTRAN.ljust(len(soname), b"\0"))
        descriptor = os.memfd_create("libgfortran")
        with open(descriptor, "wb", closefd=False) as file:
            file.write(image)
        ctypes.CDLL(f"/proc/self/fd/{descriptor}", ctypes.RTLD_GLOBAL)
        return
    raise OSError("no libgfortran.so.5 in the system or in a wheel")


def idle_cores() -> int:
    """Cores that nothing else was using over the last minute, at least one.

    OpenBLAS's threads spin while they wait for each other: on two busy cores two of them made the same matmul a hundred
    times slower, where one thread is at worst half as fast as the best choice.
    """
    return max(1, len(os.sched_getaffinity(0)) - round(os.getloadavg()[0]))


def threads() -> int | None:
    """How many threads OpenBLAS uses; None where it is not the BLAS."""
    handle = load().handle
    return int(handle.openblas_get_num_threads()) if handle is not None else None
