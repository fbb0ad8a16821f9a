"""What is said of the machine and of this process."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from engine import machine

HELD = """
import numpy as np
from engine.machine import peak_memory
before = peak_memory()
np.ones(200 << 17)
print(before, peak_memory())
"""


@pytest.mark.slow
@pytest.mark.linux  # where a program's peak begins with that of its parent
def test_the_peak_is_this_process_alone_and_all_of_it() -> None:
    held = np.ones(600 << 17)  # 600 MiB
    assert machine.peak_memory() >= held.nbytes
    done = subprocess.run([sys.executable, "-c", HELD], capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert before < 300 << 20
    assert 195 << 20 < after - before < 260 << 20


@pytest.mark.parametrize(("threads", "cores", "said"), [(1, 2, True), (1, 1, False), (2, 4, False), (None, 4, False)])
def test_one_thread_of_several_cores_is_told(
    threads: int | None, cores: int, said: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    this = replace(machine.inspect(), threads=threads, cores=cores, blas="fast", system="Linux", device="cpu")
    assert any("so the BLAS uses one thread" in line for line in machine.advice(this, 1e6)) is said
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    assert not machine.advice(this, 1e6)


def test_speeds_are_of_this_world() -> None:
    assert 0.1 < machine.gflops(2) < 1e6
    assert 0.1 < machine.bandwidth(2) < 1e5
