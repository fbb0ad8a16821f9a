"""Adapters attached to a loaded model, as plain data: no mlx."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Attached:
    """One adapter of a running model. `weight` is how much of its change counts: 1 as trained, 0 not at all."""

    name: str
    folder: Path
    weight: float
    kind: str  # lora | dora | steering
    rank: int
    scale: float  # the multiplier it was trained with
    modules: tuple[str, ...]  # by their name within a layer
    parameters: int
    trained_on: str  # the model that its directory names, "" where it names none
    posterior: str = ""  # over its weights: laplace | swag | ensemble, "" for none
