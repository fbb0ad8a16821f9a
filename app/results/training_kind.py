"""`TrainingKind`: kinds of training that have one trainer and one screen, by the table of their options. No mlx.

What the screen says and asks for differs by kind here, and nowhere else; how a run is opened, the trainer knows.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from likely.engine.base.errors import LikelyError
from likely.engine.base.files.home import expanded
from likely.engine.train import saved_options as tuned
from likely.engine.train.pretrain import config as pretraining
from likely.engine.train.pretrain.config import PretrainConfig
from likely.engine.weights.adapters import config as tuning
from likely.engine.weights.adapters.config import Config

TrainingConfig = Config | PretrainConfig


@dataclass(frozen=True)
class TrainingKind:
    """A kind of training, in words."""

    verb: str
    title: str  # to do it
    doing: str
    about: str
    default: TrainingConfig
    configure: Callable[..., TrainingConfig]  # values by name over other options, as the engine does it
    begun: Callable[[Path], TrainingConfig]  # the options of the run in a folder
    fields: Mapping[str, str]  # options that a form asks for, and what they are called there
    data: str  # what the data may be, and
    missing: str  # what to give where there are none
    base: bool  # whether there is a model that it begins as, to be compared with
    drawn: bool = False  # whether it learns from answers that it draws
    usual: Mapping[str, str] = field(default_factory=dict)  # of fields that are left empty, where no help says it


TUNE = TrainingKind(
    verb="tune",
    title="fine-tune",
    doing="fine-tuning",
    about="Moves a model towards your data, and shows how far it has moved.",
    default=Config(),
    configure=tuning.configure,
    begun=tuned.options,
    fields={
        "data": "data", "map": "columns", "test": "test rows", "model": "model", "out": "adapter", "rank": "rank",
        "rate": "rate", "epochs": "epochs", "batch": "batch", "length": "length",
    },
    data="JSONL, CSV, Parquet, a folder of texts, or a hub data set",
    missing="a file, a folder, or the id of a hub data set",
    base=True,
)  # fmt: skip
PRETRAIN = TrainingKind(
    verb="pretrain",
    title="pretrain",
    doing="pretraining",
    about="Trains a model from random weights on your text, its tokenizer too.",
    default=PretrainConfig(),
    configure=pretraining.configure,
    begun=pretraining.begun,
    fields={
        "data": "text", "out": "model", "size": "size", "tokenizer": "tokenizer", "tokens": "tokens", "rate": "rate",
        "batch": "batch", "context": "context",
    },
    data="a text file, JSONL, CSV, Parquet, or a folder of them",
    missing="a file or a folder of text",
    base=False,
    usual={"tokens": "by the size"},
)  # fmt: skip
REWARD = replace(
    TUNE,
    title="learn from rewards",
    doing="learning from rewards",
    about="Draws answers, judges them, and moves a model towards the right ones.",
    default=Config(objective="reward"),
    fields={
        "data": "problems", "map": "columns", "test": "held out", "verifier": "verifier", "model": "model",
        "out": "adapter", "answers": "answers", "kl": "KL", "rate": "rate", "steps": "steps", "batch": "batch",
    },
    data="problems and their answers: JSONL, CSV, Parquet, or a folder of them",
    missing="a file of problems and their answers",
    drawn=True,
    usual={"rate": "0.0002", "steps": "100", "batch": "4"},
)  # fmt: skip
KINDS = (TUNE, PRETRAIN, REWARD)
LONG = ("steps", "epochs")  # of which one is given


def options_of(
    kind: TrainingKind, named: Mapping[str, Any], from_file: Mapping[str, Any] = {}, *, resume: bool = False
) -> TrainingConfig:
    """The options that are named, over those of a file; with `resume` over those that the run in `out` began with.

    Errors as the kind's `configure`; where data are named, what is wrong with the run is told when it is opened.
    """
    base = kind.default
    if resume:
        out = named.get("out") or from_file.get("out") or base.out
        try:
            base = replace(kind.begun(expanded(out)), out=out)
        except LikelyError:
            if not (named.get("data") or from_file.get("data")):
                raise
        if any(name in LONG for name in (*named, *from_file)):
            base = replace(base, **{name: getattr(kind.default, name) for name in LONG if hasattr(base, name)})
    return kind.configure(named, kind.configure(from_file, base))


def kind_of(config: TrainingConfig) -> TrainingKind:
    """The kind of training that the options are of."""
    of = (kind for kind in KINDS if type(kind.default) is type(config))
    return next(kind for kind in of if kind.drawn == config.goal.drawn)


def chat_with(config: TrainingConfig, folder: str) -> tuple[str, str] | None:
    """The model and the adapter that a run left in a folder, to chat with; a whole model where an autoregressive one
    became another. None where there is nothing that answers."""
    if isinstance(config, PretrainConfig):
        return None if config.goal.bound else (folder, "")
    if (Path(folder) / "config.json").exists():
        return folder, ""
    return (config.model, folder) if config.kind != "full" else None


def look_at(config: TrainingConfig, folder: str) -> str:
    """The command that looks at what a run learned."""
    if isinstance(config, PretrainConfig):
        return f"likely {'fill TEXT' if config.goal.bound else 'chat'} -M {folder}"
    if not config.goal.bound:
        return f"likely diff {config.model} {folder} TEXT"
    model, adapter = chat_with(config, folder) or (folder, "")
    return f"likely fill TEXT -M {model}{f' -A {adapter}' if adapter else ''}"
