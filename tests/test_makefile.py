"""The Makefile on machines that are not this one."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def python_found(path: Path) -> str:
    """The interpreter that the Makefile would make its environment with, when only `path` is searched for one."""
    show = "include Makefile\nshow:\n\t@echo '[$(PYTHON)]'\n"
    out = subprocess.run(
        ["/usr/bin/env", "make", "--no-print-directory", "-f", "-", "show", f"SHELL={path / 'sh'}"],
        input=show, capture_output=True, text=True, cwd=ROOT, check=True,
    )  # fmt: skip
    return out.stdout.strip()


def shell(folder: Path, **pythons: str) -> Path:
    """A folder with a shell that finds these interpreters and nothing else."""
    for name, body in pythons.items():
        file = folder / name.replace("_", ".")
        file.write_text(f"#!/bin/sh\n{body}\n")
        file.chmod(0o755)
    sh = folder / "sh"
    sh.write_text(f'#!/bin/sh\nPATH={folder} exec /bin/sh "$@"\n')
    sh.chmod(0o755)
    return folder


NEW = f'exec {sys.executable} "$@"'


@pytest.mark.parametrize(
    ("pythons", "found"),
    [
        ({"python3": "exit 1", "python3_12": NEW}, "[python3.12]"),
        ({"python3": NEW, "python3_12": NEW}, "[python3]"),
        ({"python3": "exit 1"}, "[]"),
    ],
)
def test_the_first_that_is_new_enough_is_taken(pythons: dict[str, str], found: str, tmp_path: Path) -> None:
    assert python_found(shell(tmp_path, **pythons)) == found


def test_a_python_that_rosetta_runs_is_passed_over(tmp_path: Path) -> None:
    """On a Mac, the first that was built for its chip."""

    def built_for(machine: str) -> str:
        code = f"import platform; platform.system = lambda: 'Darwin'; platform.machine = lambda: '{machine}'"
        return f'exec {sys.executable} -c "{code}\n$2"'

    assert python_found(shell(tmp_path, python3=built_for("x86_64"), python3_13=built_for("arm64"))) == "[python3.13]"


def make(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`make WORDS` in a folder, with nothing of this clone on Python's path."""
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(
        ["make", "--no-print-directory", *words],
        cwd=folder, env=clean | environment, capture_output=True, text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A copy of what `make` needs, in a folder as a person has one."""
    folder = tmp_path / "My Documents" / "likely"
    folder.mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    for name in ("likely", "app", "engine", "models", "metal"):
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("environment", ["venv", ".venv"])
def test_make_chat_works_where_macos_has_hidden_the_pth_of_the_installation(clone: Path, environment: str) -> None:
    """What the hidden flag does: Python's `site` passes over the file that says where an editable install lies."""
    venv.create(clone / environment, with_pip=False)
    site = next((clone / environment / "lib").glob("python*/site-packages"))
    (site / "lent.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")  # the dependencies; our .pth is not there
    os.utime(clone / "pyproject.toml", (0, 0))
    (clone / environment / ".installed").touch()
    done = make(clone, "chat")
    assert "the full screen needs a terminal" in done.stderr and "No module named" not in done.stderr


def test_a_new_environment_has_no_leading_dot_and_one_that_is_there_is_used(clone: Path) -> None:
    assert "-m venv venv" in make(clone, "-n", "chat").stdout
    (clone / ".venv" / "bin").mkdir(parents=True)
    (clone / ".venv" / "bin" / "python").touch()
    assert ".venv/bin/python -m pip" in make(clone, "-n", "chat").stdout


def test_a_machine_that_cannot_run_it_is_told_before_anything_is_installed(clone: Path, tmp_path: Path) -> None:
    code = "import platform; platform.system = lambda: 'Darwin'; platform.machine = lambda: 'x86_64'; "
    run = "import runpy, sys; runpy.run_path('app/results/preflight.py', run_name='__main__')"
    fake = f'if [ "$1" = -I ]; then exec {sys.executable} -c "{code}{run}"; fi; exec {sys.executable} -c "{code}\n$2"'
    done = make(clone, "chat", f"SHELL={shell(tmp_path, python3=fake) / 'sh'}")
    assert done.returncode != 0 and not (clone / "venv").exists()
    assert "an Intel processor: mlx needs Apple Silicon" in done.stderr and "Traceback" not in done.stderr


def test_soak_is_no_part_of_test() -> None:
    said = (ROOT / "Makefile").read_text().split("\n\n")
    rules = {rule.partition(":")[0]: rule for rule in said}
    assert '-m "not soak"' in rules["test"] and "not soak" in rules["quick"] and "-m soak" in rules["soak"]
