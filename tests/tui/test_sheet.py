"""A sheet of cells: what falls off its edge, parts that share its cells, and what is drawn on it."""

from collections.abc import Sequence

import numpy as np
from rich.style import Style

from app.tui import plot
from app.tui.inside.sheet import Sheet, chart
from app.tui.theme import GLYPHS
from tests.tui.pages import LOOKS, described

LOOK = LOOKS["true"]


def blank(width: int, height: int, colours: str = "true") -> Sheet:
    return Sheet(width, height, LOOKS[colours], GLYPHS)


def rows(sheet: Sheet) -> list[str]:
    """The characters, every cell."""
    return ["".join(segment.text for segment in line) for line in sheet.lines()]


def inks(sheet: Sheet) -> list[str]:
    return described(sheet).partition("--\n")[2].split("\n")


def test_a_text_is_cut_at_both_edges_and_a_wide_character_is_never_halved() -> None:
    for x, text, row, after in [
        (0, "abc", "abc   ", 3),
        (4, "abc", "    ab", 7),
        (-1, "abc", "bc    ", 2),
        (0, "日本", "日本  ", 4),
        (4, "日本", "    日", 8),
        (5, "日本", "      ", 9),
        (-1, "日本", " 本   ", 3),
        (-2, "日本", "本    ", 2),
        (2, "e\u0301", "  e\u0301   ", 3),
        (6, "a", "      ", 7),
        (5, "a", "     a", 6),
    ]:
        sheet = blank(6, 1)
        assert sheet.put(x, 0, text, LOOK.bar) == after
        assert rows(sheet) == [row]


def test_a_row_that_is_not_there_takes_nothing_and_the_column_after_it_is_known() -> None:
    sheet = blank(4, 2)
    assert [sheet.put(1, y, "日a") for y in (-1, 2)] == [4, 4]
    assert rows(sheet) == ["    ", "    "]
    assert sheet.put(0, 1, "ab") == 2 and rows(sheet) == ["    ", "ab  "]


def test_a_text_takes_the_cells_it_is_given() -> None:
    sheet = blank(8, 2)
    assert sheet.put(1, 0, "ab", LOOK.bar, size=4) == 5
    assert sheet.put(1, 1, "abcdef", LOOK.text, size=4) == 5
    assert rows(sheet) == [" ab     ", " abc…   "] and inks(sheet) == [".bbbb", ".tttt"]


def test_both_cells_of_a_wide_character_have_its_ink() -> None:
    sheet = blank(4, 1)
    sheet.put(0, 0, "xxxx", LOOK.faint)
    sheet.put(1, 0, "日", LOOK.bar)
    assert rows(sheet) == ["x日x"] and inks(sheet) == ["fbbf"]
    assert [segment.text for segment in sheet.lines()[0]] == ["x", "日", "x"]


def test_neighbours_of_one_ink_are_one_segment() -> None:
    sheet = blank(6, 1)
    sheet.put(1, 0, "ab", LOOK.bar)
    sheet.put(3, 0, "c", LOOK.bar)
    sheet.put(4, 0, "d", LOOK.text)
    assert [(s.text, s.style) for s in sheet.lines()[0]] == [
        (" ", None), ("abc", LOOK.bar), ("d", LOOK.text), (" ", None),
    ]  # fmt: skip
    assert [list(line) for line in blank(0, 1).lines()] == [[]] and list(blank(3, 0).lines()) == []


def test_a_part_shares_the_cells_and_ends_where_the_whole_does() -> None:
    sheet = blank(8, 4)
    part = sheet.part(2, 1, 4, 2)
    assert (part.width, part.height, part.look, part.glyphs) == (4, 2, LOOK, GLYPHS)
    inner = part.part(1, 1)
    assert (part.part(1, 1, 9, 9).width, part.part(1, 1, 9, 9).height) == (3, 1)
    assert (part.part(1, 0, 2).width, part.part(1, 0, 2).height) == (2, 2)
    assert (inner.width, inner.height) == (3, 1)
    part.put(0, 0, "abcdef")
    inner.put(0, 0, "xyzw")
    inner.put(0, 1, "no")
    assert rows(sheet) == [" " * 8, "  abcd  ", "   xyz  ", " " * 8]
    gone = sheet.part(9, 5, 2, 2)
    assert (gone.width, gone.height) == (0, 0)
    assert (sheet.part(8, 4, 2, 2).width, sheet.part(7, 3, 2, 2).height) == (0, 1)
    assert (sheet.part(0, 0, -1, -2).width, sheet.part(0, 0, -1, -2).height) == (0, 0)


def test_texts_stand_at_the_right_or_one_after_another() -> None:
    sheet = blank(10, 3)
    sheet.right(0, "日b", LOOK.bar)
    sheet.right(1, "ab", LOOK.bar, end=4)
    assert sheet.words(1, 2, ("ab", LOOK.bar), ("cdefgh", LOOK.text), ("ij", LOOK.faint), ("kl", None)) == 10
    assert rows(sheet) == ["       日b", "  ab      ", " abcdefgh…"]
    assert inks(sheet) == [".......bbb", "..bb", ".bbttttttf"]
    assert sheet.words(10, 0, ("a", None)) == 10 and sheet.words(2, 0) == 2


def test_a_heading_has_its_number_at_the_right() -> None:
    sheet = blank(14, 3)
    sheet.heading(0, "WORD", "about", "1.5")
    sheet.heading(1, "WORD", "a long about", "1.5")
    sheet.heading(2, "WORD")
    assert rows(sheet) == ["WORD  about1.5".replace("about1.5", "abou 1.5"), "WORD  a lo 1.5", "WORD          "]
    assert inks(sheet) == ["HHHHffffff.CCC", "HHHHffffff.CCC", "HHHH"]


def test_a_row_has_a_bar_where_there_is_room() -> None:
    for width, row, ink in [
        (16, "name ████     12", "tttt.bbbbbbb..tt"),
        (12, "name █▊   12", "tttt.bbb..tt"),
        (11, "name     12", "tttt.....tt"),
    ]:
        sheet = blank(width, 1)
        sheet.row(0, "name", 9 / 16, "12", ink=LOOK.text, fill=LOOK.bar, left=5)
        assert rows(sheet) == [row]
        assert inks(sheet) == [ink]


def test_a_tile_is_brighter_by_its_share() -> None:
    for share, tile, level in [(-1, "α", " "), (0.25, "G", "░"), (0.5, "L", "▒"), (0.7, "O", "▓"), (9, "V", "█")]:
        sheet, plain = blank(4, 2), blank(4, 2, "plain")
        for each in (sheet, plain):
            each.tile(1, 0, share, size=2)
            each.tile(1, 1, share)
        assert rows(sheet) == ["    ", "    "] and inks(sheet) == [f".{tile}{tile}", f".{tile}"]
        assert rows(plain) == [f" {level}{level} ", f" {level}  "]


def test_a_mark_is_put_on_the_first_cell_of_a_tile() -> None:
    sheet, plain = blank(4, 1), blank(4, 1, "plain")
    for each in (sheet, plain):
        each.tile(0, 0, 1.0, size=3, mark="p")
    assert rows(sheet) == ["p   "] and inks(sheet) == ["ⓠVV"]
    assert rows(plain) == ["p██ "] and plain.lines()[0][0].style == LOOKS["plain"].tick


def test_dots_lie_over_what_is_there_and_a_rule_goes_down() -> None:
    sheet = blank(5, 3)
    sheet.put(0, 1, "abcde", LOOK.text)
    bits = np.zeros((2, 3), np.uint8)
    bits[0, 1], bits[1, 2] = 0x09, 0x80
    sheet.dots(1, 1, bits, LOOK.bar)
    sheet.rule(4)
    assert rows(sheet) == ["    │", "ab⠉d│", "   ⢀│"]
    assert inks(sheet) == ["....r", "ttbtr", "...br"]


def charted(
    width: int,
    height: int,
    at: int | None,
    curves: Sequence[tuple[np.ndarray, Style]],
    labels: Sequence[tuple[float, str]] = ((0.0, "0"), (2.0, "two"), (4.0, "4")),
    **options: int,
) -> Sheet:
    sheet = blank(width, height)
    chart(sheet, list(range(5)), curves, at, labels, **options)
    return sheet


RISING = np.array([0.0, 1.0, 2.0, 3.0, 4.0])


def test_a_chart_has_its_axis_its_names_and_the_present_place() -> None:
    sheet = charted(16, 6, 3, [(RISING, LOOK.bar)])
    assert rows(sheet) == [
        "    4 ┤       ⡠⠊",
        "      │     ⢀●⠁ ",
        "  two ┤   ⢀⠔⠁   ",
        "      │ ⢀⠔⠁     ",
        "    0 ┤⡠⠊       ",
        "       0       4",
    ]
    assert inks(sheet)[1:4:2] == ["ffffffr.....bCb", "ffffffr.bbb"] and inks(sheet)[-1] == ".......f.......f"


def test_a_chart_without_room_is_blank() -> None:
    for width, height, drawn in [(10, 4, False), (11, 4, True), (11, 2, False), (11, 3, True)]:
        assert any(row.strip() for row in rows(charted(width, height, None, [(RISING, LOOK.bar)]))) == drawn


def test_the_outermost_names_stand_where_two_fall_on_one_row() -> None:
    sheet = charted(12, 3, None, [], [(4.0, "4"), (2.9, "close"), (1.1, "low"), (0.0, "0")])
    assert [row[:7] for row in rows(sheet)] == ["    4 ┤", "    0 ┤", "       "]


def test_names_below_a_chart_keep_off_the_last_one() -> None:
    sheet = blank(7 + 40, 3)
    chart(sheet, [0.0, 37.0], [], None, [(0.0, "0"), (1.0, "1")])
    row = rows(sheet)[-1]
    assert row.split() == ["0", "10", "20", "30", "37"] and row.index("20") == 7 + round(39 * 20 / 37)
    assert row.endswith("37")
    for width, names in ((24, ["0", "5", "12"]), (23, ["0", "12"])):  # a name for eight columns
        sheet = blank(7 + width, 3)
        chart(sheet, [0.0, 12.0], [], None, [(0.0, "0"), (1.0, "1")])
        assert rows(sheet)[-1].split() == names, width
    narrow = blank(7 + 8, 3)
    chart(narrow, [0.0, 37.0], [], None, [(0.0, "0"), (1.0, "1")])
    assert rows(narrow)[-1] == "       0     37"
    for width, names in ((12, ["0", "20", "37"]), (13, ["0", "20", "37"])):
        sheet = blank(7 + width, 3)
        chart(sheet, [0.0, 37.0], [], None, [(0.0, "0"), (1.0, "1")])
        assert rows(sheet)[-1].split() == names, width


def test_a_chart_marks_the_last_curve_and_none_without_a_place() -> None:
    flat = np.full(5, 4.0)
    sheet = charted(14, 6, 0, [(flat, LOOK.bar_cut), (RISING, LOOK.bar)], axis=4)
    assert rows(sheet)[4].startswith(" 0 ┤●") and inks(sheet)[4] == "fffrCb"
    assert inks(sheet)[0] == "fffrddddddddbb"
    assert "●" not in "".join(rows(charted(14, 6, None, [(RISING, LOOK.bar)])))
    assert "●" not in "".join(rows(charted(14, 6, 2, [])))
    assert chr(plot.BRAILLE) == "⠀"
