"""A clang that pip can install, and a cache of what it has compiled.

`zig clang` and `zig ld.lld` of the `ziglang` package are a plain clang and linker; nothing of Zig's own is built, and
the simulator needs no C or C++ library. A system clang++ >= 17 serves as well. Knows nothing of Metal beyond the folder
`msl/`.
"""

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from likely.metal.errors import KernelError
from likely.metal.lock import alone
from likely.metal.simulator.places import placed
from likely.metal.simulator.rewrite import rewrite

MSL = Path(__file__).parent / "msl"
OLDEST_CLANG = 17


@dataclass(frozen=True)
class Compiler:
    """How to call a clang: `compile` for objects, `link` for shared libraries."""

    compile: tuple[str, ...]
    link: tuple[str, ...]
    version: str


def cache_folder() -> Path:
    """Where compiled kernels are kept: LIKELY_SIMULATOR_CACHE, or the user's cache folder."""
    if chosen := os.environ.get("LIKELY_SIMULATOR_CACHE"):
        return Path(chosen)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "likely" / "simulator"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "likely" / "simulator"


@cache
def find() -> Compiler:
    """The compiler: ziglang's clang, else a system one.

    Raises KernelError where there is neither.
    """
    spec = find_spec("ziglang")
    if spec is not None and spec.origin is not None:
        zig = str(Path(spec.origin).parent / "zig")
        version = _output([zig, "clang", "--version"]).partition("InstalledDir")[0]
        if sys.platform == "darwin":  # lld writes no Mach-O for zig; its own linker does
            return Compiler(
                (zig, "clang"), (zig, "c++", "-shared", "-nostdlib++", "-undefined", "dynamic_lookup"), version
            )
        return Compiler((zig, "clang"), (zig, "ld.lld", "-shared"), version)
    for name in ("clang++", *(f"clang++-{n}" for n in range(30, OLDEST_CLANG - 1, -1))):
        path = shutil.which(name)
        if path is None:
            continue
        version = _output([path, "--version"])
        match = re.search(r"version (\d+)", version)
        if match and int(match[1]) >= OLDEST_CLANG:
            extra = ("-undefined", "dynamic_lookup") if sys.platform == "darwin" else ()
            return Compiler((path,), (path, "-shared", "-nostdlib", *extra), version)
    raise KernelError(
        f"the Metal simulator needs a clang: expected the package ziglang or clang++ >= {OLDEST_CLANG}, found neither; "
        "run: pip install ziglang"
    )


def _output(command: Sequence[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


@cache
def machine_flags(machine: str = "") -> tuple[str, ...]:
    """Flags for this processor. F16C and FMA on x86-64 where it has them: without them half is ten times slower."""
    if (machine or platform.machine()) not in ("x86_64", "AMD64"):
        return ()
    try:
        known = Path("/proc/cpuinfo").read_text()
    except OSError:
        known = ""
    modern = all(re.search(rf"\b{flag}\b", known) for flag in ("avx2", "f16c", "fma", "bmi2"))
    return ("-march=x86-64-v3",) if modern else ("-march=x86-64-v2",)


def _flags(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# Bytes of a lane's own variables: its stack has twice that.
FRAME = _flags("-Wframe-larger-than=65536 -Werror=frame-larger-than")
# Each half and bfloat operation rounds (clang would compute chains in float), products and sums are not fused, and no
# header of the machine is seen.
LANGUAGE = _flags("""
    -std=c++17 -nostdinc -fPIC -fvisibility=hidden -fno-exceptions -fno-rtti -fno-stack-protector
    -fno-threadsafe-statics
    -ffp-contract=off -fno-math-errno -fno-trapping-math -fno-lax-vector-conversions
    -Xclang -ffloat16-excess-precision=none -Xclang -fbfloat16-excess-precision=none
    -Wno-everything -fno-caret-diagnostics -fno-color-diagnostics
""")
PLAIN = _flags("-O1 -fmax-type-align=1")  # a misaligned vector is found by checked runs, and kills nobody here
CHECKED = _flags("-O1 -DMSL_CHECKED -gline-tables-only")
# The memory hooks of places.py and check.cpp, for each access that may leave the lane, and checks of clang's own:
# straight to the compiler proper, for its driver would ask whether the machine has the sanitizers' libraries.
INSTRUMENT = _flags("""
    -Xclang -fsanitize=kernel-address,array-bounds,alignment,integer-divide-by-zero
    -Xclang -fsanitize-recover=kernel-address,array-bounds,alignment,integer-divide-by-zero
    -mllvm -asan-instrumentation-with-call-threshold=0 -mllvm -asan-kernel-mem-intrinsic-prefix=1
    -mllvm -asan-stack=0 -mllvm -asan-globals=0 -mllvm -asan-opt=0 -mllvm -asan-use-stack-safety=0
    -mllvm -asan-constructor-kind=none
    -ftrivial-auto-var-init=pattern
""")
# From the LLVM text to the object.
SECOND_HALF = (*_flags("-fPIC -O1 -Xclang -disable-llvm-passes -Wno-everything"), *FRAME, *_flags("-x ir -c"))
# C++ for OpenCL 2021, whose types carry address spaces; without doubles.
STRICT = _flags("""
    -x clcpp -cl-std=clc++2021 -cl-no-stdinc -nostdinc -DMSL_STRICT -target x86_64-linux-gnu
    -fno-caret-diagnostics -fno-color-diagnostics -ferror-limit=0
    -Wno-everything -Wimplicit-float-conversion -Wdouble-promotion
    -Werror=uninitialized -Werror=sometimes-uninitialized -S -emit-llvm -O0 -gline-tables-only
""")


@dataclass(frozen=True)
class Build:
    """One way to compile: its flags and the folder with its precompiled header and runtime."""

    flags: tuple[str, ...]
    folder: Path

    @property
    def header(self) -> Path:
        return self.folder / "prelude.pch"

    @property
    def runtime(self) -> tuple[Path, ...]:
        return tuple(sorted(self.folder.glob("*.o")))


def mlx_headers() -> Path:
    """The root of the Metal headers in the installed mlx package."""
    spec = find_spec("mlx")
    for place in (spec.submodule_search_locations or ()) if spec is not None else ():
        root = Path(place) / "include"
        if (root / "mlx" / "backend" / "metal" / "kernels" / "utils.h").exists():
            return root
    raise KernelError(
        "expected the Metal headers in the mlx package, found none; run: pip install --force-reinstall mlx"
    )


@cache
def prepare(checked: bool) -> Build:
    """The build's precompiled header and runtime, made at the first call ever (a second) and kept."""
    runtime = (*LANGUAGE, *FRAME, *machine_flags(), *(CHECKED if checked else PLAIN))
    flags = (*runtime, *(INSTRUMENT if checked else ()))
    sources = {path.relative_to(MSL): path.read_text() for path in sorted(MSL.rglob("*.*"))}
    rules = [
        (Path(__file__).parent / name).read_text()
        for name in ("compiler.py", "places.py", "program.py", "rewrite.py", "signature.py", "tokens.py")
    ]
    key = _digest(find().version, *flags, *rules, *sources.values(), *_headers().values())
    folder = _folder(cache_folder()) / key
    with alone(cache_folder() / "lock"):
        if not (folder / "done").exists():
            _forget(cache_folder())
            _prepare(folder, sources, runtime, flags)
        (folder / "done").touch()
    return Build(flags, folder)


def _forget(root: Path, days: int = 30) -> None:
    """Remove the builds that nobody has used for a while: each version of the simulator makes its own."""
    for done in root.glob("*/done"):
        if done.stat().st_mtime < time.time() - days * 86400:
            shutil.rmtree(done.parent, ignore_errors=True)


def _prepare(folder: Path, sources: dict[Path, str], runtime: Sequence[str], flags: Sequence[str]) -> None:
    include = folder / "include"
    for place, code in _headers().items():
        _write(include / place, rewrite(code))
        _write(folder / "strict" / place, rewrite(code, strict=True))
    for place, code in sources.items():
        _write(include / place, code)
        _write(folder / "strict" / place, code)
    prelude = include / "prelude.h"
    _write(prelude, '#include "msl.h"\n#include "mlx/backend/metal/kernels/utils.h"\n')
    compiler = find().compile
    _run([*compiler, *flags, "-I", str(include), "-x", "c++-header", str(prelude), "-o", str(folder / "prelude.pch")])
    for name in ("runtime", "check"):
        _run([*compiler, *runtime, "-O2", "-c", str(include / f"{name}.cpp"), "-o", str(folder / f"{name}.o")])


@cache
def _headers() -> dict[Path, str]:
    """The text of each header, whichever environment it lies in: all clones share what was compiled."""
    root = mlx_headers()
    paths = sorted((root / "mlx" / "backend" / "metal" / "kernels").rglob("*.h"))
    return {path.relative_to(root): path.read_text() for path in paths}


def library(name: str, checked: bool, identity: Sequence[str], text: Callable[[], str]) -> Path:
    """The shared library of the C++ that `text` makes, compiled, or from the cache by what identifies it.

    Raises KernelError with the first diagnostics where it does not compile.
    """
    build = prepare(checked)
    path = build.folder / f"{name}-{_digest(*identity)}.so"
    if not path.exists():
        compiler = find()
        with tempfile.TemporaryDirectory(dir=build.folder) as scratch:
            source, code, unit, built = (Path(scratch) / f"kernel.{kind}" for kind in ("cpp", "ll", "o", "so"))
            source.write_text(text())
            command = [*compiler.compile, *build.flags, "-include-pch", str(build.header)]
            command += ["-I", str(build.folder / "include"), str(source)]
            if checked:
                _run([*command, "-S", "-emit-llvm", "-o", str(code)])
                code.write_text(placed(code.read_text()))
                _run([*compiler.compile, *machine_flags(), *SECOND_HALF, str(code), "-o", str(unit)])
            else:
                _run([*command, "-c", "-o", str(unit)])
            _run([*compiler.link, str(unit), *map(str, build.runtime), "-o", str(built)])
            built.replace(path)
    return path


def typecheck(source: str, extensions: str) -> tuple[str, list[str]]:
    """The LLVM text and the diagnostics of a C++ for OpenCL text, whose types carry address spaces.

    The LLVM text is empty where there are errors. `extensions` are those of OpenCL that are on.
    """
    include = prepare(False).folder / "strict"
    with tempfile.TemporaryDirectory() as scratch:
        text, unit = Path(scratch) / "kernel.cl", Path(scratch) / "kernel.ll"
        text.write_text('#include "msl.h"\n#include "mlx/backend/metal/kernels/utils.h"\n' + source)
        command = [*find().compile, *STRICT, "-Xclang", f"-cl-ext=-all,{extensions}", "-I", str(include), str(text)]
        result = subprocess.run([*command, "-o", str(unit)], capture_output=True, text=True, check=False)
        return unit.read_text() if result.returncode == 0 else "", result.stderr.splitlines()


def remembered(*text: str) -> Path:
    """A file that stands in the cache when what it is about was found good before; whoever finds it good touches it."""
    return prepare(False).folder / f"{_digest(*text)}.good"


def _run(command: Sequence[str]) -> None:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise KernelError("the kernel does not compile:\n" + _first_errors(result.stderr or result.stdout))


def _first_errors(text: str, limit: int = 12) -> str:
    lines = text.strip().splitlines()
    return "\n".join(lines[:limit]) + (f"\n... {len(lines) - limit} more lines" if len(lines) > limit else "")


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _folder(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _write(path: Path, text: str) -> None:
    _folder(path.parent)
    path.write_text(text)
