"""How a package is added: the command fits how the program was installed."""

import shlex
import sys
from pathlib import Path

import pytest

from likely.engine.base.machine.installation import adding

RECEIPT = '[tool]\nrequirements = [{ name = "likely" }, { name = "pyarrow" }]\n'
UV = ["uv", "tool", "install", "--with", "pyarrow", "--with", "rensa"]


@pytest.mark.parametrize(
    ("mark", "text", "words"),
    [
        ("uv-receipt.toml", RECEIPT, UV),
        ("uv-receipt.toml", "no [toml", [*UV[:3], "--with", "rensa"]),
        ("pipx_metadata.json", "{}", ["pipx", "inject", "likely", "rensa"]),
        ("pyvenv.cfg", "", [sys.executable, "-m", "pip", "install", "rensa"]),
    ],
)
def test_the_command_is_of_whoever_installed_it(
    mark: str, text: str, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / mark).write_text(text)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    said = shlex.split(adding("rensa"))
    assert said[: len(words)] == words
    if mark == "uv-receipt.toml":  # and where it came from: the index, or a clone
        (origin,) = said[len(words) :]
        assert origin == "likely" or (Path(origin) / "pyproject.toml").is_file()
    assert adding("rensa", "it's").endswith(shlex.quote("it's")) or mark == "uv-receipt.toml"


def test_the_pip_of_an_environment_that_is_active_has_its_short_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    assert adding("rensa") == "pip install rensa"
