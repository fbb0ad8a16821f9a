"""Ladders: runs of growing size, the law of their losses with its intervals, and what a budget buys by it."""

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from textwrap import wrap
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Input

from likely.app.jobs.scaling_jobs import ReadSweep, SweepJobs, SweepRead, WriteSweep
from likely.app.jobs.worker import Failed
from likely.app.lessons.expression import Value
from likely.app.tui.base import keys
from likely.app.tui.base.text.formula import Formula, path
from likely.app.tui.views.view import Command, View
from likely.app.tui.widgets.bars import Hints, TopBar
from likely.app.tui.widgets.caption import Caption
from likely.app.tui.widgets.figures import ladder
from likely.app.tui.widgets.figures.chart import Chart
from likely.app.tui.widgets.tune_form import Paths
from likely.engine.base.files.home import expanded
from likely.engine.measure.scaling.forecast import Purchase, buy

TICK_S = 0.15
WIDE = 110  # columns
NONE = (
    "no table is open: n opens a table of runs (CSV), or the folder of a ladder, which `likely scale run LADDER.toml` "
    "trains"
)
SENTENCE = " More computing, lower loss, along a law: what was seen, what is told, and from where on it is open."
PARTS_SHOWN = ("loss", "side", "law")
FORMULA = """\
The least loss of N parameters on D tokens, fitted to all runs (Huber loss of log-losses):

    L(N, D) = E + A/N^α + B/D^β        C = 6 N D floating-point operations

A budget C is best spent on N ~ C^a, a = β / (α + β). Intervals are percentiles over refits whose runs have random
weights; a run from the law by chance is not in them. Beyond ten times the largest run no interval is told: an interval
of the law's numbers would be read as one of the future, and no run there speaks for the form."""


class SweepsScreen(View):
    """A table of runs and its law. Reading and fitting are done in a thread of its own."""

    NAME = "ladders"
    STAYS = True
    NEEDS_MODEL = False
    AUTO_FOCUS = ""  # keys are the view's own, until a path is written
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "budget(-1)", "Less", id="ladders.less", tooltip="a smaller budget"),
        Binding("right", "budget(1)", "More", id="ladders.more", tooltip="a larger budget"),
        Binding("p", "side('parabolas')", "Parabolas", id="ladders.parabolas", tooltip="a parabola a budget"),
        Binding("r", "side('residuals')", "Residuals", id="ladders.residuals", tooltip="runs less the law"),
        Binding("b", "side('law')", "Budget", id="ladders.budget", tooltip="the law, and what a budget buys"),
        Binding("v", "against", "Against", id="ladders.against", tooltip="against compute, size or tokens"),
        Binding("n", "ask", "Open", id="ladders.open", tooltip="another table, or a ladder's folder"),
        Binding("e", "export", "Export", id="ladders.export", tooltip="an SVG and an HTML page"),
        Binding("escape", "back", "Back", id="ladders.back", tooltip="back"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.read: SweepRead | None = None
        self.chosen = 0
        self.against = ladder.AGAINST[0]
        self.side = "parabolas"  # or residuals
        self.part = "loss"
        self.failure = ""
        self._reading = -1

    def compose(self) -> ComposeResult:
        yield TopBar(self.NAME, id="top")
        yield Caption(id="ladder-sentence")
        yield Input(
            placeholder="a table of runs (CSV), or a ladder's folder",
            id="ladder-path",
            suggester=Paths(use_cache=False),
        )
        with Horizontal(id="ladder"):
            with Vertical(id="ladder-seen"):
                yield Chart(id="ladder-loss")
                yield Caption(id="ladder-foretold")
            with Vertical(id="ladder-law"):
                yield Chart(id="ladder-side")
                yield Caption(id="ladder-numbers")
                yield Caption(id="ladder-bought")
        yield Caption(id="formula")
        yield Hints(id="hints")

    def on_mount(self) -> None:
        self._path.display = False
        self._show_part("loss")
        self._worker = self.host.worker(SweepJobs, "ladders")
        self._worker.start()
        self.set_interval(TICK_S, self.tick)
        if self.host.ladder is not None:
            self.read_table(self.host.ladder)
        self.reshow()

    def on_unmount(self) -> None:
        self._worker.close()

    def on_resize(self) -> None:
        self.call_after_refresh(self.reshow)

    def on_screen_resume(self) -> None:
        if self.is_mounted:
            self.host.restyle()
            self.reshow()

    @property
    def _path(self) -> Input:
        return self.query_one("#ladder-path", Input)

    # -- reading -----------------------------------------------------------------------------------------------------

    def read_table(self, table: Path) -> None:
        """Read a table, and find its law."""
        self.host.ladder, self.failure = table, ""
        self._reading = self._worker.submit(ReadSweep(table))
        self.reshow()

    def tick(self) -> None:
        for job, event in self._worker.drain():
            self._take(job, event)

    def _take(self, job: int, event: Any) -> None:
        match event:
            case SweepRead() if job == self._reading:
                self.read, self._reading = event, -1
                self.chosen = len(ladder.budgets(event)) // 2 - 1
                self._close()
                self.reshow()
            case Failed(line):
                if job == self._reading:
                    self.failure, self._reading = line, -1
                self.hints.say(line, alarm=True)
                self.reshow()
            case Path():
                self.hints.say(f"written: {event}, and an SVG beside it")

    def action_ask(self) -> None:
        self._path.display = True
        self._path.focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        if event.value.strip():  # the field stays until it is read: a path that is none is mended there
            self.read_table(expanded(event.value.strip()))
        else:
            self._close()

    def _close(self) -> None:
        """Close the field of the path."""
        if self._path.display:
            self._path.display = False
            self.set_focus(None)

    # -- keys --------------------------------------------------------------------------------------------------------

    def action_budget(self, step: int) -> None:
        if self.read is not None:
            self.chosen = min(max(self.chosen + step, 0), len(ladder.budgets(self.read)) - 1)
            self.reshow()

    def action_side(self, name: str) -> None:
        """Another picture beside the losses; on a small screen, in their place, and again for them."""
        part = "law" if name == "law" else "side"
        again = self.room.width < WIDE and part == self.part and name in (self.side, "law")
        if name != "law":
            self.side = name
        self._show_part("loss" if again else part)

    def _show_part(self, part: str) -> None:
        """Which part fills a screen that is too small for all of them."""
        self.part = part
        for name in PARTS_SHOWN:
            self.set_class(name == part, f"-{name}")
        self.call_after_refresh(self.reshow)

    def action_against(self) -> None:
        at = ladder.AGAINST.index(self.against)
        self.against = ladder.AGAINST[(at + 1) % len(ladder.AGAINST)]
        self.reshow()

    def action_export(self) -> None:
        if self.read is None:
            self.hints.say("there is no law here yet")
            return
        stem = self.host.home / f"ladder-{time.strftime('%Y%m%d-%H%M%S')}"
        self._worker.submit(WriteSweep(self.read, stem.with_suffix(".svg"), stem.with_suffix(".html")))

    def action_back(self) -> None:
        if self._path.display:
            self._close()
        elif self.room.width < WIDE and self.part != "loss":
            self._show_part("loss")
        else:
            self.back()

    # -- showing -----------------------------------------------------------------------------------------------------

    @property
    def bought(self) -> Purchase | None:
        """The purchase of the chosen budget."""
        if self.read is None:
            return None
        return buy(self.read.report.fitted, self.read.report.laws, ladder.budgets(self.read)[self.chosen][1])

    def reshow(self) -> None:
        """Everything as it is now; what did not change draws nothing."""
        if not self.is_mounted:
            return
        read = self.read
        sentence = SENTENCE if self.room.width >= WIDE else " More computing, lower loss: seen, told, open"
        self.query_one("#ladder-sentence", Caption).show(((" ladders", "accent"),), ((sentence, "faint"),))
        self._show_law(read)
        formula = self.formula()
        wide = self.room.width >= WIDE
        line = [(" ", "text"), *path("metric", whole=wide), ("  │ ", "rule")]
        self.query_one("#formula", Caption).show([*line, *(formula.beside(line, self.room.width) if formula else ())])
        own = (("←→", "Budget"), ("p", "Parabolas"), ("r", "Residuals"))
        more = (("v", "Against"),) if wide or self.part == "loss" else ()
        law = () if wide else (("b", "ScalingLaw"),)
        acts = (*own, *more, *law, ("n", "Open"), ("e", "Export"), ("=", "Formula"))
        self.hints.show((*(acts if read is not None else (("n", "Open"),)), (keys.help_key(), "Keys")))

    def _show_law(self, read: SweepRead | None) -> None:
        loss, side = self.query_one("#ladder-loss", Chart), self.query_one("#ladder-side", Chart)
        foretold, numbers, bought = (
            self.query_one(f"#ladder-{name}", Caption) for name in ("foretold", "numbers", "bought")
        )
        loss.display = side.display = read is not None  # axes without a law say something wrong
        if read is None:
            words = "finding the law…" if self._reading >= 0 else self.failure or NONE
            self.top.show(self.host.ladder.name if self.host.ladder is not None else "ladders", ())
            lines = wrap(words, max(foretold.size.width - 2, 20))
            foretold.show(*(((f" {line}", "alarm" if self.failure else "faint"),) for line in lines))
            numbers.show()
            bought.show()
            return
        report = read.report
        rate = (f"{read.rate / 1e9:.3g} GFLOP/s",) if read.rate is not None else ()
        self.top.show(read.path.name, (f"{len(report.fitted.runs)} runs", *rate))
        name = ladder.budgets(read)[self.chosen][0]
        loss.show(ladder.loss_picture(read, self.against, self.bought, name))
        side.show(ladder.residual_picture(report) if self.side == "residuals" else ladder.parabola_picture(report))
        numbers.show(*ladder.law_rows(report))
        bought.show(*ladder.bought_rows(read, self.chosen, bought.size.height))
        foretold.show(*ladder.foretold_rows(report, foretold.size.height))

    def formula(self) -> Formula | None:
        bought = self.bought
        if self.read is None or bought is None:
            return None
        law = self.read.report.fitted.law
        return Formula(
            "metric", ((f"{law}   at C {bought.compute:.2g}: ", False), (f"{bought.loss:.3f}", True)), FORMULA
        )

    def set_state(self, state: Mapping[str, str]) -> None:
        """A table, where a person has opened none."""
        if "table" in state and self.host.ladder is None:
            self.read_table(Path(state["table"]))

    def numbers(self) -> Mapping[str, Value]:
        bought = self.bought
        if self.read is None or bought is None:
            return {}
        law = self.read.report.fitted.law
        return {
            "compute": bought.compute, "loss": bought.loss, "size": bought.parameters, "data": bought.tokens,
            "e": float(law.E), "a": float(law.A), "alpha": float(law.alpha), "b": float(law.B), "beta": float(law.beta),
        }  # fmt: skip

    def commands(self) -> Iterator[Command]:
        yield "ladder: Open…", "a table of runs, or a ladder's folder", self.action_ask
        yield "ladder: Export", "an SVG and an HTML page", self.action_export
        yield "ladder: Parabolas", "one a budget", lambda: self.action_side("parabolas")
        yield "ladder: Residuals", "runs less the law", lambda: self.action_side("residuals")
        yield "ladder: Against…", "compute, parameters, tokens", self.action_against
