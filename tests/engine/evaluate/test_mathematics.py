"""Answers compared as mathematics: what is said to the process that compares, what it says, and that it is ended."""

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from likely.engine.base.errors import ParameterError
from likely.engine.decode.answers import mathematics
from likely.engine.decode.answers.mathematics import is_bare, same
from likely.engine.decode.answers.program import VerifierError
from likely.engine.measure.evaluate.tasks.tasks import Question, TaskSettings
from likely.engine.measure.evaluate.tasks.verifiers import check, judge


class ScriptedChild:
    """A process whose lines are given; `ended` is the exit code where it has one."""

    def __init__(self, *lines: bytes) -> None:
        read, write = os.pipe()
        os.write(write, b"".join(lines))
        self.stdout = os.fdopen(read, "rb", buffering=0)
        self.stdin: Any = io.BytesIO()
        self.stderr = None
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


@pytest.mark.slow
def test_answers_are_the_same_mathematics_or_not() -> None:
    """By math-verify, in a process that is ended where it does not end: 10^10^10 is never written out."""
    settings = TaskSettings(scorers=("math",), seconds=30.0)
    for said, answer, right in (
        ("so it is $\\frac{1}{2}$.", "0.5", 1), ("\\boxed{\\frac{2}{4}}", "\\frac12", 1),
        ("$x^2+2x+1$", "(x+1)^2", 1), ("$\\{1, 2\\}$", "\\{2, 1\\}", 1), ("3\\sqrt{2}", "3\\sqrt{2}", 1),
        ("3", "3\\sqrt{2}", 0), ("3\\sqrt{2}", "3", 0), ("the answer is 8", "7", 0), ("nothing", "7", 0),
    ):  # fmt: skip
        assert judge(Question("p", (answer,)), said, settings) == {"math": right}, (said, answer)
    with pytest.raises(VerifierError, match=r"no verdict within 0\.3 s: it was stopped"):
        same("$10^{10^{10}}$", "7", 0.3)
    assert same("7", "7", 30.0)  # another one was started


def test_without_math_verify_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "math_verify", None)
    with pytest.raises(ParameterError, match="pip install math-verify"):
        check(TaskSettings(scorers=("math",)))
