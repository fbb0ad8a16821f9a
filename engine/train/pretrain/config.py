"""Every option of a pretraining, with its default and its meaning: flags and TOML files are made of this table.

Plain data: imports no mlx.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_type_hints

from likely.engine.base import objectives
from likely.engine.base.errors import DataError, ParameterError
from likely.engine.base.files import foreign_json
from likely.engine.base.options import SEEDS, changes, check_needs, check_ranges, option, typed
from likely.engine.weights.adapters.config import SCHEDULES

PARAMETRISATIONS = ("mup", "standard")
TOKENIZERS = ("bpe", "unigram", "bytes", "characters")
OPTIMISERS = ("adamw", "muon")


@dataclass(frozen=True)
class PretrainConfig:
    """Options of a pretraining: on what text, which model, and how."""

    data: str = option("", "a file or a folder of text")
    out: str = option("pretrained", "the folder that the model is written to")
    corpus: str = option("", "folder that keeps tokenizer and tokens, so that runs share them; default: OUT/corpus")

    family: str = option("llama", "whose architecture: llama, qwen3, gemma2, gpt2 and so on")
    size: str = option("1M", "parameters in all, as 300k or 10M, or a TOML file of a shape")
    tokenizer: str = option("bpe", "trained on the text: bpe, unigram, bytes, characters; or a model's folder")
    vocab: int = option(0, "tokens of bpe and unigram; 0: by the size of the text", low=0, high=1 << 20)
    parametrisation: str = option("mup", "how start and rates go with width", choices=PARAMETRISATIONS)
    base_width: int = option(64, "mup: the width whose rates are the ones given", low=1)

    objective: str = option(
        "autoregressive", "left to right, or masked diffusion: mdlm, block", choices=tuple(objectives.FROM_NOTHING)
    )
    block_size: int = option(8, "block: tokens that see each other both ways", low=1)
    tokens: int = option(0, "tokens to train on in all; 0: 20 a parameter, at most 4 passes", low=0)
    context: int = option(256, "longest text in tokens that the model sees at once", low=8)
    batch: int = option(8, "texts of that length a batch", low=1)
    accumulate: int = option(2, "batches a step; from 2 on the gradient's noise is measured", low=1)
    optimiser: str = option("adamw", "how weights follow gradients", choices=OPTIMISERS)
    rate: float = option(0.0, "peak learning rate, of muon its own; 0: by optimiser and width", low=0)
    schedule: str = option("cosine", "how the learning rate changes", choices=SCHEDULES)
    warmup: float = option(0.02, "share of the steps in which the rate rises", low=0, high=0.9)
    floor: float = option(0.1, "learning rate at the end, as a share of the peak", low=0, high=1)
    decay: float = option(0.1, "decoupled weight decay", low=0)
    clip: float = option(1.0, "largest norm of the gradient; 0: no limit", low=0)
    checkpointing: bool = option(False, "compute activations again going back: less memory, more time")
    seed: int = option(0, "seed of the start and the order", low=0, high=SEEDS)

    valid: float = option(0.05, "share of the text set aside by a hash of it", low=0.001, high=0.5)
    eval_every: int = option(100, "steps between validations; 0: only at the end", low=0)
    eval_rows: int = option(200, "texts validated on at most, from everywhere; 0: all", low=0)
    patience: int = option(0, "stop after so many validations without a better one; 0: never", low=0)
    save_every: int = option(100, "steps between checkpoints; 0: only at the end", low=0)
    sample: str = option("", "what samples go on from at each validation; default: the held-out text's beginning")
    sample_tokens: int = option(32, "length of a sample; 0: none", low=0, high=4096)
    tensorboard: bool = option(False, "write TensorBoard's events too")

    def checked(self) -> "PretrainConfig":
        """Itself; ParameterError for a value out of its range and for options that contradict each other."""
        if not self.out:
            raise ParameterError("--out takes the name of the folder to write to, got nothing")
        check_ranges(self)
        if self.patience and not self.eval_every:
            raise ParameterError("patience needs eval_every")
        if self.goal.blocks and self.context % self.block_size:
            raise ParameterError(
                f"context {self.context} is not divisible into blocks of {self.block_size}: choose another block_size"
            )
        return self

    @property
    def goal(self) -> objectives.Objective:
        """The objective, as the table has it."""
        return objectives.of(self.objective)


FILE = "pretrain.json"  # of the options and the shape that a run began with
HINTS = get_type_hints(PretrainConfig)
# Options that would change nothing without another, and are refused where they are given so.
NEEDS: dict[str, tuple[Callable[[PretrainConfig], object], str]] = {
    "base_width": (lambda c: c.parametrisation == "mup", "parametrisation = mup"),
    "floor": (lambda c: c.schedule != "constant", "a schedule that falls: linear, cosine or wsd"),
    "vocab": (
        lambda c: c.tokenizer in ("bpe", "unigram"),
        "tokenizer = bpe or unigram: the others have their own",
    ),
    "sample": (
        lambda c: c.sample_tokens and not c.goal.bound,
        "sample_tokens above 0 and objective = autoregressive",
    ),
    "sample_tokens": (
        lambda c: not c.goal.bound or not c.sample_tokens,
        "objective = autoregressive: likely fill draws from a diffusion model",
    ),
    "block_size": (lambda c: c.goal.blocks, "objective = block"),
    "family": (lambda c: not c.size.endswith(".toml"), "a size: a file of a shape says its own family"),
}


def configure(values: Mapping[str, Any], base: PretrainConfig | None = None) -> PretrainConfig:
    """The configuration with these values over `base`; ParameterError for an unknown name or a wrong type."""
    changed = changes(values, HINTS)
    config = replace(base or PretrainConfig(), **changed)
    check_needs(config, changed, NEEDS)
    return config.checked()


def begun(folder: Path) -> PretrainConfig:
    """The options with which the run in a folder began. DataError where there is none, or a damaged one."""
    if not (folder / FILE).exists():
        raise DataError(f"{folder} has no run to resume: expected {FILE}")
    stored = foreign_json.read(folder / FILE, {"config": dict})["config"]
    try:
        return replace(PretrainConfig(), **{n: typed(n, value, HINTS[n]) for n, value in stored.items() if n in HINTS})
    except ParameterError as error:
        raise DataError(f"{folder / FILE} does not say with which options the run began: {error}") from error
