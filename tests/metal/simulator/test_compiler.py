"""What compiles the kernels: found, cached, and the same on arm64 as on x86-64."""

import platform
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from metal import mx
from metal.errors import KernelError
from metal.simulator import SimKernel, compiler, signature
from metal.simulator.rewrite import rewrite

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


def standalone(target: str, folder: Path, checked: bool) -> Path:
    """The kernel, the runtime and a start of its own, for a machine."""
    flags = [*compiler.LANGUAGE, *compiler.machine_flags(target), "-target", f"{target}-linux-gnu", "-ffreestanding"]
    flags += ["-I", str(compiler.MSL), *(compiler.CHECKED if checked else compiler.PLAIN)]
    unit = folder / "kernel.cpp"
    code = rewrite("using namespace metal;\n" + KERNEL) + signature.entry(
        "mixed", signature.parameters(KERNEL, "mixed")
    )
    unit.write_text('#include "msl.h"\n' + code)
    here = Path(__file__).parent
    objects = []
    for source in (unit, compiler.MSL / "runtime.cpp", compiler.MSL / "check.cpp", here / "standalone.cpp"):
        objects.append(str(folder / f"{source.stem}.o"))
        instrument = compiler.INSTRUMENT if checked and source == unit else ()
        command = [*compiler.find().compile, *flags, *instrument, "-c", str(source), "-o", objects[-1]]
        subprocess.run(command, check=True, capture_output=True, text=True)
    if checked:
        return unit  # it has no start: the checker's notes belong to Python
    program = folder / "mixed"
    linker = [*compiler.find().link[:-1]] if compiler.find().link[-1] == "-shared" else ["ld.lld"]
    subprocess.run([*linker, "-e", "_start", *objects, "-o", str(program)], check=True, capture_output=True, text=True)
    return program


@pytest.mark.parametrize("checked", [False, True], ids=["plain", "checked"])
@pytest.mark.parametrize("target", ["x86_64", "aarch64"])
def test_every_part_compiles_for_both_machines(target: str, checked: bool, tmp_path: Path) -> None:
    assert standalone(target, tmp_path, checked).exists()


@pytest.mark.parametrize("target", ["x86_64", "aarch64"])
def test_a_kernel_runs_on_both_machines(target: str, tmp_path: Path) -> None:
    """The stack switch and the arithmetic of each machine; of the other one in an emulator (Debian: qemu-user)."""
    emulator = [] if platform.machine() == target else [shutil.which(f"qemu-{target}")]
    if None in emulator:
        pytest.skip(f"no emulator for {target} here: apt-get install qemu-user")
    program = standalone(target, tmp_path, False)
    result = subprocess.run([*map(str, emulator), str(program)], capture_output=True, check=True)
    np.testing.assert_array_equal(np.frombuffer(result.stdout, np.float32), expected())


def test_a_kernel_is_compiled_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LIKELY_SIMULATOR_CACHE", str(tmp_path))
    compiler.prepare.cache_clear()
    try:
        for run in range(2):
            kernel = SimKernel("once", ["a"], ["out"], f"out[thread_position_in_grid.x] = a[0] + {run} * 0;")
            for _ in range(2):
                kernel(
                    inputs=[mx.ones(8)],
                    output_shapes=[(8,)],
                    output_dtypes=[mx.float32],
                    grid=(8, 1, 1),
                    threadgroup=(8, 1, 1),
                )
            assert len(list(tmp_path.glob("*/*once*.so"))) == run + 1
    finally:
        compiler.prepare.cache_clear()


def test_no_compiler_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    compiler.find.cache_clear()
    monkeypatch.setattr(compiler, "find_spec", lambda name: None)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    try:
        with pytest.raises(KernelError, match=r"clang\+\+ >= 17, found neither; run: pip install ziglang"):
            compiler.find()
    finally:
        compiler.find.cache_clear()


def test_a_system_clang_serves_where_ziglang_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    compiler.find.cache_clear()
    monkeypatch.setattr(compiler, "find_spec", lambda name: None)
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}" if name in ("clang++", "clang++-18") else None)
    versions = {"/bin/clang++": "clang version 14.0.6", "/bin/clang++-18": "Debian clang version 18.1.8"}
    monkeypatch.setattr(compiler, "_output", lambda command: versions[command[0]])
    try:
        assert compiler.find().compile == ("/bin/clang++-18",)
    finally:
        compiler.find.cache_clear()


def test_an_error_names_file_and_line() -> None:
    kernel = SimKernel("wrong", ["a"], ["out"], "out[0] = a[0];\nout[1] = nothing;")
    with pytest.raises(KernelError, match=r"wrong\.metal:\d+:10: error: use of undeclared identifier 'nothing'"):
        kernel(
            inputs=[mx.ones(1)], output_shapes=[(2,)], output_dtypes=[mx.float32], grid=(1, 1, 1), threadgroup=(1, 1, 1)
        )
