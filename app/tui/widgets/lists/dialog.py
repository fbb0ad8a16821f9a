"""Dialog: a screen over the others that gives one answer and goes. Knows nothing of what is asked."""

from typing import TypeVar

from textual.await_complete import AwaitComplete
from textual.screen import ModalScreen

T = TypeVar("T")


async def nothing() -> None:
    """Do nothing: the awaitable of a dialog that has been dismissed already."""


class Dialog(ModalScreen[T]):
    """A modal screen that answers once. Textual's `dismiss` pops whatever is on top, so a second one is ignored."""

    def dismiss(self, result: T | None = None) -> AwaitComplete:
        return super().dismiss(result) if self.is_current else AwaitComplete(nothing())
