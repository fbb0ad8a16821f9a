"""Posteriors of a tiny model's adapter: curvature against the full Fisher, samples in one batch against one at a time,
uncertainties against float64, choices against the dense formula."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import likely.engine.weights.adapters.lora as lora
from likely.engine.base import arrays
from likely.engine.base.errors import ParameterError
from likely.engine.decode.loop.branches import Branches
from likely.engine.train.data.samples import TrainingSample
from likely.engine.train.posterior import averaged
from likely.engine.train.posterior.averaged import AveragedModel, UncertainText, samples_of
from likely.engine.train.posterior.choices import choice_logits
from likely.engine.train.posterior.curvature_pass import check_plain, collect
from likely.engine.train.posterior.evidence import best_precision
from likely.engine.train.posterior.kronecker import Curvature, Kronecker, Spectrum
from likely.engine.train.posterior.posterior import Ensemble, Laplace
from likely.engine.train.posterior.uncertainty import check_samples, probit, sampled
from likely.engine.weights.adapters import factors, sites
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


def test_the_best_precision_is_where_both_sides_are_alike_and_has_bounds() -> None:
    h, square = np.array([0.25, 3.0, 8.0, 0.0]), 0.6
    best = best_precision(square, h)
    assert float((h / (h + best)).sum()) == pytest.approx(best * square, rel=1e-9)
    assert best_precision(1e-30, np.ones(2)) == pytest.approx(1e12)
    assert best_precision(1e30, np.ones(2)) == pytest.approx(1e-8)
    for square, h, why in (
        (0.0, np.ones(3), "the weights are 0"),
        (0.0, np.zeros(3), "the weights are 0"),
        (1.0, np.zeros(3), "the data do not depend on the weights"),
        (1.0, np.zeros(0), "the data do not depend on the weights"),
    ):
        with pytest.raises(ParameterError, match=why):
            best_precision(square, h)


def test_the_probit_formula_is_a_softmax_of_shrunk_logits() -> None:
    mean, variance = np.array([[2.0, -1.0, 0.5], [0.0, 0.0, 3000.0]]), np.array([[1.0, 4.0, 0.0], [2.0, 2.0, 2.0]])
    for row, spread, found in zip(mean, variance, probit(mean, variance), strict=True):
        shrunk = [m / math.sqrt(1 + math.pi * v / 8) for m, v in zip(row, spread, strict=True)]
        mass = [math.exp(x - max(shrunk)) for x in shrunk]
        assert found == pytest.approx(np.array(mass) / sum(mass))


def test_logits_are_drawn_with_their_covariance() -> None:
    """Of two classes the difference is a Gaussian alone: its mean sigmoid by quadrature."""
    mean, covariance = np.array([1.0, 0.2]), np.array([[2.0, 1.2], [1.2, 1.5]])
    x, w = np.polynomial.hermite_e.hermegauss(80)
    exact = float((w / (1 + np.exp(-(0.8 + math.sqrt(2 + 1.5 - 2.4) * x)))).sum() / w.sum())
    found = sampled(mean, covariance)
    assert found[0] == pytest.approx(exact, abs=0.006) and found.sum() == pytest.approx(1)
    assert (found == sampled(mean, covariance, 10_000, 0)).all() and (found != sampled(mean, covariance, seed=1)).all()
    below = sampled(mean, np.array([[1.0, 1.0], [1.0, 1.0]]) - 1e-12 * np.eye(2), draws=5)  # rounding below 0
    assert below == pytest.approx(probit(mean, np.zeros(2)), abs=1e-5)


def test_two_to_eight_samples_are_rows_of_a_batch() -> None:
    for samples in (2, 8):
        check_samples(samples)
    for samples in (1, 9, 0):
        with pytest.raises(ParameterError, match=f"must be 2 to 8, got {samples}"):
            check_samples(samples)
    side = Spectrum(np.eye(1), np.ones(1))
    other = Laplace({"w": Kronecker(side, side)}, 1.0)
    three = Ensemble({"w": np.zeros((3, 2, 2))})
    assert samples_of(other, 0) == averaged.MOST == 8 and samples_of(other, 5) == 5
    assert samples_of(three, 0) == 3 and samples_of(three, 2) == 2 and samples_of(three, 3) == 3
    with pytest.raises(ParameterError, match="this ensemble has 3 members, got samples = 4"):
        samples_of(three, 4)
    with pytest.raises(ParameterError, match="must be 2 to 8, got 9"):
        samples_of(other, 9)


def test_a_side_is_whole_up_to_what_is_kept_and_beyond_it_its_rest_is_even() -> None:
    rows = np.random.default_rng(0).normal(0, 1, (30, 5)).astype(np.float32)
    whole = Curvature(5, 5)
    whole.add(rows[:11])
    whole.add(rows[11:])
    found = whole.spectrum()
    assert found.left_out == 0 and found.rest == 0 and len(found.values) == 5
    assert found.vectors * found.values @ found.vectors.T == pytest.approx(rows.T @ rows, rel=1e-5, abs=1e-5)
    sharp = rows * np.array([30, 20, 10, 0.01, 0.01], np.float32)
    few = Curvature(5, 3)
    for row in np.array_split(sharp, 4):
        few.add(row)
    kept, exact = few.spectrum(), np.linalg.eigvalsh((sharp.T @ sharp).astype(np.float64))
    assert kept.left_out == 2 and kept.vectors.shape == (5, 3)
    assert sorted(kept.values) == pytest.approx(exact[2:], rel=1e-3)
    assert kept.every.sum() == pytest.approx(few.trace, rel=1e-7) and 0 <= kept.rest < 1
