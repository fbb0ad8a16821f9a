"""The application: the engine's bridge, the keeper of conversations, themes and keys. Screens do the rest.

It paints first: what needs numpy or the engine's data is imported after that (`_begin`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from textual.app import App
from textual.binding import Binding, BindingType
from textual.filter import LineFilter
from textual.timer import Timer

from app.tui import keys, theme
from app.tui.views.opening import Opening
from app.tui.widgets.bars import Hints
from engine.errors import DataError

if TYPE_CHECKING:
    from app.store import Store
    from app.tui import messages as m
    from app.tui.bridge import Bridge, ModelProvider
    from app.tui.chat.auto_saver import AutoSaver
    from app.tui.chat.candidates import Names
    from app.tui.tuning import Trainer, Tuning
    from engine.tune.attached import Attached
    from engine.tune.config import Config

    Handler = Callable[[list[m.Report]], None]

FRAME_S = 1 / 20  # between two looks at what the engine reported: every repaint takes from its time
KEPT_S = 30 * 86_400.0  # how long a deleted conversation can be brought back


def lab_trainer() -> Trainer:
    """A trainer on this machine. Called in a run's thread: everything of mlx hangs on this import."""
    from app.local_trainer import LocalTrainer

    return LocalTrainer()


def palette() -> Any:
    """The palette's provider, imported when it is opened."""
    from app.tui.palette import Commands

    return Commands


class LikelyApp(App[str]):
    """Returns the id of the conversation that was open, to resume."""

    TITLE = "likely"
    bridge: Bridge
    CSS_PATH = Path(__file__).with_name("likely.tcss")
    COMMANDS: ClassVar[Any] = {palette}
    # what Textual declares for the instance is meant for the class
    HORIZONTAL_BREAKPOINTS = [  # noqa: RUF012
        (0, "-tiny"),
        (60, "-narrow"),
        (100, "-wide"),
    ]
    VERTICAL_BREAKPOINTS = [  # noqa: RUF012
        (0, "-flat"),
        (12, "-low"),
        (24, "-tall"),
    ]
    ENABLE_COMMAND_PALETTE = True
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+q", "quit", "Quit", show=False, priority=True, id="app.quit"),
        Binding("ctrl+c", "copy_selection", "Copy", show=False, priority=True, id="app.copy"),
        Binding("f2", "go('chat')", "Chat", show=False, id="app.chat"),
        Binding("f3", "go('compare')", "Compare", show=False, id="app.compare"),
        Binding("f4", "go('text')", "Text", show=False, id="app.text"),
        Binding("f5", "go('tune')", "Tune", show=False, id="app.tune"),
    ]

    def __init__(
        self,
        shop: Callable[[], ModelProvider],
        home: Path,
        *,
        model: str = "",
        resume: str = "",
        adapters: Sequence[tuple[str, float]] = (),
        trainer: Callable[[], Trainer] | None = None,
        tune: tuple[Config, bool] | None = None,
        clock: Callable[[], float] = time.time,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """`shop` and `trainer` are called in threads of their own. `adapters` (directory, weight) are put on the first
        model. `tune` opens a run (its options, whether it is
        resumed) in the place of the chat, whose model is loaded when somebody goes there."""
        self.environ = os.environ if environ is None else environ
        self.glyphs = theme.GLYPHS
        self.look = theme.look({}, "plain")
        super().__init__()
        self.clock = clock
        self.home: Path = home
        self.wanted = model
        self.resume = resume
        self._to_attach = tuple(adapters)
        self.shop = shop
        self.trainer = trainer or lab_trainer
        self.tune_order = tune
        self.tuning: Tuning | None = None  # the run under way or the last one
        self.keeper: AutoSaver | None = None
        self.store: Store | None = None
        self.store_news = ""
        self.models: dict[str, m.ModelFacts] = {}
        self.current: m.ModelFacts | None = None
        self.adapters: dict[str, tuple[Attached, ...]] = {}  # by model
        self.names: dict[str, Names] = {}
        self.loading: m.Loading | None = None
        self._load: m.Load | None = None
        self._owners: dict[int, Handler] = {}
        self._ticker: Timer | None = None

    # -- life --------------------------------------------------------------------------------------------------------

    def on_mount(self) -> None:
        for each in (theme.DARK, theme.LIGHT):
            self.register_theme(each)
        basic = self.console.color_system in (None, "standard", "windows")
        wanted = self.environ.get("LIKELY_THEME", "")
        if basic and not self.environ.get("NO_COLOR"):
            self.theme = "ansi-light" if wanted == "light" else "ansi-dark"
        else:
            self.theme = theme.LIGHT.name if wanted in ("light", theme.LIGHT.name) else theme.DARK.name
        self.theme_changed_signal.subscribe(self, lambda _: self.restyle())
        self.restyle()
        self.push_screen(Opening())
        self.call_after_refresh(self._begin)

    def _begin(self) -> None:
        """Everything that the first paint did not wait for."""
        from app.tui.bridge import Bridge
        from app.tui.views.chat import ChatScreen

        self.bridge = Bridge(self.shop)
        self._open_store()
        self._remap()
        self._ticker = self.set_interval(FRAME_S, self.drain, pause=True)
        typed = self.screen.query_one(Opening.TYPED).text
        self.switch_screen(ChatScreen(typed))
        if self.tune_order is None:
            self.load_model(self.wanted, self._used_last())
        else:
            self.action_go("tune")
        # the engine's thread imports for long and would take turns with the paint
        self.call_after_refresh(self.bridge.start)

    def _open_store(self) -> None:
        from app.store import Store
        from app.tui.chat.auto_saver import AutoSaver

        path = self.home / "sessions.db"
        try:
            self.store = Store(path)
            self.store_news = self.store.notice
            self.keeper = AutoSaver(path)
            self.keeper.do(lambda store: store.sweep(self.clock() - KEPT_S))
        except DataError as error:  # the conversation goes on without being saved, and the line says so
            self.store_news = f"not saved: {error}"

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
        from app.tui.views.chat import ChatScreen
        from app.tui.views.compare import CompareScreen
        from app.tui.views.text import TextScreen
        from app.tui.views.tune import TuneScreen
        from app.tui.widgets.candidates import Candidates
        from app.tui.widgets.prompt import Prompt
        from app.tui.widgets.sampler import Sampler
        from app.tui.widgets.token_view import TokenView
        from app.tui.widgets.tree import TreePane
        from app.tui.widgets.tune_form import TuneForm

        found: dict[str, str] = {}
        for kind in (
            LikelyApp,
            ChatScreen,
            CompareScreen,
            TextScreen,
            TuneScreen,
            TuneForm,
            TokenView,
            Candidates,
            Sampler,
            TreePane,
            Prompt,
        ):
            found |= keys.actions(kind.BINDINGS)
        return found

    def keys_of(self, action: str) -> str:
        """The keys of an action, as they were remapped."""
        return self._keymap.get(action) or self.key_table()[action]

    def on_unmount(self) -> None:
        if self.tuning is not None:
            self.tuning.close()
        if self._ticker is not None:
            self.bridge.close()
        if self.keeper is not None:
            self.keeper.close()
        if self.store is not None:
            self.store.close()

    async def action_quit(self) -> None:
        """Leave, the open conversation saved."""
        for screen in self.screen_stack:
            leave = getattr(screen, "leave", None)
            if leave is not None:
                leave()
        open_id = getattr(self.chat, "resumable", lambda: "")()
        self.exit(open_id)

    @property
    def chat(self) -> Any:
        """The chat screen, wherever it is in the stack."""
        from app.tui.views.chat import ChatScreen

        return next((screen for screen in self.screen_stack if isinstance(screen, ChatScreen)), None)

    # -- looks -------------------------------------------------------------------------------------------------------

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """What other themes lack: the ramp and the greys, for a dark or a light ground."""
        return dict((theme.DARK if self.current_theme.dark else theme.LIGHT).variables)

    def get_line_filters(self) -> Sequence[LineFilter]:
        """With ASCII in the place of pictures, where LIKELY_ASCII asks for it."""
        return [*super().get_line_filters(), *([theme.Ascii()] if self.environ.get("LIKELY_ASCII") else [])]

    def restyle(self) -> None:
        """Resolve the styles for the theme and the terminal."""
        if self.environ.get("NO_COLOR"):
            colours = "plain"
        elif self.native_ansi_color or self.console.color_system in (None, "standard", "windows"):
            colours = "basic"
        else:
            colours = "rich"
        self.look = theme.look(self.theme_variables, colours)
        from app.tui.widgets.canvas import Canvas
        from app.tui.widgets.token_view import TokenView

        for screen in self.screen_stack:
            for canvas in screen.query(Canvas):
                canvas.redraw()
            for view in screen.query(TokenView):
                view.redraw()

    # -- the engine --------------------------------------------------------------------------------------------------

    def ask(self, command: m.Command, handler: Handler | None = None) -> None:
        """Send a command; its reports go to `handler`, as many as have come by the next frame at once."""
        work = getattr(command, "work", None)
        if handler is not None and work is not None:
            self._owners[work] = handler
            if self._ticker is not None:
                self._ticker.resume()
        self.bridge.send(command)

    def drain(self) -> None:
        """Hand every report to its owner. Idle, the timer rests."""
        from app.tui import messages as m

        if not self.is_running:  # its screens are being taken apart; what they hold was saved when it was left
            return
        for work, group in groupby(self.bridge.drain(), key=lambda report: _work(report)):
            reports = list(group)
            handler = self._owners.get(work)
            if any(isinstance(report, m.Last) for report in reports):
                self._owners.pop(work, None)
            if handler is not None:
                handler(reports)
        if not self._owners and self._ticker is not None:
            self._ticker.pause()

    @property
    def attached(self) -> tuple[Attached, ...]:
        """The adapters on the current model."""
        return self.adapters.get(self.current.name, ()) if self.current is not None else ()

    def adapt(self, change: Literal["add", "weigh", "only", "remove"], what: str, weight: float = 1.0) -> None:
        """Change the adapters on the current model, from its next token on."""
        from app.tui import messages as m

        if self.current is None:
            self.say("an adapter wants a model: /model chooses one", alarm=True)
            return
        self.ask(m.Adapt(self.bridge.number(), self.current.name, change, what, weight), self._adapted)

    def chat_with(self, model: str, adapter: str) -> None:
        """The chat, an adapter on its model; the model is loaded first where another one is current."""
        if self.current is not None and self.current.name == model:
            self.adapt("add", adapter)
        else:
            self._to_attach = ((adapter, 1.0),)
            self.load_model(model)
        self.action_go("chat")

    def _adapted(self, reports: list[m.Report]) -> None:
        from app.tui import messages as m

        for report in reports:
            match report:
                case m.Adapted(_, model, attached):
                    self.adapters[model] = attached
                    words = [f"{adapter.name} {adapter.weight:g}" for adapter in attached]
                    self.say(f"adapters: {', '.join(words)}" if words else "no adapter: the model as it came")
                    for screen in self.screen_stack:
                        getattr(screen, "adapters_changed", lambda: None)()
                case m.Failed(_, line):
                    self.say(line, alarm=True)
                    getattr(self.screen, "adapters_failed", lambda _: None)(line)

    def _used_last(self) -> tuple[str, ...]:
        """The models that were in use: of the conversation to resume, then of the newest."""
        return self.store.models(self.resume) if self.store is not None else ()

    def load_model(self, name: str, prefer: Sequence[str] = ()) -> None:
        """Make a model ready, and the current one: `name`, else one of `prefer` that is here, else any that is."""
        from app.tui import messages as m

        if self._load is not None:
            self._load.control.cancel()
        load = m.Load(self.bridge.number(), name, tuple(prefer))
        self.loading, self._load = m.Loading(load.work, name, "loading"), load
        self.ask(load, self._loaded)
        self._tell_screens()

    def stop_loading(self) -> bool:
        """Break off a download; gives whether there was one. What came of it is there when it is asked for again."""
        if self.loading is None or self._load is None or not self.loading.total:
            return False
        self._load.control.cancel()
        return True

    def _loaded(self, reports: list[m.Report]) -> None:
        from app.tui import messages as m

        for report in reports:
            if self._load is None or report.work != self._load.work:  # another model was asked for meanwhile
                if isinstance(report, m.Ready):
                    self.adopt_model(report.facts)
                continue
            match report:
                case m.Loading():
                    self.loading = report
                case m.Ready(_, facts):
                    self.loading = None
                    self.adopt_model(facts)
                    self.current = facts
                    self.release()
                    for folder, weight in self._to_attach:
                        self.adapt("add", folder, weight)
                    self._to_attach = ()
                case m.Offered(_, offers):
                    self.loading = None
                    self.chat.offer(offers)
                case m.Failed(_, line):
                    self.loading = None
                    self.say(line, alarm=True)
        self._tell_screens()

    def release(self) -> None:
        """Free the models that no screen uses: memory holds one, unless a comparison needs more."""
        from app.tui import messages as m

        used = {name for screen in self.screen_stack for name in getattr(screen, "models", ())}
        for name in [name for name in self.models if name not in used and self.models[name] is not self.current]:
            del self.models[name]
            self.adapters.pop(name, None)
            self.ask(m.Unload(name))

    def adopt_model(self, facts: m.ModelFacts) -> None:
        """Know a model that was loaded, and remember what its ids stand for."""
        from app.tui.chat.candidates import Names

        self.models[facts.name] = facts
        self.names[facts.name] = Names(facts.vocabulary, facts.eos)
        if self.keeper is not None:
            self.keeper.do(lambda store: store.remember_vocabulary(facts.name, facts.vocabulary))

    def _tell_screens(self) -> None:
        for screen in self.screen_stack:
            changed = getattr(screen, "model_changed", None)
            if changed is not None and screen.is_mounted and screen.query(Hints):
                changed()

    def names_of(self, model: str) -> Names:
        """What a model's ids stand for, from the model or from when it was last used."""
        from app.tui.chat.candidates import Names

        if model not in self.names:
            self.names[model] = Names(self.store.vocabulary(model) if self.store is not None else ())
        return self.names[model]

    # -- small services ----------------------------------------------------------------------------------------------

    def say(self, line: str, alarm: bool = False) -> None:
        """One line of news, where the keys are."""
        for screen in reversed(self.screen_stack):
            for hints in screen.query(Hints):
                hints.say(line, alarm)
                return

    def copy(self, text: str, what: str) -> None:
        """Copy a text, and say how."""
        from app.tui.clipboard import copy

        driver = self._driver
        how = copy(text, driver.write if driver is not None else lambda _: None, self.environ)
        self._clipboard = text
        self.say(f"{what} {how}")

    def copy_to_clipboard(self, text: str) -> None:
        self.copy(text, "selection")

    def action_copy_selection(self) -> None:
        text = self.screen.get_selected_text()
        interrupt = getattr(self.screen, "action_interrupt", None)
        if text:
            self.copy(text, "selection")
        elif interrupt is not None:
            interrupt()
        else:
            self.say("nothing is selected · ctrl+q quits")

    def action_go(self, name: str) -> None:
        """Another of the main screens."""
        from app.tui.views.chat import ChatScreen
        from app.tui.views.compare import CompareScreen
        from app.tui.views.text import TextScreen
        from app.tui.views.tune import TuneScreen

        kinds: dict[str, Any] = {"chat": ChatScreen, "compare": CompareScreen, "text": TextScreen, "tune": TuneScreen}
        if isinstance(self.screen, kinds[name]):
            return
        while len(self.screen_stack) > 2 and not isinstance(self.screen, ChatScreen):
            leave = getattr(self.screen, "leave", None)
            if leave is not None:
                leave()
            self.pop_screen()
        if name == "tune":  # a run goes on while another screen is looked at
            if not self.is_screen_installed("tune"):
                self.install_screen(TuneScreen(), "tune")
            self.push_screen("tune")
        elif name != "chat":
            self.push_screen(kinds[name]())
        if name != "tune" and self.current is None and self.loading is None:
            self.load_model(self.wanted, self._used_last())

    def action_screenshot_here(self) -> None:
        path = self.home / f"likely-{time.strftime('%Y%m%d-%H%M%S')}.svg"
        path.write_text(self.export_screenshot(title="likely"), encoding="utf-8")
        self.say(f"screenshot: {path}")


def _work(report: m.Report) -> int:
    return report.work
