"""The candidates of one token: a bar for the probability after the transforms, a tick where the model had it before."""

from collections.abc import Sequence
from typing import ClassVar

from rich.segment import Segment
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message

from app.tui.chat.candidates import Candidate, CandidateTable
from app.tui.theme import bar
from app.tui.tokens import cells
from app.tui.widgets.canvas import Canvas, Line

NAME = 12
PERCENT = 7


class Candidates(Canvas, can_focus=True):
    """The heading, the bars, and what was left out. Focused, it lets a person pick one."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "pick(-1)", "Pick", show=False, id="candidates.up"),
        Binding("down", "pick(1)", "Pick", show=False, id="candidates.down"),
        Binding("enter", "branch", "Branch", show=False, id="candidates.branch"),
        Binding("f", "force", "Force next", show=False, id="candidates.force"),
        Binding("x", "ban", "Ban", show=False, id="candidates.ban"),
        *(Binding(str(n), f"take({n})", f"Take {n}", show=False, id=f"candidates.take_{n}") for n in range(1, 10)),
    ]

    class Picked(Message):
        """A person chose a candidate: to `branch` there, to `force` it next, or to `ban` it."""

        def __init__(self, token: int, verb: str) -> None:
            super().__init__()
            self.token = token
            self.verb = verb

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.view: CandidateTable | None = None
        self.picked: int | None = None

    def show(self, view: CandidateTable | None) -> None:
        if view != self.view:
            self.view = view
            if view is None or (self.picked is not None and self.picked >= len(view.rows)):
                self.picked = None
            self.redraw()

    @property
    def selected(self) -> Candidate | None:
        if self.view is None or self.picked is None:
            return None
        return self.view.rows[self.picked]

    def lines(self, width: int, height: int) -> Sequence[Line]:
        if self.view is None:
            return [[Segment("TOKEN", self.look.heading)], [Segment("  nothing drawn yet", self.look.faint)]]
        view, rows = self.view, self.view.rows
        room = max(height - 2, 0)
        shown = list(range(len(rows)))[:room]
        chosen = next((i for i, row in enumerate(rows) if row.chosen), None)
        if chosen is not None and chosen not in shown and room:
            shown[-1] = chosen
        if self.picked is not None and self.picked not in shown and room:
            start = max(0, self.picked - room + 1)
            shown = list(range(start, min(start + room, len(rows))))
        scale = max((max(rows[i].after or 0.0, rows[i].before) for i in shown), default=1.0) or 1.0
        lines: list[Line] = [self._heading(view, width)]
        lines += [self._row(rows[i], i, scale, width) for i in shown]
        if rows:
            lines.append([Segment(cells.fit(view.summary(self.glyphs), width), self.look.faint)])
        return lines

    def _heading(self, view: CandidateTable, width: int) -> Line:
        mark = self.glyphs.live if view.live else self.glyphs.held
        head = f"{view.title}  "
        tail = f"  {view.numbers}" if view.name else view.numbers
        name = cells.fit(view.name, max(width - cells.width(head + tail) - 2, 3)) if view.name else ""
        space = width - cells.width(head + name + tail) - 1
        return [
            Segment(head, self.look.heading),
            Segment(name, self.look.text),
            Segment(tail, self.look.heading),
            Segment(" " * max(space, 0)),
            Segment(mark if space >= 0 else "", self.look.accent if view.live else self.look.faint),
        ]

    def _row(self, row: Candidate, index: int, scale: float, width: int) -> Line:
        glyphs, look = self.glyphs, self.look
        picked = index == self.picked and self.has_focus
        mark = glyphs.chosen if row.chosen else glyphs.cut if row.removed_by else " "
        size = max(width - NAME - PERCENT - 4, 3)
        share = row.before if row.after is None or row.removed_by else row.after
        ink = look.chosen_bar if row.chosen else look.bar_cut if row.removed_by else look.bar
        text = look.chosen if row.chosen else look.faint if row.removed_by else look.text
        name = cells.pad(row.name, NAME)
        drawn = bar(share / scale, size, glyphs)
        tick = min(round(row.before / scale * size), size - 1)
        segments = [Segment(mark + " ", look.chosen if row.chosen else look.faint)]
        segments.append(Segment(name + " ", look.row if picked else text))
        # the tick is drawn only where the transforms moved the probability by more than it is wide
        if row.after is not None and not row.removed_by and abs(row.after - row.before) / scale * size >= 1:
            under = drawn[tick]
            on = ink if under == glyphs.blocks[-1] else look.tick
            tick_style = (
                look.tick
                if on is not ink
                else look.tick.__class__(color=look.cursor.color, bgcolor=ink.color, bold=True)
            )
            segments += [Segment(drawn[:tick], ink), Segment(glyphs.tick, tick_style), Segment(drawn[tick + 1 :], ink)]
        else:
            segments.append(Segment(drawn, ink))
        segments.append(Segment(percent(share).rjust(PERCENT + 1), text))
        return segments

    # -- picking -----------------------------------------------------------------------------------------------------

    def on_focus(self) -> None:
        if self.picked is None and self.view is not None and self.view.rows:
            self.picked = next((i for i, row in enumerate(self.view.rows) if row.chosen), 0)
        self.redraw()

    def on_blur(self) -> None:
        self.redraw()

    def action_pick(self, by: int) -> None:
        if self.view is not None and self.view.rows:
            here = 0 if self.picked is None else self.picked + by
            self.picked = min(max(here, 0), len(self.view.rows) - 1)
            self.redraw()

    def _post(self, verb: str) -> None:
        if self.selected is not None:
            self.post_message(self.Picked(self.selected.token, verb))

    def action_branch(self) -> None:
        self._post("branch")

    def action_force(self) -> None:
        self._post("force")

    def action_ban(self) -> None:
        self._post("ban")

    def action_take(self, number: int) -> None:
        if self.view is not None and number <= len(self.view.rows):
            self.picked = number - 1
            self._post("branch")

    def on_click(self, event: events.Click) -> None:
        offset = event.get_content_offset(self)
        if offset is None or self.view is None:
            return
        index = offset.y - 1
        if 0 <= index < min(len(self.view.rows), self.size.height - 2):
            again = self.picked == index
            self.picked = index
            self.redraw()
            if again:
                self._post("branch")


def percent(share: float) -> str:
    """A probability in percent, with as many digits as fit."""
    value = 100 * share
    if 0 < value < 0.005:
        return "<0.01%"
    return f"{value:.2f}%"
