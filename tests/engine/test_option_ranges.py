"""Defaults and ranges of the options that people write: what is meant where nothing is said, and each range's ends.

They are promises: files and folders that say nothing of an option are read with them.
"""

import re
from dataclasses import fields, replace
from typing import Any

import pytest

from likely.engine.adapters.config import Config
from likely.engine.errors import ParameterError
from likely.engine.options import check_ranges
from likely.engine.pretrain.config import PretrainConfig
from likely.engine.synth.config import (
    BalanceOptions,
    CollapseOptions,
    DeduplicateOptions,
    FilterOptions,
    GenerateOptions,
    SplitOptions,
    TrainOptions,
)

PROMISED: dict[Any, str] = {  # name=what it is where nothing is said:least..most
    Config: """
        model=smollm2 out=adapter valid=0.05:0..0.9 duplicates=True loss=answers length=1024:2.. too_long=split
        packing=True objective=sft beta=0.1:0.. anneal=0.0:0..1 kind=lora rank=8:1.. alpha=0.0:0.. scale=0.0:0..
        rslora=False init=zero layers=-1:-1.. modules=('*',) dropout=0.0:0..0.95 quantize=0:0..8 group_size=64:32..128
        optimiser=adamw rate=0.0002:0.. lora_plus_ratio=1.0:0.. schedule=cosine warmup=0:0.. floor=0.0:0..1
        epochs=0.0:0.. steps=0:0.. batch=0:0.. accumulate=1:1.. clip=1.0:0.. decay=0.0:0.. l1=0.0:0.. l2_sp=0.0:0..
        label_smoothing=0.0:0..0.99 kl=0.0:0.. checkpointing=False seed=0:0..4294967295 eval_every=50:0..
        eval_rows=200:0.. patience=0:0.. save_every=50:0.. tensorboard=False
    """,
    PretrainConfig: """
        out=pretrained family=llama size=1M tokenizer=bpe vocab=0:0..1048576 parametrisation=mup base_width=64:1..
        objective=autoregressive block_size=8:1.. tokens=0:0.. context=256:8.. batch=8:1.. accumulate=2:1..
        optimiser=adamw rate=0.0:0.. schedule=cosine warmup=0.02:0..0.9 floor=0.1:0..1 decay=0.1:0.. clip=1.0:0..
        checkpointing=False seed=0:0..4294967295 valid=0.05:0.001..0.5 eval_every=100:0.. eval_rows=200:0..
        patience=0:0.. save_every=100:0.. sample_tokens=32:0..4096 tensorboard=False
    """,
    GenerateOptions: """
        method=verified chat=False answers=8:1..256 rows=64:1.. max_tokens=256:1.. limit=0:0.. timeout=10.0:0.01..
        hint=False demos=6:1..64 own_demos=2:0..64 rouge=0.7:0..1 measure=ngram least=0.1:0.. most=0.9:0..
        changes=('mask','drop','swap','noise') rate=0.1:0..1 latent=16:1..512 context=4:1..64 learn=500:1..
        free_bits=0.1:0.. anneal=0.5:0..1
    """,
    FilterOptions: """
        least_words=1:0.. most_words=0:0.. repetition=0.0:0..1 low_tail=0.0:0..0.5 high_tail=0.0:0..0.5 judge=0.0:0..1
    """,
    DeduplicateOptions: "near=True jaccard=0.7:0..1 shingle=5:1..50 bands=32:1..1024 per_band=4:1..64",
    BalanceOptions: "per_parent=0:0.. most=0:0..",
    SplitOptions: "valid=0.05:0..0.9 test=0.0:0..0.9",
    TrainOptions: "steps=100:1.. rate=0.0002:0.. rank=8:1.. batch=8:1.. length=512:2.. seed=0:0..4294967295",
    CollapseOptions: "learner=counts rows=0:0.. kind=row",
}
RANGE = re.compile(r"(\w+)=([^:\s]*)(?::(\S*)\.\.(\S*))?")


def promised(kind: Any) -> dict[str, tuple[str, str, str]]:
    return {name: (default, low, high) for name, default, low, high in RANGE.findall(PROMISED[kind])}


@pytest.mark.parametrize("kind", PROMISED, ids=lambda kind: kind.__name__)
def test_what_is_meant_where_nothing_is_said(kind: Any) -> None:
    plain, known = kind(), promised(kind)
    for f in fields(kind):
        value = getattr(plain, f.name)
        if f.name in known:
            assert str(value).replace(" ", "") == known[f.name][0], f.name
        elif f.metadata:
            assert value == type(f.default)(), f.name
    check_ranges(plain)


@pytest.mark.parametrize("kind", PROMISED, ids=lambda kind: kind.__name__)
def test_a_range_holds_its_ends_and_nothing_beyond(kind: Any) -> None:
    for name, (_, low, high) in promised(kind).items():
        number = type(getattr(kind(), name))
        step = 1 if number is int else 1e-4
        for end, out in ((low, -step), (high, step)):
            if end:
                check_ranges(replace(kind(), **{name: number(float(end))}))
                with pytest.raises(ParameterError, match=name):
                    check_ranges(replace(kind(), **{name: float(end) + out}))
        if low and not high:
            check_ranges(replace(kind(), **{name: number(10**9)}))
