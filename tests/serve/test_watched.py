"""Requests on their way through the front: their events, their ends, and who watches them."""

import asyncio
from collections.abc import Iterator
from threading import Event
from typing import Any

import pytest

from likely.app.jobs.requests import Load
from likely.app.serve.api import openai_requests
from likely.app.serve.bounds import Bounds
from likely.app.serve.front import PULSE_S, WATCHED, Front, WorkerFault
from likely.app.serve.requests import AnswerOpened, AnswerRequest
from likely.engine.base.errors import DataError
from tests.serve.scripted import FACTS

OPENED = AnswerOpened(FACTS, 1, False, (5,))


class Says:
    """An executor that says of each request, by its seed, what is written here; it waits for an event."""

    def __init__(self, **said: list[Any]) -> None:
        self.said, self.ended = said, Event()

    def execute(self, request: Any, tell: Any) -> Iterator[Any]:
        try:
            for each in self.said[f"s{request.seed}" if isinstance(request, AnswerRequest) else "load"]:
                if isinstance(each, BaseException):
                    raise each
                while isinstance(each, Event) and not each.is_set():
                    yield None
                if not isinstance(each, Event):
                    yield each
        finally:
            self.ended.set()

    def close(self) -> None: ...


def ask(seed: int = 1) -> AnswerRequest:
    return openai_requests.chat({"messages": [{"role": "user", "content": "x"}], "seed": seed})


def begun(says: Says) -> Front:
    front = Front(lambda: says, Bounds())
    assert (front.running, front.waiting) == (0, 0)
    front.start()
    return front


async def all_of(events: Any) -> list[Any]:
    return [event async for event in events]


async def test_each_request_has_its_own_events() -> None:
    front = begun(Says(s1=[OPENED, "a", "b"], s2=["c"], load=["d"]))
    assert front.alive
    found = await asyncio.gather(*(all_of(front.events(each)) for each in (ask(1), ask(2), Load("m"))))
    assert found == [[OPENED, "a", "b"], ["c"], ["d"]]
    front.close()
    assert not front.alive


async def test_a_failure_is_raised_where_it_was_asked() -> None:
    front = begun(Says(s1=["a", DataError("no")], s2=[KeyError("a bug")], s3=["well"]))
    with pytest.raises(DataError, match="no"):
        await all_of(front.events(ask(1)))
    with pytest.raises(WorkerFault, match="KeyError: 'a bug'") as found:
        await all_of(front.events(ask(2)))
    assert "Traceback" in found.value.trace and not found.value.restarted
    assert await all_of(front.events(ask(3))) == ["well"]
    front.close()


async def test_who_leaves_ends_the_work_for_it() -> None:
    says = Says(s1=["a", Event()])
    front = begun(says)
    events = front.events(ask())
    assert await anext(events) == "a" and not says.ended.is_set()
    await events.aclose()
    assert await asyncio.to_thread(says.ended.wait, 60)
    front.close()


async def test_who_watches_sees_those_that_run_and_those_that_come() -> None:
    go = Event()
    front = begun(Says(s1=[OPENED, go], s2=[DataError("no")]))
    first = front.events(ask(1))
    assert await anext(first) == OPENED
    watching = front.watched()
    head, *late = [await anext(watching) for _ in range(3)]
    assert head["form"] == 1 and [line["late"] for line in late] == [True, True]
    assert late[0]["request"] == 1 and late[1]["opened"] == [5]
    with pytest.raises(DataError):
        await all_of(front.events(ask(2)))
    asked = await anext(watching)
    assert asked["request"] == 2 and "late" not in asked
    assert [await anext(watching) for _ in range(2)] == [{"request": 2, "failed": "no"}, {"request": 2, "closed": True}]
    go.set()
    assert await all_of(first) == []
    told = []
    while told[-1:] != [{"request": 1, "closed": True}]:
        told.append(await anext(watching))
    assert {line["request"] for line in told} <= {1, 2} and all(line["closed"] for line in told)
    await watching.aclose()
    assert not front.watchers
    front.close()


async def hears_a_pulse(watching: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing else, by a clock that goes on when the loop looks."""
    loop, ahead = asyncio.get_running_loop(), [0.0]
    now = loop.time
    monkeypatch.setattr(loop, "time", lambda: now() + ahead[0])
    pulse = asyncio.create_task(anext(watching))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    assert not pulse.done()
    ahead[0] = PULSE_S
    assert await pulse == {}


async def test_a_watcher_is_told_once_that_a_request_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    front = begun(Says(s1=[DataError("no")]))
    watching = front.watched()
    assert (await anext(watching))["form"] == 1
    asked = asyncio.ensure_future(all_of(front.events(ask(1))))
    await asyncio.sleep(0)
    front.worker.finish()
    assert front.worker.join()  # its failure and its end are there at once
    with pytest.raises(DataError):
        await asked
    told = [await anext(watching) for _ in range(3)]
    assert told[1:] == [{"request": 1, "failed": "no"}, {"request": 1, "closed": True}]
    await hears_a_pulse(watching, monkeypatch)
    await watching.aclose()


async def test_who_does_not_keep_up_sees_no_more() -> None:
    """All that was told before that, and then the end; the request itself goes on."""
    heard = Event()  # half of them: a reader that is given too little of the processor is not late either
    front = begun(Says(s1=["event"] * (WATCHED // 2) + [heard] + ["event"] * (WATCHED // 2 + 9), s2=["well"]))
    watching = front.watched()
    await anext(watching)
    found = 0
    async for _ in front.events(ask(1)):
        found += 1
        if found == WATCHED // 2:
            heard.set()
    assert found == WATCHED // 2 * 2 + 9
    assert [line["request"] for line in await all_of(watching)] == [1] and not front.watchers
    assert await all_of(front.events(ask(2))) == ["well"]
    front.close()


async def test_where_there_is_nothing_to_tell_a_watcher_hears_that(monkeypatch: pytest.MonkeyPatch) -> None:
    front = begun(Says())
    watching = front.watched()
    await anext(watching)
    await hears_a_pulse(watching, monkeypatch)
    await watching.aclose()
    front.close()
