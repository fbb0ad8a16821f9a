"""Posteriors of a tiny model's adapter: curvature against the full Fisher, samples in one batch against one at a time,
uncertainties against float64, choices against the dense formula."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import likely.engine.adapters.lora as lora
from likely.engine import arrays
from likely.engine.adapters import factors, sites
from likely.engine.decode.branches import Branches
from likely.engine.errors import ParameterError
from likely.engine.posterior.averaged import AveragedModel, UncertainText
from likely.engine.posterior.choices import choice_logits
from likely.engine.posterior.curvature_pass import check_plain, collect
from likely.engine.posterior.posterior import Ensemble, Laplace
from likely.engine.tune.samples import TrainingSample
from likely.metal import mx
from likely.models import Transformer
from tests.engine.tune.tiny import model
from tests.engine.tune.tiny import samples as rows_of

V = 7  # small, so that every token can be asked
TEXT = [int(t) for t in np.random.default_rng(0).integers(0, V, 40)]


def samples(count: int, seed: int, low: int, high: int) -> list[TrainingSample]:
    return [
        TrainingSample(tuple(t % V for t in s.ids), s.trained, s.where)
        for s in rows_of(count, seed, low=low, high=high)
    ]


def adapted(seed: int = 0, modules: tuple[str, ...] = ("*",), **changes: Any) -> tuple[Transformer, lora.Adapter]:
    """A tiny model with factors that are not zero."""
    built = model(vocab_size=V, **changes)
    adapter = lora.create(sites.choose(sites.sites(built), -1, modules, 3), rank=2, scale=2.0)
    adapter.set(stirred(adapter, seed))
    lora.attach(adapter)
    return built, adapter


def stirred(adapter: lora.Adapter, seed: int) -> dict[str, mx.array]:
    keys = {n: mx.random.key(100 * seed + i) for i, n in enumerate(adapter.parameters())}
    return {n: p + 0.1 * mx.random.normal(p.shape, key=keys[n]) for n, p in adapter.parameters().items()}


def ensemble(adapter: lora.Adapter, count: int) -> Ensemble:
    members = [stirred(adapter, seed) for seed in range(count)]
    return Ensemble({name: np.stack([np.asarray(m[name]) for m in members]) for name in members[0]})


def jacobian(built: Transformer, adapter: lora.Adapter, name: str, ids: list[int]) -> np.ndarray:
    """Of the log-probabilities [V] after `ids` by one array [V, size]."""
    real = adapter.parameters()[name]

    def said(rows: mx.array) -> list[mx.array]:
        adapter.set({name: rows})  # a row of the batch each
        return [arrays.logprobs(built(mx.array([ids] * V))[:, -1], mx)]

    found = mx.vjp(said, [mx.broadcast_to(real, (V, *real.shape))], [mx.eye(V)])[1][0]
    adapter.set({name: real})
    return np.asarray(found).reshape(V, -1).astype(np.float64)


def fisher(built: Transformer, adapter: lora.Adapter, name: str, sample: TrainingSample) -> np.ndarray:
    """The full Fisher information of a row's targets about one array, by every token and its probability."""
    total = np.zeros(())
    for place, wanted in enumerate(sample.trained[1:]):
        if wanted:
            ids = list(sample.ids[: place + 1])
            p = np.exp(np.asarray(arrays.logprobs(built(mx.array([ids]))[0, -1], mx), np.float64))
            j = jacobian(built, adapter, name, ids)
            total = total + j.T @ (p[:, None] * j)
    return total


@pytest.mark.parametrize("change", ["m", "a0", "shift", "table"])
def test_an_adapter_that_is_more_than_lora_on_layers_is_refused(change: str) -> None:
    built, adapter = adapted()
    check_plain(adapter, built)
    if change == "table":
        part = next(p for p in built.parts() if p.role == "embed")
        adapter.factors[part.path] = factors.fresh(part, 2, 1.0, dora=False, pissa=False, key=mx.random.key(0))
    else:
        path, f = next(iter(adapter.factors.items()))
        adapter.factors[path] = replace(f, **{change: mx.zeros(3)})
    with pytest.raises(ParameterError, match="has another adapter"):
        check_plain(adapter, built)


@pytest.mark.slow
def test_kronecker_factors_are_the_full_fisher_of_one_place_and_near_it_for_many() -> None:
    built, adapter = adapted()
    name = next(n for n in adapter.parameters() if "layers.2" in n and "down_proj.lora_b" in n)
    one = TrainingSample(tuple(TEXT[:6]), (False,) * 5 + (True,), "one")
    found = collect(built, adapter, [one] * 10, last=True, draws=0)
    assert list(found.parts) == [name] and found.targets == 10
    part = found.parts[name]
    dense = np.kron(*(side.vectors @ np.diag(side.values) @ side.vectors.T for side in (part.left, part.right)))
    whole = 10 * fisher(built, adapter, name, one)
    assert np.abs(dense - whole).max() <= 1e-4 * np.abs(whole).max()
    # of rows that differ the factors are of means: measured 0.23 from the Fisher, a multiple of the identity 0.91
    rows = samples(10, seed=3, low=4, high=6)
    part = collect(built, adapter, rows, last=True, draws=0).parts[name]
    dense = np.kron(*(side.vectors @ np.diag(side.values) @ side.vectors.T for side in (part.left, part.right)))
    whole = sum(fisher(built, adapter, name, row) for row in rows)
    off = np.linalg.norm(dense - whole) / np.linalg.norm(whole)
    plain = np.linalg.norm(np.eye(len(whole)) * np.trace(whole) / len(whole) - whole) / np.linalg.norm(whole)
    assert off < 0.4 < plain
    # drawn tokens in the place of all, with their noise; and what the rows' own targets cost
    drawn = collect(built, adapter, rows, last=True, draws=12)
    assert drawn.parts[name].curvature.sum() == pytest.approx(part.curvature.sum(), rel=0.15)
    lost = -sum(
        float(arrays.logprobs(built(mx.array([r.ids[:-1]]))[0], mx)[i, r.ids[i + 1]])
        for r in rows
        for i, wanted in enumerate(r.trained[1:])
        if wanted
    )
    assert drawn.lost == pytest.approx(lost, rel=1e-4)


def test_factors_of_all_layers_are_the_gradients_and_the_model_is_left_as_it_was() -> None:
    """For one drawn token a row alone, x g^T is the gradient itself: so is the trace of a part with one position."""
    built, adapter = adapted()
    before = np.asarray(built(mx.array([TEXT])))
    one = TrainingSample(tuple(TEXT[:2]), (False, True), "one")  # one position: nothing is attended to but itself
    found = collect(built, adapter, [one] * 10, draws=0)
    assert set(found.parts) == set(adapter.parameters())
    for name in [n for n in found.parts if "layers.1" in n and ("v_proj" in n or "gate" in n)]:
        whole = 10 * np.trace(fisher(built, adapter, name, one))
        assert found.parts[name].curvature.sum() == pytest.approx(whole, rel=1e-3, abs=1e-9)
    # products that read the same array have one factor of it, in each layer: q, k and v, gate and up
    inputs = {id(part.left.vectors) for name, part in found.parts.items() if name.endswith(".lora_a")}
    assert len(inputs) == 4 * built.config.layers and len(adapter.factors) == 7 * built.config.layers
    assert np.array_equal(np.asarray(built(mx.array([TEXT]))), before)
    with pytest.raises(ParameterError, match="take --structure kron"):
        collect(*adapted(modules=("q_proj",)), [one] * 10, last=True)


def test_samples_in_one_batch_say_what_each_says_alone() -> None:
    """Five members read side by side, in one go, token by token and after going back: 1e-5 of one at a time."""
    built, adapter = adapted()
    posterior = ensemble(adapter, 5)
    together = AveragedModel(built, adapter, posterior)
    own, alone = adapter.parameters(), []
    for number in range(5):
        adapter.set({name: mx.array(w) for name, w in posterior.draw({}, 0, number).items()})
        alone.append(np.asarray(arrays.logprobs(built(mx.array([TEXT]))[0], mx), np.float64))
    adapter.set(own)
    wanted = np.log(np.exp(np.stack(alone)).mean(axis=0))
    hidden = together.hidden(mx.array([TEXT]))
    assert np.abs(np.asarray(together.members(hidden))[:, 0] - np.stack(alone)).max() <= 1e-5
    assert np.abs(np.asarray(together.head(hidden))[0] - wanted).max() <= 1e-5
    place = Branches(together, together.make_cache())
    list(place.read(TEXT[:30]))
    for token in TEXT[30:]:
        place.feed([token])
        place.settle([token])
    assert np.abs(np.asarray(place.logits_at(0, 40))[0] - wanted).max() <= 1e-5
    assert adapter.parameters() is not own and all(mx.array_equal(a, own[n]) for n, a in adapter.parameters().items())
    other = lora.create(sites.choose(sites.sites(built), -1, ("q_proj", "mlp.*"), 3), rank=3, scale=1.0)
    other.set(stirred(other, 9))
    lora.attach(other)  # beside another, which has no samples
    alone = []
    for number in range(5):
        adapter.set({name: mx.array(w) for name, w in posterior.draw({}, 0, number).items()})
        alone.append(np.asarray(arrays.logprobs(built(mx.array([TEXT]))[0], mx), np.float64))
    adapter.set(own)
    beside = np.asarray(together.members(together.hidden(mx.array([TEXT]))))[:, 0]
    assert np.abs(beside - np.stack(alone)).max() <= 1e-5 < np.abs(np.exp(beside).mean(0) - np.exp(wanted)).max()
    lora.detach(other)
    with pytest.raises(ParameterError, match="one text at a time"):
        together.hidden(mx.array([TEXT, TEXT]))
    for samples_, line in ((6, "5 members, got samples = 6"), (1, "2 to 8, got 1"), (-1, "2 to 8, got -1")):
        with pytest.raises(ParameterError, match=line):
            AveragedModel(built, adapter, posterior, samples=samples_)


def test_uncertainty_is_the_entropy_of_the_mean_in_two_parts() -> None:
    built, adapter = adapted()
    together = AveragedModel(built, adapter, ensemble(adapter, 4))
    text = UncertainText(together)
    assert list(text.read(TEXT[:30]))[-1] == 30
    list(text.read(TEXT))
    found = text.after(3, 40, [[TEXT[i]] for i in range(3, 40)])
    p = np.exp(np.asarray(together.members(together.hidden(mx.array([TEXT])))[:, 0], np.float64))  # [M, T, V]
    mean = p.mean(axis=0)
    for place, each in zip(range(3, 40), found, strict=True):
        information = float((p[:, place] * np.log(p[:, place] / mean[place])).sum(axis=-1).mean())
        assert each.total == pytest.approx(-float(mean[place] @ np.log(mean[place])), abs=2e-6)
        assert each.epistemic == pytest.approx(information, rel=1e-4, abs=1e-7) and each.epistemic > 1e-3
        assert each.mean[0] == pytest.approx(mean[place, TEXT[place]], rel=1e-5)
        assert each.spread[0] == pytest.approx(p[:, place, TEXT[place]].std(ddof=1), rel=1e-4)
    list(text.read([*TEXT[:20], 1, 2]))  # another end
    assert text.after(19, 20, [[]])[0].total == pytest.approx(found[16].total, abs=2e-6)
    alike = Ensemble({n: np.stack([np.asarray(a)] * 3) for n, a in adapter.parameters().items()})
    same = UncertainText(AveragedModel(built, adapter, alike))
    list(same.read(TEXT))
    assert max(each.epistemic for each in same.after(0, 40, [[]] * 40)) < 1e-9


def test_choices_have_the_covariance_of_the_dense_formula() -> None:
    built, adapter = adapted()
    rows = samples(12, seed=4, low=4, high=8)
    posterior = Laplace(collect(built, adapter, rows, last=True, draws=4).parts, 2.0)
    name, part = next(iter(posterior.parts.items()))
    tokens = [3, 5, 6]
    found = choice_logits(built, adapter, posterior, TEXT, [[t] for t in tokens])
    covariance = part.draw(np.eye(64).reshape(64, 2, 32), 2.0).reshape(64, 64)
    j = jacobian(built, adapter, name, TEXT)[tokens]
    assert found.covariance == pytest.approx(j @ covariance @ covariance.T @ j.T, rel=1e-3)
    logp = np.asarray(arrays.logprobs(built(mx.array([TEXT]))[0, -1], mx))
    assert found.mean == pytest.approx(logp[tokens], abs=1e-5)
    assert found.by_probit == pytest.approx(found.by_sampling, abs=0.03)
    assert found.by_probit.max() < found.trained.max()
    long = choice_logits(built, adapter, posterior, TEXT, [[3, 5], [5]])
    assert long.mean[1] == pytest.approx(found.mean[1], abs=1e-5) and long.mean[0] < found.mean[0]
    assert np.all(np.diag(found.covariance) > 0)
