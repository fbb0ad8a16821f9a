"""The prefix cache: starts where a text was read before, within its budget, and never with another model's numbers."""

import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import likely.models as models
from likely.engine.base.errors import CacheError
from likely.engine.decode.loop.branches import CHUNK, Branches
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.events import Done, Emitted
from likely.engine.decode.prefix_cache import SEGMENT, Prefixes, read
from likely.engine.decode.session import Session
from likely.engine.sampling.trace.step import SamplingConfig
from likely.metal import mx
from tests.engine.tiny import LLAMA, weights
from tests.fakes import VOCAB, FakeCheckpoint
from tests.support.limits import file_size_limit

CONFIG = LLAMA | {"vocab_size": VOCAB, "max_position_embeddings": 2048, "head_dim": 32}
TEXT = [int(t) for t in np.random.default_rng(0).integers(0, 256, 300)]
LONG = [int(t) for t in np.random.default_rng(1).integers(0, 256, 1300)]
GEMMA = CONFIG | {
    "model_type": "gemma3_text", "sliding_window": 40, "sliding_window_pattern": 2, "query_pre_attn_scalar": 32,
    "rope_local_base_freq": 1e4, "tie_word_embeddings": True,
}  # fmt: skip


def scaled(**table: Any) -> dict[str, Any]:
    return {"rope_scaling": {"original_max_position_embeddings": 700} | table}


LONGROPE = CONFIG | scaled(
    type="longrope", short_factor=[1.0] * 16, long_factor=[*map(float, range(1, 17))], factor=2.0
)


KINDS: dict[str, tuple[dict[str, Any], dict[str, Any], int]] = {  # configuration, cache, tokens of a segment
    "all rows": (CONFIG, {}, SEGMENT),
    "a window": (CONFIG, {"window": 32}, SEGMENT),
    "a window with sinks": (CONFIG, {"window": 100, "sinks": 70}, SEGMENT),
    "windows and all": (GEMMA, {}, SEGMENT),
    "4 bits": (CONFIG, {"bits": 4}, CHUNK),
    "8-bit values, no row exact": (CONFIG, {"bits": (16, 8), "exact": 0}, CHUNK),
    "more exact rows than a segment": (CONFIG, {"bits": 4, "exact": 600}, CHUNK),
    "windows and 8 bits": (GEMMA, {"bits": 8}, CHUNK),
    "longrope": (LONGROPE, {}, SEGMENT),
}


def model(config: dict[str, Any] = CONFIG) -> Any:
    return models.build(config, {n: mx.array(w) for n, w in weights(config).items()})


def read_all(
    net: Any, ids: list[int], prefixes: Prefixes | None = None, *, keep: bool = True, **cache: Any
) -> tuple[Branches, int]:
    """A branch after `ids`, and how many tokens of them it had to read."""
    branch = Branches(net, net.make_cache(**cache))
    have = prefixes.restore(ids, branch) if prefixes is not None else 0
    for _ in branch.read(ids[have:]):
        if prefixes is not None and keep:
            prefixes.keep(branch)
    return branch, len(ids) - have


def drawn(branch: Branches, count: int = 12) -> tuple[list[int], np.ndarray]:
    """The most likely continuation, and the last logits."""
    start = len(branch.ids[0])
    for _ in range(count):
        token = int(np.asarray(branch.logits()[0]).argmax())
        branch.feed([token])
        branch.settle([token])
    return branch.ids[0][start:], np.asarray(branch.logits()[0])


@pytest.mark.slow
@pytest.mark.usefixtures("either_device")
@pytest.mark.parametrize("kind", KINDS)
def test_a_text_that_begins_as_one_before_gets_the_same_tokens(kind: str, tmp_path: Path) -> None:
    config, cache, size = KINDS[kind]
    net, kept = model(config), Prefixes("m", folder=tmp_path)
    read_all(net, LONG, kept, **cache)
    other = [*LONG[:1100], *LONG[200::-1]]
    for text, rest in ((LONG, 0), (other, len(other) - 1100 // size * size), (LONG[:1024], 1024 % size)):
        want, logits = drawn(read_all(net, text, **cache)[0])
        for known in (kept, Prefixes("m", folder=tmp_path)):  # in memory, and in another process's files
            branch, count = read_all(net, text, known, keep=False, **cache)
            assert count == rest and branch.ids == [text] and branch.length == branch.cache.length == len(text)
            again, close = drawn(branch)
            assert again == want
            np.testing.assert_allclose(close, logits, atol=1e-4 if size == SEGMENT else 0)


def test_reading_can_be_stopped_between_two_chunks(either_device: str) -> None:
    """Where a chunk is queued before the one before it is waited for, what is in flight stands where it was read to:
    going on from there changes no logit."""
    net, first = model(), [0] if either_device == "gpu" else []
    branch = Branches(net, net.make_cache())
    assert list(branch.read(LONG)) == [*first, 512, 1024, 1300]
    want = np.asarray(branch.logits()[0])
    for steps in (1, 2):
        stopped = Branches(net, net.make_cache())
        reading = stopped.read(LONG)
        for _ in range(steps):
            next(reading)
        reading.close()
        assert stopped.length == stopped.cache.length == len(stopped.ids[0]) == 512 * steps
        list(stopped.read(LONG[512 * steps :]))
        assert stopped.ids == [LONG]
        np.testing.assert_allclose(np.asarray(stopped.logits()[0]), want, atol=1e-4)


@pytest.mark.slow
def test_longrope_keys_are_found_by_texts_that_turn_them_alike() -> None:
    net, prefixes = model(LONGROPE), Prefixes("m")
    read_all(net, LONG[:300], prefixes)
    assert read_all(net, LONG[:600], prefixes, keep=False)[1] == 600 - 300 // SEGMENT * SEGMENT
    assert read_all(net, LONG[:701], prefixes, keep=False)[1] == 701  # past `original_max_position_embeddings`
    for length in (600, 700):  # crosses it while drawing, the second with its very first token
        read_all(net, LONG[:length], prefixes)
        again, count = read_all(net, LONG[:length], prefixes)
        assert count == 0
        assert drawn(again, 120)[0] == drawn(read_all(net, LONG[:length])[0], 120)[0]


@pytest.mark.parametrize("config", [CONFIG, GEMMA], ids=["all", "those of full layers"])
def test_dynamic_keys_are_found_by_texts_as_long(config: dict[str, Any]) -> None:
    """One rotation of two that depends on the length names the keys too."""
    net, prefixes = model(config | scaled(type="dynamic", factor=2.0)), Prefixes("m")
    assert [rotation.rope.kind for rotation in net.rotations].count("dynamic") == 1
    read_all(net, LONG[:900], prefixes)
    other = [*LONG[:850], *LONG[:50]]
    branch, count = read_all(net, other, prefixes)
    assert count == 900 - 850 // SEGMENT * SEGMENT
    assert drawn(branch)[0] == drawn(read_all(net, other)[0])[0]
    assert read_all(net, LONG[:900], prefixes)[1] == 0 and read_all(net, LONG[:901], prefixes)[1] == 901


def test_packed_rows_are_kept_only_of_texts_read_in_one_go() -> None:
    net, prefixes = model(), Prefixes("m")
    branch = Branches(net, net.make_cache(bits=8))
    list(branch.read(LONG[:300]))
    for _ in branch.read(LONG[300:]):
        prefixes.keep(branch)
    assert prefixes.nbytes == 0
    branch.rewind(0)
    for _ in branch.read(LONG):
        prefixes.keep(branch)
    assert prefixes.nbytes > 0


def test_kinds_of_caches_do_not_meet() -> None:
    net, prefixes = model(), Prefixes("m")
    kinds: list[dict[str, Any]] = [{}, {"window": 32}, {"window": 32, "sinks": 1}, {"bits": 4}, {"bits": 8}]
    for options in kinds:
        assert read_all(net, TEXT, prefixes, **options)[1] == len(TEXT)
    for options in kinds:
        assert read_all(net, TEXT, prefixes, **options)[1] == 0


def test_texts_share_what_they_begin_with(tmp_path: Path) -> None:
    net, prefixes = model(), Prefixes("m", folder=tmp_path)
    read_all(net, TEXT, prefixes)
    other = [*TEXT[:200], *reversed(TEXT[:100])]
    read_all(net, other, prefixes)
    shared, segments = 200 // SEGMENT, -(-len(TEXT) // SEGMENT)
    assert len(list(tmp_path.iterdir())) == 2 * segments - shared


def test_another_model_or_adapter_finds_nothing(tmp_path: Path) -> None:
    read_all(model(), TEXT, Prefixes("m", "a", folder=tmp_path))
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
    assert read_all(net, one.ids[0], room, keep=False)[1] == SEGMENT  # lost its last segment
    assert read_all(net, two.ids[0], room, keep=False)[1] == 0
    disk = Prefixes("m", folder=tmp_path, memory=0)
    disk.keep(one)
    file = next(tmp_path.iterdir()).stat().st_size
    disk.disk = 4 * file + file // 2
    disk.keep(two)
    assert len(list(tmp_path.iterdir())) == 4
    assert read_all(net, one.ids[0], disk, keep=False)[1] == SEGMENT
    assert read_all(net, two.ids[0], disk, keep=False)[1] == 0


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
    path.write_bytes(whole.replace(b'"version":"3"', b'"version":"7"'))
    with pytest.raises(CacheError, match=r"of another version.*expected 3, got 7"):
        read(path, tokens, model="m", adapter="a")
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CacheError, match="is damaged, remove it"):
        read(path, tokens, model="m", adapter="a")
    said: list[str] = []
    again = Prefixes("m", "a", folder=tmp_path, tell=said.append)
    assert (
        read_all(net, TEXT, again)[1] == len(TEXT) and len(said) == 1 and "is damaged" in said[0]
    )  # and costs no answer
    assert read_all(net, TEXT, Prefixes("m", "a", folder=tmp_path))[1] < len(TEXT)  # it was written anew
    mx.save_safetensors(str(path), {"x": mx.zeros(3)})
    with pytest.raises(CacheError, match="not a prefix written here"):
        read(path, tokens, model="m", adapter="a")


@pytest.mark.parametrize("answers", [1, 3])
def test_a_second_session_starts_at_once(tmp_path: Path, answers: int) -> None:
    drawn = []
    for _ in range(2):
        session = Session(FakeCheckpoint(model()), Prefixes("m", folder=tmp_path))  # type: ignore[arg-type]
        control = RunControl(SamplingConfig(greedy=True))
        events = list(session.generate(TEXT, control, n=answers, max_tokens=5))
        drawn.append([(e.branch, e.step.token) for e in events if isinstance(e, Emitted)])
        done = next(e for e in events if isinstance(e, Done))
    assert done.stats.reused_tokens == len(TEXT)
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize("where", ["a folder that cannot be made", "no room for a file", "a file that is not ours"])
def test_files_that_cannot_be_written_cost_no_answer(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said once, and what was read is remembered in memory all the same."""
    folder, said = tmp_path / "prefixes", list[str]()
    if where == "a folder that cannot be made":
        folder.write_text("kept")

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(1, "not permitted")

    if where == "a file that is not ours":
        monkeypatch.setattr(os, "utime", refuse)
    net, prefixes = model(), Prefixes("m", folder=folder, tell=said.append)
    with file_size_limit(1000) if where == "no room for a file" else nullcontext():
        branch, count = read_all(net, TEXT, prefixes)
    assert count == len(TEXT) and len(said) == 1 and str(folder) in said[0]
    again, rest = read_all(net, TEXT, prefixes)
    assert rest < count and len(said) == 1
    assert drawn(again, 5)[0] == drawn(branch, 5)[0]
    if where == "a folder that cannot be made":
        assert folder.read_text() == "kept"
