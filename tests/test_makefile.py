"""The Makefile on machines that are not this one."""

import subprocess
import sys
from pathlib import Path

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


def test_an_old_python3_is_passed_over(tmp_path: Path) -> None:
    new = f'exec {sys.executable} "$@"'
    assert python_found(shell(tmp_path, python3="exit 1", python3_12=new)) == "[python3.12]"


def test_the_first_that_is_new_enough_is_taken(tmp_path: Path) -> None:
    new = f'exec {sys.executable} "$@"'
    assert python_found(shell(tmp_path, python3=new, python3_12=new)) == "[python3]"


def test_none_is_said_to_be_none(tmp_path: Path) -> None:
    assert python_found(shell(tmp_path, python3="exit 1")) == "[]"
