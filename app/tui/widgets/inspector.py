"""The inspector pane: candidates, entropy, sliders, tree. A sheet over the text where the screen is narrow.

It looks at the `Subject` that its view gives, remembers what the engine answered exactly, and asks for it once cursor
and sliders rest. What becomes of a pick or of other settings is decided elsewhere.
"""

from collections.abc import Callable, Hashable
from dataclasses import replace
from time import monotonic
from typing import Any

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.timer import Timer
from textual.widget import Widget

from app import requests as r
from app.tui.chat.candidates import CandidateTable, Outcome
from app.tui.chat.inspection import Subject, recent
from app.tui.host import host
from app.tui.widgets.bars import InspectorLine
from app.tui.widgets.candidates import Candidates
from app.tui.widgets.canvas import CachedWidget
from app.tui.widgets.entropy import EntropyRow
from app.tui.widgets.sampler import Sliders
from app.tui.widgets.tree import TreePane
from engine.trace.trace import Recipe

SETTLE_S = 0.12  # how long a slider rests before the engine is asked for the exact distribution
PANEL_S = 0.2  # between two looks while tokens come: bars that change faster cannot be read
BATCH_S = 0.08  # tokens that keep coming are at most this far apart
KNOWN = 200  # exact outcomes that are remembered


class Inspector(Vertical, CachedWidget):
    """Its parts, and when they look. `subject` is given by the view."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.subject: Callable[[], Subject] = Subject
        self.outcomes: dict[tuple[Hashable, Recipe], Outcome] = {}
        self._settle: Timer | None = None
        self._late: Timer | None = None
        self._looked_s = 0.0
        self._behind = False  # whether tokens have come that the panel has not seen

    def compose(self) -> ComposeResult:
        yield Candidates(id="candidates")
        yield EntropyRow(id="entropy")
        yield Sliders(id="sampler")
        yield TreePane(id="tree")

    def on_mount(self) -> None:
        self.candidates = self.query_one(Candidates)
        self.entropy = self.query_one(EntropyRow)
        self.sampler = self.query_one(Sliders)
        self.tree_pane = self.query_one(TreePane)
        self.line = self.screen.query_one(InspectorLine)

    # -- looking -----------------------------------------------------------------------------------------------------

    def table(self) -> CandidateTable | None:
        """The rows of the subject: exact where the engine has answered, else replayed."""
        return self._table(self.subject())

    def _table(self, subject: Subject) -> CandidateTable | None:
        at = subject.at
        return subject.instead if at is None else at.table(self.outcomes.get((at.key, at.recipe)))

    def look(self) -> None:
        """Bring the panel, or the line that stands for it, up to date with the subject."""
        if not self.is_attached:  # the view was left meanwhile
            return
        if not self.candidates.is_on_screen and not self.line.display:
            return
        subject = self.subject()
        table = self._table(subject)
        self.candidates.show(table)
        self.entropy.show(subject.bits, subject.cursor)
        if self.line.display:
            self.line.show(table, recent(subject.bits, subject.cursor))

    def look_soon(self) -> None:
        """Look, but not at once after the last time: with a batch of tokens, to share its repaint; by a timer only
        where no batch follows."""
        now = monotonic()
        wait = PANEL_S - (now - self._looked_s)
        self._behind = wait > 0
        if not self._behind:
            self._looked_s = now
            self.look()
        elif self._late is None:
            self._late = self.set_timer(wait + BATCH_S, self._look_late)

    def _look_late(self) -> None:
        self._late = None
        if self._behind:
            self.look_soon()

    def rest(self) -> None:
        """The cursor or a slider has moved: once they rest, the engine is asked for the exact distribution."""
        if self._settle is not None:
            self._settle.stop()
        self._settle = self.set_timer(SETTLE_S, self.ask)

    def ask(self) -> None:
        """Ask for all of the subject's raw distribution, where its replay is not exact."""
        subject = self.subject()
        step, table = subject.at.step if subject.at is not None else None, self._table(subject)
        if not subject.model or subject.exact is None or step is None or step.logprob is None:
            return
        if table is None or table.exact:
            return
        at = subject.exact()
        assert at.prompt is not None

        def answered(job: int, events: list[Any]) -> None:
            for event in events:
                if isinstance(event, r.ExactLogits):
                    if len(self.outcomes) > KNOWN:
                        self.outcomes.clear()
                    outcome = replace(at, logits=event.logits).outcome()
                    if outcome is not None:
                        self.outcomes[at.key, at.recipe] = outcome
                    self.look()

        host(self).engine.submit(r.Exact(subject.model, at.prompt), answered)

    # -- steering ----------------------------------------------------------------------------------------------------

    def on_candidates_picked(self, event: Candidates.Picked) -> None:
        if event.verb == "ban":
            event.stop()
            self.ban(event.token)

    def ban(self, token: int) -> None:
        """Never draw a token from now on; again allows it."""
        sampling = self.sampler.sampling.banned(token)
        self.sampler.show(sampling)
        self.post_message(Sliders.Changed(sampling))
        subject = self.subject()
        name = subject.at.names.name(token) if subject.at is not None else f"#{token}"
        self.call_later(
            host(self).say, f"{name} is banned from now on" if token in sampling.bias else f"{name} is allowed again"
        )

    # -- the sheet ---------------------------------------------------------------------------------------------------

    @property
    def is_sheet(self) -> bool:
        """Whether the screen is too narrow to keep it in sight."""
        return self.screen.has_class("-narrow") or self.screen.has_class("-tiny")

    def open(self) -> None:
        """As a sheet, lie over the text."""
        if self.is_sheet:
            self.add_class("-open")

    def close(self) -> bool:
        """Put the sheet away; gives whether it was open."""
        was_open = self.has_class("-open")
        self.remove_class("-open")
        return was_open

    def to_sampler(self, back: Widget) -> None:
        """The focus to the sliders; where it is a sheet, open it, or close it and give the focus `back`."""
        if self.is_sheet and self.close():
            back.focus()
        elif self.is_sheet:
            self.add_class("-open")
            self.call_after_refresh(self.sampler.focus)
            self.call_after_refresh(self.look)
        else:
            self.sampler.focus()
