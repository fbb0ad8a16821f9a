"""`Steering`: what a person picks in the panels of a chat, and what that does to its session."""

from likely.app.tui.base.layout import TokenPlace
from likely.app.tui.base.sampling import Sampling
from likely.app.tui.chat.candidates import Names
from likely.app.tui.chat.chat_session import ChatSession
from likely.app.tui.widgets.bars import Hints
from likely.app.tui.widgets.candidates import Candidates
from likely.app.tui.widgets.diffusion_pane import DiffusionPane
from likely.app.tui.widgets.entropy import EntropyRow
from likely.app.tui.widgets.inspector import Inspector
from likely.app.tui.widgets.sampler import Sliders
from likely.app.tui.widgets.transcript_pane import TranscriptPane
from likely.app.tui.widgets.tree import TreePane


class Steering:
    """The part of a chat screen that hears its panels; the screen has the rest."""

    pane: TranscriptPane
    inspector: Inspector
    diffusion: DiffusionPane

    @property
    def talk(self) -> ChatSession:
        """The session, once one is open."""
        raise NotImplementedError

    @property
    def hints(self) -> Hints:
        """The line of keys and news."""
        raise NotImplementedError

    def names(self) -> Names:
        """The vocabulary of the conversation's model."""
        raise NotImplementedError

    def status(self) -> None:
        """The top line, as things are."""

    def begun(self, begun: bool, why_not: str = "") -> None:
        """A run has begun, or there is a reason why not."""

    def command(self, text: str) -> None:
        """Do a slash command."""

    def set_sampling(self, sampling: Sampling) -> None:
        """Draw otherwise from the next token on."""

    def on_transcript_pane_banned(self, event: TranscriptPane.Banned) -> None:
        self.inspector.ban(event.token)

    def on_candidates_picked(self, event: Candidates.Picked) -> None:
        place = self.pane.place
        if self.talk.stepping and self.talk.peek is not None and event.verb == "branch":
            self.talk.pick(event.token)
        elif event.verb == "force":
            forced = self.talk.force_next(event.token)
            name = self.names().name(event.token)
            self.hints.say(f"{name} comes next" if forced else "nothing is being drawn: enter branches with it")
        elif place is not None:
            self.pane.take(place, event.token)

    def on_sliders_changed(self, event: Sliders.Changed) -> None:
        self.set_sampling(event.sampling)

    def on_sliders_strategy_chosen(self, event: Sliders.StrategyChosen) -> None:
        self.command(f"/strategy {event.strategy}")

    def on_diffusion_pane_cell_changed(self, event: DiffusionPane.CellChanged) -> None:
        self.begun(self.talk.place(event.node, event.step, event.position, event.token), "that is not to be changed")

    def on_diffusion_pane_answer_turned(self, event: DiffusionPane.AnswerTurned) -> None:
        self.pane.check_out(event.fork, event.option)

    def on_diffusion_pane_step_looked(self) -> None:
        self.status()

    def on_entropy_row_pointed(self, event: EntropyRow.Pointed) -> None:
        if (place := self.pane.place) is not None:
            self.pane.view.focus()
            self.pane.view.move_to(TokenPlace(place.block, event.token))

    def on_tree_pane_checked_out(self, event: TreePane.CheckedOut) -> None:
        self.pane.check_out(event.fork, event.option)

    def on_tree_pane_put_away(self, event: TreePane.PutAway) -> None:
        self.pane.prune(event.fork, event.option)

    def on_tree_pane_brought_back(self) -> None:
        self.pane.action_restore()
