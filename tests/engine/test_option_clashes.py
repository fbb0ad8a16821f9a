"""Options that contradict each other, one by one: what is refused, in whose words, and what is as it was asked for."""

from typing import Any

import pytest

from likely.engine.adapters.config import BATCH, Config
from likely.engine.adapters.config import configure as tuning
from likely.engine.errors import ParameterError
from likely.engine.pretrain.config import configure as pretraining
from likely.engine.synth.config import METHODS, OF_METHODS
from likely.engine.synth.config import configure as pipeline

TUNE: list[tuple[dict[str, Any], str]] = [
    ({"out": ""}, "--out takes the name of the folder"),
    ({"scale": 2.0, "alpha": 3.0}, "give scale or alpha, not both"),
    ({"scale": 2.0, "rslora": True}, "rslora scales by alpha"),
    ({"warm_start": "a", "init": "pissa"}, "warm_start is a start itself"),
    ({"kind": "dora", "init": "pissa"}, "init = pissa goes with kind = lora"),
    ({"objective": "dpo", "kl": 0.5}, "kl goes with objective = sft"),
    ({"objective": "mdlm", "kl_data": "a", "kl": 0.5}, "kl goes with objective = sft"),
    ({"kl_data": "a"}, "kl_data needs kl > 0"),
    ({"objective": "orpo", "label_smoothing": 0.1}, "label_smoothing goes with objective = sft"),
    ({"init": "pissa", "decay": 0.1}, "decay and l1 pull factors to 0"),
    ({"init": "pissa", "l1": 0.1}, "decay and l1 pull factors to 0"),
    ({"kind": "dora", "l2_sp": 0.1}, "l2_sp is of BA"), ({"quantize": 1}, "quantize must be 2, 3, 4, 5, 6 or 8"),
    ({"quantize": 7}, "quantize must be 2, 3, 4, 5, 6 or 8"),
    ({"quantize": 4, "group_size": 96}, "group_size must be 32, 64 or 128"),
    ({"patience": 2, "eval_every": 0}, "patience needs eval_every"),
    ({"epochs": 1.0, "steps": 3}, "give epochs or steps, not both"),
    *(
        ({"kind": "full", name: value}, f"{name} belongs to an adapter")
        for name, value in (
            ("rslora", True), ("init", "pissa"), ("warm_start", "a"), ("lora_plus_ratio", 2.0), ("dropout", 0.1),
            ("quantize", 4), ("alpha", 2.0), ("scale", 2.0),
        )
    ),
    ({"kind": "full", "rank": 4}, "rank .*kind = lora or dora: full training has no adapter"),
    ({"kind": "full", "modules": ["q_proj"]}, "modules .*full training is of all"),
    ({"beta": 0.5}, "beta .*objective = dpo or orpo"), ({"anneal": 0.5}, "anneal .*objective = mdlm"),
    ({"objective": "block", "anneal": 0.5}, "anneal .*objective = mdlm"), ({"group_size": 32}, "group_size .*quantize"),
    ({"schedule": "constant", "floor": 0.5}, "floor .*a schedule that falls"),
]  # fmt: skip


@pytest.mark.parametrize(("values", "line"), TUNE)
def test_a_fine_tuning_is_refused_by_name(values: dict[str, Any], line: str) -> None:
    with pytest.raises(ParameterError, match=line):
        tuning(values)


def test_the_multiplier_is_the_scale_or_by_alpha_and_rank() -> None:
    for values, multiplier in (
        ({}, 2.0), ({"rank": 4}, 2.0), ({"alpha": 12.0, "rank": 4}, 3.0),
        ({"alpha": 12.0, "rank": 4, "rslora": True}, 6.0), ({"rank": 4, "rslora": True}, 4.0), ({"scale": 7.0}, 7.0),
    ):  # fmt: skip
        assert tuning(values).multiplier == multiplier
    starts = [
        tuning({"kind": "full", **more}).keeps_start
        for more in ({}, {"kl": 0.5}, {"l2_sp": 0.5}, {"objective": "dpo"}, {"objective": "orpo"})
    ]
    assert starts == [False, True, True, True, False] and not tuning({"kl": 0.5}).keeps_start
    assert tuning({"packing": True}).batch == BATCH == 4 and tuning({"packing": False}).batch == 0
    assert tuning({"packing": True, "batch": 2}).batch == 2 and tuning({"batch": 3}).packing is True
    assert tuning({"start": "pissa"}).init == "pissa" and tuning({"plus": 2.0}).lora_plus_ratio == 2.0
    assert tuning({"rate": 0.5}, Config(rank=3)).rank == 3


PRETRAIN: list[tuple[dict[str, Any], str]] = [
    ({"out": ""}, "--out takes the name of the folder"),
    ({"patience": 2, "eval_every": 0}, "patience needs eval_every"),
    ({"objective": "block", "context": 20}, "context 20 is not divisible into blocks of 8"),
    ({"parametrisation": "standard", "base_width": 32}, "base_width .*parametrisation = mup"),
    ({"schedule": "constant", "floor": 0.5}, "floor .*a schedule that falls"),
    ({"tokenizer": "bytes", "vocab": 300}, "vocab .*tokenizer = bpe or unigram"),
    ({"sample": "a", "sample_tokens": 0}, "sample .*sample_tokens above 0"),
    ({"objective": "mdlm", "sample": "a"}, "sample .*objective = autoregressive"),
    ({"objective": "mdlm", "sample_tokens": 5}, "sample_tokens .*likely fill draws"),
    ({"block_size": 4}, "block_size .*objective = block"),
    ({"size": "a.toml", "family": "qwen3"}, "family .*a file of a shape says its own"),
]


@pytest.mark.parametrize(("values", "line"), PRETRAIN)
def test_a_pretraining_is_refused_by_name(values: dict[str, Any], line: str) -> None:
    with pytest.raises(ParameterError, match=line):
        pretraining(values)


GIVEN: dict[str, dict[str, Any]] = {
    "verified": {"task": "t"}, "preference": {"task": "t"}, "grid": {"grid": {"a": ["b"]}}, "rewrite": {"data": "d"},
    "document": {"data": "d"}, "augment": {"data": "d"}, "self-instruct": {"data": "d"}, "vae": {"data": "d"},
    "magpie": {},
}  # fmt: skip
OTHER: dict[str, Any] = {
    "task": "t", "data": "d", "verifier": "v", "timeout": 3.0, "chat": True, "strategy": "s", "stop": ["x"], "limit": 3,
    "hint": True, "classes": ["c"], "rows": 5, "demos": 3, "own_demos": 3, "rouge": 0.5, "via": ["{text}"],
    "measure": "kl", "least": 0.2, "most": 0.8, "changes": ["mask"], "rate": 0.5, "grid": {"a": ["b"]}, "template": "x",
    "latent": 3, "context": 3, "learn": 3, "free_bits": 0.5, "anneal": 0.25,
}  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
def test_an_option_of_other_methods_is_refused_with_theirs(method: str) -> None:
    for name, value in OTHER.items():
        values = {"generate": {"method": method, **GIVEN[method], name: value}}
        if method in OF_METHODS[name] or name in GIVEN[method]:
            assert getattr(pipeline(values).generate, name) is not None
            continue
        with pytest.raises(ParameterError, match=rf"generate.{name} goes with method = .*, not {method}"):
            pipeline(values)
    for needed in GIVEN[method]:
        with pytest.raises(ParameterError, match=rf"method = {method} needs generate.{needed}"):
            pipeline({"generate": {"method": method}})


PIPELINE: list[tuple[dict[str, Any], str]] = [
    ({"out": ""}, "out takes the name of the folder"),
    (
        {"generate": {"method": "vae", "data": "d", "sampling": {"top_p": 0.5}}},
        "sampling.top_p goes with a language model",
    ),
    (
        {"generate": {"method": "rewrite", "data": "d", "most": 1.5}},
        "most must be 0 to 1 with measure = ngram, got 1.5",
    ),
    (
        {"generate": {"method": "rewrite", "data": "d", "least": 0.6, "most": 0.5}},
        "least must be below most, got 0.6 and 0.5",
    ),
    (
        {"generate": {"method": "augment", "data": "d", "changes": ["melt"]}},
        "changes must be of mask, drop, swap, noise",
    ),
    ({"generate": {"method": "preference", "task": "t", "answers": 1}}, "a preference is between 2 answers"),
    ({"generate": {"task": "t"}, "split": {"valid": 0.5, "test": 0.41}}, "must leave a tenth for training"),
    ({"generate": {"task": "t"}, "balance": {"classes": ["a"]}}, "balance.classes needs balance.by"),
    ({"generate": {"task": "t"}, "balance": {"most": 3}}, "balance.most needs balance.by"),
    ({"generate": {"task": "t", "sampling": 3}}, "generate.sampling must be a table of parameters"),
    ({"generate": {"task": "t", "sampling": {"temp": "x"}}}, "generate.sampling.temp must be a number"),
    ({"generate": {"method": "grid", "grid": []}}, "generate.grid must be a table of lists"),
    ({"generate": {"method": "grid", "grid": {}}}, "generate.grid must be a table of lists"),
    ({"generate": {"method": "grid", "grid": {"a": ["x"], "b": []}}}, "generate.grid.b must have at least one value"),
    ({"generate": {"task": "t"}, "filter": {"low_tail": 0.6}}, "low_tail must be 0 to 0.5"),
]


@pytest.mark.parametrize(("values", "line"), PIPELINE)
def test_a_pipeline_is_refused_by_name(values: dict[str, Any], line: str) -> None:
    with pytest.raises(ParameterError, match=line):
        pipeline(values)


def test_a_pipeline_at_the_edges_of_what_goes_together() -> None:
    for generate in (
        {"method": "rewrite", "data": "d", "most": 1.5, "measure": "kl"},
        {"method": "rewrite", "data": "d", "most": 1.0}, {"method": "rewrite", "data": "d", "least": 0.5, "most": 0.5},
        {"method": "preference", "task": "t", "answers": 2}, {"method": "vae", "data": "d", "sampling": {"temp": 0.5}},
        {"task": "t", "sampling": {"top_p": 0.5, "temp": 0.5}},
    ):  # fmt: skip
        assert pipeline({"generate": generate}).generate.method == generate.get("method", "verified")
    plain = {"generate": {"task": "t"}}
    assert pipeline({**plain, "split": {"valid": 0.5, "test": 0.4}}).split.test == 0.4
    assert pipeline({**plain, "balance": {"by": "answer", "most": 3, "classes": ["a"]}}).balance.most == 3
    over = pipeline(plain, model="m", seed=7, out=None)
    assert (over.generate.model, over.seed, over.out) == ("m", 7, "made")
    assert pipeline(plain, model="").generate.model == ""
