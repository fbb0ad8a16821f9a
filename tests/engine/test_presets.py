"""The table of parameters: it agrees with the transforms, and recipes and values lead to each other."""

import dataclasses

import numpy as np
import pytest

import likely.engine.sampling.transforms as package
from likely.engine.base.errors import ParameterError
from likely.engine.sampling.presets import DEFAULT, OFF, ORDERS, PARAMETERS, PRESETS, build, clamp, recipe, values
from likely.engine.sampling.transforms import TRANSFORMS, LogitBias, Transform, run, start

KINDS = [(p, kind) for kind in TRANSFORMS for p in kind.parameters]
# every transform switched on
EVERY = {
    p.name: p.default if p.off is None else p.low + p.step if p.off == p.high else p.high for p in PARAMETERS.values()
} | {"temp": 0.7, "dynatemp_range": 0.0}
ASKED = {
    package.Constraint,
    package.ChoiceMask,
    package.ChoiceDistribution,
}  # which stand before all, where they are asked for
BASES = {Transform, package.Truncation, package.Edit, package.Penalty}


def test_every_parameter_is_a_field_with_a_default_in_its_range():
    z = np.random.default_rng(0).normal(size=50).astype(np.float32)
    for p, kind in KINDS:
        fields = {field.name: field.default for field in dataclasses.fields(kind)}
        assert p.low <= p.default <= p.high and (p.off is None or p.low <= p.off <= p.high)
        assert fields[p.field] in (dataclasses.MISSING, p.default) or p.off is not None, p.name
        switch = next(s for s in kind.parameters if s.off is not None)
        for end in (p.low, p.low + p.step, p.high):  # both ends of a slider make a transform that runs
            made = recipe({switch.name: switch.high, p.name: end})
            after, _ = run(made.transforms, z, start(made.transforms, None, [1, 2], np), (0, 0), np)
            assert np.isfinite(after).any()


def test_every_transform_has_a_parameter_and_a_place_in_every_order():
    exported = (getattr(package, name) for name in package.__all__)
    named = {kind for kind in exported if isinstance(kind, type) and issubclass(kind, Transform)} - BASES
    assert set(TRANSFORMS) == named and len(TRANSFORMS) == len(named)
    for order in ORDERS.values():
        assert {*order, package.DynamicTemperature} | ASKED == named and len(set(order)) == len(order)
    assert {kind for kind in TRANSFORMS if not kind.parameters} == {LogitBias} | ASKED
    assert len(PARAMETERS) == len(KINDS) and isinstance(build(EVERY, bias={1: 2.0})[0], LogitBias)


@pytest.mark.parametrize(
    ("order", "kinds"),
    [
        ("mlx-lm", "RepetitionPenalty PresencePenalty FrequencyPenalty TopP MinP XTC TopK Temperature"),
        ("llama.cpp", "RepetitionPenalty DRY TopNSigma TopK Typical TopP MinP XTC Temperature"),
        ("hugging-face", "RepetitionPenalty Temperature TopK TopP MinP Typical"),
    ],
)
def test_orders_are_those_of_others_and_values_lead_back(order, kinds):
    names = [type(t).__name__ for t in build(EVERY, ORDERS[order])]
    assert [name for name in names if name in kinds.split()] == kinds.split()
    dynamic = {"temp": 0.9, "dynatemp_range": 0.4, "dynatemp_exponent": 2.0}
    for settings in ({}, DEFAULT, EVERY, *PRESETS.values(), dynamic):
        assert values(recipe(settings, ORDERS[order])) == {**OFF, **settings}


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
