"""Canvases drawn without an app: every row as its text, and below it the ink of each cell, one letter an ink."""

from collections.abc import Sequence
from dataclasses import fields
from functools import cache
from types import SimpleNamespace
from typing import Any, cast

from rich.style import Style
from textual.geometry import Offset, Size
from textual.message import Message
from textual.widget import Widget

from likely.app.tui.base import cells
from likely.app.tui.base.canvas import Canvas, Line
from likely.app.tui.base.theme import SHAPES, Look
from tests.pictures import assert_picture
from tests.tui.inks import LETTERS, letters

GROUNDS = ("cursor", "row", "tab", "band")  # inks that fill a cell


def _look() -> Look:
    """A look whose inks all differ."""
    named = {}
    for number, name in enumerate((name for name, row in LETTERS.items() if len(row) == 1), 20):
        colour = f"color({number})"
        named[name] = Style(color=colour)
        if name in GROUNDS:
            named[name] = Style(color=None if name == "band" else f"color({number + 100})", bgcolor=colour)
    levels = [Style(), *(Style(color=f"color({number})") for number in (61, 62))]
    levels += [Style(color="color(63)", bgcolor="color(83)"), Style(reverse=True)]
    shared = (Style(), *(Style(bgcolor=f"color({number})") for number in (71, 72, 73)))
    tints = tuple(Style(bgcolor=f"color({number})") for number in range(90, 99))
    more = {"heat": tuple(levels), "shared": shared, "tints": tints, "tiles": tints, "kinds": SHAPES}
    assert {*named, *more} == {field.name for field in fields(Look) if field.init and field.name != "_faces"}
    return Look(**cast(Any, {**named, **more}))


LOOK = _look()
INKS = {Style(): "."} | letters(LOOK)


@cache
def ink(style: Style | None) -> str:
    """The letter of a style; of a sum its parts in brackets."""
    style = style or Style()
    if style in INKS:
        return INKS[style]
    for one, letter in INKS.items():
        for other, second in (*INKS.items(), (Style(bold=True), "bold")):
            if other + one == style or one + other == style:
                return f"({letter}{second})"
    named = {str(look.color or look.bgcolor): letter for look, letter in reversed(INKS.items())}
    return f"({named.get(str(style.color))} on {named.get(str(style.bgcolor))}{' bold' * bool(style.bold)})"


def shown(lines: Sequence[Line]) -> str:
    """Rows as text, each with its inks in the row below; what has no letter is named at the right."""
    found = []
    for line in lines:
        text = "".join(segment.text for segment in line)
        below, beside = "", dict[str, str]()
        for segment in line:
            letter = ink(segment.style)
            if len(letter) > 1:
                letter = beside.setdefault(letter, "@#$%&"[len(beside)])
            below += letter * cells.width(segment.text)
        names = "".join(f" {letter}={name}" for name, letter in beside.items())
        found += [f"|{text}|", f" {below}{names}"]
    return "\n".join(found)


class Pictures:
    """What is drawn in a test, part by part, and the file that it is compared with."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.said: list[Message] = []  # by widgets that were put up
        self.redrawn: list[Canvas] = []  # the widgets that were asked to draw anew, each as often as it was

    def redraws(self) -> int:
        """How often any was since this was asked last."""
        count = len(self.redrawn)
        self.redrawn.clear()
        return count

    def up(self, widget: Widget, size: tuple[int, int] = (80, 24), *, focus: bool = False) -> None:
        """Have a widget as if it were on a screen: of a size, with or without the focus; what it posts is kept."""
        assert widget.id is None
        widget._size = Size(*size)
        widget._container_size = Size(*size)
        widget.set_reactive(Widget.has_focus, focus)
        widget.post_message = self._keep  # type: ignore[method-assign]

    def _keep(self, message: Message) -> bool:
        assert not message.is_forwarded
        self.said.append(message)
        return True

    def draw(self, canvas: Canvas, width: int, height: int, about: str = "", *, focus: bool = False) -> str:
        """A canvas at a size: no row is wider, and none is more than there is room for."""
        self.up(canvas, (width, height), focus=focus)
        drawn = shown(canvas.lines(width, height))
        self.parts.append(f"-- {about or type(canvas).__name__} {width}x{height}\n{drawn}")
        return drawn

    def sweep(self, canvas: Canvas, widths: range, height: int, rows: slice = slice(None), about: str = "") -> None:
        """Some rows of a canvas at all these widths, as text."""
        drawn = []
        for width in widths:
            self.up(canvas, (width, height))
            texts = ("".join(segment.text for segment in line) for line in canvas.lines(width, height)[rows])
            drawn.append(f"{width:>3} |{'|'.join(texts)}|")
        self.parts.append("\n".join([f"-- {about or type(canvas).__name__}", *drawn]))

    def add(self, lines: Sequence[Line], about: str) -> None:
        self.parts.append(f"-- {about}\n{shown(lines)}")

    def compare(self, name: str) -> None:
        assert_picture(f"tui/pictures/widgets/{name}.txt", self.parts)


def click(x: int, y: int) -> Any:
    """A click on a cell of a widget without a border."""
    return SimpleNamespace(x=x, y=y, get_content_offset=lambda widget: Offset(x, y))


def beside() -> Any:
    """A click on no cell of the content."""
    return SimpleNamespace(x=0, y=0, get_content_offset=lambda widget: None)
