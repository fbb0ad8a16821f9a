"""A server as a child: it listens, is watched by its key, and ends when its parent lets go of it, killed or not."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from app.watch.address import ServerAddress
from app.watch.child_server import ChildServer
from app.watch.client import WatchControl, listen
from app.watch.lines import WatchBegan
from tests.serve.served import write_model


def until(holds: Callable[[], object]) -> None:
    for _ in range(600):
        if holds():
            return
        time.sleep(0.05)
    raise AssertionError("it never came to this")


@pytest.mark.slow
def test_a_child_serves_and_ends_with_its_parent(tmp_path: Path) -> None:
    child = ChildServer(str(write_model(tmp_path / "tiny")), tmp_path)
    try:
        until(lambda: child.address or child.failure)
        assert child.address and not child.failure
        watching = listen(ServerAddress.read(child.address, tmp_path), WatchControl())
        assert isinstance(next(watching), WatchBegan)
        assert child._process.stdin is not None
        child._process.stdin.close()  # all that is left of a parent that was killed
        until(lambda: not child.alive)
        watching.close()
    finally:
        child.stop()
    assert not list((tmp_path / "servers").iterdir())  # its key went with it
    missing = ChildServer(str(tmp_path / "nothing"), tmp_path)
    until(lambda: missing.failure)
    assert "nothing" in missing.failure
    missing.stop()
