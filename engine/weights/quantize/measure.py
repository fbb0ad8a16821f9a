"""Cost of an approximation: the original and its approximation read a text, layer by layer.

Log-probabilities in nats. Knows nothing of how the approximation was made.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from likely.engine.base import arrays
from likely.engine.base.errors import DataError
from likely.engine.base.statistics.estimates import Estimate
from likely.engine.text.tokenizer import Tokenizer
from likely.engine.weights.quantize.source import Layer
from likely.metal import mx
from likely.models.configuration.config import ModelConfig
from likely.models.configuration.rotation import Rotation
from likely.models.modules.block import ForwardContext

TEXT = Path(__file__).with_name("text.txt")
WINDOW = 128  # tokens that are read as one text


@dataclass(frozen=True)
class QuantizationReport:
    """A model before and after. KL is that of the approximation from the original, per token of a text held out."""

    path: Path | None  # None: nothing was written
    weight_bits: float  # bits a weight over all tensors, scales included
    nbytes: int  # of the weights
    nbytes_before: int  # of those on the disk
    tokens: int
    predicted: int  # of them, each window's first has nothing before it
    kl: float  # nats a token
    kl_interval: tuple[float, float]  # 95 %, over windows of the text
    flips: float  # share of tokens whose most likely next token changed
    perplexity: float
    perplexity_before: float
    cost: Estimate  # by how many nats a token the text's surprisal rose, window by window
    bits: int = 0  # asked for of a matrix, where it is one number of all
    errors: dict[str, float] = field(default_factory=dict)  # of each layer's output, relative to what the layer adds

    @property
    def worst(self) -> list[tuple[str, float]]:
        """The five layers that lose most on the original's inputs."""
        return sorted(self.errors.items(), key=lambda item: -item[1])[:5]


def windows(tokenizer: Tokenizer, config: ModelConfig, text: str | None = None) -> mx.array:
    """A text as int32 [N, T], T at most `WINDOW`; DataError where it is too short to measure anything."""
    ids = tokenizer.encode(TEXT.read_text(encoding="utf-8") if text is None else text)
    ids = [token for token in ids if token < config.vocab_size]
    size = min(WINDOW, config.context)
    count = len(ids) // size
    if count < 4:
        raise DataError(
            f"the text must have at least {4 * size} tokens to measure with, got {len(ids)}: take a longer one"
        )
    return mx.array(ids[: count * size], dtype=mx.int32).reshape(count, size)


def step(rotations: Sequence[Rotation], b: int, t: int) -> ForwardContext:
    """Context of a pass over [B, T] without a cache."""
    return ForwardContext([rotation.turns(0, t, t) for rotation in rotations], mx.array([t] * b, dtype=mx.int32))


def forward(layer: Layer, x: mx.array, rows: int = 8) -> mx.array:
    """The layer's output for x [B, T, C], computed now, a few rows at a time."""
    outs = []
    for low in range(0, x.shape[0], rows):
        part = x[low : low + rows]
        outs.append(layer.block(part, step(layer.rotations, *part.shape[:2]), None, None))
        mx.eval(outs[-1])
    return mx.concatenate(outs) if len(outs) > 1 else outs[0]


def logprobs(logits: mx.array) -> np.ndarray:
    """float32 [T, V], nats."""
    return np.asarray(arrays.logprobs(logits.astype(mx.float32), mx, exact=True))
