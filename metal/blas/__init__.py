"""Loads a tuned BLAS before mlx on Linux, and corrects one slow routine of it.

Read first: __init__.py.
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

PACKAGE, LIBRARY = "scipy-openblas32", "scipy_openblas32/lib/libscipy_openblas.so"
CHOOSES = b"DYNAMIC_ARCH"  # among what a library says of itself: it looks at the processor when it is loaded
LEAST = -(2.0 - 2.0**-23) * 2.0**127  # the least float32: by this factor nobody multiplies
QUERIES, WIDTH = 32, 256  # the most rows of such a product, and numbers of a value (attention.h)


@dataclass(frozen=True)
class Blas:
    """The BLAS behind mlx's float32 matmul: its `name`, where it came from and, if it is not tuned, the `reason`."""

    name: str
    path: str
    reason: str = ""
    handle: ctypes.CDLL | None = None
    gemv: ctypes.CDLL | None = None  # takes products of few rows; None where gemm does
    attention: bool = False  # a product by LEAST has the softmax of its first matrix, and reads the second once


@cache
def load() -> Blas:
    """Load the tuned BLAS once; on a Mac, or where it cannot be had, say what is used instead."""
    if sys.platform != "linux":
        return Blas("Accelerate", "system framework")
    if "mlx.core" in sys.modules:
        return Blas("reference", "mlx wheel", "mlx.core was imported before `metal`")
    path = _site() / LIBRARY
    if not path.exists():
        return Blas("reference", "mlx wheel", f"the package {PACKAGE} is not installed: pip install {PACKAGE}")
    front = Path(__file__).with_name(f"gemv-{platform.machine()}.so")
    if not front.exists():
        return Blas("reference", "mlx wheel", f"there is no library in front of OpenBLAS for {platform.machine()}")
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        return Blas("reference", "mlx wheel", f"OpenBLAS would not load: {error}")
    if not chooses(library):
        return Blas("reference", "mlx wheel", f"{path} was built for one processor, which this one may not be")
    # The linker takes the symbol of whichever became global first: the few-row library, once it knows where to pass on.
    gemv = ctypes.CDLL(str(front))
    functions = library.scipy_cblas_sgemm, library.scipy_cblas_sgemv, ctypes.CDLL(None).syscall
    attention = bool(gemv.likely_blas_init(*map(_address, functions)))
    ctypes.CDLL(str(front), ctypes.RTLD_GLOBAL)
    if "OPENBLAS_NUM_THREADS" not in os.environ:
        library.scipy_openblas_set_num_threads(idle_cores())
    if attention:
        _share_threads(library, gemv)
    return Blas("OpenBLAS", str(path), handle=library, gemv=gemv, attention=attention)


def chooses(library: Any) -> bool:
    """Whether an OpenBLAS chooses its kernels by the processor that it runs on."""
    config = library.scipy_openblas_get_config
    config.restype = ctypes.c_char_p
    return CHOOSES in config()


def _share_threads(library: ctypes.CDLL, gemv: ctypes.CDLL) -> None:
    """Give `library`'s jobs to the threads that attention has, instead of threads of its own, as many as it may use.

    Its own spin for 20 ms after every product, on the core where ours would read half of the keys.
    """
    more = library.scipy_openblas_get_num_threads() - 1
    try:
        for _ in range(more):
            threading.Thread(target=gemv.likely_worker, name="blas", daemon=True).start()
    except RuntimeError:  # no more threads to be had: those that there are help attention
        return
    while gemv.likely_workers() < more:
        time.sleep(0)
    set_callback = library.scipy_openblas_set_threads_callback_function
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


def cores() -> int:
    """Cores that this process may run on."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def idle_cores() -> int:
    """Cores that nothing else was using over the last minute, at least one.

    OpenBLAS's threads spin while they wait for each other: on two busy cores two of them made the same matmul a hundred
    times slower, where one thread is at worst half as fast as the best choice.
    """
    return max(1, cores() - round(os.getloadavg()[0]))


def threads() -> int | None:
    """How many threads OpenBLAS uses; None where it is not the BLAS."""
    handle = load().handle
    return int(handle.scipy_openblas_get_num_threads()) if handle is not None else None
