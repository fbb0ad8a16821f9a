"""The memory of a run: what stays resident, on a machine that says it is a Mac, and what lies dead."""

import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

import likely.models as models
from likely.engine.base.machine import hardware
from likely.engine.decode import memory_limits
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.session import Session
from likely.engine.weights.sources.gguf.precision import available_memory
from likely.metal import memory, mx
from tests.engine.tiny import LLAMA, weights
from tests.fakes import FakeCheckpoint
from tests.metal.test_whole_models import model
from tests.processes import ROOT

MAC = """
import mlx.core as mx
asked, kept = [], []
mx.set_wired_limit = lambda limit: asked.append(limit) or 7  # which stood before the first
mx.set_cache_limit = kept.append
mx.device_info = lambda *_: {"memory_size": 16 << 30, "max_recommended_working_set_size": 12 << 30}

import os, pathlib, sys
import likely.models as models
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.pool import AHEAD, SPARE
from likely.engine.decode.session import Session
from likely.engine.weights.sources.checkpoint import load
from likely.metal.simulator import simulated
from likely.models.caches.layer_cache import RowSize
from tests.engine.tiny import LLAMA, weights, write_folder
from tests.fakes import VOCAB, FakeCheckpoint

config = LLAMA | {"max_position_embeddings": 4096, "vocab_size": VOCAB}
net = models.build(config, {name: mx.array(a) for name, a in weights(config).items()})
size = SPARE + sum(a.nbytes for a in net.arrays.values())
needed = lambda positions: net.make_cache().needs(positions, RowSize(2 * 16, 4), 512)
with simulated():
    session = Session(FakeCheckpoint(net))
    for _ in session.generate([5, 17, 3], RunControl(), max_tokens=2):
        assert asked == [size + needed(5)], asked
    assert asked.pop() == 7
    events = session.generate([5, 17, 3], RunControl(), n=4, max_tokens=5)
    next(events)
    assert asked[1:] == [size + needed(3) + 4 * needed(5)], asked  # the prompt is held once
    events.close()
    assert asked.pop() == 7
    asked.clear()
    with session.pool.lease([1], 1700) as (place, reach):  # some tokens ahead, and not all that may be drawn
        list(place.read([1]))
        assert asked == [size + needed(1 + AHEAD)], asked
        for drawn, until in ((AHEAD // 2, None), (1, 1501), (501, 1700), (600, None)):
            before = len(asked)
            list(place.read([7] * drawn))
            reach()
            assert asked[before:] == ([] if until is None else [size + needed(1 + until)]), (drawn, asked)
load(write_folder(pathlib.Path(sys.argv[1]), LLAMA, {name: mx.array(a) for name, a in weights(LLAMA).items()}))
assert not kept  # a CPU's memory is its own affair
mx.metal.is_available = lambda: True
os.environ.pop("LIKELY_METAL")
from likely.metal import memory
memory.bound()
assert kept == [1 << 30], kept
"""


@pytest.mark.slow(5)
def test_a_mac_is_asked_for_what_a_run_takes_and_keeps_little_of_what_is_freed(tmp_path: Any) -> None:
    """In a process of its own, whose mlx says that it has 16 GB: weights, keys and values ahead of what is drawn."""
    command = [sys.executable, "-c", MAC, str(tmp_path / "tiny")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr


def test_a_model_that_leaves_little_of_the_gpus_memory_says_for_how_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """512 bytes a token in float32; on a Mac that recommends so much past what a pass takes."""
    config = LLAMA | {"max_position_embeddings": 1 << 16}
    session = Session(FakeCheckpoint(models.build(config, {n: mx.array(a) for n, a in weights(config).items()})))  # type: ignore[arg-type]
    size = sum(array.nbytes for array in session.model.arrays.values())
    assert memory_limits.warning(session) == "" and memory_limits.of_weights() == hardware.memory() // 2
    monkeypatch.delenv("LIKELY_METAL")
    monkeypatch.setattr("mlx.core.metal.is_available", lambda: True)

    def told(left: int, memory: int = 64 << 30) -> str:
        info = {"memory_size": memory, "max_recommended_working_set_size": (2 << 30) + size + left}
        monkeypatch.setattr("mlx.core.device_info", lambda *_: info)
        assert memory_limits.of_weights() == size + left
        return memory_limits.warning(session)

    assert told(16 << 20) == ""
    words = re.fullmatch(
        r"slow beyond ([\d,]+) tokens: sudo sysctl iogpu\.wired_limit_mb=57344 lets the GPU hold more until the next "
        r"start \(0\.0 GB are weights, 2\.2 GB is what the GPU holds well\)",
        told(2 << 20),
    )
    assert words is not None and 1000 < int(words[1].replace(",", "")) <= (2 << 20) // 512
    assert told(0).startswith("slow from the first token on: sudo")
    assert told(0, 2 << 30).endswith("holds well; a model in fewer bits is smaller")


def test_a_training_on_a_gpu_has_what_is_recommended_but_for_what_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LIKELY_METAL")
    monkeypatch.setattr("mlx.core.metal.is_available", lambda: True)
    monkeypatch.setattr("mlx.core.device_info", lambda *_: {"max_recommended_working_set_size": 12 << 30})
    held = mx.zeros((1 << 20,))
    mx.eval(held)
    assert available_memory() == (12 << 30) - mx.get_active_memory() <= (12 << 30) - held.nbytes
    monkeypatch.setattr("mlx.core.device_info", lambda *_: {"max_recommended_working_set_size": 1})
    assert available_memory() == 0


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
def test_a_cache_that_grows_leaves_little_dead(kind: dict[str, Any], unlimited: None) -> None:
    """Buffers that are too small by now are given back, not kept for whoever may ask for as little."""
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
        most = max(most, mx.get_cache_memory() / max(memory.FLOOR, 0.25 * cache.nbytes))
    assert most <= 1.01  # a buffer's end is rounded to a page
    assert mx.get_peak_memory() - before <= 1.25 * cache.nbytes


def test_what_is_freed_is_given_back_while_a_run_reads_and_draws(unlimited: None) -> None:
    def die() -> None:
        mx.eval(mx.zeros(memory.FLOOR // 2, mx.float32))  # twice what may lie dead
        assert mx.get_cache_memory() > memory.FLOOR

    session = Session(FakeCheckpoint(model()))  # type: ignore[arg-type]
    place = session.pool.acquire([5])
    die()
    for _ in place.read([5, 17, 3] * 100):
        pass
    assert mx.get_cache_memory() <= memory.FLOOR
    for number, _ in enumerate(session.generate([5, 17, 3], RunControl(), max_tokens=20)):
        if number == 5:
            die()
    assert mx.get_cache_memory() <= memory.FLOOR
