"""Requests of a watched server as conversations that grow: what is known after each event, what is let go."""

from itertools import count
from typing import Any

import pytest

from likely.app.tui.chat import watched
from likely.app.tui.chat.watched import WatchedRequest, WatchedRequests
from likely.app.watch.client import Sighted
from likely.app.watch.lines import WatchAsked, WatchBegan, WatchOpened
from likely.app.worker import Closed, Failed
from likely.engine.decode.events import Done, Emitted, Forked, Prefilled, Revised, Stats
from likely.engine.trace.trace import Recipe, TokenStep


def step(text: str, elapsed_s: float = 0.0, position: int = 3) -> TokenStep:
    nothing = (-1.0, -1.0, 1, 1, 0.5, 0, Recipe(), None, None)
    return TokenStep(1, text.encode(), text, *nothing, position, "drawn", False, elapsed_s)


def done(branch: int, reason: str, speed: float = 0.0) -> Done:
    seconds = 2 / speed if speed else 0.0
    return Done(branch, reason, Stats(3, 0, 2, 0.1, seconds))


CHAT = WatchAsked(
    "chat", "m", (("system", "Be brief."), ("user", "Why?"), ("assistant", "So."), ("user", "")), 1, 7, "beam 2"
)
OPENED = WatchOpened("model", (5, 6, 7), 100, (b"a", b"b"), frozenset({1}))


def says(branch: int, text: str, elapsed_s: float = 0.0) -> Emitted:
    return Emitted(branch, step(text, elapsed_s))


SEVERAL = WatchAsked("text", "m", (("text", "Once"),), 3)
NONE = WatchAsked("embedding", "m", (("text", ""),))
STORIES: dict[str, tuple[WatchAsked, list[list[Any]]]] = {
    "one text": (
        CHAT,
        [
            [OPENED], [Prefilled(1, 3)], [Prefilled(0, 0)], [says(0, "a", 0.5)], [says(0, "b", 1.0), says(0, "c", 2.5)],
            [done(0, "eot", 4.0)], [Closed()],
        ],
    ),
    "several texts": (
        SEVERAL,
        [
            [OPENED, says(0, "a"), says(1, "b")], [Forked(0, 3), says(3, "d")], [done(1, "cancelled")],
            [done(0, "length"), done(2, "eot"), says(3, "e"), done(3, "stop"), Closed()],
        ],
    ),
    "no text": (NONE, [[OPENED], [Closed()]]),
    "a failure": (CHAT, [[OPENED, says(0, "a"), Failed("out of memory")], [Closed()]]),
    "left early": (CHAT, [[OPENED, says(0, "a")], [Closed()]]),
    "begun unseen": (
        CHAT,
        [
            [OPENED, says(0, "a")], [Forked(0, 1), says(1, "b"), Revised(0, 1, step("c", position=1))],
            [says(0, "d"), Closed()],
        ],
    ),
    "an unknown branch parts": (CHAT, [[OPENED, says(0, "a")], [Forked(7, 8), says(8, "b")], [Closed()]]),
}  # fmt: skip


ENDS = {
    "one text": "ended",
    "several texts": "stop",
    "no text": "ended",
    "a failure": "failed",
    "left early": "left",
    "begun unseen": "parted",
    "an unknown branch parts": "parted",
}


@pytest.mark.parametrize("opened", [False, True])
@pytest.mark.parametrize("name", STORIES)
def test_a_request_ends_as_it_did_whether_it_is_looked_at_or_not(name: str, opened: bool) -> None:
    asked, batches = STORIES[name]
    row = WatchedRequest.of(4, asked, 9.0)
    if opened and name != "no text":  # which has nothing to look at
        row.open(lambda: 11.0).transcript.blocks()
    for batch in batches:
        row.take(batch)
    assert row.state == ENDS[name]
    row.shut()
    assert (
        row.session is None and not row.open(lambda: 12.0).running
    )  # what is over does not run when it is opened again


def test_speeds_are_those_of_drawing() -> None:
    row = WatchedRequest.of(1, CHAT, 0.0)
    assert row.tokens_per_s == 0.0
    row.take([OPENED, Emitted(0, step("a", 1.0))])
    assert row.tokens_per_s == 0.0
    row.take([Emitted(0, step("b", 1.5))])
    assert row.tokens_per_s == 2.0
    row.take([Emitted(0, step("c", 3.0))])
    assert row.tokens_per_s == 1.0
    row.take([done(0, "eot", 8.0)])
    assert row.tokens_per_s == pytest.approx(4.0)  # the first token belongs to the prompt


def sighted(number: int, *events: Any) -> list[Sighted]:
    return [Sighted(number, event) for event in events]


def test_requests_are_told_apart_by_their_numbers() -> None:
    ticks = count(1)
    it = WatchedRequests(lambda: float(next(ticks)))
    heard = it.take(
        [
            WatchBegan("1"),
            *sighted(1, CHAT, OPENED),
            *sighted(2, CHAT),
            *sighted(1, Emitted(0, step("a"))),
            *sighted(9, Emitted(0, step("x"))),
        ]
    )
    assert [row.number for row in it.rows] == [1, 2] and [row.began for row in it.rows] == [1.0, 2.0]
    assert [row.number for row in heard] == [1] and (it.total, it.running) == (2, 2)
    assert it.names["model"].pieces == (b"a", b"b") and it.names["model"].eos == frozenset({1})
    it.take(sighted(2, WatchOpened("other", (1,), 10)))
    assert "other" not in it.names
    it.take(sighted(1, done(0, "eot"), Closed()))
    assert (it.total, it.running) == (2, 1) and [row.end for row in it.rows] == ["ended", ""]
    assert not it.take(sighted(1, Emitted(0, step("late"))))
    it.take([WatchBegan("2"), *sighted(1, CHAT)])
    assert [row.end for row in it.rows] == ["ended", watched.UNSEEN, ""] and (it.total, it.running) == (3, 1)
    it.lost()
    assert it.running == 0 and it.rows[-1].state == watched.UNSEEN


def many(it: WatchedRequests, numbers: range, tokens: int, *, ended: bool = True) -> None:
    for number in numbers:
        drawn = [Emitted(0, step("a")) for _ in range(tokens)]
        it.take(sighted(number, CHAT, OPENED, *drawn, *([done(0, "eot"), Closed()] if ended else [])))


def test_the_oldest_tokens_are_let_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watched, "STEPS", 10)
    it = WatchedRequests(lambda: 0.0)
    many(it, range(1), 5, ended=False)
    many(it, range(1, 3), 4)
    assert [row.run is not None for row in it.rows] == [True, False, True]  # those that are over go first
    many(it, range(3, 4), 1)
    assert [row.run is not None for row in it.rows] == [True, False, True, True]
    it.rows[2].open(lambda: 0.0)
    many(it, range(4, 5), 6)
    assert [row.run is not None for row in it.rows] == [True, False, True, False, False]  # never the one that is open
    assert [row.tokens for row in it.rows] == [5, 4, 4, 1, 6]
    many(it, range(5, 6), 6, ended=False)
    assert [row.run is not None for row in it.rows] == [False, False, True, False, False, True]


def test_the_oldest_requests_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watched, "MOST", 3)
    it = WatchedRequests(lambda: 0.0)
    many(it, range(1), 1, ended=False)
    many(it, range(1, 4), 1)
    assert [row.number for row in it.rows] == [0, 2, 3]
    it.rows[1].open(lambda: 0.0)
    many(it, range(4, 6), 1)
    assert [row.number for row in it.rows] == [0, 2, 5] and it.total == 6
