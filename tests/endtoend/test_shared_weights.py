"""A training beside a chat on the same model: one copy of the weights, and the numbers that each has alone."""

import gc
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from likely.app.jobs import calls
from likely.app.jobs import requests as r
from likely.app.jobs.calls import call
from likely.app.jobs.jobs import ModelJobs, TrainingJobs
from likely.app.jobs.local_trainer import LocalTrainer
from likely.app.jobs.model_provider import LocalModelProvider
from likely.app.jobs.worker import Closed, Failed, Worker
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.events import Emitted
from likely.engine.decode.prompt import Prompt
from likely.engine.train.control import Ended, Stepped, TrainControl
from likely.engine.weights.adapters.config import Config, configure
from likely.metal import mx
from tests.engine import tiny

STEPS, TOKENS = 6, 64
# most of the weights in the layers, so that a copy of them cannot hide behind a step's activations
SHAPE = {**tiny.LLAMA, "hidden_size": 512, "intermediate_size": 4096, "num_hidden_layers": 4, "head_dim": 128}
TEXT = Prompt(parts=("ab ab ab",))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    arrays = {name: mx.array(0.2 * a if a.ndim > 1 else a) for name, a in tiny.weights(SHAPE).items()}
    return str(tiny.write_folder(tmp_path_factory.mktemp("model"), SHAPE, arrays))


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"tag {i}", "completion": f"<{i}>"}) + "\n" for i in range(8)))
    return path


@pytest.fixture
def config(model: str, rows: Path, tmp_path: Path) -> Callable[[str], Config]:
    def named(name: str, **options: Any) -> Config:
        options |= {"data": str(rows), "model": model, "out": str(tmp_path / name)}
        return configure(
            {"steps": STEPS, "length": 32, "batch": 1, "rank": 2, "rate": 1e-2, "verdict": False, **options}
        )

    return named


@contextmanager
def working(worker: Worker) -> Iterator[Worker]:
    worker.start()
    try:
        yield worker
    finally:
        worker.finish()
        assert worker.join()


def chat() -> Worker:
    return Worker(lambda: ModelJobs(LocalModelProvider()))


def trainer() -> Worker:
    return Worker(lambda: TrainingJobs(LocalTrainer()), "trainer")


def heard(*asked: tuple[Worker, Any], meanwhile: Callable[[], None] = lambda: None) -> list[list[Any]]:
    """The events of each request's job, once all are over; `meanwhile` is called between two looks."""
    found: dict[tuple[Worker, int], list[Any]] = {(worker, worker.submit(request)): [] for worker, request in asked}
    while not all(events and isinstance(events[-1], Closed) for events in found.values()):
        time.sleep(0.005)
        meanwhile()
        for worker in {worker for worker, _ in found}:
            for job, event in worker.drain():
                found[worker, job].append(event)
    for events in found.values():
        assert not any(isinstance(event, Failed) for event in events), events
    return list(found.values())


def losses(events: list[Any]) -> list[float]:
    assert isinstance(events[-2], Ended)
    return [event.loss for event in events if isinstance(event, Stepped)]


def drawn(events: list[Any]) -> list[int]:
    tokens = [event.step.token for event in events if isinstance(event, Emitted)]
    assert len(tokens) > 8
    return tokens


@pytest.mark.slow(5)
def test_one_copy_of_the_weights_and_the_numbers_of_each_alone(model: str, config: Callable[[str], Config]) -> None:
    def train(name: str) -> r.Train:
        return r.Train(config(name), False, TrainControl())

    def generate(seed: int) -> r.Generate:
        return r.Generate(model, TEXT, RunControl(), seed=seed, max_tokens=TOKENS)

    def held() -> int:
        mx.clear_cache()
        return mx.get_active_memory()

    with working(trainer()) as worker:
        (trained,) = heard((worker, train("alone")))
    alone, peak = losses(trained), 0
    assert len(set(alone)) == STEPS
    del worker
    gc.collect()
    before = held()
    with working(chat()) as talk:
        heard((talk, r.Load(model)))
        weights = held() - before
        assert weights > 90e6
        base = [drawn(events) for events in heard((talk, generate(1)), (talk, generate(2)))]
        heard((talk, call(calls.adapt, model, "add", config("alone").out)))
        adapted = [drawn(events) for events in heard((talk, generate(1)), (talk, generate(2)))]
        assert adapted != base
        with working(trainer()) as worker:

            def look() -> None:
                nonlocal peak
                peak = max(peak, mx.get_active_memory() - before)

            trained, *said = heard((worker, train("beside")), (talk, generate(1)), (talk, generate(2)), meanwhile=look)
            assert losses(trained) == alone  # of the base: the chat's adapter is the chat's
            assert [drawn(events) for events in said] == adapted  # and what is trained is the training's
        heard((talk, call(calls.adapt, model, "remove", "alone")))
        assert [drawn(events) for events in heard((talk, generate(1)), (talk, generate(2)))] == base
    assert weights < peak < 1.5 * weights
