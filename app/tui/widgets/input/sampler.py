"""The sampler: how tokens are found, then what acts, in the order in which it runs, then bans and biases; what is off
is folded away, and so is what a search makes no use of."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import ClassVar, cast

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.widget import Widget

from likely.app.store.sampling_text import shown
from likely.app.tui.base import presets
from likely.app.tui.base.answer_settings import ABOUT, FORM, STRATEGY, AnswerSettings
from likely.app.tui.base.drawing.line_widget import Line, LineWidget
from likely.app.tui.base.sampling import Sampling
from likely.app.tui.base.text import cells
from likely.app.tui.base.theme import track
from likely.app.tui.chat import decoding
from likely.app.tui.widgets.host import host
from likely.app.tui.widgets.lists.overlays import Ask, Pick
from likely.engine.base.errors import LikelyError
from likely.engine.decode.loop.strategy import Strategy
from likely.engine.measure.answer_form import FORMS
from likely.engine.sampling.presets import PARAMETERS
from likely.engine.sampling.transforms import Parameter

LABEL = 15  # less where there is no room
VALUE = 7
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
        Binding("u", "undo", "Undo", id="sampler.undo"),
    ]

    class RowsChanged(Message):
        """There are more rows than before, or fewer."""

    class Changed(Message):
        """Other settings; `walked`: by a step of many."""

        def __init__(self, settings: AnswerSettings, *, walked: bool = False) -> None:
            super().__init__()
            self.settings, self.walked = settings, walked

    class UndoAsked(Message):
        """The last change is to be taken back."""

    def __init__(self, *, id: str | None = None, strategies: bool = False) -> None:
        """`strategies`: more than the sliders can be chosen: how tokens are found, and what is asked of answers."""
        super().__init__(id=id)
        self.settings = AnswerSettings()
        self.strategies = strategies
        self.names: Callable[[int], str] = lambda token: f"#{token}"  # of the tokens with a ban or a bias
        self.picked = "temp"
        self.unfolded = False
        self.top = 0
        self._dragging = False
        self._name = ""  # of the preset that was shown

    @property
    def sampling(self) -> Sampling:
        return self.settings.sampling

    @property
    def strategy(self) -> Strategy:
        return self.settings.strategy

    def show(self, settings: AnswerSettings) -> None:
        before, self.settings = (self.settings, self._name), settings
        if (settings, self._called()) != before:  # what its values are called hangs on the model, too
            self.redraw()
            if self._height(settings) != self._height(before[0]):
                self.refresh(layout=True)

    def _called(self) -> str:
        """The preset that the values are, "" for none."""
        return presets.name_of(self.sampling, host(self).engine.current)

    def _on(self, p: Parameter) -> bool:
        """Whether a parameter acts; temperature always does."""
        return not self.strategy.SEARCHES and (p.name == "temp" or self.sampling.active(p))

    def _asked(self) -> list[str]:
        """The rows of what is asked of answers."""
        return self.settings.rows(whole=self.has_focus) if self.strategies else []

    def rows(self) -> list[str]:
        """The rows by name: parameters that act, tokens with a ban or bias, the fold, and what is in it."""
        parameters = self.sampling.rows()
        acting = [p.name for p in parameters if self._on(p) and (p.off is not None or self.has_focus)]
        tokens = [f"#{token}" for token in (*self.sampling.bans, *(token for token, _ in self.sampling.biases))]
        resting = [p.name for p in parameters if not self._on(p)]
        fold = [FOLD] if resting else []
        return [*self._asked(), *acting, *tokens, *fold, *(resting if self.unfolded else [])]

    def _height(self, settings: AnswerSettings) -> tuple[object, ...]:
        """The values on which the number of rows depends, to compare before and after a change."""
        sampling = settings.sampling
        acting = sum(p.name == "temp" or sampling.active(p) for p in sampling.rows()) + len(sampling.bias)
        return acting, settings.strategy, settings.rows(whole=False)

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
        parts = [self.strategy.TITLE, "p as it is"] if searches else []
        self._name = self._called()
        parts = parts or [part for part in (self._name, f"{self.sampling.order_name} order") if part]
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
        if name in self._asked():
            return self._asked_line(name, width, look.row if picked else look.text)
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

    def _asked_line(self, name: str, width: int, ink: Style) -> Line:
        """A row of what is asked of answers: a number at the right, its slider before it; words behind the label."""
        look, settings = self.look, self.settings
        (label, words), share, (size, room) = settings.shown(name), settings.share(name), _columns(width)
        label_cell = Segment(cells.pad(label, size), ink)
        if share is not None:
            slider = track(share, room, look, self.glyphs, on=True, picked=self.has_focus and name == self.chosen)
            return [label_cell, Segment(" "), *slider, Segment(cells.pad(words, VALUE + 1, right=True), look.text)]
        if name.startswith("=") or (words.isdecimal() and name not in (FORM, STRATEGY)):
            value = Segment(cells.pad(words, VALUE + 1, right=True), look.text)
            return [Segment(cells.pad(label, width - VALUE - 1), ink), value]
        ink = look.text if settings.off(name) == settings else look.chosen
        return [label_cell, Segment(" "), Segment(cells.fit(words, width - size - 1), ink)]

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

    def change(self, settings: AnswerSettings, *, walked: bool = False) -> None:
        """Other settings, by a person."""
        if settings != self.settings:
            self.show(settings)
            self.post_message(self.Changed(settings, walked=walked))

    def _try(self, settings: Callable[[], AnswerSettings], *, walked: bool = False) -> None:
        """Change to settings, or say why they cannot be."""
        try:
            self.change(settings(), walked=walked)
        except LikelyError as error:
            host(self).say(str(error))

    def _sampled(self, sampling: Sampling) -> None:
        self.change(replace(self.settings, sampling=sampling))

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
        elif self.chosen in self._asked():
            self.action_type()

    def action_strategy(self) -> None:
        """Have a person choose how tokens are found."""
        if not self.strategies:
            host(self).say("here tokens are found one by one: the chat (f2) has a choice")
            return

        def chosen(choice: str | None) -> None:
            if choice:
                self._try(lambda: self.settings.read(STRATEGY, choice.removeprefix("strategy ")))

        self.app.push_screen(Pick("how tokens are found", decoding.offered(host(self).engine)), chosen)

    def action_step(self, by: int) -> None:
        name, settings = self.chosen, self.settings
        if name == STRATEGY:
            known = [id.removeprefix("strategy ") for id, _ in decoding.offered(host(self).engine) if id]
            kinds = [type(decoding.read(text)) for text in known]
            at = kinds.index(type(settings.strategy)) if type(settings.strategy) in kinds else 0
            self._try(lambda: settings.read(STRATEGY, known[min(max(at + by, 0), len(known) - 1)]))
        elif name == FORM:
            self.action_type()
        elif name in self._asked() or name in PARAMETERS:
            self.picked = name  # a row that is moved joins those that act, and is picked there
            self._try(lambda: settings.stepped(name, by), walked=True)

    def action_off(self) -> None:
        """Off: a parameter, a ban or a bias, or what is asked of answers."""
        if self.chosen != FOLD:
            self._try(lambda: self.settings.off(self.chosen).checked())

    def action_default(self) -> None:
        if (p := self.parameter) is not None:
            self._sampled(self.sampling.with_value(p.name, p.default))

    def action_undo(self) -> None:
        """Take back the last change."""
        if self.strategies:
            self.post_message(self.UndoAsked())
        else:
            host(self).say("here changes are not kept: the chat (f2) takes them back")

    def action_type(self) -> None:
        """Have a person type the value of the picked row."""
        name = self.chosen
        if name == FORM and self.settings.form is None:
            rows = [(kind, f"{kind:<12} {takes:<12} {ABOUT[kind]}") for kind, takes in FORMS.items()]
            self.app.push_screen(Pick("what form an answer has", rows), lambda kind: self.ask(kind) if kind else None)
        elif name == FORM and self.settings.form is not None:
            self.ask(self.settings.form.kind)
        elif name in PARAMETERS or name in self._asked():
            self.ask(name)

    def ask(self, name: str) -> None:
        """Have a person type the value of a row, or a form of a kind."""
        form, settings = self.settings.form, self.settings
        if name in PARAMETERS:
            value = f"{settings.sampling.values[name]:g}"
        elif name in FORMS:
            value = form.text if form is not None and form.kind == name else ""
        else:
            value = settings.text(name)

        def typed(text: str | None) -> None:
            if text is not None:
                self._try(lambda: self.settings.read(name, text))

        self.app.push_screen(Ask(settings.named(name), value), typed)

    def action_move(self, by: int) -> None:
        if self.parameter is not None:
            self._sampled(self.sampling.moved(self.parameter, by))

    def action_presets(self) -> None:
        """Have a person choose a preset, or the order of the transforms."""
        facts = host(self).engine.current

        def chosen(choice: str | None) -> None:
            if choice is not None:
                self._sampled(presets.chosen(host(self).home, choice, self.sampling, facts))

        self.app.push_screen(Pick("how tokens are drawn", presets.choices(host(self).home, facts)), chosen)

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
            if name == FOLD or (name in self._asked() and self.settings.share(name) is None):
                self.action_enter()
            elif name.startswith("#") and offset.x >= self._lift_at(name):
                self.change(self.settings.off(name))
        label_width, size = _columns(self.size.width)
        x = offset.x - label_width - 1
        if not keep and not 0 <= x < size:
            return
        share = min(max(x / (size - 1), 0.0), 1.0)
        if self.chosen in PARAMETERS or self.settings.share(self.chosen) is not None:
            self._try(lambda: self.settings.dragged(self.chosen, share), walked=keep)

    def _lift_at(self, name: str) -> int:
        """The column of the sign that lifts a ban or a bias."""
        return sum(cells.width(segment.text) for segment in self._line(name, self.size.width)[:-1])


def _columns(width: int) -> tuple[int, int]:
    """Cells of a label and of a slider."""
    label = max(min(LABEL, width - VALUE - 2 - SHORTEST), 4)
    return label, max(width - label - VALUE - 2, SHORTEST)
