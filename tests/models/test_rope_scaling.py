"""A longer RoPE at load: its angles by the papers' formulas in float64, whole models against mlx-lm told the same."""

import math
from typing import Any

import numpy as np
import pytest

from likely.models.configuration.rope import Rope
from likely.models.configuration.rope_scaling import KEY, RopeScaling
from likely.models.errors import ConfigError
from likely.models.families import registry
from likely.models.native_path import native
from tests.models.oracle import difference, flat, reference, tokens
from tests.models.test_families import SAME, V, check
from tests.models.test_packed import in_numpy

TRAINED, S = 16, 4.0


def frequencies(kind: str, theta: float, d: int) -> np.ndarray:
    """Radians a position of each pair, as Chen et al. and Peng et al. write them."""
    plain = theta ** (-np.arange(0, d, 2) / d)
    if kind == "ntk":
        return (theta * S ** (d / (d - 2))) ** (-np.arange(0, d, 2) / d)
    low, high = (d * math.log(TRAINED / (turns * 2 * math.pi)) / (2 * math.log(theta)) for turns in (32, 1))
    low, high = max(math.floor(low), 0), min(math.ceil(high), d - 1)
    ramp = np.clip((np.arange(d // 2) - low) / (high - low), 0, 1) if kind == "yarn" else 1.0
    return plain / S * ramp + plain * (1 - ramp)


@pytest.mark.parametrize(("kind", "gain"), [("yarn", 0.1 * math.log(S) + 1), ("ntk", 1.0), ("linear", 1.0)])
def test_angles_and_temperature_are_those_of_the_papers(kind: str, gain: float) -> None:
    made = RopeScaling(kind, S).of(Rope(1e4, 64), TRAINED)
    np.testing.assert_allclose(1 / np.array(made.periods()), frequencies(kind, 1e4, 64), rtol=1e-12)
    assert made.attention_factor == pytest.approx(gain)


def said(kind: str, config: dict[str, Any]) -> dict[str, Any]:
    """How mlx-lm is told."""
    if kind == "ntk":
        d = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
        base = config.get("rope_theta", 1e6 if "gemma3" in config["model_type"] else 1e4)
        return {"rope_theta": base * S ** (d / (d - 2))}
    table = {"rope_type": kind, "factor": S}
    return {"rope_scaling": table | ({"original_max_position_embeddings": TRAINED} if kind == "yarn" else {})}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["yarn", "ntk", "linear"])
@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3", "gemma 3", "olmo 2"])
def test_the_graph_and_packed_passes_give_what_mlx_lm_gives_told_the_same(name: str, kind: str) -> None:
    """Past the trained context. Of Gemma 3 the full layers alone are scaled, there as here."""
    config = SAME[name] | {"max_position_embeddings": TRAINED, "rope_scaling": None}
    theirs = reference(config | said(kind, config))
    weights, longer = flat(theirs.parameters()), config | {KEY: f"{kind}:{S:g}"}
    graph, x = registry.build(longer, dict(weights)), tokens(1, 40, V)
    assert graph.config.context == 64
    want = theirs(x)
    check(graph, x, want)
    if name != "olmo 2":  # its norm over all heads is not known to the packed passes
        assert difference(native.build(longer, in_numpy(weights))(x), want) < 1e-4


def test_layers_that_slide_within_the_trained_context_turn_as_they_did() -> None:
    shape = registry.configure(SAME["gemma 2"] | {"sliding_window": 8, "max_position_embeddings": 16, KEY: "linear:2"})
    plain = Rope(1e4, 12)
    assert shape.ropes == (plain, Rope(1e4, 12, kind="linear", factor=2.0)) * 2 and shape.windows == (8, 0, 8, 0)


@pytest.mark.parametrize(
    ("name", "change", "line"),
    [
        ("gpt-2", {}, "its 128 positions are a learned table"),
        ("llama 3", {}, r"scaled by its own configuration \(llama3 by 8\)"),
        ("smollm 3", {"no_rope_layers": [0] * 4}, "no layer of it turns"),
        ("mistral", {"sliding_window": 6}, "see 6 positions back at most, within the 512 trained"),
        ("llama", {"head_dim": 2}, "needs 4 rotated dimensions"),
        *(("llama", {KEY: text}, f"KIND.*got '{text}'") for text in ("yarn", "yarn:1", "su:2", "ntk:nan", "linear:65")),
    ],
)  # fmt: skip
def test_what_cannot_have_one_says_why(name: str, change: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError, match=line):
        registry.configure(SAME[name] | {KEY: "yarn:2"} | change)
