"""The adapters on the running model: put on, weighed, switched and taken off; each change holds from the next token."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from rich.segment import Segment
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.timer import Timer
from textual.widgets import Input, Label

from likely.app.jobs import calls
from likely.app.jobs.calls import call
from likely.app.jobs.worker import Failed
from likely.app.tui.base.context import before
from likely.app.tui.base.drawing.line_widget import Line, LineWidget
from likely.app.tui.base.text import cells
from likely.app.tui.base.theme import track
from likely.app.tui.chat.candidates import LN2
from likely.app.tui.widgets.lists.dialog import Dialog
from likely.engine.base.files.home import expanded
from likely.engine.chat.conversation import Fork
from likely.engine.weights.adapters.attached import Attached

if TYPE_CHECKING:
    from likely.app.tui.widgets.host import ViewHost

MOST = 2.0  # what the sliders reach; /adapter takes any weight
FARTHEST = 4.0  # either way, what they reach where a direction steers the model
STEP, STRIDE = 0.1, 0.25  # of an adapter's slider, of a direction's
SETTLE_S = 0.3  # how long a slider rests before it is measured how far it moves the model
NAME, ABOUT = 20, 34  # cells


class AdapterSliders(LineWidget, can_focus=True):
    """A slider for every adapter."""

    BINDINGS = [  # noqa: RUF012
        Binding("up", "pick(-1)", "Pick"),
        Binding("down", "pick(1)", "Pick"),
        Binding("left", "weigh(-1)", "Less"),
        Binding("right", "weigh(1)", "More"),
        Binding("space", "switch", "On or off"),
        Binding("o", "only", "This one only"),
        Binding("delete,backspace", "remove", "Take off"),
    ]

    def __init__(self, host: "ViewHost", heard: Callable[[str], None]) -> None:
        """`heard` is told how each change went."""
        super().__init__()
        self.host, self.heard = host, heard
        self.picked = 0
        self._unconfirmed: dict[str, float] = {}  # weights that no report has confirmed yet

    @property
    def attached(self) -> Sequence[Attached]:
        return self.host.engine.attached

    def show(self) -> None:
        self._unconfirmed.clear()
        self.picked = min(self.picked, max(len(self.attached) - 1, 0))
        self.styles.height = max(len(self.attached), 1)
        self.redraw()

    def lines(self, width: int, height: int) -> Sequence[Line]:
        look = self.look
        if not self.attached:
            return [[Segment("none: the model answers as it came", look.faint)]]
        return [self._row(i, adapter, width) for i, adapter in enumerate(self.attached)]

    def _row(self, index: int, adapter: Attached, width: int) -> Line:
        look, picked = self.look, index == self.picked and self.has_focus
        on = adapter.weight != 0
        about = f"  {adapter.kind} rank {adapter.rank} {self.glyphs.dot} {adapter.trained_on or 'base not named'}"
        about = cells.pad(cells.clean(about), ABOUT) if width >= NAME + ABOUT + 24 else ""
        size = max(width - NAME - cells.width(about) - 8, 6)
        label = look.row if picked else look.text if on else look.faint
        low, high, _ = _reach(adapter)
        return [
            Segment(cells.pad(cells.clean(adapter.name), NAME), label),
            Segment(" "),
            *track((adapter.weight - low) / (high - low), size, look, self.glyphs, on=on, picked=picked),
            Segment(f" {adapter.weight:5.2f}", look.text if on else look.faint),
            Segment(about, look.faint),
        ]

    def action_pick(self, by: int) -> None:
        if 0 <= self.picked + by < len(self.attached):
            self.picked += by
            self.redraw()
        elif by > 0:
            self.screen.query_one(Input).focus()

    def action_weigh(self, by: int) -> None:
        if self.attached:
            adapter = self.attached[self.picked]
            low, high, step = _reach(adapter)
            weight = round(self._unconfirmed.get(adapter.name, adapter.weight) + by * step, 2)
            self._unconfirmed[adapter.name] = min(max(weight, low), high)
            self._change("weigh", self._unconfirmed[adapter.name])

    def action_switch(self) -> None:
        if self.attached:
            self._change("weigh", 0.0 if self.attached[self.picked].weight else 1.0)

    def action_only(self) -> None:
        if self.attached:
            self._change("only", self.attached[self.picked].weight or 1.0)

    def action_remove(self) -> None:
        if self.attached:
            self._change("remove")

    def _change(self, change: Literal["weigh", "only", "remove"], weight: float = 1.0) -> None:
        self.host.engine.adapt(change, self.attached[self.picked].name, weight, self.heard)


def _reach(adapter: Attached) -> tuple[float, float, float]:
    """The least and the most that its slider goes to, and its step: a direction has a way back."""
    return (-FARTHEST, FARTHEST, STRIDE) if adapter.kind == "steering" else (0.0, MOST, STEP)


class Adapters(Dialog[None]):
    """The sliders, how far what they say moves the model, and a line for the directory of another adapter."""

    BINDINGS = [Binding("escape", "dismiss(None)", "Back")]  # noqa: RUF012

    def __init__(self, host: "ViewHost") -> None:
        super().__init__()
        self.host = host
        self._settle: Timer | None = None

    def compose(self) -> ComposeResult:
        model = self.host.engine.current
        title = f"adapters on {model.title or model.name}" if model is not None else "adapters"
        with Vertical(classes="sheet wide"):
            yield Label(title, classes="sheet-title", markup=False)
            yield AdapterSliders(self.host, self.changed)
            yield Label("", id="shift", classes="faint", markup=False)
            yield Input(placeholder="the directory of an adapter: mlx-lm's or PEFT's")
            keys = "←→ weight · space on or off · o only this · del take off · esc"
            yield Label(keys, id="adapter-keys", classes="faint", markup=False)

    def on_mount(self) -> None:
        self.changed()
        (self.query_one(AdapterSliders) if self.host.engine.attached else self.query_one(Input)).focus()

    def changed(self, refused: str = "") -> None:
        """The adapters are others than before, or a change was refused."""
        if not self.is_attached:  # it was left meanwhile
            return
        if refused:
            self.query_one("#adapter-keys", Label).update(refused)
        else:
            self.query_one(AdapterSliders).show()
            if self._settle is not None:
                self._settle.stop()
            self._settle = self.set_timer(SETTLE_S, self.measure)

    def measure(self) -> None:
        """Ask how far the adapters move what comes next in the conversation that is open."""
        current, session = self.host.engine.current, self.host.session
        leaf = session.conversation.leaf if session is not None else None
        line = self.query_one("#shift", Label)
        if current is None or session is None or leaf is None or not any(a.weight for a in self.host.engine.attached):
            line.update("")
            return
        attached = self.host.engine.attached

        def found(job: int, events: list[Any]) -> None:
            for event in events if self.is_attached and attached == self.host.engine.attached else ():
                if isinstance(event, Failed):
                    line.update(event.line)
                elif isinstance(event, float):
                    line.update(f"KL to the model as it came: {event / LN2:.3f} bits a token of this conversation")

        prompt = before(session.conversation, Fork(leaf.id))
        self.host.engine.submit(call(calls.shift, current.name, prompt), found)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        if event.value.strip():
            self.host.engine.adapt("add", str(expanded(event.value.strip())), heard=self.changed)
            event.input.clear()
            self.query_one(AdapterSliders).focus()
