"""A machine that says it is a Mac, and one of whose kernels nothing is known."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from likely.metal import dispatch, kernel, mx

GIB = 1 << 30


@pytest.fixture
def chip(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Says that this is a Mac with that chip, or a machine without Metal."""

    def be(name: str = "", architecture: str = "", working_set: int = 12 * GIB, memory: int = 16 * GIB) -> None:
        info: dict[str, Any] = {"device_name": name, "architecture": architecture, "memory_size": memory}
        info["max_recommended_working_set_size"] = working_set
        monkeypatch.delenv("LIKELY_METAL", raising=False)
        monkeypatch.setattr("mlx.core.device_info", lambda *_: info)
        monkeypatch.setattr("mlx.core.metal.is_available", lambda: bool(name))
        monkeypatch.setattr("mlx.core.default_device", lambda: mx.gpu if name else mx.cpu)

    return be


@pytest.fixture
def unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A home of its own for the kernels' record, and nothing in this process that another test has found out."""
    monkeypatch.setenv("LIKELY_KERNELS", str(tmp_path / "kernels"))
    tables: tuple[dict[str, Any], ...] = (kernel.switched_off, dispatch.faster)
    before = [dict(table) for table in tables]
    for table in tables:
        table.clear()
    yield
    for table, held in zip(tables, before, strict=True):
        table.clear()
        table.update(held)
