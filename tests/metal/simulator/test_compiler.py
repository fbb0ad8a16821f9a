"""What compiles the kernels: found, cached, and the same on arm64 as on x86-64."""

import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from likely.metal import mx
from likely.metal.errors import KernelError
from likely.metal.simulator import SimKernel, compiler, signature
from likely.metal.simulator.rewrite import rewrite
from tests.metal.build import launched
from tests.support.everyday import everyday

# Threadgroup memory, barriers, reductions, shuffles, a divergent loop, half and bfloat, vectors.
KERNEL = """
kernel void mixed(const device float* x [[buffer(0)]], device float* out [[buffer(1)]],
                  uint i [[thread_position_in_grid]], uint lane [[thread_index_in_threadgroup]]) {
  threadgroup float s[128];
  s[lane] = x[i] + simd_sum(x[i]);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  float v = s[127 - lane];
  for (uint r = 0; r < lane / 64; r++) v += simd_shuffle_xor(v, ushort(1));
  half h = half(v) * 0.125h;
  bfloat b = bfloat(v) + bfloat(1);
  float4 w = float4(v, h, float(b), quad_max(v)).wzyx;
  out[i] = w.x + 2 * w.y + 4 * w.z + 8 * w.w;
}
"""


def bf16(x: np.ndarray) -> np.ndarray:
    bits = x.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).view(np.float32)


def expected() -> np.ndarray:
    x = np.arange(256, dtype=np.float32).reshape(2, 4, 32)
    s = (x + x.sum(-1, keepdims=True)).reshape(2, 128)[:, ::-1].copy()
    s[:, 64:] += s[:, 64:].reshape(2, 32, 2)[..., ::-1].reshape(2, 64)
    h = (s.astype(np.float16) * np.float16(0.125)).astype(np.float32)
    b = bf16(bf16(s) + 1)
    top = np.repeat(s.reshape(2, 32, 4).max(-1), 4, axis=-1)
    return (top + 2 * b + 4 * h + 8 * s).ravel()


def objects(target: str, folder: Path, checked: bool) -> list[Path]:
    """The kernel and the runtime, compiled for a machine."""
    flags = [*compiler.LANGUAGE, *compiler.machine_flags(target.split("-")[0]), "-target", target, "-ffreestanding"]
    flags += ["-I", str(compiler.MSL), *(compiler.CHECKED if checked else compiler.PLAIN)]
    unit = folder / "kernel.cpp"
    code = rewrite("using namespace metal;\n" + KERNEL)
    unit.write_text('#include "msl.h"\n' + code + signature.entry("mixed", signature.parameters(KERNEL, "mixed")))
    objects = []
    for source in (unit, compiler.MSL / "runtime.cpp", compiler.MSL / "check.cpp"):
        objects.append(folder / f"{source.stem}.o")
        instrument = compiler.INSTRUMENT if checked and source == unit else ()
        run([*compiler.find().compile, *flags, *instrument, "-c", str(source), "-o", str(objects[-1])])
    return objects


def run(command: list[str]) -> bytes:
    result = subprocess.run(command, capture_output=True, check=False)
    assert result.returncode == 0, result.stderr.decode()
    return result.stdout


@pytest.mark.parametrize("checked", [False, True], ids=["plain", "checked"])
@pytest.mark.parametrize("target", everyday(["x86_64-linux-gnu", "aarch64-linux-gnu", "aarch64-apple-macos"], 3))
def test_every_part_compiles_for_each_machine(target: str, checked: bool, tmp_path: Path) -> None:
    assert all(path.stat().st_size for path in objects(target, tmp_path, checked))


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_a_kernel_runs_on_both_machines(machine: str, tmp_path: Path) -> None:
    """The stack switch and the arithmetic of each machine; of the other one in an emulator (Debian: qemu-user)."""
    emulator = "" if platform.machine() == machine else shutil.which(f"qemu-{machine}")
    if emulator is None or platform.system() != "Linux":
        pytest.skip(f"no emulator for {machine} on Linux here: apt-get install qemu-user")
    target = f"{machine}-linux-gnu"
    start, program = tmp_path / "standalone.o", tmp_path / "mixed"
    source = Path(__file__).parent / "standalone.cpp"
    compile_ = [*compiler.find().compile, *compiler.LANGUAGE, "-O1", "-ffreestanding", "-target", target]
    run([*compile_, "-I", str(compiler.MSL), "-c", str(source), "-o", str(start)])
    linker = [*compiler.find().compile, "-target", target, "-fuse-ld=lld", "-nostdlib", "-static"]
    if compiler.find().link[-1] == "-shared":  # a linker by itself, not a compiler's way to one
        linker = list(compiler.find().link[:-1])
    parts = [*objects(target, tmp_path, False), start]
    run([*linker, "-e", "_start", *map(str, parts), "-o", str(program)])
    output = run([*([emulator] if emulator else []), str(program)])
    np.testing.assert_array_equal(np.frombuffer(output, np.float32), expected())


@pytest.mark.slow
def test_a_kernel_is_compiled_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And builds that nobody has used for a month are removed."""
    monkeypatch.setenv("LIKELY_SIMULATOR_CACHE", str(tmp_path))
    compiler.prepare.cache_clear()
    for name, days in (("old", 30.01), ("young", 29.99)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "done").touch()
        then = time.time() - days * 86400
        os.utime(tmp_path / name / "done", (then, then))
    try:
        for run in range(2):
            kernel = SimKernel("once", ["a"], ["out"], f"out[thread_position_in_grid.x] = a[0] + {run} * 0;")
            for _ in range(2):
                launched(kernel, mx.ones(8))
            assert len(list(tmp_path.glob("*/*once*.so"))) == run + 1
        assert (tmp_path / "young").exists() and not (tmp_path / "old").exists()
    finally:
        compiler.prepare.cache_clear()


@pytest.mark.slow
def test_what_was_compiled_serves_every_environment(tmp_path: Path) -> None:
    """One with the same compiler and headers in another folder: the second clone of a person compiles nothing."""
    code = "from likely.metal.simulator import compiler; print(compiler.prepare(False).folder)"
    (tmp_path / "other").symlink_to(Path(sysconfig.get_path("purelib")))
    paths = [os.environ.get("PYTHONPATH", ""), f"{tmp_path / 'other'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"]
    found = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, env=os.environ | {"PYTHONPATH": path}).stdout
        for path in paths
    ]
    assert found[0] == found[1] != b""


@pytest.fixture
def clangs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A machine without ziglang, on which these programs are all there is."""
    monkeypatch.setitem(sys.modules, "ziglang", None)  # type: ignore[arg-type]
    monkeypatch.setenv("PATH", str(tmp_path))
    compiler.find.cache_clear()
    yield tmp_path
    compiler.find.cache_clear()


def test_no_compiler_says_what_to_install(clangs: Path) -> None:
    with pytest.raises(KernelError, match=r"clang\+\+ >= 17, found neither; run: pip install ziglang"):
        compiler.find()


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_a_system_clang_serves_where_ziglang_is_missing(
    platform: str, clangs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, version in (("clang++", "clang version 14.0.6"), ("clang++-18", "Debian clang version 18.1.8")):
        (clangs / name).write_text(f"#!/bin/sh\necho '{version}'\n")
        (clangs / name).chmod(0o755)
    monkeypatch.setattr("sys.platform", platform)
    found, own = compiler.find(), str(clangs / "clang++-18")
    assert found.compile == (own,) and found.link[:3] == (own, "-shared", "-nostdlib")
    assert ("dynamic_lookup" in found.link) == (platform == "darwin") and "18.1.8" in found.version


def test_errors_name_file_and_line_and_the_first_of_them_are_told() -> None:
    source = "out[0] = a[0];\n" + "".join(f"out[1] = nothing{i};\n" for i in range(20))
    kernel = SimKernel("wrong", ["a"], ["out"], source)
    with pytest.raises(KernelError) as caught:
        launched(kernel, mx.ones(2))
    first, *lines, last = str(caught.value).splitlines()
    assert first == "the kernel does not compile:" and len(lines) == 12 and re.match(r"\.\.\. \d+ more lines", last)
    assert re.search(r"wrong\.metal:\d+:10: error: use of undeclared identifier 'nothing0'", lines[0])
