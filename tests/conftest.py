"""What several test folders share: a home of their own, and the real model."""

import atexit
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from likely.app.words.interruption import SIGNALS
from likely.engine.base.files.home import home
from likely.engine.weights.sources.model_info import ModelInfo

if TYPE_CHECKING:
    from tests.support.screen import Screen

pytest_plugins = ["tests.support.desk"]
settings.register_profile("all", deadline=None, suppress_health_check=[HealthCheck.too_slow])  # time judges nothing
settings.register_profile("everyday", parent=settings.get_profile("all"), max_examples=25)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # begun in the background by a shell, which children inherit
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    """Everyday a quarter of the examples that hypothesis makes of a law that does not say how many."""
    settings.load_profile("everyday" if "not slow" in config.option.markexpr else "all")


def _own_home() -> str:
    """A folder for what tests remember, so that none chooses a person's model or adds to what they have measured; the
    models that were pulled are theirs."""
    at = tempfile.mkdtemp(prefix="likely-tests-")
    atexit.register(shutil.rmtree, at, ignore_errors=True)
    for name in ("models", "incoming"):
        (there := home() / name).mkdir(parents=True, exist_ok=True)
        (Path(at) / name).symlink_to(there)
    return at


REGISTRY = home() / "made.json"  # of whoever runs the tests
PATHS = [str(Path(__file__).parent.parent), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, PATHS))  # where processes that tests begin find this clone
os.environ["LIKELY_HOME"] = _own_home()
os.environ["LIKELY_KERNELS"] = f"{os.environ['LIKELY_HOME']}/kernels"
os.environ.setdefault("LIKELY_MODEL", "smollm2")  # whatever else is on the machine, and whichever its owner has chosen


@pytest.fixture(scope="session", autouse=True)
def one_name() -> Iterator[None]:
    """No module of ours is there twice: as `likely.engine`, and as an `engine` that somebody imported without it."""
    yield
    assert not {"app", "engine", "models", "metal"} & set(sys.modules)


@pytest.fixture(scope="session", autouse=True)
def a_persons_registry_is_theirs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing that a test has made is remembered in the home of who runs them."""
    yield
    assert not REGISTRY.exists() or str(tmp_path_factory.getbasetemp()) not in REGISTRY.read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def own_signals() -> Iterator[None]:
    """A verb that runs in the tests' process takes the signals for itself, and does not give them back."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def screen(tmp_path: Path) -> Iterator["Screen"]:
    """The program on a terminal of 120 x 40, with a scripted model: how it is driven stands there."""
    from tests.support.screen import Screen

    with Screen(tmp_path) as running:
        yield running


@pytest.fixture(scope="session")
def smollm2() -> ModelInfo:
    """SmolLM2-135M-Instruct in the model store of whoever runs the tests, pulled once if it is not there."""
    from likely.engine.weights.sources import store

    return store.pull("smollm2")
