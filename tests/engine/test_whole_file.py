"""The writer of a person's files: whole or not at all, and what is no file stays what it is."""

import io
import os
import resource
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from likely.engine.base.errors import DataError
from likely.engine.base.files.foreign_json import LARGEST as LONGEST
from likely.engine.base.files.whole_file import (
    check_new_file,
    check_new_folder,
    check_readable,
    make_folder,
    put_whole,
    read_bounded,
    read_whole,
    refuse_pipe,
    write_whole,
)
from likely.engine.base.options import read_toml
from likely.engine.measure.evaluate.tasks import task_files
from likely.engine.train.data import data
from likely.engine.weights.sources import array_file
from likely.metal import mx
from tests.support.limits import file_size_limit

UNIT = 1 if sys.platform == "darwin" else 1024  # bytes of what the system calls a maximum


def refused(cases: list[tuple[Callable[[], Any], str]]) -> None:
    """Each in one line."""
    for call, line in cases:
        with pytest.raises(DataError, match=line) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_a_file_is_replaced_whole_or_left(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_whole(path, ["é", "\n"])

    def breaks() -> Iterator[str]:
        yield "half"
        raise KeyboardInterrupt

    def fails(to: Path) -> None:
        to.write_text("half")
        raise RuntimeError("no room.\nmore words")

    with pytest.raises(KeyboardInterrupt):
        write_whole(path, breaks())
    refused([(lambda: put_whole(path, fails), r"a\.txt was not written: no room$")])
    assert path.read_bytes() == "é\n".encode() and os.listdir(tmp_path) == ["a.txt"]
    said = r"a\.safetensors was not written: its disk took only a part: is it full\?"
    with file_size_limit(1000):
        refused([(lambda: array_file.write(tmp_path / "a.safetensors", {"a": mx.zeros(4096)}), said)])
        refused([(lambda: put_whole(tmp_path / "a.safetensors", lambda half: np.zeros(4096).tofile(half)), said)])
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_link_stays_a_link_and_one_that_has_the_name_of_a_half_leads_nowhere(tmp_path: Path) -> None:
    """The second as a folder that came from elsewhere may have it."""
    (tmp_path / "far").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "far" / "file")
    for text in ("one", "two"):  # made, and replaced
        write_whole(tmp_path / "link", [text])
        assert (tmp_path / "link").is_symlink() and (tmp_path / "far" / "file").read_text() == text
    (tmp_path / "mine").write_text("of mine")
    (tmp_path / "a.partial.txt").symlink_to(tmp_path / "mine")
    write_whole(tmp_path / "a.txt", ["new"])
    assert (tmp_path / "mine").read_text() == "of mine"
    assert (tmp_path / "a.txt").read_text() == "new" and not (tmp_path / "a.txt").is_symlink()


def test_a_pipe_is_written_and_read_through_and_stays_one(tmp_path: Path) -> None:
    pipe, read = tmp_path / "pipe", list[str]()
    os.mkfifo(pipe)
    for here, there in (
        (lambda: write_whole(pipe, ["through"]), lambda: read.append(pipe.read_text())),
        (lambda: read.append(read_whole(pipe)), lambda: pipe.write_text("a\r\nb")),
    ):
        other = threading.Thread(target=there)
        other.start()
        here()
        other.join()
    assert read == ["through", "a\nb"]
    write_whole(Path(os.devnull), ["nothing"])
    (tmp_path / "file").touch()
    for name in ("file", ".", "none", "a\0b", "x" * 300):
        refuse_pipe(tmp_path / name)  # what is wrong with those is said where they are opened
    refused([
        (lambda: refuse_pipe(pipe), "pipe is a pipe, and a file is wanted"),
        *((lambda path=path: put_whole(path, lambda to: to.write_text("x")), "was not written: it is a")
          for path in (pipe, tmp_path, Path(os.devnull))),
    ])  # fmt: skip
    assert stat.S_ISFIFO(pipe.stat().st_mode) and stat.S_ISCHR(Path(os.devnull).stat().st_mode)


def test_what_cannot_be_written_or_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "b.partial").mkdir()
    (tmp_path / "round").symlink_to(tmp_path / "round")
    long, none = tmp_path / ("n" * 300), tmp_path / "none"
    unwritable = (tmp_path, Path(""), tmp_path / "b", tmp_path / "no" / "c", long, tmp_path / "round")
    refused([(lambda path=path: write_whole(path, ["x"]), "was not written") for path in unwritable])  # type: ignore[misc]
    assert sorted(os.listdir(tmp_path)) == ["b.partial", "round"]
    (tmp_path / "a").write_bytes(b"123456789")
    assert read_whole(tmp_path / "a", largest=9) == "123456789"
    refused([
        (lambda: read_whole(Path("/dev/zero")), "it is a device, and a file is wanted"),
        (lambda: read_whole(Path("/dev/null")), "it is a device, and a file is wanted"),
        (lambda: read_whole(tmp_path / "a", largest=8), "it has more than"),
        *((lambda path=path: read_whole(path), "cannot read") for path in (tmp_path, none, long, Path("a\0b"))),
    ])  # fmt: skip


def test_files_without_measure_cost_a_line_and_no_memory(tmp_path: Path) -> None:
    """Each reader of what a person names: five sparse gigabytes, TOML without bottom, a field without end."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    large, deep, wide, rows, endless = (
        tmp_path / name for name in ("large", "deep.toml", "wide.csv", "large.jsonl", "endless.jsonl")
    )
    with large.open("wb") as file:
        file.truncate(5 << 30)
    deep.write_text("a = " + "[" * 100_000)
    wide.write_text("text,answer\n" + "x" * 200_000 + ",1\n")
    rows.symlink_to(large)
    endless.write_text("x" * (LONGEST + 2))
    refused([
        (lambda: read_whole(large), "cannot read .*: it has more than 268 MB"),
        (lambda: read_toml(large), "cannot read .*: it has more than 17 MB"), (lambda: read_toml(deep), "too deep"),
        (lambda: task_files.digest(large), "more than 4,295 MB"),
        (lambda: next(task_files.rows(rows)), "more than 4,295 MB"),
        (lambda: next(task_files.rows(endless)), ":1: the line has more than 34 MB"),
        (lambda: next(task_files.rows(wide)), "is no CSV: field larger"),
        (lambda: data.read(str(rows)), "more than 1,074 MB"),
        (lambda: read_bounded(io.BytesIO(b"ab"), "standard input", 1), "standard input: it has more than"),
    ])  # fmt: skip
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < (1 << 30) / UNIT


def test_folders_of_ours_lie_where_nothing_is(tmp_path: Path) -> None:
    full, empty, file, none = (tmp_path / name for name in ("full", "empty", "file", "none"))
    full.mkdir()
    empty.mkdir()
    file.write_text("x")
    (full / "x").write_text("x")
    check_readable(full)
    check_new_folder(empty, "--out")
    check_new_folder(none, "--out")
    check_new_file(none, "--out")
    for _ in range(2):
        make_folder(tmp_path / "a" / "b", "--out")
    assert (tmp_path / "a" / "b").is_dir()
    refused([
        (lambda: check_readable(none), "cannot read .*: No such file"),
        (lambda: make_folder(file / "x", "--out"), "cannot make .*: Not a directory; choose another --out"),
        (lambda: check_new_file(full, "--out"), "exists already: choose another --out or remove it"),
        (lambda: check_new_folder(full, "--out"), "is not empty: choose another --out"),
        (lambda: check_new_folder(file, "--out"), "is a file, and --out takes a folder"),
        (lambda: check_new_folder(Path("/"), "--out"), "takes the name of a folder to make, got '/'"),
        (lambda: check_new_folder(tmp_path / ("x" * 300), "--out"), "cannot be --out"),
    ])  # fmt: skip
