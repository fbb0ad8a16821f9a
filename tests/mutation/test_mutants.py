"""Mutation testing: of seeded single changes to the code, how many the tests notice, a folder at a time.

A change is tried on a copy of the repository, with the everyday tests that reach the changed statement, those of the
files that are nearest by name and import first: `tests.mutation.forks`. A test that fails, alone too, and one that does
not end, has noticed. LIKELY_MUTANTS is how many a folder (75), LIKELY_MUTANTS_SEED which (1), and LIKELY_MUTANTS_OUT a
file to which each outcome is added as a line: those that stand there as caught are not tried again.
LIKELY_MUTANTS_EFFORT below 1 takes fewer tests, above 1 the slow ones in their place, of the near files alone; what
survived, a second run with the same file tries so. Tests have a budget of processor time a near file, and one for all
others together: not every test that reaches a change is tried.

A survivor is a hole in the tests or a change that changes nothing that matters: which, a person says, and EQUIVALENT
keeps what they said.
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

from metal.simulator.compiler import cache_folder
from tests.mutation import mutants
from tests.mutation.forks import TESTS, copied

ROOT = Path(__file__).parents[2]
CAUGHT = 0.92
# path, and the change: how much is fetched at once, a slice past the end, what all parts have alike, a way that is only
# slower, lists that are of one length anyway; a sum that is 0 or at least 1, how much is computed at once, the last of
# two axes, a place from which nobody reads on, a row that has room as long as it is empty, another number that is no
# index, one of four million draws, other random numbers, a guard against rounding below the largest, a folder that the
# lock makes itself, a negative number that numpy takes for -1
EQUIVALENT = frozenset(
    {
        (
            "models/packed_cache.py",
            "first, last = low // LANES, -(-high // LANES): -high // LANES -> -high * LANES",
        ),
        (
            "engine/sources/fetch/hub.py",
            "CHUNK = 1 << 20  # what a broken connection may cost, and how often a person can stop it: 20 -> 21",
        ),
        (
            "metal/reference.py",
            "if getattr(seen[0], name) is not None: 0 -> 1",
        ),
        (
            "metal/simulator/stock.py",
            "flags = {200: length % rows == 0, 201: tokens % columns == 0, 300: mask is not None, 301: causal}: "
            "length % rows -> length * rows",
        ),
        (
            "engine/decode/sample.py",
            "for row, (number, step) in enumerate(zip(branches.numbers, steps, strict=True)):: True -> False",
        ),
        (
            "metal/simulator/stock.py",
            "flags = {200: length % rows == 0, 201: tokens % columns == 0, 300: mask is not None, 301: causal}: "
            "201 -> 202",
        ),
        (
            "metal/reference.py",
            "entropy = mx.where(total == 0, 0.0, mx.log(mx.maximum(total, 1e-45)) - mean * inverse)"
            ".reshape(b, h, t): 1e-45 -> 1.0",
        ),
        (
            "metal/reference.py",
            "SCORES = 1 << 25  # scores at once: 128 MB: 25 -> 26",
        ),
        (
            "metal/vocab.py",
            "inside = mx.sum((below - p < draw.top_p * total) | (place == 0), axis=-1, keepdims=True): -1 -> 1",
        ),
        (
            "metal/reference.py",
            "return _Segment(s.keys[:, :, low:high], s.values[:, :, low:high], s.at[:, low:high], valid, "
            "s.start + low): s.start + low -> s.start - low",
        ),
        (
            "app/tui/tokens/wrap.py",
            "if shown or not any(span.token == token for span in row.spans[-1:]):: any -> all",
        ),
        (
            "app/tui/widgets/place_editor.py",
            "SYSTEM = -1  # the system prompt, in the place of a message's index: 1 -> 2",
        ),
        (
            "engine/scaling/toys.py",
            "WORDS, DRAWN, SWEEPS = 500, 4_000_000, 12  # the vocabulary; bigrams that a learner sees; "
            "of its alternations: 4000000 -> 4000001",
        ),
        (
            "metal/vocab.py",
            "if count < TOP:: count < TOP -> count <= TOP",
        ),
        (
            "metal/selftest.py",
            "logits, apart = _normal(1, 2, 9000, dtype=dtype) * 3, mx.array([[5, 8999], [0, 5]], dtype=mx.int32): "
            "_normal(1, 2, 9000, dtype=dtype) * 3 -> _normal(1, 2, 9000, dtype=dtype) / 3",
        ),
        (
            "engine/scaling/forecast.py",
            "def foretold(fitted: Fitted, runs: Ladder, *, seed: int = 0, count: int = 500) -> list[Foretold]:: 0 -> 1",
        ),
        (
            "engine/transforms/intervals.py",
            "n * np.exp(np.minimum(self.edges[1] * self.scale[1] - top, 0)) * self._mean_power(self.scale[1])[0]:"
            " 0 -> 1",
        ),
        (
            "engine/evaluate/likelihood.py",
            "ROWS = 64  # texts side by side: 64 -> 65",
        ),
        (
            "engine/decode/kernel_row.py",
            "if possible > CANDIDATES:: possible > CANDIDATES -> possible >= CANDIDATES",
        ),
        (
            "engine/sources/fetch/hub.py",
            "locks.mkdir(parents=True, exist_ok=True): locks.mkdir(parents=True, exist_ok=True) -> pass",
        ),
        (
            "engine/transforms/arrays.py",
            "if count >= x.shape[-1]:: count >= x.shape[-1] -> count > x.shape[-1]",
        ),
        (
            "metal/selftest.py",
            "for seed, bit in zip((2, 3), bits, strict=True): True -> False",
        ),
        (
            "metal/simulator/launch.py",
            "GUARD = 64 * 1024  # nothing within this distance of a buffer of a checked run: 64 -> 65",
        ),
        (
            "models/packed.py",
            "position = (np.array(starts, np.int32)[:, None] + np.arange(t, dtype=np.int32)).reshape(-1): 1 -> 2",
        ),
        (
            "metal/reference.py",
            "chunk = max(1, min(t, SCORES // max(1, b * h * rows))): 1 -> 2",
        ),
        (
            "metal/reference.py",
            "chunk = max(1, min(t, SCORES // max(1, b * h * rows))): SCORES // max(1, b * h * rows) -> SCORES * m"
            "ax(1, b * h * rows)",
        ),
        (
            "models/rotation.py",
            "self._regime = -1: 1 -> 2",
        ),
    }
)


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
    outcomes = {}
    for line in out.read_text().splitlines():
        outcome, mutant, _ = json.loads(line)
        place, change = mutant.split(": ", 1)
        if place.startswith(f"{folder}/") and (place.split(":")[0], change) not in EQUIVALENT:
            outcomes[mutant] = outcome
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
    monkeypatch.setattr(builtins, "_hit_", hits.append)
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
