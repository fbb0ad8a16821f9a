"""The rows of a data set on the tune screen: source, scores and surprisal, what is dropped and kept, and bad files."""

import json
import math
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from likely.app.tui.dialogs.rows import RowsScreen
from likely.app.tui.training import browser as browsing
from likely.app.tui.training.browser import RowBrowser
from likely.app.tui.views.tune import TuneScreen
from likely.app.tui.widgets.bars import Hints
from likely.app.tui.widgets.tune_form import TuneForm
from likely.engine.tune import choices, data
from likely.engine.tune.row_file import RowFile
from tests.support.trainer import ScriptedTrainer
from tests.tui.conftest import Play, Stage, assert_screen
from tests.tui.tuning import Held, reach, running

WHY = ("filter: verifier", "generate: longer than max_tokens", "decontaminate: asks what is evaluated")


def value(number: int, **more: Any) -> dict[str, Any]:
    source = {
        "method": "verified", "job": number, "branch": 1, "seed": 123, "parent": f"sums:{number}", "model": "smollm2",
        "strategy": "", "recipe": {"temp": 0.8}, "attributes": {},
    }  # fmt: skip
    scores = {"logprob": -((number * 7) % 11) * math.log(2) / 4, "tokens": 5.0, "words": 3.0 + number % 3}
    said = {"prompt": f"{number}+1=", "completion": f" it is {number + 1}"}
    return {**said, "id": f"{number:06}-001", "source": source, "scores": scores, **more}


def write(path: Path, values: list[Any]) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join((each if isinstance(each, str) else json.dumps(each)) + "\n" for each in values))
    return path


def made(folder: Path) -> Path:
    write(folder / "train.jsonl", [value(i) for i in range(30)])
    write(
        folder / "dropped.jsonl", [*(value(100 + i, dropped=why) for i, why in enumerate(WHY)), '{"prompt": 1', "[1]"]
    )
    return folder


def screen(stage: Stage) -> RowsScreen:
    found = stage.app.screen
    assert isinstance(found, RowsScreen)
    return found


async def look_at(stage: Stage, source: str) -> RowsScreen:
    """The rows of a source, from the form."""
    if not isinstance(stage.app.screen, TuneScreen):
        await stage.pilot.press("f5")
    await stage.until(lambda: isinstance(stage.app.screen, TuneScreen), "the form")
    stage.app.screen.query_one(TuneForm).field("data").value = source
    await stage.pilot.press("ctrl+l")
    await stage.until(lambda: isinstance(stage.app.screen, RowsScreen) and not screen(stage).busy, "the rows")
    return screen(stage)


def news(stage: Stage) -> str:
    return screen(stage).query_one(Hints).news


@pytest.mark.slow
async def test_rows_are_dropped_ordered_and_measured_by_key_and_their_file_stays_as_it_is(
    play: Play, tmp_path: Path
) -> None:
    folder = made(tmp_path / "made")
    before = (folder / "train.jsonl").read_bytes()
    async with play() as stage:
        it = await look_at(stage, str(folder))
        await stage.pilot.press("down", "down", "d")
        assert it.browser.at == 3 and it.browser.by_hand == (1, 0) and "left out of trainings" in news(stage)
        picture = stage.picture()
        assert "✕       3" in picture and "1 dropped, 0 kept by hand" in picture
        assert "sums:3 · smollm2" in picture and "2.50 bits a token" in picture  # of the row below
        found = data.read(folder, valid=0)
        assert len(found.train) == 29 and found.left_out == 1
        assert "2+1=" not in [row.messages[0]["content"] for row in found.train]
        await stage.pilot.press("up", "k")  # takes it back
        assert it.browser.by_hand == (0, 0) and "taken back" in news(stage)
        await stage.pilot.press("k")
        assert "kept as it is" in news(stage) and it.browser.at == 3
        assert len(data.read(folder, valid=0).train) == 30
        await stage.pilot.press("o")
        await stage.until(lambda: it.browser.by == "bits")
        bits = [it.browser.row(i).surprisal for i in range(30)]
        assert bits == sorted(bits, key=lambda x: -(x or 0)) and bits[0] == 2.5
        assert it.browser.numbers == ("bits", "words", "tokens")  # what is always the same comes last
        for name in ("words", "tokens", ""):
            await stage.pilot.press("o")
            assert it.browser.by == name  # at once: every row has been read
        assert it.browser.row(4).where.endswith(":5")
        await stage.pilot.press("m")
        await stage.until(lambda: it.measured is not None, "a measure")
        assert "bits a token under scripted" in stage.picture() and "tinted by surprise" in stage.picture()
        await stage.pilot.press("down")
        assert "tinted by surprise" not in stage.picture()
        assert (folder / "train.jsonl").read_bytes() == before
        await stage.pilot.press("escape")
        await stage.until(lambda: isinstance(stage.app.screen, TuneScreen))


@pytest.mark.slow
async def test_rows_that_a_pipeline_dropped_come_back_where_they_can_and_what_is_no_row_is_said(
    play: Play, tmp_path: Path
) -> None:
    folder = made(tmp_path / "made")
    (folder / choices.NAME).write_text('{"row": "a", "keep": 3}\n')
    async with play(size=(80, 24)) as stage:
        it = await look_at(stage, str(folder))
        assert "choices.jsonl:1: a choice of a row expected" in it.browser.why
        (folder / choices.NAME).unlink()
        blocked = folder / "choices.partial.jsonl"
        blocked.mkdir()
        await stage.pilot.press("r")
        await stage.until(lambda: len(it.browser.rows) == 30)
        await stage.pilot.press("d")  # nothing is lost where it cannot be written
        assert it.browser.by_hand == (0, 0) and it.browser.at == 0 and "move it away" in news(stage)
        blocked.rmdir()
        await stage.pilot.press("right_square_bracket")
        await stage.until(lambda: it.browser.path == folder / "dropped.jsonl" and not it.busy)
        await stage.pilot.press("k")
        assert choices.read(folder / choices.NAME) == {choices.key(it.browser.row(0).row): True}  # type: ignore[arg-type]
        for why in WHY[1:]:
            await stage.pilot.press("k")
            assert f"it cannot come back: {why}" in news(stage)
            await stage.pilot.press("down")
        await stage.pilot.press("d")
        assert "this is no row" in news(stage)
        assert "one JSON object a line expected" in stage.picture()
        await stage.pilot.press("end")
        assert "a JSON object expected, got" in stage.picture()
        write(folder / "dropped.jsonl", [value(7)])
        await stage.until(lambda: "r reads it again" in news(stage), "word of another file")
        await stage.pilot.press("r")
        await stage.until(lambda: len(it.browser.rows) == 1 and not it.busy)


@pytest.mark.slow
async def test_during_a_run_and_of_what_is_not_there(play: Play, tmp_path: Path) -> None:
    made(tmp_path / "made")
    (tmp_path / "empty.jsonl").write_text("\n\n")
    (tmp_path / "bad.jsonl").write_bytes(b"\xff\xfe\n" + b"[" * 5000 + b"\n")
    (tmp_path / "rows.csv").write_text("prompt,completion\na,b\n")
    trainer = ScriptedTrainer()
    held = Held(trainer, 5)
    async with running(play, trainer) as stage:
        await reach(stage, 5)
        await stage.pilot.press("ctrl+l")
        await stage.until(lambda: isinstance(stage.app.screen, RowsScreen))
        assert "there is no rows.jsonl on this machine" in stage.picture()
        await stage.pilot.press("d", "k", "o", "m", "end", "enter", "escape")  # nothing of it fails
        held.go(5)
        await reach(stage, 9)  # the run went on beneath
    async with play(size=(60, 20)) as stage:
        for name, said in {
            "nowhere": "there is no", "": "give a file or a folder", "empty.jsonl": "no rows", "made": "row 1 of 30",
            "bad.jsonl": "one JSON object a line expected", "rows.csv": "a → b", "\0": "there is no",
        }.items():  # fmt: skip
            it = await look_at(stage, name)
            assert said in stage.picture(), name
            if name == "nowhere":  # it is there a moment later, in a folder of the folder
                write(tmp_path / "nowhere" / "train.jsonl", [value(i) for i in range(4)])
                (tmp_path / "nowhere" / "data").mkdir()
                (tmp_path / "nowhere" / "train.jsonl").rename(tmp_path / "nowhere" / "data" / "train.jsonl")
                await stage.pilot.press("r")
                await stage.until(lambda it=it: len(it.browser.rows) == 4)
                await stage.pilot.press("d")
                assert len(data.read(tmp_path / "nowhere", valid=0).train) == 3
            await stage.pilot.press("escape")
            await stage.until(lambda: isinstance(stage.app.screen, TuneScreen), "the form again")


async def test_an_older_order_is_not_laid_over_rows_that_were_read_since(
    play: Play, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, gates, begun = made(tmp_path / "made"), (Event(), Event()), [0]
    columns = browsing.columns

    def slow(rows: Any, names: Any) -> Any:
        begun[0] += 1
        gates[begun[0] - 1].wait(20)
        return columns(rows, names)

    monkeypatch.setattr(browsing, "columns", slow)
    async with play() as stage:
        it = await look_at(stage, str(folder))
        await stage.pilot.press("o")
        await stage.until(lambda: begun == [1], "the first order")
        write(folder / "train.jsonl", [value(i) for i in range(4)])
        await stage.pilot.press("r")
        await stage.until(lambda: len(it.browser.rows) == 4, "the rows anew")
        await stage.pilot.press("o")
        await stage.until(lambda: begun == [2], "the second order")
        gates[0].set()
        await stage.pilot.pause(0.1)
        assert it.busy and it.browser.order is None
        gates[1].set()
        await stage.until(lambda: not it.busy, "the end of the second")
        assert it.browser.order is not None and sorted(it.browser.order) == [0, 1, 2, 3]


def test_of_many_rows_only_those_that_are_seen_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = json.dumps(value(1)) + "\n"
    (tmp_path / "train.jsonl").write_text(line * 20_000 + line[:-1])  # no newline at its end
    read: list[int] = []
    whole = RowFile.__getitem__
    monkeypatch.setattr(RowFile, "__getitem__", lambda self, at: read.append(at) or whole(self, at))
    shown = RowBrowser(str(tmp_path))
    shown.show(browsing.opened(tmp_path / "train.jsonl", {}, shown.beside))
    assert len(shown.rows) == 20_001 and len(read) <= browsing.LOOKED_AT
    shown.go(10**9)
    here = shown.here
    assert here is not None and here.where.endswith(":20001") and len(read) <= browsing.LOOKED_AT + 2


@pytest.mark.parametrize("chunk", [3, 1 << 24])
def test_lines_of_blanks_are_no_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr("likely.engine.tune.row_file.CHUNK", chunk)
    for end in ("", "  ", "\n\t \n", " {"):
        (tmp_path / "t.jsonl").write_bytes(f'\n{{"text": "a"}}\r\n \t\r\n\r\n  {{"text": "b"}}\n{end}'.encode())
        found = RowFile(tmp_path / "t.jsonl", None)
        assert [row.where.rpartition(":")[2] for row in found] == ["2", "5", *["6"] * end.count("{")]
        assert [bool(row.error) for row in found] == [False, False, *[True] * end.count("{")]
    (tmp_path / "t.jsonl").write_bytes(b"")
    assert not len(RowFile(tmp_path / "t.jsonl", None))


@pytest.mark.parametrize("size", [pytest.param("120x40", marks=pytest.mark.slow), "80x24", "60x20"])
async def test_picture(play: Play, tmp_path: Path, size: str) -> None:
    width, height = map(int, size.split("x"))
    made(tmp_path / "made")
    async with play(size=(width, height)) as stage:
        await look_at(stage, "made")
        await stage.pilot.press("down", "down", "d")
        await stage.pilot.press("up")
        await assert_screen(stage, f"rows-{size}.txt", stage.picture)
