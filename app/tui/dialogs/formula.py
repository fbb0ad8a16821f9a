"""The formula of what is on the screen: which map of p its number belongs to, and a line with the present values."""

from typing import ClassVar, cast

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import Static

from likely.app.tui.base import keys
from likely.app.tui.base.drawing.line_widget import Painted
from likely.app.tui.base.text import cells
from likely.app.tui.base.text.formula import MAPS, Formula, Inked, path
from likely.app.tui.widgets.lists.dialog import Dialog

APART = "   "  # between two equations of a line: here each has a line


class FormulaSheet(Dialog[None]):
    """The maps, the line, what there is to say beside it, and on demand what each of its signs stands for."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(f"escape,enter,q,{keys.FORMULA}", "dismiss(None)", "Back"),
        Binding("question_mark", "symbols", "Symbols"),
    ]

    def __init__(self, formula: Formula) -> None:
        super().__init__()
        self.formula = formula

    def compose(self) -> ComposeResult:
        formula = self.formula
        with VerticalScroll(classes="sheet wide"):
            yield Static(self._text(path(formula.map, whole=True)))
            yield Static(self._text([(f"{MAPS[formula.map]}\n? names each sign · esc back\n", "faint")]))
            yield Static(self._text([(text.replace(APART, "\n"), ink) for text, ink in formula.words()]))
            if formula.note:
                yield Static(self._text([(f"\n{formula.note}", "faint")]))
            yield Static(id="symbols")

    def action_symbols(self) -> None:
        """Say what each sign stands for, or no more."""
        names = self.query_one("#symbols", Static)
        names.display = not names.display or not names.content
        names.update(self._text([word for row in self._named() for word in row]))
        names.scroll_visible()

    def _named(self) -> list[list[Inked]]:
        return [[(f"\n{sign}", "model"), (f"  {meaning}", "text")] for sign, meaning in self.formula.symbols()]

    def _text(self, words: list[Inked]) -> Text:
        look = cast(Painted, self.app).look
        return Text.assemble(*((cells.clean(text), getattr(look, ink)) for text, ink in words))
