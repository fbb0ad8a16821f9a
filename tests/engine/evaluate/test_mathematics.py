"""Answers compared as mathematics: what is said to the process that compares, what it says, and that it is ended."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from likely.engine.answers import mathematics
from likely.engine.answers.mathematics import is_bare, same
from likely.engine.answers.program import VerifierError


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
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Lets processes be scripted: those that are started are these, in this order."""
    mathematics.end()

    def script(*children: ScriptedChild) -> None:
        waiting = list(children)
        monkeypatch.setattr(subprocess, "Popen", lambda *_, **how: waiting.pop(0))

    yield script
    mathematics.end()


def gone(child: ScriptedChild) -> bool:
    return child.killed and child.waited and child.stdout.closed and child.stdin.closed


def test_a_warm_process_is_asked_a_line_and_says_one(started: Any) -> None:
    child = ScriptedChild(b"ready\n", b"1\n", b"0\n", b" 1 \n")
    started(child)
    assert [same("so $1/2$", "0.5", 1.0), same("x", "y", 1.0), same("a", "a", 1.0)] == [True, False, True]
    asked = [json.loads(line) for line in child.stdin.getvalue().splitlines()]
    assert asked == [{"said": a, "answer": b} for a, b in (("so $1/2$", "0.5"), ("x", "y"), ("a", "a"))]
    assert not child.killed
    mathematics.end()
    assert gone(child)


class Broken(io.BytesIO):
    """A pipe whose other end fails."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def write(self, _: Any) -> int:
        raise self.error


@pytest.mark.parametrize("how", ["silent", "hung up", "deaf", "interrupted", "dead"])
def test_one_that_gives_no_verdict_is_ended_and_another_one_answers_next(how: str, started: Any) -> None:
    """An interruption too: the verdict that nobody waited for would be read as the next answer's."""
    child, other = ScriptedChild(b"ready\n"), ScriptedChild(b"ready\n", b"1\n")
    started(child, other)
    error: type[BaseException] = VerifierError
    said = {"silent": r"no verdict within 0\.01 s: it was stopped", "interrupted": ""}.get(
        how, "ended without a verdict"
    )
    if how == "hung up":
        child.hang_up()
    elif how == "deaf":
        child.stdin = Broken(BrokenPipeError())
    elif how == "interrupted":
        child.stdin, error = Broken(KeyboardInterrupt()), KeyboardInterrupt
    elif how == "dead":
        child.stdin = Broken(BrokenPipeError())
        child.ended = 0  # type: ignore[assignment]
    with pytest.raises(error, match=said):
        same("a", "b", 0.01)
    assert gone(child)
    assert same("a", "b", 1.0) and not other.killed


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
    def parse(text: str, parsing_timeout: object) -> list[str]:
        print("noise")  # of whatever prints
        return [] if text in ("$?$", "none", "$none$") else [text.strip("$")]

    def verify(gold: list[str], said: list[str], timeout_seconds: object) -> bool:
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
