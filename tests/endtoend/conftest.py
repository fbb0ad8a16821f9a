"""The program in a real terminal."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from likely.engine.base.files.home import home
from tests.support.tmux import Tmux

ROOT = Path(__file__).parents[2]


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Tmux]:
    """A shell in whose folder `./likely` is the program, with a home there that has the models of this machine."""
    found = Tmux(tmp_path)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "models").symlink_to(home() / "models")
    env = (
        f"LIKELY_HOME={tmp_path}/home PYTHONPATH={ROOT} OPENBLAS_NUM_THREADS=1 TERM=xterm-256color COLORTERM=truecolor"
    )
    (tmp_path / "likely").write_text(
        f'#!/bin/sh\nunset COLUMNS LINES NO_COLOR\nexport {env}\nexec {sys.executable} -m likely.app "$@"\n'
    )
    (tmp_path / "likely").chmod(0o755)
    yield found
    found.close()
