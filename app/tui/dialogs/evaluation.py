"""Form of an evaluation: tasks, models, how many items."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Input, Label

from likely.app.jobs.requests import Evaluate
from likely.app.results.task_sources import sources
from likely.app.tui.widgets.lists.dialog import Dialog
from likely.app.tui.widgets.tune_form import Paths
from likely.engine.base.errors import LikelyError
from likely.engine.measure.evaluate.tasks.generated import MAKERS
from likely.engine.measure.evaluate.tasks.shipped import SHIPPED

FIELDS = (
    ("tasks", "files, or built in: " + " ".join((*MAKERS, *SHIPPED))),
    ("models", "one or several; the others are compared with the first"),
    ("items", "of each task, at most; empty: all"),
)


class NewEvaluation(Dialog[Evaluate | None]):
    """Enter starts, from any field; an error is one line, and what was typed stays."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Back"),
        Binding("down", "app.focus_next", "Next field"),
        Binding("up", "app.focus_previous", "Previous field"),
    ]

    def __init__(self, tasks: str = "", models: str = "") -> None:
        super().__init__()
        self.defaults = {"tasks": tasks, "models": models, "items": ""}

    def compose(self) -> ComposeResult:
        with Vertical(classes="sheet wide"):
            yield Label("evaluate", classes="sheet-title")
            for name, about in FIELDS:
                with Horizontal(classes="field"):
                    yield Label(name, classes="field-name")
                    suggester = Paths(use_cache=False) if name == "tasks" else None
                    yield Input(self.defaults[name], id=f"asked-{name}", suggester=suggester)
                yield Label(about, classes="faint asked-about", markup=False)
            yield Label("", id="asked-line", markup=False)

    def on_mount(self) -> None:
        self.query_one("#asked-tasks", Input).focus()

    def read(self) -> Evaluate:
        """The evaluation that was typed; LikelyError for what cannot be measured."""
        typed = {name: self.query_one(f"#asked-{name}", Input).value.strip() for name, _ in FIELDS}
        tasks = tuple(typed["tasks"].split())
        if not tasks:
            raise LikelyError(f"tasks: give a file, or one of {', '.join((*MAKERS, *SHIPPED))}")
        if typed["items"] and not (typed["items"].isdigit() and int(typed["items"])):
            raise LikelyError(f"items: a whole number from 1 on, got {typed['items']!r}")
        sources(tasks)
        return Evaluate(tasks, tuple(typed["models"].split()), int(typed["items"]) if typed["items"] else None)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        try:
            self.dismiss(self.read())
        except LikelyError as error:
            self.query_one("#asked-line", Label).update(str(error))
