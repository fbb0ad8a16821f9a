"""A run of training from a few fields: what, on which model, to where, and the options that matter most."""

import re
from dataclasses import fields, replace
from typing import Any, ClassVar, get_type_hints

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.message import Message
from textual.suggester import Suggester
from textual.widgets import Input, Label

from likely.app.results.training_kind import KINDS, TUNE, TrainingConfig, TrainingKind, kind_of, options_of
from likely.app.tui.base.text import cells
from likely.app.tui.chat import attach
from likely.app.tui.training.cost import CostForecast
from likely.app.tui.widgets.host import host as host_of
from likely.engine.base.errors import LikelyError, ParameterError
from likely.engine.base.files.home import expanded
from likely.engine.base.files.whole_file import refuse_pipe
from likely.engine.base.options import read_toml
from likely.engine.text.rows import values
from likely.engine.text.rows.training_row import UNREAD, read_map
from likely.engine.train.data.data import columns
from likely.engine.weights.adapters.config import Config

WAIT_S, GLANCE_S = 0.7, 0.15  # without a key, after which the cost is reckoned; between two looks whether it is
OPTIONS = "config"  # the field that names a file of all other options
# those of every kind, from top to bottom; one that two have keeps what was typed
FIELDS = (
    "data", "map", "test", "verifier", "model", "out", "size", "tokenizer", "tokens", "answers", "kl", "rank", "rate",
    "steps", "epochs", "batch", "length", "context", OPTIONS,
)  # fmt: skip
WIDE = ("data", "map", "test", "verifier", "model", "out", "size", "tokenizer", OPTIONS)  # paths and names


class Paths(Suggester):
    """Files and folders that begin as what was typed."""

    async def get_suggestion(self, value: str) -> str | None:
        completions = attach.complete(f"@{value}") if value else []
        return completions[0][1:] if completions else None


class TuneForm(VerticalScroll):
    """Enter starts, from any field; an error is one line, and what was typed stays."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down", "app.focus_next", "Next field", id="form.next"),
        Binding("up", "app.focus_previous", "Previous field", id="form.previous"),
        Binding("ctrl+r", "start(True)", "Go on with the run there", id="form.resume"),
        Binding("ctrl+t", "kind", "Another kind of training", id="form.kind"),
    ]

    class Started(Message):
        """A run that can be opened."""

        def __init__(self, config: TrainingConfig, resume: bool) -> None:
            super().__init__()
            self.config, self.resume = config, resume

    class KindChosen(Message):
        """Another kind of training is asked for."""

    kind: TrainingKind = TUNE
    base: TrainingConfig = TUNE.default
    _line = ""  # a mistake, or what is being done

    def compose(self) -> ComposeResult:
        yield Label("", classes="sheet-title", id="form-title")
        yield Label("", classes="faint", id="form-what")
        for name in FIELDS:
            with Horizontal(classes="field", id=f"row-{name}"):
                yield Label("", classes="field-name")
                suggester = Paths(use_cache=False) if name in ("data", "test", OPTIONS) else None
                wide = name in WIDE  # a path is mended, a number is replaced: what is typed first leaves no path lost
                yield Input(
                    id=f"field-{name}",
                    suggester=suggester,
                    select_on_focus=not wide,
                    classes="wide" if wide else "short",
                )
                yield Label("", classes="field-about faint", markup=False)
            if name == "data":
                yield Label("", id="form-columns", classes="faint field-told", markup=False)
                yield Label("", id="form-cost", classes="faint field-told", markup=False)
        yield Label("", id="form-line", markup=False)

    def on_mount(self) -> None:
        host = host_of(self)
        self.cost = CostForecast(host.trainer, host.worker)
        self._wait = self.set_timer(WAIT_S, self._foretell, pause=True)
        self._glance = self.set_interval(GLANCE_S, self._told, pause=True)
        self.choose(self.kind)

    def on_show(self) -> None:
        self.reckon()  # by now another model may be here, or a run in the folder

    def on_unmount(self) -> None:
        self.cost.stop()

    def choose(self, kind: TrainingKind) -> None:
        """Ask for the options of a kind of training."""
        if kind is not kind_of(self.base):
            self.base = kind.default
        self.kind = kind
        self.query_one("#form-title", Label).update(kind.title)
        self.query_one("#form-what", Label).update(kind.about)
        for name in FIELDS:
            row, label = self.query_one(f"#row-{name}"), kind.fields.get(name, "options" if name == OPTIONS else "")
            row.display = bool(label) and name != "map"
            row.query_one(".field-name", Label).update(label)
            row.query_one(".field-about", Label).update(about(kind, name))
            self.field(name).placeholder = words(kind, name, None)
        self.look()
        self.reckon()
        self.post_message(self.KindChosen())

    def action_kind(self) -> None:
        """The next kind of training; what was typed stays."""
        self.choose(KINDS[(KINDS.index(self.kind) + 1) % len(KINDS)])
        self.say("")
        if self.screen.focused is None or not self.screen.focused.focusable:
            self.field("data").focus()

    def fill(self, config: TrainingConfig) -> None:
        """Put the options of a run in, those of no field too: they stand under what is typed from now on. A field that
        is emptied stands for what is usual, as it says then, and not for what it held."""
        kind = kind_of(config)
        self.base = replace(config, **{name: getattr(kind.default, name) for name in kind.fields})
        self.choose(kind)
        with self.prevent(Input.Changed):
            for name in self.kind.fields:
                self.field(name).value = words(self.kind, name, config)
        self.look()

    def field(self, name: str) -> Input:
        return self.query_one(f"#field-{name}", Input)

    def say(self, line: str) -> None:
        """The line below: a mistake, or what is being done."""
        self._line = cells.clean(line)
        self._show_line()
        self.call_after_refresh(self.query_one("#form-line").scroll_visible, animate=False)

    def _show_line(self) -> None:
        """Say it below, or mark it where it stands at the data already: there are few rows for both."""
        told = [label for label in self.query(".field-told").results(Label) if label.display]
        for label in told:
            label.set_class(label.content == self._line, "-refused")
        stands = any(label.has_class("-refused") for label in told)
        self.query_one("#form-line", Label).update("" if stands else self._line)

    def read(self, resume: bool = False) -> TrainingConfig:
        """The options: those of the run before, over them the file's, over them the fields'; to `resume`, first of all
        those that the run began with. LikelyError if wrong."""
        kind, path = self.kind, self.field(OPTIONS).value.strip()
        values = {name: self.field(name).value.strip() for name in kind.fields}
        for name in (path, values["data"], values.get("test", "")):
            refuse_pipe(expanded(name))
        from_file = read_toml(expanded(path)) if path else {}
        if resume:
            return options_of(
                kind, {n: typed(kind, n, text) for n, text in values.items() if text}, from_file, resume=True
            )
        base = kind.configure(from_file, self.base) if path else self.base
        return kind.configure({name: typed(kind, name, text) for name, text in values.items() if text}, base)

    def on_input_changed(self, event: Input.Changed) -> None:
        if event.input.has_focus:  # what was wrong may be so no longer
            self.say("")
        if event.input.id in ("field-data", "field-map", f"field-{OPTIONS}"):
            self.look()
        self.reckon()

    # -- what it costs -----------------------------------------------------------------------------------------------

    def reckon(self) -> None:
        """Forget what was said of the cost, and say it anew as soon as nothing is typed for a moment."""
        self.cost.stop()
        self._say_cost("")
        self._wait.stop()
        self._wait = self.set_timer(WAIT_S, self._foretell)

    def _foretell(self) -> None:
        """Ask for the cost where data and options stand: rewards draw answers first, and a text is read whole."""
        try:
            config = self.read()
            stands = isinstance(config, Config) and not self.kind.drawn and expanded(config.data).exists()
        except (LikelyError, OSError):
            return  # it is told when the run is started
        if isinstance(config, Config) and config.data and stands and UNREAD not in self._columns():
            self._say_cost("the cost is reckoned …")
            self.cost.ask(config)
            self._glance.resume()

    def _told(self) -> None:
        if self.cost.drain():
            self._say_cost(self.cost.words)
        if not self.cost.pending:
            self._glance.pause()

    def _say_cost(self, words: str) -> None:
        label = self.query_one("#form-cost", Label)
        label.display = bool(words)
        label.update(cells.clean(words))
        self._show_line()

    # -- what the data are -------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Say how the columns of the data are read; where they are not understood, ask which is which."""
        words, label = self._columns(), self.query_one("#form-columns", Label)
        label.display = bool(words)
        label.update(cells.clean(words.partition(" (--map")[0]))
        asks = "map" in self.kind.fields and (UNREAD in words or bool(self.field("map").value))
        self.query_one("#row-map").display = asks
        if asks:
            first, *rest = words.partition(":")[0].split(", ")
            self.field("map").placeholder = f"{first}=prompt, {rest[-1] if rest else '…'}=completion"

    def _columns(self) -> str:
        """How the columns of the data are read, where that is a file of lines here; or what is wrong with `map`."""
        try:
            config = self.read()
            if not isinstance(config, Config):
                return ""
            path = expanded(config.data)
            lines = path.is_file() and values.kind(path) in (".jsonl", ".csv")
            return columns(path, read_map(config.map)) if lines else ""
        except ParameterError as error:
            return str(error) if self.field("map").value else ""
        except (LikelyError, OSError):
            return ""  # it is told when the run is started

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.action_start(False)

    def action_start(self, resume: bool) -> None:
        try:
            config = self.read(resume)
        except LikelyError as error:
            self.say(str(error))
            return
        if not config.data:
            self.say(f"data: give {self.kind.missing}")
            self.field("data").focus()
            return
        self.say("")
        self._wait.stop()
        self.post_message(self.Started(config, resume))


def typed(kind: TrainingKind, name: str, text: str) -> Any:
    """A field's text as its option wants it; as text where it is no number, which the option then refuses."""
    wanted = get_type_hints(type(kind.default))[name]
    if name == "map":
        return tuple(part.strip() for part in text.split(",") if part.strip())
    try:
        return wanted(text) if wanted in (int, float) else text
    except ValueError:
        return text


def words(kind: TrainingKind, name: str, config: TrainingConfig | None) -> str:
    """An option as a field has it: its default, or where a run has another value that one."""
    default = getattr(kind.default, name, "")
    value = default if config is None else getattr(config, name)
    if config is not None and value == default:
        return ""
    if name == "map":
        return ", ".join(value)
    if config is None and name in kind.usual:
        return kind.usual[name]
    if not value and (chosen := re.search(r"\b0: (by [a-z ]+)", about(kind, name))):
        return chosen[1]
    return f"{value:g}" if isinstance(value, float) else str(value)


def about(kind: TrainingKind, name: str) -> str:
    """A field's meaning."""
    if name == OPTIONS:
        return f"a TOML file with any other options (likely {kind.verb} --help)"
    helps = (str(f.metadata["help"]) for f in fields(kind.default) if f.name == name)
    return kind.data if name == "data" else next(helps, "")
