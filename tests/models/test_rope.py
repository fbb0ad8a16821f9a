"""Rotations: both forms of each kind against the definition in float64, and as tables describe them."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from likely.metal import mx
from likely.models.configuration.keys import Keys
from likely.models.configuration.rope import Rope, read_rope, scaled
from likely.models.configuration.rotation import KernelRotation, TableRotation
from likely.models.errors import ConfigError

LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
YARN = {"factor": 4.0, "original_max_position_embeddings": 64}
TABLES: dict[str, dict[str, Any]] = {
    "default": {}, "linear": {"rope_type": "linear", "factor": 4.0}, "dynamic": {"type": "dynamic", "factor": 2.0},
    "llama3": {"rope_type": "llama3"} | LLAMA3, "yarn": {"rope_type": "yarn"} | YARN,
    "yarn scaled": {"rope_type": "yarn", "mscale": 0.7, "mscale_all_dim": 0.4} | YARN,
    "yarn untruncated": {"rope_type": "yarn", "truncate": False, "attention_factor": 1.1} | YARN,
    "yarn of a long text": {"rope_type": "yarn", "truncate": False} | YARN |
        {"original_max_position_embeddings": 4096},
    "longrope": {"type": "su", "short_factor": [1.0, 1.1, 1.2, 1.4], "long_factor": [2.0, 3.0, 5.0, 7.0],
        "original_max_position_embeddings": 64},
}  # fmt: skip


def frequencies(table: dict[str, Any], dims: int, context: int, length: int, theta: float) -> tuple[np.ndarray, float]:
    """Radians a position of each pair, and the gain, as transformers' `modeling_rope_utils` defines them."""
    kind = table.get("rope_type", table.get("type", "default"))
    plain = 1 / theta ** (np.arange(0, dims, 2, dtype=np.float64) / dims)
    if kind == "default":
        return plain, 1.0
    if kind == "linear":
        return plain / table["factor"], 1.0
    if kind == "dynamic":
        longest = max(length, context)
        base = theta * (table["factor"] * longest / context - (table["factor"] - 1)) ** (dims / (dims - 2))
        return 1 / base ** (np.arange(0, dims, 2) / dims), 1.0
    old = table["original_max_position_embeddings"]
    if kind == "llama3":
        wavelength = 2 * np.pi / plain
        low, high = old / table["low_freq_factor"], old / table["high_freq_factor"]
        smooth = (old / wavelength - table["low_freq_factor"]) / (table["high_freq_factor"] - table["low_freq_factor"])
        between = (1 - smooth) * plain / table["factor"] + smooth * plain
        out = np.where(wavelength > low, plain / table["factor"], plain)
        return np.where((wavelength <= low) & (wavelength >= high), between, out), 1.0
    if kind == "su":
        factors = np.array(table["long_factor" if length > old else "short_factor"])
        return plain / factors, math.sqrt(1 + math.log(context / old) / math.log(old))

    def dimension(turns: float) -> float:
        return dims * math.log(old / (turns * 2 * math.pi)) / (2 * math.log(theta))

    low_, high_ = dimension(32), dimension(1)
    if table.get("truncate", True):
        low_, high_ = math.floor(low_), math.ceil(high_)
    low_, high_ = max(low_, 0), min(high_, dims - 1)
    ramp = np.clip((np.arange(dims // 2) - low_) / (high_ - low_), 0, 1)

    def gain(m: float) -> float:
        return 0.1 * m * math.log(table["factor"]) + 1

    both = gain(table.get("mscale", 1.0)) / gain(table.get("mscale_all_dim", 0.0))
    return plain / table["factor"] * ramp + plain * (1 - ramp), table.get("attention_factor", both)


@pytest.mark.parametrize("form", [TableRotation, KernelRotation])
@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("dims", [8, 16])
@pytest.mark.parametrize("traditional", [False, True])
def test_each_kind_in_each_form(form: Any, name: str, dims: int, traditional: bool) -> None:
    table, context, theta, size = TABLES[name], 256, 1e4, 16
    if name == "longrope" and dims == 16:
        table = table | {key: table[key] * 2 for key in ("short_factor", "long_factor")}
    if name == "dynamic":
        context = 64
    rotation = form(scaled(Keys(table), table, dims, context, theta, traditional), size)
    x = mx.random.normal((2, 3, 5, size), key=mx.random.key(0))
    for offset in (0, 40, 90, [3, 150]):
        for t in (1, 5):
            starts = offset if isinstance(offset, list) else [offset] * 2
            length = max(starts) + t
            f, gain = frequencies(table, dims, context, length, theta)
            a = np.array(x[:, :, :t], np.float64)
            angles = (np.array(starts)[:, None, None, None] + np.arange(t)[:, None]) * f
            cos, sin = np.cos(angles) * gain, np.sin(angles) * gain
            left, right = (a[..., 0:dims:2], a[..., 1:dims:2]) if traditional else np.split(a[..., :dims], 2, -1)
            turned = left * cos - right * sin, right * cos + left * sin
            want = a.copy()
            if traditional:
                want[..., 0:dims:2], want[..., 1:dims:2] = turned
            else:
                want[..., :dims] = np.concatenate(turned, -1)
            at = mx.array(offset, dtype=mx.int32) if isinstance(offset, list) else offset
            got = np.array(rotation(x[:, :, :t], rotation.turns(at, t, length)))
            assert np.max(np.abs(got - want)) < 1e-4, (offset, t)


@pytest.mark.parametrize("form", [TableRotation, KernelRotation])
def test_sixteen_bits_stay_sixteen_bits(form: Any) -> None:
    rotation = form(Rope(1e4, 16), 16)
    x = mx.random.normal((1, 2, 3, 16), key=mx.random.key(0)).astype(mx.float16)
    for t in (1, 3):
        got = rotation(x[:, :, :t], rotation.turns(7, t, 7 + t))
        assert got.dtype == mx.float16
        want = rotation(x[:, :, :t].astype(mx.float32), rotation.turns(7, t, 7 + t))
        assert float(mx.max(mx.abs(got - want))) < 5e-3


def test_llama3_without_its_factors_has_those_that_meta_published() -> None:
    table = {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 64}
    said = {**table, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    rope, other = (read_rope(Keys({"rope_theta": 1e4, "rope_scaling": each}), 16, 512) for each in (table, said))
    assert rope == other and rope.periods() == other.periods()


@pytest.mark.parametrize("kind", ["llama3", "yarn"])
def test_a_table_and_a_rotation_that_leave_the_same_out_are_the_same(kind: str) -> None:
    table = {"rope_type": kind, "factor": 8.0, "original_max_position_embeddings": 64}
    table |= {"attention_factor": 1.0} if kind == "yarn" else {}
    assert scaled(Keys(table), table, 16, 512, 1e4) == Rope(1e4, 16, kind=kind, factor=8.0, original=64)


def test_a_yarn_ramp_without_width_is_a_step() -> None:
    rope = Rope(1e4, 16, kind="yarn", factor=4.0, original=64, beta_fast=2.0, beta_slow=2.0, truncate=False)
    stretched = np.array(rope.periods()) / np.array(Rope(1e4, 16).periods())
    assert np.round(stretched, 6).tolist() == [1.0] * 2 + [4.0] * 6  # the step is at 8 log(64 / 4 pi) / log(1e4) = 1.41


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
