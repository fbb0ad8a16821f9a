"""Folders that another process writes in: every verb that writes one names it, loses nothing, and leaves it alone."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from likely.engine.base.files.lock import claimed, locked
from likely.engine.train.run import state
from likely.engine.weights.adapters import adapters, lora
from likely.engine.weights.adapters.sites import choose, sites
from likely.engine.weights.sources.checkpoint import load
from tests.cli.conftest import Likely, random_model
from tests.endtoend.test_interruption import MAIN
from tests.engine.pretrain import texts

PIPELINE = """
out = "out"
[generate]
method = "augment"
data = "rows.jsonl"
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, an adapter of it, rows, a text, and a pipeline."""
    folder = tmp_path_factory.mktemp("taken")
    model = load(str(random_model(folder / "tiny"))).model
    made = lora.create(choose(sites(model), -1, ["*"], model.config.layers), rank=2, scale=2.0)
    rows = [{"prompt": f"{i} ", "completion": "ab"[i % 2]} for i in range(24)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {"kind": "lora", "model": str(folder / "tiny"), "data": str(folder / "rows.jsonl"), "valid": 0.0}
    adapters.save(folder / "adapter", made, model, {**settings, "rate": 1e-3, "batch": 4})
    texts.words(folder)
    (folder / "synth.toml").write_text(PIPELINE)
    (folder / "options.toml").write_text('model = "tiny"\nsteps = 1\nbatch = 4\nlength = 32\nrank = 1\n')
    (folder / "grid.toml").write_text("folds = 2\n[grid]\nrank = [1, 2]\n")
    return folder


@pytest.fixture(autouse=True)
def within(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(place)
    before = {path.name for path in place.iterdir()}
    yield
    assert {path.name for path in place.iterdir()} == before


TUNE = "tune rows.jsonl -M tiny --steps 2 --length 32 --out out"
PRETRAIN = "pretrain words.txt --size 20k --tokenizer bytes --context 32 --out out"
CURVE = "estimate curve rows.jsonl -c options.toml --sizes 2,4 --seeds 1 --out out"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "taken", "other"),
    [
        (TUNE, "out", "; wait for it, or choose another --out"),
        (f"{TUNE} --search grid.toml", "out/search", ", or choose another --out"),
        (PRETRAIN, "out", ", or choose another --out"),
        ("posterior laplace adapter", "adapter", "; wait for it"),
        ("posterior swag adapter --steps 2", "adapter", "; wait for it"),
        ("synth synth.toml", "out", ", or choose another out"),
        (CURVE, "out", ", or choose another --out"),
        ("fuse adapter --out out", ".out.lock", ", or choose another --out"),
        ("fuse adapter --gguf f16 --out out.gguf", ".out.gguf.lock", ", or choose another --out"),
        ("quantize tiny --group 32 --to out", ".out.lock", ", or choose another --to"),
        ("quantize tiny --gguf f16 --to out.gguf", ".out.gguf.lock", ", or choose another --to"),
    ],
)
def test_a_verb_names_who_writes_there(words: str, taken: str, other: str, likely: Likely) -> None:
    """`taken` is the folder, or the file of a lock."""
    with ExitStack() as stack:
        lock = locked(Path(taken), "other") if taken.startswith(".") else claimed(Path(taken), "other")
        stack.enter_context(lock)
        code, _, said = likely(*words.split())
    line = said.splitlines()[-1]
    assert code == 1 and "Traceback" not in said, said
    assert " is taken: process " in line and " (other) has written there since 20" in line and line.endswith(other)
    assert {path.name for path in Path("out").glob("*")} <= {"corpus", "search"}
    for path in sorted(Path().glob("out/**/*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    for folder in Path().glob("out"):
        folder.rmdir()


@pytest.mark.slow(10)
def test_of_two_trainings_that_are_started_together_one_trains(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "same"
    words = [*MAIN, *TUNE.split(), "--steps", "40", "--out", str(out), "--save-every", "1"]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    both = [subprocess.Popen(words, **pipes) for _ in range(2)]  # type: ignore[call-overload]
    said = [process.communicate()[1] for process in both]
    assert sorted(process.returncode for process in both) == [0, 1], said
    loser = both[0].returncode == 0
    line = said[loser].splitlines()[-1]
    assert f"process {both[not loser].pid} (tune)" in line or "holds a run already" in line, line
    assert (out / state.FILE).exists() and not (out / ".lock").exists()
    again = subprocess.run([*words, "--steps", "50", "--resume"], **pipes)  # type: ignore[call-overload]
    assert again.returncode == 0, again.stderr
