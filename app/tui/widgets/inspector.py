"""The inspector pane: candidates, entropy, sampler, tree. A drawer under the text where the screen is narrow.

It looks at the `Subject` that its view gives, remembers what the engine answered exactly, and asks for it once cursor
and sliders rest. What becomes of a pick or of other settings is decided elsewhere.
"""

from collections.abc import Callable, Hashable
from dataclasses import replace
from time import monotonic
from typing import Any

import numpy as np
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.timer import Timer
from textual.widget import Widget

from likely.app.jobs import calls
from likely.app.jobs.calls import call
from likely.app.jobs.interpretability import Inside, question
from likely.app.jobs.worker import Failed
from likely.app.tui.base.text import cells
from likely.app.tui.base.text.formula import Formula
from likely.app.tui.chat import tallies, tool_choice
from likely.app.tui.chat.candidates import CandidateTable, Outcome
from likely.app.tui.chat.inspecting import neighbors
from likely.app.tui.chat.inspecting.formulas import of_choice, of_draw, of_neighbour, of_token
from likely.app.tui.chat.inspecting.inspection import Inspection, Subject, recent
from likely.app.tui.chat.inspecting.search_choice import SearchTable
from likely.app.tui.widgets.bars import InspectorLine
from likely.app.tui.widgets.figures.entropy import EntropyRow
from likely.app.tui.widgets.figures.why_sheet import LEAST, WhySheet
from likely.app.tui.widgets.host import host
from likely.app.tui.widgets.input.sampler import Sliders
from likely.app.tui.widgets.lists.best_texts import BestTexts
from likely.app.tui.widgets.lists.candidates import Candidates
from likely.app.tui.widgets.lists.conversations import ConversationList
from likely.app.tui.widgets.transcript.tree import TreePane
from likely.app.tui.widgets.transcript.votes import Votes
from likely.engine.chat.conversation import Conversation
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.prompt import Prompt
from likely.engine.inside.questions import Neighbourhood
from likely.engine.sampling.trace.step import SamplingConfig, TokenStep
from likely.engine.train.posterior.uncertainty import Uncertainty

SETTLE_S = 0.12  # how long a slider rests before the engine is asked for the exact distribution
PANEL_S = 0.2  # between two looks while tokens come: bars that change faster cannot be read
BATCH_S = 0.08  # tokens that keep coming are at most this far apart
KNOWN = 200  # exact outcomes that are remembered
TALL, LOW = 14, 9  # rows of ten candidates and of five, with what belongs to them
ROOMY = 76  # columns from which on a drawer shows token and sampler side by side
GAPS = 3  # rows between the parts
FEWEST = 3  # rows of the sampler
FOLDED = 6  # its rows beside the parameters: heading, fold, strategy and its settings
SECOND, WIDER = 44, 9  # columns of the first half, where the panel is spread; more of them beside a search
MOST_LISTED, FEWEST_LISTED = 15, 10  # rows of the conversations below the sheet of a word
FACES = ("glance", "token", "entropy", "tree", "sampler")  # of the drawer


class Inspector(Vertical):
    """The panel's parts, and when they are refreshed. `subject` gives the token to show; the view provides it."""

    def __init__(self, *, id: str | None = None, strategies: bool = False) -> None:
        """`strategies`: the way of finding tokens can be chosen."""
        super().__init__(id=id)
        self._strategies = strategies
        self.subject: Callable[[], Subject] = Subject
        self.outcomes: dict[tuple[Hashable, SamplingConfig], Outcome] = {}
        self.chooses = True  # the choice of a tool is shown, where one was made
        self.near = False  # the tokens whose embeddings lie nearest are shown, in the place of the candidates
        self._near: dict[tuple[str, int], Neighbourhood | str | None] = {}  # by model and token; None: asked for
        self._doubts: dict[Hashable, Uncertainty | None] = {}  # by token and adapters; None: asked for
        self._doubting = RunControl()  # the one that is asked for
        self._settle: Timer | None = None
        self._late: Timer | None = None
        self._inspected_s = 0.0
        self._heights: dict[Widget, int | None] = {}
        self._roomy = False  # the sampler was unfolded because there is room
        self._behind = False  # whether tokens have come that the panel has not seen

    def compose(self) -> ComposeResult:
        yield Votes(id="votes")
        yield Candidates(id="candidates")
        yield EntropyRow(id="entropy")
        yield Sliders(id="sampler", strategies=self._strategies)
        yield TreePane(id="tree")
        yield WhySheet(id="why")

    def on_mount(self) -> None:
        self.votes = self.query_one(Votes)
        self.candidates = self.query_one(Candidates)
        self.entropy = self.query_one(EntropyRow)
        self.sampler = self.query_one(Sliders)
        self.tree_pane = self.query_one(TreePane)
        self.why = self.query_one(WhySheet)
        self.line = self.screen.query_one(InspectorLine)
        self.entropies = tuple(self.screen.query(EntropyRow))  # that of the panel, and the one below the text

    def forget(self) -> None:
        """Forget what the engine answered: the places stand for other tokens from now on."""
        self.outcomes.clear()
        self._doubts.clear()
        self.why.forget()

    # -- looking -----------------------------------------------------------------------------------------------------

    def table(self) -> CandidateTable | None:
        """The rows of the subject: exact where the engine has answered, else replayed."""
        return self._table(self.subject())

    def _near_of(self, subject: Subject) -> TokenStep | None:
        """The token whose nearest stand in the place of the candidates; None where these are shown."""
        at = subject.at
        return at.step if self.near and at is not None and not at.upcoming else None

    def _table(self, subject: Subject) -> CandidateTable | None:
        at, step = subject.at, self._near_of(subject)
        if at is not None and step is not None:
            near = self._near.get((self._model(), step.token)) if self._model() else "needs a model"
            return neighbors.table(cells.piece_text(step.piece), near, at.names)
        if at is None:
            return subject.instead
        table = at.table(lambda recipe: self.outcomes.get((at.key, recipe)))
        return None if table is None else table.doubted(self._doubts.get(self._doubt_key(at)))

    def _shown(self, subject: Subject) -> CandidateTable | None:
        """Table in the place of the candidates: a choice of a tool, or these."""
        found = tool_choice.table(subject.choice, subject.unit) if subject.choice is not None else None
        return found if self.chooses and not self.near and found is not None else self._table(subject)

    def _doubt_key(self, at: Inspection) -> Hashable:
        """A token under the adapters that are on the model; None unless one of them, alone, has a posterior."""
        felt = [adapter for adapter in host(self).engine.attached if adapter.weight]
        if sum(bool(adapter.posterior) for adapter in felt) != 1:
            return None
        return at.key, tuple((adapter.name, adapter.weight) for adapter in felt)

    def inspect(self) -> None:
        """Bring the panel, or the line that stands for it, up to date with the subject."""
        if not self.is_attached:  # the view was left meanwhile
            return
        self.fit()
        self.line.display = (
            self.is_drawer
            and not self.display
            and not self.screen.has_class("-flat")
            and not self.screen.has_class("-diffusion")
        )
        if not self.display and not self.line.display:
            return
        subject = self.subject()
        if self.explains:
            self.why.show(subject)
        if self.has_class("-covered"):
            return
        table = self._shown(subject)
        self.candidates.show(table)
        for row in self.entropies:
            row.show(subject.bits, subject.cursor, table.doubt if table is not None else None, subject.stale)
        if self.line.display:
            self.line.show(table, () if subject.stale else recent(subject.bits, subject.cursor))

    def formula(self) -> Formula | None:
        """Of the token that is looked at: its draw where candidates or sliders are used, else what the model says."""
        subject = self.subject()
        picks, table = self.candidates.has_focus, self._table(subject)
        selected = self.candidates.selected if picks else None
        picked = selected.token if selected is not None and selected.token >= 0 else None
        if isinstance(table, neighbors.Neighbours):
            return of_neighbour(table, picked)
        by = subject.at.recipes if subject.at is not None else (self.sampler.sampling.recipe,)
        number = subject.at.number if subject.at is not None else 0
        drawn = of_choice(table, picked) if isinstance(table, SearchTable) else of_draw(table, by, picked, number)
        if subject.at is None or subject.at.upcoming or picks or self.sampler.has_focus:
            return drawn
        return of_token(subject.at) or drawn

    def inspect_soon(self) -> None:
        """Inspect the subject, `PANEL_S` after the last time at the earliest: with a batch of tokens, to share its
        repaint; by a timer where no batch follows."""
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

    def renew(self) -> None:
        """Forget what the engine computed of the tokens: other adapters are on the model."""
        self.outcomes.clear()
        self.why.forget()
        self.inspect()
        self.rest()

    def rest(self) -> None:
        """The cursor or a slider has moved: once they rest, the engine is asked for the exact distribution."""
        if self._settle is not None:
            self._settle.stop()
        self._settle = self.set_timer(SETTLE_S, self.ask)

    def ask(self) -> None:
        """Ask for all of the subject's raw distribution, where its replay is not exact; or for its neighbours."""
        subject = self.subject()
        if (near := self._near_of(subject)) is not None:
            self._ask_near(self._model(), near.token)
            return
        at, table = subject.at, self._table(subject)
        if not subject.model or subject.exact is None or table is None:
            return
        if at is None or at.step is None or at.step.logprob is None or (table.exact and self._doubt_key(at) is None):
            return
        at = subject.exact()
        self._ask_doubt(subject.model, at, table)
        if table.exact or subject.waits or at.bound:
            return
        assert at.prompt is not None

        def answered(job: int, events: list[Any]) -> None:
            for event in events:
                if isinstance(event, np.ndarray):
                    if len(self.outcomes) > KNOWN:
                        self.outcomes.clear()
                    whole = replace(at, logits=event)
                    for recipe in whole.recipes:
                        if (outcome := whole.outcome(recipe)) is not None:
                            self.outcomes[at.key, recipe] = outcome
                    self.inspect()

        host(self).engine.submit(call(calls.logits, subject.model, at.prompt), answered)

    def _ask_doubt(self, model: str, at: Inspection, table: CandidateTable) -> None:
        """Ask how far a token's distribution hangs on the rows that an adapter saw, once, where it has a posterior."""
        key = self._doubt_key(at)
        if key is None or key in self._doubts or at.prompt is None:
            return
        self._doubting.cancel()  # one that is still read for has been left
        known = [(known_key, doubt) for known_key, doubt in self._doubts.items() if doubt is not None]
        self._doubts = {**dict(known[1 - KNOWN :]), key: None}
        self._doubting = RunControl()

        def answered(job: int, events: list[Any]) -> None:
            for event in events:
                if isinstance(event, Uncertainty):
                    self._doubts[key] = event
                    self.inspect()
                elif isinstance(event, Failed):
                    host(self).say(event.line, alarm=True)

        tokens = tuple(row.token for row in table.rows)
        asked = question(Inside.uncertainty, tokens)
        host(self).engine.submit(call(calls.look, model, at.prompt, asked, self._doubting), answered)

    def _model(self) -> str:
        current = host(self).engine.current
        return current.name if current is not None else ""

    def turn_near(self) -> None:
        """Show the nearest tokens in the place of the candidates, or these again."""
        self.near = not self.near
        self._near = {
            key: found for key, found in self._near.items() if isinstance(found, Neighbourhood)
        }  # not refusals
        self.inspect()
        self.ask()

    def turn_choice(self) -> None:
        """Show the choice of a tool in the place of the candidates, or these again."""
        self.chooses, self.near = self.near or not self.chooses, False
        if self.subject().choice is None:
            self.chooses = True
            host(self).say("no choice of a tool is known here: /tools offers some")
        self.inspect()

    def on_candidates_choice_asked(self) -> None:
        self.turn_choice()

    def on_candidates_near_asked(self) -> None:
        self.turn_near()

    def _ask_near(self, model: str, token: int) -> None:
        """Ask for a token's neighbours, once."""
        key = model, token
        if not model or key in self._near:
            return
        while len(self._near) >= KNOWN:
            self._near.pop(next(iter(self._near)))
        self._near[key] = None

        def answered(job: int, events: list[Any]) -> None:
            for event in events:
                if isinstance(event, Neighbourhood | Failed):
                    self._near[key] = event.line if isinstance(event, Failed) else event
                    self.inspect()

        asked = question(Inside.neighbours, token, "input")
        host(self).engine.submit(call(calls.look, model, Prompt(), asked, RunControl()), answered)

    def turn_entropy(self) -> None:
        """Columns of the entropy that stand for several tokens have the highest of them, or again the mean."""
        for row in self.entropies:
            row.turn()

    def show_tree(self, talk: Conversation) -> None:
        """The tree of a conversation, and where its branches are a search or a vote, the list of them and the votes."""
        count = tallies.tally(talk)
        self.votes.show(count)
        self.set_class(count is not None, "-voted")
        for best in self.screen.query(BestTexts):
            best.show(talk, count)
        self.tree_pane.show(talk)
        self.set_class("score" in self.tree_pane.columns, "-searched")

    # -- steering ----------------------------------------------------------------------------------------------------

    def on_candidates_picked(self, event: Candidates.Picked) -> None:
        if event.verb == "ban":
            event.stop()
            self.ban(event.token)

    def ban(self, token: int) -> None:
        """Never draw a token from now on; again allows it."""
        sampling = self.sampler.sampling.banned(token)
        settings = replace(self.sampler.settings, sampling=sampling)
        self.sampler.call_next(self.sampler.change, settings)  # else it would go no further than to here
        subject = self.subject()
        name = subject.at.names.name(token) if subject.at is not None else f"#{token}"
        self.call_later(
            host(self).say, f"{name} is banned from now on" if token in sampling.bias else f"{name} is allowed again"
        )

    # -- room --------------------------------------------------------------------------------------------------------

    def fit(self) -> None:
        """Give the parts their rows: where there are few, the tree folds to its title first, then the entropy, then
        the candidates go from ten to five. What acts in the sampler never folds."""
        beside = self._beside()
        self.set_class(bool(beside), "-spread")
        self.set_class(self.explains and not beside, "-covered")
        if self.is_drawer:
            heights: dict[Widget, int | None] = dict.fromkeys(self._parts())
        else:
            votes = Votes.rows(self.votes.tally)
            room = self.size.height - votes - bool(votes)
            tree = self.tree_pane.get_content_height(self.size, self.size, self.size.width)
            self._unfold(room - TALL - tree - GAPS)
            rows = self.sampler.get_content_height(self.size, self.size, self.size.width)
            rows = min(rows, max(room - LOW - 2 - GAPS, FEWEST))
            steps = [(TALL, 3, tree), (TALL, 3, 1), (TALL, 1, 1), (LOW, 1, 1)]
            if self.tree_pane.columns:  # a search is what is looked at
                steps = [(TALL, 3, tree), (LOW, 3, tree), (LOW, 1, tree), (LOW, 1, 1)]
            gaps = GAPS
            if not self.entropy.display:  # it stands below the text
                steps, gaps = [(tall, 0, least) for tall, _, least in steps], GAPS - 1
            tall, entropy, least = next((step for step in steps if sum(step) + rows + gaps <= room), steps[-1])
            spare = room - tall - entropy - least - rows - gaps
            heights = dict(zip(self._parts(), (tall, entropy, rows, min(tree, least + max(spare, 0))), strict=True))
        heights |= self._second(beside)
        if heights != self._heights:
            self._heights = heights
            for part, height in heights.items():
                if height is None:  # as the style sheet has it
                    part.styles.clear_rule("height")
                else:
                    part.styles.height = height

    def _unfold(self, room: int) -> None:
        """Show what is off in the sampler too, once there are so many rows for all of it, and fold it when there are
        not any more."""
        strategy, sampling = self.sampler.strategy, self.sampler.sampling
        roomy = self.screen.has_class("-broad") and not strategy.SEARCHES and len(sampling.rows()) + FOLDED < room
        if roomy != self._roomy:
            self._roomy = self.sampler.unfolded = roomy
            self.sampler.redraw()

    def _beside(self) -> list[Widget]:
        """Parts of a second column, where there is room for one: the sheet of a word, the conversations."""
        if not self.screen.has_class("-broad"):
            return []
        sheet: list[Widget] = [self.why] if self.explains else []
        return [*sheet, *(each for each in self.query(ConversationList) if each.is_attached)]

    def _second(self, beside: list[Widget]) -> dict[Widget, int | None]:
        """The rows of the second column, all to one or parted: the list has what the sheet of a word leaves."""
        both, rows = len(beside) > 1, self.size.height
        first = max(rows - MOST_LISTED, LEAST + 2) if both else rows
        if rows - first < FEWEST_LISTED:
            first = rows
        heights: dict[Widget, int | None] = {self.why: None}
        if self.why not in beside:
            self.why.styles.offset = (0, 0)
        for part, top, height in zip(beside, (0, first), (first, rows - first), strict=False):
            part.set_class(top > 0, "-below")
            heights[part], part.styles.offset = height, (SECOND + WIDER * bool(self.tree_pane.columns), top)
        return heights

    def _parts(self) -> tuple[Widget, ...]:
        return self.candidates, self.entropy, self.sampler, self.tree_pane

    def on_resize(self) -> None:
        self.set_class(self.screen.size.width < ROOMY, "-slim")
        self.set_class(self.is_drawer, "-drawer")
        self.fit()

    def on_sliders_rows_changed(self) -> None:
        self.sampler.refresh(layout=True)
        self.fit()

    # -- the drawer --------------------------------------------------------------------------------------------------

    @property
    def is_drawer(self) -> bool:
        """Whether the screen is too narrow for a panel: it lies under the text then, a part at a time."""
        return self.screen.has_class("-narrow") or self.screen.has_class("-tiny")

    @property
    def explains(self) -> bool:
        """Whether the sheet of one word lies over the panel."""
        return self.has_class("-why")

    def explain(self, on: bool) -> None:
        """Say of the word that is looked at why it was said, in the place of the panel; or show the panel again."""
        self.set_class(on, "-why")
        self.screen.set_class(on, "-explains")
        self.fit()
        if on:
            self.why.focus()
        self.call_after_refresh(self.inspect)

    def turn(self, face: str) -> None:
        """Show one part alone, where the panel is a drawer; "" shuts it."""
        for name in FACES:
            self.set_class(name == face, f"-{name}")
        self.set_class(not face, "-shut")
        self.call_after_refresh(self.inspect)

    @property
    def face(self) -> str:
        return next((face for face in FACES if self.has_class(f"-{face}")), "" if self.has_class("-shut") else "glance")

    def next_face(self) -> None:
        """The drawer's next part, at last shut. Where there is room, the tree stands beside the sampler."""
        if self.is_drawer:
            voted, slim = self.has_class("-voted"), self.has_class("-slim")
            turns = ["glance", *["token"] * voted, "entropy", *["tree"] * slim, "sampler", ""]
            shown = self.face if self.display else ""
            self.turn(turns[(turns.index(shown) + 1) % len(turns)] if shown in turns else "glance")

    def open(self) -> None:
        """Open the drawer on as many candidates as there is room for; does nothing where the panel is no drawer."""
        if self.is_drawer:
            self.turn("token")

    def close(self) -> bool:
        """Back to the glance; gives whether the drawer showed something else."""
        if self.explains:
            self.explain(False)
            return True
        was_open = self.is_drawer and self.face in ("token", "entropy", "tree", "sampler")
        if was_open:
            self._glance()
        return was_open

    def _glance(self) -> None:
        """Show the glance: the drawer as it is at the start."""
        for name in (*FACES, "shut"):
            self.remove_class(f"-{name}")
        self.call_after_refresh(self.inspect)

    def to_sampler(self, back: Widget) -> None:
        """The focus to the sliders; from them in a drawer, `back`."""
        if self.is_drawer and self.face == "sampler":
            self._glance()
            back.focus()
        elif self.is_drawer:
            self.turn("sampler")
            self.call_after_refresh(self.sampler.focus)
        else:
            self.sampler.focus()
