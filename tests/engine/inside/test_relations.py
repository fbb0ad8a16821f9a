"""Relations and merges, by their definitions in numpy and by the library's own encoder."""

import itertools
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from likely.engine.base.errors import NotFinite, ParameterError
from likely.engine.inside.embeddings import EmbeddingTable
from likely.engine.inside.merges import merges
from likely.engine.inside.relations import RELATIONS, accuracies
from likely.engine.inside.summands import summands
from likely.engine.text.tokenizer.encoder import LibraryEncoder
from likely.metal import mx

WORDS = sorted({word for pairs in RELATIONS.values() for pair in pairs for word in pair})


class Whole:
    """A tokenizer of whole words, each with the space before it; others are two tokens."""

    def __init__(self, words: list[str]) -> None:
        self.words = words

    def encode(self, text: str) -> list[int]:
        return [self.words.index(text[1:])] if text[1:] in self.words and text[0] == " " else [0, 0]


def table(rows: np.ndarray) -> EmbeddingTable:
    model: Any = SimpleNamespace(embed=SimpleNamespace(matrix=mx.array(rows.astype(np.float32))))
    return EmbeddingTable(model)


def test_a_table_is_one_whatever_is_unpacked_at_once() -> None:
    """Of more rows than go into a part, against float64; numbers that are none are refused."""
    rows = np.random.default_rng(3).normal(size=(9000, 4)) + 1
    made, mean = table(rows), rows.mean(axis=0)
    np.testing.assert_allclose(np.array(made.mean), mean, rtol=1e-4)
    np.testing.assert_allclose(made.norms(centred=True), np.linalg.norm(rows - mean, axis=1), rtol=1e-4)
    cosines = rows @ rows[8500] / np.linalg.norm(rows, axis=1)
    cosines[8500] = -np.inf
    assert made.neighbours(8500, 1)[0].id == cosines.argmax()
    rows[8999, 2] = np.nan
    with pytest.raises(NotFinite, match="an embedding holds NaN"):
        table(rows).cosines(mx.ones((1, 4)))


def test_accuracy_by_its_definition() -> None:
    """Two relations that are a constant shift, to noise; the others at random: against cosines one by one."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(len(WORDS) + 20, 24))
    for name in ("cat : cats", "go : went"):
        shift = rng.normal(size=24)
        for one, other in RELATIONS[name]:
            rows[WORDS.index(other)] = rows[WORDS.index(one)] + shift + 0.4 * rng.normal(size=24)
    found = {each.name: each for each in accuracies(table(rows), Whole(WORDS))}
    rows = rows - rows.mean(axis=0)
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    for name, pairs in RELATIONS.items():
        kept, left_out = [], []
        for (a, b), (c, d) in itertools.permutations([tuple(map(WORDS.index, pair)) for pair in pairs], 2):
            cosines = units @ (units[b] - units[a] + units[c])
            kept.append(cosines.argmax() == d)
            cosines[[a, b, c]] = -np.inf
            left_out.append(cosines.argmax() == d)
        assert found[name].sums == 90
        assert found[name].kept == pytest.approx(np.mean(kept))
        assert found[name].left_out == pytest.approx(np.mean(left_out))
    assert found["cat : cats"].left_out > 0.5 > found["big : bigger"].left_out
    assert found["all"].sums == 450
    low, high = found["cat : cats"].interval
    assert high - low > 2 * 1.96 * np.sqrt(0.25 / 90) * 0.5  # sums of one pair are not independent


def test_a_sum_is_read() -> None:
    token_of = {"man": 0, "woman": 1, "king": 2}.get
    assert summands("king - man + woman", token_of) == ([2, 1], [0]) == summands("king−man +woman", token_of)
    for text, words in (("king", "two words"), ("- king - man", "two words"), ("king + pawn", "pawn is not one token")):
        with pytest.raises(ParameterError, match=words):
            summands(text, token_of)


def test_a_shadow_is_the_plane_of_the_words_under_all_tokens() -> None:
    rows = np.random.default_rng(2).normal(size=(30, 7)) + 3
    made = table(rows)
    points, kept = made.shadow([1, 4, 7, 9])
    values, axes = np.linalg.eigh(np.cov(rows[[1, 4, 7, 9]].T))
    assert points.shape == (30, 2) and kept == pytest.approx(values[-2:].sum() / values.sum())
    assert np.allclose(np.abs(points), np.abs((rows - rows[[1, 4, 7, 9]].mean(0)) @ axes[:, :-3:-1]), atol=1e-4)
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    cosines = units @ units.T
    assert made.alikeness() == pytest.approx((cosines.sum() - 30) / (30 * 29), abs=1e-5)


@pytest.fixture(scope="module")
def library() -> Any:
    """A byte-pair encoding that was trained here."""
    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    made.train_from_iterator(["the cat sat on the mat, the cats sat on the mats and the bats"] * 4, trainer)
    return made


def wrapped(library: Any) -> Any:
    def piece(token: int) -> bytes:
        return bytes(library.decode([token]), "utf-8") if token < library.get_vocab_size() else b""

    return SimpleNamespace(
        encoder=LibraryEncoder(lambda: library), piece=piece, encode=lambda text: library.encode(text).ids
    )


@pytest.mark.parametrize("text", ["the cats sat", " mats", "bathe", "t", "\n\nthe"])
def test_merges_end_at_the_tokens(library: Any, text: str) -> None:
    steps = merges(wrapped(library), text)
    assert [len(step) for step in steps] == list(
        range(len(text), len(steps[-1]) - 1, -1)
    )  # ASCII: one joined each time
    assert all(b"".join(step) == text.encode() for step in steps)
    assert list(steps[-1]) == [library.decode([id]).encode() for id in library.encode(text).ids]


def test_a_tokenizer_without_merges_says_so(library: Any) -> None:
    other = tokenizers.Tokenizer(models.WordLevel({"the": 0}, unk_token="the"))
    for encoder in (LibraryEncoder(lambda: other), SimpleNamespace()):
        with pytest.raises(ParameterError, match="not by a table of merges"):
            merges(SimpleNamespace(encoder=encoder), "the")  # type: ignore[arg-type]
