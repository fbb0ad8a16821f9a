"""Memory of the device: buffers that were freed and wait for another use, and pages that stay resident.

mlx keeps what was freed for whoever asks for as much again; on a Mac its limit is near all of the memory, and caches
that grow ask for more each time. So what lies dead is bounded when a model is loaded (`bound`), and let go of while
tokens are read and drawn (`trim`). Knows no model and no cache: their bytes are told.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from likely.metal import malloc, mx
from likely.metal.device import device

SHARE = 16  # of the memory, what mlx may keep of freed buffers: a prefill's intermediates come and go
FLOOR = 32 << 20  # bytes that may always lie dead: a token's intermediates, used again for the next

SPARE = 2 << 30  # bytes that stay resident beside weights and caches: what a forward pass works with

_wanted: list[list[int]] = []  # for each block under way the bytes that it wants resident
_before = 0  # the limit that was there before the first of them


def bound() -> None:
    """Bound what mlx keeps of freed buffers, where its own limit is near all of the memory."""
    if memory := device().memory:
        mx.set_cache_limit(max(memory // SHARE, FLOOR))


def room() -> int:
    """Bytes of weights and caches that a GPU holds well: what is recommended, but for a pass; 0 without Metal."""
    return max(0, device().working_set - SPARE)


def trim(held: Callable[[], int]) -> None:
    """Give freed buffers back, where they are more than a sixth of what is `held` (bytes), if that has to be asked."""
    if (freed := mx.get_cache_memory()) > FLOOR and freed > held() // 6:
        mx.clear_cache()


def rest() -> None:
    """Give back all that lies dead: nobody computes for a while."""
    mx.clear_cache()
    malloc.give_back()


@contextmanager
def wired(nbytes: int) -> Iterator[Callable[[int], None]]:
    """Keeps up to `nbytes` of the GPU's memory resident while the block runs, then restores the limit that was there.

    Gives a function that asks for another number of bytes in mid-block; it waits for what is in flight, which uses the
    memory. Without it the pages of a model near the machine's limit come and go between two tokens, which is 10 to 40
    times slower (mlx-lm#652); all that the chip recommends would starve everything else (exo#1672), so it is what is
    needed and no more than is recommended. Blocks may overlap and end in any order: the largest counts. Nothing happens
    where there is no Metal.
    """
    global _before
    most = device().working_set
    if not most:
        yield lambda nbytes: None
        return
    own = [min(nbytes, most)]
    _wanted.append(own)
    before = mx.set_wired_limit(_largest())
    _before = before if len(_wanted) == 1 else _before

    def ask(nbytes: int) -> None:
        own[0] = min(nbytes, most)
        mx.synchronize()
        mx.set_wired_limit(_largest())

    try:
        yield ask
    finally:
        _wanted[:] = [request for request in _wanted if request is not own]
        try:
            mx.synchronize()  # which raises what has failed in flight
        finally:
            mx.set_wired_limit(_largest())


def _largest() -> int:
    return max((own[0] for own in _wanted), default=_before)
