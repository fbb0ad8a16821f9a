"""Options of a pipeline of synthetic rows: one TOML file, a table a stage. An unknown key names the nearest one.

    seed = 1
    out = "made"
    map = ["frage=question"]    # columns of the rows that it reads by their names here
    [generate]                  # which method, which model, how it draws
    method = "verified"
    task = "arithmetic:items=400,seed=5,shots=8"
    model = "smollm2"
    answers = 8
    [filter]                    # length, language, repetition, perplexity, judge
    [deduplicate]
    [decontaminate]
    against = ["arithmetic:items=200,seed=0"]
    [balance]
    per_parent = 2
    [split]
    [report]                    # what the rows are set against
    [train]                     # the adapters of --effect and --generations
    [collapse]

Plain data; imports no mlx.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, get_type_hints

from likely.engine.base.errors import ParameterError
from likely.engine.base.options import SEEDS, check_ranges, option, read_toml, typed, unknown
from likely.engine.sampling.presets import PARAMETERS, recipe
from likely.engine.text.rows.training_row import read_map

METHODS = ("verified", "preference", "self-instruct", "magpie", "rewrite", "document", "grid", "augment", "vae")
WITHOUT_MODEL = ("augment", "vae")  # methods that no language model draws for
KINDS = ("row", "answer", "opening")
MEASURES = ("ngram", "kl")
CHANGES = ("mask", "drop", "swap", "noise")


@dataclass(frozen=True)
class GenerateOptions:
    """Table `generate`: what is drawn, by which model, and how."""

    method: str = option("verified", "how rows are made", choices=METHODS)
    model: str = option("", "a name, a repository, a folder or a .gguf file; the one chosen last")
    adapters: tuple[str, ...] = option((), "adapters put on it, FOLDER or FOLDER=WEIGHT")
    strategy: str = option("", "a way of decoding by its text form")
    chat: bool = option(False, "ask through the chat template")
    answers: int = option(8, "rows drawn side by side of one prompt", low=1, high=256)
    rows: int = option(64, "rows to draw: self-instruct, magpie, vae", low=1)
    max_tokens: int = option(256, "longest answer in tokens", low=1)
    stop: tuple[str, ...] = option((), "texts that end an answer; those of the task, or of the method")

    data: str = option("", "rows to start from: a file, a folder, or the id of a hub data set")
    task: str = option("", "problems with known answers: a generated task or a file")
    limit: int = option(0, "problems or rows taken, at most; 0: all", low=0)
    template: str = option("", "the prompt, with the names of its parts in braces")
    via: tuple[str, ...] = option((), "rewrite: prompts one after another, each with {text}")

    verifier: str = option("", "verified, preference: a program that judges, in the place of the task's scorers")
    timeout: float = option(10.0, "seconds that the verifier has", low=0.01)
    hint: bool = option(False, "verified: ask again with the answer given where none is right (STaR)")
    classes: tuple[str, ...] = option((), "self-instruct: answers drawn for, in turn")
    demos: int = option(6, "self-instruct: examples from the data before each row", low=1, high=64)
    own_demos: int = option(2, "self-instruct: examples from what was made", low=0, high=64)
    rouge: float = option(0.7, "self-instruct: ROUGE-L to a row before it from which a row is dropped", low=0, high=1)
    measure: str = option("ngram", "rewrite: distance of n-gram sets, or KL of words in nats", choices=MEASURES)
    least: float = option(0.1, "rewrite: distance to what is rewritten, at least", low=0)
    most: float = option(0.9, "rewrite: distance at most", low=0)
    changes: tuple[str, ...] = option(CHANGES, "augment: which changes")
    rate: float = option(0.1, "augment: share of words that a change meets", low=0, high=1)
    latent: int = option(16, "vae: size of the latent vector", low=1, high=512)
    context: int = option(4, "vae: words before each that its decoder sees", low=1, high=64)
    learn: int = option(500, "vae: steps of learning", low=1)
    free_bits: float = option(0.1, "vae: nats of KL a dimension that cost nothing", low=0)
    anneal: float = option(0.5, "vae: share of the steps over which the weight of the KL rises to 1", low=0, high=1)
    sampling: Mapping[str, float] = field(default_factory=dict)  # parameters of the recipe
    grid: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # attribute -> its values


@dataclass(frozen=True)
class FilterOptions:
    """Table `filter`: a threshold of 0 is off."""

    least_words: int = option(1, "words of an answer, at least", low=0)
    most_words: int = option(0, "words at most", low=0)
    languages: tuple[str, ...] = option((), "languages kept, by their ISO 639-1 codes")
    repetition: float = option(0.0, "share of an answer's word trigrams that are repeats, at most", low=0, high=1)
    perplexity_model: str = option("", "the model whose perplexity cuts tails; the generator if left out")
    low_tail: float = option(0.0, "share of rows with the lowest perplexity that is cut", low=0, high=0.5)
    high_tail: float = option(0.0, "share with the highest", low=0, high=0.5)
    judge: float = option(0.0, "P(true) of an answer by the judge, at least", low=0, high=1)
    judge_model: str = option("", "the model that judges; the generator if left out")


@dataclass(frozen=True)
class DeduplicateOptions:
    """Table `deduplicate`: equal rows always; near ones by MinHash, verified by Jaccard."""

    near: bool = option(True, "drop rows that are nearly one before them")
    jaccard: float = option(0.7, "similarity of the sets of shingles from which rows are the same", low=0, high=1)
    shingle: int = option(5, "words of a shingle", low=1, high=50)
    bands: int = option(32, "bands of the signature", low=1, high=1024)
    per_band: int = option(4, "numbers of a band", low=1, high=64)
    against: tuple[str, ...] = option((), "files of rows, or tasks, that come before: what repeats them is dropped")


@dataclass(frozen=True)
class DecontaminateOptions:
    """Table `decontaminate`: rows that share a run of 13 words, or a whole prompt, with these are dropped."""

    against: tuple[str, ...] = option((), "files of rows, tasks, generated tasks")


@dataclass(frozen=True)
class BalanceOptions:
    """Table `balance`: how many rows of one kind are kept."""

    per_parent: int = option(0, "rows of one problem, document or row, at most; 0: all", low=0)
    by: str = option("", "an attribute, or answer: what is a class")
    classes: tuple[str, ...] = option((), "the classes that there should be")
    most: int = option(0, "rows of a class, at most; 0: as many as the smallest has", low=0)


@dataclass(frozen=True)
class SplitOptions:
    """Table `split`: rows of one parent are on one side."""

    valid: float = option(0.05, "share of the parents set aside for validation", low=0, high=0.9)
    test: float = option(0.0, "share for a test", low=0, high=0.9)


@dataclass(frozen=True)
class ReportOptions:
    """Table `report`: what the rows are set against."""

    real: str = option("", "rows as they should be; those that the pipeline starts from")
    heldout: str = option("", "real rows that the generator has not seen, for privacy")
    model: str = option("", "the model of the features; none: spectra of bigrams")


@dataclass(frozen=True)
class TrainOptions:
    """Table `train`: the adapters of --effect and of --generations."""

    task: str = option("", "--effect: what is evaluated")
    steps: int = option(100, "steps of the arm on real rows, the others have its tokens; of a generation", low=1)
    rate: float = option(2e-4, "learning rate", low=0)
    rank: int = option(8, "rank of the adapter", low=1)
    batch: int = option(8, "rows a step", low=1)
    length: int = option(512, "longest row in tokens", low=2)
    seed: int = option(0, "of the adapter's start and the order", low=0, high=SEEDS)


@dataclass(frozen=True)
class CollapseOptions:
    """Table `collapse`: what --generations learns, and of what it counts kinds."""

    learner: str = option("counts", "frequencies of rows, or the model with an adapter", choices=("counts", "model"))
    rows: int = option(0, "rows of a generation; 0: as many as real ones", low=0)
    kind: str = option("row", "what is counted: whole rows, answers, or how rows begin", choices=KINDS)


TABLES: dict[str, type] = {
    "generate": GenerateOptions, "filter": FilterOptions, "deduplicate": DeduplicateOptions,
    "decontaminate": DecontaminateOptions, "balance": BalanceOptions, "split": SplitOptions, "report": ReportOptions,
    "train": TrainOptions, "collapse": CollapseOptions,
}  # fmt: skip


@dataclass(frozen=True)
class PipelineConfig:
    """Options of a pipeline: the tables of its TOML file."""

    seed: int = option(0, "of all that is drawn", low=0, high=SEEDS)
    out: str = option("made", "the folder that rows are written to")
    map: tuple[str, ...] = option((), "columns of the rows that are read, THEIRS=OURS")
    generate: GenerateOptions = GenerateOptions()
    filter: FilterOptions = FilterOptions()
    deduplicate: DeduplicateOptions = DeduplicateOptions()
    decontaminate: DecontaminateOptions = DecontaminateOptions()
    balance: BalanceOptions = BalanceOptions()
    split: SplitOptions = SplitOptions()
    report: ReportOptions = ReportOptions()
    train: TrainOptions = TrainOptions()
    collapse: CollapseOptions = CollapseOptions()

    @property
    def names(self) -> Mapping[str, str]:
        """Names that files have for their columns -> ours."""
        return read_map(self.map)

    @property
    def real(self) -> str:
        """The source of real rows, which made ones are compared with; "" for none."""
        return self.report.real or self.generate.data or self.generate.task

    @property
    def scorers(self) -> Mapping[str, str]:
        """The number that a model is asked for -> the model."""
        f, models = self.filter, dict[str, str]()
        if f.low_tail or f.high_tail:
            models["perplexity"] = f.perplexity_model or self.generate.model
        if f.judge:
            models["p_true"] = f.judge_model or self.generate.model
        return models

    @property
    def attributes(self) -> Mapping[str, tuple[str, ...]]:
        """The attributes and values that rows were asked to have: the grid, or the classes of self-instruct."""
        g = self.generate
        return g.grid or ({"class": g.classes} if g.classes else {})

    @property
    def fingerprint(self) -> str:
        """Equal for pipelines that draw the same rows: what comes after drawing may be changed and run again."""
        options = {name: value for name, value in asdict(self.generate).items() if value != DEFAULTS[name]}
        text = json.dumps([self.seed, options], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def checked(self) -> "PipelineConfig":
        """Itself; ParameterError for values out of range or that contradict each other."""
        g = self.generate
        check_ranges(self)
        for name in TABLES:
            check_ranges(getattr(self, name))
        if not self.out:
            raise ParameterError("out takes the name of the folder to write to, got nothing")
        needs = {"verified": "task", "preference": "task", "grid": "grid", "rewrite": "data", "document": "data",
                 "augment": "data", "self-instruct": "data", "vae": "data"}  # fmt: skip
        if (needed := needs.get(g.method)) and not getattr(g, needed):
            raise ParameterError(f"method = {g.method} needs generate.{needed}")
        for name, methods in OF_METHODS.items():
            if g.method not in methods and getattr(g, name) != DEFAULTS[name]:
                raise ParameterError(f"generate.{name} goes with method = {' or '.join(methods)}, not {g.method}")
        if g.method == "vae" and (more := [name for name in g.sampling if name != "temp"]):
            raise ParameterError(f"generate.sampling.{more[0]} goes with a language model; method = vae takes temp")
        if g.measure == "ngram" and g.most > 1:
            raise ParameterError(f"generate.most must be 0 to 1 with measure = ngram, got {g.most:g}")
        if g.least > g.most:
            raise ParameterError(f"generate.least must be below most, got {g.least:g} and {g.most:g}")
        for change in g.changes:
            if change not in CHANGES:
                raise ParameterError(f"generate.changes must be of {', '.join(CHANGES)}, got {change!r}")
        if g.method == "preference" and g.answers < 2:
            raise ParameterError("a preference is between 2 answers or more: raise generate.answers")
        if self.split.valid + self.split.test > 0.9:
            raise ParameterError("split.valid and split.test must leave a tenth for training")
        if self.balance.classes and not self.balance.by:
            raise ParameterError("balance.classes needs balance.by: answer, or an attribute of the grid")
        if self.balance.most and not self.balance.by:
            raise ParameterError("balance.most needs balance.by: answer, or an attribute of the grid")
        recipe(g.sampling)
        read_map(self.map)
        return self


OF_METHODS: dict[str, tuple[str, ...]] = {
    "task": ("verified", "preference"), "data": ("self-instruct", "rewrite", "document", "augment", "vae"),
    "verifier": ("verified", "preference"), "timeout": ("verified", "preference"),
    "chat": tuple(name for name in METHODS if name not in ("magpie", "vae")),
    "strategy": tuple(name for name in METHODS if name != "vae"),
    "stop": tuple(name for name in METHODS if name != "vae"),
    "limit": tuple(name for name in METHODS if name not in ("magpie", "grid")),
    "hint": ("verified",), "classes": ("self-instruct",),
    "rows": ("self-instruct", "magpie", "vae"), "demos": ("self-instruct",), "own_demos": ("self-instruct",),
    "rouge": ("self-instruct",), "via": ("rewrite",), "measure": ("rewrite",), "least": ("rewrite",),
    "most": ("rewrite",), "changes": ("augment",), "rate": ("augment",), "grid": ("grid",),
    "template": ("document", "grid"), "latent": ("vae",), "context": ("vae",), "learn": ("vae",),
    "free_bits": ("vae",), "anneal": ("vae",),
}  # fmt: skip
DEFAULTS = asdict(GenerateOptions())


def read(path: Path, **over: Any) -> PipelineConfig:
    """The pipeline of a file, with the values `over` its own. ParameterError, naming the table, for what is wrong."""
    return configure(read_toml(path), **over)


def configure(values: Mapping[str, Any], **over: Any) -> PipelineConfig:
    """The pipeline of tables of values; `over` are values of the top, and `model`."""
    known = {f.name: f for f in fields(PipelineConfig)}
    changed: dict[str, Any] = {}
    for name, value in values.items():
        if name not in known:
            raise unknown(name, known)
        if name not in TABLES:
            changed[name] = typed(name, value, get_type_hints(PipelineConfig)[name])
        elif not isinstance(value, dict):
            raise ParameterError(f"{name} must be a table: [{name}], got {value!r}")
        else:
            changed[name] = _table(name, value)
    config = PipelineConfig(**changed)
    if (model := over.pop("model", None)) is not None:
        config = replace(config, generate=replace(config.generate, model=model))
    return replace(config, **{name: value for name, value in over.items() if value is not None}).checked()


def _table(table: str, values: Mapping[str, Any]) -> Any:
    kind = TABLES[table]
    hints = get_type_hints(kind)
    changed: dict[str, Any] = {}
    for name, value in values.items():
        at = f"{table}.{name}"
        if name not in hints:
            raise ParameterError(f"[{table}]: {unknown(name, hints)}")
        if name == "sampling":
            if not isinstance(value, dict):
                raise ParameterError(f"{at} must be a table of parameters: [generate.sampling], got {value!r}")
            for parameter, number in value.items():
                if parameter not in PARAMETERS:
                    raise ParameterError(f"[generate.sampling]: {unknown(parameter, PARAMETERS)}")
                typed(f"{at}.{parameter}", number, float)
            changed[name] = dict(value)
        elif name == "grid":
            if not isinstance(value, dict) or not value:
                raise ParameterError(f"{at} must be a table of lists: [generate.grid], got {value!r}")
            changed[name] = {key: typed(f"{at}.{key}", column, tuple[str, ...]) for key, column in value.items()}
            if empty := [key for key, column in changed[name].items() if not column]:
                raise ParameterError(f"{at}.{empty[0]} must have at least one value, got none")
        else:
            changed[name] = typed(at, value, hints[name])
    return kind(**changed)
