"""One pass over rows for the curvature, and over a text for the uncertainties: by hand, and in parts of any size."""

from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from likely.engine.base.errors import ParameterError
from likely.engine.train.data.samples import TrainingSample
from likely.engine.train.posterior.averaged import AveragedModel, UncertainText
from likely.engine.train.posterior.choices import choice_logits
from likely.engine.train.posterior.curvature_pass import AT_ONCE, collect
from likely.engine.train.posterior.explained import uncertainties
from likely.engine.train.posterior.kronecker import Kronecker
from likely.engine.train.posterior.posterior import Laplace
from likely.engine.train.posterior.uncertainty import probit, sampled
from likely.metal import mx
from tests.engine.posterior.test_models import TEXT, adapted, ensemble, samples


def dense(part: Kronecker) -> np.ndarray:
    whole = [s.vectors @ np.diag(s.values) @ s.vectors.T for s in (part.left, part.right)]
    return np.kron(*whole)


def one(end: int) -> TrainingSample:
    """A row whose last token alone is learned."""
    return TrainingSample(tuple(TEXT[:end]), (False,) * (end - 1) + (True,), "one")


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


def test_an_average_is_a_model_of_the_base_s_kind() -> None:
    built, adapter = adapted(modules=("mlp.down_proj",))
    model = AveragedModel(built, adapter, ensemble(adapter, 3), samples=2)
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
    model = AveragedModel(built, adapter, ensemble(adapter, 3))
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
    posterior = Laplace(collect(built, adapter, samples(10, seed=4, low=4, high=6), last=True).parts, 2.0)
    other = uncertainties(AveragedModel(built, adapter, posterior, samples=2), steps, named, 2)
    exact = choice_logits(built, adapter, posterior, ids, [[3, 5], [2]])
    assert other.choices is not None and other.choices.mean == pytest.approx(exact.mean, abs=1e-6)
    assert other.choices.covariance == pytest.approx(exact.covariance, rel=1e-5)
    assert exact.by_probit == pytest.approx(probit(exact.mean, np.diag(exact.covariance)))
    assert exact.by_sampling == pytest.approx(sampled(exact.mean, exact.covariance))
