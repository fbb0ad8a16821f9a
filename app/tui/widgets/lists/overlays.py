"""Small screens over the screen: pick from a list, type a line, read a text, choose another token."""

from collections.abc import Sequence
from typing import ClassVar, cast

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.widgets import Input, Label, Static
from textual.widgets.option_list import Option

from likely.app.tui.base import keys
from likely.app.tui.base.drawing.line_widget import Line, LineWidget, Painted
from likely.app.tui.base.text import cells
from likely.app.tui.chat.candidates import CandidateTable
from likely.app.tui.widgets.lists.candidates import columns, row
from likely.app.tui.widgets.lists.choices import ChoiceList
from likely.app.tui.widgets.lists.dialog import Dialog


class Ask(Dialog[str | None]):
    """A line of text from a person; None when they think better of it."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", "Back")]

    def __init__(self, title: str, value: str = "", placeholder: str = "") -> None:
        super().__init__()
        self.title_, self.value, self.placeholder = title, value, placeholder

    def compose(self) -> ComposeResult:
        with Vertical(classes="sheet small"):
            yield Label(self.title_, classes="sheet-title", markup=False)
            yield Input(self.value, placeholder=self.placeholder)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        self.dismiss(event.value)


class Pick(Dialog[str | None]):
    """One of several, by its id. Rows without an id are headings."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", "Back")]

    def __init__(self, title: str, options: Sequence[tuple[str, str]]) -> None:
        """`options` are (id, words)."""
        super().__init__()
        self.title_, self.options = title, options

    def compose(self) -> ComposeResult:
        with Vertical(classes="sheet"):
            yield Label(self.title_, classes="sheet-title", markup=False)
            heading = cast(Painted, self.app).look.heading
            room = min(self.app.size.width * 96 // 100, 76) - 5
            rows = [
                Option(cells.fit(cells.clean(words), room) if id else Text(words, heading), id or None, not id)
                for id, words in self.options
            ]
            yield ChoiceList(*rows, markup=False)

    def on_option_list_option_selected(self, event: ChoiceList.OptionSelected) -> None:
        self.dismiss(event.option.id)


class Read(Dialog[None]):
    """A text to read."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(f"escape,q,{keys.HELP},question_mark", "dismiss(None)", "Back"),
    ]

    def __init__(self, title: str, text: str) -> None:
        super().__init__()
        self.title_, self.text = title, text

    def compose(self) -> ComposeResult:
        with VerticalScroll(classes="sheet wide"):
            yield Label(self.title_, classes="sheet-title", markup=False)
            yield Static(self.text, markup=False)


class AlternativeRows(LineWidget, can_focus=True):
    """The candidates of one token as a short menu."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "pick(-1)", "Pick"),
        Binding("down", "pick(1)", "Pick"),
    ]

    def __init__(self, view: CandidateTable) -> None:
        super().__init__(id="alternatives")
        self.view = view
        self.picked = next((i for i, row in enumerate(view.rows) if row.chosen), 0)

    def lines(self, width: int, height: int) -> Sequence[Line]:
        look, glyphs = self.look, self.glyphs
        top = self._top(height)
        lines: list[Line] = [columns(self.view, look, width, indent=3)]
        for index in range(top, min(top + height - 1, len(self.view.rows))):
            picked = index == self.picked
            lines.append(
                row(
                    self.view.rows[index],
                    look,
                    glyphs,
                    width,
                    self.view.scale,
                    picked=picked,
                    number=f"{index + 1:>2} ",
                )
            )
        return lines

    def _top(self, height: int) -> int:
        """The first row that is seen below the headings."""
        return min(max(self.picked - height + 2, 0), max(len(self.view.rows) - height + 1, 0))

    def action_pick(self, by: int) -> None:
        if self.view.rows:
            self.picked = min(max(self.picked + by, 0), len(self.view.rows) - 1)
            self.redraw()

    def on_click(self, event: events.Click) -> None:
        at = self._top(self.size.height) + event.y - 1
        if event.y >= 1 and at < len(self.view.rows):
            self.picked = at
            screen = self.screen
            assert isinstance(screen, Alternatives)
            screen.action_take()


class Alternatives(Dialog[tuple[str, int | str] | None]):
    """Another way to go on: ("token", id) or ("text", words); ("ban", id) never draws one from now on."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Back"),
        Binding("enter", "take", "Branch"),
        Binding("slash", "type", "Type your own"),
        Binding("x", "ban", "Ban"),
        *(Binding(str(n), f"number({n})") for n in range(1, 10)),
    ]

    def __init__(self, view: CandidateTable, at: tuple[int, int]) -> None:
        """`at` is the cell (x, y) of the token, to open beside."""
        super().__init__()
        self.view, self.at = view, at

    def compose(self) -> ComposeResult:
        with Vertical(id="menu"):
            yield Label(cells.clean(f"{self.view.name}  {self.view.numbers}"), classes="sheet-title", markup=False)
            yield AlternativeRows(self.view)
            yield Input(placeholder="other words, then enter", id="own")
            yield Label("enter branch · / type your own · x ban · esc", classes="faint", id="menu-keys", markup=False)

    def on_mount(self) -> None:
        menu = self.query_one("#menu")
        rows = min(len(self.view.rows), 10, max(self.size.height - 7, 1))
        self.query_one("#alternatives").styles.height = rows + 1
        width = min(56, self.size.width - 2)
        menu.styles.width = width
        height = rows + 5
        x = min(max(self.at[0], 0), max(self.size.width - width, 0))
        below = self.at[1] + 1 + height <= self.size.height
        y = self.at[1] + 1 if below else max(self.at[1] - height, 0)
        menu.styles.offset = (x, min(y, max(self.size.height - height, 0)))
        self.query_one("#own").display = False
        self.query_one(AlternativeRows).focus()

    def action_take(self) -> None:
        rows = self.query_one(AlternativeRows)
        if rows.view.rows:
            self.dismiss(("token", rows.view.rows[rows.picked].token))

    def action_ban(self) -> None:
        rows = self.query_one(AlternativeRows)
        if rows.view.rows:
            self.dismiss(("ban", rows.view.rows[rows.picked].token))

    def action_number(self, number: int) -> None:
        if number <= len(self.view.rows):
            self.dismiss(("token", self.view.rows[number - 1].token))

    def action_type(self) -> None:
        self.query_one("#own").display = True
        self.query_one("#menu-keys").display = False
        self.query_one("#own").focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        if event.value:
            self.dismiss(("text", event.value))
