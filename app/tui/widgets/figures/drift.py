"""The drift panel: the bars of one place before and now, what rose and fell, and the heat along a text."""

from textual.app import ComposeResult
from textual.containers import Vertical

from likely.app.tui.base.text.layout import TokenPlace
from likely.app.tui.training.probes import Probes
from likely.app.tui.widgets.figures.probe_heading import ProbeHeading
from likely.app.tui.widgets.figures.top_shifts import TopShifts
from likely.app.tui.widgets.lists.candidates import Candidates
from likely.app.tui.widgets.transcript.heat_view import HeatView
from likely.engine.train.control import Compared


class MovedPanel(Vertical):
    """Shows a `Probes`; a cursor in its text picks the place."""

    def __init__(self) -> None:
        super().__init__(id="moved", classes="side")
        self._shown: Compared | None = None

    def compose(self) -> ComposeResult:
        with Vertical(id="place"):
            yield ProbeHeading(id="watched")
            yield Candidates(id="outlook")
        with Vertical(id="along"):
            yield TopShifts(id="swing")
            yield HeatView(top=True, id="text")

    def on_mount(self) -> None:
        self.query_one(Candidates).can_focus = False

    @property
    def text(self) -> HeatView:
        return self.query_one("#text", HeatView)

    def show(self, watching: Probes, in_answer: TokenPlace | None) -> None:
        """`in_answer` is the token under the cursor of an answer, where that is what a person looks at."""
        along, text = watching.along, self.text
        block = watching.block() if along is not self._shown else None
        if block is not None:
            self._shown = along
            text.show([block], follow=False)
        self.query_one(TopShifts).show(along.difference if along is not None else None, watching.names)
        outlook = watching.outlook(text.cursor, in_answer)
        self.query_one(ProbeHeading).show(outlook)
        self.query_one(Candidates).show(outlook.view)
