"""Tiny random models, the same weights in mlx-lm's class and in ours."""

from functools import cache
from importlib import import_module
from typing import Any

import likely.models as models
from likely.metal import mx

REMAPPED = {"mistral": "llama", "kimi_k2": "deepseek_v3", "minimax_m2": "minimax"}


@cache
def _module(name: str) -> Any:
    return import_module(f"mlx_lm.models.{name}")


def flat(tree: Any, prefix: str = "") -> dict[str, mx.array]:
    """The arrays of a parameter tree by their dotted paths."""
    if isinstance(tree, mx.array):
        return {prefix: tree}
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    found: dict[str, mx.array] = {}
    for key, value in items:
        found |= flat(value, f"{prefix}.{key}" if prefix else str(key))
    return found


def reference(config: dict[str, Any], seed: int = 0, quantization: dict[str, Any] | None = None) -> Any:
    """mlx-lm's model of a config with random float32 weights of a size that makes every part matter."""
    module = _module(REMAPPED.get(config["model_type"], config["model_type"]))
    model = module.Model(module.ModelArgs.from_dict(config))
    key = mx.random.key(seed)
    weights = []
    for name, value in sorted(flat(model.parameters()).items()):
        key, sub = mx.random.split(key)
        noise = mx.random.normal(value.shape, key=sub)
        small = value.ndim == 1
        weights.append((name, value + 0.2 * noise if small else noise * (value.shape[-1] ** -0.5)))
    model.load_weights(weights)
    if quantization:
        from likely.metal import nn

        nn.quantize(model, **quantization)
    mx.eval(model.parameters())
    model.eval()
    return model


def ours(config: dict[str, Any], model: Any, **options: Any) -> Any:
    """Our model with the weights of mlx-lm's."""
    return models.build(config, flat(model.parameters()), **options)


def pair(config: dict[str, Any], seed: int = 0) -> tuple[Any, Any]:
    """mlx-lm's model and ours, with the same weights."""
    model = reference(config, seed)
    return model, ours(config, model)


def tokens(b: int, t: int, vocab: int, seed: int = 1) -> mx.array:
    return mx.random.randint(0, vocab, (b, t), key=mx.random.key(seed))


def difference(a: mx.array, b: mx.array) -> float:
    """The largest difference relative to the largest value."""
    assert a.shape == b.shape, (a.shape, b.shape)
    return float(mx.max(mx.abs(a - b)) / mx.max(mx.abs(b)))
