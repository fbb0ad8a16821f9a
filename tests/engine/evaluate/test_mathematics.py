"""Answers compared as mathematics: what is said to the process that compares, what it says, and that it is ended."""

import io
import json
import os
import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest

from engine.evaluate import mathematics
from engine.evaluate.mathematics import is_bare, same
from engine.evaluate.program import VerifierError


class ScriptedChild:
    """A process whose lines are given; `ended` is the exit code where it has one."""

    def __init__(self, *lines: bytes) -> None:
        read, write = os.pipe()
        os.write(write, b"".join(lines))
        self.stdout = os.fdopen(read, "rb", buffering=0)
        self.stdin: Any = io.BytesIO()
        self.writer, self.ended, self.killed, self.waited = write, None, False, False

    def hang_up(self) -> None:
        os.close(self.writer)

    def poll(self) -> int | None:
        return self.ended

    def kill(self) -> None:
        self.killed = True

    def wait(self) -> None:
        self.waited = True


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    found: list[Any] = []
    monkeypatch.setattr(mathematics, "_children", found)
    return found


def gone(child: ScriptedChild) -> bool:
    return child.killed and child.waited and child.stdout.closed and child.stdin.closed


def test_a_warm_process_is_asked_a_line_and_says_one(children: list[Any]) -> None:
    child = ScriptedChild(b"1\n", b"0\n", b" 1 \n")
    children.append(child)
    assert [same("so $1/2$", "0.5", 1.0), same("x", "y", 1.0), same("a", "a", 1.0)] == [True, False, True]
    asked = [json.loads(line) for line in child.stdin.getvalue().splitlines()]
    assert asked == [{"said": a, "answer": b} for a, b in (("so $1/2$", "0.5"), ("x", "y"), ("a", "a"))]
    assert children == [child] and not child.killed


def test_one_that_says_nothing_in_time_is_ended(children: list[Any]) -> None:
    child = ScriptedChild()
    children.append(child)
    with pytest.raises(VerifierError, match=r"no verdict within 0\.01 s: it was stopped"):
        same("a", "b", 0.01)
    assert gone(child) and children == []


def test_one_that_has_ended_gives_no_verdict(children: list[Any]) -> None:
    silent, deaf = ScriptedChild(), ScriptedChild()
    silent.hang_up()
    children.append(silent)
    with pytest.raises(VerifierError, match="ended without a verdict"):
        same("a", "b", 1.0)
    assert gone(silent) and children == []

    def broken(_: bytes) -> int:
        raise BrokenPipeError

    deaf.stdin.write = broken
    children.append(deaf)
    with pytest.raises(VerifierError, match="ended without a verdict"):
        same("a", "b", 1.0)
    assert gone(deaf) and children == []


def test_an_interruption_leaves_no_verdict_for_the_next(children: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    child = ScriptedChild(b"1\n")
    children.append(child)

    def interrupted(*_: Any) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr(mathematics, "_line", interrupted)
    with pytest.raises(KeyboardInterrupt):
        same("a", "b", 1.0)
    assert gone(child) and children == []


def test_another_process_is_started_where_none_is_warm(children: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []

    def start(command: list[str], **how: Any) -> ScriptedChild:
        started.append(how)
        return ScriptedChild(b"ready\n", b"1\n")

    monkeypatch.setattr(subprocess, "Popen", start)
    dead = ScriptedChild()
    dead.ended = 0  # type: ignore[assignment]
    children.append(dead)
    assert same("a", "b", 1.0) and gone(dead) and len(children) == 1
    (how,) = started
    assert how["start_new_session"] is True and how["bufsize"] == 0
    assert how["stdin"] == how["stdout"] == subprocess.PIPE and how["stderr"] == subprocess.DEVNULL
    waits: list[float] = []
    monkeypatch.setattr(mathematics, "_line", lambda child, seconds: waits.append(seconds) or b"1")
    mathematics.end()
    assert same("a", "b", 2.5) and waits == [60.0, 2.5]  # time to be imported, then the answer's own
    monkeypatch.undo()


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ("3\\sqrt{2}", True), ("x + 1", True), ("1", True), ("", True), ("\\frac{ab}{c}", False), ("so 3", False),
        ("$3$", False), ("\\boxed{3}", False), ("\\(3\\)", False), ("\\[3\\]", False), ("a b", True),
    ],
)  # fmt: skip
def test_an_expression_alone_has_neither_words_nor_marks(text: str, bare: bool) -> None:
    assert is_bare(text) is bare


def test_the_process_answers_each_line_with_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def parse(text: str, parsing_timeout: object) -> list[str]:
        asked.append((text, parsing_timeout))
        print("noise")  # of whatever prints
        return [] if text in ("$?$", "none", "$none$") else [text.strip("$")]

    def verify(gold: list[str], said: list[str], timeout_seconds: object) -> bool:
        asked.append((gold, said, timeout_seconds))
        return gold == said

    module = ModuleType("math_verify")
    module.parse, module.verify = parse, verify  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "math_verify", module)
    rows = [("7", "7"), ("7", "8"), ("none", "none"), ("?", "7"), ("the $7$", "7")]
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr(
        sys, "stdin", io.StringIO("".join(json.dumps({"answer": a, "said": s}) + "\n" for a, s in rows))
    )
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    mathematics.main()
    monkeypatch.undo()
    assert out.getvalue().split() == ["ready", "1", "0", "0", "0", "0"] and "noise" in err.getvalue()
    assert asked[:3] == [("$7$", None), ("$7$", None), (["7"], ["7"], None)]
    assert ("none", None) in asked and ("$none$", None) not in asked  # a word is no expression alone
    assert asked[-3:] == [("the $7$", None), ("$7$", None), (["the $7"], ["7"], None)]
    assert ("$?$", None) in asked and ("?", None) in asked  # what is found where the whole says nothing
