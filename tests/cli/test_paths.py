"""Paths and environments as machines have them: one line, whatever cannot be used."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import likely.models as models
from likely.engine.base.errors import DataError, ParameterError
from likely.engine.base.files.home import expanded, home
from likely.engine.train.data import data
from likely.engine.weights.adapters import adapters, lora
from likely.engine.weights.adapters.sites import choose, sites
from likely.metal import mx
from tests.cli.conftest import Likely
from tests.engine import tiny
from tests.engine.pretrain import texts
from tests.processes import ROOT

LONG = "n" * 300


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["run", "--replay", "/dev/zero"], "it is a device"),
        (["run", "--replay", LONG], "File name too long"),
        (["run", "hi", "--save", f"/nowhere/{LONG}/x"], "is no folder: make it first"),
        (["run", "hi", "-M", f"./{LONG}"], "File name too long"),
        (["run", "hi", "-M", "~nouser/model"], "~nouser/model"),
        (["explain", "--file", "/dev/zero"], "it is a device"),
        (["tune", "~nouser/rows.jsonl", "--dry-run"], "there is no ~nouser/rows.jsonl"),
        (["tune", f"./{LONG}.jsonl", "--dry-run"], "File name too long"),
        (["eval", "~nouser/rows.jsonl"], "~nouser/rows.jsonl"),
    ],
)
def test_a_path_that_cannot_be_used_is_one_line(args: list[str], line: str, likely: Likely) -> None:
    code, _, said = likely(*args)
    assert code in (1, 2) and line in said and "Traceback" not in said
    assert code == 2 or said.count("\n") == 1


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("LIKELY_HOME", "XDG_DATA_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: str(path))  # what it gives where nobody knows
    with pytest.raises(ParameterError, match="this user has no home folder: set LIKELY_HOME"):
        home()
    assert expanded("~nouser/x") == Path("~nouser/x")
    monkeypatch.setenv("LIKELY_HOME", str(tmp_path))
    assert home() == tmp_path


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become a user that there is not")
def test_an_unknown_user_is_told_what_to_set(tmp_path: Path) -> None:
    """With no entry in the list of users and no HOME, as a container may have it."""
    code = (
        "import os, sys; sys.argv = ['likely', 'models']; from likely.app.cli import main\n"
        "import likely.app.cli.commands.models, likely.app.cli.options.rules\n"
        "import likely.engine.weights.sources.store\nos.setuid(54321); main()"
    )
    given = {name: value for name, value in os.environ.items() if not name.startswith(("LIKELY", "XDG", "HOME", "HF"))}
    done = subprocess.run([sys.executable, "-c", code], env=given, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "likely: this user has no home folder: set LIKELY_HOME to the folder where data may be kept\n"


def test_a_folder_that_may_not_be_read_is_not_called_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "train.jsonl").write_text(json.dumps({"text": "a"}) + "\n")
    (tmp_path / "rows").chmod(0)

    def refused(path: object) -> object:  # as for anybody but root
        raise PermissionError(13, "Permission denied", str(path))

    if os.getuid() == 0:
        monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(DataError, match=r"cannot read .*rows: Permission denied"):
        data.read(tmp_path / "rows")
    (tmp_path / "rows").chmod(0o700)


@pytest.mark.slow
def test_what_cannot_be_written_is_one_line_and_leaves_nothing_half(tmp_path: Path) -> None:
    """A disk that is full after so many bytes, for the verbs that write folders."""
    model = tiny.write_folder(tmp_path / "m", tiny.LLAMA, {n: mx.array(a) for n, a in tiny.weights(tiny.LLAMA).items()})
    words = texts.words(tmp_path)
    adapter = tmp_path / "adapter"
    built = models.build(tiny.LLAMA, {n: mx.array(a) for n, a in tiny.weights(tiny.LLAMA).items()})
    made = lora.create(choose(sites(built), -1, ("q_proj",), built.config.layers), rank=2, scale=2.0)
    adapters.save(adapter, made, built, {"kind": "lora", "model": str(model), "dropout": 0.0})
    for size, args in (
        (2000, ["quantize", str(model), "--group", "32", "--to", str(tmp_path / "q")]),
        (100, ["fuse", str(adapter), "--out", str(tmp_path / "f")]),
        (100, ["pretrain", str(words), "--size", "20k", "--tokenizer", "bytes", "--out", str(tmp_path / "p")]),
        (0, ["pretrain", str(words), "--size", "20k", "--tokenizer", "bytes", "--out", str(tmp_path / "p")]),
    ):
        code = (
            f"import resource, signal, sys; sys.argv = {['likely', *args]!r}\n"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            f"resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))\n"
            "from likely.app.cli import main\nmain()"
        )
        run = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT,
            env=os.environ | {"LIKELY_HOME": str(tmp_path / "home")},
        )  # fmt: skip
        assert run.returncode == 1 and "Traceback" not in run.stderr, run.stderr
        assert "written" in run.stderr or "too large" in run.stderr, run.stderr
    assert not (tmp_path / "q").exists() and not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
