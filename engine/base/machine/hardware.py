"""Facts of this machine: device, memory, BLAS, speed; and what would make it faster. Plain data.

Knows nothing of models; `likely doctor` prints it and the benchmarks record it.
"""

import os
import platform
import re
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from shlex import quote

import numpy as np

from likely.engine.base.concurrency.pace import now, since
from likely.metal import METAL, blas, left_alone, mx, packed
from likely.metal.device import available, compiles

PACKAGES = ("likely", "mlx", "mlx-lm", "tokenizers", "textual", "numpy")
SLOW_GFLOPS = 20.0  # a matmul below this is the reference BLAS, or tuned threads in each other's way
WEIGHT = 1 << 29  # bytes


@dataclass(frozen=True, slots=True)
class Machine:
    """Facts that do not change while the program runs; sizes in bytes."""

    system: str
    chip: str
    device: str  # metal | cuda | cpu
    cores: int
    memory: int
    blas: str
    blas_path: str
    blas_reason: str
    threads: int | None  # of the BLAS; None where it chooses itself
    one_row: bool  # products of one row go to gemv
    compiles: bool  # a model's steps go through mx.compile
    versions: dict[str, str]


def inspect() -> Machine:
    """Look at this machine; nothing is measured."""
    loaded = blas.load()
    device = "metal" if available() else "cuda" if mx.cuda.is_available() else "cpu"
    return Machine(
        system=f"{_system()} {platform.machine()}, Python {platform.python_version()}",
        chip=_chip(),
        device=device,
        cores=blas.cores(),
        memory=memory(),
        blas=loaded.name,
        blas_path=loaded.path,
        blas_reason=loaded.reason,
        threads=blas.threads(),
        one_row=loaded.gemv is not None,
        compiles=compiles(),
        versions=versions(),
    )


def _system() -> str:
    """The system by the name that its users know: macOS 15.2, not Darwin 24.2.

    To a Python that was built before macOS 26 that one says 16, which there never was (cpython issue 135675).
    """
    major, dot, rest = platform.mac_ver()[0].partition(".")
    if not major:
        return f"{platform.system()} {platform.release()}"
    return f"macOS {int(major) + 10 if 16 <= int(major) < 26 else major}{dot}{rest}"


def memory() -> int:
    """Bytes of main memory."""
    return int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def peak_memory() -> int:
    """The most bytes that this process has held so far."""
    try:  # getrusage would count what the program that started this one held then
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return 1024 * int(status.split("VmHWM:")[1].split()[0])
    except (OSError, IndexError):
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def held_memory() -> int:
    """The bytes that this process holds; where the system does not say so, the most that it has held so far."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * int(os.sysconf("SC_PAGE_SIZE"))
    except (OSError, IndexError):
        return peak_memory()


def versions() -> dict[str, str]:
    """Versions of the packages that decide what a number is."""
    from importlib.metadata import PackageNotFoundError, version  # reads mail: no business of who loads a model

    installed = {}
    for package in PACKAGES:
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            installed[package] = "missing"
    return installed


@cache
def gflops(repeats: int = 7) -> float:
    """GFLOP/s of a float32 matmul, the best of a few: what bounds the reading of a prompt. Measured once in a process,
    so that what it foretells of several trainings differs by the trainings."""
    square = mx.ones((768, 768))
    mx.eval(square)
    return 2 * 768**3 / min(_seconds(square @ square) for _ in range(repeats)) / 1e9


def bandwidth(repeats: int = 7) -> float:
    """GB/s of a one-row product that fits no cache, the best of a few: what bounds the drawing of tokens.

    Over 100 MB of a server's 480 MB cache it came out anywhere between 1 and 1.7 times what its memory gives.
    """
    tall, row = mx.ones((WEIGHT // (4 * 768), 768)), mx.ones((1, 768))
    mx.eval(tall, row)
    best = tall.nbytes / min(_seconds(row @ tall.T) for _ in range(repeats)) / 1e9
    del tall
    return max(best, _packed_bandwidth(repeats)) if packed.available() else best


def _packed_bandwidth(repeats: int) -> float:
    """The same of weights that stay packed, which are read in one stream, and faster."""
    packed.use_threads()
    matrix, row = packed.PackedMatrix("Q8_0", WEIGHT // 816, 768), np.ones((1, 768), np.float32)  # 816 bytes a row
    matrix.packed.fill(0)
    seconds = []
    for _ in range(repeats):
        began = now()
        matrix.product(row, packed.SIXTEEN)
        seconds.append(since(began))
    return matrix.nbytes / min(seconds) / 1e9


def advice(machine: Machine, gflops: float) -> list[str]:
    """Advice on what is slow here and how to mend it; empty where nothing is."""
    lines = []
    if machine.blas == "reference":
        lines.append(f"matmuls are some 100 times slower than they could be: {machine.blas_reason}")
    elif machine.device == "cpu" and gflops < SLOW_GFLOPS:
        lines.append(
            f"a matmul reaches only {gflops:.0f} GFLOP/s: other programs keep the cores busy, and BLAS threads wait "
            "for each other; try OPENBLAS_NUM_THREADS=1"
        )
    if machine.threads == 1 and machine.cores > 1 and "OPENBLAS_NUM_THREADS" not in os.environ:
        lines.append(
            f"{machine.cores} cores, but they were busy when the program began, so the BLAS uses one thread; "
            "OPENBLAS_NUM_THREADS sets another number"
        )
    if machine.system.startswith("macOS") and machine.device != "metal":
        absent = "mlx finds no Metal device: is this an Intel Mac, a virtual machine, or a Python for x86-64?"
        lines.append(f"{METAL}=0 leaves the GPU alone" if left_alone() else absent)
    if built := _older_mlx(machine):
        lines.append(
            f"mlx here was built for macOS {built} and leaves this chip's neural accelerators alone: "
            f"SYSTEM_VERSION_COMPAT=0 {quote(sys.executable)} -m pip install --force-reinstall --no-deps mlx mlx-metal"
        )
    return lines


def _older_mlx(machine: Machine) -> int:
    """The macOS before 26 that an M5's mlx was built for, where 26.2 runs or a later one; 0 where all is well.

    Only the wheel for 26 has kernels for its matrices, and pip passes it over for a Python that is told 16 (`_system`).
    """
    from importlib.metadata import PackageNotFoundError, distribution

    chip, system = re.match(r"Apple M(\d+)", machine.chip), re.match(r"macOS (\d+)\.?(\d*)", machine.system)
    if chip is None or system is None or int(chip[1]) < 5 or (int(system[1]), int(system[2] or 0)) < (26, 2):
        return 0
    try:
        built = re.search(r"macosx_(\d+)", distribution("mlx-metal").read_text("WHEEL") or "")
    except PackageNotFoundError:
        return 0
    return 0 if built is None or int(built[1]) >= 26 else int(built[1])


def _seconds(lazy: mx.array) -> float:
    began = now()
    mx.eval(lazy)
    return since(began)


def _chip() -> str:
    info = mx.device_info(mx.gpu if available() else mx.cpu)  # on a Mac platform.processor() is "arm" for any
    return str(info.get("device_name") or platform.machine())
