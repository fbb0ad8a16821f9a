"""The text that is edited anywhere: which characters are tinted, and what stays tinted while it changes."""

import pytest
from rich.text import Text

from likely.app.tui.widgets.buffer import TextBuffer
from tests.tui.widgets.alone import Alone
from tests.tui.widgets.drawing import LOOK


def spans(line: Text) -> list[tuple[int, int, int]]:
    """The tinted runs of a line: from, to, level."""
    return [(span.start, span.end, LOOK.heat.index(span.style)) for span in line.spans]  # type: ignore[arg-type]


async def test_words_are_tinted_by_their_levels() -> None:
    it = TextBuffer(id="it")
    async with Alone(it, css="TextBuffer { width: 30; height: 6; }").run_test(size=(40, 12)) as pilot:
        moved: list[str] = []
        old = it.post_message

        def keep(message: TextBuffer.Moved) -> bool:
            if isinstance(message, TextBuffer.Moved):
                assert not message.is_forwarded
                moved.append(it.text)
                return True
            return old(message)

        it.post_message = keep  # type: ignore[method-assign, assignment]
        assert it.id == "it" and it.soft_wrap and not it.show_line_numbers and not it.cursor_blink
        assert it.measured == 0 and not it.highlight_cursor_line and it.tab_behavior == "focus"
        text = "the sky\nis blue"
        it.text = text
        await pilot.pause()
        assert moved and moved[-1] == text
        levels = [0, 1, 1, 1, 2, 2, 2, 3, 4, 4, 4, 1, 1, 2, 2]
        drawn = it.render_line(0).text
        refreshed: list[bool] = []
        it.refresh = lambda *regions, **what: bool(refreshed.append(True)) or it  # type: ignore[method-assign, func-returns-value]
        it.tint(text, levels)
        del it.refresh
        assert refreshed == [True]
        assert it.measured == 15
        # "the", then a space that is not tinted, "sky"; the line break has a level and no cell
        assert spans(it.get_line(0)) == [(1, 3, 1), (4, 7, 2)]
        assert spans(it.get_line(1)) == [(0, 2, 4), (3, 5, 1), (5, 7, 2)]
        assert it.get_line(0).plain == "the sky" and it.get_line(0).no_wrap and it.get_line(0).end == ""
        await pilot.pause()
        tinted = [seg.style.color for seg in it.render_line(1) if seg.style and seg.text == "bl"]
        assert tinted == [LOOK.heat[1].color] and it.render_line(0).text == drawn

        # of a text that differs only what is alike is tinted, of a longer one only what is known
        it.tint("thx sky\nis", levels[:10])
        assert spans(it.get_line(0)) == [(1, 2, 1), (4, 7, 2)] and spans(it.get_line(1)) == [(0, 2, 4)]
        it.tint(text, levels)

        # typed in the middle: what stands behind is plain until it is measured again
        it.stand(9)
        assert it.place == 9 == it.index_of((1, 1)) and it.cursor_location == (1, 1)
        moved.clear()
        it.insert("x")
        await pilot.pause()
        assert it.text == "the sky\nixs blue" and it.measured == 9
        assert spans(it.get_line(0)) == [(1, 3, 1), (4, 7, 2)] and spans(it.get_line(1)) == [(0, 1, 4)]
        assert it._levels == levels[:9] and len(moved) >= 2  # the text, and the cursor
        await pilot.pause()
        behind = [seg.style.color for seg in it.render_line(1) if seg.style and "blue" in seg.text]
        assert behind and LOOK.heat[1].color not in behind
        it.stand(16)
        it.insert("!")
        await pilot.pause()
        assert it.measured == 9
        it.tint(it.text, [1] * len(it.text))
        it.stand(0)
        it.move_cursor((1, 9))
        it.insert("?")
        await pilot.pause()
        assert it.measured == 17 and spans(it.get_line(1)) == [(0, 3, 1), (4, 9, 1)]
        moved.clear()
        it.stand(3)
        await pilot.pause()
        assert moved == [it.text]
        it.text = "a\tb\x1b"
        await pilot.pause()
        assert it.get_line(0).plain == "a\tb␛" and it.measured == 0


async def test_what_was_drawn_before_a_change_was_heard_of_is_drawn_anew() -> None:
    it = TextBuffer()
    async with Alone(it, css="TextBuffer { width: 30; height: 6; }").run_test(size=(40, 12)) as pilot:
        it.text = "abcc"
        await pilot.pause()
        it.tint("abcc", [1, 1, 1, 1])
        it.stand(1)
        it.insert("x")
        tinted = LOOK.heat[1].color

        def drawn() -> str:
            """The characters that are tinted."""
            return "".join(text for text, style, _ in it.render_line(0) if style and style.color == tinted)

        assert drawn() == "ac"  # of the text as it was, one stands there by chance
        await pilot.pause()
        assert drawn() == "a" and it.measured == 1


@pytest.mark.parametrize("width", [0, 1])
async def test_a_buffer_without_columns_has_an_empty_row(width: int) -> None:
    it = TextBuffer()
    async with Alone(it, css=f"TextBuffer {{ width: {width}; height: 3; border: none; padding: 0; }}").run_test(
        size=(40, 12)
    ):
        assert (it.render_line(0).text.strip() == "") == (not width)
