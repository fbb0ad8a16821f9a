"""The sampler: how tokens are found, then what acts, in the order in which it runs, then bans and biases; what is off
is folded away, and so is what a search makes no use of."""

from collections.abc import Callable, Sequence
from typing import ClassVar, cast

from rich.segment import Segment
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.widget import Widget

from likely.app.recipes import shown
from likely.app.tui.base import cells, presets
from likely.app.tui.base.line_widget import Line, LineWidget
from likely.app.tui.base.sampling import Sampling
from likely.app.tui.base.theme import track
from likely.app.tui.chat import decoding
from likely.app.tui.widgets.host import host
from likely.app.tui.widgets.overlays import Ask, Pick
from likely.engine.decode.strategies import PLAIN, with_setting
from likely.engine.decode.strategy import Strategy
from likely.engine.errors import ParameterError
from likely.engine.presets import PARAMETERS
from likely.engine.transforms import Parameter

LABEL = 15  # less where there is no room
VALUE = 7
STRATEGY = "strategy"  # the name of the row that says how tokens are found
FOLD = "off"  # the name of the row that stands for what is off
SHORTEST = 4  # cells of a slider


class Sliders(LineWidget, can_focus=True):
    """Sliders that say `Changed` at every step. Rows beyond the height scroll with the picked one."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "pick(-1)", "Pick", id="sampler.up"),
        Binding("down", "pick(1)", "Pick", id="sampler.down"),
        Binding("left", "step(-1)", "Less", id="sampler.less"),
        Binding("right", "step(1)", "More", id="sampler.more"),
        Binding("shift+left", "step(-10)", "Much less", id="sampler.much_less"),
        Binding("shift+right", "step(10)", "Much more", id="sampler.much_more"),
        Binding("0", "off", "Off", id="sampler.off"),
        Binding("backspace,delete", "default", "Default", id="sampler.default"),
        Binding("equals_sign", "type", "Type a value", id="sampler.type"),
        Binding("less_than_sign,shift+up", "move(-1)", "Earlier", id="sampler.earlier"),
        Binding("greater_than_sign,shift+down", "move(1)", "Later", id="sampler.later"),
        Binding("enter", "enter", "Unfold", id="sampler.enter"),
        Binding("z", "fold", "More or fewer", id="sampler.fold"),
        Binding("p", "presets", "Presets", id="sampler.presets"),
        Binding("s", "strategy", "Strategy", id="sampler.strategy"),
    ]

    class RowsChanged(Message):
        """There are more rows than before, or fewer."""

    class Changed(Message):
        """Other settings."""

        def __init__(self, sampling: Sampling) -> None:
            super().__init__()
            self.sampling = sampling

    class StrategyChosen(Message):
        """Another way of finding tokens."""

        def __init__(self, strategy: Strategy) -> None:
            super().__init__()
            self.strategy = strategy

    def __init__(self, *, id: str | None = None, strategies: bool = False) -> None:
        """`strategies`: how tokens are found can be chosen."""
        super().__init__(id=id)
        self.sampling = Sampling()
        self.strategy: Strategy = PLAIN
        self.strategies = strategies
        self.names: Callable[[int], str] = lambda token: f"#{token}"  # of the tokens with a ban or a bias
        self.picked = "temp"
        self.unfolded = False
        self.top = 0
        self._dragging = False

    def show(self, sampling: Sampling, strategy: Strategy | None = None) -> None:
        if strategy is not None:
            self.show_strategy(strategy)
        if sampling != self.sampling:
            more = self._height(sampling) != self._height(self.sampling)
            self.sampling = sampling
            self.redraw()
            if more:
                self.refresh(layout=True)

    def show_strategy(self, strategy: Strategy) -> None:
        if strategy != self.strategy:
            self.strategy = strategy
            self.refresh(layout=True)
            self.redraw()

    def _on(self, p: Parameter) -> bool:
        """Whether a parameter acts; temperature always does."""
        return not self.strategy.SEARCHES and (p.name == "temp" or self.sampling.active(p))

    def _found_by(self) -> list[str]:
        """The rows of the strategy and of its settings."""
        if not self.strategies or (self.strategy == PLAIN and not self.has_focus):
            return []
        return [STRATEGY, *(f"={f.name}" for f in self.strategy.settings() if _set(self.strategy, f.name) is not None)]

    def rows(self) -> list[str]:
        """The rows by name: parameters that act, tokens with a ban or bias, the fold, and what is in it."""
        parameters = self.sampling.rows()
        acting = [p.name for p in parameters if self._on(p) and (p.off is not None or self.has_focus)]
        tokens = [f"#{token}" for token in (*self.sampling.bans, *(token for token, _ in self.sampling.biases))]
        resting = [p.name for p in parameters if not self._on(p)]
        fold = [FOLD] if resting else []
        return [*self._found_by(), *acting, *tokens, *fold, *(resting if self.unfolded else [])]

    def _height(self, sampling: Sampling) -> int:
        """The values on which the number of rows depends, to compare before and after a change."""
        return sum(p.name == "temp" or sampling.active(p) for p in sampling.rows()) + len(sampling.bias)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return 1 + len(self.rows())

    @property
    def chosen(self) -> str:
        """The row that keys act on."""
        rows = self.rows()
        return self.picked if self.picked in rows else "temp" if "temp" in rows else rows[0]

    @property
    def parameter(self) -> Parameter | None:
        """The parameter that keys act on, None on the row of a token or of the fold."""
        return PARAMETERS.get(self.chosen)

    def lines(self, width: int, height: int) -> Sequence[Line]:
        rows = self.rows()
        room, at = max(height - 1, 1), rows.index(self.chosen)
        self.top = min(max(self.top, at - room + 1), at) if self.has_focus else 0
        self.top = min(self.top, max(len(rows) - room, 0))
        searches = self.strategy.SEARCHES
        parts = [f"{self.strategy.TITLE} draws nothing"] if searches else []
        parts = parts or [part for part in (self.sampling.preset_name, f"{self.sampling.order_name} order") if part]
        while parts and cells.width("  " + f" {self.glyphs.dot} ".join(parts)) > width - 7:
            parts.pop()
        words = cells.pad("  " + f" {self.glyphs.dot} ".join(parts), width - 7)
        heading: Line = [Segment("SAMPLER", self.look.heading), Segment(words, self.look.faint)]
        if cast(Widget, self.parent).has_class("-drawer"):
            heading = list(Segment.apply_style(heading, self.look.band))
        lines: list[Line] = [heading]
        lines += [self._line(name, width) for name in rows[self.top : self.top + room]]
        return lines

    def _line(self, name: str, width: int) -> Line:
        if name in PARAMETERS:
            return self._row(PARAMETERS[name], width)
        look, picked = self.look, self.has_focus and name == self.chosen
        if name == STRATEGY:
            size = cells.pad("strategy", _columns(width)[0])
            words = cells.fit(str(self.strategy) if self.strategy != PLAIN else PLAIN.TITLE, width - len(size) - 1)
            ink = look.text if self.strategy == PLAIN else look.chosen
            return [Segment(f"{size} ", look.row if picked else look.text), Segment(words, ink)]
        if name.startswith("="):
            value, span = _set(self.strategy, name[1:]), self.strategy.SPANS.get(name[1:])
            label, ink = name[1:].replace("_", " "), look.row if picked else look.text
            value_cell = Segment(cells.pad(_text(value), VALUE + 1, right=True), look.text)
            if span is None or not isinstance(value, int | float):
                return [Segment(cells.pad(label, width - VALUE - 1), ink), value_cell]
            label_size, room = _columns(width)
            slider = track((value - span[0]) / (span[1] - span[0]), room, look, self.glyphs, on=True, picked=picked)
            return [Segment(cells.pad(label, label_size), ink), Segment(" "), *slider, value_cell]
        if name == FOLD:
            sign = self.glyphs.unfold if self.unfolded else self.glyphs.fold
            count = sum(not self._on(p) for p in self.sampling.rows())
            what = "not used by a search" if self.strategy.SEARCHES else "off" if self.unfolded else "more off"
            words = cells.fit(f"{sign} {count} {what}", width)
            return [Segment(words, look.row if picked else look.faint)]
        token, (label_width, _) = int(name[1:]), _columns(width)
        value = self.sampling.bias[token]
        words = "banned" if token in self.sampling.bans else f"bias {value:+.2g}".replace("-", "−")
        return [
            Segment(cells.pad(words, label_width), look.row if picked else look.text),
            Segment(" " + cells.fit(self.names(token), max(width - label_width - 3, 3)), look.text),
            Segment(f" {self.glyphs.lift}", look.alarm),
        ]

    def _row(self, p: Parameter, width: int) -> Line:
        look = self.look
        on, value = self._on(p), self.sampling.values[p.name]
        label_width, size = _columns(width)
        share = (value - p.low) / (p.high - p.low)
        picked = self.has_focus and p.name == self.chosen
        label = look.row if picked else look.text if on else look.faint
        return [
            Segment(cells.pad(p.label, label_width), label),
            Segment(" "),
            *track(share, size, look, self.glyphs, on=on, picked=picked),
            Segment(" " + cells.pad(shown(p, value), VALUE, right=True), look.text if on else look.faint),
        ]

    # -- keys and mouse ----------------------------------------------------------------------------------------------

    def on_focus(self) -> None:
        self.post_message(self.RowsChanged())

    def on_blur(self) -> None:
        self.post_message(self.RowsChanged())

    def change(self, sampling: Sampling) -> None:
        """Other settings, by a person."""
        if sampling != self.sampling:
            self.show(sampling)
            self.post_message(self.Changed(sampling))

    def action_pick(self, by: int) -> None:
        rows = self.rows()
        at = rows.index(self.chosen)
        self.picked = rows[min(max(at + by, 0), len(rows) - 1)]
        self.redraw()

    def action_fold(self) -> None:
        """Show what is off, or fold it away."""
        self.unfolded = not self.unfolded
        self.picked = self.chosen
        self.post_message(self.RowsChanged())
        self.redraw()

    def action_enter(self) -> None:
        if self.chosen == FOLD:
            self.action_fold()
        elif self.chosen == STRATEGY:
            self.action_strategy()

    def action_strategy(self) -> None:
        """Have a person choose how tokens are found."""
        if not self.strategies:
            host(self).say("here tokens are found one by one: the chat (f2) has a choice")
            return

        def chosen(choice: str | None) -> None:
            if choice:
                self._find_by(lambda: decoding.read(choice))

        self.app.push_screen(Pick("how tokens are found", decoding.offered(host(self).engine)), chosen)

    def _find_by(self, strategy: Callable[[], Strategy]) -> None:
        """Set the strategy, or say why it cannot be used."""
        try:
            self.post_message(self.StrategyChosen(strategy()))
        except ParameterError as error:
            host(self).say(str(error))

    def _step_strategy(self, by: int) -> None:
        """Another strategy, or another number of one."""
        name, strategy = self.chosen, self.strategy
        if name == STRATEGY:
            known = [decoding.read(id) for id, _ in decoding.offered(host(self).engine) if id]
            at = next((i for i, other in enumerate(known) if type(other) is type(strategy)), 0)
            self._find_by(lambda: known[min(max(at + by, 0), len(known) - 1)])
        elif isinstance(value := _set(strategy, name[1:]), int | float):
            word = str(value + by) if isinstance(value, int) else f"{value + by / 10:g}"
            self._find_by(lambda: with_setting(strategy, name[1:], word))

    def action_step(self, by: int) -> None:
        if self.chosen in self._found_by():
            self._step_strategy(by)
        if (p := self.parameter) is not None:
            self.picked = p.name  # a row that is moved joins those that act, and is picked there
            self.change(self.sampling.stepped(p.name, by))

    def action_off(self) -> None:
        """Off: a parameter, a ban or a bias."""
        p = self.parameter
        if p is not None:
            self.change(self.sampling.with_value(p.name, p.default if p.off is None else p.off))
        elif self.chosen in self._found_by():
            self._find_by(lambda: PLAIN)
        elif self.chosen != FOLD:
            self.change(self.sampling.lift(int(self.chosen[1:])))

    def action_default(self) -> None:
        if (p := self.parameter) is not None:
            self.change(self.sampling.with_value(p.name, p.default))

    def action_type(self) -> None:
        """Have a person type the value of the picked parameter."""
        p = self.parameter
        if self.chosen in self._found_by():
            self._type_strategy(self.chosen)
        if p is None:
            return

        def typed(text: str | None) -> None:
            if text is not None and (error := self.type_value(p.name, text)):
                host(self).say(error)

        title = f"{p.label}, the slider from {p.low:g} to {p.high:g} · {p.help}"
        self.app.push_screen(Ask(title, f"{self.sampling.values[p.name]:g}"), typed)

    def _type_strategy(self, name: str) -> None:
        """Have a person type a strategy, or a setting of one."""
        strategy = self.strategy

        def typed(text: str | None) -> None:
            if text is not None:
                self._find_by(
                    lambda: decoding.read(text) if name == STRATEGY else with_setting(strategy, name[1:], text)
                )

        value = str(strategy) if name == STRATEGY else _text(_set(strategy, name[1:]))
        title = f"how tokens are found: {strategy.form()}" if name == STRATEGY else f"{name[1:]} of {strategy.form()}"
        self.app.push_screen(Ask(title, value), typed)

    def action_move(self, by: int) -> None:
        if self.parameter is not None:
            self.change(self.sampling.moved(self.parameter, by))

    def action_presets(self) -> None:
        """Have a person choose a preset, or the order of the transforms."""

        def chosen(choice: str | None) -> None:
            if choice is not None:
                self.change(presets.chosen(host(self).home, choice, self.sampling))

        self.app.push_screen(Pick("how tokens are drawn", presets.choices(host(self).home)), chosen)

    def type_value(self, name: str, text: str) -> str:
        """Set a value from what a person typed; gives why it cannot be, or ""."""
        try:
            self.change(self.sampling.with_read({name: text}))
        except ParameterError as error:
            return str(error)
        return ""

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
            name = self.picked = rows[index]
            self.redraw()
            if name in (FOLD, STRATEGY):
                self.action_enter()
            elif name.startswith("#") and offset.x >= self._lift_at(name):
                self.change(self.sampling.lift(int(name[1:])))
        label_width, size = _columns(self.size.width)
        x = offset.x - label_width - 1
        if not keep and not 0 <= x < size:
            return
        p, share = self.parameter, min(max(x / (size - 1), 0.0), 1.0)
        if self.chosen.startswith("="):
            self._drag_strategy(self.chosen[1:], share)
        if p is None:
            return
        value = p.low + round(share * (p.high - p.low) / p.step) * p.step
        self.change(self.sampling.with_value(p.name, round(value, 6)))

    def _drag_strategy(self, name: str, share: float) -> None:
        """Another number of a strategy, `share` of the way between its usual bounds; it is whole where it was."""
        strategy, span, was = self.strategy, self.strategy.SPANS.get(name), _set(self.strategy, name)
        if span is None or not isinstance(was, int | float):
            return
        value = span[0] + share * (span[1] - span[0])
        word = str(round(value)) if isinstance(was, int) else f"{round(value, 1):g}"
        if word != _text(was):
            self._find_by(lambda: with_setting(strategy, name, word))

    def _lift_at(self, name: str) -> int:
        """The column of the sign that lifts a ban or a bias."""
        return sum(cells.width(segment.text) for segment in self._line(name, self.size.width)[:-1])


def _set(strategy: Strategy, name: str) -> object:
    """A setting of a strategy; None where it is not said."""
    return getattr(strategy, name, None)


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _columns(width: int) -> tuple[int, int]:
    """Cells of a label and of a slider."""
    label = max(min(LABEL, width - VALUE - 2 - SHORTEST), 4)
    return label, max(width - label - VALUE - 2, SHORTEST)
