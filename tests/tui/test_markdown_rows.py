"""Markdown as rows in detail: documents beside rows that were looked at, whole and as they come, and tables."""

import random

import pytest

from app.tui.tokens import cells, table
from app.tui.tokens.face import (
    BOLD,
    CODE,
    COMMENT,
    ITALIC,
    KEYWORD,
    LINK,
    MARKUP,
    NAME,
    NUMBER,
    RULE,
    STRIKE,
    STRING,
    TITLE,
)
from app.tui.tokens.lines import Divider
from app.tui.tokens.markdown import Markdown
from app.tui.tokens.wrap import NOBODY, CellRow
from tests.pictures import assert_picture
from tests.tui.test_markdown import at_once, drawn, tokens

DOCUMENTS = {
    "headings": "# Title of *it* #\n## Two ##\n###### six `x` \n #\n####### seven\nwords\n# \n",
    "paragraphs": "One *two\nthree* four\n   five **six seven eight** nine\n\n\nten\n  eleven [twelve](u) thirteen",
    "lists": "- one\n- two words that are long\n  - three\n    more of three\n\n   still a list\n"
    "1. four\n12) five\n+  six\n\nout\n   in",
    "quotes": "> one *two* three four five\n>> six\n> - seven eight nine\n>* ten\n> 1. eleven\n"
    "> > > > > > > twelve\nout",
    "code": "```python\ndef f(x):  # one\n    return 'a long text of letters'\n\n```\n  ~~~\n    in\n"
    " out\n ~~~\n- a\n\n  ```\n  b\n  ```",
    "code after a list": "- a\n\n```\nb\n```\n\n    c\n- d\n```\ne\n```\n    f\n",
    "blank lines": "a\n  \n\t\n   \nb",
    "an open heading": "# Title #",
    "code in a string": "```bash '\nx=1 # one\n```\n",
    "indented": "    code by its margin\n\n\tand a tab\nwords\n    no code\n\n- item\n\n    no code either\n",
    "tables": "| one | two | three |\n|:--|--:|:-:|\n| a | *b* | `c` |\n| long words here | 日本 | |\n|x\nout\n",
    "a table in a list": "- a\n\n  | b | c |\n  |---|---|\n  | d | e | f |\n",
    "no table": "| a | b |\n|---|\n\n| a |\n\n|a|b\n|-|-|\n| `c|d` | e\\|f |",
    "rules": "---\nwords\n***\n  * * *\n- - -\n--\n",
    "signs": "&amp; \\*a\\* <http://a.b> ~~gone~~ ![pic](u)\na***b***c __d__\n",
    "wide": "日本語の**文**です👍🏽 é\u0301 &nbsp;x\n- 日本語の文\n> 語\n",
    "open ends": "# *a\n- **b\n> `c\n| d | e |\n|--",
    "open code": "words\n```py\nx = 1",
}
CUTS = [3, 1, 5, 2, 4]
LETTERS = {
    BOLD: "b", ITALIC: "i", STRIKE: "s", LINK: "l", TITLE: "t", CODE: "c", MARKUP: "m", RULE: "r", KEYWORD: "K",
    STRING: "S", COMMENT: "C", NUMBER: "N", NAME: "D",
}  # fmt: skip


def faced(row: CellRow) -> str:
    """The text of a row, each face before what is in it."""
    said, last = "", 0
    for span in row.spans:
        if span.face != last:
            said += "{" + "".join(letter for bit, letter in LETTERS.items() if span.face & bit) + "}"
        said, last = said + span.text, span.face
    return said.replace("\n", "⏎")


def told(it: Markdown, *, changed: bool = True) -> list[str]:
    """Every row with its faces, and the token of each character below."""
    lines = [f"  not as written {sorted(it.changed)}"] * changed
    for row in it.wrap.rows:
        owners = "".join(("." if s.token == NOBODY else chr(97 + s.token % 26)) * len(s.text) for s in row.spans)
        facts = f" fill {row.fill}" * bool(row.fill) + f" lead {row.lead}" * bool(row.lead) + " broken" * row.broken
        lines += [f"  |{faced(row)}|", f"  |{owners}|{row.first}{facts}"]
    return [*lines, f"  ended {it.ended} listed {it.listed}"]


@pytest.mark.parametrize("about", DOCUMENTS)
def test_rows_are_as_they_were_looked_at(about: str) -> None:
    lines, text = [], tokens(DOCUMENTS[about], CUTS)
    for width in (8, 21, 60):
        whole, growing = (told(at_once(text, width, growing)) for growing in (False, True))
        lines += [f"{about}, {width} columns", *whole]
        lines += ["  as long as it grows", *growing] if growing != whole else []
    assert_picture(f"tui/pictures/texts/markdown-{about.replace(' ', '-')}.txt", lines)


@pytest.mark.parametrize("about", DOCUMENTS)
def test_a_stream_is_what_comes_at_once(about: str) -> None:
    parts = tokens(DOCUMENTS[about], CUTS)
    for width, batch in ((21, 1), (8, 4)):
        it = Markdown(width, first=5, growing=True)
        rows = drawn(it)
        for begin in range(0, len(parts), batch):
            dirty = it.push([(token, False) for token in parts[begin : begin + batch]])
            whole = Markdown(width, first=5, growing=True)
            whole.push([(token, False) for token in parts[: begin + batch]])
            assert told(it, changed=False) == told(whole, changed=False) and it.changed >= whole.changed
            assert drawn(it)[:dirty] == rows[:dirty]
            assert dirty == len(drawn(it)) or drawn(it)[dirty:] != rows[dirty:]
            rows = drawn(it)
        assert it.wrap.count == 5 + len(parts) and it.text == cells.clean(DOCUMENTS[about])


def test_more_text_renders_only_what_is_open() -> None:
    """After each token the place in the text from which on more would be rendered anew."""
    lines = []
    for about, text in {**DOCUMENTS, **GROWING}.items():
        it, places = Markdown(40, growing=True), list[int]()
        for token in tokens(text, [1 if about in GROWING else 4]):
            it.push([(token, False)])
            places.append(it._anchor.at)
        settled = {at: number for number, at in reversed([*enumerate(places, 1)])}
        lines.append(f"{about}: {' '.join(f'{at} at {number}' for at, number in sorted(settled.items()))}")
    assert_picture("tui/pictures/texts/rendered-anew.txt", lines)


GROWING = {
    "words": "one two *three four* five **six seven",
    "lines": "one\ntwo three\n\nfour `five six` [seven eight](u) nine\n"
    "- ten eleven\n  twelve thirteen\n> quoted words\nout",
    "what may be a rule": "one two\n- - - -\n* * *\nthree\n--- -",
    "what may be a table": "one\n| a b | c d\n|--\n| x y\nout of it\n| no table\nat all",
    "an open link": "see [this thing](http://a.b/c d and more",
}


@pytest.mark.parametrize("about", DOCUMENTS)
def test_a_token_is_shown_as_it_was_written_and_the_others_as_before(about: str) -> None:
    parts = tokens(DOCUMENTS[about], CUTS)
    for raw in range(0, len(parts), 1 if about in ("rules", "tables") else 4):
        it = Markdown(30, first=2, raw=raw + 2)
        it.push([(part, False) for part in parts])
        seen = "".join(span.text for row in it.wrap.rows for span in row.spans if span.token == raw + 2)
        assert "".join(seen.split()) == "".join(cells.clean(parts[raw]).split())
        assert all(row.width == sum(span.width for span in row.spans) <= 30 for row in it.wrap.rows)
        plain = Markdown(30, first=2)
        plain.push([(part, False) for part in parts])
        if raw + 2 not in plain.changed:
            assert drawn(plain) == drawn(it)


def test_rules_and_tables_under_the_cursor_are_as_they_were_looked_at() -> None:
    lines = []
    for text in ("-----\n", "| ab | c |\n|----|---|\n| d | *e* |\n"):
        parts = tokens(text, [2, 1])
        for raw in range(len(parts)):
            it = Markdown(20, first=3, raw=raw + 3)
            it.push([(part, False) for part in parts])
            lines += [f"{parts[raw]!r}", *told(it)[1:]]
    assert_picture("tui/pictures/texts/markdown-raw.txt", lines)


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


def test_a_text_is_divided_where_its_rows_say_that_it_has_ended() -> None:
    for text in DOCUMENTS.values():
        lines = text.splitlines(keepends=True)
        divider = Divider()
        for size, line in enumerate(lines, 1):
            divider.push(line)
            it = at_once(lines[:size], 40)
            if divider.ended:
                assert it.ended and it.listed == divider.listed, lines[:size]


@pytest.mark.parametrize("width", [23, 24, 25, 40])
def test_cells_of_a_table_are_in_their_columns(width: int) -> None:
    text = "| ab | c | de f |\n|:-:|--:|---|\n| g | hij kl | 日本語 |\n| | m | n | o |\n"
    it = at_once(tokens(text, CUTS), width, growing=False)
    assert_picture(f"tui/pictures/texts/table-{width}.txt", told(it))


def test_a_table_is_found_where_the_second_line_says_so() -> None:
    said = []
    for text in (
        "| a | b |\n|---|---|\n", "| a | b |\n|---|---|", "| a | b |\n|:-", "| a |\n|:", "| a | b |\n|",
        "| a | b |\n", "| a | b |", "| a | b |\n|---|\n", "| a |\n|---|---|\n", "| a |\n|---|-", "a | b\n---|---\n",
        "  | a\n  |-\n  | b\nc\n", "| a\n|-\n| b\nc", "|a|b|\n|-|-|\n|\\||`x`|\n||y|\nz",
        "| a | b |\n|:--:|--:|\n| c", "| a |\n|x|\n", "|\n|-|\n", "x\n| a |\n|---|\n",
    ):  # fmt: skip
        for growing in (False, True):
            found = table.find(text, text.find("|") if text[0] == "x" else 0, growing)
            words = (
                "none" if found is None else f"{found.start}-{found.end} {' '.join(found.aligned)} sure {found.sure}"
            )
            inside = [[text[a:b] for a, b in line.cells] for line in found.lines] if found is not None else []
            said.append(f"{text!r}{', growing' * growing}: {words} {inside or ''}")
    assert_picture("tui/pictures/texts/tables-found.txt", said)


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
