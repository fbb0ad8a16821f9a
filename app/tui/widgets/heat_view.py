"""A token view that is only looked at: a cursor to walk with, and no more."""

from typing import ClassVar

from textual.binding import Binding, BindingType

from app.tui.widgets.token_view import TokenView
from engine.tune.control import Compared


class HeatView(TokenView, inherit_bindings=False):
    """Texts with heat. `shown` is the measurement that its text is of, where it is of one."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "token(-1)", "Token", show=False, id="token.previous"),
        Binding("right", "token(1)", "Token", show=False, id="token.next"),
        Binding("up", "row(-1)", "Row", show=False, id="token.up"),
        Binding("down", "row(1)", "Row", show=False, id="token.down"),
        Binding("home", "edge(-1)", "Row's start", show=False, id="token.row_start"),
        Binding("end", "latest", "Newest", show=False, id="token.newest"),
        Binding("pageup", "page(-1)", "Page", show=False, id="token.page_up"),
        Binding("pagedown", "page(1)", "Page", show=False, id="token.page_down"),
    ]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.shown: Compared | None = None

    def on_show(self) -> None:
        """A text that was hidden until now is read from its beginning."""
        if self.shown is not None and self.cursor is None:
            self.call_after_refresh(self.scroll_to, y=0, animate=False, immediate=True, force=True)
