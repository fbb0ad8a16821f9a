"""A canvas drawn on paper: a widget without an app, its rows as text with the name of the ink before each stretch.

`paper` stands in the place of the application while a test draws. `[faint]12 tok` is a stretch in that ink; an ink of
two, as a row's over another, is `row+accent`.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import fields
from types import SimpleNamespace
from typing import Any, TypeVar, cast

from rich.segment import Segment
from rich.style import Style
from textual._context import active_app
from textual.app import App, ComposeResult
from textual.geometry import Size
from textual.message import Message
from textual.pilot import Pilot
from textual.widget import Widget

from likely.app.tui.base import cells
from likely.app.tui.base.canvas import Canvas
from likely.app.tui.base.theme import DARK, GLYPHS, Look, look

LOOK = look(
    {**DARK.variables, **{n: getattr(DARK, n) for n in ("foreground", "background", "primary", "secondary", "accent",
                                                        "error", "success", "panel")}},
    "true",
)  # fmt: skip
W = TypeVar("W", bound=Widget)


class Inks:
    """Names of styles, the first that has one."""

    def __init__(self, look: Look) -> None:
        self.names: dict[Style, str] = {}
        for field in fields(look):
            value = getattr(look, field.name)
            many = {f"{field.name}{i}": each for i, each in enumerate(value)} if isinstance(value, tuple) else {}
            for name, style in many.items() if many else [(field.name, value)]:
                if isinstance(style, Style) and style:
                    self.names.setdefault(style, name)

    def of(self, style: Style | None) -> str:
        if not style:
            return ""
        if style in self.names:
            return self.names[style]
        for one, first in self.names.items():
            for other, second in self.names.items():
                if one + other == style:
                    return f"{first}+{second}"
        return str(style)


INKS = Inks(LOOK)


def inked(line: Sequence[Segment]) -> str:
    """A row, the name of the ink before each stretch that has another one than what stands before it."""
    text, before = "", ""
    for segment in line:
        if not segment.text:
            continue
        ink = INKS.of(segment.style)
        text += (f"[{ink}]" if ink != before else "") + segment.text
        before = ink
    return text


def stand(
    kind: type[W], *args: Any, size: tuple[int, int] = (80, 24), focus: bool = False, drawer: bool = False, **how: Any
) -> W:
    """A widget of a size, with the keys or without, in no app; what it posts is kept in `posted`."""
    its: dict[str, Any] = {
        "size": Size(*size), "has_focus": focus,
        "parent": SimpleNamespace(has_class=lambda name: name == "-drawer" and drawer),
        "refresh": lambda self, *regions, **what: self.asked.append(bool(what.get("layout"))) or self,
        "post_message": lambda self, message: self.posted.append(message) if message.time else None,
    }  # fmt: skip
    its |= {"posted": [], "asked": []}
    made = type(kind.__name__, (kind,), its)(*args, **how)
    asked(made)
    return cast(W, made)


def posted(widget: Widget) -> list[Message]:
    """What a widget has said since the last time."""
    said = list(widget.posted)  # type: ignore[attr-defined]
    widget.posted.clear()  # type: ignore[attr-defined]
    return said


def asked(widget: Widget) -> tuple[bool, bool]:
    """Whether a widget has asked to be drawn anew since the last time, and whether to be laid out anew."""
    laid_out = any(widget.asked)  # type: ignore[attr-defined]
    anew = widget._strips is None if isinstance(widget, Canvas) else bool(widget.asked)  # type: ignore[attr-defined]
    widget.asked.clear()  # type: ignore[attr-defined]
    if isinstance(widget, Canvas):
        widget._strips = []
    return anew, laid_out


def page(canvas: Canvas, width: int, height: int) -> list[str]:
    """The rows that a canvas draws in so much room; behind one that is cut at the edge stands by how much."""
    rows = []
    for line in canvas.lines(width, height):
        over = cells.width("".join(segment.text for segment in line)) - width
        rows.append(inked(line) + (f"  <{over} cut>" if over > 0 else ""))
    return rows


@contextmanager
def paper(**more: Any) -> Iterator[Any]:
    """The look and the glyphs of an application, and whatever else a widget asks its host for."""
    host = SimpleNamespace(look=LOOK, glyphs=GLYPHS, update_styles=lambda *args, **how: None, **more)
    token = active_app.set(cast(Any, host))
    try:
        yield host
    finally:
        active_app.reset(token)


class Lone(App[None]):
    """One widget and nothing else, under a host of what a test gives it; every message that arrived is kept."""

    look, glyphs = LOOK, GLYPHS

    def __init__(self, widget: Widget, css: str = "", **more: Any) -> None:
        self.CSS = css
        super().__init__()
        self.widget, self.heard = widget, list[Message]()
        self.said: list[str] = []
        vars(self).update(more)

    def compose(self) -> ComposeResult:
        yield self.widget

    def say(self, line: str, alarm: bool = False) -> None:
        self.said.append(line)

    def took(self, *kinds: type[Message]) -> list[Any]:
        """The messages of these kinds since the last time, each once."""
        found = list({id(each): each for each in self.heard if isinstance(each, kinds)}.values())
        self.heard.clear()
        return found


@asynccontextmanager
async def alone(
    widget: Widget, size: tuple[int, int] = (60, 16), css: str = "", **more: Any
) -> AsyncIterator[tuple[Lone, Pilot[None]]]:
    """A widget in an app of its own."""
    app = Lone(widget, css, **more)
    async with app.run_test(size=size, message_hook=lambda message: app.heard.append(message)) as pilot:
        await pilot.pause()
        yield app, pilot
