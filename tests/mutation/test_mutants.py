"""Mutation testing: of seeded single changes to the code, how many the tests notice, a folder at a time.

A change is tried on a copy of the repository, with the tests that reach the changed statement, those of the files that
are nearest by name and import first: `tests.mutation.forks`. A test that fails, alone too, and one that does not end,
has noticed. LIKELY_MUTANTS is how many a folder (75), LIKELY_MUTANTS_SEED which (1), and LIKELY_MUTANTS_OUT a file to
which each outcome is added as a line: those that stand there as caught are not tried again. With LIKELY_MUTANTS_EVERY
slow tests count too, and every file that notices is told.

A survivor is a hole in the tests or a change that changes nothing that matters: which, a person says.
"""

import ast
import builtins
import compileall
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from likely.metal.simulator.compiler import cache_folder
from tests.mutation import mutants
from tests.mutation.forks import TESTS, copied

ROOT = Path(__file__).parents[2]
CAUGHT = 0.8  # below this something is wrong with the tests or with this


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    at = tmp_path_factory.mktemp("copy") / "likely"
    copied(ROOT, at)
    compileall.compile_dir(at, quiet=2)  # processes that tests start find the program compiled
    return at


@pytest.mark.soak
@pytest.mark.linux
@pytest.mark.parametrize("folder", ["models", "metal", "engine", "app"])
def test_the_tests_notice_changes(folder: str, copy: Path, tmp_path: Path) -> None:
    out = Path(os.environ.get("LIKELY_MUTANTS_OUT", tmp_path / "out.jsonl")).absolute()
    given = {
        "PYTHONPATH": str(copy),
        "OPENBLAS_NUM_THREADS": "1",
        "LIKELY_HOME": str(tmp_path / "home"),
        "LIKELY_MUTANTS": os.environ.get("LIKELY_MUTANTS", "75"),
        "LIKELY_MUTANTS_SEED": os.environ.get("LIKELY_MUTANTS_SEED", "1"),
        "LIKELY_MUTANTS_OUT": str(out),
        "LIKELY_SIMULATOR_CACHE": str(cache_folder()) if folder != "metal" else str(tmp_path / "simulator"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "LIKELY_MUTANTS_FOLDERS": folder,
    }
    words = ["-m", "pytest", "-q", "--no-header", "--timeout", "0", "-p", "tests.mutation.forks", "tests", "-m"]
    subprocess.run([sys.executable, "-B", *words, TESTS], cwd=copy, env={**os.environ, **given}, check=True)
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    outcomes = {mutant: outcome for outcome, mutant, _ in lines if mutant.startswith(f"{folder}/")}
    left = [f"{outcome}: {mutant}" for mutant, outcome in outcomes.items() if outcome != "caught"]
    assert len(outcomes) - len(left) >= CAUGHT * len(outcomes), "\n".join(left)


SAMPLE = """from __future__ import annotations

def f(x, y=1):
    \"\"\"Of two.\"\"\"
    if x:
        return x + y
    elif y:
        return [n * 2 for n in range(y)]
    return -x
"""


def test_a_probe_tells_which_places_a_call_reaches(monkeypatch: pytest.MonkeyPatch) -> None:
    changes = [ast.unparse(node) for node, _, _ in mutants.places(SAMPLE)]
    hits: list[int] = []
    monkeypatch.setattr(builtins, "probe_hit", hits.append)
    named: dict[str, Any] = {}
    exec(mutants.probed(SAMPLE, dict(enumerate(range(len(changes))))), named)
    assert hits == []
    for arguments, value, reached in (
        ((1, 2), 3, {"1", "return x + y", "x + y"}),
        ((0, 2), [0, 2], {"1", "return [n * 2 for n in range(y)]", "n * 2", "2"}),
        ((0, 0), 0, {"1", "return -x", "-x"}),
    ):
        hits.clear()
        assert named["f"](*arguments) == value
        assert {changes[n] for n in hits} == reached
