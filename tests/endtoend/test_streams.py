"""Standard streams as a shell may leave them: one line at most, no traceback, and the output where there is a place."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

LIKELY = f"{sys.executable} -c 'from likely.app.cli import main; main()'"
FULL = "standard output cannot be written: No space left on device"


def shell(command: str, home: Path, **environment: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command line."""
    given = {**os.environ, "LIKELY_HOME": str(home), **environment}
    given = {name: value for name, value in given.items() if value}
    done = subprocess.run(["sh", "-c", command], env=given, capture_output=True)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
@pytest.mark.parametrize("buffered", ["", "1"])
def test_full_output_is_one_line(tmp_path: Path, buffered: str) -> None:
    for verb in ("--version", "models --json"):
        code, _, said = shell(f"{LIKELY} {verb} > /dev/full", tmp_path, PYTHONUNBUFFERED=buffered)
        assert (code, said) == (1, f"likely: {FULL}\n")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
def test_what_is_said_beside_an_answer_does_not_cost_it(tmp_path: Path) -> None:
    said = "click.echo('aside', err=True); click.echo('answer')"
    code = f"import click; from likely.app.cli.generate import streams; streams.settle(); {said}"
    assert shell(f'{sys.executable} -c "{code}" 2> /dev/full', tmp_path) == (0, "answer\n", "")


@pytest.mark.slow
def test_closed_streams_are_empty(tmp_path: Path) -> None:
    assert shell(f"{LIKELY} --version >&-", tmp_path) == (0, "", "")
    assert shell(f"{LIKELY} run >&- 2>&- <&-", tmp_path) == (1, "", "")
    code, _, said = shell(f"{LIKELY} run <&-", tmp_path)
    assert (code, said) == (1, "likely: there is nothing to answer: the prompt is empty\n")


def test_no_file_takes_the_number_of_a_closed_stream(tmp_path: Path) -> None:
    said = "file = open('kept', 'w'); print('stray'); file.write('own')"
    code = f"from likely.app.cli.generate import streams; streams.settle(); {said}"
    assert shell(f'cd {tmp_path} && {sys.executable} -c "{code}" >&-', tmp_path, PYTHONPATH=os.getcwd())[0] == 0
    assert (tmp_path / "kept").read_text() == "own"


def test_as_many_files_may_be_open_as_on_linux_where_a_shell_allows_few(tmp_path: Path) -> None:
    """As a Mac's does, whose system allows more; not where its owner has bounded them."""
    told = "import atexit, resource as r, sys; atexit.register(lambda: print(r.getrlimit(r.RLIMIT_NOFILE)[0]))"
    code = f"{told}; sys.argv = ['likely', '--version']; from likely.app.cli import main; main()"
    for limit, allowed in (("-S -n 256", 1024), ("-n 300", 300)):
        command = f'ulimit {limit}; {sys.executable} -c "{code}"'
        said = shell(command, tmp_path, PYTHONPATH=os.getcwd())[1]
        assert said.split()[-1] == str(allowed)


@pytest.mark.parametrize(("encoding", "out"), [("ascii", "é€\\udcff\n".encode()), ("latin-1", b"\xe9\\u20ac\\udcff\n")])
def test_an_encoding_of_few_letters_takes_any_text(tmp_path: Path, encoding: str, out: bytes) -> None:
    code = (
        "import sys; from likely.app.cli.generate import streams; streams.settle(); "
        "sys.stdout.write('\\xe9\\u20ac\\udcff\\n')"
    )
    given = {**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": encoding}
    assert subprocess.run([sys.executable, "-c", code], env=given, capture_output=True, check=True).stdout == out
