"""Items on which two models differ, as a list to choose from, and one of them beside it."""

import math
from collections.abc import Sequence
from textwrap import wrap
from typing import ClassVar

from rich.segment import Segment
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message

from likely.app.results.disagreements import DifferingItem, ModelAnswer, TaskDetail
from likely.app.tui.base import theme
from likely.app.tui.base.drawing.line_widget import Line, LineWidget
from likely.app.tui.base.text import cells
from likely.app.tui.widgets.figures.score_table import letter

SAID, BITS = 8, 7  # cells of a column, where there are two models


class DifferingItems(LineWidget, can_focus=True):
    """A row an item: its words, what each model said, and by how many bits the right answer became likelier."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", "Item", id="items.up"),
        Binding("down", "move(1)", "Item", id="items.down"),
        Binding("pageup,comma", "move(-10)", "Ten up", id="items.pageup"),
        Binding("pagedown,full_stop", "move(10)", "Ten down", id="items.pagedown"),
    ]

    class ItemChosen(Message):
        """Another item is looked at."""

    detail: TaskDetail | None = None
    letters: Sequence[int] = ()
    at = 0
    column = SAID  # cells of a column

    def show(self, detail: TaskDetail | None, letters: Sequence[int]) -> None:
        if (detail, letters) == (self.detail, self.letters):
            return
        number = self.item.number if self.item is not None and self._same(detail) else -1
        self.detail, self.letters = detail, letters
        numbers = [item.number for item in detail.items] if detail is not None else []
        self.at = numbers.index(number) if number in numbers else 0
        self.redraw()

    def _same(self, detail: TaskDetail | None) -> bool:
        mine = self.detail
        return detail is not None and mine is not None and (detail.task, detail.models) == (mine.task, mine.models)

    @property
    def item(self) -> DifferingItem | None:
        items = self.detail.items if self.detail is not None else ()
        return items[self.at] if self.at < len(items) else None

    def action_move(self, by: int) -> None:
        count = len(self.detail.items) if self.detail is not None else 0
        at = min(max(self.at + by, 0), max(count - 1, 0))
        if at != self.at:
            self.at = at
            self.redraw()
            self.post_message(self.ItemChosen())

    def on_click(self, event: events.Click) -> None:
        self.action_move(event.y - 2 + self._top(self.size.height - 3) - self.at if event.y >= 2 else 0)

    def _top(self, rows: int) -> int:
        count = len(self.detail.items) if self.detail is not None else 0
        return min(max(self.at - rows + 2, 0), max(count - rows, 0))

    def lines(self, width: int, height: int) -> Sequence[Line]:
        it, look = self.detail, self.look
        if it is None:
            return [[Segment(" ITEMS", look.heading)], [Segment(" choose a task", look.cut)]]
        names = [letter(index) for index in self.letters]
        two = len(it.models) == 2
        title = f" WHERE {names[0]} AND {names[1]} DIFFER" if two else f" WHERE {names[0] if names else 'A'} IS WRONG"
        title = " WINDOWS  the costliest first" if it.windows and not two else title
        counts = f"  {it.differing:,} of {it.common:,}"
        self.column = SAID if two else max(width // 3, SAID)
        heads = "".join(cells.pad(name, self.column, right=True) for name in names)
        tail = cells.pad("Δ bits" if two else "", BITS, right=True) if two else ""
        name = max(width - self.column * len(names) - len(tail) - 4, 6)
        lines: list[Line] = [
            [Segment(title, look.heading), Segment(counts, look.faint)],
            [
                Segment(cells.pad("   item", name + 3), look.faint),
                Segment(heads, look.model),
                Segment(tail, look.faint),
            ],
        ]
        rows = max(height - 3, 1)
        top = self._top(rows)
        visible = range(top, min(top + rows, len(it.items)))
        lines += [self._row(it.items[index], name, picked=index == self.at) for index in visible]
        if not it.items:
            lines.append([Segment("   none", look.cut)])
        while len(lines) < height - 1:
            lines.append([])
        foot = f" {names[1]} alone right {it.won:,} · {names[0]} alone {it.lost:,}" if two and it.won + it.lost else ""
        lines.append([Segment(cells.fit(it.note or foot, width), look.cut if it.note else look.faint)])
        return lines

    def _row(self, item: DifferingItem, name: int, *, picked: bool) -> Line:
        look = self.look
        style = (look.row if self.has_focus else look.chosen) if picked else look.text
        line = [Segment(f" {self.glyphs.chosen if picked else ' '} ", look.chosen)]
        line.append(Segment(cells.pad(cells.clean(item.title), name), style))
        for answer in item.said:
            text = cells.fit(cells.clean(answer.text.strip()) or _bits(answer.value), self.column - 3)
            shown = cells.pad(f" {text} {'√' if answer.right else ' '}", self.column, right=True)
            line.append(Segment(shown, look.tick if answer.right else look.faint))
        if len(item.said) == 2:
            bits = item.bits
            shown = "" if bits is None else f"{bits:+.1f}"
            ink = look.faint if not bits else look.better if bits > 0 else look.alarm
            line.append(Segment(cells.pad(shown, BITS, right=True), ink))
        return line


class ItemPanel(LineWidget):
    """One item: its words, the right answer, what each model said, and what the right answer costs each."""

    item: DifferingItem | None = None
    letters: Sequence[int] = ()
    picked = 0

    def show(self, item: DifferingItem | None, letters: Sequence[int], picked: int) -> None:
        """`picked`: the model whose answer would be opened."""
        if (item, letters, picked) != (self.item, self.letters, self.picked):
            self.item, self.letters, self.picked = item, letters, picked
            self.redraw()

    def lines(self, width: int, height: int) -> Sequence[Line]:
        look, item = self.look, self.item
        if item is None:
            return [[Segment(" ITEM", look.heading)], [Segment(" none is chosen", look.cut)]]
        hint = f"{self.glyphs.fold} ⏎ in the chat "
        head = f" ITEM {item.number + 1}"
        gap = max(width - cells.width(head) - cells.width(hint), 1)
        lines: list[Line] = [
            [Segment(head, look.heading), Segment(" " * gap), Segment(hint, look.accent)],
        ]
        own = 3 if height < 16 else 5
        lines += [[Segment(f" {row}", look.text)] for row in _rows(item.prompt or item.title, width - 2)[-own:]]
        if item.answer:
            answer = cells.fit(cells.clean(item.answer.strip()), width - 14)
            lines.append([Segment(" ∎ ", look.faint), Segment(answer, look.tick), Segment(" the answer", look.faint)])
        golds = [reply.gold for reply in item.said]
        costs = [0.0 - gold / math.log(2) for gold in golds if gold is not None]  # a rounded zero without its sign
        room = height - len(lines) - (2 + len(item.said) if len(costs) == len(item.said) else 0)
        share = max(room // max(len(item.said), 1) - 2, 1)
        for index, reply in enumerate(item.said):
            lines += self._answer_rows(index, reply, width, share)
        if costs and len(costs) == len(item.said) and all(cost >= 0 for cost in costs):
            lines += self._costs(costs, width)
        return lines

    def _answer_rows(self, index: int, answer: ModelAnswer, width: int, rows: int) -> list[Line]:
        look = self.look
        name = letter(self.letters[index]) if index < len(self.letters) else "·"
        mark = self.glyphs.chosen if index == self.picked else " "
        verdict = ("  √ right", look.better) if answer.right else ("  ✕ wrong", look.alarm)
        lines: list[Line] = [
            [],
            [Segment(f"{mark}", look.chosen), Segment(f"{name} ", look.model), Segment("said", look.faint),
             Segment(*verdict)] if answer.text else [Segment(f"{mark}{name}", look.model)],
        ]  # fmt: skip
        lines += [[Segment(f" {row}", look.text)] for row in _rows(answer.text.strip(), width - 2)[:rows]]
        return lines

    def _costs(self, costs: Sequence[float], width: int) -> list[Line]:
        look, most = self.look, max(costs) or 1.0
        lines: list[Line] = [[], [Segment(" surprisal of the right answer", look.faint)]]
        for index, cost in enumerate(costs):
            size = max(width - 16, 4)
            name = letter(self.letters[index]) if index < len(self.letters) else "·"
            shown = theme.bar(cost / most, size, self.glyphs)
            ink = look.bar if not index else look.chosen_bar
            lines.append(
                [Segment(f" {name} ", look.model), Segment(shown, ink), Segment(f" {cost:6.1f} bits", look.text)]
            )
        return lines


def _bits(nats: float) -> str:
    return "" if math.isnan(nats) else f"{abs(nats) / math.log(2):.0f} b"


def _rows(text: str, width: int) -> list[str]:
    """A text's lines, folded."""
    folded: list[str] = []
    for line in text.splitlines():
        folded += [cells.fit(row, width) for row in wrap(cells.clean(line), max(width, 4))] or [""]
    return folded
