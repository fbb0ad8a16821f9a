"""The worker with scripted jobs: turns, ends, faults, pauses; and what the jobs of a model do when it leaves."""

import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator
from itertools import pairwise
from typing import Any

import pytest

from likely.app.jobs import calls
from likely.app.jobs import requests as r
from likely.app.jobs.calls import call
from likely.app.jobs.jobs import ModelJobs
from likely.app.jobs.worker import Closed, Failed, Tell, Worker, worked
from likely.engine.base.concurrency.resumable import whole
from likely.engine.base.errors import DataError, OutOfMemory
from tests.support.model import ScriptedEngine, ScriptedShop
from tests.support.worker import HeardWorker

FULL = "[METAL] Command buffer execution failed: Insufficient Memory (00000008:kIOGPUCommandBufferCallbackErrorO..)."


class Jobs:
    """An executor whose requests are the jobs: functions of `tell`."""

    def __init__(self) -> None:
        self.closed = False

    def execute(self, request: Callable[[Tell], Iterator[Any]], tell: Tell) -> Iterator[Any]:
        return request(tell)

    def close(self) -> None:
        self.closed = True


def counting(name: str, last: int) -> Callable[[Tell], Iterator[Any]]:
    return lambda tell: iter([f"{name}{i}" for i in range(last)])


def ran(*requests: Any, executor: Callable[[], Any] = Jobs) -> list[tuple[int, Any]]:
    """All that is reported of these requests, submitted before the thread begins."""
    worker = Worker(executor)
    for request in requests:
        worker.submit(request)
    worker.finish()
    worker.start()
    assert worker.join()
    return worker.drain()


def test_jobs_begin_in_order_take_turns_and_are_closed_once() -> None:
    assert ran(counting("a", 3), counting("b", 2), counting("c", 0)) == [
        (1, "a0"), (2, "b0"), (3, Closed()), (1, "a1"), (2, "b1"), (1, "a2"), (2, Closed()), (1, Closed()),
    ]  # fmt: skip


@pytest.mark.slow(4)
def test_it_rests_once_behind_the_last_job_and_again_behind_another() -> None:
    rests: queue.SimpleQueue[str] = queue.SimpleQueue()
    worker = Worker(Jobs, rests=lambda: rests.put(threading.current_thread().name))
    worker.start()
    for last in (2, 1):
        worker.submit(counting("", last))
        assert rests.get() == "engine" and rests.empty()
    with pytest.raises(queue.Empty):
        rests.get(timeout=1.5)
    worker.close()


@pytest.mark.parametrize(("briefs", "others"), [(1, 16), (3, 16), (2, 1), (3, 5), (0, 3), (2, 0)])
def test_little_work_has_a_turn_between_every_few_of_the_rest(briefs: int, others: int) -> None:
    """No brief one waits for more than four turns of others, these have one in every round, and all end."""
    worker = Worker(Jobs)
    longs = {worker.submit(counting("", 40)) for _ in range(others)}
    short = {worker.submit(counting("", 8), brief=True) for _ in range(briefs)}
    worker.finish()
    worker.start()
    assert worker.join()
    turns = [job for job, _ in worker.drain()]
    begun = max((turns.index(job) for job in longs | short), default=0)
    strides = -(-others // 4)
    for job in short:
        waits = [i for i, each in enumerate(turns) if each == job and i >= begun]
        assert all(sum(each in longs for each in turns[i:j]) <= 4 for i, j in pairwise([begun, *waits]))
    for job in longs:
        waits = [i for i, each in enumerate(turns) if each == job]
        assert all(j - i <= others + briefs * strides for i, j in pairwise(waits) if i >= begun)
    assert all(turns.count(job) == count + 1 for jobs, count in ((longs, 40), (short, 8)) for job in jobs)


def test_what_calls_back_reports_in_the_middle_of_its_turn() -> None:
    def loads(tell: Tell) -> Iterator[Any]:
        tell("half")
        yield "whole"

    assert ran(loads) == [(1, "half"), (1, "whole"), (1, Closed())]


class Panic(BaseException):
    """As a library in another language raises it: none of Exception's."""


@pytest.mark.parametrize(
    "error", [KeyError("a bug"), Panic("a bug"), MemoryError("a bug"), RecursionError("a bug"), SystemExit("a bug")]
)
def test_what_goes_wrong_is_the_jobs_last_event_and_the_thread_goes_on(error: BaseException) -> None:
    def wrong(error: BaseException) -> Callable[[Tell], Iterator[Any]]:
        def job(tell: Tell) -> Iterator[Any]:
            yield "begun"
            raise error

        return job

    found = ran(wrong(DataError("no such row")), wrong(error), counting("a", 3))
    said = {job: [event for owner, event in found if owner == job] for job in (1, 2, 3)}
    assert said[1] == ["begun", Failed("no such row"), Closed()]
    begun, failed, closed = said[2]
    assert (begun, closed) == ("begun", Closed()) and failed.line == f"{type(error).__name__}: {error}"
    assert "Traceback" in failed.trace and "raise error" in failed.trace and not failed.restarted
    assert said[3] == ["a0", "a1", "a2", Closed()]


def test_a_gpu_whose_memory_is_full_is_no_bug() -> None:
    def full(tell: Tell) -> Iterator[Any]:
        raise RuntimeError(FULL)
        yield

    (_, failed), _ = ran(full)
    assert isinstance(failed.error, OutOfMemory) and not failed.trace and failed.line.endswith(f"mlx says {FULL}")


@pytest.mark.parametrize("where", ["a report", "the end of a job"])
def test_where_the_thread_itself_fails_all_that_wait_are_told_and_it_goes_on_with_what_it_had(where: str) -> None:
    made: list[Jobs] = []

    def make() -> Jobs:
        made.append(Jobs())
        return made[-1]

    broken = threading.Event()

    def reported() -> None:
        if where == "a report" and broken.is_set():
            broken.clear()
            raise Panic("no room for a report")

    def waits(tell: Tell) -> Iterator[Any]:
        while True:
            yield None

    def falls(tell: Tell) -> Iterator[Any]:
        try:
            yield "begun"
            broken.set()
            yield "more"
        finally:
            if where == "the end of a job":
                raise Panic("it does not even end")

    worker = Worker(make, reported=reported)
    for request in (waits, falls, waits):
        worker.submit(request)
    if where == "the end of a job":
        worker.stop(2)
    worker.start()
    seen: list[tuple[int, Any]] = []
    while (2, Closed()) not in seen:
        seen += worker.drain()
    lost = (1, 2, 3) if where == "a report" else (2,)
    for job in lost:
        assert [event for owner, event in seen if owner == job][-1] == Closed()
    failed = [event for _, event in seen if isinstance(event, Failed)]
    assert len(failed) == len(lost) and all(each.restarted == (where == "a report") for each in failed)
    assert all("Panic: " in each.line and "Traceback" in each.trace for each in failed)
    for job in {1, 3} - set(lost):
        worker.stop(job)
    last = worker.submit(counting("a", 2))
    worker.finish()
    assert worker.join()
    assert [event for job, event in worker.drain() if job == last] == ["a0", "a1", Closed()]
    assert len(made) == 1, "the executor, and the models it has, are those from before"


def test_a_job_that_is_stopped_ends_where_it_is_and_the_others_go_on() -> None:
    ended: list[str] = []

    def endless(tell: Tell) -> Iterator[Any]:
        try:
            while True:
                yield "more"
        finally:
            ended.append("here")

    worker = Worker(Jobs)
    job = worker.submit(endless)
    worker.stop(job)
    worker.stop(job), worker.stop(99)  # that is over, and there is none
    worker.submit(counting("b", 2))
    worker.finish()
    worker.start()
    assert worker.join() and ended == ["here"]
    assert worker.drain() == [(1, "more"), (1, Closed()), (2, "b0"), (2, "b1"), (2, Closed())]


def test_a_turn_that_has_nothing_to_tell_is_not_told_of_and_waits_for_nobody() -> None:
    def adds(count: int) -> Generator[Any, None, int]:
        yield from range(count)
        return count

    def job(tell: Tell) -> Iterator[Any]:
        yield (yield from worked(adds(3)))

    assert ran(job, counting("b", 4)) == [
        (2, "b0"), (2, "b1"), (2, "b2"), (1, 3), (2, "b3"), (1, Closed()), (2, Closed()),
    ]  # fmt: skip


def test_what_cannot_be_cut_is_done_beside_the_thread_and_its_failure_is_the_jobs() -> None:
    """A text whose tokens do not come until another job has ended, and one at which the tokenizer panics."""
    go = threading.Event()
    engine = ScriptedEngine("scripted")

    class Slow:
        def encode(self, text: str) -> list[int]:
            if text == "panic":
                raise Panic("retry-limit-in-match over")
            go.wait()
            return [1, 2]

    worker = HeardWorker(lambda: ModelJobs(ScriptedShop(engine)))
    worker.submit(r.Load("scripted"))
    worker.start()
    worker.until(lambda seen: (1, Closed()) in seen)
    engine.tokenizer = Slow()  # type: ignore[assignment]
    slow, broken, other = (
        worker.submit(each)
        for each in (call(calls.tokens, "scripted", "x"), call(calls.tokens, "scripted", "panic"), r.Offer())
    )
    seen = worker.until(lambda seen: {(broken, Closed()), (other, Closed())} <= set(seen))
    assert (slow, Closed()) not in seen
    assert next(e for job, e in seen if job == broken).line == "Panic: retry-limit-in-match over"
    go.set()
    worker.finish()
    assert worker.join()
    assert [event for job, event in worker.drain() if job == slow] == [(1, 2), Closed()]


def test_an_executor_that_cannot_be_made_fails_its_job_and_is_made_for_the_next() -> None:
    made: list[Jobs] = []

    def make() -> Jobs:
        if not made:
            made.append(Jobs())
            raise DataError("nothing is installed")
        return Jobs()

    assert ran(counting("a", 1), counting("b", 1), executor=make) == [
        (1, Failed("nothing is installed")), (2, "b0"), (1, Closed()), (2, Closed()),
    ]  # fmt: skip


def test_a_job_that_waits_holds_up_no_other_and_goes_on_when_it_may() -> None:
    go = threading.Event()

    def waits(tell: Tell) -> Iterator[Any]:
        yield "paused"
        while not go.is_set():
            yield None
        yield "went on"

    def last(tell: Tell) -> Iterator[Any]:
        yield "beside it"
        go.set()

    worker = HeardWorker(Jobs)
    worker.submit(waits)
    worker.start()
    seen = worker.until(bool)
    worker.submit(last)
    worker.finish()
    assert worker.join()
    seen += worker.drain()
    assert [event for job, event in seen if job == 1] == ["paused", "went on", Closed()]
    assert (2, "beside it") in seen and all(event is not None for _, event in seen)


def test_closing_ends_the_jobs_where_they_are() -> None:
    executor, ended = Jobs(), threading.Event()

    def endless(tell: Tell) -> Iterator[Any]:
        try:
            while True:
                yield "more"
        finally:
            ended.set()

    worker = HeardWorker(lambda: executor)
    worker.submit(endless)
    worker.start()
    worker.until(bool)
    worker.close(10)
    assert worker.join(0) and ended.is_set() and executor.closed


def test_closing_does_not_wait_for_what_is_deep_inside_a_model() -> None:
    gate = threading.Event()

    def stuck(tell: Tell) -> Iterator[Any]:
        tell("in")
        gate.wait()
        yield "out"

    worker = HeardWorker(Jobs)
    worker.submit(stuck)
    worker.start()
    worker.until(bool)
    worker.close(0.01)
    assert not worker.join(0)
    gate.set()
    assert worker.join()


def test_who_waits_for_a_thread_alone_leaves_the_processor_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)

    def reads_beside() -> Generator[Any, None, str]:
        for _ in range(1000):
            if sum(slept) > 0.1:
                return "read"
            yield None
        raise AssertionError("looked a thousand times in a tenth of a second")

    assert whole(reads_beside()) == "read"


@pytest.mark.slow(3)
def test_who_asks_for_a_model_that_comes_in_pieces_waits_and_it_comes_once() -> None:
    """Others have their turns meanwhile; a second load of it, and a question to it, are answered by the same one."""
    asked: list[str] = []

    class InPieces(ScriptedShop):
        def opening(self, model: str, progress: Any) -> Generator[Any, None, ScriptedEngine]:
            asked.append(model)
            yield 1
            yield None  # it waits for a file
            yield 2
            return ScriptedEngine(model)

    def asks(engine: Any) -> tuple[int, ...]:
        return (1,)

    requests = [r.Load("m"), r.Load("m"), call(asks, "m"), r.Offer(), r.Unload("m"), call(asks, "m")]
    found = ran(*requests, executor=lambda: ModelJobs(InPieces()))
    closed = [job for job, event in found if event == Closed()]
    assert closed[0] == 4 and asked == ["m"]
    kinds = {job: type(event) for job, event in found if event != Closed()}
    assert kinds == {1: r.Loaded, 2: r.Loaded, 3: tuple, 4: r.Offered, 6: Failed}
