"""Dialogs on a small application: what they list at which width, where they stand, and what each key gives."""

import os
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from textual import events
from textual.geometry import Offset
from textual.widgets import Input, Label, OptionList, Static

from app import requests as r
from app.tui.chat.candidates import Candidate, CandidateTable
from app.tui.chat.places import SearchHit
from app.tui.dialogs.evaluation import NewEvaluation
from app.tui.dialogs.export_file import export_file
from app.tui.dialogs.finder import Finder
from app.tui.dialogs.formula import FormulaSheet
from app.tui.dialogs.models import FIRST, SEVERAL, Models, size
from app.tui.dialogs.overlays import AlternativeRows, Alternatives, Ask, Pick, Read
from app.tui.formula import MAPS, Formula
from app.worker import Failed
from engine.errors import DataError, LikelyError
from tests.pictures import assert_picture
from tests.tui import drawn
from tests.tui.small_app import rows, shown

# -- a line, a list, a text -------------------------------------------------------------------------------------------


async def test_a_line_is_asked_for_and_given() -> None:
    async with shown(Ask("which [b]one[/b]?", "first", "a name")) as (small, pilot):
        field = small.screen.query_one(Input)
        assert str(small.screen.query_one(Label).visual) == "which [b]one[/b]?"
        assert (field.value, field.placeholder, field.has_focus) == ("first", "a name", True)
        field.value = "other"
        await pilot.press("enter")
        small.push_screen(Ask("again"), small.given.append)
        await pilot.pause()
        assert small.screen.query_one(Input).value == ""
        await pilot.press("escape")
        assert small.given == ["other", None]


@pytest.mark.parametrize(("width", "room"), [(60, 57 - 5), (80, 76 - 5)])
async def test_one_of_several_is_picked_and_a_heading_is_none(width: int, room: int) -> None:
    options = [("", "a heading"), ("one", "the first"), ("", "[b]"), ("two", "x" * 90), ("three", "y" * room)]
    async with shown(Pick("which?", options), (width, 24)) as (small, pilot):
        listed = small.screen.query_one(OptionList)
        made = [listed.get_option_at_index(i) for i in range(5)]
        assert [option.disabled for option in made] == [True, False, True, False, False]
        assert [option.id for option in made] == [None, "one", None, "two", "three"]
        assert made[3].prompt == "x" * (room - 1) + "…" and made[4].prompt == "y" * room
        assert str(made[0].prompt) == "a heading" and cast(Any, made[0].prompt).style == drawn.LOOK.heading
        assert str(made[2].prompt) == "[b]"
        await pilot.press("down", "enter")
        assert small.given == ["two"]
        small.push_screen(Pick("which?", options), small.given.append)
        await pilot.pause()
        await pilot.press("escape")
        assert small.given[1:] == [None]


async def test_a_text_is_read_as_it_is_written() -> None:
    for key in ("escape", "q", "f1", "question_mark"):
        async with shown(Read("a [b]title[/b]", "one\n[i]two[/i]"), (40, 12)) as (small, pilot):
            found = "\n".join(rows(small))
            assert "a [b]title[/b]" in found and "[i]two[/i]" in found
            await pilot.press(key)
            assert small.given == [None]


async def test_a_file_that_is_there_is_written_over_only_when_a_person_says_so(tmp_path: Path) -> None:
    written: list[str] = []
    async with shown(Read("", "")) as (small, pilot):

        async def ask(*keys: str) -> None:
            export_file(small, tmp_path / "a.txt", lambda path: written.append(path.name))
            await pilot.pause()
            if keys:
                listed = small.screen.query_one(OptionList)
                assert [str(listed.get_option_at_index(n).prompt) for n in range(2)] == [
                    "keep both: write a-2.txt", "replace a.txt",
                ]  # fmt: skip
                assert str(small.screen.query_one(Label).visual) == f"{tmp_path / 'a.txt'} is there already"
                await pilot.press(*keys)

        await ask()
        assert written == ["a.txt"]
        (tmp_path / "a.txt").write_text("there")
        await ask("escape")
        assert written == ["a.txt"]
        await ask("enter")
        await ask("down", "enter")
        assert written == ["a.txt", "a-2.txt", "a.txt"]
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(DataError):
            export_file(small, tmp_path / "pipe", lambda path: written.append(path.name))
        with pytest.raises(DataError, match="was not written: File name too long"):
            export_file(small, tmp_path / ("x" * 300), lambda path: written.append(path.name))


# -- another token ----------------------------------------------------------------------------------------------------


def table(count: int, chosen: int = -1, after: Sequence[float | None] = ()) -> CandidateTable:
    made = tuple(
        Candidate(100 + i, f"·w{i}", 0.5 / (i + 1), after[i] if after else 0.4 / (i + 1), chosen=i == chosen)
        for i in range(count)
    )
    return CandidateTable("TOKEN", "·name", "1.0 bits", made, 999, (7, 7), (0.9, 0.9), "", True, True)


def test_candidates_are_listed_from_where_the_picked_one_is_seen() -> None:
    with drawn.paper():
        rows_of = drawn.stand(AlternativeRows, table(9, chosen=3))
        assert rows_of.picked == 3
        page = drawn.page(rows_of, 56, 5)
        assert len(page) == 5 and " 1 [text]·w0" in page[1] and "[row]·w3" in page[4]
        tops = []
        for picked in range(9):
            rows_of.picked = picked
            tops.append(rows_of._top(5))
        assert tops == [0, 0, 0, 0, 1, 2, 3, 4, 5]
        rows_of.picked = 8
        whole = [drawn.page(rows_of, 56, height) for height in (4, 10, 12)]
        assert [len(each) for each in whole] == [4, 10, 10]
        assert " 7 [text]·w6" in whole[0][1] and "[row]·w8" in whole[0][3] and " 1 [text]·w0" in whole[1][1]
        assert_picture(
            "tui/pictures/dialog-alternatives.txt",
            [*whole[0], *drawn.page(rows_of, 40, 3), *drawn.page(rows_of, 56, 2)],
        )
        for by, picked in ((-1, 7), (5, 8), (-20, 0), (1, 1)):
            rows_of.action_pick(by)
            assert rows_of.picked == picked and drawn.asked(rows_of)[0]
        none = drawn.stand(AlternativeRows, table(0))
        none.action_pick(1)
        assert none.picked == 0 and not drawn.asked(none)[0] and len(drawn.page(none, 56, 4)) == 1
        assert drawn.stand(AlternativeRows, table(4)).picked == 0


def test_the_longest_bar_is_the_greatest_of_what_was_and_is() -> None:
    with drawn.paper():
        for after in ((0.25, 0.25), (1.0, 0.5), (None, None), (0.0, 0.0)):
            made = drawn.page(drawn.stand(AlternativeRows, table(2, after=after)), 56, 3)
            assert_picture(f"tui/pictures/dialog-alternatives-{after[0]}.txt", made)


@pytest.mark.parametrize(
    ("at", "count", "screen", "spot"),
    [
        ((10, 5), 3, (80, 24), (10, 6, 56, 8)),  # below its token
        ((70, 5), 3, (80, 24), (24, 6, 56, 8)),  # held at the right edge
        ((-3, 15), 3, (80, 24), (0, 16, 56, 8)),
        ((10, 16), 3, (80, 24), (10, 8, 56, 8)),  # above, where below is no room
        ((10, 5), 20, (80, 24), (10, 6, 56, 15)),
        ((10, 9), 20, (80, 24), (10, 0, 56, 15)),
        ((10, 3), 20, (40, 12), (2, 0, 38, 10)),
        ((10, 3), 1, (40, 6), (2, 0, 38, 6)),
    ],
)
async def test_the_menu_opens_beside_its_token(
    at: tuple[int, int], count: int, screen: tuple[int, int], spot: tuple[int, int, int, int]
) -> None:
    async with shown(Alternatives(table(count), at), screen) as (small, _):
        menu = small.screen.query_one("#menu")
        offset = menu.styles.offset
        height = small.screen.query_one("#alternatives").styles.height
        assert height is not None and menu.styles.width is not None
        assert (offset.x.value, offset.y.value, menu.styles.width.value, height.value + 4) == spot
        assert not small.screen.query_one("#own").display and small.screen.query_one(AlternativeRows).has_focus


@pytest.mark.parametrize(
    ("keys", "given"),
    [
        (("down", "enter"), ("token", 101)),
        (("x",), ("ban", 100)),
        (("3",), ("token", 102)),
        (("4", "2"), ("token", 101)),
        (("slash", "a", "b", "enter"), ("text", "ab")),
        (("slash", "enter", "escape"), None),
    ],
)
async def test_a_key_gives_another_way_to_go_on(keys: tuple[str, ...], given: object) -> None:
    async with shown(Alternatives(table(3), (4, 4))) as (small, pilot):
        assert "·name  1.0 bits" in "\n".join(rows(small))
        await pilot.press(*keys)
        assert small.given == [given]


async def test_without_candidates_only_words_can_be_given() -> None:
    async with shown(Alternatives(table(0), (4, 4))) as (small, pilot):
        assert not small.screen.query_one("#own").display
        await pilot.press("enter", "x", "1", "up")
        assert small.given == [] and small.screen.query_one("#menu-keys").display
        await pilot.press("slash")
        own = small.screen.query_one("#own")
        assert own.display and own.has_focus and not small.screen.query_one("#menu-keys").display


@pytest.mark.slow
async def test_a_click_takes_the_row_that_it_falls_on() -> None:
    for y, given in (
        (0, []),
        (1, [("token", 103)]),
        (2, [("token", 104)]),
        (9, [("token", 111)]),
        (10, [("token", 112)]),
    ):
        async with shown(Alternatives(table(13, chosen=12), (4, 4)), (80, 24)) as (small, pilot):
            menu = small.screen.query_one(AlternativeRows)
            assert menu._top(menu.size.height) == 3
            await pilot.click(menu, offset=(5, y))
            assert small.given == given
    async with shown(Alternatives(table(2), (4, 4)), (80, 24)) as (small, _):
        menu = small.screen.query_one(AlternativeRows)
        menu.on_click(cast(events.Click, SimpleNamespace(y=3)))
        assert small.given == [] and menu.picked == 0 and Offset() == (0, 0)


# -- places -----------------------------------------------------------------------------------------------------------

LONG = "one two three four five six seven eight nine ten eleven twelve thirteen"
HITS = [
    SearchHit("a", 1, "user", "why is the\n", "sky", " blue\nnow", True),
    SearchHit("b", 2, "assistant", LONG + " ", "日本", " " + LONG, False),
    SearchHit("c", 3, "text", "", "x" * 90, "", True),
    SearchHit("d", 4, "tool", " ", "y", "", False),
]


async def lines(width: int) -> list[str]:
    async with shown(Finder("find", "words", lambda query: HITS), (width, 24)) as (small, _):
        listed = small.screen.query_one(OptionList)
        return [str(listed.get_option_at_index(i).prompt) for i in range(4)]


async def test_a_place_stands_amid_its_words_in_one_line() -> None:
    for width, room in ((120, 80), (88, 80), (60, 52), (30, 30)):
        found = await lines(width)
        assert_picture(f"tui/pictures/dialog-finder-{width}.txt", found)
        assert all(sum(2 if c in "日本" else 1 for c in line) <= room for line in found[1:2])


async def test_places_narrow_as_a_person_types() -> None:
    def search(query: str) -> list[SearchHit]:
        return {"": [], "sky": HITS, "no": [], "many": HITS[:1] * 200, "more": HITS[:1] * 199}.get(query.strip(), [])

    async with shown(Finder("find", "words", search, "sky")) as (small, pilot):
        screen = small.screen
        assert isinstance(screen, Finder)
        field, listed, line = (
            screen.query_one(Input),
            screen.query_one(OptionList),
            screen.query_one("#finder-line", Label),
        )
        assert (field.value, field.placeholder, field.has_focus, listed.can_focus) == ("sky", "words", True, False)
        for query, count, highlighted, said in (
            ("sky", 4, 0, "4 found"), ("no", 0, None, "nothing found"), ("", 0, None, "type to search"),
            (" ", 0, None, "type to search"), ("many", 200, 0, "200 or more found"), ("more", 199, 0, "199 found"),
        ):  # fmt: skip
            screen.narrow(query)
            assert (listed.option_count, listed.highlighted) == (count, highlighted)
            assert str(line.visual) == f"{said} · ↑↓ pick · ⏎ go there · esc"
        screen.narrow("no")
        await pilot.press("down", "enter")
        assert small.given == [] and listed.highlighted is None
        screen.narrow("sky")
        places = []
        for key in ("up", "down", "down", "down", "down", "up"):
            await pilot.press(key)
            places.append(listed.highlighted)
        assert places == [0, 1, 2, 3, 3, 2]
        await pilot.press("enter")
        assert small.given == [HITS[2]]


async def test_typing_narrows_and_a_row_can_be_chosen() -> None:
    asked: list[str] = []

    def search(query: str) -> list[SearchHit]:
        asked.append(query)
        return HITS

    async with shown(Finder("find", "words", search)) as (small, pilot):
        await pilot.press("s", "k")
        assert asked[0] == "" and asked[-1] == "sk"
        small.screen.query_one(OptionList).action_select()
        await pilot.pause()
        assert small.given == [HITS[0]]


# -- models -----------------------------------------------------------------------------------------------------------

OFFERS = (
    r.ModelOffer("owner/big-model", 50_000_000_000, "mit", False, False, "too big for this machine"),
    r.ModelOffer("to/fetch", 0, "", False, True),
    r.ModelOffer("here", 98_362_432, "a-very-long-licence", True, True, "llama Q4_1"),
    r.ModelOffer("folder/that/is/here/", 1_500_000_000, "apache-2.0", True, True),
)


def host(current: str = "", models: dict[str, Any] | None = None) -> Any:
    """A host whose engine notes what it is asked for."""
    asked: list[Any] = []
    return SimpleNamespace(
        asked=asked,
        engine=SimpleNamespace(
            current=SimpleNamespace(name=current) if current else None,
            models=models or {},
            submit=lambda request, heard: asked.append((request, heard)),
        ),
    )


async def test_models_are_listed_those_that_are_here_first() -> None:
    it = host("here", {"here": None, "opened": r.ModelFacts("opened", 9, (), True, 7_000_000, "", "llama", "Q4")})
    for width in (60, 120):
        it.asked.clear()
        async with shown(Models(it), (width, 24)) as (small, pilot):
            screen = small.screen
            assert isinstance(screen, Models) and not screen.first
            assert "models" in rows(small)[0] and "looking…" in "\n".join(rows(small))
            ((request, heard),) = it.asked
            assert request == r.Offer()
            heard(1, [r.Offered(OFFERS)])
            await pilot.pause()
            listed = screen.query_one(OptionList)
            assert [offer.name for offer in screen.offers] == [
                "opened", "here", "folder/that/is/here/", "to/fetch", "owner/big-model",
            ]  # fmt: skip
            assert listed.highlighted == 1 and listed.has_focus
            assert_picture(
                f"tui/pictures/dialog-models-{width}.txt", [str(listed.get_option_at_index(i).prompt) for i in range(5)]
            )
            assert [listed.get_option_at_index(i).disabled for i in range(5)] == [False] * 4 + [True]
            line = screen.query_one("#models-line", Label)
            said = []
            for at in (1, 3, 2):
                listed.highlighted = at
                await pilot.pause()
                said.append(str(line.visual))
            assert said == [
                "here · llama Q4_1 · ⏎ loads it · esc",
                "to/fetch · ⏎ fetches and loads it · esc",
                "folder/that/is/here/ · ⏎ loads it · esc",
            ]
            await pilot.press("enter")
            assert small.given == ["folder/that/is/here/"]


@pytest.mark.slow
async def test_what_is_said_of_a_model_is_cut_to_the_line() -> None:
    offers = (r.ModelOffer("n" * 90, 5, "", True, True),)
    async with shown(Models(host(), offers), (60, 24)) as (small, pilot):
        await pilot.pause()
        line = str(small.screen.query_one("#models-line", Label).visual)
        assert line == "n" * (60 - 10 - 10 - 9 - 1) + "… · ⏎ loads it · esc"
    async with shown(Models(host(), (r.ModelOffer("n" * 90, 5, "", False, True),)), (120, 24)) as (small, pilot):
        await pilot.pause()
        line = str(small.screen.query_one("#models-line", Label).visual)
        assert line == "n" * (88 - 10 - 22 - 9 - 1) + "… · ⏎ fetches and loads it · esc"


async def test_on_a_first_run_only_what_fits_is_offered() -> None:
    for offers, title in ((OFFERS[:2], FIRST), (OFFERS, SEVERAL)):
        it = host()
        async with shown(Models(it, offers), (100, 24)) as (small, pilot):
            screen = small.screen
            assert isinstance(screen, Models) and screen.first and it.asked == []
            assert title in "\n".join(rows(small))
            assert all(offer.fits for offer in screen.offers)
            assert screen.query_one(OptionList).highlighted == 0
            await pilot.press("down" if len(screen.offers) > 1 else "end")
            screen.query_one(Input).value = "  "
            screen.query_one(Input).focus()
            await pilot.press("enter")
            assert small.given == []
            await pilot.press("down")
            assert screen.query_one(OptionList).has_focus
            screen.query_one(Input).value = " owner/name "
            screen.query_one(Input).focus()
            await pilot.press("enter")
            assert small.given == ["owner/name"]


async def test_offers_that_do_not_come_say_why() -> None:
    it = host()
    async with shown(Models(it)) as (small, pilot):
        it.asked[0][1](1, [Failed("the hub is not there")])
        await pilot.pause()
        assert "the hub is not there" in "\n".join(rows(small))
        it.asked[0][1](1, [r.Offered(())])
        assert small.screen.query_one(OptionList).highlighted is None
        await pilot.press("escape")
        assert small.given == [None]
        it.asked[0][1](1, [r.Offered(OFFERS)])  # too late


def test_a_size_is_said_in_its_unit() -> None:
    assert [size(n) for n in (0, 1_499_999, 999_400_000, 10**9, 1_250_000_000)] == [
        "0 MB", "1 MB", "999 MB", "1.0 GB", "1.2 GB",
    ]  # fmt: skip


# -- an evaluation, a formula -----------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_an_evaluation_is_ordered_from_any_field_and_what_is_wrong_is_said() -> None:
    async with shown(NewEvaluation("copying", "a b")) as (small, pilot):
        screen = small.screen
        assert isinstance(screen, NewEvaluation)
        field = {name: screen.query_one(f"#asked-{name}", Input) for name in ("tasks", "models", "items")}
        assert [each.value for each in field.values()] == ["copying", "a b", ""] and field["tasks"].has_focus
        assert field["tasks"].suggester is not None and field["models"].suggester is None
        assert screen.read() == r.Evaluate(("copying",), ("a", "b"), None)
        for name, text, wrong in (
            ("tasks", "  ", "tasks: give a file, or one of "), ("tasks", "nowhere.jsonl", "nowhere.jsonl"),
            ("items", "0", "items: a whole number from 1 on, got '0'"), ("items", "-1", "from 1 on, got '-1'"),
        ):  # fmt: skip
            before, field[name].value = field[name].value, text
            with pytest.raises(LikelyError) as error:
                screen.read()
            assert wrong in str(error.value)
            await pilot.press("enter")
            assert small.given == [] and str(screen.query_one("#asked-line", Label).visual) == str(error.value)
            field[name].value = before
        await pilot.press("down")
        assert field["models"].has_focus
        await pilot.press("up", "up")
        field["items"].value = " 12 "
        field["items"].focus()
        await pilot.press("enter")
        assert small.given == [r.Evaluate(("copying",), ("a", "b"), 12)]
    async with shown(NewEvaluation()) as (small, pilot):
        assert [each.value for each in small.screen.query(Input)] == ["", "", ""]
        await pilot.press("escape")
        assert small.given == [None]


async def test_a_formula_has_a_line_for_each_of_its_equations() -> None:
    found = Formula("model", (("p = a\x1b   q = ", False), ("0.5", True)), "a note")
    async with shown(FormulaSheet(found)) as (small, pilot):
        texts = [str(each.visual) for each in small.screen.query(Static)]
        assert [text.strip() for text in texts] == [
            "tokenizer → model → decoder → metric", MAPS["model"], "p = a␛\nq = 0.5", "a note",
        ]  # fmt: skip
        await pilot.press("enter")
        assert small.given == [None]
    async with shown(FormulaSheet(Formula("metric", (("1", True),)))) as (small, _):
        assert len(small.screen.query(Static)) == 3
