"""The shape of the program: who may import whom, and what must stay out of whose import graph."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CHAIN = ("app", "engine", "models", "metal")  # each imports only from itself and what stands to its right


def imports(file: Path) -> set[str]:
    """Every module that a file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


@pytest.mark.parametrize("folder", CHAIN)
def test_a_folder_imports_only_to_its_right(folder: str) -> None:
    forbidden = set(CHAIN[: CHAIN.index(folder)]) | {"tests", "benchmarks"}
    for file in (ROOT / folder).rglob("*.py"):
        wrong = {name for name in imports(file) if name.partition(".")[0] in forbidden}
        assert not wrong, f"{file.relative_to(ROOT)} imports {wrong}"


@pytest.mark.parametrize("folder", ["engine", "models", "metal"])
def test_only_app_prints_and_knows_textual(folder: str) -> None:
    for file in (ROOT / folder).rglob("*.py"):
        calls = [n for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.Call)]
        prints = [n.lineno for n in calls if ast.unparse(n.func) == "print"]
        # the simulated kernel prints its source where mx.fast.metal_kernel does: on verbose=True
        assert not prints or file.name == "kernel.py", f"{file.relative_to(ROOT)} prints in lines {prints}"
        assert not {n for n in imports(file) if n.partition(".")[0] in ("textual", "rich", "click")}, file


def test_the_worker_knows_no_screen() -> None:
    for file in (ROOT / "app").glob("*.py"):
        wrong = {name for name in imports(file) if name.partition(".")[0] == "textual" or name.startswith("app.tui")}
        assert not wrong, f"{file.name} imports {wrong}"


@pytest.mark.parametrize(
    "module",
    [
        "engine.transforms",
        "engine.presets",
        "engine.trace.replay",
        "engine.trace.trace",
        "engine.trace.file",
        "engine.conversation",
        "engine.errors",
        "engine.prompt",
        "engine.decode.control",
        "engine.decode.events",
        "engine.trace.observe",
        "engine.arrays",
        "engine.trace.fields",
        "engine.evaluate.difference",
        "engine.evaluate.scores",
        "engine.evaluate.estimates",
        "engine.evaluate.metrics",
        "engine.evaluate.comparison",
        "engine.tune.control",
        "engine.tune.config",
        "engine.tune.attached",
        "app.heat",
        "app.jobs",
        "app.requests",
        "app.worker",
    ],
)
def test_what_the_screen_reads_never_imports_mlx(module: str) -> None:
    code = f"import sys, {module}; print([m for m in sys.modules if m.partition('.')[0] == 'mlx'])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert out.stdout.strip() == "[]"
