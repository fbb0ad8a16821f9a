"""Bounds of texts by a diffusion model: who is asked, with which masks, and what an item's bounds are worth."""

import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from likely.engine.base.errors import LikelyError, ParameterError
from likely.engine.decode.session import Session
from likely.engine.diffusion.bound import bound
from likely.engine.measure.evaluate.scoring.bounded import (
    BoundReader,
    LikelihoodBound,
    ModelLosses,
    check,
    of_item,
    of_texts,
    reach,
    reader,
)
from likely.engine.measure.evaluate.scoring.likelihood import Reader, Request
from likely.engine.measure.evaluate.scoring.protocol import Protocol, diffuses
from likely.engine.measure.evaluate.tasks.tasks import Choices, Document, Item, MinimalPair, Task
from likely.engine.weights.sources.checkpoint import load
from likely.metal import mx
from tests.engine import tiny
from tests.fakes import FakeCheckpoint, MarkovModel, random_table

MASK = 286
CONFIG = tiny.LLAMA | {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2, "head_dim": 8}


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    arrays = {name: mx.array(4 * array) for name, array in tiny.weights(CONFIG).items()}
    folder = tmp_path_factory.mktemp("bounded") / "diffusion"
    return Session(load(tiny.write_folder(folder, CONFIG | {"mask_token_id": MASK}, arrays)))


def test_what_masked_places_cost_is_by_a_pass_over_the_canvas(session: Session) -> None:
    losses = ModelLosses(session.model, "it")
    ids, masked = np.array([3, 9, 200, 9]), np.array([[1, 0, 1, 0], [0, 0, 0, 1], [1, 1, 1, 1]], bool)
    found = losses.lost(ids, masked)
    for row, own in zip(masked, found, strict=True):
        canvas = np.where(row, MASK, ids)
        said = losses.denoiser.log_probabilities(canvas[None])[0]
        assert own == pytest.approx(-sum(said[i, ids[i]] for i in np.flatnonzero(row)), rel=1e-5)


def test_texts_of_a_request_have_masks_by_the_first_and_by_the_seed(session: Session) -> None:
    """Its texts are compared, so they are masked alike; what is given before them is never masked."""
    requests = [Request(((1, 2, 3), (1, 2, 4, 5)), (1, 2)), Request(((7, 8),), (1,))]
    reader_ = BoundReader(session.model, draws=16, seed=9)
    found = dict(reader_.read(iter(requests)))
    for number, request in enumerate(requests):
        seed = zlib.crc32(np.array(request.texts[0], np.int64).tobytes(), 9)
        for text, start, got in zip(request.texts, request.starts, found[number], strict=True):
            free = [i >= start for i in range(len(text))]
            exact = bound(reader_.losses, text, MASK, free, draws=16, seed=seed)
            assert (got.total, got.error, got.count) == pytest.approx((-exact.mean, exact.error, sum(free)))
    with pytest.raises(ParameterError, match="draws"):
        BoundReader(session.model, draws=3, seed=0)


def test_a_damaged_model_is_named(tmp_path: Path) -> None:
    arrays = {name: mx.array(4 * array) for name, array in tiny.weights(CONFIG).items()}
    arrays["model.norm.weight"] = arrays["model.norm.weight"] * np.nan
    damaged = load(tiny.write_folder(tmp_path / "d", CONFIG | {"mask_token_id": MASK}, arrays))
    with pytest.raises(LikelyError, match="mine"):
        list(BoundReader(damaged.model, draws=16, seed=3, name="mine").read([Request(((5, 6, 7),), (1,))]))


def test_who_reads_depends_on_the_model(session: Session) -> None:
    info = SimpleNamespace(name="plain", weights="w")
    plain = Session(FakeCheckpoint(MarkovModel(random_table(0), context=50), info=info))  # type: ignore[arg-type]
    assert diffuses(session) and not diffuses(plain)
    assert reach(session) == session.context - 1 and reach(plain) == 50
    exact = reader(plain, Protocol(paths=3))
    assert isinstance(exact, Reader) and exact.name == "plain"
    usual = reader(session, Protocol())
    assert isinstance(usual, BoundReader) and (usual.draws, usual.seed, usual.name) == (128, 0, session.info.name)
    chosen = reader(session, Protocol(draws=16, seed=4))
    assert isinstance(chosen, BoundReader) and (chosen.draws, chosen.seed) == (16, 4)
    with pytest.raises(ParameterError, match="whose tokens have no order: leave out --paths"):
        reader(session, Protocol(paths=1))


@pytest.mark.parametrize(
    ("row", "served"),
    [
        ({"text": "a"}, True), ({"good": "a", "bad": "b"}, True),
        ({"context": "a", "choices": ["b", "c"], "gold": 0}, True), ({"prompt": "a", "answer": "b"}, False),
        ({"context": "a", "law": {"b": 1.0}}, False),
    ],
)  # fmt: skip
def test_bounds_answer_texts_pairs_and_choices(row: dict[str, Any], served: bool) -> None:
    task = Task("t", lambda: iter([row]), "t")
    if served:
        check(task, "it")
        return
    with pytest.raises(ParameterError, match=r"t asks for \w+, and it is .* documents, pairs, choices"):
        check(task, "it")


BOUNDS = [LikelihoodBound(-6.0, 0.5, 3), LikelihoodBound(-4.0, 0.25, 2)]


def test_bounds_of_windows_add_up() -> None:
    assert of_texts(BOUNDS, 17) == {
        "nats_at_most": 10.0, "tokens": 5.0, "bytes": 17.0, "draw_variance": 0.3125
    }  # fmt: skip
    values, detail = of_item(Item(0, Document("häh")), BOUNDS)
    assert values == of_texts(BOUNDS, 4)
    assert detail == {"loglikelihoods_at_least": [-6.0, -4.0], "draw_errors": [0.5, 0.25]}


def test_pairs_and_choices_are_taken_by_their_bounds() -> None:
    for totals, right in (((-2.0, -3.0), 1.0), ((-3.0, -2.0), 0.0), ((-2.0, -2.0), 0.0)):
        given = [LikelihoodBound(total, 0.1, 1) for total in totals]
        assert of_item(Item(0, MinimalPair("a", "b")), given)[0] == {"acc_by_bound": right}
    choices = ("ab", "ääää", "abcdef")
    given = [LikelihoodBound(total, 0.1, 1) for total in (-3.0, -4.0, -7.0)]
    # by itself, a character (-1.5, -1, -1.17) and a byte (-1.5, -0.5, -1.17)
    for gold, expected in ((0, (1, 0, 0)), (1, (0, 1, 1)), (2, (0, 0, 0))):
        values, _ = of_item(Item(0, Choices("x", choices, gold)), given)
        assert values == dict(zip(("acc_by_bound", "acc_norm_by_bound", "acc_bytes_by_bound"), expected, strict=True))
    given[2] = LikelihoodBound(-6.6, 0.1, 1)
    assert of_item(Item(0, Choices("x", ("ä", "ää", "abcd"), 2)), given)[0]["acc_norm_by_bound"] == 1
    assert of_item(Item(0, Choices("x", ("ä", "ää", "abcd"), 1)), given)[0]["acc_bytes_by_bound"] == 1
