"""The view of ladders: a table's law, its budgets by arrows, what stands in its place on a small screen, its files."""

from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from textual.widgets import Input

from app.ladder_jobs import ReadLadder, WriteLadder
from app.tui.dialogs.palette import entries
from app.tui.views.ladders import LaddersScreen
from app.tui.widgets.caption import Caption
from app.tui.widgets.chart import Chart
from app.worker import Failed
from engine.scaling.forecast import Foretold
from engine.scaling.ladder import LeftOut
from tests.engine.scaling.test_fit import LAW, ladder
from tests.tui.conftest import Play, Stage, assert_screen
from tests.tui.test_ladder import read


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


@pytest.mark.slow
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


@pytest.mark.slow
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


# -- a law that is scripted ------------------------------------------------------------------------------------------

FORETOLD = [Foretold(5, 1e18, 3.2, 3.1, 3.3, 3.25), Foretold(7, 1e19, 2.9, 2.8, 3.0, 3.05)]


class Idle:
    """A worker that does nothing but keep what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[object] = []
        self.reported: list[tuple[int, object]] = []
        self.closed = False

    def submit(self, request: object) -> int:
        self.asked.append(request)
        return len(self.asked)

    def drain(self) -> list[tuple[int, object]]:
        found, self.reported = self.reported, []
        return found

    def start(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True


async def scripted(stage: Stage, rate: float | None = 1e15) -> LaddersScreen:
    """The view of a law that is known, nothing being fitted."""
    stage.app.go("ladders")
    await stage.pilot.pause()
    view = cast(LaddersScreen, stage.app.screen)
    view._worker.close()
    view._worker = cast(object, Idle())  # type: ignore[assignment]
    view.look(Path("plays"))
    view._take(view._reading, read(rate, foretold=FORETOLD, left_out=[LeftOut(9, "nan", "wild")]))
    await stage.pilot.pause()
    return view


@pytest.mark.parametrize("size", ["120x40", "80x24"])
async def test_pictures(play: Play, size: str) -> None:
    width, height = map(int, size.split("x"))
    async with play(size=(width, height)) as stage:
        await scripted(stage)
        parts = (("loss", ()), ("residuals", ("r", "v")), ("law", ("b", "right")))
        for name, keys in parts[: 2 + (width < 110)]:
            await stage.pilot.press(*keys)
            await assert_screen(stage, f"ladder-{name}-{size}.txt", stage.picture)


@pytest.mark.slow
async def test_budgets_sides_and_axes_are_turned_by_keys(play: Play) -> None:
    async with play(size=(80, 24)) as stage:
        view = await scripted(stage, None)
        assert (view.chosen, view.read is not None, view._reading) == (3, True, -1) and view.against == "compute"
        assert view.part == "loss" and view.has_class("-loss")
        for chosen in (2, 1, 0, 0):
            await stage.pilot.press("left")
            assert view.chosen == chosen
        for chosen in (1, 2, 3, 4, 5, 6, 7, 7):
            await stage.pilot.press("right")
            assert view.chosen == chosen
        assert view.bought is not None and view.bought.compute == pytest.approx(100e19)
        for against in ("parameters", "tokens", "compute"):
            await stage.pilot.press("v")
            assert view.against == against
        for key, side, part in (
            ("p", "parabolas", "side"), ("p", "parabolas", "loss"), ("r", "residuals", "side"),
            ("p", "parabolas", "side"),
            ("b", "parabolas", "law"), ("b", "parabolas", "loss"), ("b", "parabolas", "law"),
            ("r", "residuals", "side"),
            ("r", "residuals", "loss"), ("b", "residuals", "law"), ("escape", "residuals", "loss"),
        ):  # fmt: skip
            await stage.pilot.press(key)
            assert (view.side, view.part) == (side, part), key
            assert [each for each in ("loss", "side", "law") if view.has_class(f"-{each}")] == [part]
        formula = view.formula()
        assert formula is not None and view.bought is not None
        law = view.read.report.fitted.law if view.read is not None else None
        assert formula.parts == ((f"{law}   at C 1e+21: ", False), (f"{view.bought.loss:.3f}", True))
        await stage.pilot.resize_terminal(110, 24)
        await stage.pilot.pause()
        for key in ("r", "r", "p", "p"):
            await stage.pilot.press(key)
            assert view.part == "side"  # there is room for all of them
        await stage.pilot.press("escape")
        assert stage.app.screen is stage.chat
        stage.app.go("ladders")
        assert stage.app.screen is view  # it goes on


@pytest.mark.slow
async def test_a_table_is_asked_for_read_and_written(play: Play) -> None:
    async with play(size=(120, 40)) as stage:
        stage.app.go("ladders")
        await stage.pilot.pause()
        view = cast(LaddersScreen, stage.app.screen)
        field, foretold = view.query_one("#ladder-path", Input), view.query_one("#ladder-foretold", Caption)
        charts = list(view.query(Chart))
        view._worker.close()
        idle = Idle()
        view._worker = cast(object, idle)  # type: ignore[assignment]
        assert (
            not field.display
            and not any(chart.visible for chart in charts)
            and view.bought is None
            and view.formula() is None
        )
        assert foretold.rows == (((" no table is open: n opens one", "faint"),),)
        await stage.pilot.press("left", "right", "e")
        assert view.hints.news == "there is no law here yet" and not idle.asked and view.chosen == 0
        await stage.pilot.press("n")
        assert field.display and field.has_focus
        await stage.pilot.press("escape")
        assert not field.display and view.focused is None and stage.app.screen is view
        await stage.pilot.press("n", *" ", "enter")
        assert not field.display and not idle.asked
        await stage.pilot.press("n", *"~/a", "enter")
        await stage.pilot.pause()
        assert idle.asked == [ReadLadder(Path("~/a").expanduser())] and stage.app.ladder == Path("~/a").expanduser()
        assert foretold.rows == (((" finding the law…", "faint"),),) and view._reading == 1
        idle.reported = [(7, Failed("another's"))]
        view.tick()
        assert view.failure == "" and view._reading == 1 and view.hints.news == "another's"
        idle.reported = [(1, Failed("no such table: " + "it is not there " * 9))]
        view.tick()
        assert (
            view.hints.news.startswith("no such table")
            and view._reading == -1
            and view.failure.startswith("no such table")
        )
        long = [sum(len(text) for text, _ in row) for row in foretold.rows]
        assert max(long) < foretold.size.width <= long[0] + len(" there") + 1  # as many words as there is room for
        assert len(foretold.rows) > 1 and {ink for row in foretold.rows for _, ink in row} == {"alarm"}
        view.look(Path("b"))
        assert view.failure == "" and view._reading == 2
        idle.reported = [(1, read())]
        view.tick()
        assert view.read is None  # of a table that is not wanted any more
        law = read(1e15)
        idle.reported = [(2, law)]
        view.tick()
        assert view.read is law and view.chosen == 4 and all(chart.visible for chart in charts)
        idle.asked.clear()
        await stage.pilot.press("e")
        (written,) = idle.asked
        assert (
            isinstance(written, WriteLadder)
            and written.ladder is law
            and written.svg.with_suffix(".html") == written.page
        )
        assert written.page.parent == stage.app.home and written.page.name.startswith("ladder-2")
        idle.reported = [(3, written.page)]
        view.tick()
        assert view.hints.news == f"written: {written.page}, and an SVG beside it"
        commands = {name: act for name, _, act in entries(view) if name.startswith("ladder: ")}
        commands["ladder: Residuals"]()
        assert view.side == "residuals"
        commands["ladder: Parabolas"]()
        assert view.side == "parabolas"
        commands["ladder: Against…"]()
        assert view.against == "parameters"
        view.on_unmount()
        assert idle.closed
        assert replace(law, rate=None).rate is None
