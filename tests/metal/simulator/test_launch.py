"""A dispatch without a compiled kernel: what the runtime would be given, where buffers stand, and what is refused."""

import ctypes
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metal import mx
from metal.errors import KernelError
from metal.simulator import arrays, compiler, kernel, launch, program
from metal.simulator.function import SimFunction
from metal.simulator.launch import KernelArgument, _Request
from metal.simulator.program import Program
from metal.simulator.report import DispatchReport, Fault, KernelFault, _State
from metal.simulator.signature import KernelParameter

PATH = Path("a kernel")


class Runtime:
    """Stands for a compiled library: notes a request, and does `act` with it and its buffers."""

    def __init__(self, act: Callable[[Any, Any], int] = lambda request, table: 0) -> None:
        self.act = act
        self.requests: list[dict[str, Any]] = []

    def msl_launch(self, reference: Any) -> int:
        request = ctypes.cast(reference, ctypes.POINTER(_Request)).contents
        table = ctypes.cast(request.buffers, ctypes.POINTER(ctypes.c_void_p))
        self.requests.append(
            {"grid": [*request.grid], "threadgroup": [*request.threadgroup], "check": request.check,
             "stack": request.stack_size, "arena": request.arena_size, "stacks": request.stacks, "at": request.arena,
             "table": [table[i] for i in range(31)]}
        )  # fmt: skip
        return self.act(request, table)


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Runtime]:
    found = Runtime()
    monkeypatch.setattr(launch, "_load", lambda path: found)
    yield found


def test_the_runtime_is_given_its_buffers_by_their_places(runtime: Runtime) -> None:
    a, b = np.zeros(4, np.float32), np.ones(3, np.int32)
    launch.launch(PATH, [KernelArgument("a", 0, a), KernelArgument("b", 30, b, True)], (5, 6, 7), (2, 3, 4))
    (request,) = runtime.requests
    assert (request["grid"], request["threadgroup"], request["check"]) == ([5, 6, 7], [2, 3, 4], None)
    assert request["table"] == [a.ctypes.data] + [None] * 29 + [b.ctypes.data]
    assert (request["stack"], request["arena"]) == (128 * 1024, 65536)
    assert request["at"] == request["stacks"] + 1024 * 128 * 1024
    assert (KernelArgument("a", 0, a).writable, KernelArgument("a", 0, a).initialised) == (False, True)


@pytest.mark.parametrize(
    ("grid", "threadgroup", "line"),
    [
        ((1, 1, 1), (1024, 1, 1), None),
        ((1, 1, 1), (16, 16, 4), None),
        (((1 << 32) - 1, 1, 1), (1, 1, 1), None),
        ((1, 1, 1), (1025, 1, 1), r"threadgroup: expected at most 1024 threads, got \(1025, 1, 1\) = 1025"),
        ((1, 1, 1), (16, 16, 5), "= 1280"),
        ((0, 1, 1), (1, 1, 1), r"grid: expected three whole numbers >= 1, got \(0, 1, 1\)"),
        ((1, 1, 1), (1, 0, 1), "threadgroup: expected three whole numbers"),
        ((1 << 32, 1, 1), (1, 1, 1), "grid: expected three whole numbers"),
        ((1, 1), (1, 1, 1), "grid: expected three whole numbers"),
        ((1, 1, 1.0), (1, 1, 1), "grid: expected three whole numbers"),
    ],
)
def test_a_grid_is_one_that_metal_takes(
    grid: Sequence[Any], threadgroup: Sequence[int], line: str | None, runtime: Runtime
) -> None:
    if line is None:
        launch.launch(PATH, [], grid, threadgroup)
        assert len(runtime.requests) == 1
        return
    with pytest.raises(KernelError, match=line):
        launch.launch(PATH, [], grid, threadgroup)
    assert not runtime.requests


def test_a_table_has_31_places(runtime: Runtime) -> None:
    one = np.zeros(1, np.float32)
    launch.launch(PATH, [KernelArgument("a", 30, one)], (1, 1, 1), (1, 1, 1))
    with pytest.raises(KernelError, match="buffers: expected at most 31, got 32"):
        launch.launch(PATH, [KernelArgument("a", 31, one)], (1, 1, 1), (1, 1, 1))


@pytest.mark.parametrize(
    ("used", "amount"), [(0, None), (32768, None), (32769, "32769 bytes"), (-1, "more than 65536")]
)
def test_threadgroup_memory_has_its_limit(used: int, amount: str | None, runtime: Runtime) -> None:
    runtime.act = lambda request, table: used
    if amount is None:
        launch.launch(PATH, [], (1, 1, 1), (1, 1, 1))
        return
    with pytest.raises(KernelError, match=f"threadgroup memory: expected at most 32768 bytes, got {amount}"):
        launch.launch(PATH, [], (1, 1, 1), (1, 1, 1))


def test_a_checked_dispatch_works_on_copies_that_stand_far_apart(runtime: Runtime) -> None:
    base = np.arange(24, dtype=np.float32)
    given, out, odd = base[::2], np.zeros(5, np.float32), base[1:4]
    seen: dict[str, Any] = {}

    def act(request: Any, table: Any) -> int:
        state = ctypes.cast(request.check, ctypes.POINTER(_State)).contents
        seen["regions"] = [(r.base, r.size, r.initialised, bool(r.cells)) for r in state.region[: state.regions]]
        seen["input"] = np.ctypeslib.as_array(ctypes.cast(table[0], ctypes.POINTER(ctypes.c_float)), (23,)).copy()
        seen["limit"] = state.threadgroup_limit
        ctypes.memmove(table[1], np.full(5, 7, np.float32).ctypes.data, 20)
        ctypes.memmove(table[0], np.full(1, 99, np.float32).ctypes.data, 4)  # an input's copy comes back to nobody
        ctypes.memset(state.region[1].touched, 2, 20)
        state.threadgroup_bytes = 12
        return 12

    runtime.act = act
    buffers = [
        KernelArgument("in", 0, given), KernelArgument("out", 1, out, True, False), KernelArgument("odd", 2, odd, True),
        KernelArgument("none", 3, np.zeros(0, np.float32)),
    ]  # fmt: skip
    report = launch.launch_checked("k", PATH, buffers, (1, 1, 1), (32, 1, 1))
    assert report.kernel == "k" and report.faults == () and report.threadgroup_memory == 12
    assert out.tolist() == [7] * 5 and base.tolist() == list(range(24)) and np.array_equal(seen["input"], base[:23])
    (a, b, c, d) = seen["regions"]
    assert [region[1:] for region in (a, b, c, d)] == [(92, 1, False), (20, 0, True), (12, 1, True), (0, 1, False)]
    assert seen["limit"] == 32768 and runtime.requests[0]["table"][:3] == [a[0], b[0], c[0]]
    starts = [region[0] for region in (a, b, c, d)]
    assert all(after - before >= 64 * 1024 for before, after in pairwise(starts))
    assert c[0] % 16 == odd.ctypes.data % 16 and report.traffic["out"].distinct == 20


@pytest.mark.parametrize("faulty", [False, True])
def test_too_many_variables_are_named_where_no_fault_says_more(faulty: bool, runtime: Runtime) -> None:
    def act(request: Any, table: Any) -> int:
        state = ctypes.cast(request.check, ctypes.POINTER(_State)).contents
        if faulty:
            state.fault[0].kind, state.fault[0].file, state.faults, state.fault[0].region = b"misaligned", b"f", 1, 0
        return -1

    runtime.act = act
    given = [KernelArgument("a", 0, np.zeros(1, np.float32))]
    if faulty:
        assert [f.kind for f in launch.launch_checked("k", PATH, given, (1, 1, 1), (1, 1, 1)).faults] == ["misaligned"]
        return
    with pytest.raises(KernelError, match="threadgroup memory: expected at most 64 variables, got more"):
        launch.launch_checked("k", PATH, given, (1, 1, 1), (1, 1, 1))


@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16, mx.uint8, mx.int64, mx.bool_])
def test_arrays_go_to_the_host_and_back(dtype: mx.Dtype) -> None:
    x = mx.array([[0, 1, 1], [1, 0, 1]]).astype(dtype)
    seen = arrays.host(x)
    assert seen.shape == (2, 3) and seen.ctypes.data % 16 == 0 and seen.flags.c_contiguous
    assert seen.dtype == (np.uint16 if dtype == mx.bfloat16 else np.dtype(str(dtype).removeprefix("mlx.core.")))
    back = arrays.device(seen, dtype)
    assert back.dtype == dtype and mx.array_equal(back, x)
    empty = arrays.empty((2, 3), dtype)
    assert empty.shape == (2, 3) and set(empty.tobytes()) == {255} and empty.dtype == seen.dtype
    filled = arrays.empty((2, 2), dtype, 1)
    assert mx.array_equal(arrays.device(filled, dtype), mx.ones((2, 2), dtype)) and filled.flags.writeable
    nothing = arrays.host(mx.zeros((0, 3), dtype))
    assert nothing.shape == (0, 3) and nothing.dtype == seen.dtype


def test_strides_stay_where_they_are_asked_for() -> None:
    x = mx.contiguous(mx.arange(12, dtype=mx.float32).reshape(3, 4))
    mx.eval(x)
    turned = x.T
    assert arrays.host(turned).strides == (12, 4) and np.array_equal(arrays.host(turned), np.arange(12).reshape(3, 4).T)
    kept = arrays.host(turned, False)
    assert kept.strides == (4, 16) and np.array_equal(kept, np.arange(12).reshape(3, 4).T)
    moved = arrays._aligned(np.arange(40, dtype=np.int16)[3:31:3])
    assert moved.tolist() == list(range(3, 31, 3)) and moved.strides == (6,) and moved.ctypes.data % 16 == 0


def named(*names: str) -> dict[str, np.ndarray]:
    return {name: np.zeros((2, 3), np.float32).T for name in names}


def test_what_mlx_adds_about_an_input_is_made_of_it() -> None:
    buffers = named("x") | {"s": np.zeros((), np.float32)}
    assert kernel._buffer("x", buffers) is buffers["x"]
    shapes, strides = {"x_shape": [3, 2], "s_shape": [0]}, {"x_strides": [1, 3], "s_strides": [0]}
    for name, want in (shapes | strides | {"x_ndim": 2, "s_ndim": 0}).items():
        found = kernel._buffer(name, buffers)
        assert found.tolist() == want and found.dtype == (np.int64 if name in strides else np.int32)
    with pytest.raises(
        KernelError, match="parameter 'y_shape' of the generated text is neither an input nor an output"
    ):
        kernel._buffer("y_shape", buffers)


@pytest.mark.parametrize("checked", [False, True])
def test_the_text_that_mlx_generates_says_which_instance_it_is(checked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[Any, ...]] = []
    monkeypatch.setattr(kernel, "Program", lambda text, call, **options: made.append((text, call, options)))
    kernel._program.cache_clear()
    body = "template <typename T> [[kernel]] void k_1(device T* x) {}\n"
    instance = 'template [[host_name("k_1")]] [[kernel]] decltype(k_1<float, 3>) k_1<float, 3>;'
    kernel._program("a", body + instance, checked)
    kernel._program("a", "[[kernel]] void k_2(device int* x) {}", checked)
    options = {"checked": checked, "strict": checked, "label": "a.metal"}
    assert made == [(body, "k_1<float, 3>", options), ("[[kernel]] void k_2(device int* x) {}", "k_2", options)]
    with pytest.raises(KernelError, match="expected a kernel in the text that MLX generates, got:\nnothing"):
        kernel._program("a", "nothing", checked)
    kernel._program.cache_clear()


SOURCE = '#line 3 "a.h"\n  float x;\nkernel void k(device T* t, constant int& n) {\n#line 40\n  t[0] = 1;\n}'


def made_program(**options: Any) -> Program:
    return Program(SOURCE, "k<float>", checked=options.pop("checked", True), **options)


def test_a_program_has_its_lines_by_file_and_number() -> None:
    lines = made_program(label="f.metal")._lines
    assert lines == {
        "a.h:3": "float x;", "a.h:4": "kernel void k(device T* t, constant int& n) {", "a.h:40": "t[0] = 1;",
        "a.h:41": "}",
    }  # fmt: skip
    assert Program("a\nb", "k", checked=False, label="f.metal")._lines == {"f.metal:1": "a", "f.metal:2": "b"}


def test_a_program_is_translated_with_its_constants_and_its_entry() -> None:
    found = made_program(constants={7: "true", 2: "3"}, label="f.metal")
    text = found._translated()
    assert text.startswith(
        "template <> struct msl_function_constant<7> { static constexpr auto value = true; };\n"
        "template <> struct msl_function_constant<2> { static constexpr auto value = 3; };\n"
        '#line 1 "f.metal"\n#line 3 "a.h"'
    )
    assert "k<float>(msl_pointer{b[0]}, msl_reference{b[1]});" in text and found.name == "k"
    assert found.parameters == [KernelParameter("t", 0, True), KernelParameter("n", 1, False)]
    assert Program("", "k", checked=False, included=SOURCE).parameters == found.parameters


def test_a_library_is_named_by_all_that_it_is_made_of(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []
    verified: list[tuple[str, ...]] = []
    monkeypatch.setattr(compiler, "library", lambda *given: asked.append(given) or PATH)
    monkeypatch.setattr(program.gate, "verify", lambda *given: verified.append(given))
    long = Program("s", "k" * 70 + "<int>", checked=True, constants={2: "a", 1: "b"}, label="l", included="i")
    assert long.path == PATH and long.path == PATH and verified == []
    ((name, checked, identity, text),) = asked
    assert (name, checked, text) == ("k" * 60, True, long._translated)
    assert identity == ("s", "i", "k" * 70 + "<int>", "l", "[(1, 'b'), (2, 'a')]")
    assert Program("s", "k", checked=False, strict=True, label="l").path == PATH and verified == [("s", "k", "l")]


def test_a_run_is_plain_or_checked_and_faults_have_their_code(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[tuple[Any, ...]] = []
    faults: list[Fault] = []

    def checked(*given: Any) -> DispatchReport:
        ran.append(given)
        return DispatchReport(given[0], tuple(faults), {}, {}, 0)

    monkeypatch.setattr(program, "launch", lambda *given: ran.append(given))
    monkeypatch.setattr(program, "launch_checked", checked)
    monkeypatch.setattr(compiler, "library", lambda *given: PATH)
    plain, strict = made_program(checked=False), made_program(label="f.metal")
    assert plain.run([], (1, 1, 1), (2, 2, 2)) is None and ran == [(PATH, [], (1, 1, 1), (2, 2, 2))]
    report = strict.run([], (1, 1, 1), (2, 2, 2))
    assert report is not None and report.kernel == "f" and ran[-1] == ("f", PATH, [], (1, 1, 1), (2, 2, 2))
    faults += [Fault("misaligned", "a.h:40", "m", 0, (0, 0, 0)), Fault("misaligned", "b:1", "m", 0, (0, 0, 0))]
    with pytest.raises(KernelFault) as caught:
        strict.run([], (1, 1, 1), (2, 2, 2))
    assert [fault.code for fault in caught.value.report.faults] == ["t[0] = 1;", ""]


def test_a_function_takes_its_buffers_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[tuple[Any, ...]] = []
    monkeypatch.setattr(Program, "run", lambda self, *given: ran.append(given))
    made = SimFunction(SOURCE.replace("T*", "float*"), "k<float>", {3: "1"}, checked=True)
    assert (made.program.label, made.program.checked, made.program.constants) == ("k.metal", True, {3: "1"})
    out = np.zeros(2, np.float32)
    made({"n": 3}, {"t": out}, grid=(1, 2, 3), threadgroup=(4, 5, 6))
    ((one, two), grid, group) = ran[0]
    assert (one.name, one.index, one.array.tolist(), one.writable, one.initialised) == ("n", 1, 3, False, True)
    assert (two.name, two.index, two.array is out, two.writable, two.initialised) == ("t", 0, True, True, False)
    assert (grid, group) == ((1, 2, 3), (4, 5, 6))
    made({}, {"t": out}, grid=(1, 1, 1), threadgroup=(1, 1, 1), initialised=True)
    assert ran[1][0][0].initialised
    with pytest.raises(KernelError, match=r"kernel 'k': expected some of \['n', 't'\], got \['x'\]"):
        made({"x": 1}, {}, grid=(1, 1, 1), threadgroup=(1, 1, 1))


@pytest.mark.parametrize(
    ("machine", "cpuinfo", "flags"),
    [
        ("aarch64", "avx2 f16c fma bmi2", ()),
        ("x86_64", "flags: avx2 f16c fma bmi2", ("-march=x86-64-v3",)),
        ("AMD64", "flags: avx2 f16c fma bmi2", ("-march=x86-64-v3",)),
        ("x86_64", "flags: avx2 f16c fma4 bmi2", ("-march=x86-64-v2",)),
        ("x86_64", None, ("-march=x86-64-v2",)),
    ],
)
def test_a_processor_s_flags_are_those_that_it_says_it_has(
    machine: str, cpuinfo: str | None, flags: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(self: Path, *_: Any) -> str:
        assert str(self) == "/proc/cpuinfo"
        if cpuinfo is None:
            raise OSError
        return cpuinfo

    compiler.machine_flags.cache_clear()
    monkeypatch.setattr(Path, "read_text", read)
    assert compiler.machine_flags(machine) == flags
    compiler.machine_flags.cache_clear()


@pytest.mark.parametrize(
    ("platform", "environment", "want"),
    [("linux", {}, "/h/.cache/likely/simulator"), ("linux", {"XDG_CACHE_HOME": "/c"}, "/c/likely/simulator"),
     ("darwin", {}, "/h/Library/Caches/likely/simulator"), ("darwin", {"LIKELY_SIMULATOR_CACHE": "/s"}, "/s")],
)  # fmt: skip
def test_compiled_kernels_are_kept_in_the_user_s_cache(
    platform: str, environment: dict[str, str], want: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LIKELY_SIMULATOR_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in (environment | {"HOME": "/h"}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(compiler.sys, "platform", platform)
    assert str(compiler.cache_folder()) == want


@pytest.mark.parametrize("clang", ["zig", "zig on a mac", "system", "system on a mac"])
def test_a_compiler_is_called_as_its_machine_links(clang: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Spec:
        origin = "/site/ziglang/__init__.py"

    monkeypatch.setattr(compiler.sys, "platform", "darwin" if "mac" in clang else "linux")
    monkeypatch.setattr(compiler, "find_spec", lambda name: Spec if "zig" in clang else None)
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}" if name == "clang++-17" else None)
    asked: list[Any] = []
    monkeypatch.setattr(compiler, "_output", lambda command: asked.append([*command]) or "clang version 17.0")
    compiler.find.cache_clear()
    found = compiler.find()
    compiler.find.cache_clear()
    zig, dynamic = "/site/ziglang/zig", ("-undefined", "dynamic_lookup")
    want = {
        "zig": ((zig, "clang"), (zig, "ld.lld", "-shared")),
        "zig on a mac": ((zig, "clang"), (zig, "c++", "-shared", "-nostdlib++", *dynamic)),
        "system": (("/bin/clang++-17",), ("/bin/clang++-17", "-shared", "-nostdlib")),
        "system on a mac": (("/bin/clang++-17",), ("/bin/clang++-17", "-shared", "-nostdlib", *dynamic)),
    }[clang]
    assert (found.compile, found.link, found.version) == (*want, "clang version 17.0")
    assert asked == [[zig, "clang", "--version"] if "zig" in clang else ["/bin/clang++-17", "--version"]]


def test_builds_that_nobody_used_for_a_month_are_removed(tmp_path: Path) -> None:
    for name, days in (("old", 30.01), ("young", 29.99)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "done").touch()
        then = time.time() - days * 86400
        os.utime(tmp_path / name / "done", (then, then))
    (tmp_path / "unfinished").mkdir()
    compiler._forget(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["unfinished", "young"]


def test_a_text_that_does_not_compile_is_told_by_its_first_lines() -> None:
    twelve, more = "\n".join(map(str, range(12))), "\n".join(map(str, range(14)))
    assert (
        compiler._first_errors(twelve + "\n") == twelve
        and compiler._first_errors(more) == f"{twelve}\n... 2 more lines"
    )
    with pytest.raises(KernelError, match=r"^the kernel does not compile:\nbad$"):
        compiler._run(["sh", "-c", "echo good; echo bad >&2; exit 3"])
    with pytest.raises(KernelError, match=r"^the kernel does not compile:\ngood$"):
        compiler._run(["sh", "-c", "echo good; exit 1"])
    compiler._run(["true"])
    assert compiler._output(["echo", "it"]) == "it\n"
    assert compiler._digest("a", "b") != compiler._digest("ab") and len(compiler._digest("a")) == 16
