"""The table of parameters: it agrees with the transforms, and recipes and values lead to each other."""

import dataclasses

import numpy as np
import pytest

import likely.engine.transforms
from likely.engine.errors import ParameterError
from likely.engine.presets import (
    DEFAULT,
    HUGGING_FACE,
    LLAMA_CPP,
    MLX_LM,
    OFF,
    ORDERS,
    PARAMETERS,
    PRESETS,
    build,
    clamp,
    recipe,
    values,
)
from likely.engine.transforms import (
    TRANSFORMS,
    ChoiceLaw,
    ChoiceMask,
    Constraint,
    DynamicTemperature,
    Edit,
    LogitBias,
    Penalty,
    Transform,
    Truncation,
    run,
    start,
)

KINDS = [(p, kind) for kind in TRANSFORMS for p in kind.parameters]
# every transform switched on
EVERY = {
    p.name: p.default if p.off is None else p.low + p.step if p.off == p.high else p.high for p in PARAMETERS.values()
}
EVERY |= {"temp": 0.7, "dynatemp_range": 0.0}


def test_every_parameter_is_a_field_with_a_default_in_its_range():
    for p, kind in KINDS:
        assert p.field in {field.name for field in dataclasses.fields(kind)}
        assert p.low <= p.default <= p.high
        assert p.off is None or p.low <= p.off <= p.high
        for field in dataclasses.fields(kind):
            if field.name == p.field and field.default is not dataclasses.MISSING:
                assert p.default == field.default or p.off is not None, p.name


def test_every_transform_has_a_parameter_and_a_place_in_every_order():
    exported = (getattr(likely.engine.transforms, name) for name in likely.engine.transforms.__all__)
    kinds = {kind for kind in exported if isinstance(kind, type) and issubclass(kind, Transform)}
    named = kinds - {Transform, Truncation, Edit, Penalty}
    assert set(TRANSFORMS) == named and len(TRANSFORMS) == len(named)
    for order in ORDERS.values():
        asked = {Constraint, ChoiceMask, ChoiceLaw}  # which stand before all, where they are asked for
        assert {*order, DynamicTemperature} | asked == named
        assert len(set(order)) == len(order)
    assert {kind for kind in TRANSFORMS if not kind.parameters} == {LogitBias} | asked
    assert len(PARAMETERS) == sum(len(kind.parameters) for kind in TRANSFORMS)


def test_both_ends_of_every_slider_make_a_transform_that_runs():
    z = np.random.default_rng(0).normal(size=50).astype(np.float32)
    for p, kind in KINDS:
        switch = next(s for s in kind.parameters if s.off is not None)
        for end in (p.low, p.low + p.step, p.high):
            made = recipe({switch.name: switch.high, p.name: end})
            after, _ = run(made.transforms, z, start(made.transforms, None, [1, 2], np), (0, 0), np)
            assert np.isfinite(after).any()


def test_orders():
    names = {name: [type(t).__name__ for t in build(EVERY, order)] for name, order in ORDERS.items()}

    def first(order, *kinds):
        places = [names[order].index(kind) for kind in kinds]
        assert places == sorted(places)

    first(
        "mlx-lm", "RepetitionPenalty", "PresencePenalty", "FrequencyPenalty", "TopP", "MinP", "XTC", "TopK",
        "Temperature",
    )  # fmt: skip
    first("llama.cpp", "RepetitionPenalty", "DRY", "TopNSigma", "TopK", "Typical", "TopP", "MinP", "XTC", "Temperature")
    first("hugging-face", "RepetitionPenalty", "Temperature", "TopK", "TopP", "MinP", "Typical")
    assert isinstance(build(EVERY, bias={1: 2.0})[0], LogitBias)


@pytest.mark.parametrize("order", [MLX_LM, LLAMA_CPP, HUGGING_FACE])
def test_values_of_a_recipe_are_the_values_it_was_made_from(order):
    for settings in (
        {}, DEFAULT, EVERY, *PRESETS.values(), {"temp": 0.9, "dynatemp_range": 0.4, "dynatemp_exponent": 2.0},
    ):  # fmt: skip
        assert values(recipe(settings, order)) == {**OFF, **settings}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_p": 1.2}, r"min-p must be in \(0, 1\], got 1.2"),
        ({"temp": -0.5}, r"temperature must be in \(0, 100\], got -0.5"),
        ({"xtc_threshold": 0.9}, r"xtc-threshold must be in \[0, 0.5\], got 0.9"),  # though XTC is off
        ({"dry_base": 0.5}, r"dry-base must be in \[1, 10\], got 0.5"),
        ({"top_pp": 0.9}, "there is no sampling parameter top_pp: did you mean top_p?"),
        ({"heat": 0.9}, "there is no sampling parameter heat: known are temp, "),
    ],
)
def test_what_cannot_be_honoured_is_refused(settings, message):
    with pytest.raises(ParameterError, match=message):
        recipe(settings)


def test_a_slider_stays_within_its_ends():
    assert clamp("top_p", 0.5) == 0.5 and clamp("top_p", 1.7) == 1.0 and clamp("top_k", 12.6) == 13
    assert clamp("temp", float("nan")) == PARAMETERS["temp"].default
    with pytest.raises(ParameterError, match="did you mean temp"):
        clamp("tempp", 1)
