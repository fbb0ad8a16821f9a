"""The chat screen: a view of a `Talk`, and every key that acts on it."""

import secrets
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, ClassVar, cast

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.timer import Timer

from app.tui import attach, candidates, cells
from app.tui import messages as m
from app.tui.candidates import LN2, Names, Outcome, View
from app.tui.keeper import EVERY_S
from app.tui.layout import Block, Place
from app.tui.sampling import Sampling
from app.tui.talk import HEATS, TITLE, Talk
from app.tui.widgets.bars import Glance, Hints, Pill, TopBar
from app.tui.widgets.candidates import Candidates
from app.tui.widgets.entropy import EntropyRow
from app.tui.widgets.inspector import Body, Inspector, Left
from app.tui.widgets.prompt import Prompt
from app.tui.widgets.sampler import Sampler
from app.tui.widgets.token_view import TokenView
from app.tui.widgets.tree import TreePane
from engine.conversation import Conversation, Fork
from engine.decode.control import Control
from engine.errors import DataError
from engine.trace import Recipe, Step

if TYPE_CHECKING:
    from app.tui.app import LikelyApp

SETTLE_S = 0.12  # how long a slider rests before the engine is asked for the exact distribution
STATUS_S = 0.5
PANEL_HZ = 8
WAITING = "Message  (enter sends · ctrl+j newline · / commands)"


class ChatScreen(Screen[None]):
    """Talk to a model, look at every token, steer, branch."""

    BLANK = True

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "stop", "Stop", show=False, id="chat.stop"),
        Binding("ctrl+r", "redo", "Redo", show=False, id="chat.redo"),
        Binding("ctrl+t", "heat", "Heat", show=False, id="chat.heat"),
        Binding("ctrl+g", "sampler", "Sampler", show=False, id="chat.sampler"),
        Binding("ctrl+o", "sessions", "Sessions", show=False, id="chat.sessions"),
        Binding("ctrl+n", "new", "New", show=False, id="chat.new"),
        Binding("f1", "keys", "Keys", show=False, id="chat.keys"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.step_mode_news = "step: enter takes the picked candidate · space the model's own · esc ends"
        self.outcomes: dict[tuple[int, int, Recipe], Outcome] = {}
        self.entropies: list[float | None] = []
        self._entropy_of = -1
        self._snapshots: dict[tuple[str, int], Step] = {}
        self._settle: Timer | None = None
        self._inspected_s = 0.0
        self._inspecting = False
        self._saved_s = 0.0
        self._status_s = 0.0
        self._rate: tuple[float, int] = (0.0, 0)
        self._title_control: Control | None = None
        self._editing: int | None = None
        self._attached: list[attach.Attachment] = []
        self._deleted: str = ""

    @property
    def likely(self) -> "LikelyApp":
        return cast("LikelyApp", self.app)

    def compose(self) -> ComposeResult:
        yield TopBar("chat", id="top")
        with Body(id="body"):
            with Left(id="left"):
                yield TokenView(id="transcript")
                yield Pill(id="pill")
            yield Inspector(id="inspector")
        yield Glance(id="glance")
        yield Prompt(placeholder=WAITING, id="prompt")
        yield Hints(id="hints")

    def on_mount(self) -> None:
        self.transcript = self.query_one(TokenView)
        self.prompt = self.query_one(Prompt)
        self.hints = self.query_one(Hints)
        self.panel = self.query_one(Candidates)
        self.entropy_row = self.query_one(EntropyRow)
        self.sampler = self.query_one(Sampler)
        self.tree_pane = self.query_one(TreePane)
        self.prompt.complete = self._complete
        self.prompt.prompts = attach.read_history(self.likely.home / "history.jsonl")
        self._open_first()
        self.prompt.focus()
        self.set_interval(1.0, self.tick)
        if self.likely.store_news:  # stays until a key is pressed
            self.hints.say(self.likely.store_news, alarm=True)

    # -- which conversation --------------------------------------------------------------------------------------------

    def _open_first(self) -> None:
        wanted, store = self.likely.resume, self.likely.store
        if wanted and store is not None:
            try:
                found = store.load(wanted)
                self.open(self._fresh() if found.kind == "text" else found)
                if found.kind == "text":
                    self.call_after_refresh(self.open_any, found)
                return
            except DataError as error:
                self.likely.store_news = str(error)
        self.open(self._fresh())

    def _fresh(self) -> Conversation:
        now = self.likely.clock()
        return Conversation(secrets.token_hex(4), recipe=Sampling().recipe, created=now, updated=now)

    def open(self, conversation: Conversation) -> None:
        """Show a conversation, at the branch that was checked out."""
        if hasattr(self, "talk"):
            self.leave()
        heat = self.talk.heat if hasattr(self, "talk") else HEATS[0]
        self.talk = Talk(conversation, self._send, self.likely.bridge.number, clock=self.likely.clock)
        self.talk.heat = heat
        self.outcomes.clear()
        self._snapshots.clear()
        self._editing = None
        if self.likely.current is not None:
            self.talk.ready(self.likely.current)
        self.transcript.cursor = None
        self.reshow(follow=True)
        self.sampler.show(self.talk.sampling)
        self.model_changed()

    def leave(self) -> None:
        """Stop and save before something else is shown."""
        if self._title_control is not None:
            self._title_control.cancel()
        if self.talk.stepping:
            self.talk.step_off()
        self.talk.stop()
        self.save()

    def resumable(self) -> str:
        """The id to resume, if there is anything to come back to."""
        return self.talk.conversation.id if self.talk.conversation.nodes and self.likely.store is not None else ""

    def save(self) -> None:
        if self.likely.keeper is not None:
            self.likely.keeper.save(self.talk.conversation)

    def tick(self) -> None:
        """Once a second: what was drawn is handed to the keeper, and its trouble is shown."""
        if self.talk.running:
            self.talk.keep()
            self.save()
        keeper = self.likely.keeper
        if keeper is not None and keeper.trouble:
            self.hints.say(f"{keeper.trouble} · the conversation stays open", alarm=True)

    # -- showing -----------------------------------------------------------------------------------------------------

    def reshow(self, *, follow: bool | None = None) -> None:
        """Show the lineage anew, after it has changed."""
        blocks: list[Block] = self.talk.blocks()
        if not blocks:
            blocks = []
        self._entropy_of = -1
        self.transcript.show(blocks, follow=follow)
        self.tree_pane.show(self.talk.conversation)
        self.inspect()
        self._hint()

    def place(self) -> Place | None:
        """The token that is looked at: under the cursor, else the newest."""
        return self.transcript.cursor or self.transcript.newest()

    def names(self) -> Names:
        return self.likely.names_of(self.talk.conversation.model)

    def inspect(self) -> None:
        """Bring the panel up to date with the token that is looked at and the sliders."""
        view = self.view()
        place = self.place()
        if not self.panel.is_on_screen and not self.query_one(Glance).display:
            return
        self.panel.show(view)
        if place is not None:
            self._entropies(place.block)
        self.entropy_row.show(self.entropies, self.transcript.cursor.token if self.transcript.cursor else None)
        glance = self.query_one(Glance)
        if glance.display:
            end = len(self.entropies) if self.transcript.cursor is None else self.transcript.cursor.token + 1
            glance.show(view, self.entropies[max(end - 8, 0) : end])

    def inspect_soon(self) -> None:
        """As `inspect`, but at most `PANEL_HZ` times a second: bars that change faster cannot be read."""
        now = monotonic()
        wait = 1 / PANEL_HZ - (now - self._inspected_s)
        if wait <= 0:
            self._inspected_s = now
            self.inspect()
        elif not self._inspecting:
            self._inspecting = True
            self.set_timer(wait, self._inspect_late)

    def _inspect_late(self) -> None:
        self._inspecting = False
        self._inspected_s = monotonic()
        self.inspect()

    def _entropies(self, block: int) -> None:
        """The entropies of a block in bits: a list that grows with it."""
        steps = self.talk.shown[block].steps if block < len(self.talk.shown) else []
        if self._entropy_of != block or len(self.entropies) > len(steps):
            self._entropy_of, self.entropies = block, []
        for step in steps[len(self.entropies) :]:
            self.entropies.append(None if step.entropy is None else step.entropy / LN2)

    def view(self) -> View | None:
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
            waiting = "looking…" if self.likely.current is not None else "needs the model"
            word = cells.piece_text(shown.block.tokens[place.token].text.encode())
            return View(title, word, waiting, (), 0, 0, 0.0, "", True, False)
        step = self._whole(place, step_here)
        outcome = self.outcome(step, place)
        live = self.transcript.cursor is None
        return candidates.view(step, outcome, self.talk.sampling.recipe, self.names(), title=title, live=live)

    def outcome(self, step: Step, place: Place | None) -> Outcome | None:
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

    def _whole(self, place: Place, step: Step) -> Step:
        """A step with its snapshot: read from disk where the conversation was reopened."""
        if step.snapshot is not None or self.likely.store is None or step.logprob is None:
            return step
        token = place.token
        for segment in self.talk.shown[place.block].message.segments:
            if token < segment.length:
                key = (segment.node.id, token)
                if key not in self._snapshots:
                    found = self.likely.store.snapshot(self.talk.conversation.id, *key)
                    whole = step if found is None else replace(step, snapshot=found[0], cut=found[1])
                    self._snapshots[key] = whole
                return self._snapshots[key]
            token -= segment.length
        return step

    def _ask_exact(self) -> None:
        """Once the sliders rest: the exact distribution of the token under the cursor."""
        place, facts = self.place(), self.likely.current
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
        work = self.likely.bridge.number()

        def answered(reports: list[m.Report]) -> None:
            for report in reports:
                if isinstance(report, m.ExactLogits):
                    if len(self.outcomes) > 200:
                        self.outcomes.clear()
                    self.outcomes[place.block, place.token, recipe] = candidates.exact(
                        report.logits, recipe, ids, self.names(), (seed, step.position)
                    )
                    self.inspect()

        self.likely.ask(m.Exact(work, facts.name, context), answered)

    def _rest(self) -> None:
        if self._settle is not None:
            self._settle.stop()
        self._settle = self.set_timer(SETTLE_S, self._ask_exact)

    # -- what the engine reports -------------------------------------------------------------------------------------

    def _send(self, command: m.Command) -> None:
        self.likely.ask(command, self.reported)

    def reported(self, reports: list[m.Report]) -> None:
        """A batch of reports of one piece of work: tokens together, one repaint."""
        steps: list[Step] = []
        for report in reports:
            match report:
                case m.Drew(work, step) if self.talk.mine(work):
                    steps.append(step)
                case m.Began() if self.talk.mine(report.work):
                    self.talk.began(report)
                case m.Reading(work, done, total) if self.talk.mine(work):
                    if done < total:
                        self.hints.say(f"reading the prompt · {done} of {total} tokens")
                    else:
                        self._hint()
                case m.Ended(work) if self.talk.mine(work):
                    self._drew(steps)
                    steps = []
                    self.talk.ended(report)
                    self._finished()
                case m.Failed(work, line, trace):
                    self._drew(steps)
                    steps = []
                    self._failed(work, line, trace)
                case m.Scored():
                    self._scored(report)
        self._drew(steps)

    def _drew(self, steps: list[Step]) -> None:
        if not steps or self.talk.run is None:
            return
        tokens = self.talk.drew(steps)
        if tokens:
            self.transcript.extend(tokens)
        now = monotonic()
        if self.transcript.cursor is None or self.talk.peek is not None:
            self.inspect_soon()
        if now - self._status_s >= STATUS_S:
            self._status_s = now
            self.transcript.renote(len(self.talk.shown) - 1, self.talk.note(len(self.talk.shown) - 1))
            self.status()
        if now - self._saved_s >= EVERY_S:
            self._saved_s = now
            self.talk.keep()
            self.save()

    def _finished(self) -> None:
        self.save()
        if not self.talk.stepping:
            self._fold_thinking()
            self.reshow()
            self.panel.blur() if self.panel.has_focus and self.talk.peek is None else None
            self._name_it()
        else:
            self.inspect()
            if self.talk.peek is not None:
                self.panel.picked = 0
                self.panel.focus()
                self.hints.say(self.step_mode_news)
        self.status()
        self._rest()

    def _failed(self, work: int, line: str, trace: str) -> None:
        if self.talk.mine(work):
            self.talk.failed()
            self.save()
            self.reshow()
        if trace:
            path = self.likely.home / "crash.txt"
            try:
                path.write_text(trace, encoding="utf-8")
                line = f"the engine stopped: {line} · the text is kept · /reload loads the model again · {path}"
            except OSError:
                line = f"the engine stopped: {line} · the text is kept · /reload loads the model again"
        self.hints.say(line, alarm=True)

    def _scored(self, report: m.Scored) -> None:
        cursor = self.transcript.cursor
        before = 0
        if cursor is not None and cursor.block < len(self.talk.shown):
            block = self.talk.shown[cursor.block].block
            before = sum(len(token.text) for token in block.tokens[: cursor.token])
            leading = len(block.tokens[cursor.token].text) - len(block.tokens[cursor.token].text.lstrip())
            before += leading
            was_scored = block.scored
        if not self.talk.scored(report):
            self.hints.say("this message cannot be looked at: the chat template changes it")
            return
        blocks = self.talk.blocks()
        self.transcript.show(blocks)
        if cursor is not None and not was_scored and blocks[cursor.block].scored:
            at = 0
            for index, token in enumerate(blocks[cursor.block].tokens):
                at += len(token.text)
                if at > before:
                    self.transcript.move_to(Place(cursor.block, index), scroll=False)
                    break
        self.inspect()

    def _fold_thinking(self) -> None:
        for shown in self.talk.shown:
            block = shown.block
            if block.thinking is not None and block.key not in self.talk.folds:
                self.talk.folds[block.key] = block.folded = True
                block.lay(block.wrap.width)

    # -- names -------------------------------------------------------------------------------------------------------

    def _name_it(self) -> None:
        """Let the model name an unnamed conversation, when it has nothing else to do."""
        talk, facts = self.talk, self.likely.current
        messages = talk.conversation.messages()
        if talk.conversation.title or len(messages) < 2 or facts is None or talk.running:
            return
        said = cells.clean(" ".join(messages[0].text.split()))
        self._title(said)
        if not facts.chat or messages[-1].last.finish not in ("eot", "stop", "length"):
            return
        turns = [(message.role, message.text[:2000]) for message in messages[:2]]
        control = Control(Recipe(greedy=True))
        self._title_control = control
        pieces: list[str] = []
        id = talk.conversation.id

        def heard(reports: list[m.Report]) -> None:
            for report in reports:
                if isinstance(report, m.Drew) and not report.step.special:
                    pieces.append(report.step.text)
                if isinstance(report, m.Ended) and report.reason in ("eot", "stop", "length") and self.talk is talk:
                    words = "".join(pieces).strip().split("\n")[0].strip("\"'*#. ")
                    if words and len(words.split()) <= 12 and talk.conversation.id == id:
                        self._title(cells.clean(words))

        work = self.likely.bridge.number()
        context = m.Context((*turns, ("user", TITLE)))
        self.likely.ask(m.Generate(work, facts.name, context, control, max_tokens=14), heard)

    def _title(self, title: str) -> None:
        self.talk.conversation = replace(self.talk.conversation, title=cells.fit(title, 60))
        self.save()
        self.status()

    # -- status ------------------------------------------------------------------------------------------------------

    def model_changed(self) -> None:
        """A model is loading, loaded or gone."""
        facts, loading = self.likely.current, self.likely.loading
        if facts is not None and self.talk.facts is not facts:
            self.talk.ready(facts)
            self.reshow()
        self.status()
        if loading is not None and not self.hints.alarm:
            share = f" {100 * loading.done // loading.total} %" if loading.total else "…"
            self.hints.say(f"{loading.stage}{share}" if " " in loading.stage else f"loading the model{share}")
        elif not self.hints.alarm:
            self._hint()

    def status(self) -> None:
        """The top line: model, context, speed, memory."""
        facts = self.likely.current
        if facts is None:
            loading = self.likely.loading
            name = (loading.model if loading is not None else "") or "no model"
            self.query_one(TopBar).show(name, ("loading",) if loading is not None else ("/model chooses one",))
            return
        parts = []
        used = 0
        run = self.talk.run
        if run is not None:
            begun = self.talk.began_ids.get(run.node) or next(iter(reversed(self.talk.began_ids.values())), ())
            used = len(begun) + len(run.steps)
        elif self.talk.stats is not None:
            used = self.talk.stats.prompt_tokens + self.talk.stats.tokens
        if used:
            parts.append(f"{used}/{_thousands(facts.context)} ctx")
        speed = self._speed()
        if speed:
            parts.append(f"{speed:.0f} tok/s")
        parts.append(_gigabytes(facts.nbytes + self.talk.cache_nbytes))
        self.query_one(TopBar).show(facts.title or facts.name, tuple(parts))

    def _speed(self) -> float:
        run = self.talk.run
        if run is not None and len(run.steps) > 1:
            spent = run.steps[-1].elapsed_s - run.steps[0].elapsed_s
            return (len(run.steps) - 1) / spent if spent > 0 else 0.0
        return self.talk.stats.tokens_per_s if self.talk.stats is not None else 0.0

    def _hint(self) -> None:
        """The keys that act on what has the focus."""
        stop = (("esc", "Stop"),) if self.talk.running else ()
        focus = self.focused
        if isinstance(focus, TokenView):
            own: tuple[tuple[str, str], ...] = (
                ("⏎", "Alternatives"), ("n", "Surprise"), ("b", "Re-sample"), ("[ ]", "Siblings"), ("e", "Edit"), ("m", "Read"), ("y", "Copy"),
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
            facts = self.likely.current
            base = facts is not None and not facts.chat and not self.talk.shown
            self.hints.say("a base model, without a chat template: it continues text (f4)" if base else "")

    def on_descendant_focus(self) -> None:
        self.call_later(self._hint)

    def on_key(self) -> None:
        if self.hints.news and not self.talk.stepping:
            self.hints.say("")

    # -- the prompt --------------------------------------------------------------------------------------------------

    def on_prompt_sent(self, event: Prompt.Sent) -> None:
        text = event.text
        self.hints.say("")
        if text.startswith("/") and not text.startswith("//") and self._editing is None:
            self.prompt.text = ""
            self._remember(text)
            from app.tui import slash

            slash.run(self, text)
            return
        text = text.removeprefix("/") if text.startswith("//") else text
        if not text.strip() and not self._attached:
            return
        if self.talk.running:
            self.hints.say("still answering: esc stops it, then enter sends")
            return
        try:
            attached = [*self._attached, *attach.found(text)]
        except DataError as error:
            self.hints.say(str(error), alarm=True)
            return
        if attached:
            self._count_then_send(text, attached)
        else:
            self._submit(text)

    def _submit(self, text: str) -> None:
        if self._title_control is not None:
            self._title_control.cancel()
        self.prompt.text = ""
        self._attached = []
        self._remember(text)
        self.transcript.move_to(None)
        editing, self._editing = self._editing, None
        if editing is not None and editing < len(self.talk.shown):
            self.talk.edit(editing, text)
        else:
            self.talk.submit(text)
        self.save()
        self.reshow(follow=True)
        if self.talk.waiting is not None:
            self.hints.say("the answer begins as soon as the model is loaded")

    def _count_then_send(self, text: str, attached: list[attach.Attachment]) -> None:
        """Attach files: their tokens are counted first, and what does not fit is refused."""
        facts = self.likely.current
        whole = attach.joined(text, attached)
        if facts is None:
            self.hints.say("files are attached once the model is loaded, since it counts their tokens")
            return

        def counted(reports: list[m.Report]) -> None:
            for report in reports:
                if isinstance(report, m.Counted):
                    used = self.talk.stats.prompt_tokens + self.talk.stats.tokens if self.talk.stats else 0
                    room = facts.context - used
                    names = ", ".join(item.name for item in attached)
                    if len(report.ids) >= room:
                        self.hints.say(f"{names}: {len(report.ids)} tokens, and {room} are left of the context", True)
                        return
                    self._submit(whole)
                    self.hints.say(f"attached {names}: {len(report.ids)} tokens")
                elif isinstance(report, m.Failed):
                    self.hints.say(report.line, alarm=True)

        self.likely.ask(m.Count(self.likely.bridge.number(), facts.name, whole), counted)

    def on_prompt_big_paste(self, event: Prompt.BigPaste) -> None:
        self._attached.append(attach.Attachment("pasted text", event.text))
        self.hints.say(f"pasted text of {len(event.text)} characters is attached to the next message · esc drops it")

    def _remember(self, text: str) -> None:
        if text.strip() and text not in self.prompt.prompts[-1:]:
            self.prompt.prompts.append(text)
            attach.append_history(self.likely.home / "history.jsonl", text)

    def _complete(self, text: str) -> list[str]:
        from app.tui import slash

        return slash.complete(self, text) if text.startswith("/") else attach.complete(text)

    # -- cursor, candidates, sliders, tree ---------------------------------------------------------------------------

    def on_token_view_cursor_moved(self, event: TokenView.CursorMoved) -> None:
        if event.place is not None and event.place.block < len(self.talk.shown):
            self.talk.look(event.place.block)
        self.inspect()
        self._rest()

    def on_token_view_follow_changed(self, event: TokenView.FollowChanged) -> None:
        pill = self.query_one(Pill)
        pill.show(event.behind)
        pill.set_class(not event.following, "-shown")

    def on_pill_pressed(self) -> None:
        self.transcript.action_latest()

    def on_token_view_chosen(self, event: TokenView.Chosen) -> None:
        shown = self.talk.shown[event.place.block]
        if shown.message.role == "user":
            self.action_edit()
            return
        if self.transcript.cursor != event.place:
            self.transcript.move_to(event.place)
        view = self.view()
        if view is None:
            return
        from app.tui.widgets.overlays import Alternatives

        x, y = self.transcript.layout_.cell_of(event.place)
        region = self.transcript.region
        at = (region.x + x + 1, region.y + y - self.transcript.scroll_offset.y)
        self.app.push_screen(Alternatives(view, at), partial(self._alternative, event.place))

    def _alternative(self, place: Place, choice: tuple[str, int | str] | None) -> None:
        if choice is None:
            return
        verb, what = choice
        if verb == "token":
            self.take(place, int(what))
        elif verb == "text":
            self._branch(place, force=str(what))
        elif verb == "ban":
            self.ban(int(what))

    def take(self, place: Place, token: int) -> None:
        """Go on from a token as if `token` had been drawn; where that is on a branch already, check it out."""
        step = self.talk.step_at(place)
        if step is not None and step.token == token:
            self.hints.say("that is the token that stands there")
            return
        fork = self.talk.fork_at(place)
        for option in self.talk.conversation.options(fork):
            if option is not None and (steps := self.talk.conversation.nodes[option].steps) and steps[0].token == token:
                self._go(fork, option)
                return
        self._branch(place, token)

    def _branch(self, place: Place, token: int | None = None, force: str = "") -> None:
        if not self.talk.branch(place, token, force):
            self.hints.say("branches leave from answers: e edits a message of yours")
            return
        self.transcript.cursor = None
        self.save()
        self.reshow(follow=True)

    def on_candidates_picked(self, event: Candidates.Picked) -> None:
        if event.verb == "ban":
            self.ban(event.token)
        elif self.talk.stepping and self.talk.peek is not None and event.verb == "branch":
            self._step(event.token)
        elif event.verb == "force":
            if self.talk.force_next(event.token):
                self.hints.say(f"{self.names().name(event.token)} comes next")
            else:
                self.hints.say("nothing is being drawn: enter branches with it")
        else:
            place = self.place()
            if place is not None:
                self.take(place, event.token)

    def ban(self, token: int) -> None:
        """Never draw a token from now on; again allows it."""
        sampling = self.talk.sampling.banned(token)
        self._sample(sampling)
        self.sampler.show(sampling)
        verb = "is banned from now on" if token in sampling.bias else "is allowed again"
        self.hints.say(f"{self.names().name(token)} {verb}")

    def on_sampler_changed(self, event: Sampler.Changed) -> None:
        self._sample(event.sampling)

    def _sample(self, sampling: Sampling) -> None:
        self.talk.resample(sampling)
        self.inspect()
        self._rest()
        if not self.talk.running:
            self.save()

    def on_sampler_value_asked(self, event: Sampler.ValueAsked) -> None:
        p = event.parameter

        def typed(text: str | None) -> None:
            if text is not None:
                said = self.sampler.type_value(p.name, text)
                if said:
                    self.hints.say(said)

        from app.tui.widgets.overlays import Ask

        title = f"{p.label}  {p.low:g} to {p.high:g} · {p.help}"
        self.app.push_screen(Ask(title, f"{self.talk.sampling.values[p.name]:g}"), typed)

    def on_sampler_presets_asked(self) -> None:
        self.action_presets()

    def action_presets(self) -> None:
        """Choose a preset or an order."""
        from app.tui import slash
        from app.tui.widgets.overlays import Pick

        self.app.push_screen(Pick("preset, or the order of the transforms", slash.preset_options(self)), self._preset)

    def _preset(self, choice: str | None) -> None:
        if choice is not None:
            from app.tui import slash

            self.set_sampling(slash.preset(self, choice))

    def set_sampling(self, sampling: Sampling) -> None:
        """Other settings, from wherever they come."""
        self.sampler.show(sampling)
        self._sample(sampling)

    def on_tree_pane_chosen(self, event: TreePane.Chosen) -> None:
        self._go(event.fork, event.option)

    def _go(self, fork: Fork, option: str | None) -> None:
        """Check out a way, the cursor where it parts."""
        self.talk.choose(fork, option)
        self.save()
        self.reshow()
        place = self.talk.place_of(fork)
        if place is not None and self.transcript.has_focus:
            self.transcript.move_to(place)

    # -- actions -----------------------------------------------------------------------------------------------------

    def action_stop(self) -> None:
        """Stop generating; else leave step mode; else close the sheet; else go back to the prompt."""
        inspector = self.query_one(Inspector)
        if self.talk.stepping:
            self.talk.step_off()
            self.hints.say("")
            self.reshow()
            self.save()
            self.prompt.focus()
        elif self.talk.stop():
            self.save()
            self._fold_thinking()
            self.reshow()
            self._name_it()
            self.status()
        elif inspector.has_class("-open"):
            inspector.remove_class("-open")
            self.prompt.focus()
        elif self._editing is not None or self._attached:
            self._editing, self._attached = None, []
            self.prompt.text = ""
            self.hints.say("")
        elif not self.prompt.has_focus:
            self.prompt.focus()
            self.transcript.action_latest()

    def action_redo(self) -> None:
        if not self.talk.regenerate():
            self.hints.say("there is no answer to draw again")
            return
        self.transcript.cursor = None
        self.save()
        self.reshow(follow=True)

    def action_resume(self) -> None:
        """Go on with the last answer."""
        if not self.talk.resume():
            self.hints.say("there is no answer to go on with")
            return
        self.reshow(follow=True)

    def action_heat(self) -> None:
        self.set_heat(HEATS[(HEATS.index(self.talk.heat) + 1) % len(HEATS)])

    def set_heat(self, heat: str) -> None:
        """Tint by surprisal, entropy or rank, or not at all."""
        self.talk.recolour(heat)
        self.transcript.recolour()
        self.hints.say(f"heat: {heat}")

    def action_sampler(self) -> None:
        """To the sliders; where the screen is narrow, open or close their sheet."""
        inspector = self.query_one(Inspector)
        if self.has_class("-narrow") or self.has_class("-tiny"):
            inspector.toggle_class("-open")
            if not inspector.has_class("-open"):
                self.prompt.focus()
                return
            self.call_after_refresh(self.sampler.focus)
            self.call_after_refresh(self.inspect)
        else:
            self.sampler.focus()

    def action_new(self) -> None:
        self.open(self._fresh())
        self.prompt.focus()

    def action_sessions(self) -> None:
        from app.tui.screens.sessions import Sessions

        if self.likely.store is None:
            self.hints.say("conversations are not being saved", alarm=True)
            return
        self.save()
        self.app.push_screen(Sessions(self.likely, self.talk.conversation.id), self._session)

    def _session(self, id: str | None) -> None:
        if id is None or self.likely.store is None:
            return
        try:
            self.open_any(self.likely.store.load(id))
        except DataError as error:
            self.hints.say(str(error), alarm=True)

    def open_any(self, conversation: Conversation) -> None:
        """Show a conversation, on the screen that is for its kind."""
        if conversation.kind == "text":
            from app.tui.screens.text import TextScreen

            self.app.push_screen(TextScreen(conversation))
        else:
            self.open(conversation)

    def action_models(self) -> None:
        """Choose a model."""
        from app.tui.screens.models import Models

        self.app.push_screen(Models(self.likely), self._model)

    def _model(self, name: str | None) -> None:
        if name is not None and (self.likely.current is None or name != self.likely.current.name):
            self.leave()
            self.likely.load_model(name)

    def action_reload(self) -> None:
        """Load the model again, after the engine failed."""
        name = self.likely.current.name if self.likely.current is not None else self.likely.wanted
        self.likely.ask(m.Unload(name))
        self.likely.current = None
        self.likely.load_model(name)

    def action_keys(self) -> None:
        from app.tui.help import keys_text
        from app.tui.widgets.overlays import Read

        self.app.push_screen(Read("keys", keys_text(self)))

    # the transcript's own keys, named in its bindings as screen actions

    def action_resample(self) -> None:
        """Draw again from the token under the cursor on."""
        place = self.place()
        if place is not None:
            self._branch(place)

    def action_edit(self) -> None:
        """Edit the message under the cursor, or the last one of the person's, and have it answered anew."""
        place = self.transcript.cursor
        index = (
            place.block
            if place is not None
            else max((i for i, shown in enumerate(self.talk.shown) if shown.message.role == "user"), default=-1)
        )
        if index < 0:
            self.hints.say("there is nothing to edit")
            return
        self._editing = index
        self.prompt.take(self.talk.shown[index].message.text)
        self.prompt.focus()
        yours = self.talk.shown[index].message.role == "user"
        what = "a new branch, nothing is lost" if yours else "the model goes on from these words"
        self.hints.say(f"editing: enter sends ({what}) · esc leaves it as it was")

    def action_sibling(self, by: int) -> None:
        """The next or previous way at the fork under the cursor, or the last one before it."""
        fork = self._fork_here()
        if fork is None:
            self.hints.say("there is no other branch here")
            return
        options = self.talk.conversation.options(fork)
        here = options.index(self.talk.conversation.option(fork))
        self._go(fork, options[(here + by) % len(options)])

    def _fork_here(self) -> Fork | None:
        forks = [(self.talk.place_of(fork), fork) for fork in self.talk.conversation.forks()]
        known = [(place, fork) for place, fork in forks if place is not None]
        cursor = self.transcript.cursor
        before = [fork for place, fork in known if cursor is None or place <= cursor]
        return before[-1] if before else known[0][1] if known else None

    def action_fork(self, by: int) -> None:
        """The cursor to the next or previous fork."""
        places = sorted(
            place for fork in self.talk.conversation.forks() if (place := self.talk.place_of(fork)) is not None
        )
        here = self.transcript.cursor or self.transcript.newest()
        if here is None or not places:
            self.hints.say("there are no forks on this branch")
            return
        ahead = [place for place in places if (place > here if by > 0 else place < here)]
        if ahead:
            self.transcript.move_to(ahead[0] if by > 0 else ahead[-1])

    def action_read(self) -> None:
        """Show the answer under the cursor as Markdown, or its tokens again."""
        from app.tui.markdown import strips

        place = self.place()
        index = (
            place.block
            if place is not None
            else next((i for i, b in enumerate(self.transcript.blocks) if b.rendered is not None), -1)
        )
        if index < 0:
            return
        if self.transcript.cursor is None:
            index = len(self.transcript.blocks) - 1
        block = self.transcript.blocks[index]
        if block.rendered is not None:
            block.rendered = None
        elif self.talk.running and index == len(self.transcript.blocks) - 1:
            self.hints.say("it is rendered once the answer has ended")
            return
        else:
            block.rendered = strips(self.app, self.talk.shown[index].message.text, self.transcript.layout_.width)
            self.transcript.move_to(None)
        self.transcript.relay(index)
        self.inspect()

    def action_fold(self) -> None:
        """Fold or unfold the thinking of the message under the cursor."""
        place = self.place()
        if place is not None:
            self.toggle_fold(place.block)

    def on_token_view_fold_toggled(self, event: TokenView.FoldToggled) -> None:
        self.toggle_fold(event.block)

    def toggle_fold(self, index: int) -> None:
        block = self.transcript.blocks[index]
        if block.thinking is not None:
            block.folded = not block.folded
            self.talk.folds[block.key] = block.folded
            self.transcript.relay(index)

    def action_copy_answer(self) -> None:
        index = self._answer_index()
        if index is not None:
            self.likely.copy(self.talk.shown[index].message.text.strip(), "answer")

    def action_copy_code(self) -> None:
        """Copy the code block under the cursor, or the last one before it."""
        index = self._answer_index()
        if index is None:
            return
        cursor = self.transcript.cursor
        before = 10**9
        if cursor is not None and cursor.block == index:
            before = sum(len(step.text) for step in self.talk.shown[index].steps[: cursor.token] if not step.special)
        code = attach.code_block(self.talk.shown[index].message.text, before)
        if code is None:
            self.hints.say("there is no code block in this answer")
        else:
            self.likely.copy(code, "code block")

    def _answer_index(self) -> int | None:
        place = self.transcript.cursor
        if place is not None:
            return place.block
        answers = [i for i, shown in enumerate(self.talk.shown) if shown.message.role == "assistant"]
        return answers[-1] if answers else None

    def action_take(self, number: int) -> None:
        """Branch with candidate `number`; after g, go to a screen."""
        if getattr(self, "_going", False):
            self._going = False
            names = {1: "chat", 2: "compare", 3: "text"}
            if number in names:
                self.likely.action_go(names[number])
            return
        view, place = self.view(), self.place()
        if view is not None and place is not None and number <= len(view.rows):
            self.take(place, view.rows[number - 1].token)

    def action_goto(self) -> None:
        self._going = True
        self.hints.say("go to: 1 chat · 2 compare · 3 text")

    def action_step(self) -> None:
        """Step mode: the person chooses, token by token."""
        if self.talk.stepping:
            self.action_stop()
        elif not self.talk.step_on():
            self.hints.say("step mode needs a message to answer, and a model")
        else:
            self.transcript.cursor = None
            self.reshow(follow=True)
            self.hints.say(self.step_mode_news)
            if self.has_class("-narrow") or self.has_class("-tiny"):
                self.query_one(Inspector).add_class("-open")

    def _step(self, token: int | None) -> None:
        self.talk.pick(token)

    def key_space(self) -> None:
        if self.talk.stepping and not self.prompt.has_focus:
            self._step(None)

    def toggle_specials(self) -> None:
        """Show or hide control tokens."""
        self.talk.show_specials(not self.talk.specials)
        self.transcript.show(self.transcript.blocks)

    def run_quit(self) -> None:
        self.app.run_worker(self.likely.action_quit())

    def on_top_bar_screen_asked(self, event: TopBar.ScreenAsked) -> None:
        self.likely.action_go(event.name)

    def export(self, kind: str, path: Path | None) -> None:
        """Write the conversation to a file."""
        from app import export

        store, talk = self.likely.store, self.talk.conversation
        path = path or Path(f"likely-{talk.id}.{export.SUFFIX.get(kind, kind)}")
        try:
            whole = store.with_snapshots(talk) if store is not None and kind == "jsonl" else talk
            export.write(whole, kind, path)
            self.hints.say(f"exported to {path}")
        except DataError as error:
            self.hints.say(str(error), alarm=True)

    def import_(self, path: Path) -> None:
        """Open a conversation from a file, as a new one."""
        from app import export

        try:
            talk = export.read(path, secrets.token_hex(4), self.likely.clock())
        except DataError as error:
            self.hints.say(str(error), alarm=True)
            return
        self.open(talk)
        self.save()
        self.hints.say(f"imported {path.name}: {len(talk.nodes)} messages and branches")


def _thousands(count: int) -> str:
    return f"{count // 1000}k" if count >= 10_000 else str(count)


def _gigabytes(nbytes: int) -> str:
    return f"{nbytes / 1e9:.1f} GB" if nbytes >= 5e7 else f"{nbytes / 1e6:.0f} MB"
