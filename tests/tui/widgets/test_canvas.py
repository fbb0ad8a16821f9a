"""Canvases on a screen: what is kept of a drawing, and when it is drawn anew."""

from collections.abc import Sequence

from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.filter import LineFilter
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from app.tui.widgets.body import Body, Left
from app.tui.widgets.canvas import CachedWidget, Canvas, Line, filtered
from tests.tui.widgets.alone import Alone
from tests.tui.widgets.drawing import LOOK, Pictures


class Counted(Canvas, can_focus=True):
    """Says at which size it was drawn, and how often."""

    drawn = 0

    def lines(self, width: int, height: int) -> Sequence[Line]:
        self.drawn += 1
        rows = [f"{width}x{height}", "a row that is much longer", "second", "third", "fourth"]
        return [[Segment(row, LOOK.faint)] for row in rows[: 2 if height == 4 else 5]]


class Kept(CachedWidget):
    """Counts how often it was rendered."""

    rendered = 0

    def render(self) -> str:
        self.rendered += 1
        return "words"


class Upper(LineFilter):
    """Capitals only, in bold."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        return [Segment(text.upper(), (style or Style()) + Style(bold=True)) for text, style, _ in segments]


def rows(strips: Sequence[Strip]) -> list[str]:
    return [strip.text for strip in strips]


async def test_a_canvas_is_drawn_once_until_something_changes() -> None:
    it = Counted(id="it", classes="one two")
    other = Counted()
    assert it.id == "it" and it.has_class("one") and it.has_class("two")
    async with Alone(it, other, css="Counted { width: 10; height: 3; }").run_test(size=(40, 12)) as pilot:
        assert it.look is LOOK and it.glyphs.chosen == "▶"
        it.app._filters = []
        it.redraw()
        await pilot.pause()
        whole = ["10x3      ", "a row that", "second    "]
        assert rows(it.render_lines(Region(0, 0, 10, 3))) == whole
        first = it.drawn
        assert it.render_lines(Region(0, 0, 10, 3)) is it.render_lines(Region(0, 0, 10, 3))
        assert rows(it.render_lines(Region(0, 1, 10, 2))) == whole[1:]
        assert rows(it.render_lines(Region(2, 1, 3, 1))) == ["row"]
        assert it.render_line(2).text == whole[2] and it.drawn == first
        assert it.render_line(3).text == " " * 10
        assert all(segment.style == it.rich_style + LOOK.faint for segment in it.render_line(1))
        for change in (it.redraw, it.notify_style_update):
            before = it.drawn
            change()
            it.render_lines(Region(0, 0, 10, 3))
            it.render_lines(Region(0, 0, 10, 3))
            assert it.drawn == before + 1
        it.redraw()
        await pilot.pause()
        assert it.drawn == before + 2
        for change in (other.focus, it.focus):
            before = it.drawn
            change()
            await pilot.pause()
            assert it.drawn > before
        it.styles.height = 4
        await pilot.pause()
        assert rows(it.render_lines(Region(0, 0, 10, 4))) == ["10x4      ", "a row that", " " * 10, " " * 10]
        it.styles.border = ("ascii", "red")
        it.redraw()
        await pilot.pause()
        assert rows(it.render_lines(Region(0, 0, 10, 4))) == ["+--------+", "|8x2     |", "|a row th|", "+--------+"]


def test_another_size_or_focus_asks_for_another_drawing(pictures: Pictures) -> None:
    it = Counted()
    for change in (it.on_resize, it.on_focus, it.on_blur):
        change()
        assert pictures.redraws() == 1


def test_another_style_is_no_more_the_one_that_was_kept() -> None:
    for it in (Counted(), Kept()):
        it._rich_style_cache["x"] = (LOOK.faint, LOOK.text)  # type: ignore[index, assignment]
        it.notify_style_update()
        assert not it._rich_style_cache


async def test_a_widget_gives_what_it_gave_until_it_is_refreshed() -> None:
    it = Kept()
    async with Alone(it, css="Kept { width: 10; height: 2; }").run_test(size=(40, 12)) as pilot:
        whole, part = Region(0, 0, 10, 2), Region(0, 0, 10, 1)
        given = it.render_lines(whole)
        assert rows(given) == ["words     ", " " * 10] and it.render_lines(whole) is given
        cut = it.render_lines(part)
        assert rows(cut) == ["words     "] and it.render_lines(part) is cut
        for change in (it.refresh, it.notify_style_update):
            given = it.render_lines(whole)
            change()
            again = it.render_lines(whole)
            assert again is not given
            await pilot.pause()
        assert it.refresh(layout=True) is it
        rendered = it.rendered
        it.refresh()
        await pilot.pause()
        assert it.rendered > rendered
        it.styles.width = 12
        await pilot.pause()
        assert rows(it.render_lines(Region(0, 0, 12, 1))) == ["words       "]


async def test_rows_go_through_the_filters_of_the_terminal() -> None:
    it = Widget()
    async with Alone(it).run_test(size=(40, 12)):
        strips = [Strip([Segment("red"), Segment("blue", LOOK.faint)])]
        it.app._filters = []
        assert filtered(it, strips) == strips
        it.app._filters = [Upper()]
        (found,) = filtered(it, strips)
        assert found.text == "REDBLUE" and all(segment.style and segment.style.bold for segment in found)


async def test_what_only_arranges_others_gives_no_rows() -> None:
    async with Alone(Body(Left(Counted()))).run_test(size=(40, 12)) as pilot:
        for kind in (Body, Left):
            assert pilot.app.query_one(kind).render_lines(Region(0, 0, 40, 12)) == []
