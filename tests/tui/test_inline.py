"""Inline Markdown in detail: runs, what may still change, and where a text may be cut; lines by their kind."""

import random
from collections.abc import Iterator

import pytest

from app.tui.tokens import lines
from app.tui.tokens.face import BOLD, CODE, ITALIC, LINK, STRIKE
from app.tui.tokens.highlight import Highlight, Place
from app.tui.tokens.inline import Inline, Run, inline
from app.tui.tokens.lines import Divider, closes, is_code, line_at, lists
from tests.pictures import assert_picture
from tests.tui.test_markdown import SIGNS, ours, peer

TEXTS = (
    "", "plain words", " a b",
    "*a* _b_ **c** __d__ ~~e~~ ***f***", "a*b*c a_b_c __a__b **a**b", "* a* ** b**", "**a *b* c** d",
    "*a **b** c*", "***a** b*", "***a* b**", "**a*", "*a**", "****a****", "*a*b*c*", "**foo*bar**baz*", "a**b*c*d**e",
    "*foo**bar**baz*", "a***b***c", "*a _b* c_", "~a~ ~~~b~~~ ~~a~ b~~", "`a` ``b ` c`` ` d ` `  ` `\n`", "``a`",
    "`a *b` c*", "*a `b* c`", "[a](u) [b](<u v>) [c](u \"t\") [d]( 't' ) [e]() [f](u(v)w)",
    "![a](u) [![b](u)](v) [[c](u)](v)", "[a] (u)", "[a](u", "[a", "[a]", "![a](", "[a]x", "[a *b](u) c*", "*[a*](u)",
    "[**a** `b`](u)", "]", "\\*a\\* \\[b\\] \\(x\\)", "&amp; &#65; &#x42; &nope; &NewLine;x &Tab;y",
    "<http://a.b> <c@d.ef> <g> <http://a b>", "a *b", "a **b", "a ***b", "a ~~b", "a `b c", "*a", "a*", "a* b", "a_",
    "\"*a*\" (**b**) *(c)*", "日本*語*です **「a」**b", "a _b c_ d __e f__ g", "x * y * z", "a [b c](u v) d",
    "one *two three* four `five six` seven [eight nine](u) ten", "word " * 4 + "*open words", "**", "~~ a",
    "a\n*b\nc* d\n", "*a\\* b*", "a&amp;*b&amp;*c",
)  # fmt: skip


def told(text: str, found: Inline) -> Iterator[str]:
    """Runs with their faces, then the rest."""
    named = {BOLD: "b", ITALIC: "i", STRIKE: "s", LINK: "l", CODE: "c"}
    parts = []
    for run in found.runs:
        letters = "".join(letter for bit, letter in named.items() if run.face & bit)
        own = text[run.start : run.end]
        parts.append(f"{own!r}{'' if run.shown is None else f'->{run.shown!r}'}{letters}")
    yield f"  {' '.join(parts)}"
    settled = [found.settled(text, limit) for limit in range(len(text) + 3)]
    changes = [at for i, at in enumerate(settled) if not i or settled[i - 1] != at]
    yield f"  pending {found.pending} of {len(text)}, whole {list(found.spans)}, settled {changes}"


def test_runs_are_as_they_were_looked_at() -> None:
    said = []
    for text in TEXTS:
        whole, growing = inline(text, growing=False), inline(text, growing=True)
        for found in (whole, growing):
            assert "".join(text[run.start : run.end] for run in found.runs) == text
        said += [repr(text), *told(text, whole)]
        said += ["  growing:", *told(text, growing)] if growing != whole else []
    assert_picture("tui/pictures/texts/inline.txt", said)


def test_random_signs_are_read_as_a_peer_reads_them() -> None:
    rng = random.Random(3)
    compared = 0
    for _ in range(200):
        text = "".join(rng.choices(SIGNS, k=rng.randint(1, 12))).strip()
        wanted = peer(text)
        if "~~~" not in text and wanted != [("not a paragraph", 0)]:
            assert ours(text) == wanted, text
            compared += 1
    assert compared > 120


def test_what_follows_changes_nothing_before_what_is_settled() -> None:
    rng = random.Random(5)
    moved = 0
    for _ in range(150):
        parts = rng.choices([*SIGNS, " ", "x ", " y", "* ", "` "], k=rng.randint(2, 12))
        text = "".join(parts)
        size = rng.randint(1, len(text))
        for growing in (False, True):
            found = inline(text[:size], growing)
            at = found.settled(text[:size], size)
            moved += at > 0
            assert _cut(inline(text, growing=False).runs, at) == _cut(found.runs, at), (text, size)
            after = [
                run._replace(start=run.start + at, end=run.end + at) for run in inline(text[at:], growing=False).runs
            ]
            assert [run for run in inline(text, growing=False).runs if run.start >= at] == after or any(
                run.start < at < run.end for run in inline(text, growing=False).runs
            )
    assert moved > 60


def _cut(runs: tuple[Run, ...], at: int) -> list[Run]:
    return [run._replace(end=min(run.end, at)) for run in runs if run.start < at]


@pytest.mark.parametrize(
    ("at", "found"),
    [(0, ("ab", 2, True)), (1, ("b", 2, True)), (2, ("", 2, True)), (3, ("", 3, True)), (4, ("c", 5, False))]
)  # fmt: skip
def test_a_line_ends_before_its_break_or_with_the_text(at: int, found: tuple[str, int, bool]) -> None:
    assert line_at("ab\n\nc", at) == found
    assert line_at("\nab", 0) == ("", 0, True) and line_at("", 0) == ("", 0, False)


@pytest.mark.parametrize(
    ("line", "listed", "blank", "after"),
    [
        ("- a", False, False, True), ("1. a", False, True, True), ("12) a", False, False, True),
        ("-a", False, False, False), ("a", True, False, True), ("a", True, True, False), (" a", True, True, True),
        ("\ta", True, True, True), ("", True, True, True), ("", True, False, True), ("", False, False, False),
        (" a", False, True, False),
    ],
)  # fmt: skip
def test_a_list_goes_on_until_a_line_at_the_left_after_a_blank_one(
    line: str, listed: bool, blank: bool, after: bool
) -> None:
    assert lists(line, listed, blank) is after


@pytest.mark.parametrize(
    ("line", "listed", "blank", "code"),
    [
        ("    a", False, True, True), ("\ta", False, True, True), ("     a", False, True, True),
        ("   a", False, True, False), ("    a", True, True, False), ("    a", False, False, False),
        ("     ", False, True, False), ("    ```", False, True, False), ("    # a", False, True, False),
        ("    - a", False, True, False), ("    > a", False, True, True),
    ],
)  # fmt: skip
def test_a_line_is_code_where_it_is_indented_after_a_blank_one(
    line: str, listed: bool, blank: bool, code: bool
) -> None:
    assert is_code(line, listed, blank) is code


@pytest.mark.parametrize(
    ("line", "sign", "closed"),
    [
        ("```", "```", True), ("  ````  ", "```", True), ("``", "```", False), ("```a", "```", False),
        ("~~~", "```", False), ("~~~~", "~~~~", True),
    ],
)  # fmt: skip
def test_a_fence_is_closed_by_as_many_of_its_signs_alone(line: str, sign: str, closed: bool) -> None:
    assert closes(line, sign) is closed


def test_a_text_may_be_divided_after_a_blank_line_outside_of_code() -> None:
    divider = Divider()
    assert divider.ended and not divider.listed
    said = []
    for text in (
        "a",
        "\n",
        "\n",
        "- b\n",
        "\n",
        "c\n",
        "\n``",
        "`x\n\n",
        "y\n",
        "```\n",
        "\n",
        "    code\n",
        "\n  ",
        "\n",
    ):
        divider.push(text)
        said.append((text, divider.ended, divider.listed))
    assert said == [
        ("a", False, False), ("\n", False, False), ("\n", True, False), ("- b\n", False, True), ("\n", True, True),
        ("c\n", False, False), ("\n``", False, False), ("`x\n\n", False, False), ("y\n", False, False),
        ("```\n", False, False), ("\n", True, False), ("    code\n", True, False), ("\n  ", False, False),
        ("\n", True, False),
    ]  # fmt: skip


KINDS = ("HEADING", "RULER", "FENCE", "ITEM", "QUOTE", "INDENTED")


def test_kinds_of_lines_are_told_apart() -> None:
    said = []
    for line in (
        "# a", "###### a", "####### a", "#a", "#", "  ## a ##", "***", "- - -", "   ___  ", "    ---", "--", "-_-",
        "```", "~~~~ py", "`` a", "``` a`b", "- a", "+ a", "* a", "1. a", "1234567890. a", "-a", "> a", ">> a",
        "   > a", "    > a", "    a", "\ta",
    ):  # fmt: skip
        kinds = [
            kind
            for kind in ("HEADING", "RULER", "FENCE", "ITEM", "QUOTE", "INDENTED")
            if getattr(lines, kind).match(line)
        ]
        said.append(f"{line!r}: {' '.join(kinds) or 'words'}")
    assert_picture("tui/pictures/texts/kinds-of-lines.txt", said)


CODES = {
    "python": ["x = 'a' # b\n", '"""of\n', 'lines""" + 1\n'],
    "yaml": ["a: 1 # b\n", "b: |\n", "  text: 2\n", "c: 'd'\n"],  # a lexer whose state cannot be kept
    "pycon": [">>> x = 'a'  # b\n", "1\n"],  # and one that is made of two
    "Python": ["def f(): pass\n"],
    "": ["def f(): pass\n"],
}


def test_words_of_code_are_lit_as_they_were_looked_at() -> None:
    said = []
    for language, parts in CODES.items():
        text, place, start = "".join(parts), Place(0), 0
        for part in parts:
            found, place = Highlight(language).line(text, place, start, start + len(part))
            said.append(f"{language!r} {part!r}: {[(text[a:b], face) for a, b, face in found]}, then {place}")
            start += len(part)
    assert_picture("tui/pictures/texts/lit-code.txt", said)


def test_words_outside_of_the_line_are_not_lit() -> None:
    text = '"""a\nbc\nd"""\n'
    highlight, place = Highlight("python"), Place(0)
    for start, end in ((0, 5), (5, 8), (8, 13)):
        found, place = highlight.line(text, place, start, end)
        assert found and all(start <= a < b <= end for a, b, _ in found)
