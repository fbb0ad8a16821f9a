"""Why this token and not that one: ranks, addends and left-out words against the model read plainly."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from likely.engine.base.errors import ParameterError
from likely.engine.decode.session import Session
from likely.engine.inside.causes import sentences, why
from likely.engine.inside.lens import states
from likely.engine.inside.subject import subject
from likely.engine.inside.why import Omission, Why, written
from likely.engine.weights.sources.checkpoint import load
from likely.metal import mx
from tests.engine.inside.test_inside import model_of
from tests.engine.sources.test_gguf_packed import WIDE
from tests.engine.tiny import weights, write_gguf
from tests.fakes import FakeCheckpoint
from tests.models.oracle import tokens
from tests.models.test_families import V

TARGET, FOIL = 3, 17  # neither of which is ever the favourite here


@pytest.fixture(params=["llama", "llama sliding", "gemma 2", "gpt-2", "qwen3 moe", "native"])
def session(request: pytest.FixtureRequest, tmp_path: Path) -> Session:
    if request.param == "native":
        return Session(load(write_gguf(tmp_path / "m.gguf", "llama", WIDE, weights(WIDE), "Q8_0")))
    return Session(FakeCheckpoint(model_of(request.param)))  # type: ignore[arg-type]


def answers(session: Session, ids: list[int], *how: int, **options: Any) -> tuple[Why, list[Omission]]:
    first, *rest = [event for event in why(session, ids, *how, **options) if event is not None]
    assert isinstance(first, Why)
    return first, rest  # type: ignore[return-value]


def logprobs(session: Session, ids: list[int]) -> np.ndarray:
    row = np.array(session.model(mx.array([ids]))[0, -1], np.float64)
    return np.asarray(row - np.log(np.exp(row - row.max()).sum()) - row.max())


def test_of_any_two_tokens(session: Session) -> None:
    ids = tokens(1, 12, V)[0].tolist()
    whole, (found, lost) = logprobs(session, ids), answers(session, ids, TARGET, FOIL)
    assert (found.target, found.foil) == (TARGET, FOIL)
    assert found.logprobs == pytest.approx((whole[TARGET], whole[FOIL]), abs=1e-4)
    # ranks: what the model would say after each layer
    text = subject(session, ids)
    for row, stream in zip(found.ranks, states(text), strict=True):
        logits = np.array(text.model.lens(stream)[0, -1], np.float64)
        assert row.tolist() == [1 + int((logits > logits[t] + 1e-6).sum()) for t in (TARGET, FOIL)]
    # addends: however many are shown, they are the difference of the two
    difference = whole[TARGET] - whole[FOIL]
    for most in (0, 3, 1000):
        rows = written(found.wrote, most)
        assert sum(row.nats for row in rows) == pytest.approx(difference, abs=5e-4)
        assert len(rows) == min(most, found.wrote.heads.size + len(found.wrote.mlp)) + (3 if most < 1000 else 1)
    other, _ = answers(session, ids, FOIL, TARGET)
    assert np.allclose(other.wrote.heads, -found.wrote.heads, atol=1e-4) and (other.ranks == found.ranks[:, ::-1]).all()
    # left out: as separate readings, each word once
    assert sorted((left.start, left.stop) for left in lost) == [(i, i + 1) for i in range(12)]
    for left in lost:
        want = whole[TARGET] - logprobs(session, ids[: left.start] + ids[left.stop :])[TARGET]
        assert left.nats == pytest.approx(want, abs=2e-4)
    assert max(abs(left.nats) for left in lost) > 1e-3


def test_the_favourite_and_its_runner_up_if_nothing_is_named(session: Session) -> None:
    ids = tokens(1, 5, V)[0].tolist()
    best = np.argsort(-logprobs(session, ids))
    found, _ = answers(session, ids)
    assert (found.target, found.foil) == (best[0], best[1]) and answers(session, ids, int(best[1]))[0].foil == best[0]
    assert found.attention.shape[2] == 5 and np.allclose(found.attention.sum(axis=2), 1, atol=1e-5)
    assert all(position for position, _ in found.reads(0, 0))


def test_of_a_long_text_sentences_come_before_words_and_marks_stay(tmp_path: Path) -> None:
    session = Session(load(write_gguf(tmp_path / "m.gguf", "llama", WIDE, weights(WIDE), "Q8_0")))
    text = "It rains. " * 8 + "It shines"
    ids = session.tokenizer.encode(text)
    marks = frozenset(ids[:1])
    _, lost = answers(session, ids, TARGET, skipped=marks)
    single = [left.start for left in lost if left.stop - left.start == 1]
    whole = [left for left in lost if left.stop - left.start > 1]
    assert lost[: len(whole)] == whole and len(single) == len(set(single)) >= 64 > len(single) - 11
    assert not any(ids[i] in marks for left in lost for i in range(left.start, left.stop))
    most = max(whole, key=lambda left: abs(left.nats))
    assert set(range(most.start, most.stop)) <= set(single)


def test_of_a_long_text_that_is_one_sentence_each_word_is_left_out(session: Session) -> None:
    ids = [session.tokenizer.encode("a")[-1], session.tokenizer.encode("b")[-1]] * 33
    _, lost = answers(session, ids, TARGET, FOIL)
    assert sorted((left.start, left.stop) for left in lost) == [(i, i + 1) for i in range(66)]


def test_of_an_early_word_behind_which_a_window_has_moved_on() -> None:
    session = Session(FakeCheckpoint(model_of("llama sliding")))  # type: ignore[arg-type]
    ids = tokens(1, 330, V)[0].tolist()
    for end in (300, 330):  # by turns: the cache lets go of what stands before the first
        for _ in session.read(ids[:end]):
            pass
    found, lost = answers(session, ids[:9], TARGET, FOIL)
    whole = logprobs(session, ids[:9])
    assert found.logprobs == pytest.approx((whole[TARGET], whole[FOIL]), abs=1e-4)
    for left in lost:
        want = whole[TARGET] - logprobs(session, ids[: left.start] + ids[left.stop : 9])[TARGET]
        assert left.nats == pytest.approx(want, abs=2e-4)


def test_what_a_window_of_keys_reads_without_a_word_it_has_moved_past() -> None:
    def windowed() -> Session:
        return Session(FakeCheckpoint(model_of("llama")), window=16, sinks=2)  # type: ignore[arg-type]

    session, ids = windowed(), tokens(1, 300, V)[0].tolist()
    ids[3:4], ids[4:] = [V - 1], [token % (V - 1) for token in ids[4:]]
    for end in (290, 300):
        for _ in session.read(ids[:end]):
            pass
    _, (omission,) = answers(session, ids, TARGET, FOIL, skipped=frozenset(range(V - 1)))
    rows = (windowed().logits_after(read).astype(np.float64) for read in (ids, ids[:3] + ids[4:]))
    whole, without = (float(row[TARGET] - np.logaddexp.reduce(row)) for row in rows)
    assert (omission.start, omission.stop) == (3, 4) and omission.nats == pytest.approx(whole - without, abs=2e-4)


def test_where_sentences_end() -> None:
    texts = ["Hi", ".", " You", " there", "?\n", "!", "Yes"]
    assert sentences(texts, range(7)) == [(0, 2), (2, 5), (5, 6), (6, 7)]
    assert sentences(texts, [0, 2, 3, 6]) == [(0, 1), (2, 4), (6, 7)]


def test_what_cannot_be_asked(session: Session) -> None:
    ids = [1, 2, 3]
    with pytest.raises(ParameterError, match="an id from 0 to"):
        [*why(session, ids, 1 << 20)]
    with pytest.raises(ParameterError, match="another than itself: both are 3"):
        [*why(session, ids, TARGET, TARGET)]
    assert answers(session, [5], TARGET)[1] == []  # nothing stands before it that could be left out
