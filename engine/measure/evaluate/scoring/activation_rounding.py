"""Rounding of activations in packed products: how far the native path's distributions are from the graph's.

Both read the same text with the same weights; the graph has activations of float32. A distribution may be as good as
the same while a token's log-probability is off: KL is of second order in what logits are off by. So both are measured.
Knows no screen.
"""

from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from likely.engine.base import arrays
from likely.engine.base.errors import ConfigError, DataError
from likely.engine.weights.quantize.measure import TEXT
from likely.engine.weights.sources.checkpoint import Checkpoint
from likely.metal import mx
from likely.metal.packed import EIGHT, FULL
from likely.models.model import LanguageModel
from likely.models.native_path.native import NativeModel

TOKENS = 200


@dataclass(frozen=True, slots=True)
class ActivationRounding:
    """KL(graph || native) and errors of log-probabilities, in nats a token over a text."""

    bits: int  # of activations
    tokens: int
    kl: float  # the mean
    largest: float
    off: float  # of the log-probability of the token that follows: root of the mean square
    most_off: float
    flips: int  # tokens whose most likely next token is another


def measure(checkpoint: Checkpoint, text: str | None = None) -> list[ActivationRounding]:
    """Of the model as it is drawn from and measured, and with 8-bit activations where it takes them.

    Over a text's first TOKENS tokens, of ours by default; DataError for a model that has no native path, and no text.

    The graph's weights are made for it, float32, and let go with the checkpoint.
    """
    model = checkpoint.model
    if not isinstance(model, NativeModel):
        raise DataError(f"{checkpoint.info.name} runs through the graph: there is nothing to compare")
    ids = checkpoint.tokenizer.encode(TEXT.read_text(encoding="utf-8") if text is None else text)
    ids = ids[: min(TOKENS, checkpoint.model.config.context)]
    if not ids:
        raise DataError("the text is empty: there is nothing to compare")
    tokens = mx.array([ids])
    measured = {checkpoint.precision.activation_bits: model.drawing}
    measured.setdefault(FULL, model.with_activations(FULL))
    with suppress(ConfigError):  # none of its weights takes them
        measured.setdefault(EIGHT, model.with_activations(EIGHT))
    p = _logprobs(model.graph, tokens)
    errors = []
    for bits, one in measured.items():
        q = _logprobs(one, tokens)
        kl = np.asarray(arrays.kl(p, q, np))
        flips = int((p.argmax(-1) != q.argmax(-1)).sum())
        off = np.abs(q - p)[range(len(ids) - 1), ids[1:]] if len(ids) > 1 else np.zeros(1)
        root = float(np.sqrt((off * off).mean()))
        errors.append(
            ActivationRounding(bits, len(ids), float(kl.mean()), float(kl.max()), root, float(off.max()), flips)
        )
    return errors


def _logprobs(model: LanguageModel, tokens: mx.array) -> np.ndarray:
    return np.asarray(arrays.logprobs(np.array(model(tokens)[0], np.float64), np))
