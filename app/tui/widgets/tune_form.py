"""A run of training from a few fields: what, on which model, to where, and the options that matter most."""

from dataclasses import fields
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.message import Message
from textual.suggester import Suggester
from textual.widgets import Input, Label

from app.tui.chat import attach
from app.tui.tokens import cells
from engine.errors import LikelyError
from engine.home import expanded
from engine.options import read_toml
from engine.tune.config import HINTS, Config, configure

# name, what it is called here; "config" is a file of all the others
FIELDS = (
    ("data", "data"), ("model", "model"), ("out", "adapter"), ("rank", "rank"), ("rate", "rate"),
    ("epochs", "epochs"), ("batch", "batch"), ("length", "length"), ("config", "options"),
)  # fmt: skip
ABOUT = {
    "data": "JSONL, CSV, Parquet, a folder of texts, or a hub data set",
    "config": "a TOML file with any other options (likely tune --help)",
}
WHAT = "Moves a model towards your data, and shows how far it has moved."
WIDE = ("data", "model", "out", "config")  # paths and names


class Paths(Suggester):
    """Files and folders that begin as what was typed."""

    async def get_suggestion(self, value: str) -> str | None:
        found = attach.complete(f"@{value}") if value else []
        return found[0][1:] if found else None


class TuneForm(VerticalScroll):
    """Enter starts, from any field; an error is one line, and what was typed stays."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down", "app.focus_next", "Next field", show=False, id="form.next"),
        Binding("up", "app.focus_previous", "Previous field", show=False, id="form.previous"),
        Binding("ctrl+r", "start(True)", "Go on with the run there", show=False, id="form.resume"),
    ]

    class Started(Message):
        """A run that can be opened."""

        def __init__(self, config: Config, resume: bool) -> None:
            super().__init__()
            self.config, self.resume = config, resume

    base: Config = Config()

    def compose(self) -> ComposeResult:
        yield Label("fine-tune", classes="sheet-title")
        yield Label(WHAT, classes="faint", id="form-what")
        for name, label in FIELDS:
            with Horizontal(classes="field"):
                yield Label(label, classes="field-name")
                suggester = Paths(use_cache=False) if name in ("data", "config") else None
                yield Input(id=f"field-{name}", placeholder=words(name, None), suggester=suggester, classes=width(name))
                yield Label(about(name), classes="field-about faint", markup=False)
        yield Label("", id="form-line", markup=False)

    def fill(self, config: Config) -> None:
        """Put the options of a run in, those of no field too: they stand under what is typed from now on."""
        self.base = config
        for name, _ in FIELDS:
            if name != "config":
                self.field(name).value = words(name, config)

    def field(self, name: str) -> Input:
        return self.query_one(f"#field-{name}", Input)

    def say(self, line: str) -> None:
        """The line below: a mistake, or what is being done."""
        self.query_one("#form-line", Label).update(cells.clean(line))

    def read(self) -> Config:
        """The options: those of the run before, over them the file's, over them the fields'. LikelyError if wrong."""
        values = {name: self.field(name).value.strip() for name, _ in FIELDS}
        path = values.pop("config")
        base = configure(read_toml(expanded(path)), self.base) if path else self.base
        return configure({name: typed(name, text) for name, text in values.items() if text}, base)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.action_start(False)

    def action_start(self, resume: bool) -> None:
        try:
            config = self.read()
        except LikelyError as error:
            self.say(str(error))
            return
        if not config.data:
            self.say("data: give a file, a folder, or the id of a hub data set")
            self.field("data").focus()
            return
        self.say("")
        self.post_message(self.Started(config, resume))


def typed(name: str, text: str) -> Any:
    """A field's text as its option wants it; as text where it is no number, which the option then refuses."""
    kind = HINTS[name]
    try:
        return kind(text) if kind in (int, float) else text
    except ValueError:
        return text


def words(name: str, config: Config | None) -> str:
    """An option as a field has it: its default, or where a run has another value that one."""
    default = getattr(Config(), name, "")
    value = default if config is None else getattr(config, name)
    if config is not None and value == default:
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)


def about(name: str) -> str:
    """A field's meaning."""
    helps = (str(f.metadata["help"]) for f in fields(Config) if f.name == name)
    return ABOUT.get(name) or next(helps, "")


def width(name: str) -> str:
    return "wide" if name in WIDE else "short"
