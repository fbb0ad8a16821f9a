"""What a run of the tests on a Mac, or on any machine, leaves out is listed at its end."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOME = """
import os, subprocess, sys

import pytest
from likely.metal import mx
from likely.metal.device import available

def child():
    code = "from likely.metal import mx; from likely.metal.device import available; "
    code += "print(mx.default_device() == mx.cpu, available())"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

@pytest.mark.linux
def test_linux(): pass

@pytest.mark.metal
def test_metal():
    assert mx.default_device() == mx.gpu and available() and child() == "False True\\n"

@pytest.mark.soak
def test_soak(): pass

def test_any():
    assert mx.metal.is_available() and mx.default_device() == mx.cpu and not available() and child() == "True False\\n"

def test_skipping(): pytest.skip("no tmux")
"""
MAC = """
import platform
platform.system = lambda: "Darwin"
"""


def run(folder: Path, *options: str) -> str:
    (folder / "mac.py").write_text(MAC)
    (folder / "test_some.py").write_text(SOME)
    words = ["-p", "mac", "-p", "tests.needs", "-c", "/dev/null", "-q", "-W", "ignore", *options, "test_some.py"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words],
        cwd=folder, env={"PYTHONPATH": f"{folder}:{ROOT}/tests/mac:{ROOT}", "PATH": ""}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_what_a_mac_cannot_run_is_listed_and_the_rest_runs_on_the_cpu(tmp_path: Path) -> None:
    said = run(tmp_path)
    assert "3 passed, 2 skipped" in said
    assert said.partition("not run:\n")[2].splitlines()[:2] == ["    1  needs Linux", "    1  no tmux"]


@pytest.mark.slow
def test_what_a_choice_of_markers_leaves_out_is_listed(tmp_path: Path) -> None:
    assert "    1  left out by -m 'not soak'\n" in run(tmp_path, "-m", "not soak")


@pytest.mark.parametrize("marker", ["linux", "metal", "real", "slow", "soak"])
def test_every_need_is_a_marker(marker: str) -> None:
    options = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    assert (
        any(re.match(rf"{marker}\b.*: ", line) for line in options["markers"])
        and "-p tests.needs" in options["addopts"]
    )
