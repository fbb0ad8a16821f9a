"""A tiny model and samples of it, for the tests of this folder."""

from pathlib import Path
from typing import Any

import numpy as np

from likely.engine.train.data.samples import TrainingSample
from likely.engine.train.run import trainer
from likely.engine.weights.adapters.config import Config, configure
from likely.metal import mx
from likely.models import Transformer
from tests.models.oracle import ours, reference

V = 61
LLAMA: dict[str, Any] = {
    "model_type": "llama", "vocab_size": V, "hidden_size": 32, "num_hidden_layers": 3, "intermediate_size": 48,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256, "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
}  # fmt: skip


def model(seed: int = 0, **changes: Any) -> Transformer:
    config = LLAMA | changes
    built: Transformer = ours(config, reference(config, seed))
    return built


def samples(count: int, seed: int = 0, low: int = 4, high: int = 20) -> list[TrainingSample]:
    """Rows with a step of their own, the last two thirds trained."""
    random = np.random.default_rng(seed)
    out = []
    for i in range(count):
        n, first, step = int(random.integers(low, high)), int(random.integers(V)), int(random.integers(1, 4))
        ids = tuple((first + step * j) % V for j in range(n))
        out.append(TrainingSample(ids, tuple(j > n // 3 for j in range(n)), f"rows:{i + 1}"))
    return out


def rows(count: int = 24, valid: int = 8) -> trainer.Set:
    return trainer.Set(samples(count), samples(valid, seed=1), fingerprint="rows")


def config(**values: Any) -> Config:
    return configure({"batch": 3, "length": 32, "rate": 1e-2, "steps": 8, "eval_every": 0, "save_every": 0, **values})


def run(folder: Path, resume: bool = False, data: trainer.Set | None = None, **values: Any) -> trainer.TrainingRun:
    return trainer.prepare(model(), config(**values), data or rows(), folder, resume=resume)


def finish(a: trainer.TrainingRun) -> list[trainer.Event]:
    return list(trainer.train(a))


def same(a: dict[str, mx.array], b: dict[str, mx.array]) -> bool:
    return set(a) == set(b) and all(bool(mx.array_equal(a[name], b[name])) for name in a)


def worst(a: dict[str, mx.array], b: dict[str, mx.array]) -> float:
    """The largest difference of any tensor, relative to that tensor's largest value."""
    assert set(a) == set(b)
    return max(float(mx.max(mx.abs(a[n] - b[n])) / mx.maximum(mx.max(mx.abs(b[n])), 1e-12)) for n in a)
