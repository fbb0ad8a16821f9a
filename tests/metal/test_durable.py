"""What is synced, and how, on a system that has F_FULLFSYNC and on one that has not."""

import fcntl
import os
from pathlib import Path

import pytest

from likely.metal.durable import sync


@pytest.mark.parametrize("has, refuses, asked", [(False, False, ["fsync"]), (True, False, ["full"]),
                                                 (True, True, ["full", "fsync"])])  # fmt: skip
def test_the_disk_itself_is_waited_for_where_that_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has: bool, refuses: bool, asked: list[str]
) -> None:
    calls: list[str] = []

    def full(descriptor: int, command: int) -> int:
        calls.append("full" if command == 51 else "other")
        if refuses:
            raise OSError(45, "Operation not supported")
        return 0

    monkeypatch.delattr(fcntl, "F_FULLFSYNC", raising=False)
    if has:
        monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", full)
    monkeypatch.setattr(os, "fsync", lambda descriptor: calls.append("fsync"))
    (tmp_path / "a").write_text("x")
    for place in (tmp_path / "a", tmp_path):
        sync(place)
        assert calls == asked
        calls.clear()
