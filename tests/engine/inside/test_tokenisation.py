"""Other ways to write a text: all of them, by their probability."""

import math
from pathlib import Path

import numpy as np
import pytest

from likely.engine.base.errors import ParameterError
from likely.engine.decode.session import Session
from likely.engine.inside.tokenization import spellings, tokenisation
from likely.metal import mx
from tests.engine import tiny


@pytest.fixture
def session(tmp_path: Path) -> Session:
    from likely.engine.weights.sources.checkpoint import load

    arrays = {name: mx.array(array) for name, array in tiny.weights(tiny.LLAMA).items()}
    return Session(load(str(tiny.write_folder(tmp_path / "model", tiny.LLAMA, arrays))))


def test_every_way_once_the_shortest_first() -> None:
    pieces = {b"a": [1], b"b": [2], b"ab": [3, 4], b"ba": [5], b"aba": [6]}
    found = list(spellings(pieces, b"aba"))
    assert found[0] == (6,) and [len(ids) for ids in found] == sorted(map(len, found))
    assert sorted(found) == sorted([(6,), (3, 1), (4, 1), (1, 5), (1, 2, 1)])
    assert list(spellings(pieces, b"abc")) == [] and list(spellings({}, b"a")) == []
    many = list(spellings({b"a": [1], b"aa": [2], b"aaa": [3]}, b"a" * 10))
    assert len(many) == len(set(many)) == 274  # tribonacci: ordered sums of 1, 2 and 3


def test_a_text_is_at_least_as_likely_as_its_own_tokens(session: Session) -> None:
    found = tokenisation(session, "abab", before="x")
    ab, a, b = (session.tokenizer.encode(text)[0] for text in ("ab", "a", "b"))
    assert found.own.ids == (ab, ab) and found.complete
    assert {spelling.ids for spelling in found.spellings} == {(ab, ab), (a, b, ab), (ab, a, b), (a, b, a, b)}
    for spelling in found.spellings:
        ids = [session.tokenizer.encode("x")[0], *spelling.ids]
        rows = np.array(session.model(mx.array([ids]))[0], np.float64)
        rows -= np.log(np.exp(rows).sum(-1, keepdims=True))
        want = sum(rows[i, token] for i, token in enumerate(spelling.ids))
        assert spelling.logprob == pytest.approx(want, abs=1e-4)
    assert math.exp(found.logprob) == pytest.approx(sum(math.exp(s.logprob) for s in found.spellings))
    assert found.logprob > found.own.logprob
    few = tokenisation(session, "abab", before="x", most=2)
    assert not few.complete and len(few.spellings) == 2 and few.own.ids == (ab, ab)


def test_what_cannot_be_spelled_otherwise(session: Session) -> None:
    with pytest.raises(ParameterError, match="give words before"):
        tokenisation(session, "abab")
    with pytest.raises(ParameterError, match="1 to 64 bytes"):
        tokenisation(session, "", before="x")
    with pytest.raises(ParameterError, match="move the boundary"):
        tokenisation(session, "b", before="a")
