"""Rules of which options go together, of all verbs: what one needs and excludes, said before anything is loaded.

They look at what was given on the command line, not at values, so that an option which would be ignored is refused even
where its value is the default. Values that contradict each other are refused where they are read. Knows nothing of what
options do.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import click
from click.core import ParameterSource

from engine.presets import PARAMETERS

Values = dict[str, Any]


@dataclass(frozen=True, slots=True)
class OptionRule:
    """Where `when` holds, of the options of a verb by parameter name: `only` these, or none `without` these."""

    when: Callable[[Values], bool]  # of all values, the defaults too
    line: str  # what the rule is about: "OPTION {line}"
    refused: Collection[str] = ()
    only: Collection[str] = ()


def _named(name: str) -> Callable[[Values], bool]:
    return lambda values: bool(values[name])


def is_given(value: object) -> bool:
    """Whether an option that has no default has a value: 0 is one."""
    return value is not None and value is not False and value != ()


def _goes_with(options: tuple[str, ...], *refused: str) -> OptionRule:
    """Without any of `options`, which are called as their parameters, there is nothing that `refused` are about."""
    line = f"goes with {' or '.join('--' + name for name in options)}"
    return OptionRule(lambda values: not any(is_given(values[name]) for name in options), line, refused)


RULES: dict[str, tuple[OptionRule, ...]] = {
    "run": (
        OptionRule(
            _named("replay"),
            "is of a run of the model: --replay shows a saved one, and takes sampling parameters and --json",
            only=("replay", "as_json", "prompt", "save", "preset", "order", "bias", *PARAMETERS),
        ),
    ),
    "chat": (
        OptionRule(_named("plain"), "is for the full screen: leave out --plain", refused=("resume",)),
        OptionRule(
            lambda values: not values["plain"],
            "is for --plain: on the full screen an answer ends where the model ends it, or by esc",
            refused=("stop",),
        ),
    ),
    "fuse": (
        OptionRule(
            lambda values: bool(values["peft"] or values["lora"]),
            "is about a fused model: --peft and --lora write the adapter alone, as it is",
            refused=("bits", "group_size", "kind", "data", "rows", "force"),
        ),
        OptionRule(
            lambda values: values["bits"] in ("0", "16", "32"),
            "is of quantised weights: it goes with --bits 2, 3, 4, 5, 6 or 8",
            refused=("group_size",),
        ),
    ),
    "eval": (
        OptionRule(
            _named("generated"),
            "is of tasks: --generated takes --reference, --training, --model, --adapter, --measure and --json",
            only=("tasks", "generated", "reference", "training", "models", "adapters", "measures", "as_json"),
        ),
        OptionRule(
            _named("stored"),
            "is of what is measured now: --compare takes TASKS, --model, --measure, --by, --positions, --difference, "
            "--report, --json and --items",
            only=(
                "tasks",
                "stored",
                "models",
                "measures",
                "column",
                "positions",
                "difference",
                "report",
                "as_json",
                "items",
            ),
        ),
    ),
    "inside": (
        _goes_with(("attribution", "patch"), "against"),
        _goes_with(("neighbours",), "centred"),
        _goes_with(("neighbours", "sum", "relations"), "output"),
        _goes_with(("attention", "rollout"), "without_first"),
        _goes_with(("save",), "keep"),
        _goes_with(("lens",), "tuned"),
        _goes_with(("toward",), "away", "layer", "direction"),
        _goes_with(("patch",), "part"),
    ),
    "bench": (
        OptionRule(
            lambda values: values["what"] == "kernels",
            "is of a model: `likely bench kernels` has none, and takes --case and --json",
            refused=("model", "rounds", "tokens", "contexts", "answers", "against"),
        ),
        OptionRule(
            lambda values: values["what"] == "model",
            "chooses among kernels: likely bench kernels --case TEXT",
            refused=("case",),
        ),
    ),
}


def check(ctx: click.Context) -> None:
    """UsageError, naming the option, for the first that would be ignored."""
    by_name = {param.name: param for param in ctx.command.params if param.name is not None}
    given = [n for n in by_name if ctx.get_parameter_source(n) is ParameterSource.COMMANDLINE]
    for rule in RULES.get(ctx.command.name or "", ()):
        if not rule.when(ctx.params):
            continue
        for name in given:
            if name in rule.refused or (rule.only and name not in rule.only):
                raise click.UsageError(f"{by_name[name].opts[0]} {rule.line}", ctx)
