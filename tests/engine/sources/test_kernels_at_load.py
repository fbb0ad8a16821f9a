"""Loading a model where there is Metal tests and compiles its kernels; shown with the simulator in Metal's place."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from app.cli import doctor
from engine.session import Session
from engine.sources.checkpoint import load
from engine.sources.precision import Precision
from metal import autotune, dispatch, kernel, mx, tuning_cache
from metal.simulator import simulated
from tests.engine.tiny import LLAMA, weights, write_folder
from tests.metal.build import Clock

CONFIG = LLAMA | {"head_dim": 64, "num_attention_heads": 2, "num_key_value_heads": 1}


@pytest.fixture(autouse=True)
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing stays behind, and what is timed is small, for the simulator takes its time."""
    monkeypatch.setenv("LIKELY_KERNELS", str(tmp_path / "kernels"))
    monkeypatch.setattr(kernel, "switched_off", {})
    monkeypatch.setattr(dispatch, "faster", {})
    for name, small in (("LENGTHS", (64, 128)), ("PROMPT", 32), ("CALLS", 1), ("ROUNDS", 1), ("BUDGET_S", 0.0)):
        monkeypatch.setattr(autotune, name, small)


@pytest.mark.slow
def test_kernels_are_tested_once_and_ready_before_the_first_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "time.perf_counter", Clock(2e-3, 1e-3)
    )  # which of the two is compiled for prompts hangs on no real time
    said: list[str] = []
    folder = write_folder(tmp_path / "tiny", CONFIG, {n: mx.array(a) for n, a in weights(CONFIG).items()})
    precision = Precision(mx.float32, packed=False)
    plain = Session(load(folder, precision=precision)).logits_after(list(range(40)))
    before = kernel.launches.copy()
    with simulated() as launches:
        checkpoint = load(folder, lambda text, done, total: said.append(text), precision=precision)
        assert any(text.startswith("testing kernels on this chip, once (1/") for text in said)
        ran = {name for name in kernel.launches if kernel.launches[name] > before[name]}
        assert ran == {
            "decode",
            "merge",
            "tiles",
            "scan",
            "draw",
            "qkv_prepare",
            "row",
            "candidates",
            "histogram",
        }  # all before any question
        found = tuning_cache.load()
        assert found is not None and found.verdicts and found.timings and not found.switched_off
        with dispatch.forced("ours"):
            ran_before = sum(launches.values())
            seen = Session(checkpoint).logits_after(list(range(40)))
        assert sum(launches.values()) > ran_before
        launches.clear()
        load(folder, precision=precision)
        assert sum(launches.values()) < 8  # the record is read, not made again; what stays is the compiling
    np.testing.assert_allclose(seen, plain, atol=1e-4)


@pytest.mark.parametrize("file", ["decode.metal", "scan.metal", "qkv_prepare.metal"])
def test_a_kernel_that_the_compiler_refuses_stops_no_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    """Nor one that was compared before and is refused now: it is off, `likely doctor` says so, and answers come."""
    folder = write_folder(tmp_path / "tiny", CONFIG, {n: mx.array(a) for n, a in weights(CONFIG).items()})
    precision = Precision(mx.float32, packed=False)
    plain = Session(load(folder, precision=precision)).logits_after(list(range(40)))
    text = kernel.text
    refused = lambda name: (text(name)[0], "?" + text(name)[1]) if name == file else text(name)  # noqa: E731
    monkeypatch.setattr(kernel, "text", refused)
    with simulated():
        for compared in (False, True):
            kernel.switched_off.clear()
            tuning_cache.forget()
            if compared:
                monkeypatch.setattr(autotune, "cases", lambda shape: iter(()))
                monkeypatch.setattr(autotune, "timing_cases", lambda shape: iter(()))
            session = Session(load(folder, precision=precision))
            name = file.removesuffix(".metal")
            assert [off.split()[0] for off in kernel.switched_off if off.split()[0] == name] == [name]
            line = doctor.kernels()
            assert f"{name} float32" in line and "is off" in line and "--retest" in line
            np.testing.assert_allclose(session.logits_after(list(range(40))), plain, atol=1e-4)


@pytest.mark.slow
def test_doctor_forgets_what_is_known_of_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.sources.store.list", tuple)
    found = tuning_cache.blank()
    tuning_cache.save(found)
    assert tuning_cache.load() == found
    assert CliRunner().invoke(doctor.command, ["--retest", "--json"]).exit_code == 0
    assert tuning_cache.load() is None
