"""A token view that is only looked at: a cursor to walk with, and no more."""

from typing import ClassVar

from textual.binding import Binding, BindingType

from app.tui.widgets.token_view import TokenView
from engine.tune.control import Compared

WALK = ("token(", "row(", "edge(", "page(", "first", "latest")


class HeatView(TokenView, inherit_bindings=False):
    """Texts with heat. `shown` is the measurement that its text is of, where it is of one."""

    BINDINGS: ClassVar[list[BindingType]] = [
        binding for binding in TokenView.BINDINGS if isinstance(binding, Binding) and binding.action.startswith(WALK)
    ]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.shown: Compared | None = None

    def on_show(self) -> None:
        """A text that was hidden until now is read from its beginning."""
        if self.shown is not None and self.cursor is None:
            self.call_after_refresh(self.scroll_to, y=0, animate=False, immediate=True, force=True)
