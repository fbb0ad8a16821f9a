"""Loading a model where there is Metal readies its kernels; shown with the simulator in Metal's place."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from likely.app.cli.commands import doctor
from likely.engine.decode.session import Session
from likely.engine.weights.sources.checkpoint import load
from likely.engine.weights.sources.gguf.precision import Precision
from likely.metal import autotune, dispatch, kernel, mx, tuning_cache
from likely.metal.dispatch import Shape
from likely.metal.selftest import cases
from likely.metal.simulator import simulated
from tests.engine.tiny import LLAMA, weights, write_folder

CONFIG = LLAMA | {"head_dim": 64, "num_attention_heads": 2, "num_key_value_heads": 1}
SHAPE = Shape(64, 2, 1, mx.float32)
TEXT = list(range(40))


@pytest.fixture(autouse=True)
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is known of the kernels before, and nothing stays behind."""
    monkeypatch.setenv("LIKELY_KERNELS", str(tmp_path / "kernels"))
    before = dict(kernel.switched_off), dict(dispatch.faster)
    for known in (kernel.switched_off, dispatch.faster):
        known.clear()
    yield
    for known, old in zip((kernel.switched_off, dispatch.faster), before, strict=True):
        known.clear()
        known.update(old)  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's, on a chip whose kernels an earlier run has compared and timed."""
    with simulated():
        record = tuning_cache.blank()
        record.verdicts = {case.name: "as the reference" for case in cases(SHAPE)}
        record.faster = {case.name: True for case in autotune.timing_cases(SHAPE)}
        tuning_cache.save(record)
    return write_folder(tmp_path / "tiny", CONFIG, {n: mx.array(a) for n, a in weights(CONFIG).items()})


def loaded(folder: Path) -> Session:
    """What an earlier run has found is read, not made again."""
    said: list[str] = []
    checkpoint = load(folder, lambda text, *_: said.append(text), precision=Precision(mx.float32, packed=False))
    assert not any(text.startswith(("testing", "timing")) for text in said)
    return Session(checkpoint)


def test_kernels_are_ready_before_the_first_token(folder: Path) -> None:
    plain = loaded(folder).logits_after(TEXT)
    with simulated() as launches:
        session = loaded(folder)
        before = sum(launches.values())  # what was compiled
        assert before > 0
        with dispatch.forced("ours"):
            seen = session.logits_after(TEXT)
        assert sum(launches.values()) > before
    np.testing.assert_allclose(seen, plain, atol=1e-4)


@pytest.mark.parametrize("name", ["decode", "scan", "qkv_prepare"])
def test_a_kernel_that_the_compiler_refuses_stops_no_model(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was compared before and is refused now: it is off, `likely doctor` says so, and answers come."""
    plain = loaded(folder).logits_after(TEXT)
    with simulated():
        compiled = mx.fast.metal_kernel

        def refusing(*args: Any, **options: Any) -> Any:
            if name in options.get("name", args[0] if args else ""):
                options["source"] = "?" + options["source"]
            return compiled(*args, **options)

        with monkeypatch.context() as broken:
            broken.setattr("mlx.core.fast.metal_kernel", refusing)
            session = loaded(folder)
        assert [off.split()[0] for off in kernel.switched_off if off.split()[0] == name] == [name]
        line = doctor.kernels()
        assert f"{name} float32" in line and "is off" in line and "--retest" in line
        np.testing.assert_allclose(session.logits_after(TEXT), plain, atol=1e-4)


@pytest.mark.slow
def test_doctor_forgets_what_is_known_of_the_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LIKELY_HOME", "HF_HOME", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    found = tuning_cache.blank()
    tuning_cache.save(found)
    assert tuning_cache.load() == found
    assert CliRunner().invoke(doctor.command, ["--retest", "--json"]).exit_code == 0
    assert tuning_cache.load() is None
