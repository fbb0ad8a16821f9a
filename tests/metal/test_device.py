"""A chip and its facts, by its name; with a fake device."""

from collections.abc import Callable

import pytest

from engine.sources.precision import Precision, choose
from metal import device, mx

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
