"""Parametrisation: how the random start and the learning rate of each weight go with the width of the model.

With m = width / base width (arXiv:2203.03466, table 3, Adam; heads keep their size, and so the scores their scale),
standard deviation of the start and rate are:

                 tables and vectors    matrices of the layers       head
    mup          1, rate 1             1 / sqrt(inputs), rate 1/m   0, rate 1/m
    standard     .02, rate 1           1 / sqrt(inputs), rate 1     1 / sqrt(inputs), rate 1

Where the head starts at 0 the first steps move every row of the table along the same few directions, which from .02 on
is all that is left of it after some steps; from 1 on it is little.

What writes to the residual stream starts 1 / sqrt(2 layers) smaller in both. rate x decay does not change with m. A
step of Muon is as large whatever the width (its spectral norm is sqrt(outputs / inputs)), so there matrices of the
layers learn at its own rate in both, and the rest by AdamW at a share of it.
"""

from dataclasses import dataclass
from math import sqrt

from likely.engine.base.errors import ParameterError
from likely.engine.train.pretrain.config import PretrainConfig
from likely.engine.train.run.optimizers import ParameterGroup, adamw, muon
from likely.metal import mx
from likely.models.modules.parts import ModelPart
from likely.models.transformer import Transformer

TABLE_STD = {"mup": 1.0, "standard": 0.02}  # of embedding and positions; of one that is the head too
BETAS = (0.9, 0.95)  # of a second moment that follows a start from nothing
RATES = {"adamw": 2.0**-7, "muon": 2.0**-5.5}
SIDE = 0.3  # of Muon's rate: what tables, head and vectors learn at by AdamW
RESIDUAL = ("o", "down")  # roles that write to the residual stream
TABLES = ("embed", "positions")


@dataclass(frozen=True)
class Parametrisation:
    """`kind` is mup or standard; `ratio` is width / base width."""

    kind: str
    ratio: float

    def std(self, part: ModelPart, layers: int) -> float:
        """The standard deviation that a matrix or a table begins with."""
        if part.role in TABLES:
            return TABLE_STD[self.kind]
        if part.role == "head" and self.kind == "mup":
            return 0.0
        return 1 / sqrt(part.width * (2 * layers if part.role in RESIDUAL else 1))

    def rate(self, part: ModelPart) -> float:
        """AdamW's learning rate for a part, relative to the one that is given."""
        return 1 / self.ratio if self.kind == "mup" and part.kind == "matrix" else 1.0


def check_tied(kind: str, family: str, tied: bool) -> None:
    """ParameterError for muP where the head is the embedding, which would have to be two things at once."""
    if kind == "mup" and tied:
        raise ParameterError(
            f"muP wants a head of its own, and this {family} ties it to the embedding: "
            "give --parametrisation standard, or a shape with tied = false"
        )


def parametrisation(config: PretrainConfig, model: Transformer) -> Parametrisation:
    """The parametrisation of the options. ParameterError for a tied head where it needs one of its own."""
    check_tied(config.parametrisation, model.config.family, model.config.tied)
    return Parametrisation(config.parametrisation, model.config.width / config.base_width)


def start(model: Transformer, chosen: Parametrisation, seed: int) -> None:
    """Random weights in place of the model's; norms begin as 1, biases as 0. A function of the seed and the shapes.

    They are computed when they are asked for: a plan of a model that is too large costs nothing.
    """
    for i, part in enumerate(model.parts()):
        bias = None if part.bias is None else mx.zeros_like(part.bias)
        shape = part.numbers().shape
        if part.kind == "norm":
            weight = mx.ones(shape)
        elif std := chosen.std(part, model.config.layers):
            weight = std * mx.random.normal(shape, key=mx.random.key(seed * 100_003 + i))
        else:
            weight = mx.zeros(shape)
        model.put(part, weight, bias)


def groups(model: Transformer, chosen: Parametrisation, optimiser: str, decay: float) -> dict[str, ParameterGroup]:
    """How each parameter learns, by its checkpoint's name."""
    by_name = {}
    adam, orthogonal = adamw(*BETAS), muon()
    for part in model.parts():
        for leaf in part.arrays():
            rate = chosen.rate(part) if leaf == "weight" else 1.0
            if optimiser == "muon" and part.kind == "matrix" and part.role != "head" and leaf == "weight":
                group = ParameterGroup(orthogonal, 1.0, decay)
            else:
                group = ParameterGroup(adam, rate * (SIDE if optimiser == "muon" else 1.0), decay / rate)
            by_name[f"{part.path}.{leaf}"] = group
    return by_name


def peak(config: PretrainConfig, width: int) -> float:
    """The learning rate where none is given; without muP that of the width, which muP would give its matrices."""
    rate: float = RATES[config.optimiser]
    return rate if config.parametrisation == "mup" or config.optimiser == "muon" else rate * min(1.0, 64 / width)
