"""The learning panel of a training without a base: bits a byte, loss by position, and the gradient's noise scale."""

from textual.app import ComposeResult
from textual.containers import Vertical

from likely.app.tui.training.history import TrainingHistory
from likely.app.tui.widgets.figures.chart import Chart


class LearnedPanel(Vertical):
    """Shows a `TrainingHistory` beside its loss."""

    def __init__(self) -> None:
        super().__init__(id="learned", classes="side")

    def compose(self) -> ComposeResult:
        for name in ("bits", "positions", "noise"):
            yield Chart(id=name)

    def show(self, course: TrainingHistory, *, close: bool) -> None:
        """Show the history's present state; nothing is drawn while the panel is hidden."""
        pictures = course.bits(close=close), course.positions(), course.noise(close=close)
        for chart, picture in zip(self.query(Chart), pictures, strict=True):
            chart.show(picture)
