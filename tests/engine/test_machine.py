"""What is said of the machine, of this process, of where data are kept, and of numbers that are none."""

import os
import platform
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import likely.models as models
from likely.engine.base import numerics
from likely.engine.base.errors import NotFinite, ParameterError
from likely.engine.base.files.home import home
from likely.engine.base.machine import hardware
from likely.metal import mx
from tests.engine.tiny import LLAMA, weights
from tests.sharing import cores

HELD = """
import numpy as np
from likely.engine.base.machine.hardware import peak_memory
before = peak_memory()
np.ones(200 << 17)
print(before, peak_memory())
"""


@pytest.mark.slow
@pytest.mark.linux  # where a program's peak begins with that of its parent
def test_the_peak_is_this_process_alone_and_all_of_it() -> None:
    held = np.ones(600 << 17)  # 600 MiB
    assert hardware.peak_memory() >= held.nbytes
    done = subprocess.run([sys.executable, "-c", HELD], capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert before < 300 << 20 and 195 << 20 < after - before < 260 << 20


ADVICE: list[tuple[dict[str, Any], float, list[str]]] = [
    ({}, 20.0, []), ({}, 19.9, ["reaches only 20 GFLOP/s"]), ({"device": "metal"}, 1.0, []),
    ({"blas": "reference"}, 1.0, ["100 times slower than they could be: no wheel"]),
    ({"threads": 1}, 99.0, ["4 cores, but they were busy"]), ({"threads": 1, "cores": 1}, 99.0, []),
    ({"threads": 2}, 99.0, []), ({"system": "macOS 15.1"}, 99.0, ["mlx finds no Metal device"]),
    ({"system": "macOS 15.1", "device": "metal"}, 99.0, []),
    ({"threads": 1}, 1.0, ["reaches only 1 GFLOP/s", "busy when the program began"]),
]  # fmt: skip


def test_what_is_slow_is_said_and_how_to_mend_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    monkeypatch.delenv("LIKELY_METAL")
    plain = replace(hardware.inspect(), system="Linux 6", device="cpu", cores=4, blas="tuned", blas_reason="no wheel",
                    threads=None)  # fmt: skip
    for facts, speed, lines in ADVICE:
        found = hardware.advice(replace(plain, **facts), speed)
        assert len(found) == len(lines) and all(line in told for line, told in zip(lines, found, strict=True))
    monkeypatch.setenv("LIKELY_METAL", "0")
    assert hardware.advice(replace(plain, system="macOS 15.1"), 99.0) == ["LIKELY_METAL=0 leaves the GPU alone"]
    m5 = replace(plain, system="macOS 26.2 arm64", device="metal", chip="Apple M5 Pro")
    for tag, lines in (("15", ["built for macOS 15 and leaves this chip's neural accelerators alone"]), ("26", [])):
        info = tmp_path / tag / "mlx_metal-1.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Name: mlx-metal\nVersion: 1\n")
        (info / "WHEEL").write_text(f"Tag: py3-none-macosx_{tag}_0_arm64\n")
        monkeypatch.syspath_prepend(tmp_path / tag)
        found = hardware.advice(m5, 99.0)
        assert len(found) == len(lines) and all(line in told for line, told in zip(lines, found, strict=True))
        for other in ({"chip": "Apple M4"}, {"system": "macOS 26.1 arm64"}, {"system": "macOS 15.7 arm64"}):
            assert hardware.advice(replace(m5, **other), 99.0) == []
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    assert not any("busy when the program" in line for line in hardware.advice(hardware.inspect(), 99.0))


def test_facts_are_those_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    found = hardware.inspect()
    assert found.memory == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") and found.chip
    assert found.cores == cores() and found.versions["numpy"] == np.__version__
    assert 0.1 < hardware.gflops(1) < 1e6 and 0.1 < hardware.bandwidth(1) < 1e5  # of this world
    chips = {mx.gpu: "Apple M9", mx.cpu: "a processor"}
    monkeypatch.setattr("mlx.core.device_info", lambda device: {"device_name": chips[device]})
    monkeypatch.delenv("LIKELY_METAL")
    for metal, cuda, device in ((True, False, "metal"), (False, True, "cuda"), (False, False, "cpu")):
        monkeypatch.setattr("mlx.core.metal.is_available", lambda metal=metal: metal)
        monkeypatch.setattr("mlx.core.cuda.is_available", lambda cuda=cuda: cuda)
        assert hardware.inspect().device == device and hardware.inspect().chip == chips[mx.gpu if metal else mx.cpu]
    told = ("15.2", "macOS 15.2 "), ("16.2", "macOS 26.2 "), ("26.1.1", "macOS 26.1.1 "), ("27", "macOS 27 ")
    for version, said in (*told, ("", f"{platform.system()} {platform.release()} ")):
        monkeypatch.setattr(platform, "mac_ver", lambda version=version: (version, "", ""))
        assert hardware.inspect().system.startswith(said)


def test_data_are_kept_where_the_system_has_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("LIKELY_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert home() == tmp_path / ".local/share/likely"
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert home() == Path("/data/likely")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert home() == tmp_path / "Library/Application Support/likely"
    monkeypatch.setenv("LIKELY_HOME", "~/x")
    assert home() == tmp_path / "x"
    monkeypatch.delenv("LIKELY_HOME")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    with pytest.raises(ParameterError, match="set LIKELY_HOME"):
        home()


def test_numbers_that_are_none_are_refused_and_their_first_place_is_named() -> None:
    """Of a model one of whose matrices is damaged; the embedding only in the second token's row."""
    numerics.require_finite(np.array([-np.inf, 1.0]))
    for row in ([np.nan, 1.0], [np.inf, 0.0], [-np.inf, -np.inf]):
        with pytest.raises(NotFinite, match="they hold NaN or infinity"):
            numerics.require_finite(np.array(row))
    for name, place in (
        ("model.embed_tokens", "after token 2 (the embedding is the first)"),
        ("model.layers.1.mlp.down_proj", "after token 1 (layer 2 is the first)"),
        ("lm_head", "after token 3 (the head is the first)"),
    ):
        arrays = weights(LLAMA)
        arrays[f"{name}.weight"][7 if "embed" in name else slice(None)] = np.nan
        model = models.build(LLAMA, {key: mx.array(array) for key, array in arrays.items()})
        assert numerics.first_not_finite(model, [5, 7, 9]) == place
        line = f"m gives NaN {place}: its weights are damaged, fetch it again"
        assert str(numerics.damaged("m", model, [5, 7, 9])) == line
