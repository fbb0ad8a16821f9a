"""Requests of a watched server as conversations that grow: how each ends, and what of many is let go."""

from typing import Any

import pytest

from likely.app.tui.chat.watched import MOST, STEPS, UNSEEN, WatchedRequest, WatchedRequests
from likely.app.watch.client import NumberedEvent
from likely.app.watch.lines import WatchAsked, WatchOpened
from likely.app.worker import Closed, Failed
from likely.engine.decode.events import Done, Emitted, Forked, Prefilled, Stats
from likely.engine.trace.step import Recipe, TokenStep


def step(text: str, elapsed_s: float = 0.0, position: int = 3) -> TokenStep:
    nothing = (-1.0, -1.0, 1, 1, 0.5, 0, Recipe(), None, None)
    return TokenStep(1, text.encode(), text, *nothing, position, "drawn", False, elapsed_s)


def says(branch: int, text: str, elapsed_s: float = 0.0) -> Emitted:
    return Emitted(branch, step(text, elapsed_s))


def done(branch: int, reason: str, speed: float = 0.0) -> Done:
    return Done(branch, reason, Stats(3, 0, 2, 0.1, 2 / speed if speed else 0.0))


CHAT = WatchAsked("chat", "m", (("system", "Be brief."), ("user", "Why?"), ("assistant", "So."), ("user", "")), 1, 7)
SEVERAL = WatchAsked("text", "m", (("text", "Once"),), 3)
NONE = WatchAsked("embedding", "m", (("text", ""),))
OPENED = WatchOpened("model", (5, 6, 7), 100, (b"a", b"b"), frozenset({1}))
STORIES: dict[str, tuple[WatchAsked, list[list[Any]], str]] = {
    "one text": (CHAT, [[OPENED], [Prefilled(1, 3)], [says(0, "a")], [says(0, "b")], [done(0, "eot")], [Closed()]],
                 "ended"),
    "several": (SEVERAL, [[OPENED, says(0, "a"), says(1, "b")], [Forked(0, 3), says(3, "d")], [done(1, "cancelled")],
                          [done(0, "length"), done(2, "eot"), done(3, "stop"), Closed()]], "stop"),
    "no text": (NONE, [[OPENED], [Closed()]], "ended"),
    "a failure": (CHAT, [[OPENED, says(0, "a"), Failed("out of memory")], [Closed()]], "failed"),
    "left early": (CHAT, [[OPENED, says(0, "a")], [Closed()]], "left"),
    "an unknown branch parts": (CHAT, [[OPENED, says(0, "a")], [Forked(7, 8), says(8, "b")], [Closed()]], "parted"),
}  # fmt: skip


@pytest.mark.parametrize("opened", [False, True])
@pytest.mark.parametrize("name", STORIES)
def test_a_request_ends_as_it_did_whether_it_is_looked_at_or_not(name: str, opened: bool) -> None:
    asked, batches, end = STORIES[name]
    row = WatchedRequest.of(4, asked, 9.0)
    if opened:
        row.open(lambda: 11.0).transcript.blocks()
    for batch in batches:
        row.take(batch)
    assert row.state == end
    row.shut()
    assert not row.open(lambda: 12.0).running  # what is over does not run when it is opened again


def test_the_speed_is_that_of_drawing() -> None:
    row, found = WatchedRequest.of(1, CHAT, 0.0), []
    for event in (says(0, "a", 1.0), says(0, "b", 1.5), says(0, "c", 3.0), done(0, "eot", 8.0)):
        row.take([event])
        found.append(row.tokens_per_s)
    assert found == [0.0, 2.0, 1.0, pytest.approx(4.0)]  # the first token belongs to the prompt


def many(it: WatchedRequests, numbers: range, tokens: int, *, ended: bool = True) -> None:
    drawn = [says(0, "a")] * tokens
    for number in numbers:
        events = CHAT, OPENED, *drawn, *([done(0, "eot"), Closed()] if ended else [])
        it.take(NumberedEvent(number, event) for event in events)


def test_the_oldest_tokens_are_let_go_first() -> None:
    it, part = WatchedRequests(lambda: 0.0), STEPS // 10

    def held() -> list[bool]:
        return [row.run is not None for row in it.rows]

    many(it, range(1), 5 * part, ended=False)
    many(it, range(1, 3), 4 * part)
    assert held() == [True, False, True]  # those that are over go first
    many(it, range(3, 4), part)
    assert held() == [True, False, True, True]
    it.rows[2].open(lambda: 0.0)
    many(it, range(4, 5), 6 * part)
    assert held() == [True, False, True, False, False]  # never the one that is open
    assert [row.tokens // part for row in it.rows] == [5, 4, 4, 1, 6]  # their figures stay
    many(it, range(5, 6), 6 * part, ended=False)
    assert held() == [False, False, True, False, False, True]


def test_the_oldest_requests_are_forgotten_but_not_one_that_runs_or_is_open() -> None:
    it = WatchedRequests(lambda: 0.0)
    many(it, range(1), 1, ended=False)
    many(it, range(1, 2), 1)
    it.rows[1].open(lambda: 0.0)
    many(it, range(2, MOST + 10), 1)
    assert [row.number for row in it.rows] == [0, 1, *range(12, MOST + 10)]
    assert it.total == MOST + 10 and it.running == 1
    it.lost()
    assert it.running == 0 and it.rows[0].state == UNSEEN
