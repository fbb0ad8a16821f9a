"""Options of a verb: how a value is read, which ranges hold, and what is refused by name."""

import math
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import pytest

from likely.engine.base.errors import DataError, ParameterError
from likely.engine.base.options import changes, check_needs, check_ranges, option, read_toml, typed, unknown
from likely.engine.measure.synth import config as synth
from likely.engine.measure.synth.config import METHODS, OF_METHODS
from likely.engine.measure.synth.config import configure as pipeline
from likely.engine.train.pretrain.config import PretrainConfig
from likely.engine.train.pretrain.config import configure as pretraining
from likely.engine.weights.adapters.config import BATCH, Config
from likely.engine.weights.adapters.config import configure as tuning

KINDS: tuple[Any, ...] = (
    Config, PretrainConfig, synth.GenerateOptions, synth.FilterOptions, synth.DeduplicateOptions, synth.BalanceOptions,
    synth.SplitOptions, synth.TrainOptions, synth.CollapseOptions,
)  # fmt: skip


def test_a_value_is_as_its_field_holds_it() -> None:
    assert typed("n", 3, int) == 3 and typed("b", True, bool) is True and typed("s", "x", str) == "x"
    assert type(typed("f", 3, float)) is float and typed("f", 2.5, float) == 2.5
    assert typed("l", ["a", "b"], tuple[str, ...]) == ("a", "b") == typed("l", ("a", "b"), tuple[str, ...])
    assert typed("l", [], tuple[str, ...]) == ()
    assert typed("n", 10**18 - 1, int) == 10**18 - 1 and typed("n", 1 - 10**18, int) == 1 - 10**18
    for value, kind, line in (
        ("3", int, "x must be a whole number, got '3'"), (True, int, "x must be a whole number, got True"),
        (2.0, int, "x must be a whole number, got 2.0"), (True, float, "x must be a number, got True"),
        ("a", float, "x must be a number"), (1, bool, "x must be true or false, got 1"), (1, str, "x must be text"),
        (["a", 1], tuple[str, ...], "x must be a list of texts"), ("ab", tuple[str, ...], "x must be a list of texts"),
        (10**18, int, "at most 18 digits, got one of 19"), (-(10**18), int, "at most 18 digits, got one of 19"),
        (10**400, float, "x must be a number, got one of 401 digits"),
    ):  # fmt: skip
        with pytest.raises(ParameterError) as error:
            typed("x", value, kind)
        assert line in str(error.value), value


def test_names_are_told_apart_and_the_nearest_is_named() -> None:
    hints: dict[str, Any] = {"learning_rate": float, "seed": int}
    assert changes({"learning-rate": 1, "seed": 2}, hints) == {"learning_rate": 1.0, "seed": 2}
    assert changes({"lr": 0.5}, hints, {"lr": "learning_rate"}) == {"learning_rate": 0.5} and changes({}, hints) == {}
    for values in ({"lr": 1, "learning_rate": 2}, {"learning_rate": 2, "lr": 1}):
        with pytest.raises(ParameterError, match="lr is called learning_rate now: give one of them"):
            changes(values, hints, {"old": "seed", "lr": "learning_rate"})
    with pytest.raises(ParameterError, match="a-b is called a_b now"):
        changes({"a_b": 1, "a-b": 2}, {"a_b": int}, {"old": "seed"})
    with pytest.raises(ParameterError, match=r"unknown option learning-rat; did you mean learning_rate\?"):
        changes({"learning-rat": 1}, hints)
    assert str(unknown("zzz", ["a", "b"])) == "unknown option zzz; known: a, b"


@dataclass(frozen=True)
class Some:
    """Options of a verb."""

    low: float = option(1.0, "", low=0.5)
    both: float = option(1.0, "", low=0, high=2)
    only: int = option(1, "", high=3)
    named: str = option("a", "", choices=("a", "b"))
    plain: float = math.nan


def test_ranges_hold_at_their_ends() -> None:
    for good in ({}, {"low": 0.5}, {"low": 1e9}, {"both": 0}, {"both": 2}, {"only": 3}, {"only": -5}, {"named": "b"}):
        check_ranges(Some(**good))  # type: ignore[arg-type]
    for bad, line in (
        ({"low": 0.49}, "low must be at least 0.5, got 0.49"), ({"both": -0.1}, "both must be 0 to 2, got -0.1"),
        ({"both": 2.1}, "both must be 0 to 2, got 2.1"), ({"low": math.inf}, "low must be at least 0.5, got inf"),
        ({"both": math.nan}, "got nan"), ({"named": "c"}, "named must be one of a, b, got 'c'"),
    ):  # fmt: skip
        with pytest.raises(ParameterError) as error:
            check_ranges(Some(**bad))  # type: ignore[arg-type]
        assert line in str(error.value)


def test_an_option_that_would_change_nothing_is_refused() -> None:
    needs: Any = {"low": (lambda o: o.named == "b", "b")}
    check_needs(Some(), ["both"], needs)
    check_needs(Some(named="b"), ["low"], needs)
    with pytest.raises(ParameterError, match="low goes with b"):
        check_needs(Some(), ["low"], needs)


def test_toml_of_too_much_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "o.toml"
    for text, want in (
        ("a = 1\n[b]\nc = [1, 2]", {"a": 1, "b": {"c": [1, 2]}}), (f"a = {'9' * 20}", {"a": 10**20 - 1}),
        (f"a = -{'9' * 20}", {"a": 1 - 10**20}), (f"a = {'[' * 63}{']' * 63}", None), ("a = 1e400", {"a": math.inf}),
    ):  # fmt: skip
        file.write_text(text)
        found = read_toml(file)
        assert want is None or found == want
    for text, line in (
        ("a = ", "not TOML"), (f"a = 1{'0' * 20}", "at most 20 digits"), (f"a = [[{{b = -1{'0' * 20}}}]]", "20 digits"),
        (f"a = {'[' * 64}{']' * 64}", "nested deeper than 64"), (f"a = {'9' * 5000}", "not TOML"),
    ):  # fmt: skip
        file.write_text(text)
        with pytest.raises(DataError, match=line):
            read_toml(file)


# -- what goes together ------------------------------------------------------------------------------------------------

OF_ADAPTERS: dict[str, Any] = {
    "rslora": True, "init": "pissa", "warm_start": "a", "lora_plus_ratio": 2.0, "dropout": 0.1, "quantize": 4,
    "alpha": 2.0, "scale": 2.0,
}  # fmt: skip
REWRITE = {"method": "rewrite", "data": "d"}
TUNE: list[tuple[dict[str, Any], str]] = [  # an option that would change nothing even where it has its default
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
    *(({"kind": "full", name: value}, f"{name} belongs to an adapter") for name, value in OF_ADAPTERS.items()),
    ({"kind": "full", "rank": 8}, "rank .*kind = lora or dora: full training has no adapter"),
    ({"kind": "full", "modules": ["*"]}, "modules .*full training is of all"),
    ({"beta": 0.1}, "beta .*objective = dpo or orpo"), ({"anneal": 0.0}, "anneal .*objective = mdlm"),
    ({"objective": "block", "anneal": 0.5}, "anneal .*objective = mdlm"),
    ({"group_size": 64}, "group_size .*quantize"),
    ({"schedule": "constant", "floor": 0.0}, "floor .*a schedule that falls"),
]  # fmt: skip
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
]  # fmt: skip
PIPELINE: list[tuple[dict[str, Any], str]] = [
    ({"out": ""}, "out takes the name of the folder"),
    ({"generate": {**REWRITE, "method": "vae", "sampling": {"top_p": 0.5}}}, "sampling.top_p goes with a language"),
    ({"generate": {**REWRITE, "most": 1.5}}, "most must be 0 to 1 with measure = ngram, got 1.5"),
    ({"generate": {**REWRITE, "least": 0.6, "most": 0.5}}, "least must be below most, got 0.6 and 0.5"),
    ({"generate": {**REWRITE, "method": "augment", "changes": ["melt"]}}, "changes must be of mask, drop"),
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
]  # fmt: skip


@pytest.mark.parametrize(
    ("configured", "values", "line"),
    [
        *((tuning, *row) for row in TUNE), *((pretraining, *row) for row in PRETRAIN),
        *((pipeline, *row) for row in PIPELINE),
    ],
)  # fmt: skip
def test_what_contradicts_itself_is_refused_by_name(configured: Any, values: dict[str, Any], line: str) -> None:
    with pytest.raises(ParameterError, match=line):
        configured(values)


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


GIVEN: dict[str, dict[str, Any]] = {
    "verified": {"task": "t"}, "preference": {"task": "t"}, "grid": {"grid": {"a": ["b"]}}, "rewrite": {"data": "d"},
    "document": {"data": "d"}, "augment": {"data": "d"}, "self-instruct": {"data": "d"}, "vae": {"data": "d"},
    "magpie": {},
}  # fmt: skip  # fmt: skip
OTHER: dict[str, Any] = {
    "task": "t", "data": "d", "verifier": "v", "timeout": 3.0, "chat": True, "strategy": "s", "stop": ["x"], "limit": 3,
    "hint": True, "classes": ["c"], "rows": 5, "demos": 3, "own_demos": 3, "rouge": 0.5, "via": ["{text}"],
    "measure": "kl", "least": 0.2, "most": 0.8, "changes": ["mask"], "rate": 0.5, "grid": {"a": ["b"]}, "template": "x",
    "latent": 3, "context": 3, "learn": 3, "free_bits": 0.5, "anneal": 0.25,
}  # fmt: skip  # fmt: skip


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


# -- every option that people write ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_range_holds_its_ends_and_its_default_and_nothing_beyond(kind: Any) -> None:
    plain = kind()
    check_ranges(plain)
    for f in fields(kind):
        value, choices = getattr(plain, f.name), f.metadata.get("choices")
        if choices:
            assert value in choices
            for choice in choices:
                check_ranges(replace(plain, **{f.name: choice}))
            with pytest.raises(ParameterError, match=f.name):
                check_ranges(replace(plain, **{f.name: "none of them"}))
        if not isinstance(value, int | float) or isinstance(value, bool):
            continue
        step = 1 if isinstance(value, int) else 1e-4
        for end, out in ((f.metadata.get("low"), -step), (f.metadata.get("high"), step)):
            if end is None:
                check_ranges(replace(plain, **{f.name: type(value)(math.copysign(10**9, out))})) if out > 0 else None
                continue
            check_ranges(replace(plain, **{f.name: type(value)(end)}))
            with pytest.raises(ParameterError, match=f.name):
                check_ranges(replace(plain, **{f.name: end + out}))
