"""mlx-lm with a checkpoint's weights, to be measured beside ours: the same arrays, dtype, device and BLAS.

The only module that imports mlx_lm's generator, and only when a comparison is asked for.
"""

import time
from collections.abc import Iterator, Sequence
from importlib import import_module
from itertools import pairwise
from typing import Any

from likely.engine.base.errors import CheckpointError
from likely.engine.weights.sources.model_info import ModelInfo, quantization_of, read_config
from likely.metal import mx


class MlxLm:
    """A contestant of `engine.bench`."""

    name = "mlx-lm"

    def __init__(self, info: ModelInfo, dtype: mx.Dtype) -> None:
        """CheckpointError where mlx-lm has no class for the model."""
        if not info.path.is_file() and quantization_of(read_config(info.path)):
            self.model = import_module("mlx_lm.utils").load_model(info.path)[0]
        else:
            self.model = _build(info)
        self.model.set_dtype(dtype)
        mx.eval(self.model.parameters())
        self._generate = import_module("mlx_lm.generate")

    def decode(self, ids: Sequence[int], tokens: int) -> tuple[float, list[float]]:
        """Seconds until the first token is there, and of each further one; greedy, its own pipeline."""
        began = time.perf_counter()
        steps = self._generate.generate_step(mx.array(list(ids)), self.model, max_tokens=tokens)
        times = [time.perf_counter() for _ in steps]
        return times[0] - began, [b - a for a, b in pairwise(times)]

    def batch(self, ids: Sequence[int], branches: int, tokens: int) -> float:
        """Seconds for that many sampled answers of one prompt, the prompt included."""
        began = time.perf_counter()
        generator = self._generate.BatchGenerator(self.model, sampler=_sample, max_tokens=tokens)
        generator.insert([list(ids)] * branches, [tokens] * branches)
        while generator.next_generated():
            pass
        generator.close()
        return time.perf_counter() - began


def _sample(logprobs: mx.array) -> mx.array:
    return mx.random.categorical(logprobs)


def _build(info: ModelInfo) -> Any:
    """mlx-lm's class with the weights of a checkpoint that is not in its layout, or not quantised."""
    from likely.engine.weights.quantize.source import Source

    source = Source(info)
    try:
        module = import_module(f"mlx_lm.models.{'llama' if source.shape.family == 'mistral' else source.shape.family}")
    except ImportError:
        raise CheckpointError(f"mlx-lm has no class for a {source.shape.family}: leave out --against") from None
    model = module.Model(module.ModelArgs.from_dict(source.config))
    model.load_weights(list(_weights(source)))
    model.eval()
    return model


def _weights(source: Any) -> Iterator[tuple[str, mx.array]]:
    yield from source.spelled(source.top(*source.parts)).items()
    for i in range(source.shape.layers):
        yield from source.spelled(source.layer(i)).items()
