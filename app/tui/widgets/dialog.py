"""Dialog: a screen over the others that gives one answer and goes. Knows nothing of what is asked."""

from typing import TypeVar

from textual.await_complete import AwaitComplete
from textual.screen import ModalScreen

T = TypeVar("T")


async def nothing() -> None:
    """What a dialog that has gone does."""


class Dialog(ModalScreen[T]):
    """Answers once: Textual's `dismiss` takes away whatever is on top, so a second answer took the view below."""

    def dismiss(self, result: T | None = None) -> AwaitComplete:
        return super().dismiss(result) if self.is_current else AwaitComplete(nothing())
