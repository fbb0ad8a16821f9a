"""Transforms of the logits: temperature, top-p, penalties, constraints. Each is one frozen dataclass, and
`__init__.py` lists them in order.

Read first: transform.py. Uses: no other folder.
"""

from likely.engine.base.arrays import Array, Namespace
from likely.engine.sampling.transforms.arrays import Key, uniform
from likely.engine.sampling.transforms.choices import ChoiceDistribution, ChoiceMask
from likely.engine.sampling.transforms.constraint import Constraint
from likely.engine.sampling.transforms.dry import DRY
from likely.engine.sampling.transforms.parameter import Parameter
from likely.engine.sampling.transforms.penalties import (
    FrequencyPenalty,
    LogitBias,
    Penalty,
    PresencePenalty,
    RepetitionPenalty,
)
from likely.engine.sampling.transforms.pipeline import (
    STAYS,
    States,
    advance,
    along,
    change,
    draw,
    edited_ids,
    run,
    start,
)
from likely.engine.sampling.transforms.snapshot import Snapshot
from likely.engine.sampling.transforms.temperature import DynamicTemperature, Temperature
from likely.engine.sampling.transforms.transform import Edit, State, Transform, Truncation, Vocabulary
from likely.engine.sampling.transforms.truncations import XTC, MinP, MirostatV2, TopK, TopNSigma, TopP, Typical

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
    ChoiceDistribution,
)

__all__ = [
    "DRY",
    "STAYS",
    "TRANSFORMS",
    "XTC",
    "Array",
    "ChoiceDistribution",
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
