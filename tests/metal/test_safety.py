"""A kernel that is wrong on a machine is found, switched off and remembered, and the program goes on without it."""

import subprocess
import sys
from dataclasses import replace

import pytest

from likely.metal import autotune, kernel, mx, selftest, tuning_cache, vocab
from likely.metal.attention import Mask, attention
from likely.metal.dispatch import Shape
from tests.metal import oracle
from tests.metal.build import Clock, cache, error, known, metal, normal, stored

pytestmark = pytest.mark.usefixtures("unknown")
SHAPE = Shape(64, 4, 2)
MERGE, SCAN = "merge float16 D=64: ", "scan float16: "
DECODE = "decode float16 D=64 g=2: one query"


@pytest.mark.parametrize(
    ("comparison", "old", "new"),
    [
        (MERGE, "(x + rest) / total", "(x + rest) / (total + 1.0f)"),
        (DECODE, "at[u] <= high[r]", "at[u] < high[r]"),
        ("tiles float16 D=64 g=2: causal", "at <= high", "at < high"),
        (SCAN, "chunk * EACH + i", "chunk * EACH + max(i, 1)"),
        ("qkv_prepare float16 D=64: plain", "a * s + z * c", "a * s - z * c"),
    ],
)
def test_a_wrong_result_switches_that_variant_off(comparison: str, old: str, new: str) -> None:
    name = comparison.split()[0]
    with metal((name, old, new)):
        known(SHAPE, comparison)
        autotune.prepare([SHAPE])
    assert list(kernel.switched_off) == [kernel.variant(name, mx.float16, 0 if name == "scan" else 64)]
    assert "error" in next(iter(kernel.switched_off.values()))
    assert kernel.enabled(name, mx.bfloat16, 64)  # which nobody has seen fail


def test_a_variant_that_is_wrong_in_one_dtype_is_off_in_that_one() -> None:
    """What the compiler makes of one dtype says nothing of another, so each is compared before it is used."""
    wide = replace(SHAPE, dtype=mx.float32)
    with metal(("decode", "at[u] <= high[r]", "at[u] <= high[r] - int(sizeof(T) == 2)")):
        known(SHAPE, DECODE), known(wide, "decode float32 D=64 g=2: one query")
        found = autotune.prepare([SHAPE, wide])
    assert [*kernel.switched_off] == ["decode float16 D=64"]
    assert found.verdicts["decode float32 D=64 g=2: one query"].startswith("error")


def test_one_that_does_not_compile_is_off_and_the_program_goes_on() -> None:
    q, k, v = (normal(seed, 1, h, t, 64, dtype=mx.float16) for seed, h, t in ((1, 4, 20), (2, 2, 64), (3, 2, 64)))
    mask = Mask(window=9)
    with metal(("tiles", "float2 o[TD];", "float2 o[TD]")) as machine:
        known(SHAPE, "tiles float16 D=64 g=2: causal")
        autotune.prepare([SHAPE])
        assert "tiles float16 D=64" in kernel.switched_off
        machine.launches.clear()
        out = attention(q, cache(k, v, 50), scale=0.2, mask=mask)
        quantised = attention(q[:, :, :1], cache(stored(k, 8), stored(v, 8), 50), scale=0.2)
        assert not machine.launches
    assert error(out, oracle.attention(q, cache(k, v, 50), scale=0.2, mask=mask).out) < 2e-3
    assert quantised.shape == (1, 4, 1, 64)


def test_one_that_only_warming_meets_is_off_from_then_on() -> None:
    """And the record says so, which is where `likely doctor` reads it."""
    faults = ("decode", "threadgroup float shared_q[ROWS * D];", "threadgroup float shared_q[;")
    with metal(faults, ("scan", "float held[EACH];", "float held[;")):
        autotune.warm([Shape(64, 4, 2, bits=(8, 8))], vocabulary=100)
        assert {"decode float16 D=64", "scan float16"} <= set(kernel.switched_off)
        found = tuning_cache.load()
    assert found is not None and found.switched_off == kernel.switched_off


def test_vocabulary_kernels_are_left_alone_once_switched_off() -> None:
    kernel.switch_off("scan float32", "for this test")
    with metal() as machine:
        vocab.statistics(normal(1, 1, 100))
        assert not machine.launches
        vocab.statistics(normal(1, 1, 100, dtype=mx.float16))
        assert machine.launches


def test_one_that_is_wrong_only_at_full_size_is_not_adopted_however_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.perf_counter", Clock(ours=1e-6, other=1.0))
    name = "decode float16 D=64 H=4/2 N=1024"
    with metal(("decode", "at[u] <= high[r] &&", "at[u] <= high[r] && at[u] < 500 &&")):
        known(SHAPE, DECODE, name)
        found = autotune.prepare([SHAPE])
    assert "error" in found.verdicts[DECODE] and "differ by" in found.verdicts[name]  # it passed at first
    assert "differ by" in found.switched_off["decode float16 D=64"] and name not in found.faster


def test_a_failure_is_applied_again_at_every_start() -> None:
    with metal(("merge", "(x + rest) / total", "x")) as machine:
        known(SHAPE, MERGE)
        assert "merge float16 D=64" in autotune.prepare([SHAPE]).switched_off
        kernel.switched_off.clear()
        machine.launches.clear()
        autotune.prepare([SHAPE, replace(SHAPE, softcap=20.0)])
        assert not machine.launches  # nothing to compare once more, or to time without the merge
    assert "merge float16 D=64" in kernel.switched_off


def test_an_interrupted_self_test_costs_nothing() -> None:
    """Ctrl+c as often as one likes: what was compared stays, the rest is compared the next time."""

    def ctrl_c(name: str) -> None:
        if "scan" in name:
            raise KeyboardInterrupt

    with metal(meets=ctrl_c):
        known(SHAPE, MERGE, SCAN)
        for _ in range(3):
            with pytest.raises(KeyboardInterrupt):
                autotune.prepare([SHAPE])
        found = tuning_cache.load()
        assert found is not None and not found.begun
        assert [name for name, said in found.verdicts.items() if said != "passed before"] == [f"{MERGE}two splits"]
    with metal():
        found = autotune.prepare([SHAPE])
    assert found.switched_off == {} and "error" in found.verdicts[f"{SCAN}statistics and a draw of 9,000"]


DIES = """
import os, sys
from likely.metal import autotune, kernel
from likely.metal.dispatch import Shape
from tests.metal.build import known, metal

shape = Shape(64, 4, 2)
with metal(meets=lambda name: os._exit(9) if "scan" in name else None):
    if sys.argv[1] == "0":
        known(shape, "merge float16 D=64: ", "scan float16: ")
    autotune.prepare([shape])
    print([*kernel.switched_off.values()])
"""


@pytest.mark.slow
def test_a_test_that_ends_the_process_is_made_once_more_and_then_only_its_kernel_is_off() -> None:
    """A process ends for many reasons, a person's ctrl+q among them; twice at one place is one too often."""
    runs = [subprocess.run([sys.executable, "-c", DIES, str(i)], capture_output=True, text=True) for i in range(3)]
    assert [run.returncode for run in runs] == [9, 9, 0], runs[-1].stderr
    assert autotune.UNFINISHED in runs[2].stdout
    with metal():
        found = tuning_cache.load()
        assert found is not None and [*found.switched_off] == ["scan float16"] and not found.begun
        assert tuning_cache.forget() and tuning_cache.load() is None  # `likely doctor --retest`


HOLDS = """
from likely.metal import tuning_cache
with tuning_cache.alone(lambda: None):
    print("held", flush=True)
    input()
"""


def test_a_second_process_waits_and_takes_what_the_first_found() -> None:
    """It neither tests beside it nor takes what the other has begun for something that ended a process."""
    pipe = subprocess.PIPE
    with (
        metal() as machine,
        subprocess.Popen([sys.executable, "-c", HOLDS], stdin=pipe, stdout=pipe, text=True) as first,
    ):
        assert first.stdout is not None and first.stdout.readline() == "held\n"
        theirs, (name,) = known(SHAPE, MERGE), [case.name for case in selftest.cases(SHAPE) if case.kernel == "merge"]
        theirs.begun = {name: autotune.STRIKES}
        tuning_cache.save(theirs)
        said: list[str] = []

        def waiting(text: str, done: int, total: int) -> None:
            said.append(text)
            if len(said) == 2:
                theirs.verdicts[name], theirs.begun = "passed there", {}
                tuning_cache.save(theirs)
                first.communicate("\n")

        found = autotune.prepare([SHAPE], waiting)
        assert not machine.launches
    assert said[:2] == ["another process tests the kernels on this chip"] * 2
    assert found.verdicts[name] == "passed there" and found.switched_off == {}


def test_without_metal_nothing_is_run_or_written() -> None:
    before = kernel.launches.copy()
    nothing = autotune.prepare([SHAPE])
    autotune.warm([SHAPE], 1000)
    assert nothing == tuning_cache.blank() and nothing.chip == "cpu"
    assert not tuning_cache.folder().exists() and kernel.launches == before
