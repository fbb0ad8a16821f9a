"""The application: its life cycle, the client of the engine, the keeper of conversations, themes and keys.

It paints first: what needs numpy or the engine's data is imported after that (`_begin`).
"""

from __future__ import annotations

import os
import time
from asyncio import get_running_loop
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from traceback import format_exc
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual.app import App
from textual.binding import Binding, BindingsMap, BindingType
from textual.driver import Driver
from textual.events import Event
from textual.filter import LineFilter
from textual.timer import Timer

from likely.app.jobs.local import local_evaluator, local_trainer
from likely.app.jobs.worker import Executor, Worker
from likely.app.tui.base import keys, theme
from likely.app.tui.base.input.key_queue import HangUp, KeyQueue, Typed
from likely.app.tui.base.input.mouse import in_vain
from likely.app.tui.base.input.terminal import TerminalDriver
from likely.app.tui.base.input.terminal_codes import notice
from likely.app.tui.base.view_table import VIEWS, view_bindings
from likely.app.tui.dialogs.opening import Opening
from likely.app.tui.widgets.bars import Hints
from likely.app.words.heat import on_dark
from likely.app.words.interruption import heard
from likely.engine.base.errors import DataError
from likely.engine.base.files import preferences
from likely.engine.base.files.whole_file import write_whole

if TYPE_CHECKING:
    from likely.app.jobs import requests as r
    from likely.app.jobs.evaluation_jobs import RunEvaluator
    from likely.app.jobs.jobs import ModelProvider, Trainer
    from likely.app.lessons.tutor import Tutor
    from likely.app.results.training_kind import TrainingConfig
    from likely.app.serve.watch.address import ServerAddress
    from likely.app.serve.watch.child_server import ChildServer
    from likely.app.store.store import Store
    from likely.app.tui.base.engine_client import EngineClient
    from likely.app.tui.chat.auto_saver import AutoSaver
    from likely.app.tui.chat.candidates import Names
    from likely.app.tui.chat.chat_session import ChatSession
    from likely.app.tui.chat.inspecting.inspection import InspectedPrompt
    from likely.app.tui.chat.start import Start
    from likely.app.tui.training.run import Training
    from likely.app.tui.views.view import View
    from likely.app.tui.widgets.host import ViewHost
    from likely.engine.chat.conversation import Conversation
    from likely.engine.decode.loop.strategy import Strategy

FRAME_S = 1 / 20  # between two looks at what the engine reported: every repaint takes from its time
SAVING_S = 2.0  # how long what was said may take to be saved before a person is asked about it
KEPT_S = 30 * 86_400.0  # how long a deleted conversation can be brought back


class LikelyApp(App[str]):
    """Returns the id of the conversation that was open, to resume."""

    TITLE = "likely"
    typed = ""  # before there was a screen
    engine: EngineClient  # once the first paint is done
    CSS_PATH = Path(__file__).with_name("likely.tcss")
    # what Textual declares for the instance is meant for the class
    HORIZONTAL_BREAKPOINTS = [(0, "-tiny"), (60, "-narrow"), (110, "-wide"), (150, "-broad")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [(0, "-flat"), (12, "-low"), (24, "-tall")]  # noqa: RUF012
    ENABLE_COMMAND_PALETTE = True
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+q", "quit", "Quit", priority=True, id="app.quit"),
        Binding("ctrl+c", "copy_selection", "Copy", priority=True, id="app.copy"),
    ]

    def __init__(
        self,
        provider: Callable[[], ModelProvider],
        home: Path,
        *,
        model: str = "",
        resume: str = "",
        adapters: Sequence[tuple[str, float]] = (),
        trainer: Callable[[], Trainer] = local_trainer,
        evaluator: Callable[[], RunEvaluator] = local_evaluator,
        tune: tuple[TrainingConfig, bool] | None = None,
        ladder: Path | None = None,
        server: ServerAddress | None = None,
        tutor: Tutor | None = None,
        proof: str | None = None,
        start: Start | None = None,
        clock: Callable[[], float] = time.time,
        worker: Callable[[Callable[[], Executor], str], Worker] = Worker,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """`provider`, `trainer` and `evaluator` are called in the threads of their workers, which `worker` makes of an
        executor and a name. `adapters` (directory, weight) are put on the first model. In the place of the chat, whose
        model is loaded when somebody goes there, `tune` opens a run (its options, whether it is resumed), `ladder` the
        law of a table, `server` its requests, `proof` a law; the course of a `tutor` is opened with the model."""
        self.environ = os.environ if environ is None else environ
        self.glyphs = theme.GLYPHS
        self.look = theme.look({}, "plain")
        super().__init__()
        for shipped in (theme.DARK, theme.LIGHT):
            self.register_theme(shipped)
        # before anything is mounted: a theme that comes later has the whole style sheet read once more
        self.set_reactive(LikelyApp.theme, (theme.DARK if on_dark(self.environ) else theme.LIGHT).name)
        self.stylesheet.set_variables(self.get_css_variables())
        self._bindings = BindingsMap.merge([self._bindings, BindingsMap(view_bindings())])
        self.clock, self.worker, self.home = clock, worker, home
        self.wanted, self.resume = model, resume
        self.provider, self.trainer, self.evaluator = provider, trainer, evaluator
        self._adapters = tuple(adapters)
        self.tune_start = tune
        self.ladder, self.server, self.tutor, self.proof = ladder, server, tutor, proof
        self.child: ChildServer | None = None
        self._start = start
        self.training: Training | None = None  # the run under way or the last one
        self.keeper: AutoSaver | None = None
        self._parting = False  # a person was asked whether to lose what cannot be saved
        self._store: Store | None = None
        self.store_news = ""
        self.names: dict[str, Names] = {}
        self.session: ChatSession | None = None
        self.sidebar: bool | None = None
        self.looked_into: InspectedPrompt | None = None
        self.prompts: list[str] = []
        self._ticker: Timer | None = None
        self._typed = KeyQueue(self, super().on_event)

    def get_driver_class(self) -> type[Driver]:
        driver = super().get_driver_class()
        return TerminalDriver if issubclass(TerminalDriver, driver) else driver

    # -- life --------------------------------------------------------------------------------------------------------

    def on_mount(self) -> None:
        if not self.is_headless:
            for number in heard():
                get_running_loop().add_signal_handler(number, lambda: self._typed.put(HangUp()))
        if self.console.color_system in (None, "standard", "windows") and not self.environ.get("NO_COLOR"):
            self.theme = "ansi-dark" if self.current_theme.dark else "ansi-light"
        self.theme_changed_signal.subscribe(self, lambda _: self.restyle())
        self.look = self._resolved()
        self.push_screen(Opening())
        self.call_after_refresh(self._begin)

    def _begin(self) -> None:
        """Everything that the first paint did not wait for."""
        from likely.app.jobs.jobs import ModelJobs
        from likely.app.tui.base.engine_client import EngineClient
        from likely.app.tui.chat import attach
        from likely.app.tui.chat.start import Start

        self.start = self._start or Start()
        self._open_store()
        self._remap()
        self.prompts = attach.read_history(self.home / attach.HISTORY)
        self._ticker = self.set_interval(FRAME_S, self.drain, pause=True)
        worker = self.worker(lambda: ModelJobs(self.provider()), "engine")
        self.engine = EngineClient(worker, self, self._ticker.resume, self._adapters)
        self.switch_screen(next(iter(VIEWS.values())).load()())
        asked = {"tune": self.tune_start, "ladders": self.ladder, "watch": self.server, "proofs": self.proof}
        if first := next((name for name, what in asked.items() if what is not None), ""):
            self.go(first)
        else:
            self.engine.load(self.wanted, self._used_last())
            if self.tutor is not None:
                self.go("learn")
        self.run_worker(self._typed.run(), "keys")
        # the worker imports for long and would take turns with the paint
        self.call_after_refresh(worker.start)

    async def on_event(self, event: Event) -> None:
        """Queue what is typed; before there is a view, show it in the prompt of the opening screen."""
        if isinstance(event, Typed) and not event.is_forwarded:
            self._typed.put(event)
            if isinstance(self.screen, Opening) and not isinstance(event, HangUp):
                self.screen.show(event)
        elif not in_vain(event, self):
            await super().on_event(event)

    @property
    def store(self) -> Store | None:
        if self._store is None and self.keeper is not None:  # its disk may have recovered
            self._store = self.keeper.another()
        return self._store

    def _open_store(self) -> None:
        from likely.app.store.store import Store
        from likely.app.tui.chat.auto_saver import AutoSaver

        path = self.home / "sessions.db"
        try:
            self._store = Store(path)
            self.store_news = self._store.taken_notice()
        except DataError as error:  # the conversation goes on, is tried to be saved again and again, and asked for
            self.store_news = f"not saved: {error}"
        self.keeper = AutoSaver(path)
        self.keeper.do(lambda store: store.sweep(self.clock() - KEPT_S))

    def _remap(self) -> None:
        path = self.home / "keys.toml"
        if not path.exists():
            return
        try:
            self.set_keymap(keys.load(path, self.key_table()))
        except DataError as error:
            self.store_news = self.store_news or str(error)

    def key_table(self) -> dict[str, str]:
        """Every action that has keys, and which."""
        from likely.app.tui.views.view import view_class

        kinds = [kind for view in map(view_class, VIEWS) for kind in (view, *view.PARTS)]
        own = [binding for kind in kinds for binding in kind.BINDINGS]
        return keys.actions([*self.BINDINGS, *view_bindings(), *own])

    def keys_of(self, action: str, default: str = "") -> str:
        return self._keymap.get(action) or default or self.key_table()[action]

    def _fatal_error(self) -> None:
        """End the program with the traceback alone: Textual's, with all local values, took minutes to render."""
        self._exit_renderables.append(Text(format_exc()))
        self._close_messages_no_wait()

    def on_unmount(self) -> None:
        if self.training is not None:
            self.training.close()
        if self.child is not None:
            self.child.stop()
        if self._ticker is not None:
            self.engine.worker.close()
        if self.keeper is not None:
            self.keeper.close()
        if self._store is not None:
            self._store.close()

    async def action_quit(self) -> None:
        """Save the open conversation and leave. Where saving fails, say so; pressed again, leave anyway."""
        for view in self.views:
            view.leave()
        keeper = self.keeper
        if keeper is not None and not self._parting:
            await keeper.tried(SAVING_S)
            if keeper.unsaved:
                self._ask(keeper.trouble)
                return
        self._end()

    def _ask(self, trouble: str) -> None:
        from likely.app.tui.widgets.lists.overlays import Pick

        def chosen(choice: str | None) -> None:
            self._parting = False
            if choice == "lose":
                self._end()

        self._parting = True
        stay = ("stay", "stay here: make room and leave again, or /export PATH elsewhere")
        self.push_screen(
            Pick(f"{trouble} · leave all the same?", [stay, ("lose", "quit, and lose what was said")]), chosen
        )

    def on_hang_up(self) -> None:
        """Leave without asking: the process was told to end."""
        for view in self.views:
            view.leave()
        self._end()

    def _end(self) -> None:
        self.exit(next(filter(None, (view.resumable() for view in self.views)), ""))

    def quit(self) -> None:
        self.run_worker(self.action_quit())

    @property
    def views(self) -> list[View]:
        """The views that are open, the first one below the others."""
        from likely.app.tui.views.view import View

        return [screen for screen in self.screen_stack if isinstance(screen, View)]

    # -- looks -------------------------------------------------------------------------------------------------------

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """The theme variables that other themes lack: the ramp and the greys, for a dark or a light ground."""
        return dict((theme.DARK if self.current_theme.dark else theme.LIGHT).variables)

    def get_line_filters(self) -> Sequence[LineFilter]:
        """With ASCII in the place of pictures, where LIKELY_ASCII asks for it; no text moves the terminal."""
        ascii_only = [theme.Ascii()] if self.environ.get("LIKELY_ASCII") else []
        return [*super().get_line_filters(), theme.HARMLESS, *ascii_only]

    def _resolved(self) -> theme.Look:
        """The styles for the theme and the terminal."""
        if self.environ.get("NO_COLOR"):
            colours = "plain"
        elif self.native_ansi_color or self.console.color_system in (None, "standard", "windows"):
            colours = "16"
        else:
            colours = "256" if self.console.color_system == "256" else "true"
        return theme.look(self.theme_variables, colours, self.current_theme.dark)

    def restyle(self) -> None:
        """Resolve the styles anew, and draw by them what is shown."""
        self.look = self._resolved()
        for screen in self.screen_stack:
            for widget in screen.query("LineWidget, TokenView"):  # by name: the first paint imports no tokens
                widget.redraw()  # type: ignore[attr-defined]

    # -- the engine --------------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Hand on what the engine reported. Idle, the timer rests."""
        if not self.is_running:  # its screens are being taken apart; what they hold was saved when it was left
            return
        if not self.engine.drain() and self._ticker is not None:
            self._ticker.pause()

    def chat_with(self, model: str, *adapters: tuple[str, float]) -> None:
        """The chat with a model, loaded first where another is current, and with these adapters on it, no others."""
        if not adapters:
            self.engine.unload(model)  # what was loaded by that name has learned since
            self.engine.load(model, adapters=())
        elif self.engine.current is not None and self.engine.current.name == model:
            self.engine.put_on(adapters)
        else:
            self.engine.load(model, adapters=adapters)
        self.go("chat")

    def _used_last(self) -> tuple[str, ...]:
        """The models that were in use: of the conversation to resume; else the one chosen last, then of the newest."""
        used = self.store.models(self.resume) if self.store is not None else ()
        return used if self.resume else (preferences.chosen(self.home), *used)

    def models_changed(self) -> None:
        if self.engine.current is not None:  # what is used here is what every verb uses where no model is named
            preferences.choose(self.engine.current.name, self.home)
        for view in self.views:
            if view.is_mounted and view.query(Hints):
                view.models_changed()
                view.learner_changed()

    def model_known(self, facts: r.ModelFacts) -> None:
        """Remember what a model's ids stand for."""
        from likely.app.tui.chat.candidates import Names

        self.names[facts.name] = Names(facts.vocabulary, facts.eos)
        if self.keeper is not None:
            self.keeper.do(lambda store: store.remember_vocabulary(facts.name, facts.vocabulary))

    def models_offered(self, offers: Sequence[r.ModelOffer]) -> None:
        self.choose_model(offers)

    def models_in_use(self) -> set[str]:
        return {name for view in self.views for name in view.models_in_use()}

    def adapters_changed(self) -> None:
        for view in self.views:
            view.adapters_changed()

    def choose_model(self, offers: Sequence[r.ModelOffer] = ()) -> None:
        from likely.app.tui.dialogs.models import Models

        self.push_screen(Models(self, offers), lambda name: self.switch_model(name) if name is not None else None)

    def switch_model(self, name: str) -> None:
        current = self.engine.current
        if current is None or name != current.name or self.engine.loading is not None:
            if current is not None:  # a message that waits for its first model goes on waiting
                self.views[-1].leave()
            self.engine.load(name)

    def reload_model(self) -> None:
        name = self.engine.current.name if self.engine.current is not None else self.wanted
        self.engine.unload(name)
        self.engine.load(name)

    def choose_adapters(self) -> None:
        if self.engine.current is None:
            self.say("an adapter wants a model: /model chooses one")
            return
        from likely.app.tui.dialogs.adapters import Adapters

        self.push_screen(Adapters(self))

    def names_of(self, model: str) -> Names:
        from likely.app.tui.chat.candidates import Names

        if model not in self.names:
            self.names[model] = Names(self.store.vocabulary(model) if self.store is not None else ())
        return self.names[model]

    # -- small services ----------------------------------------------------------------------------------------------

    def say(self, line: str, alarm: bool = False) -> None:
        for screen in reversed(self.screen_stack):
            for hints in screen.query(Hints):
                hints.say(line, alarm)
                return

    def ring(self, words: str) -> None:
        if not self.app_focus and self._driver is not None:
            self._driver.write(notice(words, self.environ))

    def save(self, conversation: Conversation) -> None:
        if self.keeper is not None:
            self.keeper.save(conversation)

    def choose_theme(self, name: str = "") -> None:
        name = {"dark": theme.DARK.name, "light": theme.LIGHT.name}.get(name, name)
        if name in self.available_themes:
            self.theme = name
        else:
            from likely.app.tui.views.palette import offer

            offer(self, [(it, "", partial(self.choose_theme, it)) for it in sorted(self.available_themes)], "themes")

    def action_command_palette(self) -> None:
        from likely.app.tui.views.palette import entries, offer

        offer(self, [*entries(self.screen)], "commands")

    def copy(self, text: str, what: str) -> None:
        from likely.app.tui.base.input.clipboard import copy

        how = copy(text, self._driver.write if self._driver is not None else lambda _: None, self.environ)
        self._clipboard = text
        self.say(f"{what} {how}")

    def copy_to_clipboard(self, text: str) -> None:
        self.copy(text, "selection")

    def action_copy_selection(self) -> None:
        from textual.widgets import Input, TextArea

        focused = self.screen.focused
        text = self.screen.get_selected_text()
        if not text and isinstance(focused, Input | TextArea):
            text = focused.selected_text
        if text:
            self.copy(text, "selection")
        elif self.screen not in self.views or not self.views[-1].interrupt():
            self.say("nothing is selected · ctrl+q quits")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "go" and self.screen not in self.views:  # a dialog is left first; the key is its own
            return False
        return super().check_action(action, parameters)

    def action_go(self, name: str) -> None:
        if name != "learn" or not self.views[-1].to_lesson():
            self.go(name)

    def go(self, name: str) -> None:
        """Another view; those between it and the first one are left, and gone unless they stay.

        The course is where its lesson is."""
        name = self.tutor.place if name == "learn" and self.tutor is not None else name
        if self._ticker is None or (self.views[-1:] == [self.screen] and name == self.views[-1].NAME):
            return
        while self.screen is not self.views[0]:
            if self.screen is self.views[-1]:
                self.views[-1].leave()
            self.pop_screen()
        if name != self.views[0].NAME:
            self.push_screen(self._installed(name))
        if self.views[-1].NEEDS_MODEL and self.engine.current is None and self.engine.loading is None:
            self.engine.load(self.wanted, self._used_last())

    def _installed(self, name: str) -> View:
        """A view to be shown: the one that stayed, else a new one."""
        from likely.app.tui.views.view import view_class

        kind = view_class(name)
        if not self.is_screen_installed(name):
            view = kind()
            if kind.STAYS:
                self.install_screen(view, name)
            return view
        return self.get_screen(name, kind)

    def open(self, conversation: Conversation, strategy: Strategy | None = None) -> None:
        name = next(name for name, entry in VIEWS.items() if entry.opens == conversation.kind)
        self.go(name)
        self.views[-1].open(conversation)
        self.views[-1].decode_by(strategy)

    def start_server(self) -> None:
        from likely.app.serve.watch.child_server import ChildServer

        facts = self.engine.current
        if facts is not None and self.child is None:
            context = facts.context if facts.bounded else None
            self.child = ChildServer(facts.name, self.home, facts.activation_bits, context)
            self.go("watch")

    def stop_server(self) -> None:
        if self.child is not None:
            self.child.stop()
            self.child = None

    def screenshot(self) -> None:
        path = self.home / f"likely-{time.strftime('%Y%m%d-%H%M%S')}.svg"
        write_whole(path, [self.export_screenshot(title="likely")])
        self.say(f"screenshot: {path}")


def _is_host(app: LikelyApp) -> ViewHost:
    """Has the type checker verify that the application satisfies `ViewHost`."""
    return app
