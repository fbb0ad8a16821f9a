"""Sampling settings, as the sliders have them: values, the order of the transforms, biases. They make a
`SamplingConfig`."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType

from likely.app.store.sampling_text import BAN
from likely.engine.base.errors import ParameterError
from likely.engine.sampling import presets
from likely.engine.sampling.presets import OFF, ORDERS, PARAMETERS, PRESETS
from likely.engine.sampling.trace.step import SamplingConfig
from likely.engine.sampling.transforms import DynamicTemperature, LogitBias, Parameter, Temperature, Transform


@dataclass(frozen=True)
class Sampling:
    """Values by parameter name, the order that transforms run in, and a bias for single tokens. Immutable."""

    values: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({**OFF, **PRESETS["balanced"]}))
    order: presets.Order = presets.MLX_LM
    bias: Mapping[int, float] = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def of(cls, recipe: SamplingConfig, names: Sequence[str] = ()) -> "Sampling":
        """The settings that give a recipe. `names` is the order of all transforms, as `names` gave it.

        Without it, transforms that are off stand where a known order has them.
        """
        bias: dict[int, float] = {}
        kinds: list[type[Transform]] = []
        for transform in recipe.transforms:
            if isinstance(transform, LogitBias):
                bias.update(dict(transform.bias))
            kinds.append(Temperature if isinstance(transform, DynamicTemperature) else type(transform))
        if sorted(names) == sorted(_KINDS):
            return cls(presets.values(recipe), bias=bias).ordered(names)
        for order in ORDERS.values():
            if [kind for kind in order if kind in kinds] == kinds:
                return cls(presets.values(recipe), order, bias)
        rest = [kind for kind in presets.MLX_LM if kind not in kinds]
        return cls(presets.values(recipe), (*dict.fromkeys(kinds), *rest), bias)

    @cached_property
    def recipe(self) -> SamplingConfig:
        return presets.recipe(self.values, self.order, bias=self.bias)

    @property
    def names(self) -> tuple[str, ...]:
        """The transforms by name, in their order, those that are off included."""
        return tuple(kind.__name__ for kind in self.order)

    @property
    def order_name(self) -> str:
        return next((name for name, order in ORDERS.items() if order == self.order), "own")

    @property
    def preset_name(self) -> str:
        """The named preset that these values are, or ""."""
        return next((name for name, values in PRESETS.items() if dict(self.values) == {**OFF, **values}), "")

    def active(self, parameter: Parameter) -> bool:
        """Whether the transform of a parameter runs."""
        if parameter in DynamicTemperature.parameters:
            return self.values["dynatemp_range"] != 0 and self.values["temp"] != 0
        if parameter.off is not None:
            return self.values[parameter.name] != parameter.off
        switches = (p for p in self._kind(parameter).parameters if p.off is not None)
        return all(self.values[p.name] != p.off for p in switches)

    def rows(self) -> list[Parameter]:
        """The sliders in the order of the pipeline; a parameter that only refines a transform comes while it runs."""
        parameters: list[Parameter] = []
        for kind in self.order:
            mine = kind.parameters + (DynamicTemperature.parameters if kind is Temperature else ())
            parameters += [p for p in mine if p.off is not None or self.active(p)]
        return parameters

    def with_value(self, name: str, value: float) -> "Sampling":
        """With one value, as far as its slider goes."""
        return replace(self, values={**self.values, name: presets.clamp(name, value)})

    def with_read(self, texts: Mapping[str, str]) -> "Sampling":
        """With values as a person writes them, all of them or none: ParameterError for one that cannot be, and where
        they do not go together."""
        changed = replace(
            self, values={**self.values, **{name: presets.read(name, text) for name, text in texts.items()}}
        )
        presets.recipe(changed.values, changed.order)
        return changed

    def stepped(self, name: str, steps: int) -> "Sampling":
        """With one value moved by so many steps of its slider."""
        p = PARAMETERS[name]
        value = round(round(self.values[name] / p.step) * p.step + steps * p.step, 6)
        return self.with_value(name, value)

    def preset(self, name: str) -> "Sampling":
        """With the values of a named preset."""
        return replace(self, values={**OFF, **PRESETS[name]})

    def unshaped(self) -> "Sampling":
        """With nothing that changes the model's distribution but bans and biases."""
        return replace(self, values=OFF)

    def moved(self, parameter: Parameter, by: int) -> "Sampling":
        """With a parameter's transform one place earlier (-1) or later (1)."""
        order = list(self.order)
        here = order.index(self._kind(parameter))
        there = min(max(here + by, 0), len(order) - 1)
        order.insert(there, order.pop(here))
        return replace(self, order=tuple(order))

    def _kind(self, parameter: Parameter) -> type[Transform]:
        """The transform in the order that a parameter belongs to."""
        if parameter in DynamicTemperature.parameters:
            return Temperature
        return next(kind for kind in self.order if parameter in kind.parameters)

    def ordered(self, names: Sequence[str]) -> "Sampling":
        """With the order that `names` gives. Raises KeyError for a name that is no transform's."""
        return replace(self, order=tuple(_KINDS[name] for name in names))

    @property
    def bans(self) -> tuple[int, ...]:
        """The tokens that are never drawn, the one banned last at the end."""
        return tuple(token for token, value in self.bias.items() if value <= BAN)

    @property
    def biases(self) -> tuple[tuple[int, float], ...]:
        """The other tokens with a bias, and what is added to their logits."""
        return tuple((token, value) for token, value in self.bias.items() if value > BAN)

    def banned(self, token: int) -> "Sampling":
        """With a token that is never drawn from now on; allowed again if it was."""
        return self.lift(token) if token in self.bans else self.biased(token, BAN)

    def biased(self, token: int, value: float) -> "Sampling":
        """With so much added to the logit of a token from now on."""
        return replace(self.lift(token), bias={**self.lift(token).bias, token: value})

    def lift(self, token: int) -> "Sampling":
        """With a token that has no bias and no ban."""
        return replace(self, bias={id: value for id, value in self.bias.items() if id != token})


_KINDS = {kind.__name__: kind for kind in presets.MLX_LM}


def typed(text: str, sampling: Sampling) -> Sampling:
    """The settings with what a person typed: `temp 1.2 top_p 0.9`, or a temperature alone.

    Raises ParameterError for an unknown name, a value that is no number, and one out of its range.
    """
    return sampling.with_read(pairs(text))


def pairs(text: str, whole: Collection[str] = ()) -> dict[str, str]:
    """The values that a person typed, by name: `temp 1.2, top-p=0.9`; one alone is a temperature. That of a name in
    `whole` is all the rest. ParameterError for a name without a value."""
    found, rest = dict[str, str](), text.strip()
    while rest:
        name, rest = re.split(r"[\s,]*[=\s,]\s*|$", rest, maxsplit=1)
        if name in whole:
            return found | {name: rest}
        value, rest = re.split(r"[\s,=]+|$", rest, maxsplit=1)
        if not name or not value:
            break
        found[presets.own_name(name)] = value
    else:
        if found:
            return found
    if len(words := text.replace("=", " ").replace(",", " ").split()) == 1:
        return {"temp": words[0]}
    raise ParameterError(f"parameters come with their values, as in temp 1.2 top_p 0.9; got {text.strip() or 'none'}")


def as_typed(sampling: Sampling) -> str:
    """The text from which `typed` reads these values: those that are not off."""
    return " ".join(f"{name} {value:g}" for name, value in sampling.values.items() if value != OFF[name])
