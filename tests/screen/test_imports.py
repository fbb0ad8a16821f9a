"""The screen's thread must not carry mlx: what the screen imports is looked up in a fresh process."""

import os
import subprocess
import sys

import pytest

HEAVY = ("mlx", "mlx_lm", "transformers", "torch", "tokenizers", "jinja2", "huggingface_hub", "gguf", "scipy")
OTHERS = ("llguidance", "starlette", "uvicorn", "anyio")  # of those who ask for what they do


def loaded_by(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    return set(done.stdout.split())


@pytest.mark.slow
def test_no_module_of_the_screen_imports_a_model_library() -> None:
    modules = (
        "import pkgutil, importlib, likely.app.tui\n"
        "for found in pkgutil.walk_packages(likely.app.tui.__path__, 'likely.app.tui.'):\n"
        "    importlib.import_module(found.name)"
    )
    assert not loaded_by(modules) & {*HEAVY, *OTHERS}


def test_the_first_paint_waits_for_no_numbers() -> None:
    assert not loaded_by("import likely.app.tui.app") & {*HEAVY, *OTHERS, "numpy", "sqlite3", "click"}
