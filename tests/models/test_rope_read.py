"""Rotations as tables describe them: what is left out, what cannot be, and where one regime ends."""

import math
from dataclasses import replace
from typing import Any

import pytest

from likely.models.errors import ConfigError
from likely.models.keys import Keys
from likely.models.rope import Rope, read_rope, scaled

ROPE = Rope(1e4, 8)


def rope(table: dict[str, Any], dims: int = 8, context: int = 64, theta: float = 1e4) -> Rope:
    return scaled(Keys(table), table, dims, context, theta)


LONG = {"type": "longrope", "short_factor": [1.0] * 4, "long_factor": [2.0] * 4, "original_max_position_embeddings": 32}


@pytest.mark.parametrize(
    ("table", "more", "line"),
    [
        ({}, {"dims": 1}, "the rotated dimensions of a head must be even, got 1"),
        ({}, {"dims": 0}, "must be even, got 0"), ({}, {"dims": 3}, "must be even, got 3"),
        ({"type": "linear", "factor": 0.999}, {}, "factor must be 1 or more, got 0.999"),
        ({"type": "dynamic", "factor": 2.0}, {"dims": 2}, "dynamic needs 4 rotated dimensions or more, got 2"),
        ({"type": "dynamic", "factor": 2.0}, {"context": 1},
            "original_max_position_embeddings must be 2 or more, got 1"),
        ({}, {"theta": 1.0}, "rope_theta must be above 1"),
        ({}, {"theta": 0.0}, "rope_theta must be above 0 and below 1e"),
        ({}, {"theta": 1e15}, "rope_theta must be above 0 and below 1e"),
        ({"type": "linear", "factor": 1e15}, {}, "factor must be above 0 and below 1e"),
        ({"type": "llama3", "factor": 2.0, "low_freq_factor": 4.0}, {}, "high_freq_factor above low_freq_factor"),
        ({"type": "llama3", "factor": 2.0, "low_freq_factor": 0.0}, {}, "low_freq_factor must be above 0"),
        (LONG | {"short_factor": [1.0] * 3}, {}, "short_factor must have 4 entries, .* got 3"),
        (LONG | {"long_factor": [1.0] * 5}, {}, "long_factor must have 4 entries, .* got 5"),
        (LONG | {"long_factor": [1.0, 1.0, 0.0, 1.0]}, {}, "long_factor must be above 0"),
        (LONG | {"long_factor": [1.0, 1.0, "x", 1.0]}, {}, "long_factor: 2 must be a number, got 'x'"),
        ({"type": "yarn", "factor": 2.0, "beta_fast": 0}, {}, "beta_fast must be above 0"),
        ({"type": "yarn", "factor": float("inf")}, {}, "factor must be a number, got inf"),
    ],
)  # fmt: skip
def test_a_rotation_that_cannot_be_is_named(table: dict[str, Any], more: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError, match=line):
        rope(table, **more)


@pytest.mark.parametrize(
    ("table", "more", "want"),
    [
        ({}, {"dims": 2}, Rope(1e4, 2)), ({}, {"theta": 1.5}, Rope(1.5, 8)),
        ({"type": "default", "original_max_position_embeddings": 7}, {}, Rope(1e4, 8)),
        ({"type": "linear", "factor": 1, "original_max_position_embeddings": 7}, {}, Rope(1e4, 8, kind="linear",
            factor=1.0)),
        ({"type": "dynamic", "factor": 2.0}, {"dims": 4, "context": 2}, Rope(1e4, 4, kind="dynamic", factor=2.0,
            original=2)),
        ({"type": "dynamic", "factor": 2.0, "original_max_position_embeddings": 9}, {}, Rope(1e4, 8, kind="dynamic",
            factor=2.0, original=9)),
        ({"rope_type": "llama3", "factor": 2.0}, {}, Rope(1e4, 8, kind="llama3", factor=2.0, original=8192,
            low_freq_factor=1.0, high_freq_factor=4.0)),
        ({"rope_type": "yarn", "factor": 1.0}, {}, Rope(1e4, 8, kind="yarn", factor=1.0, original=64,
            beta_fast=32.0, beta_slow=1.0, truncate=True, attention_factor=1.0)),
        ({"rope_type": "yarn", "factor": 4.0}, {}, Rope(1e4, 8, kind="yarn", factor=4.0, original=64,
            attention_factor=0.1 * math.log(4) + 1)),
        ({"rope_type": "yarn", "factor": 4.0, "mscale": 0.5, "mscale_all_dim": 0.25, "beta_fast": 9, "beta_slow": 2,
            "truncate": False}, {}, Rope(1e4, 8, kind="yarn", factor=4.0, original=64, beta_fast=9.0, beta_slow=2.0,
            truncate=False, attention_factor=(0.05 * math.log(4) + 1) / (0.025 * math.log(4) + 1))),
        (LONG, {}, Rope(1e4, 8, kind="longrope", factor=2.0, original=32, short_factor=(1.0,) * 4,
            long_factor=(2.0,) * 4, attention_factor=math.sqrt(1 + math.log(2) / math.log(32)))),
        (LONG, {"context": 32}, Rope(1e4, 8, kind="longrope", factor=1.0, original=32, short_factor=(1.0,) * 4,
            long_factor=(2.0,) * 4, attention_factor=1.0)),
        (LONG | {"factor": 4.0, "attention_factor": 1.5}, {}, Rope(1e4, 8, kind="longrope", factor=4.0, original=32,
            short_factor=(1.0,) * 4, long_factor=(2.0,) * 4, attention_factor=1.5)),
        (LONG | {"factor": 0.5}, {}, Rope(1e4, 8, kind="longrope", factor=0.5, original=32, short_factor=(1.0,
            ) * 4, long_factor=(2.0,) * 4, attention_factor=1.0)),
        (LONG | {"rope_type": "su"}, {}, Rope(1e4, 8, kind="longrope", factor=2.0, original=32, short_factor=(1.0,
            ) * 4, long_factor=(2.0,) * 4, attention_factor=math.sqrt(1 + math.log(2) / math.log(32)))),
    ],
)  # fmt: skip
def test_a_table_is_read_with_what_it_leaves_out(table: dict[str, Any], more: dict[str, Any], want: Rope) -> None:
    assert rope(table, **more) == want


def test_a_rotation_without_more_is_plain() -> None:
    said = Rope(1e4, 8, False, "default", 1.0, 0, 1.0, 4.0, 32.0, 1.0, True, 1.0, (), ())
    assert said == ROPE and not ROPE.varies and ROPE.regime(9) == 0
    assert ROPE.periods() == [1.0, 10.0, 100.0, 1000.0]
    assert Rope(1e4, 8, kind="linear", factor=3.0).periods() == [3.0, 30.0, 300.0, 3000.0]


def test_frequencies_change_one_position_past_the_context_that_was_trained() -> None:
    long = Rope(1e4, 4, kind="longrope", original=32, short_factor=(1.0, 2.0), long_factor=(3.0, 5.0))
    assert [long.regime(n) for n in (0, 32, 33)] == [0, 0, 1] and long.varies
    assert long.periods(32) == [1.0, 200.0] and long.periods(33) == [3.0, 500.0] and long.periods() == [1.0, 200.0]
    dynamic = Rope(1e4, 4, kind="dynamic", factor=2.0, original=32)
    assert [dynamic.regime(n) for n in (0, 32, 33)] == [32, 32, 33] and dynamic.varies
    assert dynamic.periods(32) == dynamic.periods() == [1.0, 100.0]
    assert dynamic.periods(64) == pytest.approx([1.0, math.sqrt(1e4 * 3**2)])  # (2 * 64 / 32 - 1) ^ (4 / 2)
    for kind in ("llama3", "yarn", "linear"):
        assert not replace(dynamic, kind=kind).varies and replace(dynamic, kind=kind).regime(99) == 0


def test_llama_3_stretches_what_turns_seldom_and_leaves_what_turns_often() -> None:
    """Turns over the original context: above `high` as it was, below `low` by the factor, smooth between."""
    original = 2 * math.pi * 64
    made = Rope(16.0, 8, kind="llama3", factor=8.0, original=1, low_freq_factor=1.0, high_freq_factor=4.0)
    made = replace(made, original=original)  # type: ignore[arg-type]
    turns = [64 / period for period in (1, 2, 4, 8)]
    assert turns == [64, 32, 16, 8] and made.periods() == [1.0, 2.0, 4.0, 8.0]
    slow = replace(made, theta=256.0 * 256)  # periods 1, 16, 256, 4096: turns 64, 4, 1/4, 1/64
    assert slow.periods() == pytest.approx([1.0, 16.0, 256 * 8.0, 4096 * 8.0])
    middle = replace(made, original=2 * math.pi * 32)  # type: ignore[arg-type]
    smooth = (2.0 - 1) / 3
    found = replace(middle, theta=256.0 * 256).periods()
    assert found[1] == pytest.approx(16 / ((1 - smooth) / 8 + smooth)) and found[2] == pytest.approx(256 * 8)
    assert replace(made, theta=64.0**4, dims=8).periods()[1] == pytest.approx(64 * 8)  # exactly one turn


@pytest.mark.parametrize(
    ("config", "want"),
    [
        ({"rope_theta": 5.0}, Rope(5.0, 16)), ({}, Rope(3.0, 16)),
        ({"rope_parameters": {"rope_theta": 5.0}}, Rope(5.0, 16)),
        ({"rope_theta": 5.0, "rope_parameters": {"rope_theta": 5.0}}, Rope(5.0, 16)),
        ({"rope_scaling": {"type": "linear", "factor": 2.0, "rope_theta": 7.0}}, Rope(7.0, 16, kind="linear",
            factor=2.0)),
        ({"partial_rotary_factor": 0.5}, Rope(3.0, 8)),
        ({"rope_parameters": {"partial_rotary_factor": 0.25}}, Rope(3.0, 4)),
        ({"partial_rotary_factor": 0.5, "rope_parameters": {"partial_rotary_factor": 0.5}}, Rope(3.0, 8)),
        ({"rope_traditional": True, "rope_interleaved": False}, Rope(3.0, 16, traditional=True)),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}, "rope_parameters": {"type": "linear", "factor": 2.0}},
            Rope(3.0, 16, kind="linear", factor=2.0)),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}, "rope_parameters": {"rope_theta": 9.0}}, Rope(9.0, 16,
            kind="linear", factor=2.0)),
    ],
)  # fmt: skip
def test_a_rotation_is_read_from_wherever_it_is_said(config: dict[str, Any], want: Rope) -> None:
    keys = Keys(config)
    assert read_rope(keys, 16, 64, theta=3.0) == want
    keys.done()


@pytest.mark.parametrize(
    ("config", "line"),
    [
        ({"rope_theta": 5.0, "rope_parameters": {"rope_theta": 6.0}}, "rope_theta is 5.0 and rope_parameters says 6.0"),
        (
            {"partial_rotary_factor": 0.5, "rope_parameters": {"partial_rotary_factor": 1.0}},
            "partial_rotary_factor is 0.5",
        ),
        ({"rope_scaling": {"factor": 2.0}, "rope_parameters": {"factor": 3.0}}, "contradict each other"),
        (
            {"rope_scaling": {"type": "linear", "factor": 2.0, "original_max_position_embeddings": 9}},
            "original_max_position_embeddings is 8 and rope_scaling says 9",
        ),
    ],
)
def test_two_places_that_say_other_things_are_refused(config: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError, match=line):
        read_rope(Keys(config), 16, 64, original=8)


def test_the_context_before_a_stretch_may_be_said_outside() -> None:
    table = {"rope_scaling": {"type": "dynamic", "factor": 2.0}}
    assert read_rope(Keys(table), 16, 64, original=8).original == 8 and read_rope(Keys(table), 16, 64).original == 64
    assert read_rope(Keys({}), 16, 64).theta == 10_000.0
