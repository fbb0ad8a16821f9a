"""The chat screen: what it is made of, which conversation is open, and the keys that act everywhere."""

import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from app import requests as r
from app.heat import HEATS
from app.tui.chat import attach
from app.tui.chat.chat_session import ChatSession
from app.tui.sampling import Sampling
from app.tui.views.hearing import Hearing
from app.tui.views.opening import WAITING
from app.tui.widgets.bars import Hints, InspectorLine, JumpToLatest, TopBar
from app.tui.widgets.candidates import Candidates
from app.tui.widgets.entropy import EntropyRow
from app.tui.widgets.inspector import Body, Inspector, Left
from app.tui.widgets.prompt import Prompt
from app.tui.widgets.sampler import Sampler
from app.tui.widgets.token_view import TokenView
from app.tui.widgets.tree import TreePane
from app.tui.widgets.welcome import Welcome
from engine.conversation import Conversation
from engine.errors import DataError


class ChatScreen(Hearing):
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

    def compose(self) -> ComposeResult:
        yield TopBar("chat", id="top")
        with Body(id="body"):
            with Left(id="left"):
                yield TokenView(id="transcript")
                yield Welcome(id="welcome")
                yield JumpToLatest(id="pill")
            yield Inspector(id="inspector")
        yield InspectorLine(id="glance")
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
        self.talk = ChatSession(conversation, self._send, clock=self.likely.clock)
        self.talk.heat = heat
        self.outcomes.clear()
        self._snapshots.clear()
        self._editing = None
        if self.likely.engine.current is not None:
            self.talk.ready(self.likely.engine.current)
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
        elif self.likely.engine.stop_loading():
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
        from app.tui.dialogs.sessions import SessionsDialog

        if self.likely.store is None:
            self.hints.say("conversations are not being saved", alarm=True)
            return
        self.save()
        self.app.push_screen(SessionsDialog(self.likely, self.talk.conversation.id), self._session)

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
            from app.tui.views.text import TextScreen

            self.app.push_screen(TextScreen(conversation))
        else:
            self.open(conversation)

    def action_models(self) -> None:
        """Choose a model."""
        from app.tui.dialogs.models import Models

        self.app.push_screen(Models(self.likely), self._model)

    def offer(self, offers: Sequence[r.ModelOffer]) -> None:
        """No model is on this machine: say which could be, and fetch the one that is chosen."""
        from app.tui.dialogs.models import Models

        self.app.push_screen(Models(self.likely, offers), self._model)

    def _model(self, name: str | None) -> None:
        if name is not None and (self.likely.engine.current is None or name != self.likely.engine.current.name):
            if self.likely.engine.current is not None:  # a message that waits for its first model goes on waiting
                self.leave()
            self.likely.engine.load(name)

    def action_adapters(self) -> None:
        """What is on the model: weigh it, switch it, add to it."""
        if self.likely.engine.current is None:
            self.hints.say("an adapter wants a model: /model chooses one")
            return
        from app.tui.dialogs.adapters import Adapters

        self.app.push_screen(Adapters(self.likely))

    def adapters_changed(self) -> None:
        """The model computes something else: what was measured of the text was measured by another."""
        self.talk.scores.clear()
        self.status()

    def action_reload(self) -> None:
        """Load the model again, after the engine failed."""
        name = self.likely.engine.current.name if self.likely.engine.current is not None else self.likely.wanted
        self.likely.engine.unload(name)
        self.likely.engine.load(name)

    def action_keys(self) -> None:
        from app.tui.dialogs.overlays import Read
        from app.tui.help import keys_text

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
