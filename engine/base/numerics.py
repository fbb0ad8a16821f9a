"""Numbers that are none: logits that hold NaN or +inf are refused before a token is drawn of them. Knows no file.

float16 ends at 65,504, which the activations of some models exceed: then NaN comes of a model that is well in wider
numbers. Of a damaged one it comes in all of them.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

import likely.metal as metal  # whose mx is imported where it is used: what looks at rows alone has no mlx
from likely.engine.base.errors import ConfigError, NotFinite

if TYPE_CHECKING:
    from likely.models.model import LanguageModel


def require_finite(row: np.ndarray) -> None:
    """Nothing, for logits [V] of which a token can be drawn: no NaN, no +inf, not all -inf; else NotFinite."""
    if not math.isfinite(row.max()):  # a NaN is the largest of all
        raise NotFinite("the model's logits are not finite: they hold NaN or infinity")


def not_finite(x: "metal.mx.array", layer: int) -> str:
    """Where what comes out of a layer (0: the embedding), [B, T, C], holds a NaN or an infinity, in words; empty if
    nowhere."""
    if bool(metal.mx.isfinite(x).all()):
        return ""
    token = int(metal.mx.argmin(metal.mx.isfinite(x).all(axis=(0, -1)).astype(metal.mx.int32)))
    return f"after token {token + 1} ({f'layer {layer}' if layer else 'the embedding'} is the first)"


def first_not_finite(model: "LanguageModel", *texts: Sequence[int]) -> str:
    """Where the inside of a pass over one of `texts` first holds a NaN or an infinity, in words."""
    for ids in texts:
        try:
            hidden = model.inspect(metal.mx.array([list(ids)])).hidden
        except ConfigError:  # an inside that cannot be seen
            return f"after {len(ids)} tokens"
        for layer, x in enumerate(hidden):
            if where := not_finite(x, layer):
                return where
    return f"after token {len(texts[0])} (the head is the first)"


def damaged(name: str, model: "LanguageModel", *texts: Sequence[int]) -> NotFinite:
    """The error of a model that gives no numbers for one of `texts`, and is not loaded again in a wider type."""
    dtype = str(getattr(model, "dtype", metal.mx.float32)).rpartition(".")[2]
    narrow = "" if dtype == "float32" else f"{dtype} is too narrow for it, or "
    return damaged_at(name, first_not_finite(model, *texts), narrow)


def damaged_at(name: str, where: str, narrow: str = "") -> NotFinite:
    """The error of a model that gives NaN at a place that is known, in words (`where`)."""
    return NotFinite(f"{name} gives NaN {where}: {narrow}its weights are damaged, fetch it again")
