"""Options of every verb that draws: a flag for each sampling parameter, presets, orders, seed and limits.

The flags come from the engine's table of parameters, so they are named once.
"""

import os
from collections.abc import Mapping
from typing import Any

import click
from click.core import ParameterSource

from likely.app.cli.options.table_options import options
from likely.app.words.limits import Limits
from likely.engine.base.errors import ParameterError
from likely.engine.sampling import presets
from likely.engine.sampling.presets import ORDERS, PARAMETERS, PRESETS, RECOMMENDED, Values, read, recipe
from likely.engine.sampling.trace.step import SamplingConfig
from likely.engine.sampling.transforms import Parameter

DEFAULT_PRESET = "balanced"
MAX_TOKENS = 2048  # a model that never ends its answer is stopped there


class ParameterValue(click.ParamType):
    """A sampling parameter's value, read as the screen reads it: one line for one that cannot be."""

    def __init__(self, parameter: Parameter) -> None:
        self.parameter, self.name = parameter, "integer" if parameter.whole else "float"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        return read(self.parameter.name, value) if isinstance(value, str) else float(value)


def _help(text: str, low: float, high: float, off: float | None) -> str:
    return f"{text[0].upper()}{text[1:]} ({low:g} to {high:g}{'' if off is None else f'; {off:g} is off'})."


ELSEWHERE = {name: f"--{other.replace('_', '-')}" for other, name in presets.ELSEWHERE.items()}
draw_options = options(  # whose values `read_recipe` reads
    click.option("--preset", type=click.Choice([*PRESETS, RECOMMENDED]),
                 help=f"Named settings. Default: {DEFAULT_PRESET}. {RECOMMENDED}: those of the model's publisher."),
    click.option("--order", type=click.Choice(list(ORDERS)), default="mlx-lm", show_default=True,
                 help="The order in which the transforms run."),
    *(
        click.option(p.flag, *filter(None, [ELSEWHERE.get(p.name)]), p.name, type=ParameterValue(p),
                     help=_help(p.help, p.low, p.high, p.off))
        for p in PARAMETERS.values()
    ),
    click.option("--logit-bias", "bias", multiple=True, metavar="ID=BIAS",
                 help="Added to a token's logit; repeatable."),
    click.option("--seed", type=click.IntRange(0), help="The same seed gives the same tokens on one machine."),
)  # fmt: skip
sampling_options = options(  # of a text that is drawn from left to right
    draw_options,
    click.option("--max-tokens", "--max-new-tokens", "-m", type=click.IntRange(1),
                 help=f"Draw at most so many tokens. Default: {MAX_TOKENS}."),
    click.option("--stop", multiple=True, metavar="TEXT", help="End before this text; repeatable."),
)  # fmt: skip


def says_recipe(values: Mapping[str, Any]) -> bool:
    """Whether any option of the command that runs says how tokens are drawn."""
    named = any(values[name] is not None for name in (*PARAMETERS, "preset")) or bool(values["bias"])
    return named or click.get_current_context().get_parameter_source("order") is ParameterSource.COMMANDLINE


def read_recipe(
    values: Mapping[str, Any], *, searches: bool = False, whole: bool = False
) -> tuple[SamplingConfig, Limits]:
    """The recipe and limits of the options' values; what is given stands over the preset.

    Giving any parameter without a preset starts from all off, as mlx-lm does, with temperature 1; so does a search, and
    what draws by the law of `whole` texts.
    """
    flags = {name: values[name] for name in PARAMETERS if values[name] is not None}
    preset = values["preset"] or (None if flags or searches or whole else DEFAULT_PRESET)
    settings = {**(_preset(preset) if preset else {}), **flags}
    bias = dict(_bias(entry) for entry in values["bias"])
    limits = Limits(
        _fresh_seed() if values["seed"] is None else values["seed"],
        values["max_tokens"] or MAX_TOKENS,
        tuple(values["stop"]),
    )
    if any(not stop for stop in limits.stop):
        raise ParameterError("--stop must be a text of at least one character, got an empty one")
    drawing = recipe(settings, ORDERS[values["order"]], bias=bias)
    if searches and drawing.greedy:
        option = "--temp 0" if "temp" in flags else f"--preset {preset}"
        raise ParameterError(
            f"a search has no use for temperature 0, it looks for the likeliest by itself: drop {option}"
        )
    return drawing, limits


def _preset(name: str) -> Values:
    """Values of a preset; those that the publisher of the command's model recommends are read from its files.

    ParameterError where there are none, or the model is not here yet.
    """
    if name != RECOMMENDED:
        return PRESETS[name]
    from likely.app.cli.options.opening import default_model
    from likely.engine.weights.recommended import recommended
    from likely.engine.weights.sources import store

    given = click.get_current_context().params
    if given.get("replay") is not None:
        raise ParameterError(f"--replay reads no model, so it cannot take --preset {RECOMMENDED}: name the values")
    model = given.get("model") or default_model()
    if (info := store.resolve(model)) is None:
        raise ParameterError(f"--preset {RECOMMENDED} reads files of {model}, not here yet: likely pull {model} first")
    if not (values := recommended(info.path)):
        raise ParameterError(f"{model} comes without recommended values: leave out --preset {RECOMMENDED}")
    return values


def _fresh_seed() -> int:
    return int.from_bytes(os.urandom(4), "little")


def _bias(entry: str) -> tuple[int, float]:
    token, _, value = entry.partition("=")
    try:
        pair = int(token), float(value)
    except ValueError:
        raise ParameterError(f"--logit-bias must be ID=BIAS such as 42=-100, got {entry!r}") from None
    if not 0 <= pair[0] < 2**31 or pair[1] != pair[1]:
        raise ParameterError(f"--logit-bias must be the id of a token and a number, got {entry!r}")
    return pair
