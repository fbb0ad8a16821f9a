"""A loaded model as the worker has it: adapters put on and taken off, directions, looks inside, canvases."""

from pathlib import Path

import numpy as np
import pytest

from likely.app.jobs import calls
from likely.app.jobs.model_provider import LoadedModel, opening
from likely.app.jobs.requests import Progressed
from likely.engine.base.errors import ParameterError
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.events import Emitted
from likely.engine.diffusion.bound import exact
from likely.engine.diffusion.denoiser import ModelDenoiser
from likely.engine.inside import steering
from likely.engine.sampling.trace.step import SamplingConfig
from likely.engine.sampling.trace.unmasking import Unmasking
from likely.engine.weights.adapters import adapters, lora, sites
from likely.engine.weights.quantize import Settings, widths
from likely.metal import mx
from tests.engine import tiny

MASK = 286


def opened(folder: Path, **config: int) -> LoadedModel:
    settings = tiny.LLAMA | config
    arrays = {name: mx.array(4 * array) for name, array in tiny.weights(settings).items()}
    steps = opening("m", str(tiny.write_folder(folder, settings, arrays)))
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found = end.value
            assert isinstance(found, LoadedModel)
            return found


@pytest.fixture
def plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LoadedModel:
    monkeypatch.setenv("LIKELY_HOME", str(tmp_path / "home"))
    return opened(tmp_path / "plain")


@pytest.fixture
def masked(tmp_path: Path) -> LoadedModel:
    return opened(tmp_path / "masked", mask_token_id=MASK)


def adapter(on: LoadedModel, folder: Path, seed: int) -> Path:
    chosen = sites.choose(sites.sites(on.model), -1, ["*"], on.model.config.layers)
    made = lora.create(chosen, rank=2, scale=2.0, seed=seed)
    keys = mx.random.split(mx.random.key(seed), len(made.parameters()))
    made.set({n: p + mx.random.normal(p.shape, key=k) for (n, p), k in zip(made.parameters().items(), keys)})  # noqa: B905
    adapters.save(folder, made, on.model, {"kind": "lora", "model": str(on.info.path), "dropout": 0.0})
    return folder


def says(model: LoadedModel) -> np.ndarray:
    return np.array([step.logprob for step in model.score([1, 2, 3, 4], start=1)])


def test_adapters_are_put_on_weighed_and_taken_off(plain: LoadedModel, tmp_path: Path) -> None:
    other = opened(tmp_path / "plain")
    one, two = (str(adapter(other, tmp_path / name, seed)) for seed, name in enumerate(("one", "two")))
    base = says(plain)
    assert [(each.name, each.weight) for each in plain.adapt("add", one, 1.0)] == [("one", 1.0)]
    whole = says(plain)
    plain.adapt("weigh", "one", 0.0)
    assert says(plain) == pytest.approx(base, abs=1e-5) and np.abs(whole - base).max() > 1e-3
    plain.adapt("add", two, 0.5)
    assert [(each.name, each.weight) for each in plain.adapt("only", "one", 1.0) if each.weight] == [("one", 1.0)]
    assert says(plain) == pytest.approx(whole, abs=1e-5)
    for name in ("one", "two"):
        left = plain.adapt("remove", name, 0.0)
    assert left == () and says(plain) == pytest.approx(base, abs=1e-5)


def test_the_next_token_of_a_run_is_the_adapted_models(plain: LoadedModel, tmp_path: Path) -> None:
    one = str(adapter(opened(tmp_path / "plain"), tmp_path / "one", 0))

    def drawn(change_at: int | None) -> list[int]:
        tokens: list[int] = []
        for event in plain.generate([1, 2, 3], RunControl(SamplingConfig(greedy=True)), max_tokens=12):
            if isinstance(event, Emitted):
                tokens.append(event.step.token)
                if len(tokens) == change_at:
                    plain.adapt("add", one, 1.0)
        if change_at is not None:
            plain.adapt("remove", "one", 1.0)
        return tokens

    alone, changed = drawn(None), drawn(4)
    assert alone[:4] == changed[:4] and alone != changed and drawn(None) == alone


def test_a_direction_is_made_kept_and_put_on(plain: LoadedModel) -> None:
    base = says(plain)
    assert [each.name for each in plain.steer("kind", [[1, 2]], [[3, 4]], None)] == ["kind"]
    assert steering.folder_of("kind").exists() and np.abs(says(plain) - base).max() > 1e-3
    plain.adapt("remove", "kind", 0.0)
    with pytest.raises(ParameterError, match="a direction called kind is kept already"):
        plain.steer("kind", [[1]], [[2]], None)


def test_a_canvas_is_filled_as_a_text_or_as_an_answer(masked: LoadedModel) -> None:
    assert masked.canvas("no gap") is None
    text = masked.canvas("x[MASK:3]y")
    assert text is not None and text[1:4] == [MASK] * 3 and len(text) == 5
    answer = masked.answer_canvas([1, 2], [3], 4, 0)
    assert answer == [1, 2, 3, MASK, MASK, MASK]
    for ids, first in ((text, 0), (answer, 2)):
        runs = [list(masked.fill(ids, first, Unmasking(), RunControl(), seed=seed)) for seed in (3, 3, 4)]
        filled = [[(u.token.position, u.token.token) for step in run for u in step.unmasked] for run in runs]
        assert filled[0] == filled[1] != filled[2]
        assert {position for position, _ in filled[0]} <= {i for i, token in enumerate(ids) if token == MASK}


def test_a_bound_is_of_the_places_that_are_free(masked: LoadedModel) -> None:
    ids, free, steps = [5, 6, 7, 8], [1, 2, 3], masked.bounding([5, 6, 7, 8], [1, 2, 3])
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found = end.value
            break
    truth = exact(ModelDenoiser(masked.model).log_probabilities, ids, MASK, [i in free for i in range(4)])
    assert found.mean == pytest.approx(truth, rel=1e-4)


@pytest.mark.slow(2)
def test_copies_in_fewer_bits_are_measured_a_layer_at_a_time_and_broken_off(tmp_path: Path) -> None:
    model = opened(tmp_path / "wide", hidden_size=64, intermediate_size=64)
    *layers, measured = calls.widths(model, RunControl())
    assert measured.reports == tuple(widths(model.info, Settings()))
    assert [each.done for each in layers] == [0] * 7 + [1] + [2] * 7
    stopped = RunControl()
    for event in calls.widths(model, stopped):
        stopped.cancel()
        assert event == Progressed("m", "quantising", 0, 2)
