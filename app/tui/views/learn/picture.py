"""`LessonPicture`: the ground of the pictures that are a chapter's own. It draws on a sheet, and measures.

A picture is made when the guess is made. It stays as it is while another chapter or view is looked at, and is gone when
its chapter is begun again, or another model is there. It asks the engine through its host, as a view
does, and draws only what it knows; what it measured it gives by the names that `app.lessons.lesson_views` has for it.

    class OrdersPicture(LessonPicture):
        BINDINGS = [Binding("o", "swap", "Swap order", tooltip="...")]     # one key: the chapter's task
        def set_state(self, state): ...      # begin as the chapter wants it; called once, after it is mounted
        def numbers(self): ...               # {} until they are known: then the guess is compared, the task begins
        def models_changed(self): ...        # another model: measure anew
        def draw(self, sheet): ...           # by its width and height: 77 x 38 of 120 x 40, 80 x 12 of 80 x 24
        KEYS = (("o", "Swap order"),)        # in the line of keys

`self.redraw()` after whatever changes what is drawn. A lesson looks at the numbers four times a second.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from likely.app.lessons.expression import Value
from likely.app.tui.base.drawing.canvas import Canvas
from likely.app.tui.base.drawing.line_widget import Line, LineWidget
from likely.app.tui.base.text import cells
from likely.app.tui.base.text.formula import Formula
from likely.app.tui.chat.candidates import Names
from likely.app.tui.widgets.host import ViewHost, host


class LessonPicture(LineWidget, can_focus=True):
    """Draws a chapter's picture, and has the keys while its task is open."""

    KEYS: ClassVar[tuple[tuple[str, str], ...]] = ()
    failure = ""  # why there are no numbers, in a line; "" where they are there, or come
    begun = False  # its state was set

    @property
    def host(self) -> ViewHost:
        return host(self)

    @property
    def names(self) -> Names:
        """The tokens' names, of the model that is loaded."""
        facts = self.host.engine.current
        return self.host.names_of(facts.name if facts is not None else "")

    def set_state(self, state: Mapping[str, str]) -> None:
        """Begin as the chapter wants it."""

    def numbers(self) -> Mapping[str, Value]:
        """All that was measured, by name; none until all of it is known."""
        return {}

    def models_changed(self) -> None:
        """Another model is loaded, or none is any more."""

    def formula(self) -> Formula | None:
        """The number that is looked at, as a formula."""
        return None

    def wait(self, sheet: Canvas, y: int) -> None:
        """Say in a row why there are no numbers: they failed, are being measured, or their model is being loaded."""
        loading = "the model is being loaded…" if self.host.engine.current is None else "it is being measured…"
        ink = sheet.look.alarm if self.failure else sheet.look.faint
        sheet.put(1, y, cells.fit(self.failure or loading, sheet.width - 2), ink)

    def draw(self, sheet: Canvas) -> None:
        raise NotImplementedError

    def lines(self, width: int, height: int) -> Sequence[Line]:
        sheet = Canvas(width, height, self.look, self.glyphs)
        if width > 20 and height > 3:
            self.draw(sheet)
        return sheet.lines()
