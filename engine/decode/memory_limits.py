"""Room in this machine's memory: what the weights of a model may take, and a warning where they leave little.

Of a GPU counts what the system recommends it to hold at most: past that, pages come and go between two tokens
(`metal.memory`). Knows nothing of where models come from.
"""

from typing import TYPE_CHECKING

from likely.engine.base.machine import hardware
from likely.metal import memory
from likely.metal.device import device

if TYPE_CHECKING:
    from likely.engine.decode.session import Session

TEXT = 8192  # tokens that ought to have room beside the weights, or all that the model was made for
SYSTEM = 8  # the part of the memory that is the system's, whatever limit a person sets


def of_weights() -> int:
    """Bytes that weights may take here: on a GPU what is recommended and no pass needs, else half of the memory."""
    return memory.room() if device().working_set else hardware.memory() // 2


def warning(session: "Session") -> str:
    """A sentence for whoever loads a model that is near the limit of the GPU, with what raises it; "" for any other."""
    tokens, here = session.pool.held_tokens(), device()
    if tokens is None or tokens >= min(TEXT, session.context):
        return ""
    weights = session.pool.weights_nbytes
    held = f"{weights / 1e9:.1f} GB are weights, {here.working_set / 1e9:.1f} GB is what the GPU holds well"
    slow = f"slow beyond {tokens:,} tokens" if tokens else "slow from the first token on"
    most = here.memory - here.memory // SYSTEM
    if most <= max(here.working_set, weights):
        return f"{slow}: {held}; a model in fewer bits is smaller"
    return f"{slow}: sudo sysctl iogpu.wired_limit_mb={most >> 20} lets the GPU hold more until the next start ({held})"
