"""Every way that a forward pass goes (docs/passes.md) against one oracle: the model's definition in float64.

A text is read at once, in parts and token by token, goes back, forks, is frozen, and stands beside others, by each way
with its own cache; what a way has not it refuses by name.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from likely.metal import mx, packed
from likely.models.caches.kv_cache import Cache
from likely.models.configuration.config import MaskedDiffusion
from likely.models.configuration.rope import Rope
from likely.models.errors import CacheError, ConfigError
from likely.models.families import registry
from likely.models.foreign import ForeignModel
from likely.models.native_path import native
from likely.models.native_path.compiled import CompiledStep
from likely.models.packed_weights.packed import refusal
from likely.models.tap import TappedPass
from likely.models.transformer import Transformer
from tests.models.oracle import reference
from tests.models.test_defaults import PLAIN
from tests.models.test_families import SAME
from tests.models.test_packed import in_numpy
from tests.models.test_transformer import Exact, built, off, text
from tests.support.everyday import everyday

NAMES = (
    "llama", "llama biased", "llama interleaved", "llama yarn", "gemma 2", "gemma 3", "gpt-2", "gpt-neox",
    "granite untied", "qwen2 yarn", "qwen3", "qwen3 moe", "qwen3 moe plain", "mixtral", "olmo 2", "phi 4",
    "smollm 3 listed", "starcoder 2",
)  # fmt: skip
REFUSED = {  # by the native way: what its one call does not know; every other family it runs
    "llama biased": "biases past q, k and v", "llama dynamic": "frequencies that follow the length",
    "mixtral": "experts", "qwen3 moe": "experts", "qwen3 moe plain": "experts", "gemma 2": "a cap on scores",
    "olmo 2": "a norm over all heads", "olmo 2 biased": "biases past q, k and v",
    "granite untied": "biases past q, k and v", "granite moe": "experts", "starcoder 2": "norms of the kind 'layer'",
    "starcoder 2 untied": "norms of the kind 'layer'", "gpt-2": "norms of the kind 'layer'",
    "gpt-neox": "the tensors of a gpt_neox are rearranged",
    "gpt-neox in series": "the tensors of a gpt_neox are rearranged",
}  # fmt: skip


def stored(name: str, net: Transformer) -> dict[str, mx.array]:
    """A model's tensors as a checkpoint has them."""
    return registry.spelled(SAME[name], {f"{p.path}.{leaf}": a for p in net.parts() for leaf, a in p.stored().items()})


class Compiled:
    """Steps that are traced; what stands for the compiler runs the Python."""

    def __init__(self, name: str, net: Transformer) -> None:
        self.make_cache, self.head, self.step = net.make_cache, net.head, CompiledStep(net, lambda function: function)

    def __call__(self, tokens: mx.array, cache: Cache | None = None) -> mx.array:
        return self.head(self.step.hidden(tokens, self.make_cache() if cache is None else cache))


class Tapped:
    """Layer by layer, with everything handed out."""

    def __init__(self, name: str, net: Transformer) -> None:
        self.make_cache, self.net = net.make_cache, net

    def __call__(self, tokens: mx.array, cache: Cache | None = None) -> mx.array:
        return self.net.lens(TappedPass(self.net, tokens, cache).run(lambda _, x: x))


def natively(name: str, net: Transformer) -> native.NativeModel:
    return native.build(SAME[name], in_numpy(stored(name, net)))


def theirs(name: str, net: Transformer) -> ForeignModel:
    model = reference(SAME[name])
    arrays = stored(name, net)
    model.load_weights([*(model.sanitize(arrays) if hasattr(model, "sanitize") else arrays).items()])
    return ForeignModel(SAME[name], model)


PASSES: dict[str, Callable[[str, Transformer], Any]] = {
    "graph": lambda name, net: net,
    "compiled step": Compiled,
    "native": natively,
    "tapped": Tapped,
    "foreign": theirs,
}
READ, BACK, FORK, FREEZE, SELECT = "read", "back", "fork", "freeze", "select"
SCRIPT: list[tuple[str, Any]] = [
    (READ, 7), (READ, 1), (READ, 1), (BACK, 3), (READ, 1), (FORK, 2), (READ, 2), (FREEZE, None), (READ, 1),
    (SELECT, [1, 0, 1]), (READ, 3), (BACK, [0, 1, 2]), (READ, 1), (READ, 2), (SELECT, [2]), (BACK, 1), (READ, 1),
]  # fmt: skip


@pytest.mark.parametrize(("name", "way"), everyday(((name, way) for name in NAMES for way in PASSES), 7))
def test_every_way_gives_the_definition_however_a_text_is_read(name: str, way: str) -> None:
    net = built(name)
    exact = Exact(net)
    if way == "native" and not packed.available():
        pytest.skip("no kernels for this processor")
    if way == "native" and name in REFUSED:
        assert native.refused(SAME[name], [*stored(name, net)]) == REFUSED[name]
        with pytest.raises(ConfigError):
            natively(name, net)
        return
    model = PASSES[way](name, net)
    bound = 1e-4 if way == "foreign" else 2e-5
    texts, came = [text(9, 1), text(9, 2)], iter(text(200, 3))
    assert off(model(mx.array(texts)), np.stack([exact(one) for one in texts])) < bound
    cache, texts = model.make_cache(16), [[], []]

    def read(cache: Cache, texts: list[list[int]], n: int) -> None:
        new = [[next(came) for _ in range(n)] for _ in texts]
        for one, more in zip(texts, new, strict=True):
            one += more
        assert off(model(mx.array(new), cache), np.stack([exact(one)[-n:] for one in texts])) < bound

    for verb, how in SCRIPT:
        if way == "foreign" and (verb == FREEZE or (verb == BACK and how > cache.room)):  # what its cache has not
            with pytest.raises(CacheError):
                cache.freeze() if verb == FREEZE else cache.rewind(how)
            break
        if verb == READ:
            read(cache, texts, how)
        elif verb == BACK:
            cache.rewind(how)
            backs = how if isinstance(how, list) else [how] * len(texts)
            texts = [one[: len(one) - n] for one, n in zip(texts, backs, strict=True)]
        elif verb == FORK:
            read(cache.fork(), [[*one] for one in texts], how)
        elif verb == FREEZE:
            cache.freeze()
        else:
            cache.select(how)
            texts = [[*texts[i]] for i in how]
        assert cache.length == max(map(len, texts))


@pytest.mark.linux
@pytest.mark.parametrize("name", SAME)
def test_a_family_is_read_natively_or_says_why_not(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [*stored(name, built(name))]
    assert native.refused(SAME[name], names) == REFUSED.get(name)
    monkeypatch.setenv("LIKELY_PACKED", "off")
    assert native.refused(SAME[name], names) == "LIKELY_PACKED=off"


def test_the_table_has_every_way() -> None:
    lines = (Path(__file__).parents[2] / "docs" / "passes.md").read_text().splitlines()
    rows = [line.split("**")[1] for line in lines if line.startswith("| **")]
    assert rows == [*PASSES]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"gated": False}, "an MLP without a gate"), ({"activation": "gelu"}, "the activation gelu"),
        ({"diffusion": MaskedDiffusion(3)}, "attention both ways"), ({"parallel": True}, "attention beside the MLP"),
        ({"mlp_bias": True}, "biases past q, k and v"), ({"learned_positions": 1}, "a table of positions"),
        ({"ropes": (Rope(1e4, 8), None, Rope(5.0, 8), None)}, None),
        ({"ropes": (Rope(1e4, 8), None, Rope(1e4, 4), None)}, "rotations of several kinds"),
        ({"head_size": 256}, None), ({"head_size": 257}, "heads of 257 numbers"),
        ({"heads": 16, "kv_heads": 1}, None), ({"heads": 17, "kv_heads": 1}, "17 heads to a key"),
    ],
)  # fmt: skip
def test_what_no_family_here_has_is_refused_natively_too(change: dict[str, Any], reason: str | None) -> None:
    assert refusal(replace(PLAIN, **change)) == reason
