"""What stands beside packed products, in the native call, against the model's definition in float64 with it merged."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from likely.engine.inside import steering
from likely.engine.inside.steering import Direction
from likely.engine.train.data.answer_verdicts import RewardProblem
from likely.engine.train.data.samples import TrainingSample
from likely.engine.train.losses.batch_losses import gradient
from likely.engine.weights.adapters import lora, sites
from likely.engine.weights.adapters.config import configure
from likely.engine.weights.adapters.factors import Factors
from likely.metal import mx, packed
from likely.metal.packed import LEVELS
from likely.models.native_path.native import NativeModel
from tests.models.test_families import SAME
from tests.models.test_passes import REFUSED, natively
from tests.models.test_transformer import Exact, built, off, text
from tests.support.everyday import everyday

pytestmark = pytest.mark.linux
CLOSE = 2e-5  # of the largest logit, as every way is held to it


def made(model: NativeModel, patterns: Iterable[str], rank: int, seed: int, **how: Any) -> lora.Adapter:
    """An adapter of random factors on these modules, those of them that there are."""
    every = sites.sites(model.graph)
    chosen = [site for site in every if site.name.rsplit(".", 1)[-1] in patterns]
    adapter = lora.create(chosen, rank=rank, scale=2.0, **how)
    for i, (name, array) in enumerate(adapter.parameters().items()):
        adapter.set({name: array + 0.1 * mx.random.normal(array.shape, key=mx.random.key(100 * seed + i))})
    return adapter


@pytest.fixture
def level_of() -> Iterator[Callable[[str], None]]:
    """Chooses kernels for the rest of a test."""
    library = packed.load()
    assert library is not None
    yield lambda level: library.handle.likely_packed_init(LEVELS.index(level))
    library.handle.likely_packed_init(len(LEVELS) - 1)


class Merged(Exact):
    """The definition, its numbers changed one by one in float64."""

    def put(self, f: Factors, weight: float, *moved: np.ndarray) -> None:
        """The change of an adapter's site, its trained factors moved by so much."""
        a, b = (np.array(array).astype(np.float64) for array in f.whole())
        for whole, by in zip((a, b.T), moved, strict=False):
            whole[:, : f.a.shape[1]] += by if whole is a else by.T
        w, bias = self.parts[f.site.layer, f.site.role]
        w = w + f.scale * weight * (a @ b if f.site.kind == "table" else (a @ b).T)
        if f.m is not None:
            w = w * (np.array(f.m) / np.linalg.norm(w, axis=1))[:, None]
        if f.shift is not None:
            bias = (0 if bias is None else bias) + weight * np.array(f.shift)
        self.parts[f.site.layer, f.site.role] = w, bias


@pytest.mark.parametrize("name", everyday((name for name in SAME if name not in REFUSED), 4))
def test_adapters_and_directions_stand_beside_packed_products(name: str) -> None:
    """Two LoRA on the same products at other weights, a bias, DoRA, PiSSA, the embedding and the head, two directions.

    At once and token by token, and without a head; weighed anew, taken off; nothing of it needs the weights unpacked.
    """
    net = built(name)
    model, base = natively(name, net), np.array(natively(name, net)(mx.array([text(9)])))
    wide = made(
        model, ["q_proj", "k_proj", "qkv_proj", "up_proj", "gate_up_proj", "embed_tokens", "lm_head"], 3, seed=1
    )
    some = made(model, ["q_proj", "v_proj", "qkv_proj", "up_proj", "embed_tokens"], 5, 2)
    rows = made(model, ["o_proj", "gate_proj", "down_proj"], 2, 3, kind="dora")
    less = made(model, ["k_proj", "qkv_proj"], 2, 4, init="pissa")
    shifted = next(f for f in wide.factors.values() if f.site.kind == "matrix")
    shifted.shift = mx.random.normal((shifted.site.height,), key=mx.random.key(9))
    rng = np.random.default_rng(0)
    vectors = [rng.normal(size=net.config.width).astype(np.float32) for _ in range(2)]
    lora.attach(wide)
    lora.attach(some, weight=-0.5)
    lora.attach(rows)
    lora.attach(less)
    on = [steering.attach(model.graph, Direction(1, mx.array(vector)), 0.3) for vector in vectors]
    model.renew()

    def check(weights: tuple[float, ...], pushed: float) -> None:
        exact = Merged(net)
        for adapter, weight in zip((wide, some, rows, less), weights, strict=True):
            for f in adapter.factors.values() if weight else ():
                exact.put(f, weight)
        exact.after = {1: pushed * sum(vectors)}
        texts, cache = [text(9, 1), text(9, 2)], model.make_cache(16)
        want = np.stack([exact(one) for one in texts])
        assert off(model(mx.array(texts)), want) < CLOSE
        got = [model(mx.array(texts)[:, low:high], cache) for low, high in ((0, 6), (6, 7), (7, 9))]
        assert off(mx.concatenate(got, axis=1), want) < CLOSE
        silent = model.without(1, 2)
        assert silent is not None
        mixed, bias = exact.parts[1, "o"]
        size = net.config.head_size
        exact.parts[1, "o"] = mixed * (np.arange(mixed.shape[1]) // size != 2), bias
        assert off(silent(mx.array(texts)), np.stack([exact(one) for one in texts])) < CLOSE

    check((1.0, -0.5, 1.0, 1.0), 0.3)
    lora.rescale(wide, 0.25), lora.rescale(some, 2.0), lora.rescale(less, -1.0), lora.detach(rows)
    on[0].weight = on[1].weight = -0.2
    model.renew()
    check((0.25, 2.0, 0.0, -1.0), -0.2)
    assert not model.expanded
    lora.detach(wide), lora.detach(some), lora.detach(less)
    for one in reversed(on):
        steering.detach(model.graph, 1, one)
    model.renew()
    np.testing.assert_array_equal(np.array(model(mx.array([text(9)]))), base)


@pytest.mark.parametrize(
    ("name", "level"),
    everyday(
        [*((name, LEVELS[-1]) for name in SAME if name not in REFUSED), *(("gemma 3", level) for level in LEVELS[:-1])],
        4,
    ),
)
def test_gradients_are_those_of_the_definition(name: str, level: str, level_of: Callable[[str], None]) -> None:
    """LoRA and PiSSA on every product, the loss of three texts; along random directions, by differences in float64.

    To the bit the same where a layer's inside is computed again on the way back.
    """
    net, lengths = built(name), (7, 23, 2)
    level_of(level)
    model = natively(name, net)
    roles = [site.name.rsplit(".", 1)[-1] for site in sites.sites(model.graph) if 0 <= site.layer < net.config.layers]
    adapters = [made(model, roles, 3, 1), made(model, roles[-3:], 2, 2, init="pissa")]
    for adapter in adapters:
        lora.attach(adapter)
    texts = [text(n, n) for n in lengths]
    items = [TrainingSample(tuple(ids), (True,) * len(ids), "") for ids in texts]
    found = {}
    for adapter in adapters:
        kept, again = (
            gradient(model.graph, adapter, items, configure({"checkpointing": anew}))[1] for anew in (False, True)
        )
        found |= {(id(adapter), n): g for n, g in kept.items()}
        assert all(bool(mx.array_equal(g, again[n])) for n, g in kept.items())
    assert not model.expanded

    def lost(step: float, along: dict[Any, np.ndarray]) -> float:
        exact = Merged(net)
        for adapter in adapters:
            for path, f in adapter.factors.items():
                a, b = (along[id(adapter), f"{path}.lora_{leaf}"] for leaf in "ab")
                exact.put(f, 1.0, step * a, step * b)
        logits = [exact(ids[:-1]) for ids in texts]
        return -sum(
            float((one - np.logaddexp.reduce(one, -1, keepdims=True))[range(len(one)), ids[1:]].sum())
            for one, ids in zip(logits, texts, strict=True)
        )

    rng = np.random.default_rng(0)
    size = np.sqrt(sum(float(np.square(np.array(g, np.float64)).sum()) for g in found.values()))
    for _ in range(3):
        along = {key: rng.normal(size=g.shape) for key, g in found.items()}
        slope = sum(float((np.array(g, np.float64) * along[key]).sum()) for key, g in found.items())
        assert abs(slope - (lost(1e-5, along) - lost(-1e-5, along)) / 2e-5) < 1e-5 * size


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("name", everyday(["gemma 3", "qwen3"], 1))
def test_answers_behind_one_prompt_are_read_as_if_each_stood_alone(name: str, packed: bool) -> None:
    """Log-probabilities and gradients of two problems' answers; again from where they were drawn: the same gradient."""
    net = built(name)
    model = natively(name, net).graph if packed else net
    every = [site for site in sites.sites(model) if 0 <= site.layer < net.config.layers]
    adapter = lora.create(every, rank=3, scale=2.0)
    for i, (path, array) in enumerate(adapter.parameters().items()):
        adapter.set({path: array + 0.1 * mx.random.normal(array.shape, key=mx.random.key(i))})
    lora.attach(adapter)
    problems = [RewardProblem(tuple(text(n, n)), "", "", "") for n in (11, 4)]
    items = [each.with_(text(n, n), n - 3) for each in problems for n in (5, 1, 9, 2)]
    apart = [gradient(model, adapter, [item], configure({})) for item in items]
    together, found = gradient(model, adapter, items, configure({}))
    each = np.concatenate([np.array(sums.each) for sums, _ in apart])
    np.testing.assert_allclose(np.array(together.each), each, atol=1e-4)
    ends = np.cumsum([item.targets for item in items])[:-1]
    before = [tuple(-own) for own in np.split(np.array(together.each), ends)]
    again = [replace(item, before=own) for item, own in zip(items, before, strict=True)]
    _, once_more = gradient(model, adapter, again, configure({}))
    for path, g in found.items():
        want = sum(np.array(one[path], np.float64) for _, one in apart)
        for got in (g, once_more[path]):
            np.testing.assert_allclose(np.array(got), want, atol=2e-4 * float(np.abs(want).max()))


@pytest.mark.parametrize("level", LEVELS)
def test_a_token_beside_an_adapter_is_the_same_to_the_bit_however_it_is_read(
    level: str, level_of: Callable[[str], None]
) -> None:
    """On every kind of kernel; and the graph says the same."""
    model = natively("llama", built("llama"))
    adapter = made(model, ["q_proj", "v_proj", "o_proj", "gate_proj", "embed_tokens"], 5, 0)
    lora.attach(adapter)
    model.renew()
    tokens = mx.array([text(40, 1), text(40, 2), text(40, 3)])
    level_of(level)
    want, cache = np.array(model(tokens)), model.make_cache()
    got = [model(tokens[:1, low:high], cache) for low, high in ((0, 1), (1, 18), (18, 20), (20, 39), (39, 40))]
    np.testing.assert_array_equal(np.array(mx.concatenate(got, axis=1)), want[:1])
    assert off(model.graph(tokens), want.astype(np.float64)) < CLOSE


def test_what_the_call_does_not_know_goes_through_the_graph() -> None:
    """A matrix that is another, a factor that differs from row to row; and natively again once it is gone."""
    net = built("llama")
    model, tokens = natively("llama", net), mx.array([text(9, 1), text(9, 2)])
    base = np.array(model(tokens))
    adapter = made(model, ["q_proj"], 2, 0)
    lora.attach(adapter)
    each = {name: mx.stack([array, 2 * array]) for name, array in adapter.parameters().items()}
    plain = adapter.parameters()
    adapter.set(each)
    model.renew()
    got = np.array(model(tokens))
    for row, scale in ((0, 1), (1, 2)):
        adapter.set({name: scale * array for name, array in plain.items()})
        model.renew()
        assert off(model(tokens[row : row + 1]), got[row : row + 1].astype(np.float64)) < CLOSE
    lora.detach(adapter)
    model.renew()
    np.testing.assert_array_equal(np.array(model(tokens)), base)
    part = next(part for part in model.graph.parts() if part.role == "down")
    model.graph.put(part, part.matrix * 1.5)
    model.renew()
    assert off(model(tokens), np.array(model.graph(tokens)).astype(np.float64)) < 1e-7
    assert np.abs(np.array(model(tokens)) - base).max() > 1e-3
