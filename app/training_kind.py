"""`TrainingKind`: kinds of training that have one trainer and one screen, by the table of their options. No mlx.

What the screen says and asks for differs by kind here, and nowhere else; how a run is opened, the trainer knows.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from likely.engine.adapters import config as tuning
from likely.engine.adapters.config import Config
from likely.engine.pretrain import config as pretraining
from likely.engine.pretrain.config import PretrainConfig

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
    fields: Mapping[str, str]  # options that a form asks for, and what they are called there
    data: str  # what the data may be, and
    missing: str  # what to give where there are none
    base: bool  # whether there is a model that it begins as, to be compared with


TUNE = TrainingKind(
    verb="tune",
    title="fine-tune",
    doing="fine-tuning",
    about="Moves a model towards your data, and shows how far it has moved.",
    default=Config(),
    configure=tuning.configure,
    fields={
        "data": "data", "test": "test rows", "model": "model", "out": "adapter", "rank": "rank", "rate": "rate",
        "epochs": "epochs", "batch": "batch", "length": "length",
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
    fields={
        "data": "text", "out": "model", "size": "size", "tokenizer": "tokenizer", "tokens": "tokens", "rate": "rate",
        "batch": "batch", "context": "context",
    },
    data="a text file, JSONL, CSV, Parquet, or a folder of them",
    missing="a file or a folder of text",
    base=False,
)  # fmt: skip
KINDS = (TUNE, PRETRAIN)


def kind_of(config: TrainingConfig) -> TrainingKind:
    """The kind of training that the options are of."""
    return next(kind for kind in KINDS if type(kind.default) is type(config))


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
