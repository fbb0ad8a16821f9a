"""The machine under the arrays: which chip, how much memory, how fast it reads, and what the chip computes in.

Bandwidths are Apple's published figures, in GB/s; the widest where a chip name has several variants.
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from likely.metal import left_alone, mx

BANDWIDTH = {
    "M1": 68, "M1 Pro": 200, "M1 Max": 400, "M1 Ultra": 800,
    "M2": 100, "M2 Pro": 200, "M2 Max": 400, "M2 Ultra": 800,
    "M3": 100, "M3 Pro": 150, "M3 Max": 400, "M3 Ultra": 819,
    "M4": 120, "M4 Pro": 273, "M4 Max": 546,
    "M5": 153, "M5 Pro": 307, "M5 Max": 614,
}  # fmt: skip

COMPILE = "LIKELY_COMPILE"  # in the environment: 1 compiles the steps of a model on any machine, 0 on none


@dataclass(frozen=True, slots=True)
class Device:
    """The chip that runs the kernels. Where there is no Metal: `name` is "cpu" and `bandwidth` is unknown."""

    name: str  # "Apple M4 Pro"
    metal: bool
    memory: int = 0  # bytes the GPU may use in all
    working_set: int = 0  # bytes it recommends at most
    architecture: str = ""  # "applegpu_g16s": the digits are the generation, the last letter the size
    bandwidth: float | None = None  # GB/s

    @property
    def generation(self) -> int:
        """13 for M1, 14 for M2, and so on; 0 where unknown."""
        match = re.search(r"_g(\d+)", self.architecture)
        return int(match[1]) if match else 0

    @property
    def bfloat16(self) -> bool:
        """Whether the chip computes in bfloat16 (M3 and later) or only emulates it (M1, M2).

        Known by the family of the GPU (metal-flash-attention asks for Apple9) and from figures: float16 is 1.14 times
        as fast on an M1 Ultra, 1.34 times in the prefill of an M2 Max (omlx#3277, Rapid-MLX#3154).
        """
        match = re.match(r"Apple M(\d+)", self.name)
        return int(match[1]) > 2 if match else self.generation not in (13, 14)

    @property
    def shares_loads(self) -> bool:
        """Whether query heads that share a key/value head gain from one load (M3 and later; a loss measured on M2)."""
        return self.generation == 0 or self.generation >= 15


def available() -> bool:
    """Whether there is Metal, or the simulator in its place, and the environment does not say to leave it alone."""
    return not left_alone() and bool(mx.metal.is_available())


def gpu() -> bool:
    """Whether there is a GPU to be used, of whichever maker."""
    return available() or bool(mx.cuda.is_available())


def device() -> Device:
    """The device that kernels run on."""
    return _device(available(), mx.device_info)


@cache
def _device(metal: bool, facts: Callable[..., dict[str, Any]]) -> Device:
    """The GPU as `facts` describes it, asked for once."""
    if not metal:
        return Device("cpu", metal=False)
    info = dict(facts(mx.gpu))  # left out, it would be the default device, which a block may have changed
    name = str(info.get("device_name", "unknown"))
    return Device(
        name=name,
        metal=True,
        memory=int(info.get("memory_size", 0)),
        working_set=int(info.get("max_recommended_working_set_size", 0)),
        architecture=str(info.get("architecture", "")),
        bandwidth=BANDWIDTH.get(name.removeprefix("Apple ")),
    )


def compiles() -> bool:
    """Whether a model's steps may go through mx.compile: with Metal, unless the environment says otherwise.

    On a CPU mx.compile calls a C++ compiler for each kernel that it fuses, seconds each, and `metal` turns it off.
    """
    if insisted():
        mx.enable_compile()
        return True
    return os.environ.get(COMPILE) != "0" and available()


def insisted() -> bool:
    """Whether the environment wants steps compiled, measured or not."""
    return os.environ.get(COMPILE) == "1"
