"""Cost of an approximation: the original and its approximation read a text, layer by layer.

Log-probabilities in nats. Knows nothing of how the approximation was made.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from engine.errors import DataError
from engine.quantize.source import Layer
from engine.tokenizer import Tokenizer
from metal import mx
from models.block import ForwardContext
from models.config import ModelConfig
from models.rotation import Rotation

TEXT = Path(__file__).with_name("text.txt")
WINDOW = 128  # tokens that are read as one text


@dataclass(frozen=True)
class QuantizationReport:
    """A model before and after. KL is that of the approximation from the original, per token of a text held out."""

    path: Path
    weight_bits: float  # bits a weight over all tensors, scales included
    nbytes: int  # of the weights
    nbytes_before: int
    tokens: int
    kl: float  # nats a token
    kl_interval: tuple[float, float]  # 95 %, over windows of the text
    flips: float  # share of tokens whose most likely next token changed
    perplexity: float
    perplexity_before: float
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
    """What the blocks of a pass over [B, T] without a cache share."""
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
    logits = logits.astype(mx.float32)
    return np.asarray(logits - mx.logsumexp(logits, axis=-1, keepdims=True))


def divergence(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """KL(p || q) of each row [T], from log-probabilities [T, V]; what p rules out adds nothing."""
    with np.errstate(invalid="ignore"):
        terms = np.where(p > -np.inf, np.exp(p) * (p - q), 0.0)
    kl: np.ndarray = terms.sum(-1, dtype=np.float64)
    return kl


@dataclass
class ScoreSums:
    """Sums over the windows of a text, window by window."""

    kl: list[float] = field(default_factory=list)  # a window's mean
    flips: list[float] = field(default_factory=list)
    before: list[float] = field(default_factory=list)  # a window's mean surprisal
    after: list[float] = field(default_factory=list)
    tokens: int = 0

    def add(self, p: np.ndarray, q: np.ndarray, ids: np.ndarray) -> None:
        """One window: log-probabilities [T, V] before and after, and its tokens [T]."""
        self.kl.append(float(divergence(p, q).mean()))
        self.flips.append(float((p.argmax(-1) != q.argmax(-1)).mean()))
        for sums, rows in ((self.before, p), (self.after, q)):
            sums.append(-float(np.take_along_axis(rows[:-1], ids[1:, None], 1).mean()))
        self.tokens += len(ids)

    def interval(self) -> tuple[float, float]:
        """95 % for the mean KL, by Student's t over windows: tokens of one window are not independent."""
        n, mean = len(self.kl), float(np.mean(self.kl))
        if n < 2:
            return 0.0, math.inf
        half = student(n - 1) * float(np.std(self.kl, ddof=1)) / math.sqrt(n)
        return max(0.0, mean - half), mean + half


def student(df: int) -> float:
    """The 97.5 % quantile of Student's t (Cornish-Fisher expansion; exact to 1 % from 3 degrees of freedom on)."""
    exact = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776}
    z = 1.959964
    a = (z**3 + z) / 4
    b = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    return exact.get(df, z + a / df + b / df**2)
