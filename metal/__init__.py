"""Custom Metal kernels, their reference functions, and native arithmetic for CPUs without Metal. Import mlx from
here, so that a fast BLAS is loaded first.

Read first: attention.py.
"""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import mlx.core as mx
    import mlx.nn as nn

__all__ = ["mx", "nn"]


METAL = "LIKELY_METAL"  # in the environment: 0 leaves a Mac's GPU alone, here and in processes begun from here


def left_alone() -> bool:
    """Whether the environment says to leave Metal alone."""
    return os.environ.get(METAL) == "0"


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'metal' has no attribute {name!r}")
    from likely.metal import blas

    blas.load()
    import mlx.core

    globals()["mx"] = mlx.core
    if not (mlx.core.cuda.is_available() or (mlx.core.metal.is_available() and not left_alone())):
        # on a CPU mx.compile runs g++ (4.6 s for the first fused kernel), and silently does nothing where there is none
        mlx.core.disable_compile()
        mlx.core.set_default_device(mlx.core.cpu)
    if name == "nn":
        import mlx.nn

        globals()["nn"] = mlx.nn
    return globals()[name]
