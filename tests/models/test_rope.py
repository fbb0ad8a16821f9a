"""Rotations: both forms of each kind against the definition in float64."""

import math
from typing import Any

import numpy as np
import pytest

from likely.metal import mx
from likely.models.keys import Keys
from likely.models.rope import Rope, read_rope, scaled
from likely.models.rotation import KernelRotation, TableRotation

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
