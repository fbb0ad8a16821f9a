"""The transforms: what is done to the logits before a token is drawn. One implementation for mlx and numpy.

Imports neither mlx nor anything of the engine but its errors: the screen replays with the same code.

Reads: no other room.
"""

from likely.engine.arrays import Array, Namespace
from likely.engine.transforms.arrays import Key, uniform
from likely.engine.transforms.choices import ChoiceLaw, ChoiceMask
from likely.engine.transforms.constraint import Constraint
from likely.engine.transforms.dry import DRY
from likely.engine.transforms.parameter import Parameter
from likely.engine.transforms.penalties import (
    FrequencyPenalty,
    LogitBias,
    Penalty,
    PresencePenalty,
    RepetitionPenalty,
)
from likely.engine.transforms.pipeline import STAYS, States, advance, along, change, draw, edited_ids, run, start
from likely.engine.transforms.snapshot import Snapshot
from likely.engine.transforms.temperature import DynamicTemperature, Temperature
from likely.engine.transforms.transform import Edit, State, Transform, Truncation, Vocabulary
from likely.engine.transforms.truncations import XTC, MinP, MirostatV2, TopK, TopNSigma, TopP, Typical

# Every transform there is: files, flags, sliders and orders know it from here. In the order that they are shown.
TRANSFORMS: tuple[type[Transform], ...] = (
    Temperature,
    DynamicTemperature,
    TopK,
    TopP,
    MinP,
    Typical,
    TopNSigma,
    XTC,
    DRY,
    MirostatV2,
    RepetitionPenalty,
    PresencePenalty,
    FrequencyPenalty,
    LogitBias,
    Constraint,
    ChoiceMask,
    ChoiceLaw,
)

__all__ = [
    "DRY",
    "STAYS",
    "TRANSFORMS",
    "XTC",
    "Array",
    "ChoiceLaw",
    "ChoiceMask",
    "Constraint",
    "DynamicTemperature",
    "Edit",
    "FrequencyPenalty",
    "Key",
    "LogitBias",
    "MinP",
    "MirostatV2",
    "Namespace",
    "Parameter",
    "Penalty",
    "PresencePenalty",
    "RepetitionPenalty",
    "Snapshot",
    "State",
    "States",
    "Temperature",
    "TopK",
    "TopNSigma",
    "TopP",
    "Transform",
    "Truncation",
    "Typical",
    "Vocabulary",
    "advance",
    "along",
    "change",
    "draw",
    "edited_ids",
    "run",
    "start",
    "uniform",
]
