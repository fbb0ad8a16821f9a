"""Where the record of a chip's kernels is kept, what it holds for, and that one process at a time writes it."""

import fcntl
import hashlib
import json
import tempfile
from collections.abc import Callable
from importlib.metadata import version

import pytest

from likely.metal import kernel, tuning_cache

pytestmark = pytest.mark.usefixtures("unknown")


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
    monkeypatch.setattr("sys.platform", platform)
    assert str(tuning_cache.folder()) == want


def test_a_record_holds_for_one_chip_one_system_one_mlx_and_one_code(
    chip: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    chip("Apple M4  Pro")
    monkeypatch.setattr("platform.mac_ver", lambda: ("15.2", ("", "", ""), "arm64"))
    record = tuning_cache.blank()
    files = sorted([*kernel.FOLDER.glob("*.[mh]*"), *kernel.FOLDER.parent.glob("*.py")])
    text = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]
    assert (record.chip, record.system, record.mlx, record.text) == ("Apple M4  Pro", "15.2", version("mlx"), text)
    strays = [kernel.FOLDER / name for name in (".DS_Store", "._row.metal", "row.metal~")]
    try:
        for stray in strays:
            stray.write_text("no kernel")
        assert tuning_cache.blank() == record
    finally:
        for stray in strays:
            stray.unlink(missing_ok=True)
    record.verdicts["a"], record.switched_off["v"], record.faster["n"] = "fine", "why", True
    record.timings.append({"case": "n", "ours_s": 0.5})
    record.begun["b"] = 1
    assert tuning_cache.load() is None and not tuning_cache.forget()
    tuning_cache.save(record)
    assert tuning_cache.load() == record
    (target,) = tuning_cache.folder().iterdir()  # no scratch stays behind
    chip("Apple M4")
    assert tuning_cache.load() is None
    chip("Apple M4  Pro")
    monkeypatch.setattr("platform.mac_ver", lambda: ("15.3", ("", "", ""), "arm64"))
    assert tuning_cache.load() is None
    monkeypatch.setattr("platform.mac_ver", lambda: ("15.2", ("", "", ""), "arm64"))
    written = json.loads(target.read_text())
    others = [written | {name: "another"} for name in ("chip", "system", "mlx", "text")]
    for damage in ("", "{", '{"chip": "x"}', "[1]", *map(json.dumps, others)):
        target.write_text(damage)
        assert tuning_cache.load() is None
    assert tuning_cache.forget() and not target.exists() and not tuning_cache.forget()


def test_one_is_alone_and_others_wait_until_it_has_left() -> None:
    waited: list[int] = []
    with tuning_cache.alone(lambda: waited.append(1)), (tuning_cache.folder() / "lock").open("w") as other:
        assert waited == []
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with (tuning_cache.folder() / "lock").open("w") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)

        def waiting() -> None:
            waited.append(1)
            if len(waited) == 2:
                fcntl.flock(holder, fcntl.LOCK_UN)

        with tuning_cache.alone(waiting):
            assert len(waited) == 2
