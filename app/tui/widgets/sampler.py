"""The sliders: a row for every parameter, in the order in which the transforms run."""

from collections.abc import Sequence
from typing import ClassVar

from rich.segment import Segment
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message

from app.tui import presets
from app.tui.dialogs.overlays import Ask, Pick
from app.tui.host import host
from app.tui.sampling import Sampling, shown
from app.tui.theme import track
from app.tui.tokens import cells
from app.tui.widgets.canvas import Canvas, Line
from engine.presets import PARAMETERS
from engine.transforms import Parameter

LABEL = 16  # less where there is no room
VALUE = 7
SHORTEST = 4  # cells of a slider


class Sliders(Canvas, can_focus=True):
    """Sliders that say `Changed` at every step. Rows beyond the height scroll with the picked one."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "pick(-1)", "Pick", show=False, id="sampler.up"),
        Binding("down", "pick(1)", "Pick", show=False, id="sampler.down"),
        Binding("left", "step(-1)", "Less", show=False, id="sampler.less"),
        Binding("right", "step(1)", "More", show=False, id="sampler.more"),
        Binding("shift+left", "step(-10)", "Much less", show=False, id="sampler.much_less"),
        Binding("shift+right", "step(10)", "Much more", show=False, id="sampler.much_more"),
        Binding("0", "off", "Off", show=False, id="sampler.off"),
        Binding("backspace,delete", "default", "Default", show=False, id="sampler.default"),
        Binding("equals_sign", "type", "Type a value", show=False, id="sampler.type"),
        Binding("less_than_sign,shift+up", "move(-1)", "Earlier", show=False, id="sampler.earlier"),
        Binding("greater_than_sign,shift+down", "move(1)", "Later", show=False, id="sampler.later"),
        Binding("p", "presets", "Presets", show=False, id="sampler.presets"),
    ]

    class Changed(Message):
        """Other settings."""

        def __init__(self, sampling: Sampling) -> None:
            super().__init__()
            self.sampling = sampling

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.sampling = Sampling()
        self.picked = "temp"
        self.top = 0
        self._dragging = False

    def show(self, sampling: Sampling) -> None:
        if sampling != self.sampling:
            self.sampling = sampling
            self.redraw()

    def rows(self) -> list[Parameter]:
        """The sliders that are listed: those that only refine another, while the list has the focus."""
        return [p for p in self.sampling.rows() if p.off is not None or self.has_focus]

    @property
    def parameter(self) -> Parameter:
        """The parameter that keys act on."""
        rows = self.rows()
        return next((p for p in rows if p.name == self.picked), rows[0])

    def lines(self, width: int, height: int) -> Sequence[Line]:
        rows = self.rows()
        room = max(height - 1, 1)
        at = rows.index(self.parameter)
        if not self.has_focus and self._busiest(rows, room) is not None:
            self.top = self._busiest(rows, room) or 0
        self.top = min(max(self.top, at - room + 1 if self.has_focus else 0), max(len(rows) - room, 0))
        if self.has_focus:
            self.top = min(self.top, at)
        name = self.sampling.preset_name
        words = f"  {self.sampling.order_name} order" + (f" {self.glyphs.dot} {name}" if name else "")
        lines: list[Line] = [
            [Segment("SAMPLER", self.look.heading), Segment(cells.fit(words, width - 7), self.look.faint)]
        ]
        lines += [self._row(p, width) for p in rows[self.top : self.top + room]]
        return lines

    def _busiest(self, rows: list[Parameter], room: int) -> int | None:
        """Where to scroll so that as many running transforms as can be are seen."""
        if len(rows) <= room:
            return 0
        running = [i for i, p in enumerate(rows) if self.sampling.active(p) or p.name == "temp"]
        return min(range(len(rows) - room + 1), key=lambda top: -sum(top <= i < top + room for i in running))

    def _row(self, p: Parameter, width: int) -> Line:
        look = self.look
        active, value = self.sampling.active(p), self.sampling.values[p.name]
        on = active or (p.name == "temp")
        label_width, size = _columns(width)
        share = (value - p.low) / (p.high - p.low)
        picked = self.has_focus and p.name == self.parameter.name
        label = look.row if picked else look.text if on else look.faint
        return [
            Segment(cells.pad(p.label, label_width), label),
            Segment(" "),
            *track(share, size, look, self.glyphs, on=on, picked=picked),
            Segment(" " + cells.pad(shown(p, value), VALUE, right=True), look.text if on else look.faint),
        ]

    # -- keys and mouse ----------------------------------------------------------------------------------------------

    def on_focus(self) -> None:
        self.redraw()

    def on_blur(self) -> None:
        self.redraw()

    def change(self, sampling: Sampling) -> None:
        """Other settings, by a person."""
        if sampling != self.sampling:
            self.sampling = sampling
            self.redraw()
            self.post_message(self.Changed(sampling))

    def action_pick(self, by: int) -> None:
        rows = self.rows()
        at = rows.index(self.parameter)
        self.picked = rows[min(max(at + by, 0), len(rows) - 1)].name
        self.redraw()

    def action_step(self, by: int) -> None:
        self.change(self.sampling.stepped(self.parameter.name, by))

    def action_off(self) -> None:
        p = self.parameter
        self.change(self.sampling.with_value(p.name, p.default if p.off is None else p.off)[0])

    def action_default(self) -> None:
        self.change(self.sampling.with_value(self.parameter.name, self.parameter.default)[0])

    def action_type(self) -> None:
        """Have a person type the value of the picked parameter."""
        p = self.parameter

        def typed(text: str | None) -> None:
            if text is not None and (said := self.type_value(p.name, text)):
                host(self).say(said)

        title = f"{p.label}  {p.low:g} to {p.high:g} · {p.help}"
        self.app.push_screen(Ask(title, f"{self.sampling.values[p.name]:g}"), typed)

    def action_move(self, by: int) -> None:
        self.change(self.sampling.moved(self.parameter, by))

    def action_presets(self) -> None:
        """Have a person choose a preset, or the order of the transforms."""

        def chosen(choice: str | None) -> None:
            if choice is not None:
                self.change(presets.chosen(host(self).home, choice, self.sampling))

        self.app.push_screen(Pick("how tokens are drawn", presets.choices(host(self).home)), chosen)

    def type_value(self, name: str, text: str) -> str:
        """Set a value from what a person typed; gives what there is to say about it."""
        try:
            value = float(text.strip().rstrip("%"))
        except ValueError:
            return f"{PARAMETERS[name].label} must be a number, got {text.strip() or 'nothing'}"
        sampling, said = self.sampling.with_value(name, value)
        self.change(sampling)
        return said

    def on_mouse_down(self, event: events.MouseDown) -> None:
        self._drag(event)
        self._dragging = True
        self.capture_mouse()

    def on_mouse_up(self, event: events.MouseUp) -> None:
        self._dragging = False
        self.release_mouse()

    def on_mouse_move(self, event: events.MouseMove) -> None:
        if self._dragging:
            self._drag(event, keep=True)

    def _drag(self, event: events.MouseEvent, keep: bool = False) -> None:
        offset = event.get_content_offset_capture(self)
        rows = self.rows()
        if not keep:
            index = offset.y - 1 + self.top
            if offset.y < 1 or not 0 <= index < len(rows):
                return
            self.picked = rows[index].name
            self.redraw()
        label_width, size = _columns(self.size.width)
        x = offset.x - label_width - 1
        if not keep and not 0 <= x < size:
            return
        p = self.parameter
        share = min(max(x / (size - 1), 0.0), 1.0)
        value = p.low + round(share * (p.high - p.low) / p.step) * p.step
        self.change(self.sampling.with_value(p.name, round(value, 6))[0])


def _columns(width: int) -> tuple[int, int]:
    """Cells of a label and of a slider."""
    label = max(min(LABEL, width - VALUE - 2 - SHORTEST), 4)
    return label, max(width - label - VALUE - 2, SHORTEST)
