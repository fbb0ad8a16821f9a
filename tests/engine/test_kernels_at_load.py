"""Loading a model where there is Metal tests and compiles its kernels; shown with the simulator in Metal's place."""

from pathlib import Path

import numpy as np
import pytest

from engine.session import Session
from engine.sources.checkpoint import load
from engine.sources.precision import Precision
from metal import dispatch, kernel, mx, tuning_cache
from metal.simulator import simulated
from tests.engine.tiny import LLAMA, weights, write_folder

CONFIG = LLAMA | {"head_dim": 64, "num_attention_heads": 2, "num_key_value_heads": 1}


@pytest.mark.slow
def test_kernels_are_tested_once_and_ready_before_the_first_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIKELY_KERNELS", str(tmp_path / "kernels"))
    monkeypatch.setattr(kernel, "switched_off", {})
    monkeypatch.setattr(dispatch, "faster", {})
    folder = write_folder(tmp_path / "tiny", CONFIG, {n: mx.array(a) for n, a in weights(CONFIG).items()})
    precision = Precision(mx.float32, packed=False)
    plain = Session(load(folder, precision=precision)).logits_after(list(range(40)))
    before = kernel.launches.copy()
    with simulated() as launches:
        checkpoint = load(folder, precision=precision)
        ran = {name for name in kernel.launches if kernel.launches[name] > before[name]}
        assert ran == {"decode", "merge", "tiles", "scan", "draw", "qkv_prepare"}  # all before any question
        found = tuning_cache.load()
        assert found is not None and found.verdicts and not found.switched_off
        with dispatch.forced("ours"):
            ran_before = sum(launches.values())
            seen = Session(checkpoint).logits_after(list(range(40)))
        assert sum(launches.values()) > ran_before
        launches.clear()
        load(folder, precision=precision)
        assert sum(launches.values()) < 8  # the record is read, not made again; what stays is the compiling
    np.testing.assert_allclose(seen, plain, atol=1e-4)
