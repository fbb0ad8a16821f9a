"""The writer of a person's files: whole or not at all, and what is no file stays what it is."""

import io
import os
import resource
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from likely.engine.errors import DataError
from likely.engine.evaluate import task_files
from likely.engine.journal import Journal
from likely.engine.json_reader import LARGEST as LONGEST
from likely.engine.options import read_toml
from likely.engine.sources import array_file
from likely.engine.sources.fetch import places
from likely.engine.tune import data, metrics
from likely.engine.whole_file import (
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
from likely.metal import mx
from tests.support.limits import file_size_limit

UNIT = 1 if sys.platform == "darwin" else 1024  # bytes of what the system calls a maximum


def test_a_file_is_replaced_whole_or_left(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_whole(path, ["é", "\n"])
    assert path.read_bytes() == "é\n".encode()

    def breaks() -> Iterator[str]:
        yield "half"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(path, breaks())
    assert path.read_bytes() == "é\n".encode() and os.listdir(tmp_path) == ["a"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "far" / "file")
    for text in ("one", "two"):  # made, and replaced
        write_whole(tmp_path / "link", [text])
        assert (tmp_path / "link").is_symlink() and (tmp_path / "far" / "file").read_text() == text


def test_a_pipe_is_written_through_and_stays_one(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    write_whole(pipe, ["through"])
    reader.join(10)
    assert read == ["through"] and stat.S_ISFIFO(pipe.stat().st_mode)
    write_whole(Path(os.devnull), ["nothing"])
    assert stat.S_ISCHR(Path(os.devnull).stat().st_mode)


def test_what_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "b.partial").mkdir()
    (tmp_path / "round").symlink_to(tmp_path / "round")
    for path in (tmp_path, Path(""), tmp_path / "b", tmp_path / "no" / "c", tmp_path / ("n" * 300), tmp_path / "round"):
        with pytest.raises(DataError, match="was not written") as caught:
            write_whole(path, ["x"])
        assert "\n" not in str(caught.value)
    assert sorted(os.listdir(tmp_path)) == ["b.partial", "round"]


def test_a_writer_that_fails_leaves_the_file_and_says_why(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("old")

    def fails(to: Path) -> None:
        to.write_text("half")
        raise RuntimeError("no room.\nmore words")

    with pytest.raises(DataError, match=r"a\.txt was not written: no room$"):
        put_whole(file, fails)
    assert file.read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]


def test_a_disk_that_takes_a_part_of_the_arrays_is_thought_full(tmp_path: Path) -> None:
    said = r"a\.safetensors was not written: its disk took only a part: is it full\?"
    with file_size_limit(1000), pytest.raises(DataError, match=said):
        array_file.write(tmp_path / "a.safetensors", {"a": mx.zeros(4096)})
    assert not list(tmp_path.iterdir())


def test_what_need_not_end_is_refused_by_its_kind(tmp_path: Path) -> None:
    for path in ("/dev/zero", "/dev/null"):
        with pytest.raises(DataError, match="it is a device, and a file is wanted"):
            read_whole(Path(path))
    (tmp_path / "a").write_bytes(b"123456789")
    assert read_whole(tmp_path / "a", largest=9) == "123456789"
    with pytest.raises(DataError, match="it has more than"):
        read_whole(tmp_path / "a", largest=8)
    for path in (tmp_path, tmp_path / "none", tmp_path / ("n" * 300), Path("a\0b")):
        with pytest.raises(DataError, match="cannot read") as caught:
            read_whole(path)
        assert "\n" not in str(caught.value)


def test_a_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_text("a\r\nb"))
    writer.start()
    assert read_whole(pipe) == "a\nb"
    writer.join(10)


def test_a_pipe_is_refused_where_nobody_can_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="pipe is a pipe, and a file is wanted"):
        refuse_pipe(tmp_path / "pipe")
    (tmp_path / "file").touch()
    for name in ("file", ".", "none", "a\0b", "x" * 300):
        refuse_pipe(tmp_path / name)  # what is wrong with those is said where they are opened


@pytest.mark.parametrize(
    ("name", "read", "empty"),
    [
        ("metrics.jsonl", lambda folder: metrics.read(folder), None),
        ("journal", lambda folder: Journal(folder / "journal", {}), None),
        ("models--a--b/refs/main", lambda folder: [*places.in_hub_cache("a/b")], []),
        (".lmstudio-home-pointer", lambda folder: places.lm_studio(), ()),
    ],
)
def test_a_pipe_among_the_files_of_a_folder_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, read: Callable[[Path], object], empty: object
) -> None:
    """It is refused, or is as if there were none where others write that file."""
    for variable in ("HF_HUB_CACHE", "HOME"):
        monkeypatch.setenv(variable, str(tmp_path))
    pipe = tmp_path / name
    pipe.parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(pipe)
    if empty is not None:
        assert read(tmp_path) == empty
        return
    with pytest.raises(DataError, match=f"{name} is a pipe, and a file is wanted"):
        read(tmp_path)


def test_only_a_file_is_replaced_by_arrays(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, tmp_path, Path(os.devnull)):
        with pytest.raises(DataError, match="was not written: it is a"):
            put_whole(path, lambda to: to.write_text("x"))
    assert stat.S_ISFIFO(pipe.stat().st_mode) and stat.S_ISCHR(Path(os.devnull).stat().st_mode)


def test_files_without_measure_cost_a_line_and_no_memory(tmp_path: Path) -> None:
    """Each reader of what a person names: five sparse gigabytes, TOML without bottom, a field without end."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    large, deep, wide = tmp_path / "large", tmp_path / "deep.toml", tmp_path / "wide.csv"
    with large.open("wb") as file:
        file.truncate(5 << 30)
    deep.write_text("a = " + "[" * 100_000)
    wide.write_text("text,answer\n" + "x" * 200_000 + ",1\n")
    (tmp_path / "large.jsonl").symlink_to(large)
    (tmp_path / "endless.jsonl").write_text("x" * (LONGEST + 2))
    for read, path, said in (
        (read_whole, large, "cannot read .*: it has more than 268 MB"),
        (read_toml, large, "cannot read .*: it has more than 17 MB"),
        (read_toml, deep, "nested too deep"),
        (task_files.digest, large, "more than 4,295 MB"),
        (lambda path: next(task_files.rows(path)), tmp_path / "large.jsonl", "more than 4,295 MB"),
        (lambda path: next(task_files.rows(path)), tmp_path / "endless.jsonl", ":1: the line has more than 34 MB"),
        (lambda path: next(task_files.rows(path)), wide, "is no CSV: field larger"),
        (lambda path: data.read(str(path)), tmp_path / "large.jsonl", "more than 1,074 MB"),
        (lambda path: read_bounded(io.BytesIO(b"ab"), "standard input", 1), large, "standard input: it has more than"),
    ):
        with pytest.raises(DataError, match=said):
            read(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < (1 << 30) / UNIT


def test_a_link_that_has_the_name_of_a_half_leads_nowhere(tmp_path: Path) -> None:
    """As a folder that came from elsewhere may have it."""
    (tmp_path / "mine").write_text("of mine")
    (tmp_path / "a.partial.txt").symlink_to(tmp_path / "mine")
    write_whole(tmp_path / "a.txt", ["new"])
    assert (tmp_path / "mine").read_text() == "of mine"
    assert (tmp_path / "a.txt").read_text() == "new" and not (tmp_path / "a.txt").is_symlink()


def test_folders_of_ours_lie_where_nothing_is(tmp_path: Path) -> None:
    full, empty, file = tmp_path / "full", tmp_path / "empty", tmp_path / "file"
    full.mkdir()
    empty.mkdir()
    file.write_text("x")
    (full / "x").write_text("x")
    check_readable(full)
    check_new_folder(empty, "--out")
    check_new_folder(tmp_path / "none", "--out")
    check_new_file(tmp_path / "none", "--out")
    make_folder(tmp_path / "a" / "b", "--out")
    make_folder(tmp_path / "a" / "b", "--out")
    assert (tmp_path / "a" / "b").is_dir()
    for call, line in (
        (lambda: check_readable(tmp_path / "none"), "cannot read .*: No such file"),
        (lambda: make_folder(file / "x", "--out"), "cannot make .*: Not a directory; choose another --out"),
        (lambda: check_new_file(full, "--out"), "exists already: choose another --out or remove it"),
        (lambda: check_new_folder(full, "--out"), "is not empty: choose another --out"),
        (lambda: check_new_folder(file, "--out"), "is a file, and --out takes a folder"),
        (lambda: check_new_folder(Path("/"), "--out"), "takes the name of a folder to make, got '/'"),
        (lambda: check_new_folder(tmp_path / ("x" * 300), "--out"), "cannot be --out"),
    ):
        with pytest.raises(DataError, match=line):
            call()
