"""The formula of what is on the screen: which map of p its number belongs to, and a line with the present values."""

from typing import ClassVar, cast

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.widgets import Static

from likely.app.tui.base import cells, keys
from likely.app.tui.base.formula import MAPS, Formula, Inked, path
from likely.app.tui.base.line_widget import Painted
from likely.app.tui.widgets.dialog import Dialog

APART = "   "  # between two equations of a line: here each has a line


class FormulaSheet(Dialog[None]):
    """The maps, the line, and what there is to say beside it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(f"escape,enter,q,{keys.FORMULA}", "dismiss(None)", "Back"),
    ]

    def __init__(self, formula: Formula) -> None:
        super().__init__()
        self.formula = formula

    def compose(self) -> ComposeResult:
        formula = self.formula
        with Vertical(classes="sheet wide"):
            yield Static(self._text(path(formula.map, whole=True)))
            yield Static(self._text([(f"{MAPS[formula.map]}\n", "faint")]))
            with VerticalScroll():
                yield Static(self._text([(text.replace(APART, "\n"), ink) for text, ink in formula.words()]))
                if formula.note:
                    yield Static(self._text([(f"\n{formula.note}", "faint")]))

    def _text(self, words: list[Inked]) -> Text:
        look = cast(Painted, self.app).look
        return Text.assemble(*((cells.clean(text), getattr(look, ink)) for text, ink in words))
