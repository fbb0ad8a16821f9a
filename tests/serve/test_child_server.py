"""A server as a child: it listens, is watched by its key, and ends when its parent lets go of it, killed or not."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from likely.app.watch.address import ServerAddress
from likely.app.watch.child_server import ChildServer
from likely.app.watch.client import WatchControl, listen
from likely.app.watch.lines import WatchBegan
from tests.processes import ROOT
from tests.serve.served import write_model


def until(holds: Callable[[], object]) -> None:
    while not holds():
        time.sleep(0.05)


PARENT = """
import sys, time
from pathlib import Path
from likely.app.watch.child_server import ChildServer

child = ChildServer(sys.argv[1], Path(sys.argv[2]))
while not (child.address or child.failure):
    time.sleep(0.05)
print(child.address or child.failure, flush=True)
time.sleep(600)
"""


def reached(address: str, home: Path) -> bool:
    watching = listen(ServerAddress.read(address, home), WatchControl())
    try:
        return isinstance(next(watching), WatchBegan)
    except OSError:
        return False
    finally:
        watching.close()


@pytest.mark.slow
@pytest.mark.parametrize("killed", [False, True])
def test_a_child_serves_and_ends_with_its_parent(tmp_path: Path, killed: bool) -> None:
    model = str(write_model(tmp_path / "tiny"))
    if killed:
        words = [sys.executable, "-c", PARENT, model, str(tmp_path)]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=ROOT) as parent:
            assert parent.stdout is not None
            address = parent.stdout.readline().strip()
            assert reached(address, tmp_path)
            parent.kill()
        until(lambda: not reached(address, tmp_path))
    else:
        child = ChildServer(model, tmp_path)
        until(lambda: child.address or child.failure)
        assert not child.failure and child.alive and reached(child.address, tmp_path)
        child.stop()
        until(lambda: not child.alive)
        assert not child.failure
    until(lambda: not list((tmp_path / "servers").iterdir()))  # its key went with it


@pytest.mark.slow
def test_a_child_that_cannot_serve_says_why(tmp_path: Path) -> None:
    missing = ChildServer(str(tmp_path / "nothing"), tmp_path)
    until(lambda: missing.failure)
    assert "nothing" in missing.failure
    missing.stop()
