"""The transcript's rows in an app of their own: what is seen, where keys and clicks lead, what stays."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.app import App, ComposeResult
from textual.geometry import Offset, Region
from textual.message import Message
from textual.pilot import Pilot
from textual.selection import Selection
from textual.strip import Strip

from app.tui.theme import GLYPHS
from app.tui.tokens.block import MessageBlock, ShownToken
from app.tui.tokens.layout import HEAD, Spot, TokenPlace
from app.tui.widgets.rows import TranscriptRows
from app.tui.widgets.token_view import TokenView
from tests.tui.drawn import LOOK


class ViewApp(App[None]):
    """A view and nothing else."""

    CSS = """TokenView {
        height: 1fr; overflow-x: hidden; overflow-y: auto; scrollbar-gutter: stable; scrollbar-size-vertical: 1;
    }"""
    look, glyphs = LOOK, GLYPHS

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[Message] = []

    def compose(self) -> ComposeResult:
        yield TokenView(id="view")

    def on_transcript_rows_follow_changed(self, event: TranscriptRows.FollowChanged) -> None:
        self.heard.append(event)

    def on_token_view_cursor_moved(self, event: TokenView.CursorMoved) -> None:
        self.heard.append(event)

    def on_token_view_chosen(self, event: TokenView.Chosen) -> None:
        self.heard.append(event)

    def on_token_view_fold_toggled(self, event: TokenView.FoldToggled) -> None:
        self.heard.append(event)


class Seat:
    """The app, its view, and what the view has said since the last time."""

    def __init__(self, app: ViewApp, pilot: Pilot[None]) -> None:
        self.app, self.pilot, self.view = app, pilot, app.query_one(TokenView)

    async def said(self) -> list[Any]:
        await self.pilot.pause()
        found = list(self.app.heard)
        self.app.heard.clear()
        return found

    async def moved(self) -> list[TokenPlace | None]:
        """Where the cursor went."""
        return [event.place for event in await self.said() if isinstance(event, TokenView.CursorMoved)]

    def rows(self) -> list[str]:
        """What is seen of the view, row by row."""
        view = self.view
        return [strip.text.rstrip() for strip in view.render_lines(Region(0, 0, view.size.width, view.size.height))]

    def lit(self) -> list[str]:
        """The words in the cursor's ink, or underlined as a mark is."""
        view = self.view
        strips = view.render_lines(Region(0, 0, view.size.width, view.size.height))
        inked = [segment for strip in strips for segment in cast(Iterable[Segment], strip) if segment.style is not None]
        return [segment.text for segment in inked if cast(Style, segment.style).bgcolor == LOOK.cursor.bgcolor]


@asynccontextmanager
async def seated(*blocks: MessageBlock, size: tuple[int, int] = (30, 8)) -> AsyncIterator[Seat]:
    app = ViewApp()
    async with app.run_test(size=size) as pilot:
        seat = Seat(app, pilot)
        await pilot.pause()
        if blocks:
            seat.view.show(blocks)
            await pilot.pause()
        app.heard.clear()
        yield seat


def block(key: str, *tokens: str | ShownToken, who: str = "model", **more: Any) -> MessageBlock:
    made = MessageBlock(key, who, scored=True, **more)
    made.fill([ShownToken(token) if isinstance(token, str) else token for token in tokens])
    return made


def question() -> MessageBlock:
    return block("q", "Why", " is", " it", "?", who="you")


def lines(count: int, start: int = 0) -> list[str]:
    return [part for i in range(start, start + count) for part in (f"line{i}", " more", "\n")]


def at(x: int, y: int, chain: int = 1) -> events.Click:
    return cast(events.Click, SimpleNamespace(chain=chain, get_content_offset=lambda widget: Offset(x, y)))


THOUGHT = ["<think>", " deep", "</think>", "\n\n", " Then", " words"]


async def test_rows_follow_the_newest_and_stay_where_a_reader_scrolled_to() -> None:
    async with seated(question(), block("a", *lines(5), growing=True)) as seat:
        view = seat.view
        assert view.following and view.virtual_size.height == 11 and view.layout_.width == 29
        assert seat.rows() == [
            "",
            " model",
            " line0 more",
            " line1 more",
            " line2 more",
            " line3 more",
            " line4 more",
            "",
        ]
        view.extend([ShownToken("line5"), ShownToken("\n")])
        assert seat.rows()[-3:] == [" line4 more", " line5", ""] and view.behind == 0
        assert not await seat.said()
        view.scroll_to(y=2, animate=False)
        (follow,) = await seat.said()
        assert (follow.following, follow.behind) == (False, 0) and seat.rows()[0] == " Why is it?"
        view.extend([ShownToken("line6"), ShownToken("\n")])
        view.extend([ShownToken("x")])
        assert [(e.following, e.behind) for e in await seat.said()] == [(False, 2), (False, 3)]
        assert seat.rows()[0] == " Why is it?" and view.virtual_size.height == 13
        view.scroll_to(y=99, animate=True)  # at once all the same
        (follow,) = await seat.said()
        assert (follow.following, follow.behind, view.behind) == (True, 0, 0) and seat.rows()[-1] == " x"
        view.show([question()], follow=False)
        assert not view.following and view.max_scroll_y == 0 and seat.rows()[2] == " Why is it?"
        view.show([question()], follow=True)
        assert view.following
        view.show([question()])
        assert view.following


async def test_what_grows_is_drawn_and_nothing_else() -> None:
    async with seated(question(), block("a", " The", " sky", growing=True)) as seat:
        view = seat.view
        seat.rows()
        drawn = view.strips_rendered
        seat.rows()
        assert view.strips_rendered == drawn
        view.extend([ShownToken(" looks")])
        assert seat.rows()[5] == " The sky looks" and view.strips_rendered == drawn + 1
        view.renote(1, ("3 tok",))
        assert seat.rows()[4] == " model  3 tok" and view.strips_rendered == drawn + 2
        view.renote(1, ("3 tok",))
        seat.rows()
        assert view.strips_rendered == drawn + 2
        view.renote(1, ("3 tok · and far more than there is room for", "3 t"))
        assert seat.rows()[4] == " model  3 t" and view.strips_rendered == drawn + 3
        view.redraw()
        seat.rows()
        assert view.strips_rendered == drawn + 3 + 6
        view.line_ends = True
        view.extend([ShownToken("\n"), ShownToken("<think>"), ShownToken(" x")])
        assert seat.rows()[3:] == ["", " model  3 t", " ▾ thinking · 2 tokens", " The sky looks⏎", " <think> x"]
        assert view.render_line(4).text.rstrip() == " model  3 t"
        assert [strip.text for strip in view.render_lines(Region(1, 4, 5, 1))] == ["model"]
        assert view.render_lines(Region(0, 4, 30, 2))[0] is view.render_lines(Region(0, 4, 30, 2))[0]
        view.show([])
        assert seat.rows() == [""] * 8 and {strip.cell_length for strip in view.render_lines(Region(0, 0, 30, 8))} == {
            30
        }


async def test_the_cursor_walks_by_token_row_page_and_edge() -> None:
    async with seated(question(), block("a", *lines(20))) as seat:
        view, last = seat.view, TokenPlace(1, 59)
        assert view.newest() == last and view.cursor is None and seat.lit() == []
        walks: list[tuple[Any, TokenPlace | None]] = [
            (lambda: view.action_token(1), last), (lambda: view.action_token(1), last),
            (lambda: view.action_token(-1), TokenPlace(1, 58)), (lambda: view.action_token(-1), TokenPlace(1, 57)),
            (lambda: view.action_row(-1), TokenPlace(1, 54)), (lambda: view.action_row(1), TokenPlace(1, 57)),
            (lambda: view.action_token(1), TokenPlace(1, 58)), (lambda: view.action_row(-1), TokenPlace(1, 55)),
            (view.action_edge, TokenPlace(1, 54)), (lambda: view.action_token(1), TokenPlace(1, 55)),
            (lambda: view.action_page(-1), TokenPlace(1, 37)), (lambda: view.action_page(1), TokenPlace(1, 55)),
            (view.action_first, TokenPlace(0, 0)), (lambda: view.action_token(-1), TokenPlace(0, 0)),
            (lambda: view.action_row(1), TokenPlace(1, 0)), (view.action_latest, None),
            (lambda: view.action_row(-1), TokenPlace(1, 56)), (view.action_latest, None),
            (lambda: view.action_page(-1), TokenPlace(1, 41)), (view.action_latest, None),
            (view.action_edge, TokenPlace(1, 57)), (view.action_latest, None),
            (lambda: view.action_token(-1), TokenPlace(1, 58)),
        ]  # fmt: skip
        for number, (walk, place) in enumerate(walks):
            walk()
            assert view.cursor == place, number
            assert await seat.moved() == [place], number
            assert len(seat.lit()) == (place is not None), number
            bottom = view.scroll_offset.y == view.max_scroll_y
            assert view.following is bottom and (place is not None or bottom), number


async def test_a_column_is_kept_from_row_to_row() -> None:
    async with seated(block("a", "abcdef", "\n", "x", "\n", "ab", "cd", "ef", "\n", "y")) as seat:
        view = seat.view
        view.move_to(TokenPlace(0, 6))
        for _ in range(2):
            view.action_row(-1)
        assert view.cursor == TokenPlace(0, 0)
        for place in (3, 6):
            view.action_row(1)
            assert view.cursor == TokenPlace(0, place)
        view.action_row(-1)
        view.action_token(-1)  # the goal is another from here on
        assert view.cursor == TokenPlace(0, 2)
        view.action_row(1)
        assert view.cursor == TokenPlace(0, 4)
        view.action_page(-1)
        assert view.cursor == TokenPlace(0, 0)  # as far up as there are rows
        view.action_first()
        view.action_row(1)
        view.action_row(1)
        assert view.cursor == TokenPlace(0, 4)


async def test_surprises_are_found_in_either_direction_from_four_bits_on() -> None:
    hot = [ShownToken(f" w{level}", level) for level in (0, 1, 2, 0, 3, 1, 4, 0)]
    async with seated(question(), block("a", *hot)) as seat:
        view = seat.view
        for by, place in ((1, 2), (1, 4), (1, 6), (1, 6), (-1, 4), (-1, 2), (-1, 2)):
            view.action_surprise(by)
            assert view.cursor == TokenPlace(1, place)
        view.move_to(None)
        view.action_surprise(1)
        assert view.cursor == TokenPlace(1, 2)  # from the beginning on
        view.move_to(None)
        view.action_surprise(-1)
        assert view.cursor == TokenPlace(1, 6)
        view.show([])
        for act in (
            lambda: view.action_surprise(1), lambda: view.action_token(1), lambda: view.action_page(1),
            view.action_first,
            view.action_edge, view.action_choose, lambda: view.action_row(1),
        ):  # fmt: skip
            act()
        assert view.cursor is None and view.newest() is None


async def test_a_cursor_is_seen_with_a_row_beside_it_and_dropped_with_its_token() -> None:
    async with seated(block("a", *lines(30))) as seat:
        view = seat.view
        for token, top in (
            (0, 1), (15, 1), (18, 2), (21, 3), (60, 16), (57, 16), (54, 16), (51, 16), (48, 16), (45, 16), (42, 15),
            (39, 14),
        ):  # fmt: skip
            view.move_to(TokenPlace(0, token))
            y = view.layout_.cell_of(TokenPlace(0, token))[1]
            assert view.scroll_offset.y == view.layout_.seen == top, token
            assert top <= y < top + 8 and seat.lit() == [f"line{token // 3}"]
        view.move_to(TokenPlace(0, 0), scroll=False)
        assert view.scroll_offset.y == 14
        view.mark = TokenPlace(0, 48)
        view.redraw()
        styles = [s.style for strip in view.render_lines(Region(0, 0, 30, 8)) for s in strip if s.text == "line16"]
        assert styles and styles[0] is not None and styles[0].underline
        view.mark = TokenPlace(1, 48)
        view.redraw()
        styles = [s.style for strip in view.render_lines(Region(0, 0, 30, 8)) for s in strip if "line16" in s.text]
        assert styles and (styles[0] is None or not styles[0].underline)
        view.move_to(TokenPlace(0, 60))
        view.show([block("a", *lines(20))])
        assert view.cursor is None
        view.move_to(TokenPlace(0, 59))
        view.show([block("a", *lines(20))])
        assert view.cursor == TokenPlace(0, 59)
        view.show([question()])
        assert view.cursor is None
        view.shared = [1, 0, 2, 3]
        view.redraw()
        grounds = {
            s.style.bgcolor
            for strip in view.render_lines(Region(0, 2, 30, 1))
            for s in strip
            if s.style and s.text.strip()
        }
        assert {LOOK.shared[i].bgcolor for i in (1, 2, 3)} <= grounds
        view.show([question(), question()])
        view.redraw()
        first = {
            s.style.bgcolor
            for strip in view.render_lines(Region(0, 2, 30, 1))
            for s in strip
            if s.style and s.text.strip()
        }
        assert not {LOOK.shared[i].bgcolor for i in (1, 2, 3)} & first


async def test_clicks_stand_on_tokens_ask_for_alternatives_and_unfold() -> None:
    async with seated(question(), block("a", *THOUGHT, folded=True)) as seat:
        view = seat.view
        assert seat.rows() == ["", " you", " Why is it?", "", " model", " ▸ thinking · 3 tokens", " Then words", ""]
        for x, y, place in (
            (1, 2, (0, 0)),
            (5, 2, (0, 1)),
            (0, 2, (0, 0)),
            (99, 2, (0, 3)),
            (2, 6, (1, 4)),
            (9, 6, (1, 5)),
        ):
            view.on_click(at(x, y))
            assert view.cursor == TokenPlace(*place), (x, y)
            assert await seat.moved() == [TokenPlace(*place)]
        view.on_click(at(9, 6))
        assert [(type(e).__name__, e.place) for e in await seat.said()] == [("Chosen", TokenPlace(1, 5))]
        view.on_click(at(4, 5))
        assert [(type(e).__name__, e.block) for e in await seat.said()] == [("FoldToggled", 1)]
        for x, y in ((3, 0), (3, 1), (3, 4), (3, 7), (3, 20)):
            view.on_click(at(x, y))
        view.on_click(cast(events.Click, SimpleNamespace(chain=1, get_content_offset=lambda widget: None)))
        assert not await seat.said() and view.cursor == TokenPlace(1, 5)
        view.action_choose()
        assert [e.place for e in await seat.said()] == [TokenPlace(1, 5)]
        view.action_latest()
        view.action_choose()
        assert (await seat.said())[-1].place == TokenPlace(1, 5)
        view._goal = 3
        view.on_click(at(5, 2))
        assert view._goal is None


async def test_a_tooltip_names_the_tokens_that_make_one_character() -> None:
    smile = [" a", ShownToken("", 2, piece=b"\xf0\x9f"), ShownToken("🙂x", 0, piece=b"\x99\x82x"), " b"]
    async with seated(block("a", *smile)) as seat:
        view = seat.view
        said = "🙂 is made by 2 tokens: \\xF0\\x9F  \\x99\\x82x"
        for x, y, tooltip in (
            (3, 2, None),
            (2, 2, said),
            (0, 2, None),
            (5, 2, None),
            (9, 2, None),
            (2, 1, None),
            (2, 2, said),
            (2, 9, None),
        ):
            view.on_mouse_move(
                cast(events.MouseMove, SimpleNamespace(get_content_offset=lambda widget, x=x, y=y: Offset(x, y)))
            )
            assert (None if view.tooltip is None else str(view.tooltip)) == tooltip or (x, tooltip) == (3, None), (x, y)
        view.on_mouse_move(cast(events.MouseMove, at(2, 2)))
        view.on_mouse_move(cast(events.MouseMove, SimpleNamespace(get_content_offset=lambda widget: None)))
        assert view.tooltip is None


async def test_what_is_selected_is_text_without_soft_line_breaks() -> None:
    words = ["one", " two", " three", " four", " five", " six", " seven", "\n", "eight", " nine"]
    async with seated(question(), block("a", *words), size=(24, 12)) as seat:
        view = seat.view
        assert seat.rows()[5:8] == [" one two three four", " five six seven", " eight nine"]
        whole = view.get_selection(Selection(None, None))
        assert whole == ("\nyou\nWhy is it?\n\nmodel\none two three four five six seven\neight nine", "\n")
        spot = lambda y: cast(Spot, view.layout_.spot(y)).number  # noqa: E731
        for start, end, text in (
            ((5, 5), (4, 6), "two three four fiv"), ((0, 6), (24, 6), "five six seven"), ((1, 7), (6, 7), "eight"),
            ((7, 7), (24, 7), "nine"), ((0, 1), (3, 2), "you\nWh"), ((2, 2), (4, 2), "hy"),
        ):  # fmt: skip
            found = view.get_selection(Selection(Offset(start[0], spot(start[1])), Offset(end[0], spot(end[1]))))
            assert found is not None and found[0].split() and found[0] == text, (start, end, found)
        view.show([])
        assert view.get_selection(Selection(None, None)) is None


async def test_a_fold_keeps_what_was_seen_where_it_was() -> None:
    thinking = ["<think>", *lines(6), "</think>", "\n"]
    blocks = [question(), block("a", *thinking, *lines(12)), block("b", *lines(12))]
    async with seated(*blocks) as seat:
        view = seat.view
        view.scroll_to(y=20, animate=False)
        await seat.said()
        before = seat.rows()
        place = view.layout_.first_seen()
        view.show_otherwise(lambda: blocks[1].fold(True))
        assert (
            place is not None and view.layout_.cell_of(place)[1] == view.scroll_offset.y and seat.rows()[0] == before[0]
        )
        view.move_to(TokenPlace(1, 40), scroll=False)
        above = view.layout_.cell_of(TokenPlace(1, 40))[1] - view.scroll_offset.y
        view.show_otherwise(lambda: blocks[1].fold(False))
        assert view.layout_.cell_of(TokenPlace(1, 40))[1] - view.scroll_offset.y == above
        blocks[1].fold(True)
        view.relay()
        assert " ▸ thinking · 20 tokens" in [strip.text.rstrip() for strip in map(view._draw, [Spot(1, HEAD, 2)])]
        view.action_latest()
        view.show_otherwise(lambda: blocks[1].fold(False))
        await seat.said()
        assert view.following and seat.rows()[-2:] == [" line11 more", ""]


async def test_a_token_is_shown_as_it_was_written_while_the_cursor_is_on_it() -> None:
    made = block("a", " A", " **", "bold", "**", " word")
    made.render(True)
    async with seated(made) as seat:
        view = seat.view
        assert seat.rows()[2] == " A bold word"
        view.move_to(TokenPlace(0, 1))
        assert seat.rows()[2] == " A **bold word" and seat.lit() == ["**"]
        view.move_to(TokenPlace(0, 4))
        assert seat.rows()[2] == " A bold word"
        view.move_to(TokenPlace(0, 3))
        assert seat.rows()[2] == " A bold** word"
        view.move_to(None)
        assert seat.rows()[2] == " A bold word"


async def test_another_width_lays_out_anew_and_keeps_the_first_row() -> None:
    async with seated(block("a", *[f" word{i}" for i in range(60)]), size=(30, 6)) as seat:
        view = seat.view
        view.scroll_to(y=5, animate=False)
        await seat.said()
        first = view.layout_.first_seen()
        await seat.pilot.resize_terminal(60, 6)
        await seat.pilot.pause()
        assert view.layout_.width == 59 and first is not None
        y = view.layout_.cell_of(first)[1]
        assert view.layout_.seen <= y < view.layout_.seen + 6
        await seat.pilot.resize_terminal(160, 6)
        await seat.pilot.pause()
        assert view.layout_.width == 100
        await seat.pilot.resize_terminal(3, 6)
        await seat.pilot.pause()
        assert view.layout_.width == 2


@pytest.mark.parametrize("rows", [1, 2, 3, 8])
async def test_a_row_is_brought_into_little_room(rows: int) -> None:
    async with seated(block("a", *lines(12)), size=(30, rows)) as seat:
        view = seat.view
        for token in (0, 18, 33, 3):
            view.move_to(TokenPlace(0, token))
            y = view.layout_.cell_of(TokenPlace(0, token))[1] - view.scroll_offset.y
            edge = min(1, (rows - 1) // 2)
            assert edge <= y < rows - edge or token in (0, 33), (token, y)
            assert 0 <= y < rows and seat.lit() == [f"line{token // 3}"]
        view.move_to(TokenPlace(0, 0))
        view.action_page(1)
        assert view.cursor == TokenPlace(0, 3 * max(rows - 2, 1))


async def test_a_page_keeps_its_column_over_short_rows_and_other_moves_forget_it() -> None:
    tokens = [part for _ in range(10) for part in ("ab", "cd", "ef", "\n", "x", "\n")]
    async with seated(block("a", *tokens)) as seat:
        view = seat.view
        view.move_to(TokenPlace(0, 50))
        view.action_page(-1)
        assert view.cursor == TokenPlace(0, 32) and view._goal == 4
        view.action_row(-1)
        assert view.cursor == TokenPlace(0, 29) and view._goal == 4
        for act in (
            lambda: view.action_token(-1),
            view.action_edge,
            view.action_first,
            view.action_latest,
            lambda: view.action_surprise(1),
        ):
            view._goal = 3
            act()
            assert view._goal is None


async def test_where_rows_are_scrolled_clicks_and_tooltips_are_of_what_is_seen() -> None:
    tokens = ["a", "b", "\n"] * 20
    async with seated(block("a", *tokens)) as seat:
        view = seat.view
        view.scroll_to(y=10, animate=False)
        await seat.said()
        for x, y, token in ((0, 0, 24), (1, 0, 24), (2, 0, 25), (3, 3, 35)):
            view.on_click(at(x, y))
            assert view.cursor == TokenPlace(0, token), (x, y)
        view.move_to(None)
        view.screen.selections = {view: Selection(None, None)}
        view.on_click(at(1, 0))
        assert view.cursor is None  # what was selected stays so
        view.on_click(at(1, 0, chain=2))
        assert view.cursor is not None
        view.screen.selections = {}
        view.move_to(None)
        view.on_click(at(1, 0))
        assert view.cursor is not None


async def test_what_is_selected_is_seen() -> None:
    async with seated(question(), block("a", *lines(4))) as seat:
        view = seat.view
        ground = view.screen.get_component_rich_style("screen--selection").bgcolor
        spot = lambda y: cast(Spot, view.layout_.spot(y)).number  # noqa: E731
        view.screen.selections = {view: Selection(Offset(3, spot(5)), Offset(5, spot(6)))}
        view.redraw()
        strips = [list(strip) for strip in view.render_lines(Region(0, 0, 30, 8))]
        on = lambda s: s.style is not None and s.style.bgcolor == ground  # noqa: E731
        rows = ["".join(s.text if on(s) else "." * len(s.text) for s in strip) for strip in strips]
        seen = [(y, row.strip(".").rstrip()) for y, row in enumerate(rows) if row.strip(".")]
        top = view.scroll_offset.y
        assert seen == [(5 - top, "ne0 more"), (6 - top, " line")]
        number = spot(5)
        metas = [s.style.meta["offset"] for s in strips[5 - top] if s.style is not None]
        assert metas[0] == (0, number) and {y for _, y in metas} == {number}


async def test_all_of_a_long_text_is_selected_whatever_was_laid_out() -> None:
    words = [f"{'word' * (i % 9 + 1)} " if i % 13 else "\n" for i in range(1, 800)]
    async with seated(block("a", *words), question(), size=(24, 6)) as seat:
        found = seat.view.get_selection(Selection(None, None))
        assert found is not None
        said = found[0].split("\n")
        assert [line.rstrip() for line in said[2:]] == [
            line.rstrip() for line in f"{''.join(words)}\n\nyou\nWhy is it?".split("\n")
        ]


async def test_a_row_that_grows_is_drawn_alone_and_another_style_draws_all() -> None:
    async with seated(question(), block("a", *lines(3), growing=True)) as seat:
        view = seat.view
        seat.rows()
        drawn = view.strips_rendered
        view.extend([ShownToken("x")])
        assert seat.rows()[-1] == " x" and view.strips_rendered == drawn + 1
        view.notify_style_update()
        seat.rows()
        assert view.strips_rendered == drawn + 9
        for first, end, left in ((0, 993, 1001), (993, 994, 1)):
            view._strips.update({Spot(9, 9, i): Strip([]) for i in range(first, end)})
            view._touch(cast(Spot, view.layout_.spot(view.layout_.height - 1)))
            seat.rows()
            assert len(view._strips) == left  # they are bounded
        seat.rows()
        drawn = view.strips_rendered - 9
        view.extend([ShownToken("<think>"), ShownToken("y")])  # a line above the body: all of the message moves
        assert seat.rows()[-1] == " x<think>y" and view.strips_rendered == drawn + 9 + 7


async def test_a_view_that_follows_stays_at_the_end_in_another_size() -> None:
    async with seated(block("a", *lines(30)), size=(30, 8)) as seat:
        for width, height in ((30, 5), (20, 12), (40, 8)):
            await seat.pilot.resize_terminal(width, height)
            await seat.pilot.pause()
            assert seat.view.following and seat.rows()[-2:] == [" line29 more", ""]
            bar = seat.view.vertical_scrollbar
            assert (bar.window_size, bar.window_virtual_size, bar.position) == (height, 33, 33 - height)


class Bar:
    """A scroll bar that counts what it is told."""

    def __init__(self) -> None:
        self.told = 0

    def __setattr__(self, name: str, value: object) -> None:
        vars(self)[name] = value
        if name == "position":
            vars(self)["told"] += 1


def test_a_scroll_bar_is_told_where_it_looks_different() -> None:
    """It is drawn in eighths of a cell: of 800 rows in 8, each eighth stands for 12.5 rows."""
    bar = Bar()
    view = cast(Any, SimpleNamespace(
        size=SimpleNamespace(height=8), layout_=SimpleNamespace(height=800), scroll_y=0, show_vertical_scrollbar=True,
        _thumb=None, vertical_scrollbar=bar,
    ))  # fmt: skip
    told = []
    for y in (0, 6, 7, 18, 19, 19):
        view.scroll_y = y
        TranscriptRows._place_bar(view)
        told.append(bar.told)
    assert told == [1, 1, 2, 2, 3, 3] and view._thumb == (2, 1)
    assert vars(bar) == {"told": 3, "position": 19, "window_virtual_size": 800, "window_size": 8}
    for height, count in ((799, 3), (400, 4)):
        view.layout_.height = height
        TranscriptRows._place_bar(view)
        assert bar.told == count
    view.show_vertical_scrollbar, view.scroll_y = False, 300
    TranscriptRows._place_bar(view)
    assert bar.told == 4
    view.show_vertical_scrollbar, view.layout_.height = True, 0
    TranscriptRows._place_bar(view)
    assert bar.told == 5
