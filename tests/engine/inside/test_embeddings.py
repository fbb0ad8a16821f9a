"""Tables of embeddings in parts against float64, and words and spellings by hand."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from engine.errors import NotFinite, ParameterError
from engine.inside import embeddings, tokenisation
from engine.inside.embeddings import EmbeddingTable, Neighbour, nearest, units
from engine.inside.merges import _first, _joined
from engine.inside.relations import summands, token_of
from engine.inside.tokenisation import Spelling, Tokenisation, spellings, tokens_by_piece
from metal import mx
from tests.fakes import ByteTokenizer

V, C = 23, 6
ROWS = np.random.default_rng(0).normal(size=(V, C)) + 1
ROWS[5] = 0


@pytest.fixture(params=[7, 23, 100])
def table(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> EmbeddingTable:
    monkeypatch.setattr(embeddings, "PART", request.param)
    return made(ROWS)


def made(rows: np.ndarray, which: str = "input") -> EmbeddingTable:
    own, other = (SimpleNamespace(matrix=mx.array(x.astype(np.float32))) for x in (rows, rows[:3]))
    model: Any = SimpleNamespace(
        embed=own if which == "input" else other, out=other if which == "input" else SimpleNamespace(base=own)
    )
    return EmbeddingTable(model, which)


def cosines(rows: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(rows, axis=1), np.linalg.norm(vectors, axis=-1)
    found: np.ndarray = vectors @ rows.T / np.maximum(lengths[0], 1e-30) / np.maximum(lengths[1][..., None], 1e-30)
    return found


def test_rows_of_either_table(table: EmbeddingTable) -> None:
    assert (
        (table.size, table.width) == (V, C)
        and made(ROWS, "output").size == V
        and [len(p) for p in table.parts()] in ([7, 7, 7, 2], [23])
    )
    np.testing.assert_allclose(np.array(table.rows([0, 22, 5])), ROWS[[0, 22, 5]], rtol=1e-6)
    for wrong in (-1, 23):
        with pytest.raises(ParameterError, match=f"must be 0 to 22, got {wrong}"):
            table.rows([0, wrong])
    with pytest.raises(ParameterError, match="one of input, output, got both"):
        made(ROWS, "both")


def test_lengths_and_cosines(table: EmbeddingTable) -> None:
    mean = ROWS.mean(axis=0)
    np.testing.assert_allclose(np.array(table.mean), mean, rtol=1e-5)
    assert table.mean is table.mean
    np.testing.assert_allclose(table.norms(), np.linalg.norm(ROWS, axis=1), rtol=1e-5)
    np.testing.assert_allclose(table.norms(centred=True), np.linalg.norm(ROWS - mean, axis=1), rtol=1e-5)
    vectors = np.random.default_rng(1).normal(size=(2, 3, C))
    x = mx.array(vectors.astype(np.float32))
    np.testing.assert_allclose(table.cosines(x), cosines(ROWS, vectors), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(
        table.cosines(x, centred=True), cosines(ROWS - mean, vectors - mean), rtol=1e-4, atol=1e-6
    )
    assert table.cosines(x)[..., 5].tolist() == [[0.0] * 3] * 2
    wrong = ROWS.copy()
    wrong[3, 2] = np.nan
    with pytest.raises(NotFinite, match="an embedding holds NaN"):
        made(wrong).cosines(x)


def test_neighbours_of_a_token_and_of_a_sum(table: EmbeddingTable) -> None:
    near = cosines(ROWS, ROWS[4])
    order = [int(i) for i in np.argsort(-near, kind="stable") if i != 4]
    found = table.neighbours(4)
    assert [n.id for n in found] == order[:10] and [n.cosine for n in found] == pytest.approx(
        near[order[:10]], abs=1e-5
    )
    assert len(table.neighbours(4, 3)) == 3
    mean = ROWS.mean(axis=0)
    unit = (ROWS - mean) / np.linalg.norm(ROWS - mean, axis=1, keepdims=True)
    total = cosines(ROWS - mean, unit[2] + unit[9] - unit[4])
    want = [int(i) for i in np.argsort(-total, kind="stable")]
    assert [n.id for n in table.sum_neighbours([2, 9], [4], 5, inputs=True)] == want[:5]
    assert [n.id for n in table.sum_neighbours([2, 9], [4], 5)] == [i for i in want if i not in (2, 4, 9)][:5]
    plain = cosines(ROWS, ROWS[2] / np.linalg.norm(ROWS[2]) + ROWS[9] / np.linalg.norm(ROWS[9]))
    assert table.sum_neighbours([2, 9], count=1, centred=False, inputs=True)[0].id == plain.argmax()
    with pytest.raises(ParameterError, match="a token that is added"):
        table.sum_neighbours([], [4])
    assert nearest(np.array([0.1, 0.5, 0.5, -np.inf]), 9) == [Neighbour(1, 0.5), Neighbour(2, 0.5), Neighbour(0, 0.1)]
    assert [n.id for n in nearest(np.array([0.1, 0.5, 0.4]), 2, [1])] == [2, 0]
    np.testing.assert_allclose(np.array(units(mx.array([[3.0, 4.0], [0.0, 0.0]]))), [[0.6, 0.8], [0, 0]], rtol=1e-6)


def test_a_plane_points_to_where_its_largest_loading_is_positive(table: EmbeddingTable) -> None:
    ids = [0, 3, 8, 12, 20]
    centre = ROWS[ids].mean(axis=0)
    _, lengths, axes = np.linalg.svd(ROWS[ids] - centre, full_matrices=False)
    axes = np.array([axis * np.sign(axis[np.abs(axis).argmax()]) for axis in axes[:2]])
    points, kept = table.plane(ids)
    np.testing.assert_allclose(points, (ROWS[ids] - centre) @ axes.T, rtol=1e-4, atol=1e-5)
    assert kept == pytest.approx((lengths[:2] ** 2).sum() / (lengths**2).sum(), rel=1e-5) and kept < 1
    shadow, same = table.shadow(ids)
    np.testing.assert_allclose(shadow, (ROWS - centre) @ axes.T, rtol=1e-4, atol=1e-5)
    assert (
        same == kept
        and made(np.ones((4, 3))).plane([0, 1, 2])[1] == 1.0
        and table.plane([0, 1, 2])[1] == pytest.approx(1)
    )
    with pytest.raises(ParameterError, match="three tokens or more, got 2"):
        table.plane([1, 2])


def test_how_alike_all_rows_are(table: EmbeddingTable) -> None:
    unit = np.delete(ROWS, 5, axis=0)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    all_pairs = unit @ unit.T
    n = len(unit)
    assert table.alikeness() == pytest.approx((all_pairs.sum() - n) / (n * (n - 1)), abs=1e-5)
    assert made(np.eye(4)).alikeness() == pytest.approx(0, abs=1e-6) and made(
        np.ones((3, 2))
    ).alikeness() == pytest.approx(1, abs=1e-5)
    assert made(np.array([[1.0, 0], [0, 0], [0, 0]])).alikeness() == 0.0
    assert made(np.array([[1.0, 0], [1, 0], [0, 0]])).alikeness() == pytest.approx(1)


# -- words and spellings -----------------------------------------------------------------------------------------------


def test_pairs_are_merged_by_the_order_in_which_they_were_learned() -> None:
    ranks = {("a", "b"): 2, ("b", "c"): 1, ("x", "y"): 0}
    assert (
        _first(ranks, ["a", "b", "c"]) == ("b", "c")
        and _first(ranks, ["a", "b"]) == ("a", "b")
        and _first(ranks, ["c"]) is None
    )
    assert _joined(list("abab"), ("a", "b")) == ["ab", "ab"] and _joined(list("aab"), ("a", "b")) == ["a", "ab"]
    assert _joined(list("aaa"), ("a", "a")) == ["aa", "a"] and _joined([], ("a", "b")) == []


def test_sums_of_words_are_read() -> None:
    words = {" king": [1], " man": [2], " woman": [3], " two words": [4, 5], " none": []}
    known: Any = SimpleNamespace(encode=lambda text: words.get(text, [0, 0]))
    assert token_of(known, "king") == 1 and token_of(known, "two words") is None and token_of(known, "none") is None
    for text, want in (
        ("king - man + woman", ([1, 3], [2])),
        ("king+man", ([1, 2], [])),
        ("king −man", ([1], [2])),
        ("- man king", ([1], [2])),
    ):
        assert summands(text, known) == want
    for text, line in (
        ("king", "two words or more"),
        ("- king - man", "two words"),
        ("", "two words"),
        ("king + zzz", "zzz is not one token"),
    ):
        with pytest.raises(ParameterError, match=line):
            summands(text, known)


class Pieces(ByteTokenizer):
    """Bytes, two pieces of two, and nothing between them that is a control token."""

    vocab_size = 260

    def piece(self, token: int, /) -> bytes:
        return {258: b"ab", 259: b"bb"}.get(token) or (super().piece(token) if token < 258 else b"")

    def is_special(self, token: int) -> bool:
        return token in (256, 257)

    def encode(self, text: str, *, bos: bool = False, special: bool = False) -> list[int]:
        ids, data, at = [257] * bos, text.encode(), 0
        while at < len(data):
            pair = {b"ab": 258}.get(data[at : at + 2])
            ids.append(pair or data[at])
            at += 2 if pair else 1
        return ids


def test_every_spelling_is_scored_and_the_likeliest_comes_first() -> None:
    asked: list[Any] = []

    def score(ids: list[int], *, start: int) -> list[Any]:
        asked.append((tuple(ids[:start]), tuple(ids[start:])))
        return [SimpleNamespace(logprob=-float(token) / 100) for token in ids[start:]]

    session: Any = SimpleNamespace(tokenizer=Pieces(), score=score)
    a, b = ord("a"), ord("b")
    found = tokenisation.tokenisation(session, "abb", before="x")
    assert (
        {s.ids for s in found.spellings} == {(258, b), (a, 259), (a, b, b)}
        and found.complete
        and found.own.ids == (258, b)
    )
    likely = sorted((-(sum(ids)) / 100 for ids in ((258, b), (a, 259), (a, b, b))), reverse=True)
    assert [s.logprob for s in found.spellings] == pytest.approx(likely)
    assert found.logprob == pytest.approx(np.log(sum(np.exp(s.logprob) for s in found.spellings))) and {
        prefix for prefix, _ in asked
    } == {(257, ord("x"))}
    assert [s.own for s in found.spellings].count(True) == 1
    for most, complete in ((3, True), (2, False), (1, False)):
        few = tokenisation.tokenisation(session, "abb", before="x", most=most)
        assert len(few.spellings) == most and few.complete == complete and few.own.ids == (258, b)
    assert len(tokenisation.tokenisation(session, "c" * 64).spellings) == 1
    for text, before, line in (
        ("", "x", "1 to 64 bytes can be spelled in other ways, got 0"),
        ("c" * 65, "x", "got 65"),
        ("b", "a", "'b' is not a run of whole tokens"),
    ):
        with pytest.raises(ParameterError, match=line):
            tokenisation.tokenisation(session, text, before=before)
    pieces = tokens_by_piece(Pieces())  # type: ignore[arg-type]
    assert pieces[b"ab"] == [258] and pieces[b"a"] == [a] and len(pieces) == 258 and b"<eos>" not in pieces
    assert list(spellings(pieces, b"abb")) == [(a, 259), (258, b), (a, b, b)]
    assert Tokenisation((Spelling((1,), -1.0, True),), True).logprob == pytest.approx(-1.0)
