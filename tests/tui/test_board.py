"""The evaluation view over a board that is made by hand, its worker idle: states, verdicts, keys, pictures."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from textual.widgets import Input

from app import requests as r
from app.differing import DifferingItem, ModelAnswer, TaskDetail
from app.tui.dialogs.evaluation import NewEvaluation
from app.tui.dialogs.palette import entries
from app.tui.views.runs import RunsScreen
from app.tui.widgets.caption import Caption
from app.tui.widgets.reliability import ReliabilityPlot
from app.worker import Closed, Failed
from engine.conversation import Conversation
from engine.evaluate.estimates import Estimate
from engine.evaluate.tasks import Problem
from tests.tui.conftest import Play, Stage, assert_screen
from tests.tui.test_ladders import Idle
from tests.tui.test_runs import SIZES, line, view
from tests.tui.test_score_table import BOARD, LIVE, SURE, UNSURE
from tests.tui.test_score_table import MODELS as OTHERS

SHORT = replace(BOARD, tasks=("sums", "exact", "bytes"), models=OTHERS[:3])
ITEMS = tuple(
    DifferingItem(
        i,
        f"item {i}",
        f"{i} + 1 =",
        str(i + 1),
        (ModelAnswer(f" {i + 1}", f"{i} + 1 =", 1.0, True), ModelAnswer(" 0", "Q:", 0.0, False)),
    )
    for i in range(3)
)
DETAIL = TaskDetail("sums", OTHERS[:2], (SURE, UNSURE), ITEMS, 3, 40, 1, 2)


async def bare(stage: Stage) -> tuple[RunsScreen, Idle]:
    """The view with a worker that does nothing."""
    stage.app.go("runs")
    await stage.until(lambda: isinstance(stage.app.screen, RunsScreen) and view(stage).worker is not None)
    it, idle = view(stage), Idle()
    assert it.worker is not None and it.worker._thread.ident is not None  # it was started
    it.worker.close()
    it.worker = cast(Any, idle)
    it._run = 0
    return it, idle


def verdict(it: RunsScreen) -> str:
    return "".join(text for text, _ in it._verdict())


@pytest.mark.parametrize("size", ["120x40", "80x24"])
async def test_pictures_of_a_scripted_board(play: Play, size: str) -> None:
    async with play(size=SIZES[size]) as stage:
        it, idle = await bare(stage)
        idle.reported = [(0, SHORT)]
        it.tick()
        it.table.model = 1
        it.detail = DETAIL
        it.reshow()
        parts = (("items", ("enter", "down")), ("reliability", ("escape", "r")), ("table", ("r",)))
        for name, keys in parts[: 1 if size == "120x40" else 3]:
            await stage.pilot.press(*keys)
            await assert_screen(stage, f"board-{name}-{size}.txt", stage.picture)


async def test_a_run_is_told_as_it_goes(play: Play) -> None:
    async with play(size=(120, 40)) as stage:
        it, idle = await bare(stage)
        assert line(stage) == "nothing was measured yet · n begins | or: likely eval arithmetic lookup" and not it.busy
        assert it._verdict() == () and it.formula() is None and it.table.has_focus
        for act in (it.action_pause, it.action_stop, it.look):
            act()
        assert it.state == "stored" and not idle.asked
        order = r.Evaluate(("sums",), OTHERS[:3])
        it.odd, it.failure = 3, "x"
        it.table.show(SHORT)
        it.action_part("differ")
        it.start(order)
        assert it.has_class("-scores") and it.table.board.tasks == () and it.detail is None
        assert (it.state, it.odd, it.failure, it._run, idle.asked) == ("opening", 0, "", 1, [order]) and it.busy
        assert line(stage) == "● opening the model…"
        it._take(1, r.Progressed("a", "downloading", 1, 4))
        it.reshow()
        assert line(stage) == "● downloading 25%…"
        it._take(1, r.Progressed("a", "loading", 0, 0))
        it.reshow()
        assert line(stage) == "● loading…"
        it._take(0, SHORT)
        assert it.board is not SHORT and it.state == "opening"
        live = replace(LIVE, tasks=SHORT.tasks, models=SHORT.models, left_s=65.0)
        idle.reported = [(1, live)]
        it.tick()
        assert it.state == "measuring" and it.board is live and it.table.board is live
        assert line(stage) == "● sums · a-model-of-a-long-name · 1,234/5,678"
        status = it._standing()
        assert status.share == pytest.approx(1234 / 5678) and status.tail == "1 min 05 s left"
        assert idle.asked[-1] == r.Examine("sums", (OTHERS[0],)) and it._look == 2
        it._take(1, Problem(1, "example", "x"))
        it._take(1, Problem(1, "row", "x"))
        it._take(1, Problem(2, "row", "x"))
        it.reshow()
        assert it.odd == 2 and line(stage).endswith(" | 2 rows are not like the others: likely eval lists them")
        it.action_pause()
        assert it.state == "paused" and order.control.paused and line(stage).startswith("‖ paused · sums")
        it.action_new()
        assert "s stops and keeps it" in it.hints.news and stage.app.screen is it
        it.action_pause()
        assert it.state == "measuring" and not order.control.paused
        unknown = replace(live, scores={**live.scores, live.live: replace(live.scores[live.live], total=0)})  # type: ignore[dict-item,index]
        it._take(1, unknown)
        it.reshow()
        assert line(stage).startswith("● sums · a-model-of-a-long-name · 1,234 |") and it._standing().share is None
        it._take(1, replace(live, unkept="the disk is full", left_s=None))
        assert it.hints.news == "the disk is full" and it._standing().tail == ""
        it._take(1, replace(live, scores={}))
        assert it._standing().words.endswith("· 0") and it._standing().share is None
        it._take(1, live)
        it.action_stop()
        assert (
            it.state == "stopping"
            and order.control.stopped
            and line(stage).startswith("● keeping what is there · sums")
        )
        it._take(0, Closed())
        assert it.state == "stopping"
        it._take(1, Closed())
        it.reshow()
        assert it.state == "stopped" and line(stage).startswith(
            "∎ stopped · the same tasks and models go on from there"
        )
        order.control.stopped = False
        it.state = "measuring"
        it._take(1, Closed())
        assert it.state == "done" and it._standing().words == "∎ done · kept"
        it.board = replace(live, unkept="x")
        assert it._standing().words == "∎ done · not kept"
        it._take(1, Failed("late"))
        assert it.state == "done" and it.hints.news == "late"
        for stopped, state in ((False, "failed"), (True, "stopped")):
            it.state, order.control.stopped = "measuring", stopped
            it._take(0, Failed("another's"))
            assert it.state == "measuring"
            it._take(1, Failed("no model"))
            assert (it.state, it.failure) == (state, "no model")
        it.state = "failed"
        assert it._standing().alarm and it._standing().words == "▲ no model"
        it._take(1, r.Reported(Path("a.html")))
        assert it.hints.news == "report: a.html"
        it.state, it.board = "stored", replace(live, live=None, left_out=3)
        assert it._standing().words == "∎ what was measured before · 3 older ones are not shown"
        it.board = replace(live, live=None)
        assert it._standing().words == "∎ what was measured before"
        it.action_report()
        report = cast(Any, idle.asked[-1])
        assert isinstance(report, r.Report) and report.path.parent == stage.app.home and report.path.suffix == ".html"


async def test_a_look_is_one_at_a_time_and_of_the_first_model_and_the_chosen_one(play: Play) -> None:
    async with play(size=(120, 40)) as stage:
        it, idle = await bare(stage)
        it._take(0, SHORT)
        assert idle.asked == [r.Examine("sums", (OTHERS[0],))]
        await stage.pilot.press("right")
        assert len(idle.asked) == 1 and it._asked == r.Examine("sums", OTHERS[:2])
        it._take(1, replace(DETAIL, models=OTHERS[:1]))
        assert it.detail is not None and it.detail.models == OTHERS[:1]
        it._take(9, DETAIL)
        assert it.detail.models == OTHERS[:1]
        it._take(1, Closed())
        assert it._look == 2 and idle.asked[1:] == [r.Examine("sums", OTHERS[:2])] and it._asked is None
        it._take(2, DETAIL)
        it._take(2, Closed())
        assert it._look == -1 and len(idle.asked) == 2
        assert it.items.item is not None and it.query_one(ReliabilityPlot).detail is DETAIL
        assert list(it.query_one(ReliabilityPlot).letters) == [0, 1]
        it._take(0, SHORT)
        assert len(idle.asked) == 2  # it was looked into already
        await stage.pilot.press("down")
        assert idle.asked[-1] == r.Examine("exact", OTHERS[:2]) and it.query_one(ReliabilityPlot).detail is None
        it._look = -1
        it._take(
            0,
            replace(
                SHORT, models=OTHERS[1:3], scores={cell: s for cell, s in SHORT.scores.items() if cell[1] != OTHERS[0]}
            ),
        )
        await stage.pilot.press("up", "right", "right")
        it.detail = DETAIL
        it.reshow()
        assert it.query_one(ReliabilityPlot).detail is None  # one of its models has no column
        assert it._base("sums") == OTHERS[1] and it._base("nothing") == ""
        it.board, it._look = LIVE, -1
        it.table.show(replace(LIVE, tasks=("sums",)))
        before, it._looked_s = len(idle.asked), -1e9
        it.tick()
        assert len(idle.asked) == before + 1 and it._looked_s > 0
        it._look = -1
        it.tick()
        assert len(idle.asked) == before + 1  # a moment ago


async def test_what_a_comparison_says_is_told_with_its_numbers(play: Play) -> None:
    async with play(size=(120, 40)) as stage:
        it, _ = await bare(stage)
        it._take(0, SHORT)
        it.reshow()
        assert verdict(it) == " after Holm over 4 comparisons · not seen: it may be chance"
        formula = it.formula()
        assert formula is not None
        assert formula.parts == (("acc = ", False), ("0.500 [0.400, 0.600]", True), ("   n 40", False))
        await stage.pilot.press("right")
        formula = it.formula()
        assert formula is not None
        found = ("Δ = mean(b_i − a_i) = ", False), ("+0.250 ± 0.100", True), ("   paired, n 40 · p 0.001", False)
        assert formula.parts == found
        it.table.at = it.table.rows.index("bytes")
        it.table.model = 0
        formula = it.formula()
        assert formula is not None
        assert (
            "".join(text for text, _ in formula.parts) == "bits_per_byte = 1.250 [1.230, 1.270]   n 40 lower is better"
        )
        it.table.model = 2
        assert it.formula() is None
        unseen = replace(
            SHORT.compared["exact", OTHERS[1]],
            change=replace(SHORT.compared["exact", OTHERS[1]].change, p=0.4),
            p=0.8,
            measure="nats",
        )
        nearly = replace(
            unseen, change=replace(unseen.change, estimate=replace(unseen.change.estimate, mean=-0.01, n=40))
        )
        it.board = replace(SHORT, compared={("exact", OTHERS[1]): nearly})
        it.table.show(it.board)
        it.table.at, it.table.model = it.table.rows.index("exact"), 1
        needed = nearly.change.needed
        said = f" · to see 0.010 in exact: {needed:,} items" if needed and needed > 40 else ""
        assert verdict(it) == f" after Holm over 1 comparison{said} · not seen: it may be chance" and said
        formula = it.formula()
        assert formula is not None and " bits a token" in "".join(text for text, _ in formula.parts)
        it.board = replace(SHORT, compared={("exact", OTHERS[1]): replace(nearly, n=10**12)})
        assert " to see" not in verdict(it)
        few = replace(nearly.change, estimate=Estimate(0.3, math.inf, 1, n=4), groups=2)
        it.board = replace(SHORT, compared={("exact", OTHERS[1]): replace(nearly, change=few)})
        it.table.show(it.board)
        assert " · too few: 6 items, or clusters of them, are the fewest that can tell · " in verdict(it)
        formula = it.formula()
        assert formula is not None and "= +0.433 bits a token   paired" in "".join(text for text, _ in formula.parts)
        assert " too few" in "".join(segment.text for row in it.table.lines(118, 20) for segment in row)


@pytest.mark.slow
async def test_parts_are_walked_through_and_items_opened(play: Play) -> None:
    async with play(size=(80, 24)) as stage:
        it, _ = await bare(stage)
        it._take(0, SHORT)
        it.detail = DETAIL
        it.reshow()
        sentence = it.query_one("#sentence", Caption)
        assert it.has_class("-terse") and not it.has_class("-slim") and len(sentence.rows) == 1

        def part() -> str:
            (found,) = [each for each in ("scores", "differ", "reliability") if it.has_class(f"-{each}")]
            return found

        for key, shown, keys in (
            ("r", "reliability", "table"), ("r", "scores", "table"), ("d", "differ", "items"), ("d", "scores", "table"),
            ("enter", "differ", "items"), ("escape", "scores", "table"), ("r", "reliability", "table"), ("escape",
            "scores", "table"),
        ):  # fmt: skip
            await stage.pilot.press(key)
            assert part() == shown and (
                shown == "reliability" or (it.items if keys == "items" else it.table).has_focus
            ), key
        opened: list[Conversation] = []
        went: list[tuple[str, ...]] = []
        stage.app.open = opened.append  # type: ignore[method-assign]
        stage.app.switch_model = lambda name: went.append((name,))  # type: ignore[method-assign]
        stage.app.chat_with = lambda base, model: went.append((base, model))  # type: ignore[method-assign]
        await stage.pilot.press("right", "enter", "down", "enter")
        (talk,) = opened
        assert (
            talk.title == "sums, item 2" and talk.kind == "text" and [n.text for n in talk.nodes.values()] == ["Q: 0"]
        )
        assert went == [(OTHERS[1],)] and talk.created == talk.updated == 1e9
        it.table.model = 0
        it._open(ITEMS[2], replace(DETAIL, chat=True, bases={OTHERS[0]: "base"}))
        talk = opened[-1]
        assert [(n.role, n.text, n.finish) for n in talk.nodes.values()] == [
            ("user", "2 + 1 =", ""),
            ("assistant", " 3", "eot"),
        ]
        assert (
            talk.kind == "chat"
            and went[-1] == ("base", OTHERS[0])
            and talk.leaf is not None
            and talk.leaf.role == "assistant"
        )
        it._open(ITEMS[2], replace(DETAIL, note="gone"))
        assert len(opened) == 2 and "cannot be opened" in it.hints.news
        it.table.model = 2
        assert it._picked(DETAIL) == 0
        it._open(replace(ITEMS[0], said=ITEMS[0].said[:1]), replace(DETAIL, models=OTHERS[2:0:-1]))
        assert len(opened) == 3 and went[-1] == (OTHERS[2],)
        it.table.model = 1
        it._open(replace(ITEMS[0], said=ITEMS[0].said[:1]), DETAIL)
        assert len(opened) == 4 and went[-1] == (OTHERS[0],)
        await stage.pilot.press("escape", "escape")
        assert stage.app.screen is stage.chat
        stage.app.go("runs")
        assert stage.app.screen is it  # it goes on
        it.state = "measuring"
        it.order = r.Evaluate(("sums",), ("m",))
        it._hint()
        it.interrupt()
        assert it.state == "stopping" and stage.app.screen is it
        names = {name: act for name, _, act in entries(it)}
        assert {"runs: Pause", "runs: Stop and keep", "runs: Report", "runs: Formula"} <= set(
            names
        ) and "runs: New…" not in names
        it.state = "paused"
        assert "runs: Go on" in {name for name, _, _ in entries(it)}
        it.state = "done"
        names = {name: act for name, _, act in entries(it)}
        names["runs: Reliability"]()
        assert part() == "reliability"
        names["runs: Differences"]()
        assert part() == "differ"
        it.action_new()
        await stage.pilot.pause()
        form = cast(Any, stage.app.screen)
        assert isinstance(form, NewEvaluation) and form.query_one("#asked-tasks", Input).value == "sums"
        assert form.query_one("#asked-models", Input).value == "m"
        form.dismiss(None)
        await stage.pilot.pause()
        assert it.state == "done"
        it.interrupt()
        assert stage.app.screen is stage.chat
        again = r.Evaluate(("exact",), ("m",))
        it._ordered(None)
        assert it.order is not again and it.state == "done"
        it._ordered(again)
        assert it.order is again and it.state == "opening"
        it.on_unmount()
        assert again.control.stopped and cast(Any, it.worker).closed
        it.worker = None
        it.tick()


async def test_the_keys_below_are_those_that_act(play: Play) -> None:
    async with play(size=(160, 40)) as stage:
        it, _ = await bare(stage)
        it._take(0, SHORT)
        shown: list[Any] = []
        it.hints.show = shown.append  # type: ignore[method-assign]
        words = lambda: " ".join(word for _, word in shown[-1])  # noqa: E731
        end = "Differences Report Formula Keys"
        it._hint()
        assert words() == f"Task Model Items New {end}"
        it.state = "measuring"
        it._hint()
        assert words() == f"Task Model Items Pause Stop and keep {end}"
        it.state = "paused"
        it._hint()
        assert words() == f"Task Model Items Go on Stop and keep {end}"
        it.state = "opening"
        it._hint()
        assert words() == f"Task Model Items {end}"
        it.items.focus()
        await stage.pilot.pause()
        it.state = "done"
        it._hint()
        assert words() == f"Item Open A's in the chat Tasks New {end}"
        sentence = it.query_one("#sentence", Caption)
        for width, rows, terse, slim in (
            (110, 2, False, False),
            (109, 1, True, False),
            (76, 1, True, False),
            (75, 1, True, True),
        ):
            await stage.pilot.resize_terminal(width, 40)
            await stage.pilot.pause()
            assert len(sentence.rows) == rows and it.has_class("-terse") is terse and it.has_class("-slim") is slim
