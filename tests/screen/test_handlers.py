"""Modules of the screen: a handler without its message is never called, and what is imported carries no mlx."""

import importlib
import os
import pkgutil
import subprocess
import sys
from collections.abc import Iterator

import pytest
from textual.message import Message

import likely.app.tui as tui


def below(kind: type) -> Iterator[type]:
    for each in kind.__subclasses__():
        yield each
        yield from below(each)


def test_every_handler_has_a_message() -> None:
    modules = [importlib.import_module(found.name) for found in pkgutil.walk_packages(tui.__path__, f"{tui.__name__}.")]
    known = {getattr(kind, "handler_name", "") for kind in below(Message)}
    classes = {kind for module in modules for kind in vars(module).values() if isinstance(kind, type)}
    handlers = {
        (kind.__qualname__, name)
        for kind in classes
        if kind.__module__.startswith(tui.__name__)
        for name in vars(kind)
        if name.startswith("on_")
    }
    assert len(handlers) > 50 and {name for _, name in handlers} <= known, [it for it in handlers if it[1] not in known]


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


PAINTED = """
import os, sys, tempfile, time, pathlib
os.environ["LIKELY_THEME"] = "dark"
import likely.app.cli.options.opening
from likely.app.tui.app import LikelyApp
class FirstPaint(LikelyApp):
    def on_mount(self):
        self.call_after_refresh(self.looked)
    def looked(self):
        print(*{name.partition(".")[0] for name in sys.modules}, file=sys.__stdout__, flush=True)
        os._exit(0)
FirstPaint(lambda: time.sleep(9), pathlib.Path(tempfile.mkdtemp())).run(headless=True)
"""


@pytest.mark.slow
def test_the_first_paint_waits_for_no_numbers() -> None:
    """Neither the command without options, which opens the chat, nor the screen until it takes what is typed."""
    loaded = loaded_by(PAINTED)
    assert "textual" in loaded and not loaded & {*HEAVY, *OTHERS, "numpy", "sqlite3"}
