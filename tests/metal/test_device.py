"""A chip and its facts, by its name; with a fake device."""

from collections.abc import Callable

import pytest

from likely.engine.weights.sources.gguf.precision import Precision, choose
from likely.metal import device, mx

CHIPS = [
    ("Apple M1", "applegpu_g13g", False), ("Apple M1 Ultra", "", False), ("Apple M2 Max", "applegpu_g14c", False),
    ("Apple M3 Pro", "applegpu_g15s", True), ("Apple M4", "", True), ("Apple M10", "", True),
    ("Apple Paravirtual device", "applegpu_g13g", False), ("Apple Paravirtual device", "", True),
]  # fmt: skip


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


# bits of the bus and millions of transfers a second of each chip's memory
BUSES = {
    "M1": (128, 4266), "M1 Pro": (256, 6400), "M1 Max": (512, 6400), "M1 Ultra": (1024, 6400),
    "M2": (128, 6400), "M2 Pro": (256, 6400), "M2 Max": (512, 6400), "M2 Ultra": (1024, 6400),
    "M3": (128, 6400), "M3 Pro": (192, 6400), "M3 Max": (512, 6400), "M3 Ultra": (1024, 6400),
    "M4": (128, 7500), "M4 Pro": (256, 8533), "M4 Max": (512, 8533),
    "M5": (128, 9600), "M5 Pro": (256, 9600), "M5 Max": (512, 9600),
}  # fmt: skip


@pytest.mark.parametrize("name", BUSES)
def test_a_chip_reads_as_fast_as_its_bus_in_round_numbers(name: str, chip: Callable[..., None]) -> None:
    """Apple gives whole GB/s, or rounds them down to a multiple of fifty."""
    bits, rate = BUSES[name]
    exact = bits / 8 * rate / 1000
    chip(f"Apple {name}")
    assert device.device().bandwidth in (int(exact), int(exact) // 50 * 50)
    assert {*device.BANDWIDTH} == {*BUSES}


def test_a_device_is_what_mlx_says_of_it(chip: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    chip("Apple M4 Pro", "applegpu_g16s", working_set=5)
    assert device.device() == device.Device("Apple M4 Pro", True, 16 << 30, 5, "applegpu_g16s", 273)
    chip("Apple M99")
    assert device.device().bandwidth is None
    monkeypatch.setattr("mlx.core.device_info", lambda *_: {})
    assert device.device() == device.Device("unknown", True, 0, 0, "", None)
    chip("")
    assert device.device() == device.Device("cpu", False, 0)


@pytest.mark.parametrize(
    ("architecture", "generation", "shares"),
    [("applegpu_g13g", 13, False), ("applegpu_g14s", 14, False), ("applegpu_g15d", 15, True), ("", 0, True)],
)
def test_a_generation_is_in_the_architecture(architecture: str, generation: int, shares: bool) -> None:
    found = device.Device("", True, architecture=architecture)
    assert (found.generation, found.shares_loads, found.bfloat16) == (generation, shares, generation not in (13, 14))


@pytest.mark.parametrize(
    ("said", "metal", "compiles", "insisted"),
    [(None, True, True, False), (None, False, False, False), ("0", True, False, False), ("1", False, True, True),
     ("1", True, True, True), ("2", True, True, False)],
)  # fmt: skip
def test_steps_are_compiled_where_there_is_metal_or_the_environment_wants_it(
    said: str | None,
    metal: bool,
    compiles: bool,
    insisted: bool,
    chip: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    enabled: list[int] = []
    chip("Apple M4" if metal else "")
    monkeypatch.setattr("mlx.core.enable_compile", lambda: enabled.append(1))
    monkeypatch.delenv("LIKELY_COMPILE", raising=False)
    if said is not None:
        monkeypatch.setenv("LIKELY_COMPILE", said)
    assert (device.compiles(), device.insisted(), enabled) == (compiles, insisted, [1] * insisted)
