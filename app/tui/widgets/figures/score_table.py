"""Models side by side over tasks: a figure, its interval as a whisker on the row's own scale, and the verdict."""

import math
from collections.abc import Sequence
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message

from likely.app.results.scoreboard import Score, Scoreboard, half, scale
from likely.app.tui.base.drawing.line_widget import Line, LineWidget
from likely.app.tui.base.text import cells
from likely.engine.base.statistics.estimates import TOO_FEW
from likely.engine.measure.evaluate.tasks.variations import task_of

NAME, ITEMS, FIGURE, VERDICT, GAP = 22, 9, 12, 10, 2
WHISKER, WIDEST, LEAST = 15, 28, 8  # cells
ROOMY = 120  # columns for the models from which on a whisker is as wide as there is room for
VERDICTS = {"better": "▲ better", "worse": "▼ worse", "not seen": "not seen", TOO_FEW: "too few"}


class ScoreTable(LineWidget, can_focus=True):
    """A row a task, a column a model; the first is what the others are compared with."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", "Task", id="scores.up"),
        Binding("down", "move(1)", "Task", id="scores.down"),
        Binding("left", "turn(-1)", "Model", id="scores.left"),
        Binding("right", "turn(1)", "Model", id="scores.right"),
    ]

    class TaskChosen(Message):
        """Another task or model is looked at."""

    board: Scoreboard = Scoreboard()
    at = 0  # the row of a task
    model = 0  # the column

    def show(self, board: Scoreboard) -> None:
        task, before = self.chosen, self._needed
        self.board = board
        rows = self.rows
        self.at = rows.index(task) if task in rows else 0
        self.model = min(self.model, max(len(board.models) - 1, 0))
        if self._needed != before:
            self.refresh(layout=True)
        self.redraw()

    @property
    def rows(self) -> list[str]:
        """Tasks, those whose figure is the better the larger first."""
        return [*self._group(False), *self._group(True)]

    def _group(self, smaller: bool) -> list[str]:
        board = self.board

        def small(task: str) -> bool:
            return any(board.scores[c].smaller_is_better for m in board.models if (c := (task, m)) in board.scores)

        return [task for task in board.tasks if small(task) == smaller]

    @property
    def chosen(self) -> str:
        """The task that is looked at."""
        rows = self.rows
        return rows[self.at] if self.at < len(rows) else ""

    @property
    def picked(self) -> str:
        """The model in the column that is looked at."""
        return self.board.models[self.model] if self.board.models else ""

    def action_move(self, by: int) -> None:
        self._go(self.at + by, self.model)

    def action_turn(self, by: int) -> None:
        self._go(self.at, self.model + by)

    def _go(self, at: int, model: int) -> None:
        at = min(max(at, 0), max(len(self.rows) - 1, 0))
        model = min(max(model, 0), max(len(self.board.models) - 1, 0))
        if (at, model) != (self.at, self.model):
            self.at, self.model = at, model
            self.redraw()
            self.post_message(self.TaskChosen())

    def on_click(self, event: events.Click) -> None:
        larger = len(self._group(False))
        row = event.y - 1 + self._top(self.size.height)
        row -= int(row > larger and larger < len(self.rows))
        if event.y - 1 >= 0 and row < len(self.rows):
            self._go(row, self.model)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return self._needed

    @property
    def _needed(self) -> int:
        """A row a task, their heading, and the words between the two groups."""
        larger, count = len(self._group(False)), len(self.rows)
        return count + 1 + int(larger < count)

    # -- drawing -----------------------------------------------------------------------------------------------------

    def lines(self, width: int, height: int) -> Sequence[Line]:
        look = self.look
        names = [self._named(at) for at in range(len(self.rows))]
        name = min(max([cells.width(each) for each in names] + [10]) + 3, NAME if width > 70 else 16)
        shown, whisker = self._columns(width - name - ITEMS)
        head = [
            Segment(cells.pad(" TASK", name), look.heading),
            Segment(cells.pad("ITEMS  ", ITEMS, right=True), look.heading),
        ]
        for index in shown:
            head += self._heading(index, self._wide(index, whisker, shown))
        rows: list[Line] = [self._row(at, names[at], name, shown, whisker) for at in range(len(self.rows))]
        larger = len(self._group(False))
        if larger < len(rows):
            rows.insert(larger, [Segment("   lower is better", look.cut)])
        top = self._top(height)
        return [head, *rows[top : top + height - 1]]

    def _top(self, height: int) -> int:
        larger, count = len(self._group(False)), len(self.rows)
        split = larger < count
        row = self.at + int(split and self.at >= larger)
        return min(max(row - height + 3, 0), max(count + int(split) - height + 1, 0))

    def _columns(self, room: int) -> tuple[list[int], int]:
        """The models that there is room for, and the cells of a whisker."""
        count = max(len(self.board.models), 1)
        many = next((n for n in range(count, 1, -1) if self._used(n, LEAST) <= room), 1)
        first = self.model if many == 1 else min(max(self.model - many + 1, 0), count - many)
        shown = list(range(first, min(first + many, len(self.board.models))))
        if many > 1 and first > 0:  # what the others are compared with stays
            shown = [0, *shown[1:]]
        whisker = (room - self._used(many, 0)) // many
        return shown, min(whisker, WIDEST if room >= ROOMY else WHISKER) if whisker >= LEAST else 0

    @staticmethod
    def _used(many: int, whisker: int) -> int:
        """Cells of so many columns: the first has no verdict, unless it is the only one."""
        return many * (FIGURE + whisker + GAP) + max(many - 1, 1) * VERDICT

    def _wide(self, index: int, whisker: int, shown: Sequence[int]) -> int:
        return FIGURE + whisker + GAP + (VERDICT if index or len(shown) == 1 else 0)

    def _heading(self, index: int, size: int) -> Line:
        name = cells.clean(self.board.models[index].rstrip("/").rpartition("/")[2])
        picked = index == self.model
        return [
            Segment(letter(index) + " ", self.look.model),
            Segment(cells.pad(name, size - 3) + " ", self.look.chosen if picked else self.look.text),
        ]

    def _named(self, at: int) -> str:
        """The name in a row: of a variation below its task, or below another one of it, the kind and the number."""
        task, above = self.rows[at], self.rows[at - 1] if at else ""
        varied = task_of(task) != task and task_of(above) == task_of(task)
        return cells.clean(f"  {task.removeprefix(task_of(task)).strip(' ()')}" if varied else task)

    def _row(self, at: int, named: str, name: int, shown: Sequence[int], whisker: int) -> Line:
        board, look, here, task = self.board, self.look, at == self.at, self.rows[at]
        live = board.live is not None and board.live[0] == task
        mark = self.glyphs.chosen if here else self.glyphs.live if live else " "
        scores = [board.scores.get((task, model)) for model in board.models]
        known = [score for score in scores if score is not None]
        style = look.chosen if here else look.text
        items = self._items(task, known)
        line = [
            Segment(f"{mark} ", style),
            Segment(cells.pad(named, name - 2), style),
            Segment(cells.pad(items + " " * GAP, ITEMS, right=True), look.faint),
        ]
        low, high = scale(score.estimate for score in known)
        reference = scores[0].estimate.mean if scores and scores[0] is not None else math.nan
        for index in shown:
            size = self._wide(index, whisker, shown)
            span = low, high, reference
            line += self._cell(task, index, scores[index], span, whisker, size, picked=here and index == self.model)
        return line

    def _items(self, task: str, found: Sequence[Score]) -> str:
        live = self.board.live
        if live is not None and live[0] == task and (score := self.board.scores.get(live)) is not None:
            done, of = f"{score.estimate.n:,}", f"/{score.evaluation.total:,}" if score.evaluation.total else ""
            return done + of if len(done + of) <= ITEMS - GAP else done
        return f"{max((score.estimate.n for score in found), default=0):,}" if found else ""

    def _cell(
        self,
        task: str,
        index: int,
        score: Score | None,
        span: tuple[float, float, float],
        whisker: int,
        size: int,
        *,
        picked: bool,
    ) -> Line:
        look = self.look
        if score is None:
            return [Segment(cells.pad("…" if self.board.live is not None else "not measured", size), look.cut)]
        compared = self.board.compared.get((task, self.board.models[index]))
        verdict = compared.verdict if compared is not None else ""
        ink = {"better": look.better, "worse": look.alarm}.get(verdict, look.bar)
        wide = half(score.estimate)
        error = f"±{number(wide).removeprefix('0')}" if math.isfinite(wide) else ""
        style = look.chosen if picked else look.text
        segments = [
            Segment(cells.pad(number(score.estimate.mean), 6), style),
            Segment(cells.pad(error, FIGURE - 6), look.faint),
        ]
        if whisker:
            segments += self._whisker(score, span, whisker, ink, reference=bool(index))
        words = VERDICTS.get(verdict, "")
        tint = ink if verdict in ("better", "worse") else look.faint
        return [*segments, Segment(cells.pad(f" {words}", size - FIGURE - whisker), tint)]

    def _whisker(
        self, score: Score, span: tuple[float, float, float], size: int, ink: Style, *, reference: bool
    ) -> Line:
        """The interval in half cells, and where the first model lies."""
        low, high, first = span

        def at(x: float) -> float:
            return min(max((x - low) / ((high - low) or 1.0), 0.0), 1.0) * (size - 1)

        a, b = (
            at(x) if math.isfinite(x) else end for x, end in zip(score.estimate.interval, (0, size - 1), strict=True)
        )
        glyphs = [" "] * size
        for i in range(math.ceil(a), math.floor(b) + 1):
            glyphs[i] = "─"
        if math.ceil(a) - a >= 0.5:
            glyphs[math.ceil(a) - 1] = "╶"
        if b - math.floor(b) >= 0.5:
            glyphs[math.floor(b) + 1] = "╴"
        segments = []
        where = round(at(first)) if reference and math.isfinite(first) else -1
        middle = round(at(score.estimate.mean)) if math.isfinite(score.estimate.mean) else -1
        for i, glyph in enumerate(glyphs):
            if i == middle:
                segments.append(Segment(self.glyphs.knob, ink))
            elif i == where:
                segments.append(Segment(self.glyphs.cut, self.look.faint))
            else:
                segments.append(Segment(glyph, ink))
        return segments


def letter(index: int) -> str:
    """A column's name beside the table."""
    return chr(ord("A") + index) if index < 26 else "·"


def number(x: float) -> str:
    """Six characters or less, five of what is not below 0."""
    if not math.isfinite(x):
        return "-"
    for digits, bound in ((3, 10), (1, 1000), (0, 100_000)):
        if abs(round(x, digits)) < bound:
            return f"{x:.{digits}f}"
    return f"{x:.0e}"
