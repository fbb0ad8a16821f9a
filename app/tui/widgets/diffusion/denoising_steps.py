"""The steps of a denoising: how many words each decided, where words were taken back, and a slider that walks them."""

from collections.abc import Sequence

from rich.segment import Segment
from textual import events
from textual.message import Message

from likely.app.tui.base.drawing.line_widget import Line, LineWidget
from likely.app.tui.base.text import cells
from likely.app.tui.chat.denoising import Denoising

LABEL = 10  # cells before the picture
LOW = 4  # words a step that fill a row at least
TICKS = 4  # numbers under the slider, the first and the last among them


class DenoisingSteps(LineWidget):
    """Bars, marks and the slider, each in a row; with few rows the heading and the numbers go."""

    class Walked(Message):
        """A person points at a step."""

        def __init__(self, step: int) -> None:
            super().__init__()
            self.step = step

    canvas: Denoising | None = None
    step: int = 0
    live: bool = False

    def show(self, canvas: Denoising | None, step: int, live: bool) -> None:
        self.canvas, self.step, self.live = canvas, step, live
        self.redraw()

    def lines(self, width: int, height: int) -> Sequence[Line]:
        look, glyphs, canvas = self.look, self.glyphs, self.canvas
        if canvas is None or not canvas.steps:
            return []
        room = self._room(width)
        decided = [Segment(cells.pad(" decided", LABEL), look.faint), *self._bars(room)]
        revised = [Segment(cells.pad(" revised", LABEL), look.faint), *self._marks(room)]
        slider = [
            Segment(cells.pad(f" {self.step}/{canvas.planned or canvas.steps}", LABEL), look.chosen),
            *self._slider(room),
        ]
        if height < 3:
            return [slider] if height == 1 else [decided, slider]
        if height < 5:
            return [decided, revised, slider]
        title: Line = [
            Segment(" STEPS", look.heading),
            Segment(f"  words decided at each, {glyphs.down} taken back", look.faint),
            Segment(f"   {glyphs.live} live" if self.live else "", look.accent),
        ]
        return [title, decided, revised, slider, self._axis(room)]

    def _room(self, width: int) -> int:
        return max(width - LABEL - 1, 4)

    def column(self, step: int, room: int) -> int:
        """Where a step, from 1, stands in so many cells."""
        assert self.canvas is not None
        return min((step - 1) * room // self.canvas.scale, room - 1)

    def _filled(self, room: int) -> list[int]:
        """The step that each cell shows, 0 for none; several steps of a cell are shown by the one that decided most."""
        assert self.canvas is not None
        steps = [0] * room
        for step in range(1, self.canvas.steps + 1):
            start, end = self.column(step, room), self.column(step + 1, room) if step < self.canvas.scale else room
            for x in range(start, max(end, start + 1)):
                if not steps[x] or self.canvas.decided[step - 1] > self.canvas.decided[steps[x] - 1]:
                    steps[x] = step
        return steps

    def _bars(self, room: int) -> list[Segment]:
        assert self.canvas is not None
        look, glyphs, most = self.look, self.glyphs, max(self.canvas.most(), LOW)
        here = self.column(self.step, room) if self.step else -1
        line: list[Segment] = []
        for step in self._filled(room):
            if not step:
                line.append(Segment(glyphs.line, look.rule))
                continue
            count, shown = self.canvas.decided[step - 1], self.column(step, room) == here
            level = max(round(count / most * len(glyphs.levels)), 1) - 1
            ink = look.chosen_bar if shown else look.bar_cut if step > self.step else look.bar
            line.append(Segment(glyphs.levels[level] if count else " ", ink))
        return line

    def _marks(self, room: int) -> list[Segment]:
        assert self.canvas is not None
        marked = {self.column(step, room) for step in self.canvas.times_revised(self.canvas.steps)}
        row = "".join(self.glyphs.down if x in marked else " " for x in range(room))
        return [Segment(row, self.look.accent)]

    def _slider(self, room: int) -> list[Segment]:
        look, glyphs = self.look, self.glyphs
        knob = self.column(self.step, room) if self.step else 0
        return [
            Segment(glyphs.full * knob, look.bar),
            Segment(glyphs.knob, look.accent),
            Segment(glyphs.line * (room - knob - 1), look.track),
        ]

    def _axis(self, room: int) -> Line:
        assert self.canvas is not None
        scale = self.canvas.scale
        row = [" "] * (LABEL + room)
        for i in range(TICKS):
            step = 1 + round((scale - 1) * i / (TICKS - 1))
            word = str(step)
            x = LABEL + self.column(step, room)
            x = min(x, LABEL + room - len(word))
            if not "".join(row[x - 1 : x + len(word)]).strip():
                row[x : x + len(word)] = word
        return [Segment("".join(row), self.look.faint)]

    def on_click(self, event: events.Click) -> None:
        offset = event.get_content_offset(self)
        if offset is None or self.canvas is None or not self.canvas.steps:
            return
        room = self._room(self.size.width)
        x = min(max(offset.x - LABEL, 0), room - 1)
        near = min(range(1, self.canvas.steps + 1), key=lambda step: abs(self.column(step, room) - x))
        self.post_message(self.Walked(near))
