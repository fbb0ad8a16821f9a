"""Record of a run: `Trace`, what was asked, how it was drawn, and every step. Plain Python and numpy.

Knows nothing of mlx, models or the screen; `engine.trace.file` writes and reads it.
"""

from dataclasses import dataclass, field

from likely.engine.sampling.trace.record import DenoisingRecord
from likely.engine.sampling.trace.step import TokenStep, TokenStrings


@dataclass(frozen=True)
class Trace:
    """One run: what was asked, how it was drawn, and every step. `engine.trace.file` saves and loads it."""

    model: str
    weights: str  # SHA-256 of the weights' fingerprint
    versions: dict[str, str]
    seed: int
    prompt: tuple[int, ...]
    steps: tuple[TokenStep, ...]
    finish: str = ""  # stop | length | cancelled | eot
    meta: dict[str, str] = field(default_factory=dict)
    lexicon: TokenStrings = field(default_factory=TokenStrings)  # the pieces of the prompt and of every candidate
    denoising: DenoisingRecord | None = None  # by diffusion: then the prompt is a canvas, and steps are in any order
