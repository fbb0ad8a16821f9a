"""The tree of a conversation: a line for every way out of every fork, the checked-out one lit."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.segment import Segment
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message

from app.tui.chat.live_run import PRUNED
from app.tui.tokens import cells
from app.tui.widgets.canvas import Canvas, Line
from engine.conversation import ROOT, Conversation, Fork

TALLEST = 8  # rows of the tree beside the other panels


@dataclass(frozen=True, slots=True)
class Way:
    """One line of the tree."""

    fork: Fork
    option: str | None
    depth: int
    last: bool  # of its siblings
    number: str  # "2/3" where there is a choice
    on: bool  # on the checked-out branch
    text: str
    given_up: bool = False  # by the run that drew it


def ways(talk: Conversation) -> list[Way]:
    """The lines of a conversation's tree, from the root down."""
    lineage = {segment.node.id: segment.length for segment in talk.lineage()}
    found = []
    for fork, option, depth in talk.walk():
        options = talk.options(fork)
        past = fork.at is not None and lineage.get(fork.node, -1) > fork.at
        on = past if option is None else option in lineage
        gone = talk.nodes[option or fork.node].finish == PRUNED
        number = f"{options.index(option) + 1}/{len(options)}" if len(options) > 1 else ""
        found.append(Way(fork, option, depth, option == options[-1], number, on, _words(talk, fork, option), gone))
    return found


def _words(talk: Conversation, fork: Fork, option: str | None) -> str:
    """How a way begins."""
    if option is not None:
        node = talk.nodes[option]
        text = node.text or "".join(step.text for step in node.steps[:16] if not step.special)
        text = text or "".join(step.piece.decode(errors="replace") for step in node.steps[:16])
        joins = node.joins and node.fork.node != ROOT
    else:
        steps = talk.nodes[fork.node].steps[fork.at : (fork.at or 0) + 16]
        text, joins = "".join(step.text for step in steps if not step.special), True
    text = " ".join(cells.clean(text).split())
    return f"…{text}" if joins or not text else text


class TreePane(Canvas, can_focus=True):
    """Walk with the arrows, check out with enter or a click."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "pick(-1)", "Pick", show=False, id="tree.up"),
        Binding("down", "pick(1)", "Pick", show=False, id="tree.down"),
        Binding("enter", "choose", "Check out", show=False, id="tree.check_out"),
        Binding("delete,backspace", "prune", "Put away", show=False, id="tree.prune"),
        Binding("u", "restore", "Bring back", show=False, id="tree.restore"),
    ]

    class CheckedOut(Message):
        """A person checks out a way."""

        def __init__(self, fork: Fork, option: str | None) -> None:
            super().__init__()
            self.fork = fork
            self.option = option

    class PutAway(Message):
        """A person puts a way out of sight."""

        def __init__(self, fork: Fork, option: str | None) -> None:
            super().__init__()
            self.fork = fork
            self.option = option

    class BroughtBack(Message):
        """A person wants back what was put away last."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.ways: list[Way] = []
        self.leaves = 0
        self.picked: int | None = None
        self.top = 0

    def show(self, talk: Conversation) -> None:
        found = ways(talk)
        if found != self.ways:
            taller = min(len(found), TALLEST) != min(len(self.ways), TALLEST)
            self.ways, self.leaves = found, talk.leaves()
            if self.picked is not None and self.picked >= len(found):
                self.picked = None
            self.redraw()
            if taller:
                self.refresh(layout=True)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return 1 + min(len(self.ways), TALLEST)

    def lines(self, width: int, height: int) -> Sequence[Line]:
        look, glyphs = self.look, self.glyphs
        count = f"  {self.leaves} {'leaf' if self.leaves == 1 else 'leaves'}" if self.ways else ""
        lines: list[Line] = [[Segment("TREE", look.heading), Segment(count, look.faint)]]
        room = max(height - 1, 0)
        here = max((i for i, way in enumerate(self.ways) if way.on), default=0)
        focus = self.picked if self.picked is not None and self.has_focus else here
        self.top = min(max(focus - room + 1, 0), max(len(self.ways) - room, 0))
        for index in range(self.top, min(self.top + room, len(self.ways))):
            way, stem = self.ways[index], self._stem(index)
            tail = f"  {glyphs.here} {way.number}" if index == here else f"  {way.number}" if way.number else ""
            tail += f" {glyphs.cut}" if way.given_up else ""
            text = cells.fit(way.text, max(width - len(stem) - len(tail), 4))
            space = " " * max(width - len(stem) - len(tail) - cells.width(text), 0)
            ink = look.row if index == self.picked and self.has_focus else look.text if way.on else look.faint
            lines.append(
                [
                    Segment(stem, look.rule if way.depth else look.accent),
                    Segment(text, ink),
                    Segment(space + tail.rstrip(), look.accent if index == here else look.faint),
                ]
            )
        return lines

    def _stem(self, index: int) -> str:
        """The lines that lead to a way: for each of its ancestors, whether it has siblings below."""
        way, glyphs = self.ways[index], self.glyphs
        if way.depth == 0:
            return f"{glyphs.live} "
        stem = glyphs.last if way.last else glyphs.branch
        depth, at = way.depth, index
        while depth > 1:
            while self.ways[at].depth >= depth:
                at -= 1
            stem = ("   " if self.ways[at].last else glyphs.pipe) + stem
            depth = self.ways[at].depth
        return stem

    def on_focus(self) -> None:
        if self.picked is None and self.ways:
            self.picked = max((i for i, way in enumerate(self.ways) if way.on), default=0)
        self.redraw()

    def on_blur(self) -> None:
        self.redraw()

    def action_pick(self, by: int) -> None:
        if self.ways:
            self.picked = min(max((self.picked or 0) + by, 0), len(self.ways) - 1)
            self.redraw()

    def _picked(self) -> Way | None:
        return self.ways[self.picked] if self.picked is not None and self.picked < len(self.ways) else None

    def action_choose(self) -> None:
        if way := self._picked():
            self.post_message(self.CheckedOut(way.fork, way.option))

    def action_prune(self) -> None:
        if way := self._picked():
            self.post_message(self.PutAway(way.fork, way.option))

    def action_restore(self) -> None:
        self.post_message(self.BroughtBack())

    def on_click(self, event: events.Click) -> None:
        offset = event.get_content_offset(self)
        if offset is not None and offset.y >= 1 and self.top + offset.y - 1 < len(self.ways):
            self.picked = self.top + offset.y - 1
            self.action_choose()
