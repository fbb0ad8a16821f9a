"""What several test folders share: the real model."""

import os
import signal
from collections.abc import Iterator

import pytest

from app.interruption import SIGNALS
from engine.sources.model_info import ModelInfo

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # begun in the background by a shell, which children inherit
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.setdefault("LIKELY_MODEL", "smollm2")  # whatever else is on the machine, and whichever its owner has chosen


@pytest.fixture(autouse=True)
def own_signals() -> Iterator[None]:
    """A verb that runs in the tests' process takes the signals for itself, and does not give them back."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def smollm2() -> ModelInfo:
    """SmolLM2-135M-Instruct in the model store of whoever runs the tests, pulled once if it is not there."""
    from engine.sources import store

    return store.pull("smollm2")
