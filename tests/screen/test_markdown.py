"""Markdown as rows of tokens: inline rules beside an implementation that we did not write, and laws of the stream."""

import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.rules_inline.state_inline import Scanned, StateInline
from markdown_it.token import Token
from pygments.lexers import get_lexer_by_name
from pygments.token import Comment, Keyword, Name, Number, Operator, String

from likely.app.tui.base.text import cells, table
from likely.app.tui.base.text.block import MessageBlock, ShownToken
from likely.app.tui.base.text.highlight import Highlight, LexerState
from likely.app.tui.base.text.inline import inline
from likely.app.tui.base.text.markdown import Markdown
from likely.app.tui.base.text.text_style import (
    BOLD,
    CODE,
    COMMENT,
    ITALIC,
    KEYWORD,
    LINK,
    NAME,
    NUMBER,
    STRIKE,
    STRING,
)

PEER = MarkdownIt("commonmark").enable("strikethrough").disable(["html_inline", "entity"])
SIGNS = [*"_`[)a. é", "*", "**", "***", "__", "~~", "``", "](u)", "](", "\\*", "<http://a.b>", "b c"]
OPENED = {"strong_open": BOLD, "em_open": ITALIC, "s_open": STRIKE, "link_open": LINK}


scan_of_the_peer = StateInline.scanDelims


def scan(state: StateInline, start: int, can_split: bool) -> Scanned:
    """The peer's scan of a run of signs, which sees a space behind a link's text where CommonMark's rules have "]"."""
    end, state.posMax = state.posMax, len(state.src)
    try:
        return scan_of_the_peer(state, start, can_split)
    finally:
        state.posMax = end


@pytest.fixture(autouse=True)
def peer_that_sees_brackets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StateInline, "scanDelims", scan)


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
@settings(max_examples=1500)
@given(st.lists(st.sampled_from(SIGNS), max_size=14))
@example(["[", "_", "b c", "`", "__", "](u)"])  # no emphasis, so cmark and commonmark.js say too
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
@settings(max_examples=600)
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
@settings(max_examples=300)
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
@settings(max_examples=300)
@given(TEXTS, CUTS, st.integers(12, 40), st.data())
def test_the_token_under_the_cursor_is_shown_as_it_was_written(text, cuts, width, data) -> None:  # type: ignore[no-untyped-def]
    parts = tokens(text, cuts)
    token = data.draw(st.integers(0, len(parts) - 1))
    it = Markdown(width, raw=token)
    it.push([(part, False) for part in parts])
    seen = "".join(span.text for row in it.wrap.rows for span in row.spans if span.token == token)
    assert "".join(seen.split()) == "".join(cells.clean(parts[token]).split())


@pytest.mark.slow
@settings(max_examples=300)
@given(TEXTS, CUTS, st.integers(1, 5), st.integers(6, 30))
@example('# Title\n\n    """doc\n# Title', [1], 1, 6)  # code by its indentation, after which a text may be divided
def test_a_message_has_the_same_parts_and_rows_however_it_came(text, cuts, batch, width) -> None:  # type: ignore[no-untyped-def]
    """Divided and laid out at once, or as it streams; and its parts are the rows of the whole."""
    made = [ShownToken(token) for token in tokens(f"{text}\n\n" * 6, cuts)]  # of several parts
    grown, filled = (MessageBlock("key", "model", scored=True, rendered=True, growing=True) for _ in range(2))
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
    text, place, start = CODES[language], LexerState(0), 0
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


def test_what_stands_apart_is_no_markdown() -> None:
    it = Markdown(20, first=3)
    it.push([("# a", False), ("*<end>*", True), (" b\n", False), ("*x*\n", True), ("c", False), ("d", True)])
    assert [row.text for row in it.wrap.rows] == ["a*<end>* b\n", "*x*\n", "cd"]
    assert [[span.token for span in row.spans] for row in it.wrap.rows] == [[3, 4, 5, 5, 5], [6, 6], [7, 8]]
    dirty = it.push([("e", False), ("**", True)])
    assert (dirty, it.wrap.rows[-1].text, it.wrap.count) == (2, "cde**", 11)
    raw = Markdown(20, raw=1)
    raw.push([("---", False), ("x", True)])
    assert [row.text for row in raw.wrap.rows] == ["─" * 19 + "x"] or raw.wrap.rows[-1].text == "x"


@pytest.mark.parametrize(
    ("natural", "room", "widths"),
    [
        ([3], 3, [3]), ([3], 2, None), ([9], 5, [5]), ([9], 4, None), ([9, 9], 13, [5, 5]), ([9, 9], 12, None),
        ([9, 9], 20, [8, 9]), ([9, 9], 21, [9, 9]), ([9, 9], 99, [9, 9]), ([2, 30, 4], 26, [2, 14, 4]),
        ([20, 1, 20], 17, [5, 1, 5]), ([20, 1, 20], 16, None), ([20, 8, 20], 30, [8, 8, 8]),
        ([20, 8, 20], 29, [7, 8, 8]), ([0], 1, [0]), ([], 0, []),
    ],
)  # fmt: skip
def test_the_widest_columns_give_way_first(natural: list[int], room: int, widths: list[int] | None) -> None:
    assert table.fit(natural, room) == widths


def test_columns_take_all_the_room_there_is_and_no_more() -> None:
    rng = random.Random(1)
    for _ in range(100):
        natural = [rng.randint(1, 60) for _ in range(rng.randint(1, 8))]
        room = rng.randint(1, 120)
        widths, between = table.fit(natural, room), table.GAP * (len(natural) - 1)
        if widths is None:
            assert sum(min(width, table.LEAST) for width in natural) + between > room
        else:
            assert sum(widths) + between == min(sum(natural) + between, room)
            assert all(0 < width <= most for width, most in zip(widths, natural, strict=True))
