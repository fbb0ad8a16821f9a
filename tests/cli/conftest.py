"""The command line as the program's entry runs it: words in; exit code, standard output and standard error out."""

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from likely.app import cli
from likely.metal import mx
from tests.engine import tiny


class Ended(NamedTuple):
    code: int
    out: str
    err: str


Likely = Callable[..., Ended]


@pytest.fixture
def likely(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Likely:
    """`likely WORDS`, of somebody with an empty home; `stdin` is what is piped in."""
    monkeypatch.setenv("LIKELY_HOME", str(tmp_path / "home"))

    def run(*words: object, stdin: bytes = b"") -> Ended:
        monkeypatch.setattr(sys, "argv", ["likely", *map(str, words)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        with pytest.raises(SystemExit) as end:
            cli.main()
        out, err = capfd.readouterr()
        return Ended(int(end.value.code or 0), out, err)

    return run


def random_model(folder: Path, seed: int = 0, **config: Any) -> Path:
    settings = tiny.LLAMA | config
    return tiny.write_folder(folder, settings, {k: mx.array(a) for k, a in tiny.weights(settings, seed).items()})


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model that goes from left to right."""
    return random_model(tmp_path_factory.mktemp("models") / "plain")


@pytest.fixture(scope="session")
def masked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random diffusion model."""
    return random_model(tmp_path_factory.mktemp("models") / "masked", mask_token_id=286)
