"""Field of several lines, whose undo and redo end no program."""

from collections.abc import Callable

from textual.widgets import TextArea
from textual.widgets.text_area import Selection


class TextField(TextArea):
    """Textual's, which while it undoes looks for the cursor where it was in a text that has fewer lines by then, if its
    scrollbar comes or goes at that."""

    def undo(self) -> None:
        self._from_the_top(super().undo)

    def redo(self) -> None:
        self._from_the_top(super().redo)

    def _from_the_top(self, change: Callable[[], None]) -> None:
        """Make a change with the cursor where every text has a place; the change puts it where it belongs."""
        selection, text = self.selection, self.text
        self.selection = Selection()
        change()
        if self.text == text:
            self.selection = selection
