"""Mutation testing: of seeded single changes to the code, how many the tests notice, a folder at a time.

A change is tried on a copy of the repository, with the everyday tests that call the changed function: the test files
that are nearest to its file by name and import, and in them what a recorded map of calls names. A test that fails, and
one that does not end, has noticed. What a test does in child processes the map does not see. LIKELY_MUTANTS is how many
a folder (75), LIKELY_MUTANTS_SEED which (1), and LIKELY_MUTANTS_OUT a file to which each outcome is added as a line.

A survivor is a hole in the tests or a change that changes nothing that matters: which, a person says, and EQUIVALENT
keeps what they said.
"""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.mutation.mutants import Mutant, drawn

ROOT = Path(__file__).parents[2]
COPIED = ("app", "engine", "metal", "models", "tests", "docs", "benchmarks")
NEAR = 3  # test files a mutant
TESTS = 60  # tests a mutant, the fewest functions first: they are about least else
LONGEST_S = 300.0
MEMORY = 8 << 30
CAUGHT = 0.92
EVERYDAY = "not slow and not real and not soak"
EQUIVALENT = frozenset(  # path, and the change: the last axis of two, how much is fetched at once, a slice past the end
    {
        (
            "models/packed_cache.py",
            "first, last = low // LANES, -(-high // LANES): -high // LANES -> -high * LANES",
        ),
        (
            "engine/numerics.py",
            "bad = np.flatnonzero(~np.isfinite(np.asarray(x[0].astype(mx.float32))).all(axis=-1)): -1 -> 1",
        ),
        (
            "engine/sources/fetch/hub.py",
            "CHUNK = 1 << 20  # what a broken connection may cost, and how often a person can stop it: 20 -> 21",
        ),
    }
)


class Copy:
    """The repository a second time, with a map of its tests' calls that grows as it is asked for."""

    def __init__(self, at: Path) -> None:
        self.at = at
        for name in COPIED:
            shutil.copytree(ROOT / name, at / name, ignore=shutil.ignore_patterns("__pycache__"))
        for file in ROOT.glob("*.*"):
            if file.is_file():
                shutil.copy(file, at)
        shutil.copy(ROOT / "Makefile", at)
        self.texts = {str(path.relative_to(at)): path.read_text() for path in sorted(at.glob("tests/**/test_*.py"))}
        self.calls: dict[str, list[tuple[str, int, set[tuple[str, int]]]]] = {}

    def near(self, path: str) -> list[str]:
        """The test files that are most about a file of the program."""
        stem, module = Path(path).stem, path.removesuffix(".py").replace("/", ".")
        parent, _, last = module.rpartition(".")
        imported = re.compile(rf"\b{re.escape(module)}\b|from {re.escape(parent)} import [^\n]*\b{last}\b")
        public = re.findall(r"^(?:class|def) ([A-Za-z]\w+)", (self.at / path).read_text(), re.MULTILINE)
        named = re.compile(rf"\b({'|'.join([*public, stem])})\b")
        scores = {
            name: 8 * (Path(name).stem in (f"test_{stem}", f"test_{Path(path).parent.name}"))
            + 4 * bool(imported.search(text))
            + 2 * min(3, len(set(named.findall(text))))
            + _common(name, path)
            for name, text in self.texts.items()
            if "mutation" not in name
        }
        return sorted(scores, key=lambda name: -scores[name])[:NEAR]

    def covering(self, mutant: Mutant) -> list[str]:
        """Tests that call the mutant's function: what stands in no function, is read by all that touch its file."""
        found = []
        for file in self.near(mutant.path):
            if file not in self.calls:
                self.calls[file] = self._record(file)
            for test, size, calls in self.calls[file]:
                hit = (mutant.path, mutant.function) in calls
                if hit or (not mutant.function and any(path == mutant.path for path, _ in calls)):
                    found.append((size, test))
        return [test for _, test in sorted(found)[:TESTS]]

    def _record(self, file: str) -> list[tuple[str, int, set[tuple[str, int]]]]:
        record = self.at / "calls.jsonl"
        record.unlink(missing_ok=True)
        self.run(["-p", "tests.mutation.calls", file], LIKELY_CALLS=str(record))
        lines = [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []
        return [(line["test"], len(line["calls"]), {(path, n) for path, n in line["calls"]}) for line in lines]

    def run(self, arguments: list[str], **environment: str) -> tuple[int, str]:
        """pytest's exit code, and what it said last; a run that does not end is ended, and has failed."""
        home = str(self.at / "home")
        given = {**os.environ, "PYTHONPATH": str(self.at), "OPENBLAS_NUM_THREADS": "1", "LIKELY_HOME": home}
        process = subprocess.Popen(
            [sys.executable, "-B", "-m", "pytest", "-x", "-q", "--no-header", "--tb=no", "-m", EVERYDAY, *arguments],
            cwd=self.at, env={**given, **environment}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True, preexec_fn=_bounded,
        )  # fmt: skip
        try:
            said, _ = process.communicate(timeout=LONGEST_S)
            return process.returncode, said[-400:]
        except subprocess.TimeoutExpired:
            return 1, "does not end"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def outcome(self, mutant: Mutant) -> tuple[str, str]:
        """ "caught", "survived" or "uncovered", and by whom."""
        tests = self.covering(mutant)
        if not tests:
            return "uncovered", ""
        file = self.at / mutant.path
        before = file.read_text()
        file.write_text(mutant.text)
        try:
            code, said = self.run(tests)
        finally:
            file.write_text(before)
        failed = re.search(r"^(FAILED|ERROR) (\S+)", said, re.MULTILINE)
        return ("survived" if code == 0 else "caught"), failed[2] if failed else f"{len(tests)} tests"


def _common(one: str, other: str) -> int:
    """How many folders two paths share: the screens of `app/tui` have their tests in `tests/tui`."""
    count = 0
    for a, b in zip(Path(one).parent.parts[1:], Path(other.replace("app/tui/", "tui/")).parent.parts, strict=False):
        if a != b:
            break
        count += 1
    return count


def _bounded() -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Copy]:
    at = tmp_path_factory.mktemp("copy") / "likely"
    yield Copy(at)
    shutil.rmtree(at)


@pytest.mark.soak
@pytest.mark.parametrize("folder", ["models", "metal", "engine", "app"])
def test_the_tests_notice_changes(folder: str, copy: Copy) -> None:
    count, seed = int(os.environ.get("LIKELY_MUTANTS", "75")), int(os.environ.get("LIKELY_MUTANTS_SEED", "1"))
    survivors, matter = [], 0
    for mutant in drawn(copy.at, folder, count, seed):
        if (mutant.path, mutant.change) in EQUIVALENT:
            continue
        outcome, by = copy.outcome(mutant)
        matter += 1
        if outcome != "caught":
            survivors.append(str(mutant))
        if out := os.environ.get("LIKELY_MUTANTS_OUT"):
            with open(out, "a") as file:
                file.write(json.dumps([outcome, str(mutant), by]) + "\n")
    assert matter - len(survivors) >= CAUGHT * matter, "\n".join(survivors)
