"""A server that is watched: its requests as they run, as conversations that grow, and what of many is let go."""

import io
import re
import subprocess
from collections.abc import Iterator
from math import exp
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from likely.app.jobs.worker import Closed, Failed
from likely.app.serve.watch.client import NumberedEvent
from likely.app.serve.watch.lines import WatchAsked, WatchOpened
from likely.app.tui.base.sampling import Sampling
from likely.app.tui.chat.inspecting.watched import MOST, STEPS, UNSEEN, WatchedRequest, WatchedRequests
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.events import Done, Emitted, Forked, Prefilled, Stats
from likely.engine.sampling.trace.step import SamplingConfig, TokenStep
from tests.support.everyday import everyday
from tests.support.screen import Screen
from tests.support.server import ScriptedServer


@pytest.fixture
def server() -> ScriptedServer:
    return ScriptedServer()


@pytest.fixture
def screen(tmp_path: Path, server: ScriptedServer) -> Iterator[Screen]:
    with Screen(tmp_path, server=server) as running:
        yield running


def row(screen: Screen, words: str) -> str:
    """The line of a request, by the words that it begins with."""
    screen.wait(0.5)
    return next(line for line in screen.lines if words in line)


def standing(screen: Screen) -> int:
    """Which question a person stands on."""
    return int(next(line for line in screen.lines if line.startswith("▶")).split("question ")[1].split()[0])


def test_requests_are_listed_as_they_run(screen: Screen, server: ScriptedServer) -> None:
    screen.wait()
    assert "127.0.0.1:8080" in screen.lines[0] and "likely 9.9" in screen.lines[0]
    assert "nothing was asked yet" in screen.text and "requests of http://127.0.0.1:8080" in screen.text
    server.asked(1, "Name a bird.")
    assert "reading" in row(screen, "Name a bird.") and "served" in row(screen, "Name a bird.")
    server.tell(1, Prefilled(1, 3))
    assert "reading 33 %" in row(screen, "Name a bird.")
    server.says(1, " light", " glow", " stay")
    assert re.search(r" 3 +100\.0 +drawing", row(screen, "Name a bird."))  # two more in two hundredths
    server.asked(2, "Another.")
    server.tell(2, Failed("no such model"), Closed())
    assert "failed" in row(screen, "no such model") and "1 running" in screen.lines[0] and "2 in all" in screen.lines[0]
    server.tell(1, server.done(tokens=3, seconds=0.1), Closed())
    assert re.search(r" 3 +20\.0 +ended", row(screen, "Name a bird."))  # as the server has told
    listed = [line for line in screen.lines if "no such model" in line or "Name a bird." in line]
    assert "no such model" in listed[0] and "0 running" in screen.lines[0]  # the newest first


@pytest.mark.parametrize("size", everyday([((80, 24),), ((120, 40),), ((60, 20),)], 3), ids=str)
def test_a_request_is_opened_with_its_tokens_and_goes_on_while_it_is_not_looked_at(
    tmp_path: Path, server: ScriptedServer, size: tuple[int, int]
) -> None:
    with Screen(tmp_path, server=server, size=size) as screen:
        server.asked(1, "Name a bird.")
        server.says(1, " light")
        server.asked(2, "Another.")
        screen.wait()
        screen.press("down", "enter")
        assert "Name a bird." in screen.text and " light" in screen.text and "Another." not in screen.text
        server.says(1, " glow")
        screen.wait()
        assert "light glow" in screen.text and "·glow" in screen.text and "2 tokens" in screen.text
        share = f"{100 * exp(server.step(' glow').logprob or 0):.2f}"
        assert size[0] < 120 or any("▶ ·glow" in line and share in line for line in screen.lines)
        screen.press("f2")
        server.says(1, " stay")
        server.tell(1, server.done(), Closed())
        screen.go("watch")
        assert "light glow stay" in screen.text and "ended" in screen.text
        screen.press("escape")
        assert "ASKED" in screen.text and re.search(r" 3 .*ended", row(screen, "Name a"))
        screen.press("escape")
        assert "Message" in screen.text


def test_a_token_is_looked_at_under_other_settings(screen: Screen, server: ScriptedServer) -> None:
    server.control = RunControl(Sampling().with_value("temp", 0.3).recipe)
    server.asked(1, "Name a bird.")
    server.says(1, " light", " glow")
    screen.wait()
    screen.press("enter", "left")
    assert any("temperature" in line and line.endswith("0.30") for line in screen.lines)  # as the server draws
    before = "\n".join(screen.lines).partition("SAMPLER")[0]
    screen.press("ctrl+g", *["right"] * 9)
    assert "\n".join(screen.lines).partition("SAMPLER")[0] != before
    screen.press("escape", "enter", "enter")
    assert "it is watched, not steered" in screen.lines[-1]
    screen.press("escape", "ctrl+t")
    assert "entropy" in screen.lines[0]


def test_of_several_texts_another_is_chosen(screen: Screen, server: ScriptedServer) -> None:
    server.asked(1, "Name a bird.", n=2)
    server.says(1, " light", branch=0)
    server.says(1, " red", " glow", branch=1)
    screen.wait()
    screen.press("enter")
    assert "TREE  2 leaves" in screen.text and "red glow" not in screen.text.partition("TREE")[0]
    screen.press("]")
    assert "red glow" in screen.text


def test_why_a_server_is_out_of_sight_is_told_to_its_end_which_says_what_to_do(
    tmp_path: Path, server: ScriptedServer
) -> None:
    with Screen(tmp_path, server=server, size=(80, 24)) as screen:
        server.asked(1, "Name a bird.")
        server.lose("no key, as there is none in " + "a-long-folder/" * 8 + ": start likely serve, or name its key")
        screen.wait()
        assert "or name its key" in " ".join(screen.text.split())
        screen.press("enter")
        assert "or name its key" in " ".join(screen.text.split()) and "Name a bird." in screen.text


def test_a_server_that_goes_is_one_line_and_is_found_again(screen: Screen, server: ScriptedServer) -> None:
    server.asked(1, "Name a bird.")
    server.says(1, " light")
    server.lose("no server at http://127.0.0.1:8080: Connection refused")
    assert "out of sight" in row(screen, "Name a bird.") and "Connection refused" in screen.text
    server.begin()
    server.asked(1, "And now?")  # it numbers anew
    assert "reading" in row(screen, "And now?") and "Connection refused" not in screen.text
    assert "out of sight" in row(screen, "Name a bird.")


def test_a_walk_through_many_requests_and_a_click_on_one(screen: Screen, server: ScriptedServer) -> None:
    for number in range(60):
        server.asked(number, f"question {number} of all")
    screen.wait()
    assert standing(screen) == 59 and "question 10 " not in screen.text
    page = sum("question" in line for line in screen.lines)
    for key, number in (("down", 58), ("pagedown", 59 - page), ("pageup", 58), ("end", 0), ("up", 1)):
        screen.press(key)
        assert standing(screen) == number
    server.asked(60, "question 60 of all")
    screen.wait()
    assert standing(screen) == 1  # where a person stands
    screen.press("home")
    server.asked(61, "question 61 of all")
    screen.wait()
    assert standing(screen) == 61  # the newest is followed
    screen.click("question 58 ")
    assert standing(screen) == 58
    screen.click("question 58 ")
    assert "question 57 " not in screen.text and "question 58 " in screen.text


def test_columns_go_one_by_one_where_there_is_no_room(screen: Screen, server: ScriptedServer) -> None:
    server.asked(1, "Name a bird.")
    screen.wait()
    names = ("TOKENS", "STATE", "TOK/S", "TIME", "MODEL", "KIND", "PROMPT")  # the least telling last
    seen = []
    for width in range(110, 19, -6):
        screen.resize(width, 20)
        head = next(line for line in screen.lines if "ASKED" in line)
        seen.append(sum(name in head for name in names))
        assert all(name in head for name in names[: seen[-1]]) and "Name a bird"[: width // 4] in screen.text, width
    assert seen == sorted(seen, reverse=True) and seen[0] == 7 and len(set(seen)) == 8


def test_another_server_is_asked_for_by_its_address(screen: Screen, server: ScriptedServer) -> None:
    server.asked(1, "Name a bird.")
    screen.wait()
    screen.press("n")
    screen.say("ftp://x")
    assert "expected a server's address as http://127.0.0.1:8080, got 'ftp://x'" in screen.lines[-1]
    server.begin()
    screen.press("ctrl+u")
    screen.say("127.0.0.1:9090")
    assert "127.0.0.1:9090" in screen.lines[0] and "Name a bird." not in screen.text
    screen.press("n", "escape")
    assert "http://127.0.0.1:8080, and" not in screen.text


@pytest.mark.slow
def test_a_server_is_started_for_the_model_that_is_loaded_and_watched(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = Event()

    def lines(command: list[str]) -> Iterator[str]:
        ready.wait(10)
        yield f"{command[-6:]} at http://127.0.0.1:9090\n"

    class Child:
        def __init__(self, command: list[str], **_: Any) -> None:
            self.stdin, self.stderr = io.StringIO(), lines(command)

        def poll(self) -> None: ...
        def terminate(self) -> None: ...

    monkeypatch.setattr(subprocess, "Popen", Child)
    screen.press("f2")
    screen.burst("ctrl+p", *"server: start", "enter")
    screen.wait(1)
    assert "a server of scripted is being started: a copy of its 0.098 GB" in screen.text
    screen.press("f2")
    assert "being started" not in screen.text  # nor is it said there once it has been
    screen.go("watch")
    ready.set()
    for _ in range(1000):  # its line is read in a thread
        if "127.0.0.1:9090" not in screen.lines[0]:
            screen.wait()
    assert "127.0.0.1:9090" in screen.lines[0] and "being started" not in screen.text


def test_without_a_server_it_says_how_one_is_watched(tmp_path: Path) -> None:
    with Screen(tmp_path) as screen:
        screen.go("watch")
        assert "no server is watched" in screen.text and "likely chat --server" in screen.text
        screen.press("enter", "up", "down", "end")
        assert screen.running


def step(text: str, elapsed_s: float = 0.0, position: int = 3) -> TokenStep:
    nothing = (-1.0, -1.0, 1, 1, 0.5, 0, SamplingConfig(), None, None)
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
