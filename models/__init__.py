"""Transformers: one `Transformer`, composed from shared blocks, for every family.

A family says how its configuration and its weight names map to ours, and what differs. Which way a pass goes (graph,
compiled step, native, tapped, mlx-lm's class) stands in docs/passes.md. Nothing here knows of text, of files of weights
or of sampling. The names below are made on first use, so that `models.errors` needs no mlx.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from likely.models.cache import Cache
    from likely.models.config import ModelConfig
    from likely.models.families import FAMILIES
    from likely.models.families.registry import build, configure, joins
    from likely.models.model import LanguageModel
    from likely.models.transformer import Transformer

__all__ = ["FAMILIES", "Cache", "LanguageModel", "ModelConfig", "Transformer", "build", "configure", "joins"]

_HOME = {
    "Cache": "cache",
    "FAMILIES": "families",
    "ModelConfig": "config",
    "LanguageModel": "model",
    "Transformer": "transformer",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'models' has no attribute {name!r}")
    return getattr(import_module(f"likely.models.{_HOME.get(name, 'families.registry')}"), name)
