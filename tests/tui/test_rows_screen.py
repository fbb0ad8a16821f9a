"""The screen of rows on a small application: what each key does, what is said of a row, and what is measured."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from textual.pilot import Pilot
from textual.screen import Screen
from textual.widgets import Label, Static

from app import requests as r
from app.tui.dialogs import rows as dialog
from app.tui.dialogs.overlays import Read
from app.tui.dialogs.rows import RowsScreen, turns
from app.tui.training.browser import OpenedRows
from app.tui.widgets.bars import Hints
from app.tui.widgets.caption import Caption
from app.tui.widgets.heat_view import HeatView
from app.worker import Failed
from engine.prompt import Prompt
from engine.tune.row_file import FileRow, of_value
from engine.tune.rows import parse
from tests.tui.pages import NAMES
from tests.tui.small_app import HostApp, shown
from tests.tui.test_training_probes import PIECES, step

SAID = (("system", "be"), ("user", "why"), ("assistant", "so"))
CHAT = {"messages": [{"role": who, "content": text} for who, text in SAID]}
SOURCE = {
    "method": "verified", "parent": "sums:3", "model": "small", "strategy": "beam", "recipe": {"temp": 0.5}, "seed": 7,
    "job": 3, "branch": 1, "attributes": {"a": 1}, "other": "not shown",
}  # fmt: skip


def row(value: Any, where: str = "rows.jsonl:3", **more: Any) -> FileRow:
    return of_value(value | more, where)


@pytest.fixture
def host(tmp_path: Path) -> HostApp:
    return HostApp(tmp_path, NAMES)


def still(host: HostApp, *rows: FileRow, files: int = 1, **choices: bool) -> RowsScreen:
    """A screen that is on none, of these rows."""
    found = RowsScreen(cast(Any, host), str(host.home))
    found.browser.files = [host.home / f"part{n}.jsonl" for n in range(files)]
    found.browser.show(OpenedRows(host.home / "part0.jsonl", rows, ("bits", "words"), choices))
    return found


# -- what is said of a row --------------------------------------------------------------------------------------------


def test_turns_are_who_says_what_a_rejected_answer_last() -> None:
    assert turns(parse({"text": "a text"}, "")) == [("text", "a text")]
    assert turns(parse(CHAT, "")) == [("system", "be"), ("user", "why"), ("assistant", "so")]
    pair = parse({"prompt": "why", "chosen": "so", "rejected": "no"}, "")
    assert turns(pair) == [("user", "why"), ("assistant", "so"), ("rejected", "no")]


def test_a_title_names_the_file_the_place_the_order_and_the_choices(host: HostApp) -> None:
    rows = [row({"text": f"t{n}"}) for n in range(1200)]
    it = still(host, *rows)
    assert it._title() == [(" part0.jsonl", "model"), ("  row 1 of 1,200", "text"), ("", "faint"), ("", "accent")]
    it = still(host, *rows, files=3, a=False, b=True, c=False)
    it.browser.file = 1
    it.browser.go(1099)
    it.browser.by = "bits"
    assert it._title() == [
        (" part1.jsonl", "model"), ("  file 2 of 3", "faint"), ("  row 1,100 of 1,200", "text"),
        ("  by bits a token", "faint"), ("  2 dropped, 1 kept by hand", "accent"),
    ]  # fmt: skip
    assert still(host, rows[0], a=True)._title()[-1] == ("  0 dropped, 1 kept by hand", "accent")
    it.busy = "reading part1.jsonl"
    assert it._title()[2:] == [("  reading part1.jsonl …", "faint")]
    none = still(host)
    assert none._title() == [(" part0.jsonl", "model")]
    none.browser.files = []
    assert none._title() == [(" rows", "model")]


def test_facts_say_where_a_row_came_from_its_numbers_and_its_fate(host: HostApp) -> None:
    made = row(CHAT, source=SOURCE, scores={"logprob": -1.5, "words": 3.0, "tokens": 5.25}, dropped="filter: short")
    it = still(host, made)
    words = "verified · sums:3 · small · beam · recipe temp=0.5 · seed 7 · job 3 · branch 1 · attributes a=1"
    assert it._facts(made) == [
        [(f" {words}", "faint")], [(" 2.16 bits a token · words 3 · tokens 5.250", "text")],
        [(" ", "text"), ("dropped: filter: short", "faint")],
    ]  # fmt: skip
    plain = row({"text": "t"}, source={"method": "", "seed": 0})
    assert it._facts(plain) == [[(" seed 0", "faint")], [(" ", "text")], [(" ", "text"), ("", "faint")]]
    assert it._facts(row({"text": "t"}))[0] == [(" rows.jsonl:3", "faint")]
    for keep, fate in ((True, ("  kept by hand  ", "better")), (False, ("  dropped by hand  ", "alarm"))):
        assert made.row is not None
        chosen = still(host, made, **{dialog.browsing.choices.key(made.row): keep})
        assert chosen._facts(made)[2] == [(fate[0][1:], fate[1]), ("dropped: filter: short", "faint")]


def test_a_row_that_was_measured_says_its_surprise(host: HostApp) -> None:
    made, other = row(CHAT, scores={"words": 3.0}), row({"text": "t"}, "rows.jsonl:4")
    it = still(host, made, other)
    steps = tuple(step(0, None) if n == 0 else step(5, -n * dialog.LN2) for n in range(5))
    for spans, said in ((((1, 2), (2, 4)), "2.50"), (((1, 2), None), "2.50"), ((), "2.50")):
        it.measured = made.where, "small", r.Scored(steps, spans)
        assert it._facts(made)[1] == [(f" {said} bits a token under small · words 3", "text")]
    it.measured = made.where, "small", r.Scored(steps, ((1, 2), (1, 3)))
    assert it._facts(made)[1] == [(" 1.50 bits a token under small · words 3", "text")]
    it.measured = made.where, "small", r.Scored(steps, ((1, 3),))
    assert it._facts(made)[1] == [(" 1.50 bits a token under small · words 3", "text")]
    assert it._facts(other)[1] == [(" ", "text")]
    it.measured = other.where, "small", r.Scored(steps[:1], ())
    assert it._surprise() == "" and it._facts(other)[1] == [(" ", "text")]
    it.measured = other.where, "small", r.Scored(steps, ())
    assert it._facts(other)[1] == [(" 2.50 bits a token under small", "text")]


def test_a_row_is_shown_by_its_turns_or_by_its_tokens(host: HostApp) -> None:
    long = row({"text": "x" * 5000})
    it = still(host, row(CHAT), long)
    blocks = it._blocks(row(CHAT))
    assert [(b.key, b.who, b.scored) for b in blocks] == [
        ("0", "system", True),
        ("1", "user", True),
        ("2", "assistant", True),
    ]
    assert [[t.text for t in b.tokens] for b in blocks] == [["be"], ["why"], ["so"]]
    assert len(it._blocks(long)[0].tokens[0].text) == 4000
    (wrong,) = it._blocks(FileRow("rows.jsonl:9", error="rows.jsonl:9: no row"))
    assert (wrong.key, wrong.who, wrong.scored, wrong.tokens[0].text) == (
        "error",
        "no row",
        True,
        "rows.jsonl:9: no row",
    )
    host.names = type(NAMES)(PIECES)
    it.measured = long.where, "small", r.Scored((step(0, None), step(5, -3 * dialog.LN2)), ())
    (block,) = it._blocks(long)
    assert (block.who, block.note, block.scored, block.specials) == (
        "row",
        "as small reads it, tinted by surprise",
        True,
        True,
    )
    assert [(t.text, t.level) for t in block.tokens] == [("a", 0), (" sky", 1)]


# -- keys -------------------------------------------------------------------------------------------------------------


async def until(pilot: Pilot[None], condition: Callable[[], object]) -> None:
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.005)
        await pilot.pause()
    raise AssertionError("it never came to this")


def write(folder: Path, **files: int) -> None:
    """Files of rows, the surprisal of the later greater; the first of them one that was dropped."""
    folder.mkdir(exist_ok=True)
    for name, count in files.items():
        values = [
            {"text": f"{name} {n}", "scores": {"logprob": -n * dialog.LN2}}
            | ({"dropped": "filter: short"} if not n else {})
            for n in range(count)
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(value) + "\n" for value in values))


@pytest.mark.slow
async def test_rows_are_walked_ordered_chosen_and_read(tmp_path: Path, host: HostApp) -> None:
    write(tmp_path / "made", train=4, valid=2)
    it = RowsScreen(cast(Any, host), str(tmp_path / "made"))
    async with shown(it, (90, 20), host) as (_, pilot):
        hints, browser = it.query_one(Hints), it.browser
        await until(pilot, lambda: not it.busy and len(browser.rows) == 4)
        own = (("d", "Drop"), ("k", "Keep"), ("o", "Order"), ("m", "Measure"), ("⏎", "Whole"))
        assert hints.keys == (*own, ("[ ]", "File"), ("esc", "Back"))
        assert it.query_one("#rows-title", Caption).rows == (it._title(),)
        assert it.query_one("#row-facts", Caption).rows == tuple(it._facts(browser.row(0)))
        await pilot.press("down", "d")
        assert browser.at == 2 and browser.by_hand == (1, 0) and "left out" in hints.news and not hints.alarm
        assert it.query_one("#rows-title", Caption).rows == (it._title(),)
        await pilot.press("up")
        assert hints.news == "" and browser.at == 1
        await pilot.press("k")
        assert browser.by_hand == (0, 0) and "taken back" in hints.news and browser.at == 2
        await pilot.press("k")
        assert hints.news == "it is kept as it is" and browser.at == 2
        await pilot.press("o")
        await until(pilot, lambda: browser.by == "bits")
        assert [browser.row(i).where[-1] for i in range(4)] == ["4", "3", "2", "1"] and browser.at == 0 and not it.busy
        await pilot.press("o")
        assert browser.by == "" and browser.order is None
        assert it.query_one(HeatView).blocks[0].tokens[0].text == "train 0"
        await pilot.press("enter")
        said = str(host.screen.query_one("VerticalScroll Static", Static).visual)
        assert said == "filter: short\n\ntext\ntrain 0\n\nlogprob 0"
        assert str(host.screen.query_one(Label).visual).endswith("train.jsonl:1")
        await pilot.press("escape", "f1")
        assert isinstance(host.screen, Read)
        keys = str(host.screen.query_one("VerticalScroll Static", Static).visual).split("\n")
        assert len(keys) == len(dialog.LINES) and keys[2].split() == [
            "d",
            "drop",
            "the",
            "row,",
            "or",
            "take",
            "that",
            "back",
        ]
        await pilot.press("escape")
        files = []
        for key in ("right_square_bracket", "right_square_bracket", "left_square_bracket"):
            await pilot.press(key)
            await until(pilot, lambda: not it.busy)
            files.append((browser.path.name, len(browser.rows)))  # type: ignore[union-attr]
        assert files == [("valid.jsonl", 2), ("train.jsonl", 4), ("valid.jsonl", 2)]
        hints.say("")
        write(tmp_path / "made", valid=3)
        it._look()
        assert hints.news == "the file is another by now: r reads it again"
        await pilot.press("r")
        await until(pilot, lambda: len(browser.rows) == 3)
        hints.say("")
        it._look()
        assert hints.news == ""
        write(tmp_path / "made", valid=1)
        it.busy = "reading"
        it._look()
        assert hints.news == ""
        it.busy = ""
        host.push_screen(Screen())
        host.push_screen(Screen())
        await pilot.pause()
        it._look()
        assert hints.news == ""


@pytest.mark.slow
async def test_a_row_is_measured_by_the_model_of_the_chat(tmp_path: Path, host: HostApp) -> None:
    (tmp_path / "rows.jsonl").write_text(
        "\n".join(json.dumps(each) for each in (CHAT, {"text": "a text"}, {"wrong": 1}))
    )
    it = RowsScreen(cast(Any, host), str(tmp_path / "rows.jsonl"))
    async with shown(it, (90, 20), host) as (_, pilot):
        hints = it.query_one(Hints)
        await until(pilot, lambda: not it.busy and len(it.browser.rows) == 3)
        assert not it.browser.numbers
        await pilot.press("o")
        assert hints.news == "these rows have no numbers to be ordered by"
        await pilot.press("left_square_bracket")
        assert it.browser.file == 0 and not it.busy  # there is no other
        assert ("[ ]", "File") not in hints.keys
        await pilot.press("m")
        (request,), (heard,) = host.engine.asked, host.engine.handlers
        assert request.prompt == Prompt((("system", "be"), ("user", "why"), ("assistant", "so")))
        assert (request.model, request.contents) == (
            "model",
            ("be", "why", "so"),
        ) and hints.news == "measuring with model"
        found = r.Scored((step(0, None), step(5, -2 * dialog.LN2)), ())
        heard(1, [found])
        assert it.measured == (it.browser.row(0).where, "model", found) and hints.news == ""
        assert it.query_one("#row-facts", Caption).rows[1] == [(" 2.00 bits a token under model", "text")]
        heard(1, [Failed("no room")])
        assert (hints.news, hints.alarm) == ("no room", True)
        await pilot.press("down", "m")
        assert host.engine.asked[1].prompt == Prompt(parts=("a text",))
        assert host.engine.asked[1].contents == ("a text",)
        await pilot.press("down", "m")
        assert hints.news == "there is no row here" and len(host.engine.asked) == 2
        await pilot.press("d")
        assert hints.news == "this is no row: nothing is trained on it" and it.browser.at == 2
        host.engine.current = None
        await pilot.press("up", "m")
        assert hints.news == "there is no model: the chat's measures a row" and len(host.engine.asked) == 2
        (tmp_path / "choices.partial.jsonl").mkdir()
        await pilot.press("d")
        assert hints.alarm and it.browser.at == 1 and it.browser.by_hand == (0, 0)
        await pilot.press("escape")
        assert host.given == [None]
        heard(1, [found])


async def test_what_cannot_be_read_says_why(tmp_path: Path, host: HostApp, monkeypatch: pytest.MonkeyPatch) -> None:
    it = RowsScreen(cast(Any, host), str(tmp_path / "gone"))
    async with shown(it, (90, 12), host) as (_, pilot):
        hints = it.query_one(Hints)
        assert hints.keys == (("esc", "Back"),) and "there is no" in it.browser.why and not it.busy
        await pilot.press("enter", "m", "d", "o")
        assert host.screen is it and it.query_one(HeatView).blocks == []
        write(tmp_path / "gone", train=2)
        await pilot.press("r")
        await until(pilot, lambda: len(it.browser.rows) == 2)

        def fails(*args: Any) -> Any:
            raise MemoryError

        monkeypatch.setattr(dialog.browsing, "opened", fails)
        it.open_file()
        assert it.busy == "reading train.jsonl"
        await until(pilot, lambda: not it.busy)
        assert it.browser.why == "there is not enough memory for it" and len(it.browser.rows) == 0
