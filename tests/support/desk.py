"""A desk: a folder with the files that the documentation names, and models by the names that it gives them.

Fixtures of tests that call the program as a person does: `desk` is the current folder, with a home of its own and
`shelf` as the place where models lie. Models are tiny and random.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner

from likely.app.cli import likely
from likely.metal import mx
from tests.engine import tiny


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models by the names that pages give them."""
    folder = tmp_path_factory.mktemp("shelf")
    config = tiny.LLAMA | {"head_dim": 32, "max_position_embeddings": 272}
    for seed, name in enumerate(("smollm2", "one", "two", "judge", "weak", "mine", "blocks")):
        diffusion = {"mask_token_id": 286, **({"block_size": 8} if name == "blocks" else {})}
        settings = config | (diffusion if name in ("mine", "blocks") else {})
        arrays = {key: mx.array(array) for key, array in tiny.weights(settings, seed).items()}
        tiny.write_folder(folder / name, settings, arrays)
    rows(folder / "sums.jsonl", *SUMS)
    for seed in range(5):
        words = ["tune", folder / "sums.jsonl", "-M", folder / "smollm2", "--steps", "2", "--seed", seed]
        done = CliRunner().invoke(likely, [*map(str, words), "--out", str(folder / f"m{seed}")])
        assert done.exit_code == 0, done.output
    return folder


SUMS = [{"prompt": f"{a} + 1 =", "completion": f" {a + 1}"} for a in range(24)]
PIPELINE = """
out = "made"
[generate]
method = "augment"
data = "rows.jsonl"
[report]
real = "rows.jsonl"
[train]
steps = 2
task = "arithmetic:items=4"
"""
LADDER = """
sizes = ["15k", "30k"]
compute = [2e7, 4e7]
ratios = [0.01, 200]
out = "plays"
[training]
data = "days.jsonl"
tokenizer = "characters"
context = 16
batch = 2
"""


def rows(path: Path, *records: Mapping[str, object]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in records))


@pytest.fixture
def desk(tmp_path: Path, shelf: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the pages name, as the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LIKELY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LIKELY_MODELS", str(shelf))
    monkeypatch.setenv("LIKELY_MODEL", "smollm2")
    rows(tmp_path / "rows.jsonl", *SUMS)
    rows(tmp_path / "held.jsonl", *SUMS[:3])
    (tmp_path / "table.csv").write_text("frage;antwort\n" + "".join(f"{a} + 1 =;{a + 1}\n" for a in range(24)))
    rows(tmp_path / "t.jsonl", *({"context": "2 + 2 =", "choices": [" 4", f" {n}"], "gold": 0} for n in range(5, 9)))
    rows(tmp_path / "pairs.jsonl", *({"good": f"{a} is {a}.", "bad": f"{a} is is."} for a in range(6)))
    problems = ({"prompt": f"What is {a} + {a % 3}?", "answer": str(a + a % 3)} for a in range(2))
    rows(tmp_path / "problems.jsonl", *problems)
    rows(tmp_path / "essays.jsonl", *({"text": f"One. Two {a}. Three.\n\nFour."} for a in range(4)))
    (tmp_path / "novels").mkdir()
    (tmp_path / "novels" / "one.txt").write_text("It was so. She went home, and he did not. " * 900)
    (tmp_path / "book.txt").write_text("It was a day like any other. " * 3)
    rows(tmp_path / "days.jsonl", *({"text": f"Day {n} was a day like any other."} for n in range(60)))
    (tmp_path / "grid.toml").write_text("folds = 2\n[grid]\nsteps = [1, 2]\n")
    schema = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
    (tmp_path / "cat.json").write_text(json.dumps(schema))
    (tmp_path / "sums.toml").write_text(PIPELINE)
    (tmp_path / "ladder.toml").write_text(LADDER)
    (tmp_path / "shape.toml").write_text("layers = 1\nwidth = 32\nheads = 2\n")
    sizes = [(n, d) for n in (1e5, 3e5, 1e6) for d in (1e6, 4e6, 1.6e7)]
    losses = [f"{n},{d},{1.7 + 400 / n**0.34 + 410 / d**0.28}" for n, d in sizes]
    (tmp_path / "runs.csv").write_text("\n".join(["parameters,tokens,loss", *losses, ""]))
    for name in (*(f"m{seed}" for seed in range(5)), "my-adapter"):
        shutil.copytree(shelf / (name if name[1:].isdigit() else "m0"), tmp_path / name)
    return tmp_path
