"""A text that can be edited anywhere, tinted by what the model makes of it."""

from itertools import groupby
from typing import cast

from rich.text import Text
from textual.document._document import Document, Location
from textual.message import Message
from textual.strip import Strip

from likely.app.tui.base.drawing.line_widget import Painted
from likely.app.tui.base.input.text_field import TextField
from likely.app.tui.base.text.cells import one_to_one

EXAMPLE = """Any text: every token is measured as you type, and ctrl+r goes on from the cursor.
Try   The first three prime numbers are 2, 3 and   and look at what the model expects next."""


class TextBuffer(TextField):
    """`tint` colours characters; what is typed after that stays plain until the next."""

    class Moved(Message):
        """The text or the cursor has changed."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(
            id=id,
            placeholder=EXAMPLE,
            show_line_numbers=False,
            soft_wrap=True,
            tab_behavior="focus",
            highlight_cursor_line=False,
        )
        self.cursor_blink = False
        self._levels: list[int] = []  # of each character
        self._levels_text = ""

    @property
    def place(self) -> int:
        """The cursor's place in the text."""
        return self.index_of(self.cursor_location)

    def index_of(self, location: Location) -> int:
        """Where in the text a row and column are."""
        assert isinstance(self.document, Document)
        return int(self.document.get_index_from_location(location))

    def stand(self, index: int) -> None:
        """Put the cursor before a character of the text."""
        assert isinstance(self.document, Document)
        self.move_cursor(self.document.get_location_from_index(index))

    @property
    def measured(self) -> int:
        """How many of its first characters stand as they did when they were tinted."""
        return len(self._levels_text)

    def tint(self, text: str, levels: list[int]) -> None:
        """Tint the characters of `text`; those of the buffer that differ from it stay plain."""
        self._levels, self._levels_text = levels, text
        self._line_cache.clear()
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """A row; without columns an empty one, where the example has no width to be wrapped to."""
        return super().render_line(y) if self.content_size.width else Strip.blank(self.size.width)

    def get_line(self, line_index: int) -> Text:
        line = self.document.get_line(line_index)
        text = Text(one_to_one(line), end="", no_wrap=True)
        start = self.index_of((line_index, 0))
        heat = cast(Painted, self.app).look.heat
        levels = []
        for at, character in enumerate(line, start):
            known = at < len(self._levels) and self._levels_text[at] == character != " "
            levels.append(self._levels[at] if known else 0)
        begin = 0
        for level, run in groupby(levels):
            end = begin + len(list(run))
            if level:
                text.stylize(heat[level], begin, end)
            begin = end
        return text

    def on_text_area_changed(self) -> None:
        common = 0
        for a, b in zip(self._levels_text, self.text, strict=False):
            if a != b:
                break
            common += 1
        self._levels, self._levels_text = self._levels[:common], self._levels_text[:common]
        self._line_cache.clear()
        self.post_message(self.Moved())

    def on_text_area_selection_changed(self) -> None:
        self.post_message(self.Moved())
