"""Defaults and ranges of the options that people write: what is meant where nothing is said, and each range's ends.

They are promises: files and folders that say nothing of an option are read with them.
"""

from dataclasses import fields, replace
from typing import Any

import pytest

from engine.errors import ParameterError
from engine.options import check_ranges
from engine.pretrain.config import PretrainConfig
from engine.synth.config import (
    BalanceOptions,
    CollapseOptions,
    DeduplicateOptions,
    FilterOptions,
    GenerateOptions,
    SplitOptions,
    TrainOptions,
)
from engine.tune.config import Config

SEEDS = 2**32 - 1
TABLES: dict[Any, dict[str, tuple[Any, Any, Any]]] = {
    Config: {
        "model": ("smollm2", None, None),
        "out": ("adapter", None, None),
        "valid": (0.05, 0, 0.9),
        "duplicates": (True, None, None),
        "loss": ("answers", None, None),
        "length": (1024, 2, None),
        "too_long": ("split", None, None),
        "packing": (True, None, None),
        "objective": ("sft", None, None),
        "beta": (0.1, 0, None),
        "anneal": (0.0, 0, 1),
        "kind": ("lora", None, None),
        "rank": (8, 1, None),
        "alpha": (0.0, 0, None),
        "scale": (0.0, 0, None),
        "rslora": (False, None, None),
        "init": ("zero", None, None),
        "layers": (-1, -1, None),
        "modules": (("*",), None, None),
        "dropout": (0.0, 0, 0.95),
        "quantize": (0, 0, 8),
        "group_size": (64, 32, 128),
        "optimiser": ("adamw", None, None),
        "rate": (0.0002, 0, None),
        "lora_plus_ratio": (1.0, 0, None),
        "schedule": ("cosine", None, None),
        "warmup": (0, 0, None),
        "floor": (0.0, 0, 1),
        "epochs": (0.0, 0, None),
        "steps": (0, 0, None),
        "batch": (0, 0, None),
        "accumulate": (1, 1, None),
        "clip": (1.0, 0, None),
        "decay": (0.0, 0, None),
        "l1": (0.0, 0, None),
        "l2_sp": (0.0, 0, None),
        "label_smoothing": (0.0, 0, 0.99),
        "kl": (0.0, 0, None),
        "checkpointing": (False, None, None),
        "seed": (0, 0, SEEDS),
        "eval_every": (50, 0, None),
        "eval_rows": (200, 0, None),
        "patience": (0, 0, None),
        "save_every": (50, 0, None),
        "tensorboard": (False, None, None),
    },
    PretrainConfig: {
        "out": ("pretrained", None, None),
        "family": ("llama", None, None),
        "size": ("1M", None, None),
        "tokenizer": ("bpe", None, None),
        "vocab": (0, 0, 1048576),
        "parametrisation": ("mup", None, None),
        "base_width": (64, 1, None),
        "objective": ("autoregressive", None, None),
        "block_size": (8, 1, None),
        "tokens": (0, 0, None),
        "context": (256, 8, None),
        "batch": (8, 1, None),
        "accumulate": (2, 1, None),
        "optimiser": ("adamw", None, None),
        "rate": (0.0, 0, None),
        "schedule": ("cosine", None, None),
        "warmup": (0.02, 0, 0.9),
        "floor": (0.1, 0, 1),
        "decay": (0.1, 0, None),
        "clip": (1.0, 0, None),
        "checkpointing": (False, None, None),
        "seed": (0, 0, SEEDS),
        "valid": (0.05, 0.001, 0.5),
        "eval_every": (100, 0, None),
        "eval_rows": (200, 0, None),
        "patience": (0, 0, None),
        "save_every": (100, 0, None),
        "sample_tokens": (32, 0, 4096),
        "tensorboard": (False, None, None),
    },
    GenerateOptions: {
        "method": ("verified", None, None),
        "chat": (False, None, None),
        "answers": (8, 1, 256),
        "rows": (64, 1, None),
        "max_tokens": (256, 1, None),
        "limit": (0, 0, None),
        "timeout": (10.0, 0.01, None),
        "hint": (False, None, None),
        "demos": (6, 1, 64),
        "own_demos": (2, 0, 64),
        "rouge": (0.7, 0, 1),
        "measure": ("ngram", None, None),
        "least": (0.1, 0, None),
        "most": (0.9, 0, None),
        "changes": (("mask", "drop", "swap", "noise"), None, None),
        "rate": (0.1, 0, 1),
        "latent": (16, 1, 512),
        "context": (4, 1, 64),
        "learn": (500, 1, None),
        "free_bits": (0.1, 0, None),
        "anneal": (0.5, 0, 1),
    },
    FilterOptions: {
        "least_words": (1, 0, None),
        "most_words": (0, 0, None),
        "repetition": (0.0, 0, 1),
        "low_tail": (0.0, 0, 0.5),
        "high_tail": (0.0, 0, 0.5),
        "judge": (0.0, 0, 1),
    },
    DeduplicateOptions: {
        "near": (True, None, None),
        "jaccard": (0.7, 0, 1),
        "shingle": (5, 1, 50),
        "bands": (32, 1, 1024),
        "per_band": (4, 1, 64),
    },
    BalanceOptions: {"per_parent": (0, 0, None), "most": (0, 0, None)},
    SplitOptions: {"valid": (0.05, 0, 0.9), "test": (0.0, 0, 0.9)},
    TrainOptions: {
        "steps": (100, 1, None),
        "rate": (0.0002, 0, None),
        "rank": (8, 1, None),
        "batch": (8, 1, None),
        "length": (512, 2, None),
        "seed": (0, 0, SEEDS),
    },
    CollapseOptions: {"learner": ("counts", None, None), "rows": (0, 0, None), "kind": ("row", None, None)},
}


@pytest.mark.parametrize("kind", TABLES, ids=lambda kind: kind.__name__)
def test_what_is_meant_where_nothing_is_said(kind: Any) -> None:
    plain = kind()
    for f in fields(kind):
        if f.metadata:
            assert getattr(plain, f.name) == TABLES[kind].get(f.name, (type(f.default)(),))[0], f.name
    check_ranges(plain)


@pytest.mark.parametrize("kind", TABLES, ids=lambda kind: kind.__name__)
def test_a_range_holds_its_ends_and_nothing_beyond(kind: Any) -> None:
    for name, (default, low, high) in TABLES[kind].items():
        step = 1 if isinstance(default, int) else 1e-4
        for end, out in ((low, -step), (high, step)):
            if end is None:
                continue
            check_ranges(replace(kind(), **{name: type(default)(end)}))
            with pytest.raises(ParameterError, match=name):
                check_ranges(replace(kind(), **{name: end + out}))
        if high is None and low is not None:
            check_ranges(replace(kind(), **{name: type(default)(10**9)}))
