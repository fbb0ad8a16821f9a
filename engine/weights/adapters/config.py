"""Every option of a fine-tuning, with its default and its meaning: flags and TOML files are made of this table.

An unknown key is an error that names the nearest one. Plain data: imports no mlx.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, get_type_hints

from likely.engine.base import objectives
from likely.engine.base.errors import ParameterError
from likely.engine.base.options import SEEDS, changes, check_needs, check_ranges, option

KINDS = ("lora", "dora", "full")
INITS = ("zero", "pissa", "contrast")
LOSSES = ("answers", "completion", "all")
TOO_LONG = ("split", "cut", "drop", "refuse")
OPTIMISERS = ("adamw", "muon", "adafactor", "lion", "sgd")
BATCH = 4  # samples a batch where nothing is asked, at most
FLOOR = 100  # steps that a run takes where nothing is asked; an adapter has hardly moved after fewer
RANK = 8  # of an adapter where nothing is asked
PULL = 2.0  # to the base's own answers, where rows are few
FASTER = 3  # times the rate, where a training has hardly begun
REWORD = 0.35  # of the words of questions, where they are what tells few rows apart
RATE = 2e-4  # of many rows, of whole weights, and of objectives other than likelihood
ADVANTAGES, SHARES = ("others", "std", "none"), ("answers", "tokens", "each")
SCHEDULES = ("constant", "linear", "cosine", "wsd")


@dataclass(frozen=True)
class Config:
    """Options of a fine-tuning: what is trained, on what, and how."""

    model: str = option(
        "smollm2", "an alias, a hub repository, a folder or a .gguf file", usual="the model chosen last, else smollm2"
    )
    data: str = option("", "a file, a folder, or the id of a hub data set; of rewards a task, too")
    out: str = option("adapter", "the directory that the adapter is written to")

    map: tuple[str, ...] = option((), "read the column THEIRS as OURS, THEIRS=OURS; repeatable")
    valid: float = option(0.05, "share of the rows set aside where there is no validation file", low=0, high=0.9)
    test: str = option("", "rows that are not trained on: how many are given back, before and after")
    duplicates: bool = option(True, "keep rows that are there twice")
    loss: str = option("answers", "train on every assistant turn, on the last one, or on every token", choices=LOSSES)
    length: int = option(1024, "longest sample in tokens", low=2)
    too_long: str = option("split", "what is done to longer rows", choices=TOO_LONG)
    packing: bool = option(True, "fill batches to batch x length tokens; else batch samples of like length")

    objective: str = option(
        "sft", "likelihood, its bound by (block) diffusion, preferences, or rewards", choices=objectives.NAMES
    )
    beta: float = option(0.1, "strength of the preference: DPO's beta, ORPO's lambda", low=0)
    answers: int = option(8, "answers drawn to each problem", low=2, high=256)
    tokens: int = option(256, "longest answer that is drawn, in tokens", low=1)
    advantage: str = option(
        "others", "reward less the others' mean, that over their spread, or the reward itself", choices=ADVANTAGES
    )
    share: str = option(
        "answers", "what a token is divided by: the step's answers, its tokens, or each answer's length", choices=SHARES
    )
    reuse: int = option(
        1, "updates by each step's answers; those after the first by ratios, clipped to 0.8 and 1.28", low=1, high=16
    )
    verifier: str = option("", "a program that judges: a line of JSON in, a number out; else as likely eval compares")
    timeout: float = option(10.0, "seconds of the verifier for an answer", low=0.01)
    look_first: int = option(32, "problems drawn before the first step, to refuse what teaches nothing; 0: none", low=0)
    eval_answers: int = option(16, "answers to each held-out problem, for pass@k", low=1, high=1024)
    expert: int = option(
        0, "rounds of expert iteration on the same problems at equal cost, compared at the end; 0: none", low=0, high=32
    )
    anneal: float = option(0.0, "share of the steps in which causal attention becomes both ways", low=0, high=1)

    kind: str = option("lora", "what is trained", choices=KINDS)
    rank: int = option(0, "rank of the adapter; 0: by the data, 8, 16 or 32", low=0)
    alpha: float = option(0.0, "scale = alpha / rank, or alpha / sqrt(rank) with rslora; 0: 2 x rank", low=0)
    scale: float = option(0.0, "the multiplier itself, as in mlx-lm; 0: by alpha", low=0)
    rslora: bool = option(False, "scale by the root of the rank (arXiv:2312.03732)")
    warm_start: str = option("", "an adapter to start from, such as likely estimate meta makes")
    init: str = option(
        "zero", "start of A: random, the largest directions of W, or what sets the rows apart", choices=INITS
    )
    layers: int = option(0, "adapt the last so many layers; -1: all; 0: by the data, all, 3 of 5, a third", low=-1)
    modules: tuple[str, ...] = option(("*",), "which products, by name pattern such as q_proj or mlp.*; repeatable")
    dropout: float = option(0.0, "share of an adapter's inputs that is left out", low=0, high=0.95)
    quantize: int = option(0, "keep the base in so many bits (QLoRA); 0: as it is loaded", low=0, high=8)
    group_size: int = option(64, "weights that share a scale in the quantised base", low=32, high=128)

    optimiser: str = option("adamw", "how weights follow gradients", choices=OPTIMISERS)
    rate: float = option(0.0, "peak learning rate; 0: by the data, 0.0002 to 0.001", low=0)
    lora_plus_ratio: float = option(1.0, "LoRA+: how many times faster B learns than A (arXiv:2402.12354)", low=0)
    schedule: str = option("cosine", "how the learning rate changes", choices=SCHEDULES)
    warmup: int = option(0, "steps of linear warm-up", low=0)
    floor: float = option(0.0, "learning rate at the end, as a share of the peak", low=0, high=1)
    epochs: float = option(0.0, "passes over the data; 0: by the data, 100 steps at least", low=0)
    steps: int = option(0, "steps in all; 0: by epochs, or 100 with rewards", low=0)
    batch: int = option(0, "samples a batch; 0: by the data, 4 at most", low=0)
    accumulate: int = option(1, "batches a step", low=1)
    clip: float = option(1.0, "largest norm of the gradient; 0: no limit", low=0)
    decay: float = option(0.0, "decoupled weight decay", low=0)
    l1: float = option(0.0, "L1 on trained matrices, by proximal steps: exact zeros", low=0)
    l2_sp: float = option(0.0, "L2 to the start (L2-SP): half |w - w0|^2, of an adapter half |BA|_F^2", low=0)
    label_smoothing: float = option(0.0, "share of each target spread over the vocabulary", low=0, high=0.99)
    kl: float = option(0.0, "weight of the KL to the base (nats a token; with rewards, an answer)", low=0)
    kl_data: str = option("", "rows on which the KL is taken, at every token; default: the trained tokens")
    rehearsal: float = option(
        -1.0, "weight of the KL on the base's answers to general questions (nats a token); -1: by the data", low=-1
    )
    reword: float = option(
        -1.0, "share of a question's words left out or said otherwise at a step; -1: by the data", low=-1, high=0.9
    )
    checkpointing: bool = option(False, "compute activations again going back: less memory, more time")
    seed: int = option(0, "seed of the start, the order and dropout", low=0, high=SEEDS)

    eval_every: int = option(50, "steps between looks at what is held out; 0: only at the end", low=0)
    eval_rows: int = option(200, "validation rows at most, from everywhere; 0: all", low=0)
    patience: int = option(0, "stop after so many validations without a better one; 0: never", low=0)
    save_every: int = option(50, "steps between checkpoints; 0: only at the end", low=0)
    keep_state: bool = option(False, "keep the optimiser's state when a run has ended, so that more steps are its own")
    verdict: bool = option(True, "look at the end at what was learned and what was forgotten")
    tensorboard: bool = option(False, "write TensorBoard's events too")

    def unasked(self) -> "Config":
        """Itself for one of many trainings: nothing is rehearsed, nor chosen for it, where nobody says so."""
        no = replace(self, layers=self.layers or -1, rank=self.rank or RANK * (self.kind != "full"))
        if self.goal.name != "sft":
            return no
        return replace(no, rehearsal=max(0.0, self.rehearsal), reword=max(0.0, self.reword))

    def checked(self) -> "Config":
        """Itself; ParameterError for a value out of its range and for options that contradict each other."""
        if not self.out:
            raise ParameterError("--out takes the name of the folder to write to, got nothing")
        check_ranges(self)
        lora_only = {
            "rslora": False,
            "init": "zero",
            "warm_start": "",
            "lora_plus_ratio": 1.0,
            "dropout": 0.0,
            "quantize": 0,
            "alpha": 0.0,
            "scale": 0.0,
        }
        clashes = (
            (self.scale and self.alpha, "give scale or alpha, not both"),
            (self.scale and self.rslora, "rslora scales by alpha: give alpha instead of scale"),
            (self.warm_start and self.init != "zero", f"warm_start is a start itself: leave out init = {self.init}"),
            (self.kind == "dora" and self.init != "zero", f"init = {self.init} goes with kind = lora"),
            (self.init == "contrast" and self.objective != "sft", "init = contrast goes with objective = sft"),
            *((self._astray(name), _goes_with(name)) for name in OF_OBJECTIVES),
            *((self.goal.drawn and getattr(self, name) != DEFAULTS[name], line) for name, line in NOT_DRAWN.items()),
            (self.kl_data and not self.kl, "kl_data needs kl > 0"),
            (self.kl and self.rehearsal > 0, "kl and rehearsal both pull to the base: give one of them"),
            (
                self.init == "pissa" and (self.decay or self.l1),
                "decay and l1 pull factors to 0, which with init = pissa is not the base: use l2_sp",
            ),
            (self.kind == "dora" and self.l2_sp, "l2_sp is of BA, and kind = dora rescales rows beside it: use kl"),
            (self.quantize == 1 or self.quantize == 7, "quantize must be 2, 3, 4, 5, 6 or 8"),
            (self.group_size not in (32, 64, 128), "group_size must be 32, 64 or 128"),
            (self.patience and not self.eval_every, "patience needs eval_every"),
            (self.test and not self.verdict, "test needs verdict: it is what says how its rows are answered"),
        )
        for wrong, line in clashes:
            if wrong:
                raise ParameterError(line)
        if self.kind == "full":
            for name, default in lora_only.items():
                if getattr(self, name) != default:
                    raise ParameterError(f"{name} belongs to an adapter: it goes with kind = lora or dora, not full")
        return self

    def _astray(self, name: str) -> bool:
        """Whether an option that goes with other objectives than this is set."""
        return name not in self.goal.options and getattr(self, name) != DEFAULTS[name]

    @property
    def goal(self) -> objectives.Objective:
        """The objective, as the table has it."""
        return objectives.of(self.objective)

    @property
    def keeps_start(self) -> bool:
        """Whether a second copy of the weights, as they were before training, is needed."""
        return self.kind == "full" and bool(self.kl or self.l2_sp or self.goal.reference)

    @property
    def multiplier(self) -> float:
        """Multiplier of the product of the factors."""
        rank = self.rank or RANK
        alpha = self.alpha or 2.0 * rank
        return self.scale or (alpha / rank**0.5 if self.rslora else alpha / rank)


HINTS = get_type_hints(Config)
DEFAULTS = {field.name: field.default for field in fields(Config)}
OF_OBJECTIVES = tuple(dict.fromkeys(name for objective in objectives.OBJECTIVES for name in objective.options))
NOT_DRAWN = {  # what does not go with answers that are drawn
    "kind": "objective = reward trains an adapter, whose base it is compared with: leave kind = lora",
    "dropout": "objective = reward learns from what was drawn, without dropout: leave it out",
    "checkpointing": "objective = reward does not compute activations again: leave checkpointing out",
    "kl_data": "objective = reward takes the KL of what was drawn: leave kl_data out",
}
RENAMED = {  # what files and flags of before, and other programs, call them
    "start": "init", "plus": "lora_plus_ratio", "pack": "packing", "lr": "rate", "learning_rate": "rate",
    "iters": "steps", "lora_rank": "rank", "batch_size": "batch",
}  # fmt: skip


def _with(name: str) -> str:
    return f"objective = {' or '.join(objectives.with_option(name))}"


def _goes_with(name: str) -> str:
    return f"{name} goes with {_with(name)}"


# Options that would change nothing without another, and are refused where they are given so.
NEEDS: dict[str, tuple[Callable[[Config], object], str]] = {
    "rank": (lambda c: c.kind != "full", "kind = lora or dora: full training has no adapter"),
    "modules": (lambda c: c.kind != "full", "kind = lora or dora: full training is of all that the layers have"),
    "beta": (lambda c: "beta" in c.goal.options, _with("beta")),
    "anneal": (lambda c: "anneal" in c.goal.options, _with("anneal")),
    "group_size": (lambda c: c.quantize, "quantize = 2, 3, 4, 5, 6 or 8"),
    "floor": (lambda c: c.schedule != "constant", "a schedule that falls: linear, cosine or wsd"),
}


def configure(values: Mapping[str, Any], base: Config | None = None) -> Config:
    """The configuration with these values over `base`; ParameterError for an unknown name or a wrong type."""
    changed = changes(values, HINTS, RENAMED)
    config = replace(base or Config(), **changed)
    check_needs(config, changed, NEEDS)
    if changed.get("epochs") and changed.get("steps"):
        raise ParameterError("give epochs or steps, not both")
    if changed.get("packing") and not config.batch:  # who asks for packed batches wants them large
        config = replace(config, batch=BATCH)
    return config.checked()
