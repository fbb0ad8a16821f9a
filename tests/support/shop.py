"""A shop whose one model is real, for screens on which it really draws. Imports mlx."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from likely.app.jobs.model_provider import LocalModelProvider
from tests.support.model import ScriptedShop


class TinyShop(ScriptedShop):
    """A shop with one real model."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = str(path)

    def choose(self, prefer: Sequence[str]) -> str:
        return self.path

    def opening(self, model: str, progress: Any) -> Any:
        return LocalModelProvider().opening(self.path, progress)
