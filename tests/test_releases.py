"""What a fork's workflows do: their files are sound, each command in them exists, and each step runs here.

The runners themselves (a virtual Mac, the index, a tap) are not here; what they are told is.
"""

import json
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks import ring
from likely.app.cli import VERBS

ROOT = Path(__file__).parent.parent
HIDDEN = ROOT / ".github"
WORKFLOWS = sorted((HIDDEN / "workflows").glob("*.yml"))


def steps(path: Path) -> list[dict[str, Any]]:
    jobs = yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].values()
    return [step for job in jobs for step in job["steps"]]


def python(*args: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *map(str, args)], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_is_sound_and_what_it_calls_exists(path: Path) -> None:
    whole = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert {"name", True, "permissions", "jobs"} <= set(whole)  # `on` is a truth to YAML
    targets = re.findall(r"^([a-z/]+):", (ROOT / "Makefile").read_text(), re.M)
    for step in steps(path):
        assert ("run" in step) != ("uses" in step)
        script = step.get("run", "")
        assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0, script
        for target in re.findall(r"\bmake ([a-z]+)", script):
            assert target in targets
        for file in re.findall(r"\.github/\S+?\.(?:py|sh)", script):
            assert (ROOT / file).is_file()


def test_the_commands_of_the_first_mac_are_those_of_the_program() -> None:
    script = (HIDDEN / "first-mac.sh").read_text()
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0
    called = re.findall(r'"\$\{likely\[@\]\}" (\w+)', script)
    asked = re.findall(r"^\| \d \| `(?:venv/bin/likely|make) (\w+)", (ROOT / "docs/first-mac.md").read_text(), re.M)
    assert set(called) <= {*VERBS}
    assert {verb for verb in asked if verb in VERBS and verb != "chat"} <= set(called) and "make chat" in script


@pytest.mark.soak
@pytest.mark.real
@pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
def test_the_first_macs_commands_run_here(tmp_path: Path, smollm2: object) -> None:
    done = subprocess.run(["bash", str(HIDDEN / "first-mac.sh"), str(tmp_path)], check=False)
    assert done.returncode == 0 and "kernels" in json.loads((tmp_path / "doctor.json").read_text())


def test_the_summary_says_first_what_was_not_run(tmp_path: Path) -> None:
    (tmp_path / "report").mkdir()
    (tmp_path / "report/test.txt").write_text("....\nnot run:\n  3  needs a GPU\n\n4 passed\n")
    (tmp_path / "report/2-doctor.txt").write_text("kernels: off\n")
    (step,) = (step for step in steps(HIDDEN / "workflows/virtual-mac.yml") if "not run" in step.get("name", ""))
    done = subprocess.run(["bash", "-e", "-c", step["run"]], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.index("needs a GPU") < done.stdout.index("kernels: off") and "passed" not in done.stdout


@pytest.mark.parametrize(("apart", "code"), [(0.0, 0), (0.03, 0), (0.3, 1), (float("nan"), 1)])
def test_two_readings_agree_where_their_numbers_do(apart: float, code: int, tmp_path: Path) -> None:
    for name, off in (("a", 0.0), ("b", apart)):
        tokens = [{"id": 1, "logprob": None}, {"id": 2, "logprob": -1.0}, {"id": 3, "logprob": -2.0 - off}]
        (tmp_path / name).write_text(json.dumps({"tokens": tokens}))
    assert python(HIDDEN / "agree.py", tmp_path / "a", tmp_path / "b").returncode == code


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """What a release reads, with a changelog of today."""
    (tmp_path / ".github/homebrew").mkdir(parents=True)
    for name in (".github/release.py", ".github/homebrew/likely.rb.in"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "1.2.0"\n')
    today = datetime.now(UTC).date()
    (tmp_path / "CHANGELOG.md").write_text(
        f"# Changelog\n\n## 1.2.0 ({today})\n\nIt reads.\n\n- A thing.\n\n## 1.1.0\n"
    )
    return tmp_path


def test_a_release_is_one_version_and_its_texts_are_of_the_repository(repository: Path) -> None:
    release = repository / ".github/release.py"
    assert python(release, "notes", "v1.2.0").stdout == "It reads.\n"
    (repository / "archive").write_bytes(b"a")
    formula = python(release, "formula", "v1.2.0", "ada/likely", repository / "archive").stdout
    assert 'url "https://github.com/ada/likely/archive/refs/tags/v1.2.0.tar.gz"' in formula
    sha = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"  # of "a", as sha256sum has it
    assert f'sha256 "{sha}"' in formula and not re.search(r"@[A-Z0-9]+@", formula)
    if shutil.which("ruby"):
        assert (
            subprocess.run(["ruby", "-c"], input=formula, text=True, capture_output=True, check=False).returncode == 0
        )
    wrong = python(release, "check", "v1.3.0")
    assert (wrong.returncode, wrong.stderr) == (
        1, "one version is wanted: the tag is v1.3.0, pyproject.toml says 1.2.0, CHANGELOG.md 1.2.0\n",
    )  # fmt: skip


@pytest.mark.parametrize(("above", "below"), [("1.2.0", "1.1.0"), ("1.3.0", "1.2.0")], ids=["has one", "new"])
def test_what_is_unreleased_becomes_the_versions(above: str, below: str, repository: Path) -> None:
    changelog = repository / "CHANGELOG.md"
    changelog.write_text(changelog.read_text().replace("## 1.2.0", "## Unreleased\n\n- New.\n\n## 1.2.0"))
    assert python(repository / ".github/release.py", "gather", f"v{above}").returncode == 0
    text = changelog.read_text()
    assert text.index(f"## {above} (") < text.index("- New.\n") < text.index(f"## {below}") and "Unreleased" not in text
    assert text.count("- A thing.") == 1 == text.count("It reads.")


@pytest.mark.parametrize(
    "heading", ["## Unreleased", "## 1.2.0", f"## 1.2.0 ({datetime.now(UTC).date() + timedelta(9)})"]
)
def test_a_changelog_without_its_day_is_no_release(heading: str, repository: Path) -> None:
    (repository / "CHANGELOG.md").write_text(f"# Changelog\n\n{heading}\n\nIt reads.\n")
    refused = python(repository / ".github/release.py", "check", "v1.2.0")
    assert refused.returncode == 1 and refused.stderr.count("\n") == 1 and "CHANGELOG.md" in refused.stderr


def test_the_page_has_the_predictions_that_the_formulas_give() -> None:
    assert ring.table() in (ROOT / "docs/distributed.md").read_text(encoding="utf-8")
    dense, fast = ring.MODELS[0], ring.LINKS[0]
    read, message = 70.6e9 * 4.5 / 8 / 819e9, 9e-6 + 2 * 8192 / 8.05e9  # by hand
    assert ring.tensor(dense, fast, 2) == pytest.approx(read / 2 + 160 * message)
    assert ring.pipeline(dense, fast, 4) == pytest.approx(read + 4 * message)
