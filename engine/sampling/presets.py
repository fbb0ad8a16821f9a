"""Values, orders and named presets: the sliders and the flags on one side, a `SamplingConfig` on the other.

A dict of values (by parameter name, `temp`, `top_p`, ...) is what a person sets; a `SamplingConfig` is what the
engine runs.
`recipe` and `values` lead from one to the other. Which transforms there are, and what of them is set, is their own
table. Knows nothing of the screen or the command line.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from likely.engine.base.errors import ParameterError
from likely.engine.sampling.trace.step import SamplingConfig
from likely.engine.sampling.transforms import (
    DRY,
    TRANSFORMS,
    XTC,
    DynamicTemperature,
    Edit,
    FrequencyPenalty,
    LogitBias,
    MinP,
    MirostatV2,
    Parameter,
    PresencePenalty,
    RepetitionPenalty,
    Temperature,
    TopK,
    TopNSigma,
    TopP,
    Transform,
    Typical,
)
from likely.metal.errors import nearest_names

Order = tuple[type[Transform], ...]
Values = Mapping[str, float]

PARAMETERS: Mapping[str, Parameter] = MappingProxyType({p.name: p for kind in TRANSFORMS for p in kind.parameters})


ELSEWHERE: Mapping[str, str] = MappingProxyType(  # as other programs call them
    {"temperature": "temp", "repeat_penalty": "repetition_penalty"}
)


def _order(*kinds: type[Transform]) -> Order:
    """All transforms: edits of single logits, then these, those that no program has an order for before them.

    A dynamic temperature takes the place of the temperature.
    """
    edits = (LogitBias, RepetitionPenalty, PresencePenalty, FrequencyPenalty, DRY)
    others = [kind for kind in TRANSFORMS if kind not in (*edits, *kinds, DynamicTemperature) and kind.parameters]
    others.sort(key=lambda kind: not issubclass(kind, Edit))
    return (*edits, *others, *kinds)


# mlx-lm and Hugging Face have not all of them; the others stand where llama.cpp has them.
MLX_LM = _order(TopNSigma, Typical, TopP, MinP, XTC, TopK, Temperature, MirostatV2)
LLAMA_CPP = _order(TopNSigma, TopK, Typical, TopP, MinP, XTC, Temperature, MirostatV2)
HUGGING_FACE = _order(Temperature, TopK, TopP, MinP, Typical, TopNSigma, XTC, MirostatV2)
ORDERS: Mapping[str, Order] = MappingProxyType({"mlx-lm": MLX_LM, "llama.cpp": LLAMA_CPP, "hugging-face": HUGGING_FACE})

OFF: Values = MappingProxyType({p.name: p.default if p.off is None else p.off for p in PARAMETERS.values()})
DEFAULT: Values = MappingProxyType({p.name: p.default for p in PARAMETERS.values()})

# What differs from `OFF`.
PRESETS: Mapping[str, Values] = MappingProxyType(
    {
        "greedy": {"temp": 0.0},
        "precise": {"temp": 0.4, "top_p": 0.9, "min_p": 0.1},
        "balanced": {"temp": 0.8, "top_p": 0.95, "min_p": 0.05},
        "wild": {"temp": 1.4, "min_p": 0.02, "xtc_probability": 0.5},
    }
)

RECOMMENDED = "recommended"  # the name of the values that a model's makers name, where they do


def recipe(settings: Values, order: Order = MLX_LM, *, bias: Mapping[int, float] | None = None) -> SamplingConfig:
    """The recipe of a dict of values; a parameter that is not in it is off.

    Temperature 0 is greedy. Raises ParameterError for an unknown name and for a value out of a transform's range.
    """
    settings = {**OFF, **_known(settings)}
    return SamplingConfig(build(settings, order, bias=bias), greedy=settings["temp"] == 0)


def build(settings: Values, order: Order = MLX_LM, *, bias: Mapping[int, float] | None = None) -> tuple[Transform, ...]:
    """The transforms that the values switch on, in the given order; `recipe` says what is raised."""
    settings = {**OFF, **_known(settings)}
    transforms: list[Transform] = []
    for kind in order:
        if kind is LogitBias:
            transforms += [LogitBias(bias)] if bias else []
        elif kind is Temperature and settings["dynatemp_range"] and settings["temp"]:
            transforms += _switched(DynamicTemperature, settings, temperature=settings["temp"])
        elif kind is not Temperature or settings["temp"]:
            transforms += _switched(kind, settings)
    return tuple(transforms)


def _switched(kind: type[Transform], settings: Values, **more: float) -> list[Transform]:
    """The transform, or nothing where its switch is off; its other parameters are checked all the same."""
    fields: dict[str, Any] = more | {p.field: settings[p.name] for p in kind.parameters}
    switch = next(p for p in kind.parameters if p.off is not None)
    if settings[switch.name] != switch.off:
        return [kind(**fields)]
    kind(**fields | {switch.field: switch.high})
    return []


def values(of: SamplingConfig) -> dict[str, float]:
    """The values of a recipe, every parameter named; where a transform comes twice, those of the last."""
    by_name = dict(OFF)
    for transform in of.transforms:
        for p in transform.parameters:
            by_name[p.name] = getattr(transform, p.field)
        if isinstance(transform, DynamicTemperature):
            by_name["temp"] = transform.temperature
    return by_name | ({"temp": 0.0} if of.greedy else {})


def own_name(name: str) -> str:
    """A parameter's name, of its flag or of what it is called elsewhere; any other word as it is, with `_` for `-`."""
    name = name.replace("-", "_")
    return ELSEWHERE.get(name, name)


def read(name: str, text: str) -> float:
    """A parameter's value as a person writes it, be it on a line, at a slider or behind a flag.

    Raises ParameterError for an unknown name, for what is no number, and out of the range of its transform.
    """
    name = own_name(name)
    _known({name: 0.0})
    p = PARAMETERS[name]
    try:
        value = float(text)
    except ValueError:
        raise ParameterError(f"{p.label} must be a number, got {text.strip() or 'nothing'}") from None
    kind = next(kind for kind in TRANSFORMS if p in kind.parameters)
    switch = next(parameter for parameter in kind.parameters if parameter.off is not None)
    recipe({switch.name: switch.high, name: value})  # a detail is checked while its transform runs
    return round(value) if p.whole else value


def clamp(name: str, value: float) -> float:
    """The value moved to where its slider goes, whole where it must be. Raises ParameterError for an unknown name."""
    _known({name: value})
    p = PARAMETERS[name]
    inside = p.default if value != value else min(max(value, p.low), p.high)
    return round(inside) if p.whole else inside


def _known(settings: Values) -> Values:
    for name in settings:
        if name not in PARAMETERS:
            near = nearest_names(name, PARAMETERS)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(PARAMETERS)}"
            raise ParameterError(f"there is no sampling parameter {name}: {hint}")
    return settings
