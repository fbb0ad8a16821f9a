"""What is known of a chip by its name, and the memory that stays where it is; with a fake device."""

from collections.abc import Callable, Iterator

import pytest

from engine.sources.precision import Precision, choose
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


CHIPS = [
    ("Apple M1", "applegpu_g13g", False),
    ("Apple M1 Ultra", "", False),
    ("Apple M2 Max", "applegpu_g14c", False),
    ("Apple M3 Pro", "applegpu_g15s", True),
    ("Apple M4", "", True),
    ("Apple M10", "", True),
    ("Apple Paravirtual device", "applegpu_g13g", False),
    ("Apple Paravirtual device", "", True),
]


@pytest.mark.parametrize(("name", "architecture", "native"), CHIPS)
def test_float16_stands_for_bfloat16_where_the_chip_only_emulates_that(
    chip: Callable[..., None], name: str, architecture: str, native: bool
) -> None:
    chip(name, architecture)
    instead = mx.bfloat16 if native else mx.float16
    assert device.device().bfloat16 == native
    assert choose(1, "llama", mx.bfloat16) == Precision(instead, packed=True)
    assert choose(1, "llama", mx.float16).dtype == mx.float16
    assert choose(1, "llama", mx.float32).dtype == mx.float32
    assert choose(1, "llama").dtype == mx.float16
    for wide in ("gemma2", "gemma3_text"):  # whose activations leave the range of float16
        assert choose(1, wide, mx.bfloat16).dtype == choose(1, wide).dtype == mx.bfloat16


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The wired limits so far; it begins at 7."""
    found = [7]

    def set_limit(limit: int) -> int:
        found.append(limit)
        return found[-2]

    monkeypatch.setattr(mx, "set_wired_limit", set_limit)
    return found


def test_memory_is_wired_while_it_is_used(chip: Callable[..., None], limits: list[int]) -> None:
    chip("Apple M4")
    with pytest.raises(ValueError, match="inside"), device.wired(5 * GIB):
        assert limits == [7, 5 * GIB]
        raise ValueError("inside")
    with device.wired(50 * GIB):
        assert limits[-1] == 12 * GIB  # no more than the chip recommends
    assert limits == [7, 5 * GIB, 7, 12 * GIB, 7]


def test_users_that_overlap_end_in_any_order(chip: Callable[..., None], limits: list[int]) -> None:
    chip("Apple M4")
    first, second = device.wired(3 * GIB), device.wired(2 * GIB)
    first.__enter__()
    second.__enter__()
    assert limits[-1] == 3 * GIB
    first.__exit__(None, None, None)
    assert limits[-1] == 2 * GIB
    second.__exit__(None, None, None)
    assert limits[-1] == 7


def test_nothing_is_wired_without_metal(limits: list[int]) -> None:
    if not mx.metal.is_available():
        with device.wired(1):
            assert limits == [7]
