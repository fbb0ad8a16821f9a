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

from likely.app.cli.factorisation import LEFT_TO_RIGHT, SEARCHES, UNMASKING
from likely.engine.presets import PARAMETERS, PRESETS
from likely.engine.reason import belief
from likely.engine.transforms import TRANSFORMS, Parameter

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
    line = f"goes with {' or '.join('--' + name.replace('_', '-') for name in options)}"
    return OptionRule(lambda values: not any(is_given(values[name]) for name in options), line, refused)


def _set(parameter: Parameter, values: Values) -> float | None:
    """The value of a sampling parameter, given or of the preset that is named; None where none says it."""
    given: float | None = values[parameter.name]
    return PRESETS[values["preset"]].get(parameter.name) if given is None and values["preset"] else given


def _details(switch: Parameter, refused: tuple[str, ...]) -> OptionRule:
    """Parameters of a transform do nothing while the one that switches it leaves it out."""
    line = f"goes with {switch.flag}, and there with another value than {switch.off:g}"
    return OptionRule(lambda values: _set(switch, values) in (None, switch.off), line, refused)


SAMPLING = (
    *(
        _details(next(p for p in kind.parameters if p.off is not None), details)
        for kind in TRANSFORMS
        if (details := tuple(p.name for p in kind.parameters if p.off is None))
    ),
    OptionRule(
        lambda values: _set(PARAMETERS["temp"], values) == 0,
        "moves a temperature, and at 0 the likeliest token is taken: leave out one of them",
        ("dynatemp_range", "dynatemp_exponent"),
    ),
)


def _rounds(*graph: str) -> OptionRule:
    """Activations are rounded in native passes alone; what `graph` asks for goes through mlx's."""
    return OptionRule(
        _named("activation_bits"),
        "goes through the graph, whose activations are exact: leave out --activation-bits",
        graph,
    )


ORDERLESS = OptionRule(
    lambda values: any(is_given(values[name]) for name in UNMASKING),
    f"is of drawing from left to right: {', '.join('--' + name for name in UNMASKING)} are of diffusion models",
    LEFT_TO_RIGHT,
)
WATCHED = OptionRule(
    _named("screen"), "is for a run without --screen, which shows it as it goes", ("dry_run", "as_json")
)
RULES: dict[str, tuple[OptionRule, ...]] = {
    "run": (
        *SAMPLING,
        OptionRule(_named("resample"), "is drawn by its law already: leave out --resample", ("choice",)),
        _goes_with(("regex", "json_schema"), "resample"),
        OptionRule(
            _named("resample"),
            "is not of --resample, which draws by the model's own law of what matches: leave one of them out",
            ("strategy", "draft_model", "ngram", *SEARCHES, "preset", "order", "bias", *PARAMETERS),
        ),
        _rounds("adapters", "kv_bits", "parallel"),
        ORDERLESS,
        OptionRule(
            _named("replay"),
            "is of a run of the model: --replay shows a saved one, and takes sampling parameters and --json",
            only=("replay", "as_json", "prompt", "save", "preset", "order", "bias", *PARAMETERS),
        ),
    ),
    "fill": (
        *SAMPLING,
        OptionRule(
            lambda values: values["nbest"] is not None or values["mcmc"] is not None,
            "is of diffusion models: --nbest and --mcmc fill from left to right",
            (*UNMASKING, "save"),
        ),
        OptionRule(
            _named("replay"),
            "is of a run of the model: --replay shows a saved one, and takes sampling parameters and --json",
            only=("replay", "as_json", "text", "preset", "order", "bias", *PARAMETERS),
        ),
    ),
    "chat": (
        *SAMPLING,
        OptionRule(_named("plain"), "is for the full screen: leave out --plain", refused=("resume", "server")),
        OptionRule(
            _named("server"),
            "is of a chat of this program: --server watches another's, and takes --server-key alone",
            only=("server", "server_key"),
        ),
        _goes_with(("server",), "server_key"),
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
            refused=("bits", "group_size", "kind", "data", "rows", "force", "as_json"),
        ),
        OptionRule(
            lambda values: values["bits"] in ("0", "16", "32"),
            "is of quantised weights: it goes with --bits 2, 3, 4, 5, 6 or 8",
            refused=("group_size",),
        ),
    ),
    "quantize": (
        OptionRule(
            _named("kind"),
            "is of a folder: blocks of a .gguf file are those of --gguf",
            refused=("bits", "group", "mode", "recipe", "awq"),
        ),
    ),
    "reason": (
        *SAMPLING,
        _goes_with(("verifier",), "timeout"),
        _goes_with(("file",), "limit", "analyse"),
        OptionRule(
            lambda values: values["method"] != "steps", "is of a search by steps: --method steps", ("beams", "step_end")
        ),
        OptionRule(lambda values: values["method"] != "power", "is of the power of --method power", ("alpha",)),
        OptionRule(lambda values: values["method"] != "entropy", "is of --method entropy", ("bits",)),
        OptionRule(
            lambda values: values["method"] not in ("best", "steps") and not values["analyse"],
            "chooses the best, or finds first wrong steps: use it with --method best or steps, or with --analyse",
            ("verifier",),
        ),
        OptionRule(
            lambda values: values["verifier"] and not values["analyse"],
            "weighs in the place of --verifier: choose one of them",
            ("by",),
        ),
        OptionRule(
            lambda values: values["method"] == "reflect", "has nothing to weigh: the last answer counts", ("by",)
        ),
        OptionRule(
            lambda values: values["by"] == belief.NAME and values["method"] != "best",
            f"{belief.NAME} asks the model about whole answers: use it with --method best",
            ("by",),
        ),
        OptionRule(
            lambda values: values["method"] != "vote",
            "is of paths that are drawn side by side to be counted: use it with --method vote",
            ("confidence", "hopeless"),
        ),
        OptionRule(
            lambda values: values["paths"] == 1,
            "is of a vote of several paths: one alone has nothing to count",
            ("confidence", "hopeless"),
        ),
        OptionRule(
            _named("file"), "stops a vote early, and a file's votes are compared at all their sizes", ("confidence",)
        ),
        OptionRule(_named("raw"), "is how a question is asked, and --raw asks it as it is", ("template",)),
    ),
    "explain": (
        _rounds("adapters", "attended"),
        OptionRule(
            lambda values: not values["as_json"],
            "is numbers for every layer, head and token: give --json too",
            ("attended",),
        ),
        OptionRule(
            lambda values: not values["adapters"],
            "is of the posterior of an adapter: put one on with --adapter",
            ("samples",),
        ),
        OptionRule(
            lambda values: values["formula"] and not values["as_json"],
            "is of the table of tokens: leave out --formula, or give --json for both",
            ("top", "candidate", "samples"),
        ),
    ),
    "models": (OptionRule(_named("known"), "is of the models that are here: leave out --known", ("chosen", "folder")),),
    "pretrain": (WATCHED,),
    "tune": (
        WATCHED,
        OptionRule(
            _named("search"), "is of one training, and --search makes many and goes on by itself", ("resume", "screen")
        ),
    ),
    "eval": (
        OptionRule(lambda values: not values["as_json"], "is for programs: give --json too", ("items",)),
        OptionRule(
            lambda values: values["text"] is not None and not values["tasks"],
            "is of tasks: --text is one text, which is read as it is",
            ("shots", "cluster", "validation", "kinds", "judge"),
        ),
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
        OptionRule(lambda values: not values["kinds"], "goes with --vary", refused=("variants", "paraphraser")),
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
    "synth": (
        OptionRule(
            lambda values: values["generations"] is not None,
            "is of rows that are made: --generations learns from real ones and draws",
            refused=("reported", "effect"),
        ),
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
