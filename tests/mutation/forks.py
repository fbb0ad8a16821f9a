"""Mutants by fork: a pytest plugin in the place of the loop over tests. Each mutant is tried in a fork of one process.

The process has imported the program and collected the tests; nothing was computed in it, so it has one thread and is
safe to fork. In a fork the code of the changed function is exchanged in place, and the changed file lies on the disk
for what is imported late and for processes that tests start. What no function's code holds (a default, a constant of a
module) is not tried. Which tests reach a mutant, and what they cost, is recorded once a test file, by probes.

LIKELY_MUTANTS_FOLDERS are the folders (or files) whose mutants are tried; the rest of the environment is
`test_mutants`'s.
"""

import gc
import json
import os
import re
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import accumulate, zip_longest
from os import _exit as leave
from pathlib import Path
from types import CodeType, FunctionType

import _pytest.main
import pytest

from tests.mutation import probe
from tests.mutation.mutants import Mutant, drawn, probed

EVERY = bool(os.environ.get("LIKELY_MUTANTS_EVERY"))  # go on after the first file that notices
TESTS = "not real and not soak" if EVERY else "not slow and not real and not soak"  # as a marker expression
NEAR = 12  # test files a mutant
CASES = 3  # of a parametrised test that come before the cases of others
RECORDED_S = 25.0  # processor time of the tests of a file that are recorded
BUDGET_S = 5.0  # of those that are tried of a file
LONGEST_S = 240.0  # by the clock, and SLOWER times what the tests cost; what does not end has been noticed
SLOWER = 12.0
MEMORY = 8 << 30
UNTRIED = 77


@dataclass(frozen=True)
class Case:
    """A test, what it costs, and which mutants it reaches."""

    test: str
    cost_s: float  # of processor time
    reached: frozenset[str]


class Forks:
    """The tests of one collected session, and what is known of which mutants they reach."""

    def __init__(self, session: pytest.Session, root: Path, mutants: list[Mutant]) -> None:
        self.session, self.root, self.mutants = session, root, mutants
        self.texts = {str(p.relative_to(root)): p.read_text() for p in sorted(root.glob("tests/**/test_*.py"))}
        self.items = {item.nodeid: item for item in session.items}
        self.files = {test.split("::")[0] for test in self.items}
        self.known: dict[str, list[Case]] = {}  # by test file
        self.functions = held(root)
        gc.collect()
        gc.freeze()  # what is collected in a fork does not copy all pages
        texts: dict[str, dict[int, int]] = {}
        for number, mutant in enumerate(mutants):
            texts.setdefault(mutant.path, {})[mutant.place] = number
        self.probed = {path: probed((root / path).read_text(), numbers) for path, numbers in texts.items()}

    # -- which tests -------------------------------------------------------------------------------------------------

    def near(self, path: str) -> list[str]:
        """Test files, those that are most about a file of the program first."""
        stem, module = Path(path).stem, path.removesuffix(".py").replace("/", ".")
        parent, _, last = module.rpartition(".")
        imported = re.compile(rf"\b{re.escape(module)}\b|from {re.escape(parent)} import [^\n]*\b{last}\b")
        public = re.findall(r"^(?:class|def) ([A-Za-z]\w+)", (self.root / path).read_text(), re.MULTILINE)
        named = re.compile(rf"\b({'|'.join([*public, stem])})\b")
        scores = {
            name: 8 * (Path(name).stem in (f"test_{stem}", f"test_{Path(path).parent.name}"))
            + 4 * bool(imported.search(text))
            + 2 * min(3, len(set(named.findall(text))))
            + _common(name, path)
            for name, text in self.texts.items()
            if name in self.files
        }
        return sorted(scores, key=lambda name: -scores[name])

    def cases(self, mutant: Mutant, file: str) -> list[Case]:
        """Tests of a file that reach a mutant, the cheapest first, within the budget."""
        if file not in self.known:
            with _written(self.root, self.probed):
                self.record(file)
        found = sorted((c for c in self.known[file] if str(mutant) in c.reached), key=lambda case: case.cost_s)
        spent = accumulate(case.cost_s for case in found)
        return [case for n, (case, cost) in enumerate(zip(found, spent, strict=True)) if not n or cost < BUDGET_S]

    def record(self, file: str) -> None:
        """What the tests of a file reach."""
        by: dict[str, list[pytest.Item]] = {}
        for test, item in self.items.items():
            if test.startswith(f"{file}::"):
                by.setdefault(test.split("[")[0], []).append(item)
        spread = (items[:: -(-len(items) // CASES)] for items in by.values())
        chosen = [item for turn in zip_longest(*spread) for item in turn if item is not None]
        chosen += [item for items in by.values() for item in items if item not in chosen]
        hits, lines = self.root / "hits", self.root / "cases"
        lines.unlink(missing_ok=True)

        def work() -> int:
            os.environ["LIKELY_HITS"] = str(hits)
            self.session.config.option.maxfail = 0
            self.session.config.pluginmanager.register(_Recorder(hits, lines))
            exchange(self.root, self.probed, self.functions)
            return self.run(chosen)

        self.forked(work, LONGEST_S + SLOWER * 2 * RECORDED_S)
        read = [json.loads(line) for line in lines.read_text().splitlines()] if lines.exists() else []
        name = {number: str(mutant) for number, mutant in enumerate(self.mutants)}
        self.known[file] = [
            Case(test, cost, frozenset(name[n] for n in reached))
            for test, cost, reached, ok in read
            if ok  # one that fails unchanged can tell nothing
        ]

    # -- what they say -----------------------------------------------------------------------------------------------

    def outcome(self, mutant: Mutant) -> tuple[str, list[str]]:
        """ "caught", "survived" or "uncovered", and a test of each file that notices (of the first, unless EVERY)."""
        tried, noticing = 0, []
        for file in self.near(mutant.path)[:NEAR]:
            cases = self.cases(mutant, file)
            tried += len(cases)
            if by := self.noticed(mutant, cases):
                noticing.append(by)
                if not EVERY:
                    break
        return "caught" if noticing else "survived" if tried else "uncovered", noticing

    def noticed(self, mutant: Mutant, cases: list[Case]) -> str:
        """Which of these tests notices, also alone; empty if none does."""
        left = cases
        while left and (by := self.tried(mutant, left)):
            alone = [case for case in left if case.test == by]
            if not alone or left == alone or self.tried(mutant, alone):
                return by
            left = [case for case in left if case.test != by]  # it had failed by those before it
        return ""

    def tried(self, mutant: Mutant, cases: list[Case]) -> str:
        """Which of these tests fails; empty if none does."""
        tests, longest_s = [case.test for case in cases], LONGEST_S + SLOWER * sum(case.cost_s for case in cases)
        said = self.root / "said"
        said.unlink(missing_ok=True)

        def work() -> int:
            if not exchange(self.root, {mutant.path: mutant.text}, self.functions):
                return UNTRIED
            self.session.config.pluginmanager.register(_Teller(said))
            return self.run([self.items[test] for test in tests])

        with _written(self.root, {mutant.path: mutant.text}):
            code = self.forked(work, longest_s)
        if code in (0, UNTRIED):
            return ""
        return said.read_text() if said.exists() else "does not end" if code is None else f"ends with {code}"

    def run(self, items: list[pytest.Item]) -> int:
        self.session.items = items
        with suppress(self.session.Failed, self.session.Interrupted):
            _pytest.main.pytest_runtestloop(self.session)
        return int(self.session.testsfailed > 0)

    def forked(self, work: Callable[[], int], longest_s: float) -> int | None:
        """What work returns in a fork; None if it did not end."""
        child = os.fork()
        if not child:
            os.setpgid(0, 0)
            _bounded()
            null = os.open(os.devnull, os.O_RDWR)
            for stream in (1, 2):
                os.dup2(null, stream)
            code = 99
            try:
                code = work()
            finally:
                leave(code)
        began = time.monotonic()
        try:
            while time.monotonic() - began < longest_s:
                pid, status = os.waitpid(child, os.WNOHANG)
                if pid:
                    return os.waitstatus_to_exitcode(status)
                time.sleep(0.02)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return None
        finally:
            _end(child)


class _Recorder:
    """Of each test what it reached, what it cost and whether it passed, as lines of JSON."""

    def __init__(self, hits: Path, lines: Path) -> None:
        self.hits, self.lines, self.failed, self.spent_s = hits, lines, False, 0.0

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self.failed = False
        probe.begin(str(self.hits))
        began = sum(os.times()[:4])
        try:
            return (yield)
        finally:
            cost = sum(os.times()[:4]) - began
            self.spent_s += cost
            if self.spent_s > RECORDED_S:
                item.session.shouldstop = "enough"
            reached = sorted({int(n) for n in self.hits.read_text().split()})
            with self.lines.open("a") as file:
                file.write(json.dumps([item.nodeid, round(cost, 3), reached, not self.failed]) + "\n")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.failed |= not report.passed


class _Teller:
    """Writes down the first test that failed."""

    def __init__(self, said: Path) -> None:
        self.said = said

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and not self.said.exists():
            self.said.write_text(report.nodeid)


def exchange(root: Path, texts: dict[str, str], functions: dict[str, list[FunctionType]]) -> int:
    """Give the functions of files that are imported the code they have in these texts: how many are another."""
    new: dict[tuple[str, CodeType], CodeType] = {}
    for path, text in texts.items():
        name = str(root / path)
        before, after = (compile(t, name, "exec", dont_inherit=True) for t in (_originals[root / path], text))
        new |= {(name, old): code for old, code in _functions(before, after) if old != code}
    count = 0
    for name in {name for name, _ in new}:
        for function in functions.get(name, ()):
            code = new.get((name, function.__code__))
            if code is not None and code.co_freevars == function.__code__.co_freevars:
                function.__code__ = code
                count += 1
    return count


def held(root: Path) -> dict[str, list[FunctionType]]:
    """The functions that are held in memory, by the file they come from, which was imported through a link."""
    found: dict[str, list[FunctionType]] = {}
    for function in gc.get_objects():
        if type(function) is FunctionType and function.__code__.co_filename.startswith(str(root)):
            name = function.__code__.co_filename.replace(f"{root}/likely/", f"{root}/", 1)
            found.setdefault(name, []).append(function)
    return found


_originals: dict[Path, str] = {}  # of the files that lie on the disk with another text


def _functions(before: CodeType, after: CodeType) -> Iterator[tuple[CodeType, CodeType]]:
    one, two = ([c for c in code.co_consts if isinstance(c, CodeType)] for code in (before, after))
    for a, b in zip(one, two, strict=False):
        if a.co_name == b.co_name:
            yield a, b
            yield from _functions(a, b)


@contextmanager
def _written(root: Path, texts: dict[str, str]) -> Iterator[None]:
    """Texts that lie on the disk for a while, without a trace in what is compiled."""
    for path, text in texts.items():
        file = root / path
        _originals[file] = file.read_text()
        for compiled in file.parent.glob(f"__pycache__/{file.stem}.*"):
            compiled.unlink()
        file.write_text(text)
    try:
        yield
    finally:
        for path in texts:
            (root / path).write_text(_originals.pop(root / path))


def _common(one: str, other: str) -> int:
    """How many folders two paths share: the screens of `app/tui` have their tests in `tests/screen`."""
    count = 0
    for a, b in zip(Path(one).parent.parts[1:], Path(other.replace("app/tui/", "screen/")).parent.parts, strict=False):
        if a != b:
            break
        count += 1
    return count


def _bounded() -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))


def _end(group: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    folders = os.environ.get("LIKELY_MUTANTS_FOLDERS", "").split()
    if not folders:
        return None
    threads = len(os.listdir("/proc/self/task"))
    assert threads == 1, f"{threads} threads after the tests were collected: one computes while it is imported"
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    root = Path.cwd()
    out = Path(os.environ["LIKELY_MUTANTS_OUT"])
    said = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
    done = {mutant for outcome, mutant, _ in said if outcome == "caught"}
    count, seed = (int(os.environ[f"LIKELY_MUTANTS{name}"]) for name in ("", "_SEED"))
    drawn_of = {folder: drawn(root, folder, count, seed) for folder in folders}
    forks = Forks(session, root, [mutant for some in drawn_of.values() for mutant in some])
    # of each folder by turns: a run that is ended says something of each
    for mutant in (each for turn in zip_longest(*drawn_of.values()) for each in turn):
        if mutant is not None and str(mutant) not in done:
            with out.open("a") as file:
                outcome, by = forks.outcome(mutant)
                file.write(json.dumps([outcome, str(mutant), by]) + "\n")
    return True


def copied(root: Path, at: Path) -> None:
    """The repository a second time."""
    for name in ("likely", "app", "engine", "metal", "models", "tests", "docs", "benchmarks"):
        shutil.copytree(root / name, at / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for file in root.glob("*.*"):
        if file.is_file():
            shutil.copy(file, at)
    shutil.copy(root / "Makefile", at)
