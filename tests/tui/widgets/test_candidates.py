"""The candidates' panel drawn alone: bars, ticks and figures of every kind of row, at all the widths where it turns."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from app.looks import Doubt, Near
from app.tui.chat import neighbours
from app.tui.chat.candidates import BANNED, Candidate, CandidateTable, Names
from app.tui.chat.search_choice import SearchTable
from app.tui.theme import GLYPHS
from app.tui.widgets.candidates import Candidates, columns, percent, row
from tests.tui.widgets.drawing import LOOK, Pictures, beside, click

ROWS = (
    Candidate(3, "·blue", 0.40, 0.50),
    Candidate(4, "·red", 0.20, 0.25, chosen=True),
    Candidate(5, "·an·amber·one", 0.10, 0.0, removed_by="top-p"),
    Candidate(6, "空色", 0.08, 0.0, removed_by=BANNED),
    Candidate(7, "·grey", 0.06, 0.11),
    Candidate(8, "·pale", 0.05, 0.05),
    Candidate(9, "·dim", 0.03, 0.06),
    Candidate(10, "·a", 0.02, 0.01),
    Candidate(11, "·b", 0.01, 0.005),
    Candidate(12, "·c", 0.004, 0.003),
    Candidate(13, "·d", 0.00004, 0.0, removed_by="top-p"),
    Candidate(14, "·e", 0.0, 0.0, removed_by="top-k"),
)
TABLE = CandidateTable("TOKEN 7", "·red", "2.3 bits  rank 2", ROWS, 49152, (7, 9), (0.004, 0.76), "top-p", True, True)
DOUBT = Doubt(2.0, 0.25, ((3, 0.031), (4, 0.002), (5, 0.5)), 16, 1.26)


def wide(rows: Sequence[Candidate], **more: object) -> CandidateTable:
    return replace(TABLE, rows=tuple(rows), **more)  # type: ignore[arg-type]


def panel(view: CandidateTable | None, picked: int | None = None) -> Candidates:
    found = Candidates()
    found.show(view)
    found.picked = picked
    return found


def test_the_panel_at_every_size_where_it_looks_different(pictures: Pictures) -> None:
    pictures.draw(panel(None), 40, 14, "nothing drawn")
    pictures.draw(panel(wide(())), 40, 14, "no rows")
    sizes = [(60, 14), (60, 15), (60, 16), (40, 10), (36, 8), (36, 7), (36, 6), (36, 3), (36, 2), (36, 1), (34, 14)]
    for width, height in [*sizes, (33, 14), (33, 6), (20, 9), (12, 9)]:
        pictures.draw(panel(TABLE), width, height)
    pictures.compare("candidates-sizes")


def test_what_is_drawn_or_picked_is_among_the_rows(pictures: Pictures) -> None:
    late = [replace(each, chosen=each.token == 12) for each in ROWS]
    for height in (14, 9, 7, 4, 2):
        pictures.draw(panel(wide(late)), 34, height, "the tenth is drawn")
    for picked in (0, 4, 5, 9, 10, 11):
        pictures.draw(panel(TABLE, picked), 34, 9, f"{picked} is picked", focus=True)
    pictures.draw(panel(TABLE, 11), 34, 9, "the last is picked, without the focus")
    pictures.draw(panel(wide(late[:2]), 1), 34, 9, "two rows", focus=True)
    pictures.draw(panel(wide([Candidate(1, "x", 0.0, 0.0)])), 34, 9, "no probability at all")
    pictures.compare("candidates-shown")


def test_headings_and_legends_give_way_where_there_is_little_room(pictures: Pictures) -> None:
    held = replace(TABLE, live=False, cut_by="")
    for view in (
        held,
        replace(TABLE, name="", title="NEXT", numbers="4.1 bits of entropy"),
        replace(TABLE, name="空" * 20),
    ):
        for width in (60, 34, 24, 8):
            drawn = panel(view)
            pictures.draw(drawn, width, 15)
            pictures.draw(drawn, width, 5)
    pictures.compare("candidates-headings")


def test_a_heading_gives_way_cell_by_cell(pictures: Pictures) -> None:
    few = replace(TABLE, rows=ROWS[:2])
    doubted = panel(few.doubted(DOUBT))
    for it in (panel(few), doubted):
        pictures.sweep(it, range(8, 66), 5, slice(1), "the short heading")
        pictures.sweep(it, range(8, 70), 9, slice(0, 5, 4), "heading and legend")
    pictures.sweep(panel(few), range(10, 50), 9, slice(1, 3), "columns and a row")
    pictures.compare("candidates-cells")


def test_a_table_with_doubt_has_a_column_for_it(pictures: Pictures) -> None:
    view = wide(ROWS[:4]).doubted(DOUBT)
    for width, height in ((70, 9), (48, 9), (41, 9), (40, 9), (39, 9), (34, 9), (41, 6), (40, 6), (39, 6)):
        pictures.draw(panel(view), width, height)
    pictures.compare("candidates-doubt")


def test_other_tables_have_other_columns(pictures: Pictures) -> None:
    near = Near(((3, 0.5), (4, -0.1)), raw=(0.9, 0.2), median=0.1, below=0.4)
    rows = (
        Candidate(3, "·blue", 0.40, 0.9, chosen=True, more=("−0.51", "1 of 3")),
        Candidate(4, "·red", 0.20, 0.0, removed_by="search", more=("−2.51", "")),
    )
    search = SearchTable("TOKEN 7", "·blue", "", rows, 100, (1, 1), (1.0, 1.0), "search", True, False)
    unknown = wide([Candidate(3, "·blue", 0.40, None), Candidate(4, "·red", 0.20, None, chosen=True)])
    looked = neighbours.table("·red", None, Names())
    refused = neighbours.table("·red", "the model has none", Names())
    for view in (search, unknown, neighbours.table("·red", near, Names()), looked, refused):
        for width in (50, 34, 33):
            pictures.draw(panel(view), width, 8, type(view).__name__)
    pictures.compare("candidates-others")


def test_a_row_by_itself_with_a_number_and_an_indent(pictures: Pictures) -> None:
    doubted = TABLE.doubted(DOUBT)
    for view in (TABLE, doubted):
        for width in (60, 44, 43, 38, 37, 36):
            for number in ("", "12 "):
                about = f"{width} cells, {len(number)} of them a number"
                drawn = (
                    row(it, LOOK, GLYPHS, width, 0.5, number=number, doubted=view is doubted) for it in view.rows[:4]
                )
                pictures.add([columns(view, LOOK, width, len(number)), *drawn], about)
    pictures.add([row(ROWS[0], LOOK, GLYPHS, 40, 0.5, picked=True)], "picked")
    pictures.compare("candidates-rows")


def test_a_tick_stands_apart_from_the_bars_end_by_a_cell_or_not_at_all(pictures: Pictures) -> None:
    # 40 cells: the bar has 12, so a cell is 1/12 of the scale
    for before, after in (
        (0.5, 0.5),
        (0.5, 0.5 + 0.9 / 12),
        (0.5, 0.5 + 1.01 / 12),
        (0.5, 0.5 - 1.01 / 12),
        (0.5, 0.4),
    ):
        pictures.add([row(Candidate(1, "x", before, after), LOOK, GLYPHS, 40, 1.0)], f"raw {before}, after {after:.3f}")
    pictures.add([row(Candidate(1, "x", 1.0, 0.1), LOOK, GLYPHS, 40, 1.0)], "a tick at the very end")
    pictures.add([row(Candidate(1, "x", 1.0, 0.0, "top-k"), LOOK, GLYPHS, 40, 1.0)], "cut, a tick at the very end")
    pictures.add([row(Candidate(1, "x", 0.5, 1.0, chosen=True), LOOK, GLYPHS, 40, 1.0)], "a tick inside the drawn bar")
    pictures.compare("candidates-ticks")


@pytest.mark.parametrize(
    "share, said", [(0.0, "0.00"), (0.00004, "<0.01"), (0.00005, "0.01"), (0.1234, "12.34"), (1.0, "100.00")]
)
def test_percent_has_two_decimals_and_never_says_none_where_there_is_some(share: float, said: str) -> None:
    assert percent(share) == said


def test_a_table_is_drawn_anew_where_it_is_another(pictures: Pictures) -> None:
    it = Candidates()
    for view, redraws in ((None, 0), (TABLE, 1), (replace(TABLE), 0), (wide(ROWS[:3]), 1), (None, 1)):
        it.show(view)
        assert pictures.redraws() == redraws
    it.action_pick(1)
    it.show(TABLE)
    assert pictures.redraws() == 1
    it.action_pick(1)
    assert pictures.redraws() == 1


def test_picking_walks_the_rows_and_stays_among_them(pictures: Pictures) -> None:
    it = panel(TABLE)
    assert it.selected is None
    it.action_pick(1)
    assert it.picked == 0 and it.selected == ROWS[0]
    for by, at in ((1, 1), (5, 6), (-2, 4), (-9, 0), (11, 11), (1, 11)):
        it.action_pick(by)
        assert it.picked == at and it.selected == ROWS[at]
    it.show(wide(ROWS[:11]))
    assert it.picked is None
    it.picked = 5
    it.show(wide(ROWS[:6]))
    assert it.picked == 5
    it.show(wide(ROWS[:5]))
    assert it.picked is None and it.selected is None
    it.picked = 2
    it.show(None)
    assert it.picked is None and it.view is None
    it.action_pick(1)
    assert it.picked is None
    it.show(wide(()))
    it.action_pick(1)
    assert it.picked is None


def test_the_focus_begins_at_what_was_drawn(pictures: Pictures) -> None:
    for view, begins in ((TABLE, 1), (wide(ROWS[2:]), 0), (wide(()), None), (None, None)):
        it = panel(view)
        Candidates.on_focus(it)
        assert it.picked == begins
    it = panel(TABLE, 3)
    Candidates.on_focus(it)
    assert it.picked == 3


def posted(pictures: Pictures) -> list[tuple[int, str]]:
    said = [(each.token, each.verb) for each in pictures.said if isinstance(each, Candidates.Picked)]
    assert len(said) == len(pictures.said)
    pictures.said.clear()
    return said


def test_keys_say_what_becomes_of_the_picked_one(pictures: Pictures) -> None:
    it = panel(TABLE)
    pictures.up(it)
    for act in (it.action_branch, it.action_force, it.action_ban):
        act()
    assert not posted(pictures)
    it.picked = 1
    for act in (it.action_branch, it.action_force, it.action_ban):
        act()
    assert posted(pictures) == [(4, "branch"), (4, "force"), (4, "ban")]
    for number, token in ((1, 3), (9, 11), (12, 14)):
        it.action_take(number)
        assert it.picked == number - 1 and posted(pictures) == [(token, "branch")]
    it.action_take(13)
    assert it.picked == 11 and not posted(pictures)
    it.action_near()
    assert [type(each) for each in pictures.said] == [Candidates.NearAsked]
    nothing = panel(None)
    pictures.up(nothing)
    nothing.action_take(1)
    assert len(pictures.said) == 1


def test_a_click_picks_a_row_and_again_takes_it(pictures: Pictures) -> None:
    it = panel(TABLE)
    pictures.up(it, (40, 9))  # five rows below two of heading
    for event in (beside(), click(5, 1), click(5, 7), click(5, 8)):
        it.on_click(event)
        assert it.picked is None and not pictures.said
    pictures.redraws()
    it.on_click(click(5, 2))
    assert it.picked == 0 and not pictures.said and pictures.redraws() == 1
    it.on_click(click(0, 6))
    assert it.picked == 4 and not pictures.said
    it.on_click(click(0, 6))
    assert it.picked == 4 and posted(pictures) == [(7, "branch")]
    nothing = panel(None)
    pictures.up(nothing, (40, 9))
    nothing.on_click(click(5, 2))
    assert nothing.picked is None
