"""The prefix cache: starts where a text was read before, within its budget, and never with another model's numbers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import models
from engine.decode.control import Control, Done, Emitted
from engine.decode.cursor import Cursor
from engine.errors import CacheError
from engine.prefix import SEGMENT, Prefixes, read
from engine.session import Session
from engine.trace import Recipe
from metal import mx
from tests.engine.tiny import LLAMA, weights
from tests.fakes import VOCAB, FakeCheckpoint

CONFIG = LLAMA | {"vocab_size": VOCAB, "max_position_embeddings": 512}
TEXT = [int(t) for t in np.random.default_rng(0).integers(0, 256, 300)]


def model() -> Any:
    return models.build(CONFIG, {n: mx.array(w) for n, w in weights(CONFIG).items()})


def read_all(net: Any, ids: list[int], prefixes: Prefixes | None = None, **cache: Any) -> tuple[Cursor, int]:
    """A cursor after `ids`, and how many tokens of them it had to read."""
    cursor = Cursor(net, net.make_cache(**cache))
    have = prefixes.restore(ids, cursor) if prefixes is not None else 0
    list(cursor.read(ids[have:]))
    return cursor, len(ids) - have


def test_a_text_read_before_is_not_read_again_and_says_the_same(tmp_path: Path) -> None:
    net = model()
    first, count = read_all(net, TEXT)
    assert count == len(TEXT)
    for prefixes in (Prefixes("m"), Prefixes("m", folder=tmp_path)):
        prefixes.keep(first)
    for known in (prefixes, Prefixes("m", folder=tmp_path)):  # in memory, and in another process's files
        again, count = read_all(net, TEXT, known)
        assert count == len(TEXT) % SEGMENT
        assert again.ids == first.ids and again.length == again.cache.length == len(TEXT)
        np.testing.assert_allclose(np.asarray(again.logits()), np.asarray(first.logits()), atol=1e-5)
        np.testing.assert_allclose(np.asarray(again.logits_at(0, 9)), np.asarray(first.logits_at(0, 9)), atol=1e-5)


def test_texts_share_what_they_begin_with(tmp_path: Path) -> None:
    net, prefixes = model(), Prefixes("m", folder=tmp_path)
    prefixes.keep(read_all(net, TEXT)[0])
    other = [*TEXT[:200], *reversed(TEXT[:100])]
    cursor, count = read_all(net, other, prefixes)
    assert count == len(other) - 200 // SEGMENT * SEGMENT
    prefixes.keep(cursor)
    shared, one, two = 200 // SEGMENT, len(TEXT) // SEGMENT, len(other) // SEGMENT
    assert len(list(tmp_path.iterdir())) == one + two - shared
    plain, _ = read_all(net, other)
    np.testing.assert_allclose(np.asarray(cursor.logits()), np.asarray(plain.logits()), atol=1e-5)


def test_a_shorter_text_than_a_segment_is_read() -> None:
    net, prefixes = model(), Prefixes("m")
    prefixes.keep(read_all(net, TEXT[: SEGMENT - 1])[0])
    assert prefixes.nbytes == 0 and read_all(net, TEXT[: SEGMENT - 1], prefixes)[1] == SEGMENT - 1


def test_another_model_or_adapter_finds_nothing(tmp_path: Path) -> None:
    Prefixes("m", "a", folder=tmp_path).keep(read_all(model(), TEXT)[0])
    for prefixes in (Prefixes("n", "a", folder=tmp_path), Prefixes("m", folder=tmp_path)):
        assert read_all(model(), TEXT, prefixes)[1] == len(TEXT)


def test_the_least_recently_used_leave_first_and_ends_before_beginnings(tmp_path: Path) -> None:
    net = model()
    one = read_all(net, TEXT[: 3 * SEGMENT])[0]
    two = read_all(net, TEXT[::-1][: 2 * SEGMENT])[0]
    free = Prefixes("m")
    free.keep(one)
    size = free.nbytes // 3
    room = Prefixes("m", memory=4 * size)
    room.keep(one)
    room.keep(two)
    assert room.nbytes == 4 * size
    assert read_all(net, one.ids, room)[1] == SEGMENT  # lost its last segment
    assert read_all(net, two.ids, room)[1] == 0
    disk = Prefixes("m", folder=tmp_path, memory=0)
    disk.keep(one)
    file = next(tmp_path.iterdir()).stat().st_size
    disk.disk = 4 * file + file // 2
    disk.keep(two)
    assert len(list(tmp_path.iterdir())) == 4
    assert read_all(net, one.ids, disk)[1] == SEGMENT and read_all(net, two.ids, disk)[1] == 0


def test_caches_that_forget_or_pack_are_left_alone() -> None:
    net, prefixes = model(), Prefixes("m")
    cursor, _ = read_all(net, TEXT, window=32)
    prefixes.keep(cursor)
    assert prefixes.nbytes == 0
    prefixes.keep(read_all(net, TEXT)[0])
    assert read_all(net, TEXT, prefixes, window=32)[1] == len(TEXT)


def test_what_is_wrong_with_a_file_is_said(tmp_path: Path) -> None:
    net = model()
    Prefixes("m", "a", folder=tmp_path).keep(read_all(net, TEXT[:SEGMENT])[0])
    (path,) = tmp_path.iterdir()
    tokens = TEXT[:SEGMENT]
    read(path, tokens, model="m", adapter="a")
    for wrong, says in (
        ({"model": "n", "adapter": "a"}, "of another model.*expected n, got m"),
        ({"model": "m", "adapter": ""}, "of another adapter.*expected none, got a"),
    ):
        with pytest.raises(CacheError, match=says):
            read(path, tokens, **wrong)
    with pytest.raises(CacheError, match="tokens are others"):
        read(path, tokens[::-1], model="m", adapter="a")
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'"version":"1"', b'"version":"7"'))
    with pytest.raises(CacheError, match=r"of another version.*expected 1, got 7"):
        read(path, tokens, model="m", adapter="a")
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CacheError, match="is damaged, remove it"):
        read_all(net, TEXT, Prefixes("m", "a", folder=tmp_path))
    mx.save_safetensors(str(path), {"x": mx.zeros(3)})
    with pytest.raises(CacheError, match="not a prefix written here"):
        read(path, tokens, model="m", adapter="a")


@pytest.mark.parametrize("answers", [1, 3])
def test_a_second_session_starts_within_one_segment(tmp_path: Path, answers: int) -> None:
    drawn = []
    for _ in range(2):
        session = Session(FakeCheckpoint(model()), Prefixes("m", folder=tmp_path))  # type: ignore[arg-type]
        control = Control(Recipe(greedy=True))
        events = list(session.answers(TEXT, control, answers, max_tokens=5))
        drawn.append([(e.branch, e.step.token) for e in events if isinstance(e, Emitted)])
        done = next(e for e in events if isinstance(e, Done))
    assert done.stats.reused_tokens == len(TEXT) // SEGMENT * SEGMENT
    assert drawn[0] == drawn[1]
