"""Looks at heads, lenses and directions by hand, and how they are kept; the models they look at are scripted."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from engine.errors import CheckpointError, ContextOverflow, DataError, ParameterError
from engine.inside import heads, saved, steering, subject, tuned_lens
from engine.inside.attribution import Attribution, _share, linearised
from engine.inside.heads import HeadScores, rollout
from engine.inside.importance import Importance
from engine.inside.lens import Lens, LensRow, _Final
from engine.inside.patching import Patching
from engine.inside.sink import without_first
from engine.inside.steering import Direction, SteeredBlock
from engine.inside.subject import InspectedText
from engine.inside.tuned_lens import Translator, TunedLens, _nothing, _solve
from metal import mx
from models.layers import LayerNorm, RMSNorm

C = 6

# -- attribution, heads, lenses --------------------------------------------------------------------------------------


def test_norms_are_linear_where_their_scale_is_held() -> None:
    rng = np.random.default_rng(2)
    x, y, weight, bias = (rng.normal(size=C) for _ in range(4))
    a, b, w, c = (mx.array(z.astype(np.float32)) for z in (x, y, weight, bias))
    same, zero = linearised(None, a)
    assert same(b) is b and zero.tolist() == [0.0] * C
    rms, none = linearised(RMSNorm(w, 1e-5), a)
    np.testing.assert_allclose(np.array(rms(b)), y * weight / np.sqrt((x**2).mean() + 1e-5), rtol=1e-4)
    assert none.tolist() == [0.0] * C
    layer, offset = linearised(LayerNorm(w, c, 1e-5), a)
    np.testing.assert_allclose(
        np.array(layer(b)), (y - y.mean()) * weight / np.sqrt(x.var() + 1e-5), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(np.array(offset), bias, rtol=1e-6)
    assert linearised(LayerNorm(w, None, 1e-5), a)[1].tolist() == [0.0] * C
    assert float(_share(mx.array(2.0), mx.array(4.0))) == 0.5 and float(_share(mx.array(0.0), mx.array(0.0))) == 1.0
    one = Attribution(
        1, None, 1.0, np.array([[1.0, 2.0], [3.0, 4.0]], np.float32), np.array([5.0, 6.0], np.float32), 7.0, 29.0
    )
    assert one.total == 29.0 and one.attention.tolist() == [3.0, 7.0]


def scores(**named: float) -> HeadScores:
    found = {
        name: np.full((1, 2), 0.1) for name in ("previous", "duplicate", "induction", "first", "distance", "entropy")
    }
    for name, value in named.items():
        found[name][0, 1] = value
    return HeadScores(**found)


def test_a_head_is_of_the_kind_of_its_largest_score() -> None:
    assert scores(previous=0.6, first=0.55).kind(0, 1) == "previous" and scores(previous=0.6).kind(0, 0) == ""
    assert (
        scores(induction=0.5).kind(0, 1) == "induction"
        and scores(induction=0.49).kind(0, 1) == ""
        and scores(induction=0.49).kind(0, 1, 0.4) == "induction"
    )
    assert scores(distance=9.0, entropy=9.0).kind(0, 1) == "" and HeadScores.KINDS == (
        "induction",
        "duplicate",
        "previous",
        "first",
    )
    model: Any = SimpleNamespace(blocks=[0] * 3, config=SimpleNamespace(heads=4))
    for layer, head in ((0, 0), (2, 3)):
        heads.check(model, layer, head)
    for layer, head in ((3, 0), (0, 4), (-1, 0), (0, -1)):
        with pytest.raises(
            ParameterError, match=rf"no head {layer}\.{head}: this model has layers 0 to 2 and heads 0 to 3"
        ):
            heads.check(model, layer, head)


def test_scores_of_heads_are_means_over_the_positions_that_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two heads of one layer over seven tokens, the last four of them looked at."""
    rng, ids = np.random.default_rng(3), (5, 9, 5, 7, 9, 5, 5)
    weights = np.tril(rng.random((2, 7, 7)))
    weights /= weights.sum(axis=-1, keepdims=True)
    for first in (0, 3, 6):
        rows = max(1, 7 - first)
        monkeypatch.setattr(heads, "_patterns", lambda subject, layers, rows=rows: iter([weights[:, -rows:]]))
        text: Any = SimpleNamespace(ids=ids, first=first, model=SimpleNamespace(blocks=[0]))
        found, places = heads.score(text), range(max(1, first), 7)
        for head in range(2):
            w = weights[head]
            again = [i for i in places if ids[i] in ids[:i]]
            assert found.previous[0, head] == pytest.approx(np.mean([w[i, i - 1] for i in places]))
            assert found.first[0, head] == pytest.approx(np.mean([w[i, 0] for i in places]))
            assert found.duplicate[0, head] == pytest.approx(
                np.mean([sum(w[i, j] for j in range(i) if ids[j] == ids[i]) for i in again])
            )
            assert found.induction[0, head] == pytest.approx(
                np.mean([sum(w[i, j + 1] for j in range(i) if ids[j] == ids[i]) for i in again])
            )
            assert found.distance[0, head] == pytest.approx(
                np.mean([sum(w[i, j] * (i - j) for j in range(i)) for i in places]), rel=1e-5
            )
            assert found.entropy[0, head] == pytest.approx(
                np.mean([-sum(p * np.log(p) for p in w[i] if p > 0) for i in places]), rel=1e-5
            )
    monkeypatch.setattr(heads, "_patterns", lambda subject, layers: iter([weights[:, :2, :2]]))
    alone = heads.score(SimpleNamespace(ids=(1, 2), first=0, model=SimpleNamespace(blocks=[0])))  # type: ignore[arg-type]
    assert np.isnan(alone.duplicate).all() and np.isnan(alone.induction).all() and np.isfinite(alone.previous).all()


def test_kinds_are_found_on_random_tokens_that_come_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, ...]] = []

    def score(text: InspectedText) -> HeadScores:
        asked.append(text.ids)
        return scores(previous=float(len(asked)))

    monkeypatch.setattr(heads, "score", score)
    model: Any = SimpleNamespace(config=SimpleNamespace(vocab_size=50))
    found = heads.kinds(model, bos=[49], length=5, texts=3, vocabulary=range(10, 20))
    assert found.previous[0].tolist() == [pytest.approx(0.1), 2.0]
    random = np.random.default_rng(0)
    for ids in asked:
        drawn = random.choice(np.arange(10, 20), 5, replace=False).tolist()
        assert ids == (49, *drawn, *drawn)
    asked.clear()
    heads.kinds(model)
    assert (
        len(asked) == heads.TEXTS and {len(ids) for ids in asked} == {60} and all(len(set(ids)) == 30 for ids in asked)
    )
    asked.clear()
    heads.kinds(model, length=4, texts=1, vocabulary=[3], seed=1)
    assert asked == [(3,) * 8]
    eye = np.eye(2)
    assert np.allclose(rollout([eye]), eye)
    with pytest.raises(ParameterError, match="no attention to follow"):
        rollout([])
    with pytest.raises(ParameterError, match=r"9 are too many to be seen together: the last 4 are"):
        heads.rolled_out(SimpleNamespace(first=5, ids=(0,) * 9, positions=range(4)))  # type: ignore[arg-type]
    assert without_first(np.array([[1.0, 0.0], [0.5, 0.5]])).tolist() == [[0, 0], [0, 1]]


def test_a_row_of_the_lens_is_beside_the_models_own() -> None:
    rng = np.random.default_rng(4)
    own, other = (rng.normal(size=(3, 9)).astype(np.float32) * 2 for _ in range(2))
    for wrap in (np.asarray, mx.array):
        final = _Final.of(wrap(own))
        row, mine = final.row(wrap(other), 4), final.own(wrap(own), 20)
        p, q = (x - np.logaddexp.reduce(x.astype(np.float64), axis=1, keepdims=True) for x in (own, other))
        assert row.top.tolist() == other.argmax(axis=1).tolist() and np.allclose(
            row.p, np.exp(q.max(axis=1)), atol=1e-5
        )
        assert np.allclose(row.kl, (np.exp(p) * (p - q)).sum(axis=1), atol=1e-4) and mine.kl.tolist() == [0.0] * 3
        best = own.argmax(axis=1)
        assert (
            row.rank.tolist() == [1 + int((other[i] > other[i, best[i]]).sum()) for i in range(3)]
            and mine.rank.tolist() == [1] * 3
        )
        assert row.best.tolist() == np.argsort(-other, axis=1)[:, :4].tolist() and mine.best.shape == (3, 9)
        assert np.allclose(row.shares, np.sort(np.exp(q), axis=1)[:, ::-1][:, :4], atol=1e-5)
        assert final.row(wrap(other), 0).best.shape == (3, 0) and final.row(wrap(other), 0).shares.shape == (3, 0)
    zero = np.zeros(2, np.float32)
    rows = tuple(LensRow(np.array(top), zero, zero, zero) for top in ([3, 1], [3, 3], [3, 1]))
    assert Lens(rows).decided.tolist() == [0, 2]


def test_agreements_are_of_ranks_and_of_what_varies() -> None:
    a, b = np.array([0.1, 0.5, 0.2, 0.9]), np.array([1.0, 30.0, 20.0, 2.0])
    ranks = [np.argsort(np.argsort(x)) for x in (a, b)]
    want = np.corrcoef(*ranks)[0, 1]
    assert Importance(1, 0.0, a, b).agreement == pytest.approx(want)
    assert Importance(1, 0.0, np.ones(4), b).agreement is None and Importance(1, 0.0, a, np.ones(4)).agreement is None
    effects, guesses = np.array([[0.0, 1.0], [2.0, 3.0]]), np.array([[0.1, 1.1], [1.9, 3.5]])
    assert Patching("heads", 1, 2, 1.0, 0.0, effects, guesses).correlation == pytest.approx(
        np.corrcoef(effects.ravel(), guesses.ravel())[0, 1]
    )
    for one, other in ((effects, None), (np.ones((2, 2)), guesses), (effects, np.ones((2, 2)))):
        assert Patching("heads", 1, 2, 1.0, 0.0, one, other).correlation is None


# -- lenses and directions in files ------------------------------------------------------------------------------------


def test_a_translator_is_the_ridge_fit_of_low_rank() -> None:
    rng = np.random.default_rng(5)
    x = rng.normal(size=(200, 5)) @ rng.normal(size=(5, 5)) + rng.normal(size=5)
    y = x @ rng.normal(size=(5, 5)) + rng.normal(size=5) + 0.1 * rng.normal(size=(200, 5))
    one = np.concatenate([x, np.ones((200, 1))], axis=1)
    xc, yc = x - x.mean(axis=0), y - y.mean(axis=0)
    ridge = 1e-3 * np.trace(xc.T @ xc / 200) / 5
    full = np.linalg.solve(xc.T @ xc / 200 + ridge * np.eye(5), xc.T @ yc / 200)
    for rank in (5, 2, 1):
        found = _solve(one.T @ one, one.T @ y, rank)
        assert found.a.shape == (5, rank) and found.b.shape == (rank, 5)
        got = np.array(found.a, np.float64) @ np.array(found.b, np.float64)
        if rank == 5:
            np.testing.assert_allclose(got, full, rtol=1e-3, atol=1e-4)
        root = np.linalg.cholesky(xc.T @ xc / 200 + ridge * np.eye(5))
        u, s, v = np.linalg.svd(root.T @ full)
        np.testing.assert_allclose(
            got, np.linalg.solve(root.T, (u[:, :rank] * s[:rank]) @ v[:rank]), rtol=1e-3, atol=1e-4
        )
        np.testing.assert_allclose(np.array(found.bias), y.mean(axis=0) - x.mean(axis=0) @ got, rtol=1e-3, atol=1e-4)
        h = mx.array(x[:3].astype(np.float32))
        np.testing.assert_allclose(np.array(found(h)), x[:3] + x[:3] @ got + np.array(found.bias), rtol=1e-3, atol=1e-3)
    still = np.concatenate([np.ones((9, 5)), np.ones((9, 1))], axis=1)
    assert np.isfinite(np.array(_solve(still.T @ still, still.T @ np.ones((9, 5)), 2).a)).all()
    assert np.array(_nothing(3)(mx.ones((2, 3)))).tolist() == [[1.0] * 3] * 2


def test_a_lens_says_which_rows_it_made_worse() -> None:
    lens = TunedLens((_nothing(2),) * 4, (1.0, 1.0, 1.0, 1.0), (0.5, 1.0, 2.0, float("nan")))
    assert lens.worse == (1, 2, 3)
    h = [mx.full((1, 1, 2), i) for i in range(5)]
    assert [float(x[0, 0, 0]) for x in lens.translate(h)] == [0, 1, 2, 3, 4] and lens.translate(h)[-1] is h[-1]
    for count in (4, 6):
        with pytest.raises(CheckpointError, match=f"for 4 layers, the model has {count - 1}"):
            lens.translate(h[:1] * count)


def test_lenses_and_directions_are_kept_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIKELY_HOME", str(tmp_path))
    assert (
        tuned_lens.place("a" * 40) == tmp_path / "lenses" / f"{'a' * 32}.safetensors"
        and steering.place("kind-1_b.c") == tmp_path / "directions" / "kind-1_b.c"
    )
    for name in ("", ".x", "a/b", "a b", "é"):
        with pytest.raises(ParameterError, match="a direction's name is of letters, digits"):
            steering.place(name)
    info: Any = SimpleNamespace(weights="b" * 40, name="m")
    with pytest.raises(ParameterError, match="no tuned lens is kept for m"):
        tuned_lens.kept(info)
    lens = TunedLens((Translator(mx.ones((2, 1)), mx.ones((1, 2)), mx.zeros(2)),), (0.5,), (0.25,))
    tuned_lens.save(tuned_lens.place(info.weights), lens)
    again = tuned_lens.kept(info)
    assert (again.before, again.after) == ((0.5,), (0.25,)) and np.array(again.translators[0].a).tolist() == [
        [1.0],
        [1.0],
    ]
    found = Direction(3, mx.array([3.0, 4.0]), "m")
    assert found.norm == 5.0
    steering.save(tmp_path / "d", found)
    read = steering.read(tmp_path / "d")
    assert (
        (read.layer, read.model, read.vector.tolist()) == (3, "m", [3.0, 4.0])
        and steering.is_direction(tmp_path / "d")
        and not steering.is_direction(tmp_path)
    )
    (tmp_path / "d" / steering.CONFIG).write_text('{"format": 1, "layer": 2}')
    assert steering.read(tmp_path / "d").model == ""
    for text, line in (
        ('{"format": 2, "layer": 2}', "of another format"),
        ("{", "no direction that can be read"),
        ('{"format": 1}', "layer is missing"),
    ):
        (tmp_path / "d" / steering.CONFIG).write_text(text)
        with pytest.raises(CheckpointError, match=line):
            steering.read(tmp_path / "d")
    for wrong in (mx.array([[1.0]]), mx.array([1.0, np.inf])):
        steering.save(tmp_path / "e", Direction(0, wrong))
        with pytest.raises(CheckpointError, match="numbers that are none"):
            steering.read(tmp_path / "e")
    with pytest.raises(DataError, match="cannot write"):
        steering.save(tmp_path / "d" / steering.CONFIG / "x", found)


def test_directions_lie_on_blocks_in_any_order() -> None:
    model: Any = SimpleNamespace(
        blocks=[lambda x: x, SimpleNamespace(word="own", base_=1)], config=SimpleNamespace(width=2)
    )
    below, own = model.blocks
    vector = mx.array([1.0, 2.0])
    one, two, three = (steering.attach(model, Direction(0, vector), weight) for weight in (1.0, -0.5, 2.0))
    assert (
        model.blocks[0] is three
        and np.array(model.blocks[0](mx.zeros(2))).tolist() == [2.5, 5.0]
        and three.shift.tolist() == [2.0, 4.0]
    )
    steering.detach(model, 0, two)
    assert np.array(model.blocks[0](mx.zeros(2))).tolist() == [3.0, 6.0]
    steering.detach(model, 0, one)
    steering.detach(model, 0, three)
    assert model.blocks[0] is below and SteeredBlock(own, vector, 1.0).word == "own"
    for layer in (-1, 2):
        with pytest.raises(ParameterError, match=f"a layer must be 0 to 1, got {layer}"):
            steering.attach(model, Direction(layer, vector))
    for width, line in ((3, "3 numbers does not fit a model of width 2: it was made with m"), (1, "1 numbers")):
        with pytest.raises(CheckpointError, match=line):
            steering.attach(model, Direction(0, mx.ones(width), "m"))
    with pytest.raises(CheckpointError, match="made with another model"):
        steering.attach(model, Direction(0, mx.ones(3)))
    for toward, away in (([], [[1]]), ([[1]], []), ([[]], [[1]]), ([[1]], [[1], []])):
        with pytest.raises(ParameterError, match="at least one of each, none empty"):
            steering.direction(model, toward, away, 0)


# -- what is looked at -------------------------------------------------------------------------------------------------


def test_no_more_is_looked_at_than_memory_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    model = SimpleNamespace(config=SimpleNamespace(heads=4))
    monkeypatch.setattr(subject, "as_graph", lambda model: model)
    session: Any = SimpleNamespace(context=600, model=model, info=SimpleNamespace(name="m"))
    for count, first in ((600, 88), (512, 0), (3, 0), (513, 1)):
        found = subject.subject(session, range(count))
        assert found.first == first and found.positions == range(first, count) and found.ids == tuple(range(count))
    assert subject.subject(session, range(9), rows=4).first == 5
    monkeypatch.setattr(subject, "WEIGHTS", 4 * 4 * 100 * 7)
    assert subject.subject(session, range(100)).first == 93 and subject.subject(session, range(600)).first == 599
    with pytest.raises(ParameterError, match="there is nothing to look into"):
        subject.subject(session, [])
    with pytest.raises(ContextOverflow, match="has 601 tokens and this model reads at most 600"):
        subject.subject(session, range(601))
    monkeypatch.setattr(subject, "as_graph", lambda model: None)
    with pytest.raises(ParameterError, match="m runs as SimpleNamespace, whose layers and heads cannot be seen"):
        subject.subject(session, [1])


def test_names_of_activations() -> None:
    model: Any = SimpleNamespace(blocks=[0, 0])
    assert saved.names(model) == [
        "embedding",
        *(f"layers.{i}.{site}" for i in (0, 1) for site in ("heads", "attention", "mlp", "residual", "pattern")),
        "logits",
    ]
    text: Any = SimpleNamespace(model=model, ids=(1,))
    with pytest.raises(
        ParameterError, match=r"nothing is called layers\.2\.\*: there are embedding, logits and, from 0 to 1"
    ):
        saved.activations(text, ["embedding", "layers.2.*"])
