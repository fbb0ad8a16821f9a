"""Looking: the transcript and the panel of a chat, and what they say of the token under the cursor."""

from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

from textual.screen import Screen
from textual.timer import Timer

from app import requests as r
from app.tui.chat import candidates
from app.tui.chat.candidates import LN2, CandidateTable, Names, Outcome
from app.tui.chat.chat_session import ChatSession
from app.tui.tokens import cells
from app.tui.tokens.layout import TokenPlace
from app.tui.widgets.bars import Hints, InspectorLine, JumpToLatest
from app.tui.widgets.candidates import Candidates
from app.tui.widgets.entropy import EntropyRow
from app.tui.widgets.prompt import Prompt
from app.tui.widgets.rows import TranscriptRows
from app.tui.widgets.sampler import Sampler
from app.tui.widgets.token_view import TokenView
from app.tui.widgets.tree import TreePane
from engine.trace.trace import Recipe, TokenStep

if TYPE_CHECKING:
    from app.tui.app import LikelyApp

SETTLE_S = 0.12  # how long a slider rests before the engine is asked for the exact distribution
PANEL_S = 0.2  # between two looks of the panel while tokens come: bars that change faster cannot be read
BATCH_S = 0.08  # tokens that keep coming are at most this far apart


class Looking(Screen[None]):
    """The part of the chat screen that shows. `talk` is the conversation that is open."""

    talk: ChatSession
    transcript: TokenView
    prompt: Prompt
    hints: Hints
    panel: Candidates
    entropy_row: EntropyRow
    sampler: Sampler
    tree_pane: TreePane

    def __init__(self) -> None:
        super().__init__()
        self.outcomes: dict[tuple[int, int, Recipe], Outcome] = {}
        self.entropies: list[float | None] = []
        self._entropy_of = -1
        self._snapshots: dict[tuple[str, int], TokenStep] = {}
        self._settle: Timer | None = None
        self._inspected_s = 0.0
        self._behind = False  # whether tokens have come that the panel has not seen
        self._late: Timer | None = None

    @property
    def likely(self) -> "LikelyApp":
        return cast("LikelyApp", self.app)

    def save(self) -> None:
        if self.likely.keeper is not None:
            self.likely.keeper.save(self.talk.conversation)

    def reshow(self, *, follow: bool | None = None) -> None:
        """Show the lineage anew, after it has changed."""
        blocks = self.talk.blocks()
        self.query_one("#welcome").display = not blocks
        self._entropy_of = -1
        self.transcript.show(blocks, follow=follow)
        self.tree_pane.show(self.talk.conversation)
        self.inspect()
        self._hint()

    def place(self) -> TokenPlace | None:
        """The token that is looked at: under the cursor, else the newest."""
        return self.transcript.cursor or self.transcript.newest()

    def names(self) -> Names:
        return self.likely.names_of(self.talk.conversation.model)

    def inspect(self) -> None:
        """Bring the panel up to date with the token that is looked at and the sliders."""
        view = self.view()
        place = self.place()
        if not self.panel.is_on_screen and not self.query_one(InspectorLine).display:
            return
        self.panel.show(view)
        if place is not None:
            self._entropies(place.block)
        self.entropy_row.show(self.entropies, self.transcript.cursor.token if self.transcript.cursor else None)
        glance = self.query_one(InspectorLine)
        if glance.display:
            end = len(self.entropies) if self.transcript.cursor is None else self.transcript.cursor.token + 1
            glance.show(view, self.entropies[max(end - 8, 0) : end])

    def on_resize(self) -> None:
        """The panel and the one line that stands for it take turns as the width changes."""
        if self.is_mounted:
            self.call_after_refresh(self.inspect)

    def inspect_soon(self) -> None:
        """As `inspect`, but not at once after the last: with a batch of tokens, to share its repaint; by a timer only
        where no batch follows.
        """
        now = monotonic()
        wait = PANEL_S - (now - self._inspected_s)
        self._behind = wait > 0
        if not self._behind:
            self._inspected_s = now
            self.inspect()
        elif self._late is None:
            self._late = self.set_timer(wait + BATCH_S, self._inspect_late)

    def _inspect_late(self) -> None:
        self._late = None
        if self._behind:
            self.inspect_soon()

    def _entropies(self, block: int) -> None:
        """The entropies of a block in bits: a list that grows with it."""
        steps = self.talk.shown[block].steps if block < len(self.talk.shown) else []
        if self._entropy_of != block or len(self.entropies) > len(steps):
            self._entropy_of, self.entropies = block, []
        for step in steps[len(self.entropies) :]:
            self.entropies.append(None if step.entropy is None else step.entropy / LN2)

    def view(self) -> CandidateTable | None:
        """What the panel says now."""
        if self.talk.peek is not None and self.transcript.cursor is None:
            step = self.talk.peek
            outcome = self.outcome(step, None)
            if outcome is not None and step.snapshot is not None and step.entropy is not None:
                recipe, vocab = self.talk.sampling.recipe, step.snapshot.vocab
                return candidates.next_view(outcome, recipe, self.names(), vocab, step.entropy / LN2)
        place = self.place()
        if place is None:
            return None
        step_here = self.talk.step_at(place)
        shown = self.talk.shown[place.block]
        title = f"TOKEN {place.token + 1}/{len(shown.block.tokens)}"
        if step_here is None and self.transcript.cursor is None:
            return None
        if step_here is None:
            waiting = "looking…" if self.likely.engine.current is not None else "needs the model"
            word = cells.piece_text(shown.block.tokens[place.token].text.encode())
            return CandidateTable(title, word, waiting, (), 0, 0, 0.0, "", True, False)
        step = self._whole(place, step_here)
        outcome = self.outcome(step, place)
        live = self.transcript.cursor is None
        return candidates.view(step, outcome, self.talk.sampling.recipe, self.names(), title=title, live=live)

    def outcome(self, step: TokenStep, place: TokenPlace | None) -> Outcome | None:
        """The step's candidates under the sliders as they are: exact where the engine has answered, else replayed."""
        recipe = self.talk.sampling.recipe
        if place is not None:
            key = (place.block, place.token, recipe)
            if key in self.outcomes:
                return self.outcomes[key]
            before, steps = self.talk.history(place)
            seed = self.talk.shown[place.block].message.last.seed
            return candidates.replayed(step, recipe, before, steps, self.names(), seed)
        before, steps = self.talk.history(None)
        return candidates.replayed(step, recipe, before, steps, self.names(), 0)

    def _whole(self, place: TokenPlace, step: TokenStep) -> TokenStep:
        """A step with its snapshot: read from disk where the conversation was reopened."""
        if step.snapshot is not None or self.likely.store is None or step.logprob is None:
            return step
        token = place.token
        for segment in self.talk.shown[place.block].message.segments:
            if token < segment.length:
                key = (segment.node.id, token)
                if key not in self._snapshots:
                    found = self.likely.store.snapshot(self.talk.conversation.id, *key)
                    whole = step if found is None else replace(step, snapshot=found[0], removed_by=found[1])
                    self._snapshots[key] = whole
                return self._snapshots[key]
            token -= segment.length
        return step

    def _ask_exact(self) -> None:
        """Once the sliders rest: the exact distribution of the token under the cursor."""
        place, facts = self.place(), self.likely.engine.current
        if place is None or facts is None or self.talk.running or facts.name != self.talk.conversation.model:
            return
        step = self.talk.step_at(place)
        if step is None or step.logprob is None:
            return
        view = self.view()
        if view is None or view.exact:
            return
        recipe = self.talk.sampling.recipe
        ids, _ = self.talk.ids_before(place)
        context = self.talk.context_before(place)
        seed = self.talk.shown[place.block].message.last.seed

        def answered(job: int, events: list[Any]) -> None:
            for event in events:
                if isinstance(event, r.ExactLogits):
                    if len(self.outcomes) > 200:
                        self.outcomes.clear()
                    self.outcomes[place.block, place.token, recipe] = candidates.exact(
                        event.logits, recipe, ids, self.names(), (seed, step.position)
                    )
                    self.inspect()

        self.likely.engine.submit(r.Exact(facts.name, context), answered)

    def _rest(self) -> None:
        if self._settle is not None:
            self._settle.stop()
        self._settle = self.set_timer(SETTLE_S, self._ask_exact)

    def _scored(self, job: int, event: r.Scored) -> None:
        cursor = self.transcript.cursor
        before = 0
        if cursor is not None and cursor.block < len(self.talk.shown):
            block = self.talk.shown[cursor.block].block
            before = sum(len(token.text) for token in block.tokens[: cursor.token])
            leading = len(block.tokens[cursor.token].text) - len(block.tokens[cursor.token].text.lstrip())
            before += leading
            was_scored = block.scored
        if not self.talk.scored(job, event):
            self.hints.say("this message cannot be looked at: the chat template changes it")
            return
        blocks = self.talk.blocks()
        self.transcript.show(blocks)
        if cursor is not None and not was_scored and blocks[cursor.block].scored:
            at = 0
            for index, token in enumerate(blocks[cursor.block].tokens):
                at += len(token.text)
                if at > before:
                    self.transcript.move_to(TokenPlace(cursor.block, index), scroll=False)
                    break
        self.inspect()

    def _hint(self) -> None:
        """The keys that act on what has the focus."""
        stop = (("esc", "Stop"),) if self.talk.running else ()
        focus = self.focused
        if isinstance(focus, TokenView):
            own: tuple[tuple[str, str], ...] = (
                ("⏎", "Alternatives"), ("n", "Surprise"), ("b", "Re-sample"), ("[ ]", "Siblings"), ("e", "Edit"),
                ("m", "Read"), ("y", "Copy"),
            )  # fmt: skip
        elif isinstance(focus, Candidates):
            own = (("↑↓", "Pick"), ("⏎", "Branch"), ("f", "Force next"), ("x", "Ban"))
        elif isinstance(focus, Sampler):
            own = (("←→", "Move"), ("0", "Off"), ("=", "Type"), ("< >", "Order"), ("p", "Presets"))
        elif isinstance(focus, TreePane):
            own = (("↑↓", "Pick"), ("⏎", "Check out"))
        else:
            own = (("^r", "Redo"), ("^t", "Heat"), ("^g", "Sampler"), ("^o", "Sessions"), ("^n", "New"))
        self.hints.show((*stop, *own, ("f1", "Keys")))
        if not self.hints.alarm and not self.talk.stepping:
            facts = self.likely.engine.current
            base = facts is not None and not facts.chat and not self.talk.shown
            self.hints.say("a base model, without a chat template: it continues text (f4)" if base else "")

    def on_token_view_cursor_moved(self, event: TokenView.CursorMoved) -> None:
        if event.place is not None and event.place.block < len(self.talk.shown):
            self.talk.look(event.place.block)
        self.inspect()
        self._rest()

    def on_transcript_rows_follow_changed(self, event: TranscriptRows.FollowChanged) -> None:
        pill = self.query_one(JumpToLatest)
        pill.show(event.behind)
        pill.set_class(not event.following, "-shown")

    def on_jump_to_latest_pressed(self) -> None:
        self.transcript.action_latest()
