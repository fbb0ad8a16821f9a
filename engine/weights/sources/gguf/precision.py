"""How weights are kept in memory: at which precision, and whether quantised matrices stay quantised.

A choice for a machine and a model (`choose`), made once at load. Knows nothing of files.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from likely.metal import mx
from likely.metal.device import device
from likely.metal.packed import SIXTEEN

OVERFLOWS_FLOAT16 = ("gemma",)  # families whose activations leave float16's range


@dataclass(frozen=True)
class Precision:
    """`dtype` of activations, scales and unquantised weights; `packed`: quantised matrices stay quantised in the graph.

    `native`: weights stay packed outside of the graph, and passes are native code's (`models.native`). What is drawn
    has activations of `activation_bits`, 16; what is measured all that a float32 has, unless others were asked for.
    """

    dtype: mx.Dtype
    packed: bool
    native: bool = False
    activation_bits: int = SIXTEEN

    @property
    def rounding(self) -> str:
        """How activations are rounded where others were asked for: `8-bit activations`; "" as a model is built."""
        return "" if self.activation_bits == SIXTEEN else f"{self.activation_bits}-bit activations"


def choose(parameters: int, family: str, stored: mx.Dtype | None = None) -> Precision:
    """The precision for this machine. `stored` is the checkpoint's own dtype, None where it has blocks of its own.

    A CPU computes in float32 (mlx has no vector code for 16 bits there, and its quantised kernels are scalar), and
    expands the weights when they then take less than half of the free memory. A GPU keeps what the file holds, but
    float16 for bfloat16 where the chip only emulates that.
    """
    if mx.default_device() == mx.cpu:
        return Precision(mx.float32, packed=4 * parameters > available_memory() // 2)
    wide = family.startswith(OVERFLOWS_FLOAT16)
    dtype = stored or (mx.bfloat16 if wide else mx.float16)
    if dtype == mx.bfloat16 and not wide and not device().bfloat16:
        dtype = mx.float16
    return Precision(dtype, packed=True)


def available_memory() -> int:
    """Bytes that can be had without swapping: of a GPU what is recommended, but for what is held already; all of the
    memory where the system does not say."""
    if most := device().working_set:
        return max(0, most - mx.get_active_memory())
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
