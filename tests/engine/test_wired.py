"""The memory that a session keeps resident while it runs; with a device that says it is a Mac."""

import pytest

from engine.decode.control import RunControl
from engine.pool import SPARE
from engine.session import Session
from metal import device, mx
from metal.simulator import simulated
from tests.fakes import FakeCheckpoint
from tests.metal.test_whole_models import model


def test_a_run_wires_the_model_and_the_cache_it_will_fill(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[int] = []

    def set_limit(limit: int) -> int:
        limits.append(limit)
        return 7

    monkeypatch.setattr(mx, "set_wired_limit", set_limit)
    monkeypatch.setattr(mx, "device_info", lambda *_: {"max_recommended_working_set_size": 12 << 30})
    device._device.cache_clear()
    net = model()
    session = Session(FakeCheckpoint(net))  # type: ignore[arg-type]
    weights = sum(a.nbytes for a in net.arrays.values())
    row = 2 * 2 * 2 * 64 * 2  # keys and values, layers, heads, head size, 16 bits
    try:
        with simulated():
            for _ in session.generate([5, 17, 3], RunControl(), max_tokens=5):
                assert limits == [weights + 8 * row + SPARE]
            assert limits.pop() == 7
            events = session.generate([5, 17, 3], RunControl(), n=4, max_tokens=5)
            next(events)
            assert limits[1:] == [weights + 23 * row + SPARE]
            events.close()  # type: ignore[attr-defined]
            assert limits.pop() == 7
    finally:
        device._device.cache_clear()
