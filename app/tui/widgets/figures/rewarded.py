"""The panel of a training by rewards: pass@k of base and policy, and one held-out problem's answers before and now."""

from textual.app import ComposeResult
from textual.containers import Vertical

from likely.app.tui.training.reward_history import RewardHistory
from likely.app.tui.widgets.figures.chart import Chart
from likely.app.tui.widgets.transcript.heat_view import HeatView
from likely.engine.train.rewards.figures import AnsweredProblem


class RewardedPanel(Vertical):
    """Shows a `RewardHistory` beside its rewards."""

    def __init__(self) -> None:
        super().__init__(id="rewarded", classes="side")
        self._shown: AnsweredProblem | None = None

    def compose(self) -> ComposeResult:
        yield Chart(id="passes")
        yield HeatView(id="problem", top=True)

    def show(self, history: RewardHistory) -> None:
        """Show the history's present state."""
        self.query_one(Chart).show(history.passes())
        problem = history.seen[history.at] if history.seen else None
        if problem is not self._shown:
            self._shown = problem
            self.query_one(HeatView).show(history.blocks(), follow=False)
