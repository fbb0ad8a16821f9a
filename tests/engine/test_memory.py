"""The memory of a run: what stays resident, with a device that says it is a Mac, and what lies dead."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import models
from engine import pool
from engine.decode.control import RunControl
from engine.decode.events import Emitted
from engine.pool import SPARE
from engine.session import Session
from engine.sources.checkpoint import load
from metal import device, memory, mx
from metal.simulator import simulated
from models.cache import RowSize
from tests.engine.tiny import LLAMA, weights, write_folder
from tests.fakes import FakeCheckpoint
from tests.metal.test_whole_models import model


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The wired limits that are set, on a Mac that recommends 12 GiB; 7 stands before the first."""
    found: list[int] = []

    def set_limit(limit: int) -> int:
        found.append(limit)
        return 7

    monkeypatch.setattr(mx, "set_wired_limit", set_limit)
    monkeypatch.setattr(mx, "device_info", lambda *_: {"max_recommended_working_set_size": 12 << 30})
    device._device.cache_clear()
    with simulated():
        yield found
    device._device.cache_clear()


def needed(net: models.Transformer, positions: int) -> int:
    """Bytes of the keys and values of so many positions of one text."""
    return net.make_cache().needs(positions, RowSize(2 * 64, 4), 512)


def test_a_run_wires_the_model_and_the_cache_it_will_fill(limits: list[int]) -> None:
    net = model()
    session = Session(FakeCheckpoint(net))  # type: ignore[arg-type]
    size = sum(a.nbytes for a in net.arrays.values())
    for _ in session.generate([5, 17, 3], RunControl(), max_tokens=5):
        assert limits == [size + needed(net, 8) + SPARE]
    assert limits.pop() == 7
    events = session.generate([5, 17, 3], RunControl(), n=4, max_tokens=5)
    next(events)
    assert limits[1:] == [size + needed(net, 3) + 4 * needed(net, 5) + SPARE]
    events.close()  # type: ignore[attr-defined]
    assert limits.pop() == 7


@pytest.mark.slow
def test_a_run_wires_some_tokens_ahead_and_not_the_whole_context(
    limits: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "AHEAD", 100)
    net = model()
    session = Session(FakeCheckpoint(net))  # type: ignore[arg-type]
    size = sum(a.nbytes for a in net.arrays.values())
    tokens = [e for e in session.generate([5, 17, 3], RunControl(), max_tokens=400) if isinstance(e, Emitted)]
    assert len(tokens) > 200  # past what was wired at first
    assert limits[0] == size + needed(net, 103) + SPARE
    assert limits[-2] > limits[0]
    assert limits[-2] <= size + needed(net, 403) + SPARE


@pytest.fixture
def unlimited() -> Iterator[None]:
    """mlx keeps all that is freed, as it does on a Mac."""
    before = mx.set_cache_limit(1 << 40)
    mx.clear_cache()
    yield
    mx.set_cache_limit(before)
    mx.clear_cache()


@pytest.mark.slow
@pytest.mark.parametrize("kind", [{"bits": 4}, {"bits": (16, 8)}, {}], ids=["4 bits", "8-bit values", "plain"])
def test_a_cache_that_grows_leaves_little_dead(
    kind: dict[str, Any], unlimited: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Buffers that are too small by now are given back, not kept for whoever may ask for as little."""
    monkeypatch.setattr(memory, "FLOOR", 1 << 16)
    config = LLAMA | {"num_hidden_layers": 30, "head_dim": 64}
    net = models.build(config, {name: mx.array(a) for name, a in weights(config).items()})
    cache, before, most = net.make_cache(**kind), mx.get_active_memory(), 0.0
    mx.reset_peak_memory()

    def read(rows: mx.array) -> None:
        for layer in cache.layers:  # a step, but for what a CPU unpacks of one layer to attend
            kv = layer.append(rows, rows)
            mx.async_eval(kv.keys if isinstance(kv.keys, mx.array) else kv.keys.codes)
        memory.trim(cache.nbytes)

    for _ in range(10):
        read(mx.ones((1, 2, 512, 64)))
    for _ in range(900):
        read(mx.ones((1, 2, 1, 64)))
        mx.synchronize()
        most = max(most, mx.get_cache_memory() / cache.nbytes)
    assert most <= 0.25 and mx.get_peak_memory() - before <= 1.25 * cache.nbytes


def test_what_is_freed_is_given_back_while_a_run_reads_and_draws(
    unlimited: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the run itself: after a chunk of the prompt, and while it draws."""
    monkeypatch.setattr(memory, "FLOOR", 1 << 12)
    cleared: list[int] = []
    clear = mx.clear_cache
    monkeypatch.setattr(mx, "clear_cache", lambda: (cleared.append(0), clear()))
    session = Session(FakeCheckpoint(model()))  # type: ignore[arg-type]
    place = session.pool.acquire([5])
    for _ in place.read([5, 17, 3] * 100):
        pass
    read = len(cleared)
    assert read
    for _ in session.generate([5, 17, 3] * 100, RunControl(), max_tokens=150):
        pass
    assert len(cleared) > read + 1


def test_what_mlx_keeps_is_bounded_when_a_model_is_loaded(
    limits: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bounds: list[int] = []
    monkeypatch.setattr(mx, "set_cache_limit", bounds.append)
    monkeypatch.setattr(mx, "device_info", lambda *_: {"memory_size": 16 << 30})
    monkeypatch.setattr("metal.kernel.available", lambda: False)  # its kernels are another matter
    device._device.cache_clear()
    load(write_folder(tmp_path / "tiny", LLAMA, {name: mx.array(a) for name, a in weights(LLAMA).items()}))
    assert bounds == [1 << 30]
