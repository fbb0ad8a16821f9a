"""The transforms: what is done to the logits before a token is drawn. One implementation for mlx and numpy.

Imports neither mlx nor anything of the engine but its errors: the screen replays with the same code.
"""

from engine.arrays import Array, Namespace
from engine.transforms.arrays import Key, uniform
from engine.transforms.choices import ChoiceLaw, ChoiceMask
from engine.transforms.constraint import Constraint
from engine.transforms.dry import DRY
from engine.transforms.parameter import Parameter
from engine.transforms.penalties import FrequencyPenalty, LogitBias, Penalty, PresencePenalty, RepetitionPenalty
from engine.transforms.pipeline import STAYS, States, advance, change, draw, edited_ids, run, start
from engine.transforms.snapshot import Snapshot
from engine.transforms.temperature import DynamicTemperature, Temperature
from engine.transforms.transform import Edit, State, Transform, Truncation, Vocabulary
from engine.transforms.truncations import XTC, MinP, MirostatV2, TopK, TopNSigma, TopP, Typical

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
    "change",
    "draw",
    "edited_ids",
    "run",
    "start",
    "uniform",
]
