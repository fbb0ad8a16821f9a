"""One transformer made of shared blocks, and the model families that describe it. It knows no text, no files of
weights and no sampling.

Read first: transformer.py.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from likely.models.caches.kv_cache import Cache
    from likely.models.configuration.config import ModelConfig
    from likely.models.families import FAMILIES
    from likely.models.families.registry import build, configure, joins
    from likely.models.model import LanguageModel
    from likely.models.transformer import Transformer

__all__ = ["FAMILIES", "Cache", "LanguageModel", "ModelConfig", "Transformer", "build", "configure", "joins"]

_HOME = {
    "Cache": "caches.kv_cache",
    "FAMILIES": "families",
    "ModelConfig": "configuration.config",
    "LanguageModel": "model",
    "Transformer": "transformer",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'models' has no attribute {name!r}")
    return getattr(import_module(f"likely.models.{_HOME.get(name, 'families.registry')}"), name)
