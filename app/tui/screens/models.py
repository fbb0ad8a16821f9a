"""Which model: those on this machine, and those that it has the memory for, with size and licence."""

from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Label, OptionList
from textual.widgets.option_list import Option

from app.tui import cells
from app.tui import messages as m

if TYPE_CHECKING:
    from app.tui.app import LikelyApp


class Models(ModalScreen[str | None]):
    """Gives the name of the model to load; another name, a path or a hub id can be typed."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Back", show=False),
        Binding("down", "focus_list", "List", show=False),
    ]

    def __init__(self, likely: "LikelyApp") -> None:
        super().__init__()
        self.likely = likely
        self.offers: tuple[m.ModelOffer, ...] = ()

    def compose(self) -> ComposeResult:
        with Vertical(classes="sheet wide"):
            yield Label("models", classes="sheet-title")
            yield OptionList(id="list", markup=False)
            yield Input(placeholder="or a hub id, a folder, a .gguf file", id="name")
            yield Label(
                "⏎ load · those not here are fetched first · esc", classes="faint", markup=False, id="models-line"
            )

    def on_mount(self) -> None:
        self.query_one(OptionList).focus()
        self.likely.ask(m.Offer(self.likely.bridge.number()), self._offered)
        self.query_one("#models-line", Label).update("looking…")

    def _offered(self, reports: list[m.Report]) -> None:
        if not self.is_mounted:
            return
        line = self.query_one("#models-line", Label)
        for report in reports:
            match report:
                case m.Offered(_, offers):
                    self.offers = offers
                    rows = self.query_one(OptionList)
                    rows.add_options(
                        Option(self._line(offer), id=offer.name, disabled=not offer.fits) for offer in offers
                    )
                    rows.highlighted = 0 if offers else None
                    line.update("⏎ load · those not here are fetched first · esc")
                case m.Failed(_, text):
                    line.update(text)

    def _line(self, offer: m.ModelOffer) -> str:
        width = max(min(self.size.width, 88) - 8, 40)
        current = self.likely.current
        mark = "● " if current is not None and current.name == offer.name else "  "
        size = f"{offer.nbytes / 1e9:.1f} GB" if offer.nbytes >= 1e9 else f"{offer.nbytes / 1e6:.0f} MB"
        state = "here" if offer.here else "fetch" if offer.fits else "too big"
        tail = f"{size:>8}  {cells.pad(offer.licence or 'no licence named', 12)}  {state:<7}"
        name = cells.pad(cells.clean(offer.name), max(width - len(tail) - 4, 10))
        return f"{mark}{name}  {tail}"

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(event.option.id)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        if event.value.strip():
            self.dismiss(event.value.strip())

    def action_focus_list(self) -> None:
        self.query_one(OptionList).focus()
