"""One pass over rows for the curvature, and over a text for the uncertainties: by hand, and in parts of any size."""

import math
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from likely.engine import arrays
from likely.engine.errors import ParameterError
from likely.engine.posterior.averaged import Averaged, UncertainText
from likely.engine.posterior.choices import choice_logits
from likely.engine.posterior.curvature_pass import AT_ONCE, WHOLE, Watched, collect, watched_factors
from likely.engine.posterior.explained import ExplainedUncertainty, uncertainties
from likely.engine.posterior.kronecker import Kronecker
from likely.engine.posterior.posterior import Laplace
from likely.engine.posterior.uncertainty import probit, sampled
from likely.engine.tune.samples import TrainingSample
from likely.metal import mx
from tests.engine.posterior.test_models import TEXT, V, adapted, ensemble, fisher, samples


def dense(part: Kronecker) -> np.ndarray:
    whole = [s.vectors @ np.diag(s.values) @ s.vectors.T for s in (part.left, part.right)]
    return np.kron(*whole)


def one(end: int) -> TrainingSample:
    """A row whose last token alone is learned."""
    return TrainingSample(tuple(TEXT[:end]), (False,) * (end - 1) + (True,), "one")


def test_the_curvature_behind_the_last_layer_is_the_fisher_of_one_place() -> None:
    built, adapter = adapted(modules=("mlp.down_proj",))
    name = next(n for n in adapter.parameters() if "layers.2" in n and n.endswith("lora_b"))
    told: list[tuple[int, int]] = []
    found = collect(built, adapter, [one(4)] * 3, last=True, draws=0, progress=lambda *at: told.append(at))
    assert list(found.parts) == [name] and found.targets == 3 and told == [(3, 3)]
    whole = 3 * fisher(built, adapter, name, one(4))
    assert np.abs(dense(found.parts[name]) - whole).max() <= 1e-4 * np.abs(whole).max()
    logp = np.asarray(arrays.logprobs(built(mx.array([TEXT[:3]]))[0, -1], mx), np.float64)
    assert found.lost == pytest.approx(-3 * logp[TEXT[3]], rel=1e-5)


def test_batches_add_up() -> None:
    """More tokens than are read at once are read in several batches, and as many rows are as much curvature."""
    built, adapter = adapted(modules=("mlp.down_proj",))
    told: list[tuple[int, int]] = []
    many = 2 * AT_ONCE // 3
    found = collect(built, adapter, [one(4)] * many, last=True, draws=0, progress=lambda *at: told.append(at))
    alone = collect(built, adapter, [one(4)], last=True, draws=0)
    assert told[-1] == (many, many) and sorted(told) == told and found.targets == many
    ends = [0, *(done for done, _ in told)]
    assert all(3 <= 4 * (b - a) <= AT_ONCE for a, b in pairwise(ends))  # what is read at once is held at once
    assert found.lost == pytest.approx(many * alone.lost, rel=1e-4)
    for name, part in alone.parts.items():
        assert np.abs(dense(found.parts[name]) - many * dense(part)).max() <= 1e-3 * many * np.abs(dense(part)).max()


@pytest.mark.slow(2)
def test_draws_are_a_mean_that_comes_to_all_tokens_by_their_probability() -> None:
    built, adapter = adapted(modules=("mlp.down_proj",))
    every = collect(built, adapter, [one(4)], last=True, draws=0)
    drawn = collect(built, adapter, [one(4)], last=True, draws=400, seed=5)
    assert drawn.lost == pytest.approx(every.lost, rel=1e-5)
    for name, part in every.parts.items():
        whole = part.curvature.sum()
        assert drawn.parts[name].curvature.sum() == pytest.approx(whole, rel=0.25), name  # some five standard errors


def test_the_curvature_of_tokens_is_by_their_own_gradients() -> None:
    """Of one place it is the mean over tokens of the gradient's outer product, so its trace is that of its square."""
    built, adapter = adapted()
    found = collect(built, adapter, [one(2)] * 4, draws=0)
    real = adapter.parameters()
    logp = np.asarray(arrays.logprobs(built(mx.array([TEXT[:1]]))[0, -1], mx), np.float64)
    squares = dict.fromkeys(real, 0.0)
    for token in range(V):

        def said(parameters: dict[str, mx.array], token: int = token) -> mx.array:
            adapter.set(parameters)
            return arrays.logprobs(built(mx.array([TEXT[:1]]))[0, -1], mx)[token]

        for name, gradient in mx.grad(said)(real).items():
            squares[name] += 4 * math.exp(logp[token]) * float(mx.sum(mx.square(gradient)))
    adapter.set(real)
    for name, part in found.parts.items():
        assert part.curvature.sum() == pytest.approx(squares[name], rel=5e-3, abs=1e-9), name


def test_drawn_tokens_differ_by_seed_and_row() -> None:
    built, adapter = adapted(modules=("mlp.down_proj",))
    rows = samples(5, seed=3, low=4, high=6)
    sums = [
        sum(part.curvature.sum() for part in collect(built, adapter, rows, last=True, seed=seed).parts.values())
        for seed in (0, 0, 1)
    ]
    assert sums[0] == sums[1] != sums[2]


def test_wide_sides_keep_their_leading_directions() -> None:
    built, adapter = adapted(modules=("mlp.down_proj",), hidden_size=WHOLE + 32)
    wide = collect(built, adapter, [one(5)], last=True, keep=3).parts
    whole = collect(built, adapter, [one(5)], last=True, keep=WHOLE + 32).parts
    for name, part in wide.items():
        assert part.right.vectors.shape == (WHOLE + 32, 1) and part.left.vectors.shape == (2, 2)  # of one row is one
        assert part.curvature.sum() == pytest.approx(whole[name].curvature.sum(), rel=1e-4)
    built, adapter = adapted(modules=("mlp.down_proj",), hidden_size=WHOLE)
    for part in collect(built, adapter, [one(5)], last=True, keep=3).parts.values():
        assert part.right.vectors.shape == (WHOLE, WHOLE)


def test_what_is_watched_is_the_last_down_projection_or_all() -> None:
    built, adapter = adapted(modules=("mlp.down_proj", "v_proj"))
    assert watched_factors(adapter, built, last=False) == list(adapter.factors.values())
    (only,) = watched_factors(adapter, built, last=True)
    assert (only.site.role, only.site.layer) == ("down", 2)
    layer = Watched(lambda x: x * 2)  # type: ignore[arg-type]
    x = mx.array([[1.0, 3.0]])
    assert layer(x).tolist() == [[2.0, 6.0]] and layer.read is x
    layer.nudge = mx.array([[0.5, 0.0]])
    assert layer(x).tolist() == [[2.5, 6.0]]
    with pytest.raises(ParameterError, match="take --structure kron"):
        watched_factors(adapted(modules=("v_proj",))[1], built, last=True)


# -- a text under samples ----------------------------------------------------------------------------------------------


def test_a_text_is_read_in_parts_and_nothing_twice() -> None:
    built, adapter = adapted(modules=("mlp.down_proj",))
    model, long = Averaged(built, adapter, ensemble(adapter, 3)), [*TEXT, *TEXT, *TEXT, *TEXT]
    text, n = UncertainText(model), len(long)
    assert list(text.read(long[:100])) == [64, 100] and list(text.read(long)) == [n] and list(text.read(long)) == []
    wanted = [[long[i], 0] for i in range(80, 95)]
    found = text.after(80, 95, wanted)
    members = np.asarray(model.members(model.hidden(mx.array([long])))[:, 0], np.float64)  # all of it at once
    for a, place in zip(found, range(80, 95), strict=True):
        each = np.exp(members[:, place])
        mean = each.mean(0)
        total = -float((mean * np.log(mean)).sum())
        own = -float((each * members[:, place]).sum(-1).mean())
        assert (a.samples, a.ids.tolist()) == (3, [long[place], 0])
        assert (a.aleatoric, a.epistemic) == pytest.approx((own, total - own), abs=1e-4)
        assert a.mean == pytest.approx(mean[a.ids], abs=1e-4)
        assert a.spread == pytest.approx(each[:, a.ids].std(0, ddof=1), abs=1e-4)
    logp = np.asarray(text.distributions(0, 39), np.float64)
    assert logp.shape == (3, 39, 7)
    by_hand = [sum(member[i - 1, long[i]] for i in range(90, n)) for member in members]
    assert text.logprobs(90) == pytest.approx(by_hand, abs=1e-3)
    (none,) = text.after(3, 4, [[]])
    assert none.ids.shape == none.mean.shape == none.spread.shape == (0,)


def test_an_average_is_a_model_of_the_base_s_kind() -> None:
    built, adapter = adapted(modules=("mlp.down_proj",))
    model = Averaged(built, adapter, ensemble(adapter, 3), samples=2)
    ids = mx.array([TEXT[:5]])
    assert model.samples == 2 and model.config is built.config and model.dtype == built.dtype
    assert model.arrays.keys() == built.arrays.keys() and model.rotations == built.rotations
    assert bool(mx.allclose(model(ids), model.head(model.hidden(ids)))) and model.hidden(ids).shape[:2] == (1, 5)
    cache = model.make_cache()
    model.hidden(ids, cache)
    assert cache.length == 5 and model.crosses(cache, 9) == built.crosses(cache, 9)
    for inside in (lambda: model.inspect(ids), lambda: model.lens(ids)):
        with pytest.raises(ParameterError, match="leave out --samples"):
            inside()
    with pytest.raises(ParameterError, match="one text at a time, got 2"):
        model.hidden(mx.array([[1], [2]]))


def step(token: int, ids: list[int] | None = None) -> Any:
    return SimpleNamespace(token=token, snapshot=None if ids is None else SimpleNamespace(ids=np.array(ids)))


def test_a_text_and_what_may_follow_are_explained(tmp_path: Path) -> None:
    built, adapter = adapted(modules=("mlp.down_proj",))
    ids = TEXT[:6]
    steps = [step(ids[0]), *(step(token, [1, 4, 2]) for token in ids[1:-1]), step(ids[-1])]
    named = [[step(3), step(5)], [step(2)]]
    model = Averaged(built, adapter, ensemble(adapter, 3))
    found = uncertainties(model, steps, named, 2)
    assert (found.kind, found.samples, found.choices) == ("ensemble", 3, None) and 0 < found.elapsed_s < 60
    text = UncertainText(model)
    for _ in text.read(ids):
        pass
    expected = text.after(0, 5, [[1, 4]] * 4 + [[]])
    assert found.tokens[0] is None and len(found.tokens) == 6
    for a, b in zip(found.tokens[1:], expected, strict=True):
        assert a is not None and a.ids.tolist() == b.ids.tolist() and a.mean == pytest.approx(b.mean)
        assert (a.aleatoric, a.epistemic) == pytest.approx((b.aleatoric, b.epistemic))
    said = np.asarray(model.members(model.hidden(mx.array([[*ids, 3]])))[:, 0], np.float64)
    assert found.named[0] == pytest.approx(said[:, 5, 3] + said[:, 6, 5], abs=1e-4)
    assert found.named[1] == pytest.approx(said[:, 5, 2], abs=1e-4)
    assert found.spread_of(1) == pytest.approx(np.exp(said[:, 5, 2]).std(ddof=1), rel=1e-3)
    posterior = Laplace(collect(built, adapter, samples(10, seed=4, low=4, high=6), last=True).parts, 2.0)
    other = uncertainties(Averaged(built, adapter, posterior, samples=2), steps, named, 2)
    exact = choice_logits(built, adapter, posterior, ids, [[3, 5], [2]])
    assert other.choices is not None and other.choices.mean == pytest.approx(exact.mean, abs=1e-6)
    assert other.choices.covariance == pytest.approx(exact.covariance, rel=1e-5)
    assert exact.by_probit == pytest.approx(probit(exact.mean, np.diag(exact.covariance)))
    assert exact.by_sampling == pytest.approx(sampled(exact.mean, exact.covariance))
    assert exact.trained == pytest.approx(np.exp(exact.mean) / np.exp(exact.mean).sum())
    only = uncertainties(Averaged(built, adapter, posterior, samples=2), steps, named[:1], 1)
    assert only.choices is None and only.tokens[1] is not None and only.tokens[1].ids.tolist() == [1]
    assert isinstance(only, ExplainedUncertainty)
