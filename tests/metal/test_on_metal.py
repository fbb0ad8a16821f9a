"""What only a Mac's GPU can show: the same model there and on the CPU."""

from pathlib import Path

import numpy as np
import pytest

from likely.engine.weights.sources.checkpoint import load
from likely.engine.weights.sources.gguf.precision import Precision
from likely.metal import mx
from tests.engine import tiny

pytestmark = [pytest.mark.metal, pytest.mark.usefixtures("unknown")]


def logits(folder: Path) -> np.ndarray:
    model = load(folder, precision=Precision(mx.float32, False)).model
    cache = model.make_cache()
    parts = [model(mx.array([part]), cache) for part in ([1, 2, 3, 4, 5, 6, 7], [8], [9])]
    return np.concatenate([np.array(part) for part in parts], axis=1)


def test_a_model_says_on_the_gpu_what_it_says_on_the_cpu(tmp_path: Path) -> None:
    config = tiny.LLAMA | {"hidden_size": 128, "head_dim": 64, "intermediate_size": 256}
    arrays = {name: mx.array(array) for name, array in tiny.weights(config).items()}
    folder = tiny.write_folder(tmp_path / "model", config, arrays)
    there = logits(folder)
    mx.set_default_device(mx.cpu)
    np.testing.assert_allclose(there, logits(folder), atol=1e-3, rtol=1e-3)
