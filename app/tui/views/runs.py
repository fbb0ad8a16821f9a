"""Evaluations: models side by side with intervals that shrink, how sure against how right, and where they differ."""

import math
import secrets
from collections.abc import Iterator, Mapping
from statistics import stdev
from time import monotonic, strftime
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal

from likely.app.jobs import requests as r
from likely.app.jobs.evaluation_jobs import EvaluationJobs
from likely.app.jobs.worker import Closed, Failed, Worker
from likely.app.lessons.expression import Value
from likely.app.results.disagreements import DifferingItem, TaskDetail
from likely.app.results.scoreboard import Scoreboard, half
from likely.app.results.training_plan import duration
from likely.app.tui.base import keys
from likely.app.tui.base.sampling import Sampling
from likely.app.tui.base.text.formula import Formula, path
from likely.app.tui.dialogs.evaluation import NewEvaluation
from likely.app.tui.training.status import RunStatus
from likely.app.tui.views.view import Command, View
from likely.app.tui.widgets.bars import Hints, TopBar
from likely.app.tui.widgets.caption import Caption
from likely.app.tui.widgets.figures.differing import DifferingItems, ItemPanel
from likely.app.tui.widgets.figures.reliability import ReliabilityPlot
from likely.app.tui.widgets.figures.score_table import ScoreTable, letter, number
from likely.app.tui.widgets.gauge import Gauge
from likely.app.words.units import LN2, bits
from likely.engine.base.statistics.estimates import TELLING, TOO_FEW
from likely.engine.chat.conversation import Conversation, Fork, Node
from likely.engine.measure.evaluate.tasks.tasks import Problem
from likely.engine.measure.evaluate.tasks.variations import task_of

TICK_S = 0.15
VARIED, VARIANTS = "typos", 7  # how a task is asked otherwise, and in how many ways beside its own
WIDE, SLIM = 110, 76  # columns
AGAIN_S = 2.0  # between two looks at a task that is being measured
PARTS_SHOWN = ("scores", "differ", "reliability")
SENTENCE = " How good is each model, and are we sure? Whiskers are 95 % intervals, each row on its own scale; "
SHORT = "   How good, and are we sure? Whiskers: 95 %"
FORMULA = """\
Δ is the mean over the items that both models answered of the second's measure minus the first's:

    Δ = mean(b_i − a_i)        se = sd(b_i − a_i) / √n

Paired: what makes an item hard for both is in neither. Items that come in clusters count by clusters.
A share has Wilson's interval, a mean Student's; bits a byte vary by document.
Right or wrong: the exact McNemar test and Tango's interval; else a paired t test, of 16 or fewer also the exact test by
signs. Each p is corrected by Holm over all comparisons shown; of fewer than 6 items or clusters nothing can be told.
The verdict is better, worse, or not seen: then the items it would take to see a difference of that size,
four times in five, are n = (z₀.₉₇₅ + z₀.₈)² sd² / Δ²."""


class RunsScreen(View):
    """Scores that were measured, and that are being measured. Goes on while another view is looked at."""

    NAME = "runs"
    PARTS = (ScoreTable, DifferingItems)
    STAYS = True
    NEEDS_MODEL = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "new", "New", id="runs.new"),
        Binding("v", "vary", "Vary", id="runs.vary", tooltip="the chosen task again in seven other ways, with typos"),
        Binding("space", "pause", "Pause", id="runs.pause"),
        Binding("s", "stop", "Stop and keep", id="runs.stop"),
        Binding("d", "part('differ')", "Differences", id="runs.differences"),
        Binding("r", "part('reliability')", "Reliability", id="runs.reliability"),
        Binding("enter", "open", "Open", id="runs.open"),
        Binding("e", "report", "Report", id="runs.report"),
        Binding("escape", "back", "Back", id="runs.back"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.worker: Worker | None = None
        self.request: r.Evaluate | None = None
        self.state = "stored"  # stored | opening | measuring | paused | stopping | done | stopped | failed
        self.stage = ""
        self.failure = ""
        self.odd = 0  # rows that are not like the others
        self.board = Scoreboard()
        self.detail: TaskDetail | None = None
        self._run = -1  # jobs
        self._examining = -1
        self._waiting: r.Examine | None = None
        self._examined_s = 0.0

    def compose(self) -> ComposeResult:
        yield TopBar(self.NAME, id="top")
        yield Caption(id="sentence")
        yield Gauge(id="standing")
        yield ScoreTable(id="scores")
        yield Caption(id="verdict")
        with Horizontal(id="panels"):
            yield ReliabilityPlot(id="reliability")
            yield DifferingItems(id="differ")
            yield ItemPanel(id="item")
        yield Caption(id="formula")
        yield Hints(id="hints")

    def on_mount(self) -> None:
        self.table = self.query_one(ScoreTable)
        self.items = self.query_one(DifferingItems)
        self._show_part("scores")
        self.worker = self.host.worker(
            lambda: EvaluationJobs(self.host.evaluator, self.host.home / "evaluations.db"), "evaluator"
        )
        self.worker.start()
        self._run = self.worker.submit(r.Recall())
        self.set_interval(TICK_S, self.tick)
        self.table.focus()
        self.reshow()

    def on_unmount(self) -> None:
        if self.request is not None:
            self.request.control.cancel()
        if self.worker is not None:
            self.worker.close()

    def on_resize(self) -> None:
        title, cut = (" evaluations", "accent"), self.host.glyphs.cut
        wide = self.room.width >= WIDE
        self.set_class(not wide, "-terse")
        self.set_class(self.room.width < SLIM, "-slim")
        rows = ((title,), ((SENTENCE, "faint"), (cut, "faint"), (" is where A lies.", "faint")))
        short = ((title, (SHORT, "faint"), (f", {cut} is A", "faint")),)
        self.query_one("#sentence", Caption).show(*(rows if wide else short))

    def on_screen_resume(self) -> None:
        if self.is_mounted:
            self.host.restyle()
            self.reshow()

    @property
    def busy(self) -> bool:
        return self.state in ("opening", "measuring", "paused", "stopping")

    # -- a run -------------------------------------------------------------------------------------------------------

    def action_new(self) -> None:
        if self.busy:
            self.hints.say("a run is under way: s stops and keeps it")
            return
        current = self.host.engine.current
        models = self.request.models if self.request is not None else (current.name,) if current is not None else ()
        tasks = self.request.tasks if self.request is not None else ()
        self.app.push_screen(NewEvaluation(" ".join(tasks), " ".join(models)), self._start_typed)

    def action_vary(self) -> None:
        """Measure the chosen task by the chosen model once more, and in other ways: as many items of each."""
        score = self.board.scores.get((self.table.chosen, self.table.picked))
        place = score.evaluation.place.get("task") if score is not None else None
        if self.busy:
            self.hints.say("a run is under way: s stops and keeps it")
        elif score is None or place is None:
            self.hints.say("n measures a task first" if score is None else "a text file is asked in no other way")
        else:
            asked = dict(zip(self.board.models, self.request.models if self.request is not None else (), strict=False))
            model = asked.get(self.table.picked, self.table.picked)
            self.start(r.Evaluate((place,), (model,), score.estimate.n, vary=VARIED, variants=VARIANTS))

    def _start_typed(self, request: r.Evaluate | None) -> None:
        if request is not None:
            self.start(request)

    def start(self, request: r.Evaluate) -> None:
        """Measure."""
        assert self.worker is not None
        self.request, self.state, self.stage, self.failure, self.odd = request, "opening", "opening the model", "", 0
        self.board, self.detail = Scoreboard(), None
        self._run = self.worker.submit(request)
        self.table.show(self.board)
        self._show_part("scores")
        self.reshow()

    def tick(self) -> None:
        """Take in what was reported, and show it at once."""
        if self.worker is None:
            return
        events = self.worker.drain()
        for job, event in events:
            self._take(job, event)
        live = self.board.live
        if live is not None and live[0] == self.table.chosen and monotonic() - self._examined_s > AGAIN_S:
            self.examine()
        if events and self.is_current:
            self.reshow()

    def _take(self, job: int, event: Any) -> None:
        stopped = self.request is not None and self.request.control.cancelled
        match event:
            case Scoreboard() if job == self._run:
                if event.unkept and not self.board.unkept:
                    self.hints.say(event.unkept, alarm=True)
                self.board = event
                self.table.show(event)
                if self.state == "opening":
                    self.state = "measuring"
                if self.detail is None:
                    self.examine()
            case r.Progressed(_, stage, done, total):
                self.stage = f"{stage} {done / total:.0%}" if total else stage
            case Problem() if event.kind != "example":
                self.odd += 1
            case TaskDetail() if job == self._examining:
                self.detail = event
                self._show_detail()
            case r.Reported(path):
                self.hints.say(f"report: {path}")
            case Failed(line):
                if job == self._run and self.busy:
                    self.state, self.failure = ("stopped" if stopped else "failed"), line
                self.hints.say(line, alarm=True)
            case Closed() if job == self._run and self.busy:
                self.state = "stopped" if stopped else "done"
                self.examine()  # the last items too
            case Closed() if job == self._examining:
                self._examining, request = -1, self._waiting
                self._waiting = None
                if request is not None:
                    self.examine()

    def examine(self) -> None:
        """Have the task that is chosen looked into, under the first model and the one that is chosen."""
        assert self.worker is not None
        task, board = self.table.chosen, self.board
        there = [m for m in dict.fromkeys((self._base(task), self.table.picked)) if (task, m) in board.scores]
        if not there:
            return
        request = r.Examine(task, tuple(there))
        if self._examining >= 0:  # one at a time
            self._waiting = request
            return
        self._examined_s = monotonic()
        self._examining = self.worker.submit(request)

    def _base(self, task: str) -> str:
        """The first model that was asked: what the others are compared with."""
        return next((model for model in self.board.models if (task, model) in self.board.scores), "")

    def on_score_table_task_chosen(self) -> None:
        self.examine()
        self.reshow()

    def on_differing_items_item_chosen(self) -> None:
        self._show_detail()

    # -- keys --------------------------------------------------------------------------------------------------------

    def action_pause(self) -> None:
        if self.request is not None and self.state in ("measuring", "paused"):
            self.request.control.pause(not self.request.control.paused)
            self.state = "paused" if self.request.control.paused else "measuring"
            self.reshow()

    def action_stop(self) -> None:
        if self.request is not None and self.busy:
            self.request.control.cancel()
            self.state = "stopping"
            self.reshow()

    def interrupt(self) -> bool:
        """Stop and keep; else back to the chat."""
        if self.busy:
            self.action_stop()
        else:
            self.back()
        return True

    def action_part(self, name: str) -> None:
        """Which part fills a screen that is too small for all of them; on a large one, what has the keys."""
        shown = next((part for part in PARTS_SHOWN if self.has_class(f"-{part}")), "scores")
        self._show_part("scores" if shown == name else name)

    def _show_part(self, name: str) -> None:
        for part in PARTS_SHOWN:
            self.set_class(part == name, f"-{part}")
        (self.items if name == "differ" else self.table).focus()
        self.call_after_refresh(self.reshow)

    def action_open(self) -> None:
        """Into the items; there, the one that is chosen in the chat."""
        if self.focused is not self.items:
            self._show_part("differ")
        elif self.items.item is not None and self.detail is not None:
            self._open(self.items.item, self.detail)

    def _open(self, item: DifferingItem, detail: TaskDetail) -> None:
        """The chosen model's answer after the item's words: in the chat where that went through the template, else
        as the plain text that it was. There every token is measured by the model itself."""
        index = min(self._picked(detail), len(item.said) - 1)
        answer, model = item.said[index], detail.models[index]
        if detail.note:
            gone = "the item's text is not there any more: it cannot be opened"
            self.hints.say(detail.note if detail.windows else gone, alarm=True)
            return
        now = self.host.clock()
        fresh = Conversation(
            secrets.token_hex(4), title=f"{detail.task}, item {item.number + 1}",
            kind="chat" if detail.chat else "text", recipe=Sampling().recipe, created=now, updated=now,
        )  # fmt: skip
        if detail.chat:
            fresh = fresh.add(Node(secrets.token_hex(4), Fork(), "user", text=answer.before))
            leaf = fresh.leaf
            assert leaf is not None
            fresh = fresh.add(Node(secrets.token_hex(4), Fork(leaf.id), "assistant", text=answer.text, finish="eot"))
        else:
            fresh = fresh.add(Node(secrets.token_hex(4), Fork(), "text", text=answer.before + answer.text))
        if base := detail.bases.get(model):
            self.host.chat_with(base.model, *base.adapters)
        else:
            self.host.switch_model(model)
        self.host.open(fresh)

    def _picked(self, detail: TaskDetail) -> int:
        """The model of a task's detail that is chosen in the table."""
        return detail.models.index(self.table.picked) if self.table.picked in detail.models else 0

    def action_report(self) -> None:
        assert self.worker is not None
        path = self.host.home / f"evaluations-{strftime('%Y%m%d-%H%M%S')}.html"
        self.worker.submit(r.Report(path))

    def action_back(self) -> None:
        if self.has_class("-scores") and self.focused is not self.items:
            self.back()
        else:
            self._show_part("scores")

    # -- showing -----------------------------------------------------------------------------------------------------

    def models_changed(self) -> None:
        self.reshow()

    def reshow(self) -> None:
        """Everything as it is now; what did not change draws nothing."""
        if not self.is_mounted:
            return
        board = self.board
        items = sum(score.estimate.n for score in board.scores.values())
        facts = (f"{len(board.tasks)} task{'s' if len(board.tasks) != 1 else ''}", f"{items:,} items")
        models = f"{len(board.models)} models" if len(board.models) != 1 else board.models[0]
        self.top.show(models if board.models else "evaluations", facts if board.scores else ())
        self.query_one(Gauge).show(self._standing())
        self.query_one("#verdict", Caption).show(self._verdict())
        formula = self.formula()
        line = [(" ", "text"), *path("metric", whole=self.room.width >= WIDE), ("  │ ", "rule")]
        self.query_one("#formula", Caption).show([*line, *(formula.beside(line, self.room.width) if formula else ())])
        self._show_detail()
        self._hint()

    def _show_detail(self) -> None:
        it = self.detail if self.detail is not None and self.detail.task == self.table.chosen else None
        letters = [self.board.models.index(m) for m in it.models if m in self.board.models] if it is not None else []
        if it is not None and len(letters) != len(it.models):
            it, letters = None, []
        self.query_one(ReliabilityPlot).show(it, letters)
        self.items.show(it, letters)
        self.query_one(ItemPanel).show(self.items.item, letters, self._picked(it) if it is not None else 0)

    def _standing(self) -> RunStatus:
        board, glyphs = self.board, self.host.glyphs
        if self.state == "failed":
            return RunStatus(f"▲ {self.failure}", facts=("n measures something else",), alarm=True)
        if self.state == "opening":
            return RunStatus(f"{glyphs.live} {self.stage}…")
        odd = (f"{self.odd:,} rows are not like the others: likely eval lists them",) if self.odd else ()
        if self.state in ("measuring", "paused", "stopping") and board.live is not None:
            task, model = board.live
            score = board.scores.get(board.live)
            done = score.estimate.n if score is not None else 0
            total = score.evaluation.total if score is not None else 0
            of = f"{done:,}/{total:,}" if total else f"{done:,}"
            doing = {"paused": f"{glyphs.held} paused · ", "stopping": f"{glyphs.live} keeping what is there · "}
            words = f"{doing.get(self.state, glyphs.live + ' ')}{task} · {model.rpartition('/')[2]} · {of}"
            rest = f"{duration(board.left_s)} left" if board.left_s is not None else ""
            return RunStatus(words, done / total if total else None, rest, odd)
        if self.state in ("done", "stopped"):
            outlook = "the same tasks and models go on from there" if self.state == "stopped" else "kept"
            return RunStatus(f"∎ {self.state} · {'not kept' if board.unkept else outlook}", facts=odd)
        if not board.scores:
            return RunStatus("nothing was measured yet · n begins", facts=("or: likely eval arithmetic lookup",))
        more = f" · {board.left_out} older ones are not shown" if board.left_out else ""
        return RunStatus(f"∎ what was measured before{more}")

    def _verdict(self) -> tuple[tuple[str, str], ...]:
        board, task = self.board, self.table.chosen
        ways = self._ways()
        if not board.compared:
            told = (
                f" asked in {len(ways)} ways: {min(ways):.3f} to {max(ways):.3f}, spread {stdev(ways):.3f}"
                if ways
                else ""
            )
            return ((told, "faint"),) if told else ()
        words = f" after Holm over {len(board.compared)} comparison{'s' * (len(board.compared) > 1)}"
        paired = board.compared.get((task, self.table.picked))
        if (
            paired is not None
            and paired.verdict == "not seen"
            and (needed := paired.change.needed)
            and needed > paired.n
        ):
            words += f" · to see {abs(paired.change.estimate.mean):.3f} in {task}: {needed:,} items"
        if paired is not None and paired.verdict == TOO_FEW:
            words += f" · too few: {TELLING} items, or clusters of them, are the fewest that can tell"
        words += " · not seen: it may be chance"
        return ((words, "faint"),)

    def _ways(self) -> list[float]:
        """The scores of the chosen task in every way in which as many items of it were asked; none where it was asked
        in one alone."""
        board, task, model = self.board, task_of(self.table.chosen), self.table.picked
        own = board.scores.get((task, model))
        ways = [score for cell, score in board.scores.items() if task_of(cell[0]) == task and cell[1] == model]
        means = [score.estimate.mean for score in ways if own is not None and score.estimate.n == own.estimate.n]
        return means if len(means) > 1 else []

    def numbers(self) -> Mapping[str, Value]:
        """Of the task and the model that are chosen, once something is measured."""
        part = next((part for part in PARTS_SHOWN if self.has_class(f"-{part}")), PARTS_SHOWN[0])
        numbers: dict[str, Value] = {"part": part, "items": 0.0}
        score = self.board.scores.get((self.table.chosen, self.table.picked))
        if score is not None:
            mean, wide, n = score.estimate.mean, half(score.estimate), float(score.estimate.n)
            numbers |= {"mean": mean, "items": n} | ({"half": wide} if math.isfinite(wide) else {})
        if ways := self._ways():
            numbers |= {"spread": stdev(ways), "least": min(ways), "most": max(ways)}
        numbers |= {"ways": float(len(ways) or (score is not None))}
        comparison = self.board.compared.get((self.table.chosen, self.table.picked))
        if comparison is not None and math.isfinite(wide := half(comparison.change.estimate)):
            numbers |= {"delta": comparison.change.estimate.mean, "delta_half": wide}
        return numbers

    def formula(self) -> Formula | None:
        board, task = self.board, self.table.chosen
        comparison = board.compared.get((task, self.table.picked))
        if comparison is not None:
            estimate, unit = comparison.change.estimate, ""
            if comparison.measure == "nats":
                estimate, unit = estimate.map(bits, 1 / LN2), " bits a token"
            wide = half(estimate)
            error = f" ± {number(wide)}" if math.isfinite(wide) else ""
            value = f"{estimate.mean:+.3f}{error}{unit}"
            tail = f"   paired, n {comparison.n:,} · p {comparison.p:.2g}"
            return Formula("metric", (("Δ = mean(b_i − a_i) = ", False), (value, True), (tail, False)), FORMULA)
        score = board.scores.get((task, self.table.picked))
        if score is None:
            return None
        low, high = score.estimate.interval
        value = f"{number(score.estimate.mean)} [{number(low)}, {number(high)}]"
        way = " lower is better" if score.smaller_is_better else ""
        parts = ((f"{score.measure} = ", False), (value, True), (f"   n {score.estimate.n:,}{way}", False))
        return Formula("metric", parts, FORMULA)

    def _hint(self) -> None:
        own: tuple[tuple[str, str], ...] = (("↑↓", "Task"), ("←→", "Model"), ("⏎", "Items"))
        if not self.table.display:
            own = (("esc", "Tasks"),)
        if self.focused is self.items:
            who = letter(self.table.model)
            own = (("↑↓", "Item"), ("⏎", f"Open {who}'s in the chat"), ("esc", "Tasks"))
        if self.state in ("measuring", "paused"):
            own = (*own, ("space", "Go on" if self.state == "paused" else "Pause"), ("s", "Stop and keep"))
        elif not self.busy:
            own = (*own, ("n", "New"), *((("v", "Vary"),) if self.board.scores else ()))
        self.hints.show((*own, ("d", "Differences"), ("e", "Report"), ("=", "Formula"), (keys.help_key(), "Keys")))

    def on_descendant_focus(self) -> None:
        self.call_later(self.reshow)

    def commands(self) -> Iterator[Command]:
        if self.busy:
            yield f"runs: {'Go on' if self.state == 'paused' else 'Pause'}", "after this item", self.action_pause
            yield "runs: Stop and keep", "the same again goes on from there", self.action_stop
        else:
            yield "runs: New…", "tasks and models", self.action_new
            yield "runs: Vary", "the chosen task again in seven other ways, with typos", self.action_vary
        yield "runs: Report", "one HTML file", self.action_report
        yield "runs: Formula", "what the figures mean", self.action_formula
        yield "runs: Reliability", "as sure as right?", lambda: self.action_part("reliability")
        yield "runs: Differences", "the items where two models differ", lambda: self.action_part("differ")
