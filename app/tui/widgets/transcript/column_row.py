"""The columns of a comparison side by side: which is picked, and what is said above and below each."""

from textual.containers import Horizontal

from likely.app.tui.chat.inspecting.crossing import LETTERS
from likely.app.tui.widgets.transcript.column import Column


class ColumnRow(Horizontal):
    """A row of `Column`s; the first is what the others are compared with."""

    @property
    def all(self) -> list[Column]:
        return list(self.query(Column))

    def picked(self) -> Column:
        """The column that has the focus, else the first."""
        return next((column for column in self.all if column.has_focus_within), self.all[0])

    @property
    def place(self) -> int:
        """The place of the one that is picked."""
        return self.all.index(self.picked())

    @property
    def busy(self) -> bool:
        return any(column.busy for column in self.all)

    def mark_picked(self) -> None:
        for column in self.all:
            column.set_class(column.has_focus_within, "-picked")

    def say_heads(self) -> None:
        """Say above each column what tells it apart; its model too, where not all have the same."""
        several = len({column.law_of for column in self.all}) > 1
        for letter, column in zip(LETTERS, self.all, strict=False):
            column.named = several
            column.head(letter)

    def say_feet(self) -> None:
        """Say below each column what it came to, and where it parts from the first."""
        both = any(column.chat.diffuses for column in self.all)
        for column in self.all:
            first = self.all[0]
            column.compare(first)
            column.foot(column is first, both)

    def on_column_resized(self) -> None:
        self.say_heads()
        self.say_feet()

    def unmark(self) -> None:
        """Compare with the first column from the beginning."""
        for column in self.all:
            column.unmark()
            column.view.redraw()

    def render_markdown(self, on: bool) -> None:
        for column in self.all:
            column.render_markdown(on)
