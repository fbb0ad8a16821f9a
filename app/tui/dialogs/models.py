"""Which model: those on this machine, and those that it has the memory for, with size and licence."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Input, Label
from textual.widgets.option_list import Option

from likely.app.jobs import requests as r
from likely.app.jobs.worker import Failed
from likely.app.tui.base.text import cells
from likely.app.tui.widgets.lists.choices import ChoiceList
from likely.app.tui.widgets.lists.dialog import Dialog
from likely.engine.base.files import preferences

if TYPE_CHECKING:
    from likely.app.tui.widgets.host import ViewHost

FIRST = "There is no model on this machine yet. These fit its memory:"
ORDERS = ("size", "date")  # the largest first, or the newest
ROOMY = 60  # columns from which on a licence has a place
SEVERAL = "Which of these models? It is used until you choose another:"


class Models(Dialog[str | None]):
    """Gives the name of the model to load: a row's, or one that is typed (a path, a hub id), on a row too.

    What is typed leaves the rows that have it in their name.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Back"),
        Binding("down", "focus_list", "List"),
        Binding("ctrl+s", "turn", "Order", priority=True),
    ]

    def __init__(self, host: "ViewHost", offers: Sequence[r.ModelOffer] = ()) -> None:
        """`offers` are given on a first run, when nothing is here; else they are asked for."""
        super().__init__()
        self.host = host
        self.first = bool(offers)
        self.order = ORDERS[0]
        self.offers = tuple(offers)

    def compose(self) -> ComposeResult:
        with Vertical(classes="sheet wide"):
            yield Label(self._title(), classes="sheet-title", markup=False)
            yield ChoiceList(id="list", markup=False)
            yield Input(placeholder="or type a hub id, a folder, a .gguf file", id="name", select_on_focus=False)
            yield Label("looking…", classes="faint", markup=False, id="models-line")

    def _title(self) -> str:
        if not self.first:
            return "models"
        here = {offer.name for offer in self.offers if offer.here}
        chosen = preferences.chosen(self.host.home)  # it would be loaded, were it there
        gone = f"{chosen}, which was chosen last, is gone. " if chosen and chosen not in here else ""
        return cells.clean(gone) + (SEVERAL if here else FIRST)

    def on_mount(self) -> None:
        self.query_one(ChoiceList).focus()
        if self.first:
            self._list()
        else:
            self.host.engine.submit(r.Offer(), self._offered)

    def _offered(self, job: int, events: list[Any]) -> None:
        if not self.is_attached:  # it was left meanwhile
            return
        for event in events:
            match event:
                case r.Offered(offers):
                    known = {offer.name for offer in offers}
                    opened = [facts for name, facts in self.host.engine.models.items() if name not in known]
                    self.offers = (*(_opened(facts) for facts in opened), *offers)
                    self._list()
                case Failed(text):
                    self.query_one("#models-line", Label).update(text)

    def _list(self) -> None:
        """Models that fit the memory, those that are here before those to fetch, the largest or the newest first; then
        those that are too big. On a first run those that fit, in the order in which they are offered."""
        if self.first:
            self.offers = tuple(offer for offer in self.offers if offer.fits)
        else:
            by = {
                "size": lambda offer: (-offer.nbytes, -offer.date),
                "date": lambda offer: (-offer.date, -offer.nbytes),
            }
            self.offers = tuple(
                sorted(self.offers, key=lambda offer: (not offer.fits, not offer.here, *by[self.order](offer)))
            )
        rows, typed = self.query_one(ChoiceList), self.query_one(Input).value.strip()
        listed = [offer for offer in self.offers if typed.casefold() in offer.name.casefold()]
        rows.clear_options()
        rows.add_options(Option(self._line(offer), id=offer.name, disabled=not offer.fits) for offer in listed)
        current = self.host.engine.current.name if self.host.engine.current is not None else ""
        names = [offer.name for offer in listed]
        rows.highlighted = names.index(current) if current in names else 0 if names else None
        if not names:
            self.query_one("#models-line", Label).update(f"{cells.fit(typed, 40)} · ⏎ looks for it · esc")

    def _line(self, offer: r.ModelOffer) -> str:
        width = max(min(self.size.width, 88) - 10, 40)
        current = self.host.engine.current
        mark = "● " if current is not None and current.name == offer.name else "  "
        state = "too big" if not offer.fits else "here" if offer.here else "to fetch"
        nbytes = size(offer.nbytes) if offer.nbytes else ""
        licence = f"{cells.pad(offer.licence or 'no licence', 12)}  " if width >= ROOMY else ""
        date = datetime.fromtimestamp(offer.date).strftime("%d %b %y") if offer.date else ""
        tail = f"{nbytes:>8}  {date:>9}  {licence}{state:<8}"
        name = cells.pad(cells.clean(_short(offer.name)), max(width - len(tail) - 4, 10))
        return f"{mark}{name}  {tail}"

    def on_option_list_option_highlighted(self, event: ChoiceList.OptionHighlighted) -> None:
        """Show the highlighted model's whole name, and what enter will do."""
        offer = next(offer for offer in self.offers if offer.name == event.option.id)
        does = "⏎ loads it" if offer.here else "⏎ fetches and loads it"
        about = f" · {offer.about}" if offer.about else ""
        other = "" if self.first else f" · ^s by {next(order for order in ORDERS if order != self.order)}"
        room = max(min(self.size.width, 88) - 10, 30) - len(does + other) - 9
        self.query_one("#models-line", Label).update(f"{cells.fit(offer.name + about, room)} · {does}{other} · esc")

    def on_option_list_option_selected(self, event: ChoiceList.OptionSelected) -> None:
        self.dismiss(event.option.id)

    def on_key(self, event: events.Key) -> None:
        """Into the field goes what is typed on a row."""
        field = self.query_one(Input)
        if event.character is not None and event.is_printable and not field.has_focus:
            event.stop()
            field.value += event.character
            field.cursor_position = len(field.value)
            field.focus()

    def on_input_changed(self) -> None:
        if self.offers:
            self._list()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        if event.value.strip():
            self.dismiss(event.value.strip())

    def action_turn(self) -> None:
        """The largest first, or the newest."""
        if not self.first:
            self.order = ORDERS[(ORDERS.index(self.order) + 1) % len(ORDERS)]
            self._list()

    def action_focus_list(self) -> None:
        self.query_one(ChoiceList).focus()


def _opened(facts: r.ModelFacts) -> r.ModelOffer:
    """A model that was opened by its path: no store lists it."""
    return r.ModelOffer(facts.name, facts.nbytes, "", True, True, f"{facts.family} {facts.quantization}".strip())


def _short(name: str) -> str:
    """A hub model without its owner, a path without its folders."""
    return name.rstrip("/").rpartition("/")[2]


def size(nbytes: int) -> str:
    """A size as a person reads it."""
    return f"{nbytes / 1e9:.1f} GB" if nbytes >= 1e9 else f"{nbytes / 1e6:.0f} MB"
