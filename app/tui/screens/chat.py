"""The chat screen: which conversation is open, what the engine reports of it, and the keys that act everywhere."""

import secrets
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from app.heat import HEATS
from app.tui import attach, cells
from app.tui import messages as m
from app.tui.keeper import EVERY_S
from app.tui.sampling import Sampling
from app.tui.screens.finding import Finding
from app.tui.screens.opening import WAITING
from app.tui.screens.steering import STEP_NEWS
from app.tui.talk import TITLE, Talk
from app.tui.widgets.bars import Glance, Hints, Pill, TopBar
from app.tui.widgets.candidates import Candidates
from app.tui.widgets.entropy import EntropyRow
from app.tui.widgets.inspector import Body, Inspector, Left
from app.tui.widgets.prompt import Prompt
from app.tui.widgets.sampler import Sampler
from app.tui.widgets.token_view import TokenView
from app.tui.widgets.tree import TreePane
from app.tui.widgets.welcome import Welcome
from engine.conversation import Conversation
from engine.decode.control import Control
from engine.errors import DataError
from engine.trace import Recipe, Step

STATUS_S = 0.5


class ChatScreen(Finding):
    """Talk to a model, look at every token, steer, branch."""

    BLANK = True

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "stop", "Stop", show=False, id="chat.stop"),
        Binding("ctrl+r", "redo", "Redo", show=False, id="chat.redo"),
        Binding("ctrl+t", "heat", "Heat", show=False, id="chat.heat"),
        Binding("ctrl+g", "sampler", "Sampler", show=False, id="chat.sampler"),
        Binding("ctrl+o", "sessions", "Sessions", show=False, id="chat.sessions"),
        Binding("ctrl+n", "new", "New", show=False, id="chat.new"),
        Binding("ctrl+f", "find", "Find", show=False, priority=True, id="chat.find"),
        Binding("f1", "keys", "Keys", show=False, id="chat.keys"),
    ]

    def __init__(self, typed: str = "") -> None:
        """`typed` is what was written before the screen was there."""
        super().__init__()
        self.typed = typed
        self.is_open = False  # a conversation is shown, in `talk`
        self._saved_s = 0.0
        self._status_s = 0.0

    def compose(self) -> ComposeResult:
        yield TopBar("chat", id="top")
        with Body(id="body"):
            with Left(id="left"):
                yield TokenView(id="transcript")
                yield Welcome(id="welcome")
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
        self.prompt.take(self.typed)
        self.prompt.focus()
        self.set_interval(1.0, self.tick)
        if self.likely.store_news:  # stays until a key is pressed
            self.hints.say(self.likely.store_news, alarm=True)

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
        heat = HEATS[0]
        if self.is_open:
            self.leave()
            heat = self.talk.heat
        self.is_open = True
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

    def tick(self) -> None:
        """Once a second: what was drawn is handed to the keeper, and its trouble is shown."""
        if self.talk.running:
            self.talk.keep()
            self.save()
        keeper = self.likely.keeper
        if keeper is not None and keeper.trouble:
            self.hints.say(f"{keeper.trouble} · the conversation stays open", alarm=True)
        elif keeper is not None and keeper.news:
            self.hints.say(keeper.news, alarm=True)
            keeper.news = ""

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
                self.hints.say(STEP_NEWS)
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

    def model_changed(self) -> None:
        """A model is loading, loaded or gone."""
        facts, loading = self.likely.current, self.likely.loading
        if facts is not None and self.talk.facts is not facts:
            self.talk.ready(facts)
            self.reshow()
        self.status()
        if loading is not None and not self.hints.alarm:
            share = f" {100 * loading.done // loading.total} % · esc stops" if loading.total else "…"
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
        name = facts.title or facts.name
        self.talk.adapters = " + ".join(f"{a.name} {a.weight:g}" for a in self.likely.attached if a.weight)
        self.query_one(TopBar).show(" + ".join(filter(None, (name, self.talk.adapters))), tuple(parts))

    def _speed(self) -> float:
        run = self.talk.run
        if run is not None and len(run.steps) > 1:
            spent = run.steps[-1].elapsed_s - run.steps[0].elapsed_s
            return (len(run.steps) - 1) / spent if spent > 0 else 0.0
        return self.talk.stats.tokens_per_s if self.talk.stats is not None else 0.0

    def on_descendant_focus(self) -> None:
        self.call_later(self._hint)

    def on_key(self) -> None:
        if self.hints.news and not self.talk.stepping:
            self.hints.say("")

    def action_stop(self) -> None:
        """Stop generating; else leave step mode; else close the sheet; else go back to the prompt."""
        inspector = self.query_one(Inspector)
        if self.talk.stepping:
            self.end_steps()
        elif self.likely.stop_loading():
            self.hints.say("stopping the download…")
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

    def offer(self, offers: Sequence[m.ModelOffer]) -> None:
        """No model is on this machine: say which could be, and fetch the one that is chosen."""
        from app.tui.screens.models import Models

        self.app.push_screen(Models(self.likely, offers), self._model)

    def _model(self, name: str | None) -> None:
        if name is not None and (self.likely.current is None or name != self.likely.current.name):
            if self.likely.current is not None:  # a message that waits for its first model goes on waiting
                self.leave()
            self.likely.load_model(name)

    def action_adapters(self) -> None:
        """What is on the model: weigh it, switch it, add to it."""
        if self.likely.current is None:
            self.hints.say("an adapter wants a model: /model chooses one")
            return
        from app.tui.screens.adapters import Adapters

        self.app.push_screen(Adapters(self.likely))

    def adapters_changed(self) -> None:
        """The model computes something else: what was measured of the text was measured by another."""
        self.talk.scores.clear()
        self.status()

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
