"""Where the record of a chip's kernels is kept, under which name, and that one process at a time writes it."""

import fcntl
import hashlib
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from metal import kernel, tuning_cache
from metal.device import Device
from metal.tuning_cache import Record
from tests.engine.sources.test_fetch import file_size_limit


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("LIKELY_KERNELS", str(tmp_path / "kernels"))
    yield


@pytest.mark.parametrize(
    ("platform", "environment", "want"),
    [
        ("linux", {"HOME": "/home/one"}, "/home/one/.cache/likely/kernels"),
        ("linux", {"HOME": "/home/one", "XDG_CACHE_HOME": "/cache"}, "/cache/likely/kernels"),
        ("linux", {"HOME": "/home/one", "XDG_CACHE_HOME": ""}, "/home/one/.cache/likely/kernels"),
        ("darwin", {"HOME": "/Users/one"}, "/Users/one/Library/Caches/likely/kernels"),
        ("linux", {"HOME": "~nobody"}, f"{tempfile.gettempdir()}/.cache/likely/kernels"),
        ("darwin", {"HOME": "/Users/one", "LIKELY_KERNELS": "/k"}, "/k"),
    ],
)
def test_records_are_kept_in_the_user_s_cache(
    platform: str, environment: dict[str, str], want: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LIKELY_KERNELS", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    assert str(tuning_cache.folder()) == want


def test_a_record_is_named_by_all_that_it_holds_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for folder, names in (("host", ("b.py", "a.py", "c.txt")), ("texts", ("x.metal", "y.h"))):
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / name).write_text(name)
    monkeypatch.setattr(tuning_cache, "HOST", tmp_path / "host")
    monkeypatch.setattr(kernel, "FOLDER", tmp_path / "texts")
    monkeypatch.setattr(tuning_cache, "device", lambda: Device("Apple M4  Pro", True))
    monkeypatch.setattr(tuning_cache, "version", lambda name: "9.8" if name == "mlx" else "")
    monkeypatch.setattr(tuning_cache.platform, "mac_ver", lambda: ("", ("", "", ""), ""))
    monkeypatch.setattr(tuning_cache.platform, "release", lambda: "6.1")
    text = hashlib.sha256(b"a.pyb.pyx.metaly.h").hexdigest()[:16]
    record = tuning_cache.blank()
    assert record == Record("Apple M4  Pro", "6.1", "9.8", text, {}, {}, {}, [], {})
    assert tuning_cache.path(record) == tmp_path / "kernels" / f"apple-m4-pro-6.1-mlx9.8-{text}.json"


def test_a_record_is_read_as_it_was_written_and_forgotten() -> None:
    record = tuning_cache.blank()
    record.verdicts["a"], record.switched_off["v"], record.faster["n"] = "fine", "why", True
    record.timings.append({"case": "n", "ours_s": 0.5})
    record.begun["b"] = 1
    assert tuning_cache.load() is None and not tuning_cache.forget()
    tuning_cache.save(record)
    assert tuning_cache.load() == record
    target = tuning_cache.path(record)
    assert [path.name for path in target.parent.iterdir()] == [target.name]  # no scratch stays behind
    for name in ("chip", "system", "mlx", "text"):
        target.write_text(json.dumps(json.loads(json.dumps(record.__dict__)) | {name: "another"}))
        assert tuning_cache.load() is None
    assert tuning_cache.forget() and not target.exists() and not tuning_cache.forget()


def test_where_a_record_cannot_be_written_nothing_happens(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with file_size_limit(10):
        tuning_cache.save(tuning_cache.blank())
    assert not list(tuning_cache.folder().iterdir())
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LIKELY_KERNELS", str(tmp_path / "file" / "below"))
    tuning_cache.save(tuning_cache.blank())
    waited: list[int] = []
    with tuning_cache.alone(lambda: waited.append(1)):
        assert not waited
    assert tuning_cache.load() is None


def test_one_is_alone_and_others_wait_until_it_has_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning_cache, "POLL_S", 0)
    waited: list[int] = []
    with tuning_cache.alone(lambda: waited.append(1)):
        assert waited == []
        other = (tuning_cache.folder() / "lock").open("w")
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        other.close()
    holder = (tuning_cache.folder() / "lock").open("w")
    fcntl.flock(holder, fcntl.LOCK_EX)

    def waiting() -> None:
        waited.append(1)
        if len(waited) == 3:
            fcntl.flock(holder, fcntl.LOCK_UN)

    with tuning_cache.alone(waiting):
        assert len(waited) == 3
    holder.close()
