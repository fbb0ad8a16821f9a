"""Requests on their way through the front, by a worker of a script: their events, their ends, and who watches them."""

import asyncio
from typing import Any

import pytest

from app.requests import Load
from app.serve import front as fronts
from app.serve import openai_requests
from app.serve.asks import AnswerOpened, AnswerRequest, RequestRefused
from app.serve.bounds import Bounds
from app.serve.front import Front, WorkerFault
from app.worker import Closed, Failed
from engine.errors import DataError
from tests.serve.scripted import FACTS


class Script:
    """A worker that reports when a test says so."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.reports: list[tuple[int, Any]] = []
        self.closed = self.begun = 0
        self.stopped: list[int] = []

    def stop(self, job: int) -> None:
        self.stopped.append(job)

    def submit(self, request: Any, *, brief: bool = False) -> int:
        self.asked.append(request)
        return len(self.asked)

    def drain(self) -> list[tuple[int, Any]]:
        found, self.reports = self.reports, []
        return found

    def start(self) -> None:
        self.begun += 1

    def close(self) -> None:
        self.closed += 1

    def join(self, seconds: float) -> bool:
        assert seconds == 0
        return bool(self.closed)


def made(**bounds: int) -> tuple[Front, Script]:
    front, script = Front(lambda: None, Bounds(**bounds)), Script()  # type: ignore[arg-type,return-value]
    front.worker = script  # type: ignore[assignment]
    return front, script


def ask() -> AnswerRequest:
    return openai_requests.chat({"messages": [{"role": "user", "content": "x"}], "seed": 1})


async def told(front: Front, script: Script, *reports: tuple[int, Any]) -> None:
    """The worker reports, from its thread."""
    script.reports += reports
    await asyncio.to_thread(front._wake)
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def all_of(events: Any) -> list[Any]:
    return [event async for event in events]


async def test_each_request_has_its_own_events() -> None:
    front, script = made()
    front._wake()  # before there is a loop nobody looks
    front.start()
    assert script.begun == 1 and front.alive and (front.running, front.waiting) == (0, 0)
    one, two = ask(), Load("m")
    tasks = [asyncio.create_task(all_of(front.events(request))) for request in (one, two)]
    await asyncio.sleep(0)
    assert script.asked == [one, two] and front._known == {1: [one], 2: [two]}
    opened = AnswerOpened(FACTS, 1)
    await told(front, script, (1, opened), (2, "b"), (1, "c"), (9, "of nobody"), (2, Closed()))
    assert await tasks[1] == ["b"] and front._known == {1: [one, opened]}
    await told(front, script, (1, Closed()))
    assert await tasks[0] == [opened, "c"] and front._asked == {} == front._known
    assert not one.control.cancelled
    front.close()
    assert script.closed == 1 and not front.alive


@pytest.mark.parametrize(
    ("failed", "error", "line"),
    [
        (Failed("it broke", "trace"), WorkerFault, "it broke"),
        (Failed("it broke", "trace", restarted=True), WorkerFault, "it broke"),
        (Failed("no", error=DataError("no")), DataError, "no"),
    ],
)
async def test_a_failure_is_raised_where_it_was_asked(failed: Failed, error: type[Exception], line: str) -> None:
    front, script = made()
    front.start()
    request = ask()
    task = asyncio.create_task(all_of(front.events(request)))
    await asyncio.sleep(0)
    await told(front, script, (1, failed))
    with pytest.raises(error, match=line) as found:
        await task
    assert script.stopped == [1] and front._asked == {}
    if isinstance(found.value, WorkerFault):
        assert found.value.trace == "trace" and found.value.restarted == failed.restarted


async def test_who_leaves_stops_its_request() -> None:
    front, script = made()
    front.start()
    request, load = ask(), Load("m")
    tasks = [asyncio.create_task(all_of(front.events(each))) for each in (request, load)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert script.stopped == [1, 2] and front._asked == {}
    await told(front, script, (1, "late"))


async def test_as_many_run_as_may_and_as_many_wait() -> None:
    front, _ = made(running=1, waiting=1)
    inside, leave = asyncio.Event(), asyncio.Event()

    async def one() -> None:
        async with front.admitted():
            inside.set()
            await leave.wait()

    tasks = [asyncio.create_task(one())]
    await inside.wait()
    assert (front.running, front.waiting) == (1, 0)
    tasks.append(asyncio.create_task(one()))
    await asyncio.sleep(0)
    assert (front.running, front.waiting) == (1, 1)
    with pytest.raises(RequestRefused, match="1 requests wait already: come back later") as refused:
        await one()
    assert (refused.value.status, refused.value.kind) == (429, "rate_limit_error")
    leave.set()
    await asyncio.gather(*tasks)
    assert (front.running, front.waiting) == (0, 0)
    none, _ = made(running=1, waiting=0)
    async with none.admitted():
        with pytest.raises(RequestRefused):
            await none.admitted().__aenter__()


async def test_who_watches_sees_those_that_run_and_those_that_come() -> None:
    front, script = made()
    front.start()
    tasks = [asyncio.create_task(all_of(front.events(ask())))]
    await asyncio.sleep(0)
    await told(front, script, (1, AnswerOpened(FACTS, 1, False, (5,))))
    watching = front.watched()
    lines = [await anext(watching) for _ in range(3)]
    assert lines[0]["form"] == 1 and [line.get("late") for line in lines[1:]] == [True, True]
    assert lines[1]["request"] == 1 and lines[2]["opened"] == [5] and len(front.watchers) == 1
    tasks.append(asyncio.create_task(all_of(front.events(ask()))))
    await asyncio.sleep(0)
    asked = await anext(watching)
    assert asked["request"] == 2 and "late" not in asked
    await told(front, script, (1, Closed()), (2, Failed("no", error=DataError("no"))))
    await asyncio.gather(*tasks, return_exceptions=True)
    assert [await anext(watching) for _ in range(3)] == [
        {"request": 1, "closed": True}, {"request": 2, "failed": "no"}, {"request": 2, "closed": True},
    ]  # fmt: skip
    await watching.aclose()
    assert front.watchers == set()


async def test_who_does_not_keep_up_sees_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fronts, "WATCHED", 2)
    front, _ = made()
    front.start()
    watching = front.watched()
    await anext(watching)
    for i in range(4):
        front._tell(i, Closed())
    assert front.watchers == set()
    assert await all_of(watching) == [{"request": 0, "closed": True}, {"request": 1, "closed": True}]


async def test_a_pulse_is_an_empty_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fronts, "PULSE_S", 0)
    front, _ = made()
    watching = front.watched()
    await anext(watching)
    assert await anext(watching) == {} and await anext(watching) == {}
    await watching.aclose()
