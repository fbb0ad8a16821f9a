"""Interruption by signals, of real processes: what a run has drawn is kept, and none ends with a traceback."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest

from likely.app import cli
from likely.app.words.interruption import Interruption, heard, settle, stopped_by_signals
from likely.engine.sampling.trace.file import load
from likely.metal import mx
from tests.engine.tiny import BYTES, EOS, LLAMA, weights, write_folder
from tests.support.everyday import everyday

MAIN = [sys.executable, "-m", "likely.app"]
LONG: dict[str, Any] = LLAMA | {"max_position_embeddings": 1 << 16}
NEVER = [word for token in (EOS, BYTES.index("Ċ")) for word in ("--logit-bias", f"{token}=-100")]  # an end, a new line
ENDLESS = (*NEVER, "--temp", "1", "--max-tokens", "60000")
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    arrays = {name: mx.array(array) for name, array in weights(LONG).items()}
    return write_folder(tmp_path_factory.mktemp("model") / "tiny", LONG, arrays)


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    monkeypatch.setenv("LIKELY_HOME", str(tmp_path / "home"))
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    typed = {"chat": subprocess.PIPE}  # `run` reads all that is piped in before it begins
    return lambda verb, *words: subprocess.Popen(
        [*MAIN, verb, *words], text=True, stdin=typed.get(verb, subprocess.DEVNULL), **pipes
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "numbers",
    [(signal.SIGINT,), (signal.SIGTERM,), (signal.SIGHUP, signal.SIGHUP)],
    ids=["ctrl+c", "SIGTERM", "its terminal is closed"],
)
def test_a_run_that_is_stopped_finishes_its_token_and_is_kept(
    numbers: tuple[int, ...], folder: Path, tmp_path: Path, start: Start
) -> None:
    file = tmp_path / "run.jsonl"
    with start("run", "hello", "-M", str(folder), *ENDLESS, "--save", str(file), "--json") as process:
        assert process.stdout is not None and process.stderr is not None
        first = process.stdout.readline()
        for number in numbers:
            process.send_signal(number)
        out, err = process.stdout.read(), process.stderr.read()  # `communicate` would lose what readline has buffered
        process.wait()
    assert process.returncode == 130
    assert err.splitlines()[-1] == f"likely: stopped; what was drawn is in {file}", err
    (trace,) = load(file)
    assert trace.finish == "cancelled" and len(trace.steps) == len((first + out).splitlines()) - 1


@pytest.mark.slow
def test_a_run_whose_reader_goes_away_is_kept(folder: Path, tmp_path: Path, start: Start) -> None:
    file = tmp_path / "run.jsonl"
    with start("run", "hello", "-M", str(folder), *ENDLESS, "--save", str(file), "--json") as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(3)]
        process.stdout.close()
        process.wait()
    (trace,) = load(file)
    assert trace.finish == "cancelled" and len(trace.steps) >= len(lines)


@pytest.mark.parametrize(
    "words", everyday([((),), (("--beam", "2"),), (("-n", "2", "--json"),)], 3), ids=["one", "beams", "several"]
)
def test_a_full_disk_under_stdout_does_not_cost_the_run(
    words: tuple[str, ...], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing can be printed, what was drawn is saved all the same."""
    monkeypatch.setenv("LIKELY_HOME", str(tmp_path / "home"))
    file = tmp_path / "run.jsonl"
    run = [*MAIN, "run", "hello", "-M", str(folder), "--max-tokens", "4", *words, "--save", str(file)]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(run, stdout=full, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    assert done.returncode == 1 and done.stderr.splitlines()[-1].startswith("likely: standard output cannot be written")
    assert load(file)[0].steps


@pytest.mark.slow
@pytest.mark.parametrize("last", [signal.SIGTERM, signal.SIGHUP], ids=["SIGTERM", "its terminal is closed"])
def test_a_chat_by_lines_ends_by_a_signal_and_goes_on_after_ctrl_c(last: int, folder: Path, start: Start) -> None:
    with start("chat", "--plain", "-M", str(folder), *ENDLESS) as process:
        assert process.stdin is not None and process.stdout is not None
        for number in (signal.SIGINT, last):
            process.stdin.write("hello\n")
            process.stdin.flush()
            process.stdout.read(1)
            process.send_signal(number)
            process.stdout.readline()
        _, err = process.communicate()
    assert (process.returncode, err) == (0, "")


@pytest.mark.slow
def test_a_second_signal_ends_without_a_word(folder: Path, start: Start) -> None:
    with start("run", "hello", "-M", str(folder), *ENDLESS) as process:
        assert process.stdout is not None
        process.stdout.read(1)
        for _ in range(3):
            process.send_signal(signal.SIGINT)
        _, err = process.communicate()
    assert process.returncode in (130, -signal.SIGINT) and "Traceback" not in err, err


@pytest.mark.parametrize(
    ("first", "second", "ended"),
    [
        (signal.SIGINT, signal.SIGINT, [130]),
        (signal.SIGHUP, signal.SIGTERM, [130]),
        (signal.SIGTERM, signal.SIGHUP, [130]),
        (signal.SIGHUP, signal.SIGHUP, []),
    ],
)
def test_only_a_terminal_may_be_told_twice_to_be_closed(
    first: int, second: int, ended: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interactive shell hands SIGHUP on to what runs, and the system sends another when the shell has ended."""
    codes: list[int] = []
    stops: list[str] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    it = Interruption(lambda: stops.append("stop"))
    it(first, None)
    assert stops == ["stop"] and not codes and it.came == first
    it(second, None)
    assert codes == ended


def test_a_signal_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert signal.SIGHUP not in heard() and signal.SIGTERM in heard()
        with stopped_by_signals(list) as interruption:
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is interruption
    finally:
        signal.signal(signal.SIGHUP, before)
    assert signal.SIGHUP in heard()


def swallowed() -> None:
    """A signal that C code met in Python, as an extension module does that is being imported."""
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("not heard")


def test_a_signal_that_was_swallowed_is_heard_where_work_begins() -> None:
    assert not settle().came
    with stopped_by_signals(list):
        pass
    swallowed()
    with pytest.raises(KeyboardInterrupt), stopped_by_signals(list):
        raise AssertionError("the work began")


def test_an_error_that_a_signal_became_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    class Broken(ModuleType):
        """What is imported of a verb while the signal comes."""

        @property
        def command(self) -> click.Command:
            swallowed()
            raise ImportError("cannot initialise module strings")

    monkeypatch.setitem(sys.modules, "likely.app.cli.commands.bench", Broken("likely.app.cli.commands.bench"))
    monkeypatch.setattr(sys, "argv", ["likely", "bench"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 130 and capfd.readouterr() == ("", "likely: stopped\n")
