"""Looks into a real, tiny model through the worker's door: each is what the engine's own functions say."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from likely.app.jobs import calls
from likely.app.jobs import requests as r
from likely.app.jobs.calls import call
from likely.app.jobs.interpretability import Inside, InsideQuestion, question
from likely.app.jobs.jobs import ModelJobs
from likely.app.jobs.model_provider import LocalModelProvider
from likely.app.jobs.session_inside import PART, SessionInside, spans, without
from likely.app.jobs.worker import Closed, Failed, Worker
from likely.engine.base import arrays
from likely.engine.base.errors import ParameterError
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.prompt import Prompt
from likely.engine.inside import heads, lens, tuned_lens
from likely.engine.inside.embeddings import EmbeddingTable
from likely.engine.inside.subject import InspectedText
from likely.engine.train.posterior import fit
from likely.engine.weights.adapters import adapters, lora
from likely.engine.weights.sources.checkpoint import load
from likely.metal import mx
from tests.engine import tiny
from tests.engine.attach.test_stack import write

CONFIG = {**tiny.LLAMA, "num_hidden_layers": 3}
IDS = tuple(b"what is seen of a text, from its first token to its last")
WHOLE = Prompt(parts=(IDS,), whole=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    arrays = {name: mx.array(array) for name, array in tiny.weights(CONFIG).items()}
    return str(tiny.write_folder(tmp_path_factory.mktemp("jobs") / "model", CONFIG, arrays))


@pytest.fixture
def jobs(folder: str) -> ModelJobs:
    made = ModelJobs(LocalModelProvider())
    list(made.execute(r.Load(folder), lambda _: None))
    return made


@pytest.fixture
def look(jobs: ModelJobs, folder: str) -> Callable[..., list[Any]]:
    def ask(look: InsideQuestion[Any], control: RunControl | None = None) -> list[Any]:
        return list(jobs.execute(call(calls.look, folder, WHOLE, look, control or RunControl()), lambda _: None))

    return ask


def subject(jobs: ModelJobs, folder: str) -> InspectedText:
    inside = jobs.engines[folder].inside  # type: ignore[attr-defined]
    assert isinstance(inside, SessionInside) and inside.text is not None
    return inside.text


@pytest.mark.slow(3)
def test_the_lens_comes_from_the_screen_outwards_and_is_the_engines(
    look: Callable[..., list[Any]], jobs: ModelJobs, folder: str
) -> None:
    (opened,) = look(question(Inside.opened))
    assert opened.ids == IDS and (opened.layers, opened.heads, opened.first, opened.tuned) == (3, 4, 0, False)
    parts = look(question(Inside.lens, False, 40, 48))
    assert [(part.start, part.top.shape[1]) for part in parts] == [(40, 8), (8, 32), (48, len(IDS) - 48), (0, 8)]
    whole = lens.lens(subject(jobs, folder))
    for part in parts:
        at = slice(part.start, part.start + part.top.shape[1])
        for name in ("top", "p", "kl", "rank"):
            assert np.allclose(getattr(part, name), getattr(whole, name)[:, at], atol=1e-4)
        assert (part.best[..., 0] == part.top).all() and np.allclose(part.shares[..., 0], part.p)
        assert (np.diff(part.shares, axis=-1) <= 0).all() and (part.shares.sum(axis=-1) <= 1 + 1e-5).all()
    known = tuple(range(8, 48))
    assert sorted(part.start for part in look(question(Inside.lens, False, 0, 8, known))) == [0, 48]


def test_parts_cover_every_position_once() -> None:
    for n, start, stop in ((1, 0, 1), (200, 90, 98), (200, -9, 700), (70, 69, 70), (33, 0, 8)):
        found = [i for low, high in spans(n, start, stop) for i in range(low, high)]
        assert sorted(found) == list(range(n))
        assert max(high - low for low, high in list(spans(n, start, stop))[1:] or [(0, 0)]) <= PART
    assert list(without((3, 9), {4, 5, 8})) == [(3, 4), (6, 8)]


def test_a_lens_that_is_broken_off_ends(look: Callable[..., list[Any]]) -> None:
    control = RunControl()
    control.cancel()
    assert look(question(Inside.lens, False, 0, 8), control) == []


def test_one_layers_pattern_is_that_of_the_whole_pass(
    look: Callable[..., list[Any]], jobs: ModelJobs, folder: str
) -> None:
    look(question(Inside.lens, False, 0, 8))
    whole = heads.pattern(subject(jobs, folder), 2)
    (found,) = look(question(Inside.pattern, 2))
    assert np.allclose(found, whole, atol=1e-6)


def test_every_other_look(look: Callable[..., list[Any]]) -> None:
    (kinds,) = look(question(Inside.kinds))
    assert all(kinds[kind].shape == (3, 4) for kind in kinds.KINDS)
    (rolled,) = look(question(Inside.rollout))
    assert np.allclose(rolled.sum(axis=1), 1)
    last = len(IDS) - 1
    (wrote,) = look(question(Inside.attribution, last, None, None))
    assert abs(wrote.sum - wrote.logit) < 1e-4
    (mattered,) = look(question(Inside.importance, 9, None))
    assert mattered.left_out.shape == (10,)
    (gone,) = look(question(Inside.ablation, last, 1, 2))
    assert gone.token == wrote.token and abs(gone.logit - wrote.logit) < 1e-3
    corrupted = Prompt(parts=((*IDS[:9], 7),), whole=True)
    (patched,) = look(question(Inside.patching, 9, corrupted, "residual"))
    assert patched.effects.shape == (3, 10) and patched.ids[9] == 7
    (near,) = look(question(Inside.neighbours, 100, "input"))
    assert len(near.nearest) == 10 and 100 not in [each.id for each in near.nearest]
    (summed,) = look(question(Inside.word_sum, (100, 101), (102,), "input"))
    assert not {100, 101, 102} & {each.id for each in summed.left_out} and len(summed.kept) == 5
    (spelled,) = look(question(Inside.spellings, 3, 5))
    assert bool(spelled.refused) is (spelled.ways is None)


def test_neighbours_need_no_text_and_leave_the_one_that_is_looked_at(
    look: Callable[..., list[Any]], jobs: ModelJobs, folder: str
) -> None:
    list(look(question(Inside.lens, False, 0, 2)))
    text = subject(jobs, folder)
    asked = question(Inside.neighbours, 100, "input")
    (near,) = jobs.execute(call(calls.look, folder, Prompt(), asked, RunControl()), lambda _: None)
    assert subject(jobs, folder) is text and jobs.engines[folder].inside.hidden  # type: ignore[attr-defined]
    table = EmbeddingTable(text.model)
    rows = np.array(table.rows(range(table.size)), np.float64)
    for centred, cosines in ((True, [each.cosine for each in near.nearest]), (False, near.raw)):
        points = rows - rows.mean(axis=0) * centred
        points /= np.linalg.norm(points, axis=1, keepdims=True)
        assert np.allclose([points[100] @ points[each.id] for each in near.nearest], cosines, atol=1e-5)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (question(Inside.pattern, 9), "no head 9.0"),
        (question(Inside.lens, True, 0, 8), "no tuned lens is kept"),
        (question(Inside.word_map, "input"), "words that are one token"),
        (question(Inside.neighbours, 4000, "input"), "must be 0 to"),
        (question(Inside.patching, 9, Prompt(parts=((1, 2),), whole=True), "residual"), "as many"),
    ],
)
def test_what_is_refused(look: Callable[..., list[Any]], asked: InsideQuestion[Any], words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        look(asked)


def test_a_tuned_lens_that_is_kept_is_used(
    look: Callable[..., list[Any]], jobs: ModelJobs, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIKELY_HOME", str(tmp_path))
    look(question(Inside.opened))
    model = subject(jobs, folder).model
    ids = np.random.default_rng(0).integers(0, 200, 300).tolist()
    tuned_lens.save(
        tuned_lens.file_of(jobs.engines[folder].info.weights), tuned_lens.fit(model, ids, rank=2, length=30)
    )  # type: ignore[attr-defined]
    (opened,) = look(question(Inside.opened))
    plain, tuned = (look(question(Inside.lens, kind, 0, len(IDS)))[0] for kind in (False, True))
    assert opened.tuned and not np.allclose(plain.kl, tuned.kl) and np.allclose(plain.kl[-1], tuned.kl[-1])


def test_a_look_takes_turns_with_other_jobs(folder: str) -> None:
    """Through the worker: what is asked for while a lens is made is answered before the lens is whole."""
    worker = Worker(lambda: ModelJobs(LocalModelProvider()))
    load = worker.submit(r.Load(folder))
    wide = worker.submit(call(calls.look, folder, WHOLE, question(Inside.lens, False, 0, 1), RunControl()))
    count = worker.submit(call(calls.tokens, folder, "abc"))
    bad = worker.submit(call(calls.look, "nowhere", WHOLE, question(Inside.opened), RunControl()))
    worker.finish()
    worker.start()
    assert worker.join()
    reported = worker.drain()
    order = [job for job, event in reported if not isinstance(event, Closed)]
    assert order[0] == load and order.index(count) < len(order) - 1 - order[::-1].index(wide)
    assert [event.line for job, event in reported if job == bad and isinstance(event, Failed)]


def test_uncertainty_of_what_follows_is_that_of_the_ensemble_on_the_model(
    jobs: ModelJobs, look: Callable[..., list[Any]], folder: str, tmp_path: Path
) -> None:
    """By the members' own passes; asked of a longer text what was read is not read again; gone with the
    adapter."""
    made = load(folder)
    one, two = (write(made, tmp_path / name, seed) for seed, name in enumerate(("one", "two"), 1))
    fit.join(fit.open_adapter(one, folder), [two])
    with pytest.raises(ParameterError, match="has a posterior"):
        look(question(Inside.uncertainty, (1, 2)))
    (changed,) = jobs.execute(call(calls.adapt, folder, "add", str(one)), lambda _: None)
    assert changed[0].posterior == "ensemble"
    *parts, found = look(question(Inside.uncertainty, (1, 2)))
    assert parts, "others have a turn while it is read"
    stopped = RunControl()
    stopped.cancel()
    assert look(question(Inside.uncertainty, (3,)), stopped) == []
    logp = []
    for member in (one, two):
        placed = load(folder)
        adapter = adapters.build(placed.model, adapters.read(member))
        assert isinstance(adapter, lora.Adapter)
        lora.attach(adapter)
        logp.append(np.asarray(arrays.logprobs(placed.model(mx.array([IDS]))[0, -1], mx), np.float64))
    p = np.exp(np.stack(logp))
    mean = p.mean(axis=0)
    assert found.total == pytest.approx(-float(mean @ np.log(mean)), abs=1e-4)
    assert found.epistemic == pytest.approx(float((p * np.log(p / mean)).sum(axis=1).mean()), rel=1e-3)
    assert found.ids.tolist() == [1, 2] and found.spread == pytest.approx(p[:, 1:3].std(axis=0, ddof=1), rel=1e-3)
    assert found.samples == 2 and found.epistemic > 1e-3
    list(jobs.execute(call(calls.adapt, folder, "weigh", "one", 0.0), lambda _: None))
    with pytest.raises(ParameterError, match="has a posterior"):
        look(question(Inside.uncertainty, (1, 2)))
