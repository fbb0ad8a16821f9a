"""Activations of a text by name: read, replaced, and the gradient of a logit with respect to them.

The names are those of `models.tap` (`layers.3.mlp`, ...); a pattern has `*` and `?`. What TransformerLens and nnterp
call the same activations is understood too. In float32 whatever the model's own type is. Knows nothing of pages.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase

import numpy as np

from likely.engine.base.errors import ParameterError
from likely.engine.inside.subject import InspectedText
from likely.metal import mx
from likely.models.transformer import Transformer

PARTS = ("heads", "attention", "mlp", "residual")
LARGEST = 1 << 30  # bytes of activations that are kept for who does not say otherwise
_OTHERS = {  # a name elsewhere, of which # is the layer: ours
    "hook_embed": "embedding",
    "blocks.#.attn.hook_z": "layers.#.heads",
    "blocks.#.hook_attn_out": "layers.#.attention",
    "blocks.#.hook_mlp_out": "layers.#.mlp",
    "blocks.#.hook_resid_post": "layers.#.residual",
    "attentions_output[#]": "layers.#.attention",
    "mlps_output[#]": "layers.#.mlp",
    "layers_output[#]": "layers.#.residual",
}

Replacement = np.ndarray | Callable[[np.ndarray], np.ndarray]


def names(model: Transformer) -> list[str]:
    """All names, in the order of the pass."""
    return ["embedding", *(f"layers.{i}.{part}" for i in range(len(model.blocks)) for part in PARTS)]


def matching(model: Transformer, pattern: str) -> list[str]:
    """The names that a pattern matches. ParameterError where it matches none."""
    found = [name for name in names(model) if fnmatchcase(name, _ours(pattern))]
    if not found:
        raise ParameterError(
            f"no activation is called {pattern!r}: embedding, and layers.0 to layers.{len(model.blocks) - 1} with "
            f".{', .'.join(PARTS)}; * and ? stand for others"
        )
    return found


def shape(subject: InspectedText, name: str) -> tuple[int, ...]:
    """The shape of an activation of a text: [T, C], or [T, H, D] of what each head read."""
    config, t = subject.model.config, len(subject.ids)
    return (t, config.heads, config.head_size) if name.endswith(".heads") else (t, config.width)


def nbytes(subject: InspectedText, wanted: Sequence[str]) -> int:
    """Bytes of these activations in float32."""
    return sum(4 * int(np.prod(shape(subject, name))) for name in wanted)


def activations(subject: InspectedText, wanted: Sequence[str], most: int = LARGEST) -> dict[str, np.ndarray]:
    """Activations by name, float32, without the batch's axis. ParameterError for more than `most` bytes, before any is
    computed."""
    if (size := nbytes(subject, wanted)) > most:
        raise ParameterError(
            f"{len(wanted)} activations of {len(subject.ids)} tokens are {size / 1e6:,.0f} MB, and "
            f"{most / 1e6:,.0f} MB may be kept: name fewer, or allow more (most=)"
        )
    kept: dict[str, np.ndarray] = {}

    def tap(name: str, x: mx.array) -> mx.array:
        if name in wanted:
            kept[name] = np.array(x[0])
        return x

    mx.eval(subject.whole().run(tap))
    return kept


def replaced(subject: InspectedText, by_name: Mapping[str, Replacement]) -> np.ndarray:
    """The raw logits [V] after the text with activations replaced: by an array of their shape, or by what a function
    makes of theirs. ParameterError for another shape."""

    def tap(name: str, x: mx.array) -> mx.array:
        if (new := by_name.get(name)) is None:
            return x
        value = np.asarray(new(np.array(x[0])) if callable(new) else new, np.float32)
        if value.shape != x.shape[1:]:
            raise ParameterError(f"{name} is {list(x.shape[1:])}, got {list(value.shape)} to put in its place")
        return mx.array(value)[None].astype(x.dtype)

    return np.array(_logits(subject, subject.whole().run(tap)))


def gradients(
    subject: InspectedText, wanted: Sequence[str], token: int, foil: int | None = None, most: int = LARGEST
) -> dict[str, np.ndarray]:
    """Gradients of the logit of `token` after the text, less that of `foil` where one is named, with respect to each
    activation: of the same shapes. Raises as `activations`."""
    zeros = {name: mx.array(np.zeros_like(x))[None] for name, x in activations(subject, wanted, most).items()}

    def metric(added: dict[str, mx.array]) -> mx.array:
        logits = _logits(subject, subject.whole().run(lambda name, x: x + added[name] if name in added else x))
        return logits[token] if foil is None else logits[token] - logits[foil]

    return {name: np.array(slope[0]) for name, slope in mx.grad(metric)(zeros).items()}


def _logits(subject: InspectedText, x: mx.array) -> mx.array:
    return subject.model.head(subject.model.norm(x[:, -1]))[0].astype(mx.float32)


def _ours(pattern: str) -> str:
    """A pattern in our names; a residual stream before a layer is that after the one below it."""
    if before := re.fullmatch(r"blocks\.(\d+)\.hook_resid_pre", pattern):
        return f"layers.{int(before[1]) - 1}.residual" if int(before[1]) else "embedding"
    layer = re.search(r"\d+|\*", pattern)
    common = pattern.replace(layer[0], "#", 1) if layer else pattern
    return _OTHERS[common].replace("#", layer[0] if layer else "") if common in _OTHERS else pattern
