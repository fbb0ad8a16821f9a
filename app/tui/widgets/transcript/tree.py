"""The tree of a conversation: a line for every branch at every fork, the checked-out one lit."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, cast

from rich.segment import Segment
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.widget import Widget

from likely.app.tui.base.drawing.line_widget import Line, LineWidget
from likely.app.tui.base.text import cells
from likely.app.tui.chat import tallies
from likely.app.tui.chat.inspecting.ranking import ENDED, STOPPED, bits, state_of
from likely.app.tui.chat.live_run import PRUNED
from likely.engine.chat.conversation import ROOT, Conversation, Fork

TALLEST = 8  # rows of the tree beside the other panels
STEM, SHORTEST = 3, 8  # cells of a stem for each level, and of a text at least


@dataclass(frozen=True, slots=True)
class TreeRow:
    """One line of the tree."""

    fork: Fork
    option: str | None
    depth: int
    last: bool  # of its siblings
    number: str  # "2/3" where there is a choice
    on: bool  # on the checked-out branch
    text: str
    given_up: bool = False  # by the run that drew it
    numbers: tuple[str, ...] = ()  # one under each heading of `columns`
    state: str = ""  # of a search's or a vote's text that ends here: growing, ended, stopped, pruned


def given_up(talk: Conversation) -> frozenset[tuple[Fork, str | None]]:
    """The branches that a search has given up."""
    return frozenset(branch for branch in talk.pruned if talk.nodes[branch[1] or branch[0].node].finish == PRUNED)


def tree_rows(talk: Conversation, numbers: "_Numbers", *, away: bool = False) -> list[TreeRow]:
    """The lines of a conversation's tree, from the root down; `away`: those that a search gave up too."""
    shown = replace(talk, pruned=talk.pruned - given_up(talk)) if away else talk
    lineage = {segment.node.id: segment.length for segment in talk.lineage()}
    rows = []
    for fork, option, depth in shown.walk():
        options = shown.options(fork)
        past = fork.at is not None and lineage.get(fork.node, -1) > fork.at
        on = past if option is None else option in lineage
        gone = talk.nodes[option or fork.node].finish == PRUNED
        number = f"{options.index(option) + 1}/{len(options)}" if len(options) > 1 else ""
        last, end = option == options[-1], shown.next_fork(fork, option)
        words = _words(talk, fork, option, end.at if end.node == (option or fork.node) else None)
        figures, state = numbers.of(option or fork.node, end), numbers.state(end)
        rows.append(TreeRow(fork, option, depth, last, number, on, words, gone, figures, state))
    return rows


class _Numbers:
    """Numbers of the answers that a branch leads through, one for each of `columns`: of a vote's paths their answers,
    of a search's its scores, in bits."""

    def __init__(self, talk: Conversation) -> None:
        self.talk, self.tally = talk, tallies.tally(talk)
        self.columns: tuple[str, ...] = ()
        if self.tally is not None:
            self.columns = "answer", "log₂p/tok"
        elif any("score" in node.figures for node in talk.nodes.values()):
            self.columns = "log₂p", "score"
        self.sums = tallies.AnswerSums(talk)

    def of(self, start: str, end: Fork) -> tuple[str, ...]:
        """Of the answer in which the node `start` stands, where it ends on the way to `end`."""
        if not self.columns:
            return ()
        if self.talk.nodes[start].role != "assistant":
            return ("",) * len(self.columns)
        end = self._own(start, end)
        node = self.talk.nodes[end.node]
        total, count = self.sums.of(end)
        if self.tally is not None:
            return cells.fit(self.tally.answers.get(node.id) or "", 10), bits(total / count) if count else ""
        score = node.figures.get("score", math.nan) if end.at is None or end.at == len(node) else math.nan
        return bits(total) if count else "", bits(score)

    def state(self, end: Fork) -> str:
        """The state of the text that ends at a fork; "" where other texts part there, or nothing is counted."""
        node = self.talk.nodes[end.node]
        last = end.at is None and not self.talk.options(end)
        return state_of(node) if self.columns and node.role == "assistant" and last else ""

    def _own(self, start: str, end: Fork) -> Fork:
        """Where an answer ends on the way to a place that may be in one behind it."""
        at = end.node
        while at != start:
            node = self.talk.nodes[at]
            end, at = end if node.joins else node.fork, node.fork.node
        return end


def _words(talk: Conversation, fork: Fork, option: str | None, end: int | None) -> str:
    """How a branch begins, up to its next fork."""
    if option is not None:
        node = talk.nodes[option]
        steps = node.steps[:end][:16]
        text = node.text or "".join(step.text for step in steps if not step.special)
        text = text or "".join(step.piece.decode(errors="replace") for step in steps)
        joins = node.joins and node.fork.node != ROOT
    else:
        start = fork.at or 0
        steps = talk.nodes[fork.node].steps[start : start + 16 if end is None else min(start + 16, end)]
        text, joins = "".join(step.text for step in steps if not step.special), True
    text = " ".join(cells.clean(text).split())
    return f"…{text}" if joins or not text else text


class TreePane(LineWidget, can_focus=True):
    """Walk with the arrows, check out with enter or a click."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "pick(-1)", "Pick", id="tree.up"),
        Binding("down", "pick(1)", "Pick", id="tree.down"),
        Binding("enter", "choose", "Check out", id="tree.check_out"),
        Binding("delete,backspace", "prune", "Put away", id="tree.prune"),
        Binding("u", "restore", "Bring back", id="tree.restore"),
        Binding("z", "fold", "Show or hide what was pruned", id="tree.fold"),
    ]

    class CheckedOut(Message):
        """A person checks out a branch."""

        def __init__(self, fork: Fork, option: str | None) -> None:
            super().__init__()
            self.fork = fork
            self.option = option

    class PutAway(Message):
        """A person puts a branch out of sight."""

        def __init__(self, fork: Fork, option: str | None) -> None:
            super().__init__()
            self.fork = fork
            self.option = option

    class BroughtBack(Message):
        """A person wants back what was put away last."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.rows: list[TreeRow] = []
        self.leaves = self.pruned = 0
        self.columns: tuple[str, ...] = ()
        self.unfolded = False  # what a search gave up is shown too
        self.talk: Conversation | None = None
        self.picked: int | None = None
        self.top = 0

    def show(self, talk: Conversation) -> None:
        self.talk, had = talk, (self.columns, self.pruned)
        numbers = _Numbers(talk)
        self.columns, self.pruned = numbers.columns, len(given_up(talk))
        rows = tree_rows(talk, numbers, away=self.unfolded)
        if rows != self.rows or had != (self.columns, self.pruned):
            taller = self._tall(rows) != self._tall(self.rows) or had[0] != self.columns
            self.rows, self.leaves = rows, talk.leaves()
            if self.picked is not None and self.picked >= len(rows):
                self.picked = None
            self.redraw()
            if taller:
                self.refresh(layout=True)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return 1 + self._tall(self.rows)

    def _tall(self, rows: Sequence[TreeRow]) -> int:
        """Cells that these rows take: of a search all that there are."""
        return len(rows) if self.columns else min(len(rows), TALLEST)

    def lines(self, width: int, height: int) -> Sequence[Line]:
        look, glyphs = self.look, self.glyphs
        count = f"  {self.leaves} {'leaf' if self.leaves == 1 else 'leaves'}" if self.rows else ""
        count += f", {self.pruned} pruned" if self.pruned else ""
        heads = "".join(f"{head:>{size}}" for head, size in zip(self.columns, self._sizes(), strict=True))
        count = cells.pad(count, width - 4 - len(heads)) + heads
        heading: Line = [Segment("TREE", look.heading), Segment(count, look.faint)]
        if cast(Widget, self.parent).has_class("-drawer"):
            heading = list(Segment.apply_style(heading, look.band))
        lines: list[Line] = [heading]
        room = max(height - 1, 0)
        here = max((i for i, row in enumerate(self.rows) if row.on), default=0)
        focus = self.picked if self.picked is not None and self.has_focus else here
        self.top = max(focus - room + 1, 0)
        for index in range(self.top, min(self.top + room, len(self.rows))):
            row, stem = self.rows[index], self._stem(index)
            tail = f"  {glyphs.here} {row.number}" if index == here else f"  {row.number}" if row.number else ""
            tail += f" {glyphs.cut}" if row.given_up and not self.columns else ""
            if self.columns:
                signs = {PRUNED: glyphs.lift, ENDED: glyphs.ended, STOPPED: glyphs.held}
                sign = glyphs.lift if row.given_up else signs.get(row.state, "")
                columns = zip(row.numbers, self._sizes(), strict=True)
                tail = f" {sign:1}{glyphs.here if index == here else '':1}"
                tail += "".join(f"{number:>{size}}" for number, size in columns)
            most = max(width - len(tail) - SHORTEST, 0) // STEM * STEM
            if len(stem) > most:  # of a deep row the stem is cut, at its root's end
                stem = cells.pad("…", STEM) + stem[len(stem) - most + STEM :]
            text = cells.fit(row.text, max(width - len(stem) - len(tail), 0))
            space = " " * max(width - len(stem) - len(tail) - cells.width(text), 0)
            ink = look.row if index == self.picked and self.has_focus else look.text if row.on else look.faint
            lines.append(
                [
                    Segment(stem, look.rule if row.depth else look.accent),
                    Segment(text, ink),
                    Segment(space + tail.rstrip(), look.accent if index == here else look.faint),
                ]
            )
        return lines

    def _stem(self, index: int) -> str:
        """The lines that lead to a row: for each of its ancestors, whether it has siblings below."""
        row, glyphs = self.rows[index], self.glyphs
        if row.depth == 0:
            return f"{glyphs.live} "
        stem = glyphs.last if row.last else glyphs.branch
        depth, at = row.depth, index
        while depth > 1:
            while self.rows[at].depth >= depth:
                at -= 1
            stem = ("   " if self.rows[at].last else glyphs.pipe) + stem
            depth = self.rows[at].depth
        return stem

    def on_focus(self) -> None:
        if self.picked is None and self.rows:
            self.picked = max((i for i, row in enumerate(self.rows) if row.on), default=0)

    def action_pick(self, by: int) -> None:
        if self.rows:
            self.picked = min(max((self.picked or 0) + by, 0), len(self.rows) - 1)
            self.redraw()

    def _picked(self) -> TreeRow | None:
        return self.rows[self.picked] if self.picked is not None and self.picked < len(self.rows) else None

    def action_choose(self) -> None:
        if row := self._picked():
            self.post_message(self.CheckedOut(row.fork, row.option))

    def action_prune(self) -> None:
        if row := self._picked():
            self.post_message(self.PutAway(row.fork, row.option))

    def action_fold(self) -> None:
        """Show what a search gave up, or hide it."""
        self.unfolded = not self.unfolded
        if self.talk is not None:
            self.show(self.talk)

    def _sizes(self) -> Iterator[int]:
        """Cells of each column."""
        return (max(len(head) + 1, 8) for head in self.columns)

    def action_restore(self) -> None:
        self.post_message(self.BroughtBack())

    def on_click(self, event: events.Click) -> None:
        offset = event.get_content_offset(self)
        if offset is not None and offset.y >= 1 and self.top + offset.y - 1 < len(self.rows):
            self.picked = self.top + offset.y - 1
            self.action_choose()
