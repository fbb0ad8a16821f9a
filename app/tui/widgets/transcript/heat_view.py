"""A token view that is only looked at: a cursor to walk with, and no more."""

from typing import ClassVar

from textual.binding import Binding, BindingType

from likely.app.tui.widgets.transcript.token_view import TokenView

WALK = ("token(", "row(", "edge", "page(", "first", "latest")


class HeatView(TokenView, inherit_bindings=False):
    """Texts with heat; `top` where one is read from its beginning rather than followed."""

    BINDINGS: ClassVar[list[BindingType]] = [
        binding for binding in TokenView.BINDINGS if isinstance(binding, Binding) and binding.action.startswith(WALK)
    ]

    def __init__(self, *, id: str, top: bool = False) -> None:
        super().__init__(id=id)
        self.top = top

    def on_show(self) -> None:
        if self.top and self.cursor is None:
            self.call_after_refresh(self.scroll_to, y=0, immediate=True, force=True)
