"""The view of ladders: a table's law, its budgets by arrows, what stands in its place on a small screen, its files."""

from pathlib import Path
from typing import cast

import pytest

from app.tui.views.ladders import LaddersScreen
from tests.engine.scaling.test_fit import LAW, ladder
from tests.tui.conftest import Play, Stage


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A ladder's folder with 30 runs of known seconds, and one that diverged."""
    runs = ladder(5, 6, 0.005)
    rows = [
        f"r{i},{n},{d},{loss},{6 * n * d / 1e15}"
        for i, (n, d, loss) in enumerate(zip(runs.parameters, runs.tokens, runs.loss, strict=True))
    ]
    (tmp_path / "plays").mkdir()
    text = "\n".join(["run,parameters,tokens,loss,seconds", *rows, "wild,1e8,1e10,nan,60"])
    (tmp_path / "plays" / "runs.csv").write_text(text + "\n")
    return tmp_path / "plays"


async def opened(stage: Stage, path: Path) -> LaddersScreen:
    stage.app.ladder = path
    stage.app.go("ladders")
    await stage.pilot.pause()
    view = cast(LaddersScreen, stage.app.screen)
    stage.pause_s = 0.05
    await stage.until(lambda: view.read is not None or view.failure)
    return view


async def test_a_ladder_is_seen_and_what_hours_buy_moves_with_arrows(play: Play, table: Path) -> None:
    async with play() as stage:
        view = await opened(stage, table)
        text = stage.picture()
        for words in (
            "plays  30 runs · 1e+06 GFLOP/s",
            "told",
            "open",
            "BEST SIZE",
            "WHAT 5 H BUYS",
            "left out: wild",
            "6 runs",
        ):
            assert words in text, words
        before = view.bought
        await stage.pilot.press("right", "right")
        assert before is not None and view.bought is not None
        assert view.bought.compute == pytest.approx(4.8 * before.compute)
        assert "WHAT 24 H BUYS" in stage.picture()
        # by the law that was planted, within what so few runs say
        size = view.bought.parameters / LAW.best(view.bought.compute)[0]
        assert 0.6 < size < 1.6
        await stage.pilot.press("r", "v")
        assert "RESIDUALS" in stage.picture() and "against parameters" in stage.picture()
        await stage.pilot.press("e")
        await stage.until(lambda: list(stage.app.home.glob("ladder-*.html")))
        page = next(stage.app.home.glob("ladder-*.html")).read_text()
        assert page.count("<svg") == 4 and "wild" in page and "1 h 00 min" in page


async def test_a_small_screen_shows_one_part_at_a_time(play: Play, table: Path) -> None:
    async with play(size=(60, 20)) as stage:
        await opened(stage, table)
        assert "LOSS" in stage.picture() and "BEST SIZE" not in stage.picture()
        for key, words in (
            ("p", "BEST SIZE"),
            ("r", "RESIDUALS"),
            ("b", "LAW"),
            ("b", "LOSS"),
            ("b", "LAW"),
            ("escape", "LOSS"),
        ):
            await stage.pilot.press(key)
            await stage.pilot.pause()
            assert words in stage.picture(), (key, words, stage.picture())


@pytest.mark.slow
async def test_a_table_that_is_none_is_one_line_and_another_is_opened(play: Play, table: Path) -> None:
    async with play(size=(80, 24)) as stage:
        view = await opened(stage, table.parent / "nothing.csv")
        assert "No such file" in view.failure and "No such file or directory" in " ".join(stage.picture().split())
        await stage.pilot.press("n", *str(table), "enter")
        await stage.until(lambda: view.read is not None)
        assert "FORETOLD, THEN SEEN" in stage.picture()
