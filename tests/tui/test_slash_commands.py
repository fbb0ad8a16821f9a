"""What tests of other views still take from here."""

from dataclasses import is_dataclass
from typing import Any

from likely.app.tui.base.sampling import Sampling


class Noted:
    """Everything that is called on it, or on what hangs on it, is written down."""

    def __init__(self, log: list[str], name: str = "", **facts: Any) -> None:
        self.__dict__.update(facts)
        self.log_, self.name_ = log, name

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Noted(self.log_, f"{self.name_}.{name}".lstrip("."))

    def __call__(self, *args: Any, **options: Any) -> None:
        said = [_said(arg) for arg in args] + [f"{name}={_said(value)}" for name, value in options.items()]
        self.log_.append(f"{self.name_}({', '.join(said)})")


def _said(value: Any) -> str:
    if isinstance(value, Sampling):
        return f"sampling {value.recipe.transforms}"
    if callable(value) and not isinstance(value, type):
        return "a function"
    plain = (is_dataclass(value) and len(repr(value)) > 99) or " at 0x" in repr(value)
    return type(value).__name__ if plain else repr(value)
