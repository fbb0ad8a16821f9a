"""Markdown as rows of tokens: inline rules beside an implementation that we did not write, and laws of the stream."""

from threading import Event
from unittest.mock import patch

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token
from pygments.lexers import get_lexer_by_name
from pygments.token import Comment, Keyword, Name, Number, Operator, String
from textual.selection import SELECT_ALL

from app.tui.tokens import cells
from app.tui.tokens.block import MessageBlock, ShownToken
from app.tui.tokens.face import BOLD, CODE, COMMENT, ITALIC, KEYWORD, LINK, NAME, NUMBER, STRIKE, STRING
from app.tui.tokens.highlight import Highlight, Place
from app.tui.tokens.inline import inline
from app.tui.tokens.layout import TokenPlace
from app.tui.tokens.markdown import Markdown
from tests.support.model import ANSWER, ScriptedEngine
from tests.tui.conftest import Play, Stage

PEER = MarkdownIt("commonmark").enable("strikethrough").disable(["html_inline", "entity"])
SIGNS = [*"_`[)a. é", "*", "**", "***", "__", "~~", "``", "](u)", "](", "\\*", "<http://a.b>", "b c"]
OPENED = {"strong_open": BOLD, "em_open": ITALIC, "s_open": STRIKE, "link_open": LINK}


def peer(text: str) -> list[tuple[str, int]]:
    """Characters and faces of a paragraph, as the peer has them."""
    found: list[tuple[str, int]] = []

    def read(tokens: list[Token], around: int) -> None:
        stack = [around]
        for token in tokens:
            if token.type in OPENED:
                stack.append(stack[-1] | OPENED[token.type])
            elif token.type.endswith("_close"):
                stack.pop()
            else:
                face = stack[-1] | (CODE if token.type == "code_inline" else 0)
                found.extend((character, face) for character in token.content)

    tokens = PEER.parse(text)
    if [token.type for token in tokens] != ["paragraph_open", "inline", "paragraph_close"]:
        return [("not a paragraph", 0)]
    read(tokens[1].children or [], 0)
    return found


def ours(text: str) -> list[tuple[str, int]]:
    return [
        (character, run.face)
        for run in inline(text, growing=False).runs
        for character in (text[run.start : run.end] if run.shown is None else run.shown)
    ]


@pytest.mark.slow
@settings(max_examples=1500, deadline=None)
@given(st.lists(st.sampled_from(SIGNS), max_size=14))
def test_inline_is_as_the_peer_has_it(parts: list[str]) -> None:
    text = "".join(parts).strip()
    wanted = peer(text)
    if "~~~" not in text and wanted != [("not a paragraph", 0)]:
        assert ours(text) == wanted


LINES = [
    "# Title", "## The **sky** ##", "Air scatters `blue` light **much more", "than** red, by *far*.", "", "", "- Blue",
    "  - nested and *long enough* to wrap", "* * *", "1. one", "12) two `code", "   goes on", "> quoted **words** here",
    "---", "```python", "def f(x):  # ünïcode", '    """doc', "```", "~~~", "| a | b |", "|---|:-:|", "|", "a | b",
    "| 日本 | x **y** `z|` |", "    indented", "[a link](http://a.b/c) and ![alt](u)", "\\*no\\* &amp; \\(x_1\\)",
    "*", "#", "- ", "👍🏽 é 日本語の文",
]  # fmt: skip
TEXTS = st.lists(st.sampled_from(LINES), min_size=1, max_size=9).map("\n".join).filter(bool)
CUTS = st.lists(st.integers(1, 7), min_size=1, max_size=12)


def tokens(text: str, cuts: list[int]) -> list[str]:
    """A text cut into tokens, anywhere."""
    found, at = [], 0
    while at < len(text):
        size = cuts[len(found) % len(cuts)]
        found.append(text[at : at + size])
        at += size
    return found


def drawn(it: Markdown) -> list[object]:
    return [row.drawn for row in it.wrap.rows]


def at_once(text: list[str], width: int, growing: bool = True) -> Markdown:
    it = Markdown(width, growing=growing)
    it.push([(token, False) for token in text])
    return it


@pytest.mark.slow
@settings(max_examples=600, deadline=None)
@given(TEXTS, CUTS, st.integers(1, 5), st.integers(6, 40))
def test_a_stream_is_what_comes_at_once(text: str, cuts: list[int], batch: int, width: int) -> None:
    """Batch by batch the rows are those of the text so far; those before the first that is said to change stay."""
    parts, it = tokens(text, cuts), Markdown(width, growing=True)
    for begin in range(0, len(parts), batch):
        before = drawn(it)
        dirty = it.push([(token, False) for token in parts[begin : begin + batch]])
        assert drawn(it) == drawn(at_once(parts[: begin + batch], width))
        assert drawn(it)[:dirty] == before[:dirty]


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(TEXTS, CUTS, st.integers(6, 40))
def test_every_row_fits_and_every_token_is_found_where_it_is(text: str, cuts: list[int], width: int) -> None:
    parts = tokens(text, cuts)
    it = at_once(parts, width, growing=False)
    for row in it.wrap.rows:
        assert row.width == sum(span.width for span in row.spans) <= width
    for token in range(len(parts)):
        rows = [y for y, row in enumerate(it.wrap.rows) if any(span.token == token for span in row.spans)]
        assert not rows or list(it.wrap.rows_of(token)) == rows
        y, x = it.wrap.place(token)
        if any(span.token == token and span.width and span.text.strip() for row in it.wrap.rows for span in row.spans):
            assert it.wrap.rows[y].at(x) == token


def test_a_table_loses_no_letter_of_a_word_that_is_wider_than_its_column() -> None:
    words = "abcdefghijkl", "mnopqrstuvwxyz"
    for width in range(12, 34):
        it = at_once([f"| {words[0]} | {words[1]} |\n|---|---|\n| 1 | 2 |"], width, growing=False)
        shown = "".join(span.text for row in it.wrap.rows for span in row.spans)
        assert "|" in shown or sorted(filter(str.isalpha, shown)) == sorted("".join(words)), width
    assert "|" not in shown


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(TEXTS, CUTS, st.integers(12, 40), st.data())
def test_the_token_under_the_cursor_is_shown_as_it_was_written(text, cuts, width, data) -> None:  # type: ignore[no-untyped-def]
    parts = tokens(text, cuts)
    token = data.draw(st.integers(0, len(parts) - 1))
    it = Markdown(width, raw=token)
    it.push([(part, False) for part in parts])
    seen = "".join(span.text for row in it.wrap.rows for span in row.spans if span.token == token)
    assert "".join(seen.split()) == "".join(cells.clean(parts[token]).split())


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(TEXTS, CUTS, st.integers(1, 5), st.integers(6, 30))
@example('# Title\n\n    """doc\n# Title', [1], 1, 6)  # code by its indentation, after which a text may be divided
def test_a_message_has_the_same_parts_and_rows_however_it_came(text, cuts, batch, width) -> None:  # type: ignore[no-untyped-def]
    """Divided and laid out at once, or as it streams; and its parts are the rows of the whole."""
    made = [ShownToken(token) for token in tokens(text, cuts)]
    grown, filled = (MessageBlock("key", "model", scored=True, rendered=True, growing=True) for _ in range(2))
    with patch("app.tui.tokens.block.PART", 2):
        grown.resize(width)
        for begin in range(0, len(made), batch):
            grown.extend(made[begin : begin + batch])
        filled.fill(made)
        filled.resize(width)
        places = [(part.first, part.end, part.listed) for part in grown.parts]
        assert places == [(part.first, part.end, part.listed) for part in filled.parts]
        rows = [[row.drawn for part in range(len(it.parts)) for row in it.wrap(part).rows] for it in (grown, filled)]
    assert rows[0] == rows[1] and grown.body_rows == filled.body_rows == len(rows[0])
    whole = Markdown(width, growing=True)
    whole.push([(filled.shown(token), False) for token in range(len(made))])
    assert rows[0] == drawn(whole)


CODES = {
    "python": 'class A:\n    """a doc\n    of lines"""\n    @b\n    def f(self):  # one\n        return not 1.5\n',
    "c": "/* of\n two lines */\nint f(void) {\n  return 3; // one\n}\n",
    "html": "<p class='a'>words\n<!-- of -->\n &amp; 3</p>\n",
    "no such language": "def f(x)\n",
}


@pytest.mark.parametrize("language", CODES)
def test_code_is_lit_line_by_line_as_its_lexer_lights_it_whole(language: str) -> None:
    text, place, start = CODES[language], Place(0), 0
    ours = [0] * len(text)
    highlight = Highlight(language)
    for line in text.splitlines(keepends=True):
        found, place = highlight.line(text, place, start, start + len(line))
        for begin, end, face in found:
            ours[begin:end] = [face] * (end - begin)
        start += len(line)
    whole = [0] * len(text)
    if language != "no such language":
        for at, kind, value in get_lexer_by_name(language).get_tokens_unprocessed(text):
            groups = {COMMENT: [Comment], STRING: [String], NUMBER: [Number], KEYWORD: [Keyword, Operator.Word],
                      NAME: [Name.Function, Name.Class, Name.Tag, Name.Decorator]}  # fmt: skip
            face = next((face for face, kinds in groups.items() if any(kind in each for each in kinds)), 0)
            whole[at : at + len(value)] = [face] * len(value)
        assert len({*whole}) >= 4 - (language == "html")
    assert ours == whole


def shown(stage: Stage) -> list[str]:
    """The transcript's rows."""
    return [line[:72].rstrip() for line in stage.picture().split("\n")]


@pytest.mark.slow
async def test_markdown_is_rendered_while_it_streams(play: Play) -> None:
    engine = ScriptedEngine(scripts=[ANSWER])
    gate, seen = Event(), []
    engine.pace = lambda drawn: seen.append(drawn) or (drawn < 40 or gate.wait(5))  # type: ignore[func-returns-value,assignment]
    async with play(engine) as stage:
        await stage.type("Why is the sky blue?")
        await stage.until(lambda: len(seen) > 40 and "most" in stage.picture())
        assert stage.chat.talk.running
        assert " Why it is blue" in shown(stage) and " Light scatters in air:" in shown(stage)
        gate.set()
        await stage.until(lambda: stage.ended)
        for line in (
            " Why it is blue", " Light scatters in air:", "  • short waves most", "    • see Rayleigh", "  1. red",
            " │ a quote", "  def f(x):", "  return x + 1  # one".replace("  r", "      r"), "  colour     nm",
            "  violet    400", "  red      1700", " Half **of it",
        ):  # fmt: skip
            assert line in shown(stage), line


@pytest.mark.slow
async def test_tokens_stay_walkable_and_what_is_hidden_is_shown_under_the_cursor(play: Play) -> None:
    async with play(ScriptedEngine(scripts=[ANSWER])) as stage:
        await stage.ask("Why is the sky blue?")
        view, block = stage.chat.pane.view, stage.chat.pane.view.blocks[1]
        view.focus()
        await stage.pilot.press("up", *["left"] * len(block.tokens), "ctrl+home")
        place, walked = TokenPlace(1, 0), []
        view.move_to(place)
        while True:
            _, y = view.layout_.cell_of(view.cursor)  # type: ignore[arg-type]
            spot = view.layout_.spot(y)
            row = view.layout_.row(spot)  # type: ignore[arg-type]
            assert view.cursor is not None and row is not None
            walked.append(view.cursor.token)
            text = block.tokens[view.cursor.token].text.strip()
            mine = "".join(span.text for span in row.spans if span.token == view.cursor.token)
            assert block.tokens[view.cursor.token].special or text in mine
            await stage.pilot.press("right")
            if view.cursor.token == walked[-1]:
                break
        assert walked == list(range(len(block.tokens)))
        bold = next(i for i, token in enumerate(block.tokens) if "**" in token.text)
        view.move_to(TokenPlace(1, bold))
        assert "Light **scatters in air:" in stage.picture() or "Light **scatters** in air:" in stage.picture()
        view.move_to(TokenPlace(1, 0))
        await stage.pilot.pause()
        assert "Light scatters in air:" in stage.picture()
        await stage.pilot.press("m")
        assert "Light **scatters** in air:" in stage.picture() and "```python" in stage.picture()
        await stage.pilot.press("m")
        assert "Light scatters in air:" in stage.picture()
        await stage.pilot.resize_terminal(120, 16)  # a part of the answer is seen
        view.move_to(TokenPlace(1, len(block.tokens) // 3))
        await stage.pilot.pause()
        row = lambda: view.layout_.cell_of(view.cursor)[1] - view.layout_.seen  # type: ignore[arg-type]  # noqa: E731
        for seen in (row(), row()):
            assert view.layout_.seen > 0 and not view.following
            await stage.pilot.press("m")
            assert row() == seen


@pytest.mark.slow
async def test_a_click_finds_a_token_of_what_is_rendered(play: Play) -> None:
    async with play(ScriptedEngine(scripts=[ANSWER])) as stage:
        await stage.ask("Why is the sky blue?")
        view = stage.chat.pane.view
        for word in ("Rayleigh", "1700", "return"):
            lines = stage.picture().split("\n")
            y = next(i for i, line in enumerate(lines) if word in line[:70])
            await stage.pilot.click(offset=(lines[y].index(word) + 1, y))
            assert view.cursor is not None and word in view.blocks[1].tokens[view.cursor.token].text


async def test_what_is_selected_is_the_words_without_the_margin(play: Play) -> None:
    async with play(ScriptedEngine(scripts=[ANSWER])) as stage:
        await stage.ask("Why is the sky blue?")
        view = stage.chat.pane.view
        text, _ = view.get_selection(SELECT_ALL) or ("", "")
        assert "def f(x):\n    return x + 1  # one\n" in text and "\n• short waves most\n" in text


async def test_what_is_rendered_keeps_its_tint_and_code_its_colours(play: Play) -> None:
    async with play(ScriptedEngine(scripts=[ANSWER])) as stage:
        await stage.ask("Why is the sky blue?")
        view, look = stage.chat.pane.view, stage.app.look
        block = view.blocks[1]
        words = ("short", "Rayleigh", "return", "1700", "blue")  # emphasis, a link, code, a table, a heading
        for hot in (False, True):
            for index, token in enumerate(block.tokens):
                block.tokens[index] = token._replace(
                    level=4 if hot and any(word in token.text for word in words) else 0
                )
            view.redraw()
            await stage.pilot.pause()
            cells_of = [s for strip in stage.strips()[3:] for s in strip.crop(0, 72) if s.style is not None]
            for word in words:
                filled = [s.style.bgcolor == look.heat[4].bgcolor for s in cells_of if s.text.strip() == word]
                assert any(filled) is hot, word
            if not hot:
                ink = {
                    word: {s.style.color for s in cells_of if s.text.strip() == word} for word in ("def", "return", "x")
                }
                assert ink["def"] != ink["x"] and ink["return"] == ink["def"]
