# ruff: noqa: E501 - the table reads as one
"""The parameters of the transforms, in one table: the sliders, the flags and the named presets come from here.

A dict of values (by parameter name, `temp`, `top_p`, ...) is what a person sets; a `Recipe` is what the engine runs.
`recipe` and `values` lead from one to the other. Knows nothing of the screen or the command line.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any

from engine.errors import ParameterError
from engine.trace.trace import Recipe
from engine.transforms import (
    DRY,
    XTC,
    DynamicTemperature,
    FrequencyPenalty,
    LogitBias,
    MinP,
    MirostatV2,
    PresencePenalty,
    RepetitionPenalty,
    Temperature,
    TopK,
    TopNSigma,
    TopP,
    Transform,
    Typical,
)

Order = tuple[type[Transform], ...]
Values = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Parameter:
    """One number that a person sets.

    `off` is the value at which its transform is left out; None for a parameter of a transform that another one
    switches. `low`, `high` and `step` are the slider's; a transform may allow more.
    """

    name: str  # in dicts of values; the flag is the same with dashes
    label: str
    transform: type[Transform]
    field: str
    low: float
    high: float
    step: float
    default: float
    off: float | None
    help: str
    whole: bool = False

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")


def _table(*parameters: Parameter) -> Mapping[str, Parameter]:
    return MappingProxyType({parameter.name: parameter for parameter in parameters})


# Names are mlx-lm's where it has the parameter, else llama.cpp's.
PARAMETERS: Mapping[str, Parameter] = _table(
    Parameter("temp", "temperature", Temperature, "temperature", 0.0, 2.0, 0.05, 0.8, 1.0, "below 1 sharper, above 1 flatter; 0 takes the most likely token"),
    Parameter("dynatemp_range", "dynamic range", DynamicTemperature, "spread", 0.0, 2.0, 0.05, 0.0, 0.0, "the temperature moves this far either way with the entropy"),
    Parameter("dynatemp_exponent", "dynamic exponent", DynamicTemperature, "exponent", 0.1, 4.0, 0.1, 1.0, None, "how the entropy maps to the dynamic temperature"),
    Parameter("top_k", "top-k", TopK, "k", 0, 200, 1, 0, 0, "only the k most likely tokens", whole=True),
    Parameter("top_p", "top-p", TopP, "p", 0.01, 1.0, 0.01, 0.95, 1.0, "only the smallest set of tokens that holds this mass"),
    Parameter("min_p", "min-p", MinP, "p", 0.0, 1.0, 0.01, 0.05, 0.0, "only tokens this many times as likely as the most likely one"),
    Parameter("min_tokens_to_keep", "min-p keeps", MinP, "least", 1, 50, 1, 1, None, "tokens that min-p never removes", whole=True),
    Parameter("typical_p", "typical-p", Typical, "p", 0.01, 1.0, 0.01, 1.0, 1.0, "only tokens about as surprising as expected, up to this mass"),
    Parameter("top_n_sigma", "top-n-sigma", TopNSigma, "n", 0.0, 5.0, 0.1, 0.0, 0.0, "only logits within n standard deviations of the largest"),
    Parameter("xtc_probability", "XTC probability", XTC, "probability", 0.0, 1.0, 0.05, 0.0, 0.0, "how often the top choices are excluded"),
    Parameter("xtc_threshold", "XTC threshold", XTC, "threshold", 0.0, 0.5, 0.01, 0.1, None, "how likely a top choice is; the least likely of them stays"),
    Parameter("dry_multiplier", "DRY multiplier", DRY, "multiplier", 0.0, 5.0, 0.1, 0.0, 0.0, "penalty for carrying on a repetition"),
    Parameter("dry_base", "DRY base", DRY, "base", 1.0, 4.0, 0.05, 1.75, None, "the penalty's growth with each repeated token"),
    Parameter("dry_allowed_length", "DRY allowed", DRY, "allowed", 1, 20, 1, 2, None, "repeated tokens before the penalty begins", whole=True),
    Parameter("dry_penalty_last_n", "DRY window", DRY, "window", 1, 32768, 1, 4096, None, "tokens looked back over for repetitions", whole=True),
    Parameter("mirostat_tau", "mirostat tau", MirostatV2, "tau", 0.0, 10.0, 0.1, 0.0, 0.0, "steer the surprisal of what is drawn to this many bits"),
    Parameter("mirostat_eta", "mirostat eta", MirostatV2, "eta", 0.01, 1.0, 0.01, 0.1, None, "how fast mirostat steers"),
    Parameter("repetition_penalty", "repetition", RepetitionPenalty, "penalty", 0.5, 2.0, 0.01, 1.0, 1.0, "above 1 makes recent tokens less likely"),
    Parameter("repetition_context_size", "repetition window", RepetitionPenalty, "window", 1, 4096, 1, 20, None, "tokens that count as recent", whole=True),
    Parameter("presence_penalty", "presence", PresencePenalty, "penalty", -2.0, 2.0, 0.05, 0.0, 0.0, "subtracted from a token that is there already"),
    Parameter("presence_context_size", "presence window", PresencePenalty, "window", 1, 4096, 1, 20, None, "tokens that count as there", whole=True),
    Parameter("frequency_penalty", "frequency", FrequencyPenalty, "penalty", -2.0, 2.0, 0.05, 0.0, 0.0, "subtracted from a token once for each time it is there"),
    Parameter("frequency_context_size", "frequency window", FrequencyPenalty, "window", 1, 4096, 1, 20, None, "tokens that count as there", whole=True),
)  # fmt: skip

# Orders in which the transforms run. mlx-lm and Hugging Face have not all of them; the others stand where llama.cpp
# has them. A dynamic temperature takes the place of the temperature.
_LOGITWISE = (LogitBias, RepetitionPenalty, PresencePenalty, FrequencyPenalty, DRY)
MLX_LM: Order = (*_LOGITWISE, TopNSigma, Typical, TopP, MinP, XTC, TopK, Temperature, MirostatV2)
LLAMA_CPP: Order = (*_LOGITWISE, TopNSigma, TopK, Typical, TopP, MinP, XTC, Temperature, MirostatV2)
HUGGING_FACE: Order = (*_LOGITWISE, Temperature, TopK, TopP, MinP, Typical, TopNSigma, XTC, MirostatV2)
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


def recipe(settings: Values, order: Order = MLX_LM, *, bias: Mapping[int, float] | None = None) -> Recipe:
    """The recipe of a dict of values; a parameter that is not in it is off.

    Temperature 0 is greedy. Raises ParameterError for an unknown name and for a value out of a transform's range.
    """
    settings = {**OFF, **_known(settings)}
    return Recipe(build(settings, order, bias=bias), greedy=settings["temp"] == 0)


def build(settings: Values, order: Order = MLX_LM, *, bias: Mapping[int, float] | None = None) -> tuple[Transform, ...]:
    """The transforms that the values switch on, in the given order; `recipe` says what is raised."""
    settings = {**OFF, **_known(settings)}
    made: list[Transform] = []
    for kind in order:
        if kind is LogitBias:
            made += [LogitBias(bias)] if bias else []
        elif kind is Temperature and settings["dynatemp_range"]:
            made += _made(DynamicTemperature, settings, temperature=settings["temp"])
        elif kind is not Temperature or settings["temp"]:
            made += _made(kind, settings)
    return tuple(made)


def _made(kind: type[Transform], settings: Values, **more: float) -> list[Transform]:
    """The transform, or nothing where its switch is off; its other parameters are checked all the same."""
    mine = [p for p in PARAMETERS.values() if p.transform is kind]
    fields: dict[str, Any] = more | {p.field: settings[p.name] for p in mine}
    switch = next(p for p in mine if p.off is not None)
    if settings[switch.name] != switch.off:
        return [kind(**fields)]
    kind(**fields | {switch.field: switch.high})
    return []


def values(of: Recipe) -> dict[str, float]:
    """The values of a recipe, every parameter named; where a transform comes twice, those of the last."""
    found = dict(OFF)
    for transform in of.transforms:
        for p in PARAMETERS.values():
            if p.transform is type(transform):
                found[p.name] = getattr(transform, p.field)
        if isinstance(transform, DynamicTemperature):
            found["temp"] = transform.temperature
    return found | ({"temp": 0.0} if of.greedy else {})


def clamp(name: str, value: float) -> tuple[float, str]:
    """The value moved into its slider's range, whole where it must be; and what was done about it, or "".

    Raises ParameterError for an unknown name.
    """
    _known({name: value})
    p = PARAMETERS[name]
    inside = p.default if value != value else min(max(value, p.low), p.high)
    inside = round(inside) if p.whole else inside
    steps = "in steps of 1 " if p.whole else ""
    said = f"{p.label} goes {steps}from {p.low:g} to {p.high:g}: {value:g} became {inside:g}"
    return inside, said if inside != value else ""


def _known(settings: Values) -> Values:
    for name in settings:
        if name not in PARAMETERS:
            near = get_close_matches(name, PARAMETERS, 1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(PARAMETERS)}"
            raise ParameterError(f"there is no sampling parameter {name}: {hint}")
    return settings
