"""One process writes in a folder: whoever comes second is told who does, and a kill lets go of it."""

import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from threading import Thread

import pytest

from likely.engine.base.errors import DataError
from likely.engine.base.files import artifacts
from likely.engine.base.files.lock import LockTaken, aside, claimed, locked, silent

HELD = """
import sys
from pathlib import Path
from likely.engine.base.files.lock import claimed
with claimed(Path(sys.argv[1]), "tune", "--out"):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held(folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """A process that writes in the folder until it is let go."""
    words, pipe = [sys.executable, "-c", HELD, str(folder)], subprocess.PIPE
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        yield process
        if process.poll() is None:
            process.communicate()


def test_whoever_comes_second_is_told_who_writes(tmp_path: Path) -> None:
    folder = tmp_path / "some" / "out"
    with pytest.raises(ZeroDivisionError), claimed(folder, "tune"):
        raise ZeroDivisionError
    assert not folder.parent.exists(), "nothing was written to it"
    with held(folder) as process:
        with pytest.raises(LockTaken) as found, claimed(folder, "posterior", "--out"):
            pass
        assert f"{folder} is taken: process {process.pid} (tune) has written there since 20" in str(found.value)
        assert str(found.value).endswith("; wait for it, or choose another --out") and "\n" not in str(found.value)
        (folder / "weights").write_text("of the other")
    with claimed(folder, "posterior", "--out"):
        pass
    assert [path.name for path in folder.iterdir()] == ["weights"]


@pytest.mark.parametrize("kind", ["link", "hard link", "pipe", "words"])
def test_nothing_is_written_into_what_has_the_name_of_a_lock(tmp_path: Path, kind: str) -> None:
    """As the folder of an adapter that came from elsewhere may have it."""
    mine, name = tmp_path / "mine", tmp_path / "out" / ".lock"
    mine.write_text("of mine")
    name.parent.mkdir()
    {"link": lambda: name.symlink_to(mine), "hard link": lambda: name.hardlink_to(mine),
     "pipe": lambda: os.mkfifo(name), "words": lambda: name.write_text("x" * 5000)}[kind]()  # fmt: skip
    if kind == "link":
        with pytest.raises(DataError, match=r"cannot lock .*out/\.lock: "), claimed(name.parent, "tune"):
            pass
    else:
        line = rf"process {os.getpid()} \(tune\)"
        with claimed(name.parent, "tune"), pytest.raises(LockTaken, match=line), claimed(name.parent, "posterior"):
            pass
    assert mine.read_text() == "of mine"


def test_a_file_is_made_beside_its_name(tmp_path: Path) -> None:
    with aside(tmp_path / "made", "fuse", "--out") as partial:
        assert partial.is_dir() and partial.parent == tmp_path
        with pytest.raises(LockTaken, match="made is taken"), aside(tmp_path / "made", "fuse", "--out"):
            pass
        (partial / "half").write_text("of it")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", [locked, claimed])
def test_one_at_a_time_however_many_wait(tmp_path: Path, kind: Callable[..., AbstractContextManager[None]]) -> None:
    """The name is another file's after each, in a folder that goes where nothing was written: nobody may take the lock
    of one that is gone for the lock."""
    inside, most, rounds = [0], [0], [0]

    def work() -> None:
        for _ in range(50):
            with kind(tmp_path / "new" / "x", "work", wait=silent):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                rounds[0] += 1
                inside[0] -= 1

    threads = [Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] and rounds == [400] and not any(each.is_file() for each in tmp_path.rglob("*"))


def test_what_is_made_at_once_is_remembered_by_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIKELY_HOME", str(tmp_path / "home"))
    threads = [Thread(target=artifacts.note, args=(tmp_path / f"{i}", artifacts.ADAPTER, "base")) for i in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {one.name for one in artifacts.all()} == {f"{i}" for i in range(16)}


def test_a_disk_that_cannot_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "out"):
        line = f"cannot make {folder}: .*; choose another --out"
        with pytest.raises(DataError, match=line), claimed(folder, "tune", "--out"):
            pass

    def without(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", without)
    line = r"cannot lock .*out/\.lock: No locks available; choose another --out"
    with pytest.raises(DataError, match=line), claimed(tmp_path / "out", "tune", "--out"):
        pass


def test_whoever_waits_is_told_for_whom_and_a_kill_lets_go(tmp_path: Path) -> None:
    with held(tmp_path / "out") as process:
        told: list[str] = []

        def wait(words: str) -> None:
            told.append(words)
            process.kill()

        with claimed(tmp_path / "out", "pretrain", wait=wait):
            assert len(told) == 1 and f"process {process.pid} (tune)" in told[0]
            with pytest.raises(LockTaken), claimed(tmp_path / "out", "tune"):
                pass
    assert not list((tmp_path / "out").iterdir())
