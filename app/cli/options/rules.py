"""Rules of which options go together, of all verbs: what one needs and excludes. From this one table come the check,
before anything is loaded; what help says that a flag goes with; and what a shell does not offer.

They look at what was given on the command line, not at values, so that an option which would be ignored is refused even
where its value is the default. Values that contradict each other are refused where they are read. Knows nothing of what
options do.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

import click
from click.core import ParameterSource

from likely.app.cli.options.factorization import LEFT_TO_RIGHT, SEARCHES, UNMASKING
from likely.engine.measure.reason import belief
from likely.engine.sampling.presets import PARAMETERS, PRESETS
from likely.engine.sampling.transforms import TRANSFORMS, Parameter

Values = dict[str, Any]


@dataclass(frozen=True, slots=True)
class OptionRule:
    """Of a verb's options, by parameter name, `refused` are, or all but `only`, where the rule holds: where nothing of
    `needs` is given, where something of `beside` is, or by `when`. What is given is an option, or one of a value:
    NAME=VALUE."""

    line: str = ""  # what the rule is about: "OPTION {line}"; without, what it goes with
    refused: Collection[str] = ()
    only: Collection[str] = ()
    needs: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    when: Callable[[Values], bool] | None = None  # of all values, the defaults too

    def holds(self, values: Values) -> bool:
        if self.when is not None:
            return self.when(values)
        met = any(_is_met(option, values) for option in self.beside or self.needs)
        return met if self.beside else not met

    def refuses(self, name: str) -> bool:
        return name in self.refused or (bool(self.only) and name not in self.only)


def is_given(value: object) -> bool:
    """Whether an option that has no default has a value: 0 is one."""
    return value is not None and value is not False and value != ()


def _is_met(option: str, values: Values) -> bool:
    name, _, value = option.partition("=")
    return str(values[name]) == value if value else is_given(values[name])


def _set(parameter: Parameter, values: Values) -> float | None:
    """The value of a sampling parameter, given or of the preset that is named; None where none says it."""
    value: float | None = values[parameter.name]
    return PRESETS[values["preset"]].get(parameter.name) if value is None and values["preset"] else value


def _details(switch: Parameter, refused: tuple[str, ...]) -> OptionRule:
    """Parameters of a transform do nothing while the one that switches it leaves it out."""
    line = f"goes with {switch.flag}, and there with another value than {switch.off:g}"
    return OptionRule(
        line, refused, needs=(switch.name,), when=lambda values: _set(switch, values) in (None, switch.off)
    )


SAMPLING = (
    *(
        _details(next(p for p in kind.parameters if p.off is not None), details)
        for kind in TRANSFORMS
        if (details := tuple(p.name for p in kind.parameters if p.off is None))
    ),
    OptionRule(
        "moves a temperature, and at 0 the likeliest token is taken: leave out one of them",
        ("dynatemp_range", "dynatemp_exponent"),
        when=lambda values: _set(PARAMETERS["temp"], values) == 0,
    ),
)


def _rounds(*graph: str) -> OptionRule:
    """Activations are rounded in native passes alone; what `graph` asks for goes through mlx's."""
    line = "goes through the graph, whose activations are exact: leave out --activation-bits"
    return OptionRule(line, graph, beside=("activation_bits",))


REPLAYED = "is of a run of the model: --replay shows a saved one, and takes sampling parameters and --json"
WATCHED = OptionRule(
    "is for a run without --screen, which shows it as it goes", ("dry_run", "as_json"), beside=("screen",)
)
RULES: dict[str, tuple[OptionRule, ...]] = {
    "run": (
        *SAMPLING,
        OptionRule("is drawn by its law already: leave out --resample", ("choice",), beside=("resample",)),
        OptionRule("", ("resample",), needs=("regex", "json_schema")),
        OptionRule("", ("allowed", "max_calls", "law"), needs=("servers", "tools")),
        OptionRule(
            "is not of an answer with tools: leave out --tools and --tool",
            ("raw", "answers", "replay", "regex", "json_schema", "choice", "special", *SEARCHES, *UNMASKING),
            beside=("servers", "tools"),
        ),
        OptionRule("is of an answer as text: --json has every token", ("hide_thinking",), beside=("as_json",)),
        OptionRule(
            "goes with answers that are drawn: a search shows its texts whole",
            ("hide_thinking",),
            beside=("beam", "stochastic_beam", "exact_mode"),
        ),
        OptionRule(
            "is not of --resample, which draws by the model's own law of what matches: leave one of them out",
            ("strategy", "draft_model", "ngram", *SEARCHES, "preset", "order", "bias", *PARAMETERS),
            beside=("resample",),
        ),
        _rounds("kv_bits", "parallel"),
        OptionRule(
            f"is of drawing from left to right: {', '.join('--' + name for name in UNMASKING)} are of diffusion models",
            LEFT_TO_RIGHT,
            beside=UNMASKING,
        ),
        OptionRule(
            REPLAYED,
            only=("replay", "as_json", "prompt", "save", "preset", "order", "bias", *PARAMETERS),
            beside=("replay",),
        ),
        OptionRule(
            "is a setting of beams: say how many with --beam K",
            ("length_penalty", "early_stopping", "groups"),
            needs=("beam",),
        ),
        OptionRule("lies between groups of beams: say how many with --groups G", ("diversity",), needs=("groups",)),
        OptionRule("bounds the search for the mode: ask for it with --exact-mode", ("budget",), needs=("exact_mode",)),
    ),
    "fill": (
        *SAMPLING,
        OptionRule(
            "is of diffusion models: --nbest and --mcmc fill from left to right",
            (*UNMASKING, "save"),
            beside=("nbest", "mcmc"),
        ),
        OptionRule(
            REPLAYED, only=("replay", "as_json", "text", "preset", "order", "bias", *PARAMETERS), beside=("replay",)
        ),
    ),
    "chat": (
        *SAMPLING,
        _rounds("parallel"),
        OptionRule("is for the full screen: leave out --plain", ("resume", "server"), beside=("plain",)),
        OptionRule(
            "is of a chat of this program: --server watches another's, and takes --server-key alone",
            only=("server", "server_key"),
            beside=("server",),
        ),
        OptionRule("", ("server_key",), needs=("server",)),
        OptionRule(
            "is for --plain: on the full screen an answer ends where the model ends it, or by esc",
            ("stop",),
            needs=("plain",),
        ),
    ),
    "fuse": (
        OptionRule(
            "is about a fused model: --peft and --lora write the adapter alone, as it is",
            ("bits", "group_size", "kind", "data", "mapped", "rows", "force", "as_json"),
            beside=("peft", "lora"),
        ),
        OptionRule(
            "is of quantised weights: it goes with --bits 2, 3, 4, 5, 6 or 8",
            ("group_size",),
            needs=tuple(f"bits={bits}" for bits in (2, 3, 4, 5, 6, 8)),
        ),
    ),
    "quantize": (
        OptionRule(
            "is of a folder: blocks of a .gguf file are those of --gguf",
            ("bits", "group", "mode", "recipe", "awq"),
            beside=("kind",),
        ),
        OptionRule(
            "is of what is written: --bits all writes nothing",
            ("target",),
            beside=("bits=all",),
        ),
        OptionRule("says the bits itself: leave out --bits all", ("mode", "recipe"), beside=("bits=all",)),
    ),
    "reason": (
        *SAMPLING,
        OptionRule("", ("timeout",), needs=("verifier",)),
        OptionRule("", ("limit", "analyse", "mapped"), needs=("file",)),
        OptionRule("is of a search by steps: --method steps", ("beams", "step_end"), needs=("method=steps",)),
        OptionRule("is of the power of --method power", ("alpha",), needs=("method=power",)),
        OptionRule("is of --method entropy", ("bits",), needs=("method=entropy",)),
        OptionRule(
            "chooses the best, or finds first wrong steps: use it with --method best or steps, or with --analyse",
            ("verifier",),
            needs=("method=best", "method=steps", "analyse"),
        ),
        OptionRule(
            "weighs in the place of --verifier: choose one of them",
            ("by",),
            when=lambda values: values["verifier"] and not values["analyse"],
        ),
        OptionRule("has nothing to weigh: the last answer counts", ("by",), beside=("method=reflect",)),
        OptionRule(
            f"{belief.NAME} asks the model about whole answers: use it with --method best",
            ("by",),
            when=lambda values: values["by"] == belief.NAME and values["method"] != "best",
        ),
        OptionRule(
            "is of paths that are drawn side by side to be counted: use it with --method vote",
            ("confidence", "hopeless"),
            needs=("method=vote",),
        ),
        OptionRule(
            "is of a vote of several paths: one alone has nothing to count",
            ("confidence", "hopeless"),
            beside=("paths=1",),
        ),
        OptionRule(
            "stops a vote early, and a file's votes are compared at all their sizes", ("confidence",), beside=("file",)
        ),
        OptionRule("is how a question is asked, and --raw asks it as it is", ("template",), beside=("raw",)),
    ),
    "explain": (
        _rounds("samples", "attended"),
        OptionRule("is of a text: leave out --chat", ("attended", "formula"), beside=("chat",)),
        OptionRule("is numbers for every layer, head and token: give --json too", ("attended",), needs=("as_json",)),
        OptionRule("is of the posterior of an adapter: put one on with --adapter", ("samples",), needs=("adapters",)),
        OptionRule(
            "is of the table of tokens: leave out --formula, or give --json for both",
            ("top", "candidate", "samples"),
            when=lambda values: values["formula"] and not values["as_json"],
        ),
    ),
    "models": (
        OptionRule("is of the models that are here: leave out --known", ("chosen", "folder"), beside=("known",)),
    ),
    "pretrain": (WATCHED,),
    "tune": (
        WATCHED,
        OptionRule(
            "is of one training, and --search makes many and goes on by itself",
            ("resume", "screen"),
            beside=("search",),
        ),
    ),
    "eval": (
        OptionRule("is for programs: give --json too", ("items",), needs=("as_json",)),
        OptionRule(
            "is of tasks: --text is one text, which is read as it is",
            ("shots", "cluster", "mapped", "validation", "kinds", "judge"),
            when=lambda values: values["text"] is not None and not values["tasks"],
        ),
        OptionRule(
            "is of tasks: --generated takes --reference, --training, --model, --adapter, --measure and --json",
            only=("tasks", "generated", "reference", "training", "models", "adapters", "measures", "as_json"),
            beside=("generated",),
        ),
        OptionRule(
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
            beside=("stored",),
        ),
        OptionRule("", ("variants", "paraphraser"), needs=("kinds",)),
    ),
    "inside": (
        OptionRule("", ("against",), needs=("attribution", "patch")),
        OptionRule("", ("foil",), needs=("target",)),
        OptionRule("", ("centred",), needs=("neighbours",)),
        OptionRule("", ("output",), needs=("neighbours", "sum", "relations")),
        OptionRule("", ("without_first",), needs=("attention", "rollout")),
        OptionRule("", ("keep",), needs=("save",)),
        OptionRule("", ("tuned",), needs=("lens",)),
        OptionRule("", ("away", "layer", "direction"), needs=("toward",)),
        OptionRule("", ("part",), needs=("patch",)),
        OptionRule("goes with a text as it is: leave out --chat", ("spellings",), beside=("chat",)),
        OptionRule(
            "has keys in JSON that mean something else in --target's: ask for one of them",
            ("attribution", "importance", "sum", "relations"),
            when=lambda values: values["as_json"] and values["target"] is not None,
        ),
    ),
    "bound": (
        OptionRule(
            "is of a bound by the rows that the adapter was trained on: give --trained", ("stored",), needs=("trained",)
        ),
    ),
    "show": (
        OptionRule(
            "is of a file: add --svg, --png or --html", ("mapped", "rate", "seed"), needs=("svg", "png", "html")
        ),
    ),
    "synth": (
        OptionRule(
            "is of rows that are made: --generations learns from real ones and draws",
            ("reported", "effect"),
            beside=("generations",),
        ),
    ),
    "bench": (
        OptionRule(
            "is of a model: `likely bench kernels` has none, and takes --case and --json",
            ("model", "rounds", "tokens", "contexts", "answers", "against"),
            beside=("what=kernels",),
        ),
        OptionRule("chooses among kernels: likely bench kernels --case TEXT", ("case",), beside=("what=model",)),
    ),
}
ONE_OF: dict[
    str, tuple[tuple[tuple[str, ...], str], ...]
] = {  # options of which one is given, and what is said of more
    "run": (
        (
            ("beam", "stochastic_beam", "exact_mode"),
            "--beam, --stochastic-beam and --exact-mode are three searches: choose one of them",
        ),
        (
            ("regex", "json_schema", "choice"),
            "--regex, --json-schema and --choice are three constraints: choose one of them",
        ),
    ),
    "fill": ((("nbest", "mcmc"), "--nbest and --mcmc are two ways to fill from left to right: choose one of them"),),
    "inside": (
        (("chat", "raw"), "give either --chat or --raw"),
        (("as_json", "as_csv", "as_svg"), "give one of --json, --csv and --svg"),
    ),
}


def check(ctx: click.Context) -> None:
    """UsageError, naming the option, for the first that would be ignored."""
    flags = _given(ctx)
    for rule in RULES.get(ctx.command.name or "", ()):
        if any(map(rule.refuses, flags)) and rule.holds(ctx.params):
            name = next(filter(rule.refuses, flags))
            line = rule.line or f"goes with {_words(ctx.command, rule.needs)}"
            raise click.UsageError(f"{_flags(ctx.command)[name]} {line}", ctx)
    for options, line in ONE_OF.get(ctx.command.name or "", ()):
        if len({*options} & {*flags}) > 1:
            raise click.UsageError(line, ctx)


def notes(command: click.Command) -> dict[str, str]:
    """Of an option, by parameter name, a sentence that says with what it goes."""
    sentences: dict[str, str] = {}
    for rule in RULES.get(command.name or "", ()):
        if rule.needs:
            sentences |= dict.fromkeys(rule.refused, f"Goes with {_words(command, rule.needs)}.")
    return sentences


def closed(ctx: click.Context) -> set[str]:
    """The options, by parameter name, that would be refused beside what is given, or make it be refused."""
    flags, refused = _given(ctx), set[str]()
    for rule in RULES.get(ctx.command.name or "", ()):
        if rule.holds(ctx.params):
            refused |= set(filter(rule.refuses, _flags(ctx.command)))
        elif any(map(rule.refuses, flags)):
            refused |= {name for name in rule.beside if "=" not in name}
    for options, _ in ONE_OF.get(ctx.command.name or "", ()):
        if {*options} & {*flags}:
            refused |= {*options}
    return refused - {*flags}


def _given(ctx: click.Context) -> list[str]:
    return [name for name in _flags(ctx.command) if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE]


def _flags(command: click.Command) -> dict[str, str]:
    """An option's flag, or an argument's name, by parameter name."""
    return {param.name: param.opts[0] for param in command.params if param.name is not None}


def _words(command: click.Command, needs: Iterable[str]) -> str:
    """Options in words: `--lens`, `--method best or steps or --analyse`."""
    flags, named = _flags(command), dict[str, list[str]]()
    for option in needs:
        name, _, value = option.partition("=")
        named.setdefault(name, []).append(value)
    return " or ".join(f"{flags[name]} {' or '.join(values)}".rstrip() for name, values in named.items())
