"""The exception tree: one class for each thing that a caller can do something about.

LikelyError
|- ParameterError      a value out of range, an unknown option: carries the allowed range in its line
|- CheckpointError     a model that cannot be found, fetched, verified or loaded
|  `- ConfigError      a configuration that is incomplete, contradicts itself or asks for what is not known here
|- CacheError          a cache asked for what its kind cannot do, or a file of one that belongs to something else
|- TemplateError       a chat template that raises or reaches outside its sandbox
|- ContextOverflow     more tokens than the model has positions
|- OutOfMemory         needs more memory than the machine has, or than it was given
|- DataError           a file of rows, a trace or a database that is malformed, damaged or of another version
|- NotFinite           logits that hold NaN or infinity: numbers too narrow for the model, or a damaged one
|- RanksDiffer         processes that run one model together came to different results
|- Interrupted         stopped by the person, with what was done so far kept
`- KernelError         a shape or dtype that a kernel does not support
"""

from likely.metal.errors import KernelError, LikelyError
from likely.models.errors import CacheError, CheckpointError, ConfigError, ContextOverflow

__all__ = [
    "CacheError",
    "CheckpointError",
    "ConfigError",
    "ContextOverflow",
    "DataError",
    "Interrupted",
    "KernelError",
    "LikelyError",
    "NotFinite",
    "OutOfMemory",
    "ParameterError",
    "RanksDiffer",
    "TemplateError",
]


class ParameterError(LikelyError, ValueError):
    """A value out of its range or an option that does not exist."""


class TemplateError(LikelyError):
    """A chat template that raises, or that tries to reach outside its sandbox."""


# of a buffer of commands that the driver gave up, and of mlx's allocator (backend/metal/device.cpp, allocator.cpp)
_FULL = "Insufficient Memory", "[metal::malloc]", "[malloc] Unable to allocate"


class OutOfMemory(LikelyError):
    """Needs more memory than this machine has."""


class DeviceFull(OutOfMemory):
    """A GPU has no memory for it now, and may have when others have ended."""


def out_of_memory(error: BaseException) -> DeviceFull | None:
    """The error that a person can act on where mlx says that a GPU's memory is full; None for any other error."""
    told = str(error)
    if not isinstance(error, RuntimeError) or not any(words in told for words in _FULL):
        return None
    return DeviceFull(
        "the GPU has not enough memory for this: end other programs, or take a shorter text, fewer answers at once or "
        f"a model in fewer bits; mlx says {told}"
    )


class DataError(LikelyError):
    """A file of rows, a trace or a database that is malformed, damaged or written by another version."""


class NotFinite(LikelyError):
    """Logits of which no token can be drawn: they hold NaN or infinity."""


class RanksDiffer(LikelyError):
    """Processes that run one model together came to different results."""


class Interrupted(LikelyError):
    """Stopped by the person; what was done so far is kept."""
