"""One pass over rows for the curvature, and over a text for the uncertainties: by hand, and in parts of any size."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import models
from engine import arrays
from engine.errors import ParameterError
from engine.posterior import averaged, curvature_pass
from engine.posterior.averaged import Averaged, UncertainText
from engine.posterior.choices import choice_logits
from engine.posterior.curvature_pass import Watched, collect, watched_factors
from engine.posterior.explained import ExplainedUncertainty, uncertainties
from engine.posterior.kronecker import Kronecker
from engine.posterior.posterior import Laplace
from engine.posterior.uncertainty import probit, sampled
from engine.tune import lora, sites
from engine.tune.samples import TrainingSample
from metal import mx
from models import Transformer
from tests.engine import tiny
from tests.engine.posterior.test_models import TEXT, V, ensemble, fisher, samples, stirred

CONFIG = tiny.LLAMA | {
    "vocab_size": V, "hidden_size": 32, "num_hidden_layers": 3, "intermediate_size": 48, "head_dim": 8,
    "tie_word_embeddings": True,
}  # fmt: skip


def adapted(modules: tuple[str, ...] = ("*",)) -> tuple[Transformer, lora.Adapter]:
    """A tiny model with factors that are not zero."""
    built: Transformer = models.build(CONFIG, {name: mx.array(w) for name, w in tiny.weights(CONFIG).items()})
    adapter = lora.create(sites.choose(sites.sites(built), -1, modules, 3), rank=2, scale=2.0)
    adapter.set(stirred(adapter, 0))
    lora.attach(adapter)
    return built, adapter


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


def likeliest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens that are drawn are the likeliest ones, whatever the key."""
    monkeypatch.setattr(mx.random, "categorical", lambda logits, key: mx.argmax(logits, axis=-1))


@pytest.mark.parametrize("last", [True, False])
def test_draws_are_a_mean_and_batches_of_any_size_add_up(last: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    built, adapter = adapted(modules=("mlp.down_proj", "q_proj"))
    rows = samples(6, seed=2, low=4, high=7)
    likeliest(monkeypatch)
    single = collect(built, adapter, rows, last=last)
    wanted = sum(sum(row.trained) for row in rows)
    assert single.targets == wanted
    several = collect(built, adapter, rows, last=last, draws=3, seed=5)
    monkeypatch.setattr(curvature_pass, "AT_ONCE", 8)
    told: list[tuple[int, int]] = []
    parted = collect(built, adapter, rows, last=last, draws=2, progress=lambda *at: told.append(at))
    assert told[-1] == (6, 6) and len(told) > 2 and sorted(told) == told
    assert single.lost == pytest.approx(several.lost, rel=1e-5) and parted.lost == pytest.approx(single.lost, rel=1e-5)
    for name, part in single.parts.items():
        for other in (several.parts[name], parted.parts[name]):
            assert np.abs(dense(other) - dense(part)).max() <= 1e-3 * np.abs(dense(part)).max(), name
    assert parted.targets == wanted


def test_the_curvature_of_drawn_tokens_is_by_their_own_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one place and one token it is the outer product of the gradient, so its trace is the gradient's square."""
    built, adapter = adapted()
    likeliest(monkeypatch)
    found = collect(built, adapter, [one(2)] * 4)
    real = adapter.parameters()

    def said(parameters: dict[str, mx.array]) -> mx.array:
        adapter.set(parameters)
        return mx.max(arrays.logprobs(built(mx.array([TEXT[:1]]))[0, -1], mx))

    gradients = mx.grad(said)(real)
    adapter.set(real)
    for name, part in found.parts.items():
        if "layers.2" in name or "v_proj" in name or "gate" in name:
            square = 4 * float(mx.sum(mx.square(gradients[name])))
            assert part.curvature.sum() == pytest.approx(square, rel=2e-3, abs=1e-9), name


def test_drawn_tokens_differ_by_seed_and_row() -> None:
    built, adapter = adapted(modules=("mlp.down_proj",))
    rows = samples(5, seed=3, low=4, high=6)
    sums = [
        sum(part.curvature.sum() for part in collect(built, adapter, rows, last=True, seed=seed).parts.values())
        for seed in (0, 0, 1)
    ]
    assert sums[0] == sums[1] != sums[2]


def test_wide_sides_keep_their_leading_directions(monkeypatch: pytest.MonkeyPatch) -> None:
    built, adapter = adapted(modules=("mlp.down_proj",))
    whole = collect(built, adapter, [one(5)], last=True).parts
    monkeypatch.setattr(curvature_pass, "WHOLE", 31)
    kept = collect(built, adapter, [one(5)], last=True, keep=3).parts
    for name, part in kept.items():
        assert part.right.vectors.shape == (32, 1) and part.left.vectors.shape == (2, 2)  # of one row there is one
        assert part.curvature.sum() == pytest.approx(whole[name].curvature.sum(), rel=1e-4)
        assert whole[name].right.vectors.shape == (32, 32)
    monkeypatch.setattr(curvature_pass, "WHOLE", 32)
    assert all(p.right.vectors.shape == (32, 32) for p in collect(built, adapter, [one(5)], last=True).parts.values())


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


def test_a_text_is_read_in_parts_and_nothing_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    built, adapter = adapted(modules=("mlp.down_proj",))
    model = Averaged(built, adapter, ensemble(adapter, 3))
    whole = UncertainText(model)
    assert list(whole.read(TEXT)) == [40] and list(whole.read(TEXT)) == []
    wanted = [[TEXT[i], 0] for i in range(5, 20)]
    expected = whole.after(5, 20, wanted)
    monkeypatch.setattr(averaged, "PART", 16)
    monkeypatch.setattr(averaged, "CELLS", 4 * 3 * 7)  # four places of three samples at once
    parted = UncertainText(model)
    assert list(parted.read(TEXT[:35])) == [16, 32, 35] and list(parted.read(TEXT)) == [40]
    found = parted.after(5, 20, wanted)
    assert len(found) == 15 == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert (a.samples, a.ids.tolist()) == (3, b.ids.tolist())
        assert (a.aleatoric, a.epistemic) == pytest.approx((b.aleatoric, b.epistemic), abs=1e-5)
        assert a.mean == pytest.approx(b.mean, abs=1e-5) and a.spread == pytest.approx(b.spread, abs=1e-5)
    monkeypatch.setattr(averaged, "CELLS", 1)
    assert parted.after(5, 7, wanted[:2])[1].total == pytest.approx(expected[1].total, abs=1e-5)
    logp = np.asarray(parted.distributions(0, 39), np.float64)
    assert logp.shape == (3, 39, 7)
    by_hand = [sum(member[i - 1, TEXT[i]] for i in range(30, 40)) for member in logp]
    assert parted.logprobs(30) == pytest.approx(by_hand, abs=1e-4)
    (none,) = parted.after(3, 4, [[]])
    assert none.ids.shape == none.mean.shape == none.spread.shape == (0,)


def test_an_average_is_a_model_of_the_base_s_kind() -> None:
    built, adapter = adapted(modules=("mlp.down_proj",))
    model = Averaged(built, adapter, ensemble(adapter, 3), samples=2)
    ids = mx.array([TEXT[:5]])
    assert model.samples == 2 and model.config is built.config and model.dtype == built.dtype
    assert model.arrays.keys() == built.arrays.keys() and model.rotations == built.rotations
    assert bool(mx.allclose(model(ids), model.head(model.hidden(ids)))) and model.hidden(ids).shape == (1, 5, 64)
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
