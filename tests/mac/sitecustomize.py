"""Python on a machine whose mlx says that it has Metal, as a Mac's does, though none would run there.

With this folder on PYTHONPATH every Python, children too, finds a GPU that is mlx's device until another is chosen.
"""

import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any


class _Mac(MetaPathFinder):
    """Finds `mlx.core` where it is, and has it say so once it is loaded."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name != "mlx.core":
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                load(module)
                _with_metal(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _with_metal(mx: Any) -> None:
    device, choose = [mx.Device(mx.gpu)], mx.set_default_device

    def set_default_device(new: Any) -> None:
        device[0] = new
        if new == mx.cpu:
            choose(new)

    mx.metal.is_available = lambda: True
    mx.default_device = lambda: device[0]
    mx.set_default_device = set_default_device


sys.meta_path.insert(0, _Mac())
