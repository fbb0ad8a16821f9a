"""A machine that says it is a Mac."""

from collections.abc import Callable, Iterator

import pytest

from metal import device, mx

GIB = 1 << 30


@pytest.fixture
def chip(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Says that this is a Mac with that chip."""

    def be(name: str, architecture: str = "", working_set: int = 12 * GIB) -> None:
        info = {"device_name": name, "architecture": architecture, "memory_size": 16 * GIB}
        info["max_recommended_working_set_size"] = working_set
        monkeypatch.setattr(mx, "device_info", lambda *_: info)
        monkeypatch.setattr(mx.metal, "is_available", lambda: True)
        monkeypatch.setattr(mx, "default_device", lambda: mx.gpu)
        device._device.cache_clear()

    yield be
    device._device.cache_clear()
