"""Packed weights: unpacking, products and the scan of logits, on every kind of processor that can be had."""

import hashlib
import os
import platform
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from itertools import cycle, pairwise
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType
from gguf.quants import dequantize, quantize

from likely.engine.inside import steering
from likely.engine.inside.steering import Direction
from likely.engine.weights.sources.gguf.blocks import AFFINE as GGUF_AFFINE
from likely.metal import mx, packed
from likely.metal.packed import FEW_BITS, LEVELS, NUMBERS, SIXTEEN, PackedError, PackedMatrix
from likely.models.families import registry
from likely.models.transformer import Transformer
from tests.models.oracle import flat, reference
from tests.models.test_families import SAME, V
from tests.processes import by_threads
from tests.sharing import cores
from tests.support.everyday import everyday

pytestmark = pytest.mark.linux
FOLDER = Path(packed.__file__).parent

# layout: columns and bytes of a block, and where in it the halves are
GGUF = {
    "Q4_0": (32, 18, (0,)), "Q4_1": (32, 20, (0, 2)), "Q5_0": (32, 22, (0,)), "Q5_1": (32, 24, (0, 2)),
    "Q8_0": (32, 34, (0,)), "Q4_K": (256, 144, (0, 2)), "Q5_K": (256, 176, (0, 2)), "Q6_K": (256, 210, (208,)),
}  # fmt: skip
AFFINE = [(bits, group, number) for bits in (4, 8) for group in (32, 64, 128) for number in NUMBERS]
KINDS = {"plain": "SSE2", "avx2": "AVX2", "avx512": "AVX-512"} if platform.machine() == "x86_64" else {"plain": "NEON"}


@pytest.fixture(params=KINDS)
def kernels(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every kind of kernel that this processor runs, by turns."""
    library = packed.load()
    assert library is not None
    name = library.handle.likely_packed_init(LEVELS.index(request.param)).decode()
    if name != KINDS[request.param]:
        pytest.skip(f"this processor has no {KINDS[request.param]}")
    yield name
    library.handle.likely_packed_init(len(LEVELS) - 1)


def blocks(layout: str, rows: int, columns: int, seed: int = 0, *, any_half: bool = False) -> np.ndarray:
    """Rows of random blocks, their scales of a usual size, or any finite half."""
    rng = np.random.default_rng(seed)
    block, nbytes, halves = GGUF[layout]
    raw = rng.integers(0, 256, (rows, columns // block, nbytes), dtype=np.uint8)
    for at in halves:
        scales = rng.uniform(-0.02, 0.02, raw.shape[:2]).astype("<f2")
        if any_half:
            scales = rng.integers(0, 1 << 16, raw.shape[:2], dtype=np.uint16).view("<f2")
            scales = np.where(np.isfinite(scales), scales, np.float16(6e-8))
        raw[:, :, at : at + 2] = scales.astype("<f2")[..., None].view(np.uint8)
    return raw.reshape(rows, -1)


def affine(bits: int, group: int, number: str, rows: int, columns: int) -> tuple[list[np.ndarray], np.ndarray]:
    """mlx's codes, scales and offsets of a random matrix, and what they stand for."""
    rng = np.random.default_rng(bits + group)
    numbers = mx.array(rng.normal(size=(rows, columns)).astype(np.float32)).astype(getattr(mx, number))
    codes, scales, offsets = mx.quantize(numbers, group, bits)
    parts = [np.array(codes)]
    parts += [np.array(p.view(mx.uint32 if number == "float32" else mx.uint16)) for p in (scales, offsets)]
    spread = np.array(codes).view(np.uint8)
    if bits == 4:
        spread = np.stack([spread & 15, spread >> 4], axis=-1)
    wide = [np.array(p.astype(mx.float32))[..., None] for p in (scales, offsets)]
    return parts, (spread.reshape(rows, -1, group) * wide[0] + wide[1]).reshape(rows, columns)


def magnitude(layout: str, raw: np.ndarray, w: np.ndarray) -> np.ndarray:
    """What each number was made of: |scale| code + |offset|."""
    nbytes = GGUF[layout][1]
    codes, scales, offsets = GGUF_AFFINE[layout][1](raw.reshape(-1, nbytes))
    return (codes * np.abs(scales) + np.abs(offsets)).reshape(w.shape)


ROUNDS = ("AVX2", "AVX-512")  # kernels that take activations in 16 bits, those of 32 columns by one scale


def check_product(y: np.ndarray, x: np.ndarray, w: np.ndarray, size: np.ndarray, kernels: str = "") -> None:
    """Against float64. A sum of n products has an error of n roundings at most, each of what was summed so far.

    An activation in 16 bits is off by half a step, of which the largest of its 32 columns has 32,512.
    """
    roundings = w.shape[1] + 8
    bound = roundings * 2.0**-24 * (np.abs(x).astype(float) @ size.astype(float).T)
    if kernels in ROUNDS:
        half = np.abs(x).astype(float).reshape(len(x), -1, 32).max(-1).repeat(32, axis=-1) / 65_024
        bound += 1.001 * half @ np.abs(w).astype(float).T
    assert (np.abs(y - x.astype(float) @ w.astype(float).T) <= bound).all()


@pytest.mark.parametrize("arch", ["x86_64", "aarch64"])
def test_the_shipped_library_is_built_from_the_source_beside_it(arch: str) -> None:
    sources = sorted(path for path in FOLDER.iterdir() if path.suffix in {".c", ".h"})
    source = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    assert source.encode() in (FOLDER / f"packed-{arch}.so").read_bytes(), "run `make metal/packed`"


@pytest.mark.parametrize("layout", GGUF)
@pytest.mark.parametrize(("rows", "count"), [(1, 1), (16, 3), (37, 2)])
def test_gguf_blocks_unpack_to_the_bit(layout: str, rows: int, count: int) -> None:
    raw = blocks(layout, rows, count * GGUF[layout][0], rows, any_half=True)
    with np.errstate(all="ignore"):
        want = dequantize(raw, GGMLQuantizationType[layout])
    matrix = PackedMatrix(layout, rows, count * GGUF[layout][0]).fill(raw)
    np.testing.assert_array_equal(matrix.rows().view(np.uint32), want.view(np.uint32))
    ids = [rows - 1, 0, rows // 2, 0]
    np.testing.assert_array_equal(matrix.rows(ids).view(np.uint32), want[ids].view(np.uint32))


@pytest.mark.parametrize(("bits", "group", "number"), AFFINE)
def test_mlx_codes_unpack_to_the_bit(bits: int, group: int, number: str) -> None:
    parts, want = affine(bits, group, number, 37, 256)
    matrix = PackedMatrix(f"AFFINE{bits}", 37, 256, group=group, number=number).fill_affine(*parts)
    np.testing.assert_array_equal(matrix.rows(), want)


@pytest.mark.parametrize("layout", GGUF)
@pytest.mark.parametrize("rows", everyday([1, 2, 3, 7, 8, 16, 33, 70], 3))
def test_products_with_gguf_blocks_equal_float64(layout: str, rows: int, kernels: str) -> None:
    """Outputs that do not fill a panel, or several at once, and rows that do not fill a block.

    With all the bits of an activation as near as floats would be, some of them far larger than those beside them.
    """
    x = np.random.default_rng(rows).normal(size=(rows, 768)).astype(np.float32)
    x[:, ::37] *= 50
    for outputs in (1, 40, 64, 99):
        raw = blocks(layout, outputs, 768, outputs)
        w = dequantize(raw, GGMLQuantizationType[layout])
        matrix = PackedMatrix(layout, outputs, 768).fill(raw)
        check_product(matrix.product(x), x, w, magnitude(layout, raw, w))
        check_product(matrix.product(x, SIXTEEN), x, w, magnitude(layout, raw, w), kernels)


@pytest.mark.parametrize(("bits", "group", "number"), AFFINE)
def test_products_with_mlx_codes_equal_float64(bits: int, group: int, number: str, kernels: str) -> None:
    parts, w = affine(bits, group, number, 99, 384)
    x = np.random.default_rng(0).normal(size=(11, 384)).astype(np.float32)
    matrix = PackedMatrix(f"AFFINE{bits}", 99, 384, group=group, number=number).fill_affine(*parts)
    largest = np.abs(w).reshape(99, -1, group).max(-1).repeat(group, axis=-1)
    # what a code spans is at most twice the largest, and so is an offset
    check_product(matrix.product(x), x, w, 4 * largest)
    check_product(matrix.product(x, SIXTEEN), x, w, 4 * largest, kernels)


def eight_bits(x: np.ndarray) -> np.ndarray:
    """float64 rows, those of 32 columns rounded to whole numbers up to 127 times a factor, a float32."""
    groups = x.reshape(len(x), -1, 32)
    most = np.abs(groups).max(-1, keepdims=True)
    whole = np.rint(groups.astype(float) * (np.float32(127) / most))
    return (whole * (most * (np.float32(1) / np.float32(127))).astype(float)).reshape(x.shape)


@pytest.mark.parametrize("layout", FEW_BITS)
@pytest.mark.parametrize("rows", [1, 2, 7, 33])
def test_activations_of_8_bits_are_rounded_and_then_multiplied_exactly(layout: str, rows: int, kernels: str) -> None:
    x = np.random.default_rng(rows).normal(size=(rows, 768)).astype(np.float32)
    for outputs in (1, 40, 99):
        if layout in GGUF:
            raw = blocks(layout, outputs, 768, outputs)
            w = dequantize(raw, GGMLQuantizationType[layout])
            matrix, size = PackedMatrix(layout, outputs, 768).fill(raw), magnitude(layout, raw, w)
        else:
            parts, w = affine(4, 64, "float32", outputs, 768)
            matrix = PackedMatrix(layout, outputs, 768, group=64).fill_affine(*parts)
            size = 4 * np.abs(w).reshape(outputs, -1, 64).max(-1).repeat(64, axis=-1)
        y = matrix.product(x, 8)
        check_product(y, eight_bits(x), w, size)
        assert (y != matrix.product(x)).any()


def test_the_largest_sums_of_8_bits_fit(kernels: str) -> None:
    """Codes and activations that are all the largest, of one sign."""
    for layout in ("Q4_1", "Q5_1"):
        raw = np.full((16, 64 // 32, GGUF[layout][1]), 255, np.uint8)
        raw[:, :, :4] = np.array([1, 0], "<f2").view(np.uint8)
        matrix = PackedMatrix(layout, 16, 64).fill(raw.reshape(16, -1))
        x = np.repeat(np.array([[127.0], [-127.0]], np.float32), 64, axis=1)
        np.testing.assert_array_equal(matrix.product(x, 8), x @ matrix.rows().T, err_msg=layout)


@pytest.mark.parametrize("layout", ["Q4_1", "Q5_1", "Q8_0", "AFFINE8"])
def test_the_largest_sums_of_16_bits_fit(layout: str, kernels: str) -> None:
    """Codes at either end and activations that are all the largest, of one sign, of both, and in pairs."""
    for code in (0, 127, 128, 255):
        if layout == "AFFINE8":
            codes, ones = np.full((40, 16), 0x01010101 * code, np.uint32), np.ones((40, 1), np.float32)
            matrix = PackedMatrix(layout, 40, 64, group=64).fill_affine(codes, ones, 0 * ones)
        else:
            raw = np.full((40, 64 // 32, GGUF[layout][1]), code, np.uint8)
            raw[:, :, : 2 if layout == "Q8_0" else 4] = np.array([1] if layout == "Q8_0" else [1, 0], "<f2").view(
                np.uint8
            )
            matrix = PackedMatrix(layout, 40, 64).fill(raw.reshape(40, -1))
        signs = [np.where(np.arange(64) >> i & 1, -1, 1) for i in range(6)]
        x = np.array([np.ones(64), -np.ones(64), *signs], np.float32) * np.float32(1e5 / 3)
        y, w = matrix.product(x, 16), matrix.rows()
        check_product(y, x, w, np.abs(w) + 1e-9, kernels)
        np.testing.assert_array_equal(y, np.concatenate([matrix.product(row[None], 16) for row in x]))


@pytest.mark.parametrize("layout", [*GGUF, "F32"])
def test_the_way_back_through_a_product_equals_float64(layout: str, kernels: str) -> None:
    """Rows and columns that fill no register, and more rows of the matrix than are unpacked at a time."""
    for rows, outputs, columns in ((1, 300, 256), (35, 40, 768), (101, 1, 256)):
        raw = np.random.default_rng(1).normal(size=(outputs, columns)).astype(np.float32)
        matrix = PackedMatrix(layout, outputs, columns)
        matrix.fill(raw if layout == "F32" else blocks(layout, outputs, columns))
        slope, w = np.random.default_rng(rows).normal(size=(rows, outputs)).astype(np.float32), matrix.rows()
        check_product(matrix.back(slope), slope, w.T, np.abs(w.T))
    with pytest.raises(PackedError, match="rows of 1 expected"):
        matrix.back(slope[:, :0])


@pytest.mark.parametrize("columns", [1, 31, 576])
def test_products_with_floats_equal_float64(columns: int, kernels: str) -> None:
    rng = np.random.default_rng(0)
    w, x = (rng.normal(size=(n, columns)).astype(np.float32) for n in (45, 9))
    matrix = PackedMatrix("F32", 45, columns).fill(w)
    np.testing.assert_array_equal(matrix.rows(), w)
    check_product(matrix.product(x), x, w, np.abs(w))


@pytest.mark.parametrize("layout", [*GGUF, "AFFINE4", "AFFINE8", "F32"])
def test_a_row_is_the_same_whatever_stands_beside_it(layout: str, kernels: str) -> None:
    rng = np.random.default_rng(1)
    matrix = PackedMatrix(layout, 99, 768, group=64)
    if layout in GGUF:
        matrix.fill(blocks(layout, 99, 768))
    elif layout == "F32":
        matrix.fill(rng.normal(size=(99, 768)).astype(np.float32))
    else:
        matrix.fill_affine(*affine(int(layout[-1]), 64, "float32", 99, 768)[0])
    x = rng.normal(size=(33, 768)).astype(np.float32)
    for bits in (24, 16, 8):
        together, alone = matrix.product(x, bits), np.concatenate([matrix.product(row[None], bits) for row in x])
        np.testing.assert_array_equal(together, alone)
        np.testing.assert_array_equal(matrix.product(x[5:18], bits), together[5:18])


@pytest.mark.parametrize("layout", ["Q4_1", "Q8_0", "AFFINE4"])
def test_activations_of_any_size_and_what_is_no_number(layout: str, kernels: str) -> None:
    """Columns that are all zero, tiny or huge beside others; a NaN or an infinity stays in its row."""
    rng = np.random.default_rng(4)
    matrix = PackedMatrix(layout, 40, 128, group=64)
    if layout in GGUF:
        matrix.fill(blocks(layout, 40, 128))
    else:
        matrix.fill_affine(*affine(4, 64, "float32", 40, 128)[0])
    x = rng.normal(size=(7, 128)).astype(np.float32)
    x[0], x[1, :32], x[2] = 0, 0, x[2] * 1e-30
    x[3, 32:64] *= 1e6
    x[4, 5], x[5, 70] = np.nan, np.inf
    w, good = matrix.rows(), [1, 2, 3, 6]
    size = np.abs(w) + 16 * np.abs(w).max()
    for bits, rounds in ((24, ""), (16, kernels)):
        y = matrix.product(x, bits)
        assert not y[0].any()
        assert not np.isfinite(y[4:6]).any()
        check_product(y[good], x[good], w, size, rounds)


def test_rows_may_come_in_parts_and_in_another_order() -> None:
    raw = blocks("Q4_1", 50, 64)
    whole = PackedMatrix("Q4_1", 50, 64).fill(raw)
    order = np.random.default_rng(0).permutation(30)
    parts = PackedMatrix("Q4_1", 50, 64).fill(raw[30:], first=30).fill(raw[:30][np.argsort(order)], order=order)
    np.testing.assert_array_equal(parts.rows(), whole.rows())
    assert whole.nbytes == 64 * 2 * 20  # as many bytes as in the file, and the rows that fill up a panel


@pytest.mark.parametrize("layout", GGUF)
def test_a_matrix_takes_hardly_more_bytes_than_in_its_file(layout: str) -> None:
    matrix = PackedMatrix(layout, 160, 1536)
    assert matrix.nbytes <= 1.03 * 160 * 1536 // GGUF[layout][0] * GGUF[layout][1]


def test_what_does_not_fit_is_refused_in_a_line() -> None:
    with pytest.raises(PackedError, match="33 cannot be kept as Q4_1"):
        PackedMatrix("Q4_1", 16, 33)
    with pytest.raises(PackedError, match="groups of 48"):
        PackedMatrix("AFFINE4", 16, 96, group=48)
    with pytest.raises(PackedError, match="a layout of Q4_0"):
        PackedMatrix("Q2_K", 16, 256)
    matrix = PackedMatrix("Q4_1", 16, 64)
    with pytest.raises(PackedError, match="rows of 40 bytes"):
        matrix.fill(np.zeros((16, 36), np.uint8))
    with pytest.raises(PackedError, match="rows of 40 bytes for rows 8"):
        matrix.fill(blocks("Q4_1", 16, 64), first=8)
    with pytest.raises(PackedError, match="names each once"):
        matrix.fill(blocks("Q4_1", 2, 64), order=[0, 0])
    with pytest.raises(PackedError, match="8 words and 1 groups"):
        PackedMatrix("AFFINE4", 1, 64, group=64).fill_affine(
            np.zeros((1, 7), np.uint32), *[np.zeros((1, 1), np.float32)] * 2
        )


@pytest.mark.parametrize("limit", [*KINDS, "none"])
def test_a_switch_limits_what_is_used(limit: str) -> None:
    code = "from likely.metal import packed; print(packed.load().kernels)"
    environment = os.environ | {"LIKELY_PACKED": limit}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    if limit == "none":
        assert "LIKELY_PACKED must be one of plain, avx2, avx512, off, got 'none'" in run.stderr
    else:
        assert list(KINDS.values()).index(run.stdout.strip()) <= list(KINDS).index(limit)


def test_without_a_switch_all_that_the_processor_has_is_used() -> None:
    code = "from likely.metal import packed; print(packed.load().kernels)"
    found = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True).stdout
        for env in (
            {n: v for n, v in os.environ.items() if n != "LIKELY_PACKED"},
            os.environ | {"LIKELY_PACKED": LEVELS[-1]},
        )
    ]
    assert found[0] == found[1] != ""


def test_no_mlx_is_imported() -> None:
    code = "import sys; from likely.metal import packed; from likely.metal.packed import statistics\n"
    code += "packed.load(); print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "likely.metal.packed" in out
    assert not [name for name in out if name.split(".")[0] == "mlx"]


THREADS = """
import sys, threading
import numpy as np
from likely.metal import blas, packed

assert packed.use_threads() == int(sys.argv[1]) == blas.threads()
rng = np.random.default_rng(0)
matrix = packed.PackedMatrix("Q4_1", 3000, 576)
raw = rng.integers(0, 256, (3000, 18, 20), dtype=np.uint8)
raw[..., 1], raw[..., 3] = 0x20, 0x20  # halves of a usual size
matrix.fill(raw.reshape(3000, -1))
x = rng.normal(size=(40, 576)).astype(np.float32)

def work(out):
    for _ in range(20):
        out.append(matrix.product(x).tobytes() + matrix.product(x[:1]).tobytes())

outs = [[], []]
threads = [threading.Thread(target=work, args=(out,)) for out in outs]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
assert len({*outs[0], *outs[1]}) == 1
sys.stdout.buffer.write(outs[0][0])
"""


@pytest.mark.slow
@pytest.mark.skipif(cores() == 1, reason="OpenBLAS takes no more threads than there are cores")
def test_threads_share_the_work_and_change_no_bit() -> None:
    """Two callers at once, with one thread and with two."""
    assert by_threads(THREADS, 1) == by_threads(THREADS, 2) != b""


# --- both architectures --------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def standalone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """By architecture, how to run the kernels without Python: here, or in an emulator (Debian: qemu-user)."""
    commands: dict[str, list[str]] = {}
    for machine in ("x86_64", "aarch64"):
        emulator = shutil.which(f"qemu-{machine}")
        if platform.machine() != machine and emulator is None:
            continue
        program = tmp_path_factory.mktemp(machine) / "packed"
        sources = [*map(str, sorted(FOLDER.glob("*.c"))), str(Path(__file__).with_name("standalone_packed.c"))]
        compiler = [sys.executable, "-m", "ziglang", "cc", "-target", f"{machine}-linux-gnu", "-O0", "-I", str(FOLDER)]
        flags = ["-nostdlib", "-static", "-ffreestanding", "-fno-sanitize=undefined", "-fno-math-errno"]
        hashed = '-DSOURCE_SHA256=""'
        subprocess.run([*compiler, *flags, hashed, "-o", str(program), *sources], check=True)
        commands[machine] = [str(program)] if platform.machine() == machine else [str(emulator), str(program)]
    return commands


def run(standalone: dict[str, list[str]], machine: str, what: int, *parts: bytes) -> bytes:
    if machine not in standalone:
        pytest.skip(f"no emulator for {machine} here: apt-get install qemu-user")
    request = struct.pack("<ii", 0, what) + b"".join(parts)  # plain kernels: the best on aarch64, the least on x86-64
    return subprocess.run(standalone[machine], input=request, check=True, capture_output=True).stdout


@pytest.mark.slow
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("layout", [*GGUF, "AFFINE4", "AFFINE8"])
def test_numbers_and_products_on_both_machines(layout: str, machine: str, standalone: dict[str, list[str]]) -> None:
    rng, rows = np.random.default_rng(2), 5
    x = rng.normal(size=(rows, 512)).astype(np.float32)
    for number in NUMBERS if layout.startswith("AFFINE") else ("float32",):
        if layout in GGUF:
            raw = blocks(layout, 37, 512, any_half=False)
            want, parts, width = dequantize(raw, GGMLQuantizationType[layout]), [raw.tobytes()], raw.shape[1]
            size = magnitude(layout, raw, want)
        else:
            arrays, want = affine(int(layout[-1]), 64, number, 37, 512)
            parts, width = [a.tobytes() for a in arrays], arrays[0].nbytes // 37
            size = 4 * np.abs(want).reshape(37, -1, 64).max(-1).repeat(64, axis=-1)
        layout_number, numbers = packed.LAYOUTS.index(layout), NUMBERS.index(number)
        head = struct.pack("<7i", layout_number, numbers, 64, 37, 512, width, rows)
        out = np.frombuffer(run(standalone, machine, 0, head, *parts, x.tobytes()), np.float32)
        np.testing.assert_array_equal(out[: want.size].view(np.uint32), want.reshape(-1).view(np.uint32))
        exact, eight = out[want.size :].reshape(2, rows, 37)
        check_product(exact, x, want, size)
        check_product(eight, eight_bits(x) if layout in FEW_BITS else x, want, size)


@pytest.mark.slow(10)
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_a_scan_on_both_machines(machine: str, standalone: dict[str, list[str]]) -> None:
    logits = np.random.default_rng(3).normal(0, 3, 20_000).astype(np.float32)
    logits[::7] = -np.inf
    ordered = np.sort(logits[logits > -np.inf])
    out = run(standalone, machine, 1, struct.pack("<2i", len(logits), 1), logits.tobytes())
    top, least, possible, unusable, total, weighted, mean, variance = struct.unpack("<2f2i4d", out[:48])
    assert (top, least, possible, unusable) == (ordered[-1], ordered[0], len(ordered), 0)
    wide = ordered.astype(float)
    masses = np.exp(wide - wide[-1])
    np.testing.assert_allclose(
        [total, weighted, mean, variance],
        [masses.sum(), (masses * (wide - wide[-1])).sum(), wide.mean(), wide.var()],
        rtol=1e-6,
    )
    numbers, whole = (np.frombuffer(out, kind, (len(out) - 48) // 4, 48) for kind in (np.float32, np.int32))
    edges, lses, counts, ids = numbers[:65], numbers[65:129], whole[132:196], whole[196:]
    assert whole[129:132].tolist() == [1 + int((logits > logits[1]).sum()), 256, 0]
    np.testing.assert_allclose(edges, np.linspace(least, ordered[-257], 65), rtol=1e-5)
    assert ids.tolist() == np.lexsort((np.arange(len(logits)), -logits))[:256].tolist()
    rest = ordered[:-256]
    bounds = [0, *np.searchsorted(rest, edges[1:-1]), len(rest)]
    assert counts.tolist() == np.diff(bounds).tolist()
    sums = [np.logaddexp.reduce(rest[a:b].astype(float)) for a, b in pairwise(bounds)]
    np.testing.assert_allclose(lses, sums, rtol=1e-6, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("number", NUMBERS[:2])
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_a_whole_pass_on_both_machines(machine: str, number: str, standalone: dict[str, list[str]]) -> None:
    """A Llama whose matrices are packed in several ways by turns, against the graph of the same numbers.

    Beside the last product of each layer there is a low rank, and a vector is added after it. Keys and values are
    floats or halves.
    """
    config = SAME["llama"] | {"hidden_size": 96, "intermediate_size": 160, "head_dim": 16, "num_hidden_layers": 2}
    arrays = {name: np.array(a) for name, a in flat(reference(config).parameters()).items()}
    shape = registry.described(config, arrays)
    names, kinds = registry.family("llama").names(shape), cycle(["Q8_0", "Q4_0", "F32", "Q5_1", "Q4_1"])
    request = [struct.pack("<6i", V, shape.layers, shape.width, shape.heads, shape.kv_heads, shape.head_size)]
    ids = np.random.default_rng(0).integers(0, V, 45).astype(np.int32)
    request += [struct.pack("<ifii", shape.mlp_width, shape.scale, NUMBERS.index(number), len(ids)), ids.tobytes()]
    assert shape.ropes[0] is not None
    angles = np.arange(len(ids))[:, None] / np.array(shape.ropes[0].periods(len(ids)))
    request.append(np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32).tobytes())

    def matrix(path: str) -> bytes:
        kind, w = next(kinds), arrays[f"{path}.weight"]
        raw = quantize(w, GGMLQuantizationType[kind])
        arrays[f"{path}.weight"] = dequantize(raw, GGMLQuantizationType[kind])
        return struct.pack("<2i", packed.LAYOUTS.index(kind), raw.nbytes // len(w)) + raw.tobytes()

    request.append(matrix(names.path("embed")))
    rng, after = np.random.default_rng(1), []
    for i in range(shape.layers):
        request += [matrix(names.path(role, i)) for role in ("q", "k", "v", "o", "gate", "up", "down")]
        request += [arrays[f"{names.path(role, i)}.weight"].tobytes() for role in ("attn_norm", "mlp_norm")]
        a, b, scales, gain, vector = (rng.normal(size=n).astype(np.float32) for n in ((5, 160), (96, 5), 5, 96, 96))
        request += [struct.pack("<i", 5), a.tobytes(), scales.tobytes(), gain.tobytes()]
        request += [struct.pack("<2i", packed.LAYOUTS.index("F32"), b[0].nbytes), b.tobytes(), vector.tobytes()]
        down = f"{names.path('down', i)}.weight"
        arrays[down] = gain[:, None] * (arrays[down] + b * scales @ a)
        after.append(Direction(i, mx.array(vector)))
    request.append(arrays[f"{names.path('norm')}.weight"].tobytes())
    got = np.frombuffer(run(standalone, machine, 2, *request), np.float32).reshape(len(ids), V)
    graph = registry.build(config, {name: mx.array(a) for name, a in arrays.items()})
    assert isinstance(graph, Transformer)
    for vector in after:
        steering.attach(graph, vector)
    want = np.array(graph(mx.array(ids[None]))[0])
    assert np.abs(got - want).max() < {"float32": 2e-5, "float16": 1e-3}[number] * np.abs(want).max()


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


@pytest.mark.parametrize(("said", "there"), [(None, True), ("plain", True), ("off", False)])
def test_weights_stay_packed_unless_the_environment_says_off(
    said: str | None, there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LIKELY_PACKED", raising=False)
    if said is not None:
        monkeypatch.setenv("LIKELY_PACKED", said)
    assert packed.available() == there
