"""The form of a training in an app of its own: kinds, their fields, what is read from them; the learning panel."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from textual.widgets import Input, Label

from app.training_kind import KINDS, PRETRAIN, TUNE
from app.tui.training.history import TrainingHistory
from app.tui.widgets.chart import Chart
from app.tui.widgets.learned import LearnedPanel
from app.tui.widgets.tune_form import FIELDS, OPTIONS, Paths, TuneForm, about, typed, words
from engine.tune.control import Stepped, Validated
from tests.tui.drawn import alone


def label(form: TuneForm, id: str) -> str:
    return str(form.query_one(id, Label).visual)


def shown(form: TuneForm) -> list[tuple[str, str, str]]:
    """The fields that are there: what they are called, stand for and mean."""
    found = []
    for name in FIELDS:
        row = form.query_one(f"#row-{name}")
        if row.display:
            parts = [str(each.visual) for each in row.query(Label)]
            found.append((parts[0], form.field(name).placeholder, parts[1]))
    return found


async def test_a_form_asks_for_the_options_of_its_kind() -> None:
    form = TuneForm()
    async with alone(form, (100, 40)) as (app, pilot):
        assert (label(form, "#form-title"), label(form, "#form-what")) == (TUNE.title, TUNE.about) and form.kind is TUNE
        assert [name for name, _, _ in shown(form)] == [
            "data", "model", "adapter", "rank", "rate", "epochs", "batch", "length", "options",
        ]  # fmt: skip
        rows = {name: (default, means) for name, default, means in shown(form)}
        assert rows["data"] == ("", TUNE.data) and rows["rank"][0] == str(TUNE.default.rank)  # type: ignore[union-attr]
        assert rows["options"] == ("", "a TOML file with any other options (likely tune --help)")
        assert "wide" in form.field("data").classes and "short" in form.field("rank").classes
        assert isinstance(form.field("data").suggester, Paths) and isinstance(form.field(OPTIONS).suggester, Paths)
        assert form.field("model").suggester is None
        form.field("data").value = "rows.jsonl"
        app.took()
        form.say("a mistake\x07")
        assert label(form, "#form-line") == "a mistake␇"
        form.action_kind()
        await pilot.pause()
        assert form.kind is PRETRAIN and form.base is PRETRAIN.default and label(form, "#form-line") == ""
        assert [name for name, _, _ in shown(form)] == [
            "text", "model", "size", "tokenizer", "tokens", "rate", "batch", "context", "options",
        ]  # fmt: skip
        assert form.field("data").value == "rows.jsonl" and label(form, "#form-title") == PRETRAIN.title
        assert len(app.took(TuneForm.KindChosen)) == 1
        form.action_kind()
        assert form.kind is KINDS[0]
        form.field("size").focus()
        await pilot.pause()
        app.screen.set_focus(None)
        form.action_kind()
        await pilot.pause()
        assert form.field("data").has_focus
        form.field("rate").focus()
        await pilot.pause()
        form.action_kind()
        await pilot.pause()
        assert form.field("rate").has_focus


async def test_a_form_reads_its_fields_over_a_file_over_the_run_before(tmp_path: Path) -> None:
    form = TuneForm()
    async with alone(form, (100, 40)) as (app, pilot):
        form.action_start(False)
        await pilot.pause()
        assert label(form, "#form-line") == f"data: give {TUNE.missing}" and form.field("data").has_focus
        before = replace(cast(Any, TUNE.default), data="old.jsonl", rank=3, seed=17)
        form.fill(before)
        assert form.base is before and form.field("rank").value == "3" and form.field("data").value == "old.jsonl"
        assert form.field("rate").value == "" and form.read() == before
        form.field("rank").value = " 5 "
        form.field("rate").value = "0.5"
        assert form.read() == replace(before, rank=5, rate=0.5)
        path = tmp_path / "more.toml"
        path.write_text("rank = 9\nepochs = 7\n")
        form.field(OPTIONS).value = f" {path} "
        assert form.read() == replace(before, rank=5, rate=0.5, epochs=7)
        form.field("rank").value = ""
        assert cast(Any, form.read()).rank == 9
        app.took()
        form.action_start(True)
        await pilot.pause()
        (started,) = app.took(TuneForm.Started)
        assert started.resume is True and started.config == form.read() and label(form, "#form-line") == ""
        form.field("data").focus()
        await pilot.press("enter")
        (started,) = app.took(TuneForm.Started)
        assert started.resume is False
        form.field("rank").value = "many"
        form.action_start(False)
        await pilot.pause()
        assert (
            "rank" in label(form, "#form-line")
            and not app.took(TuneForm.Started)
            and form.field("rank").value == "many"
        )
        form.choose(TUNE)
        assert form.base is before
        form.choose(PRETRAIN)
        assert form.base is PRETRAIN.default
        form.fill(before)
        assert form.kind is TUNE and form.base is before and form.field("rank").value == "3"


def test_a_fields_words_are_its_default_or_another_value() -> None:
    other = replace(cast(Any, TUNE.default), rank=99, rate=0.25)
    assert words(TUNE, "rank", None) == str(TUNE.default.rank) and words(TUNE, "rank", TUNE.default) == ""  # type: ignore[union-attr]
    assert (words(TUNE, "rank", other), words(TUNE, "rate", other), words(TUNE, "nothing", None)) == ("99", "0.25", "")
    assert words(TUNE, "rate", None) == f"{TUNE.default.rate:g}"
    assert typed(TUNE, "rank", "7") == 7 and typed(TUNE, "rate", "1e-3") == 0.001 and typed(TUNE, "rank", "x") == "x"
    assert typed(TUNE, "data", "7") == "7"
    assert about(TUNE, "data") == TUNE.data and about(PRETRAIN, OPTIONS).endswith("(likely pretrain --help)")
    assert about(TUNE, "size") == "" and about(TUNE, "rank") and about(TUNE, "rank") != about(TUNE, "rate")


async def test_a_path_is_suggested_from_its_beginning(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").touch()
    (tmp_path / "rowsets").mkdir()
    paths = Paths(use_cache=False)
    assert await paths.get_suggestion(f"{tmp_path}/ro") == f"{tmp_path}/rows.jsonl"
    assert await paths.get_suggestion(f"{tmp_path}/rowse") == f"{tmp_path}/rowsets/"
    assert await paths.get_suggestion(f"{tmp_path}/x") is None and await paths.get_suggestion("") is None


@pytest.mark.parametrize("close", [False, True])
async def test_the_learning_panel_shows_three_pictures_of_a_course(close: bool) -> None:
    course = TrainingHistory()
    for step in range(1, 31):
        course.take(Stepped(step, 40, 0.1, 3.0, 3.0, 1e-3, 1.0, 100 * step, 10.0, 0.0, 0.0, 0, 1.0, 10.0 * step))
    for step in (5, 30):
        course.take(Validated(step, 3.0, 2.9, 3.1, True, 0.0, 1.5, (4.0, 3.0, 2.0)))
    panel = LearnedPanel()
    async with alone(panel, (40, 30)):
        assert (panel.id, panel.has_class("side")) == ("learned", True)
        panel.show(course, close=close)
        charts = {str(chart.id): chart.picture for chart in panel.query(Chart)}
        assert list(charts) == ["bits", "positions", "noise"]
        wanted = course.bits(close=close), course.positions(), course.noise(close=close)
        assert [repr(each) for each in charts.values()] == [repr(each) for each in wanted]
        assert charts["noise"].left == (10.0 if close else 0.0) and math.isfinite(charts["bits"].right)
        assert not panel.query(Input)
