"""Divergence of the next-token distributions after two contexts, over the whole vocabulary, in nats."""

from collections.abc import Sequence

from engine import arrays
from engine.evaluate.metrics import METRICS
from metal import mx
from models.model import LanguageModel


def shift(model: LanguageModel, before: Sequence[int], now: Sequence[int]) -> dict[str, float]:
    """Every metric of `engine.evaluate.metrics`, of the distributions after the ids `before` and `now`."""
    said = []
    for ids in (before, now):
        hidden = model.hidden(mx.array([list(ids)]), model.make_cache())
        said.append(arrays.logprobs(model.head(hidden[0, -1:]).astype(mx.float32), mx, exact=True))
    return {metric.name: float(metric.of(said[0], said[1], mx)[0]) for metric in METRICS}
