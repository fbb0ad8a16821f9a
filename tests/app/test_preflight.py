"""Preflight on machines that are not this one."""

import os
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from likely.app.results.preflight import Host, checks, hidden, inspect

ROOT = Path(__file__).parents[2]
MAC = Host("Darwin", "arm64", True, "15.1", (3, 13, 1), "/opt/homebrew/bin/python3")
LINUX = Host("Linux", "x86_64", False, "", (3, 11, 7), "/usr/bin/python3")


def wrong(host: Host) -> list[str]:
    return [check.line for check in checks(host) if not check.fine]


@pytest.mark.parametrize("host", [MAC, LINUX, replace(MAC, macos="14.0", python=(3, 11, 0)), inspect()])
def test_what_can_run_is_fine(host: Host) -> None:
    assert wrong(host) == []


def test_each_question_has_a_line() -> None:
    assert [check.name for check in checks(MAC)] == ["processor", "macOS", "Python"]
    assert [check.name for check in checks(LINUX)] == ["Python"]


@pytest.mark.parametrize(
    ("host", "words"),
    [
        (
            replace(MAC, machine="x86_64", executable="/usr/local/bin/python3"),
            "/usr/local/bin/python3 is an Intel Python, run by Rosetta",
        ),
        (replace(MAC, machine="x86_64", apple_silicon=False), "an Intel processor: mlx needs Apple Silicon"),
        (replace(MAC, macos="13.6.1"), "macOS 13.6.1: mlx needs 14 or later"),
        (replace(MAC, macos=""), "macOS of an unknown version: mlx needs 14 or later"),
        (
            replace(MAC, python=(3, 9, 6), executable="/usr/bin/python3"),
            "/usr/bin/python3 is Python 3.9.6: 3.11",
        ),
        (replace(LINUX, python=(3, 10, 2)), "is Python 3.10.2: 3.11 or later"),
        (replace(MAC, hidden=("_editable_impl_likely.pth",)), "macOS has hidden _editable_impl_likely.pth"),
    ],
)
def test_what_is_wrong_is_one_line_that_says_what_to_do(host: Host, words: str) -> None:
    (line,) = wrong(host)
    assert words in line and "\n" not in line


def test_the_files_that_macos_has_hidden_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("seen.pth", "gone.pth", "module.py"):
        (tmp_path / name).write_text("")
    flagged = type("Flagged", (), {"st_flags": stat.UF_HIDDEN})()
    plain = type("Plain", (), {"st_flags": 0})()
    monkeypatch.setattr(os, "lstat", lambda path, **_: flagged if Path(path).name == "gone.pth" else plain)
    assert hidden(tmp_path) == ("gone.pth",)


def test_it_runs_by_a_bare_python_before_anything_is_installed() -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", "app/results/preflight.py"], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
