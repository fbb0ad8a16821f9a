"""The lines at the screen's edges: what is loaded, what a narrow screen shows of a token, and which keys act now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.message import Message

from app.tui.tokens import cells
from app.tui.views import VIEWS
from app.tui.widgets.canvas import Canvas, Line

if TYPE_CHECKING:
    from app.tui.chat.candidates import CandidateTable


class TopBar(Canvas):
    """The program, its views, the model, and what it costs. Drops facts from the right where space is short."""

    class ViewAsked(Message):
        """A person wants another view."""

        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

    def __init__(self, current: str, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.current = current
        self.model = ""
        self.facts: tuple[str, ...] = ()
        self._spots: list[tuple[int, int, str]] = []

    def show(self, model: str, facts: tuple[str, ...]) -> None:
        if (model, facts) != (self.model, self.facts):
            self.model, self.facts = model, facts
            self.redraw()

    def lines(self, width: int, height: int) -> Sequence[Line]:
        look = self.look
        segments = [Segment(" likely ", Style(bold=True) + look.text)]
        x, self._spots = 8, []
        for number, name in enumerate(VIEWS, 1):
            text = f" {number} {name} "
            here = name == self.current
            if x + len(text) > width or (width < 60 and not here):
                continue
            segments.append(Segment(text, look.cursor if here else look.faint))
            self._spots.append((x, x + len(text), name))
            x += len(text)
        room = width - x - 4
        if room >= 8:
            model = cells.fit(self.model, room)
            segments += [Segment(" │ ", look.rule), Segment(model, look.text)]
            room -= cells.width(model)
            facts = list(self.facts)
            while facts and cells.width("  " + " · ".join(facts)) > room:
                facts.pop()
            if facts:
                segments.append(Segment("  " + " · ".join(facts), look.faint))
        return [segments]

    def on_click(self, event: events.Click) -> None:
        for start, end, name in self._spots:
            if start <= event.x < end:
                self.post_message(self.ViewAsked(name))


class InspectorLine(Canvas):
    """One line of the token under the cursor, where the panel does not fit."""

    view: CandidateTable | None = None
    bits: Sequence[float | None] = ()

    def show(self, view: CandidateTable | None, bits: Sequence[float | None]) -> None:
        self.view, self.bits = view, bits
        self.redraw()

    def lines(self, width: int, height: int) -> Sequence[Line]:
        if self.view is None:
            return []
        look, glyphs = self.look, self.glyphs
        segments: list[Segment] = []
        chosen = next((row for row in self.view.rows if row.chosen), None)
        rows = ([chosen] if chosen is not None else []) + [
            row for row in self.view.rows if not row.chosen and not row.removed_by
        ]
        tail = f" {glyphs.tick} {self.view.numbers} {glyphs.tick} "
        room = width - cells.width(tail) - 9
        for row in rows:
            share = row.before if row.after is None else row.after
            text = f" {glyphs.chosen if row.chosen else ' '}{cells.fit(row.name, 12)} {round(100 * share)}%"
            if room < cells.width(text):
                break
            room -= cells.width(text)
            segments.append(Segment(text, look.chosen if row.chosen else look.text))
        segments.append(Segment(tail, look.faint))
        for value in list(self.bits)[-8:]:
            level = min(int((value or 0) / 8 * len(glyphs.levels)), len(glyphs.levels) - 1)
            segments.append(Segment(glyphs.levels[level], look.chosen if (value or 0) > 4 else look.bar))
        return [segments]


class Hints(Canvas):
    """The keys that act now, or one line of news in their place."""

    keys: tuple[tuple[str, str], ...] = ()
    news: str = ""
    alarm: bool = False

    def show(self, keys: tuple[tuple[str, str], ...]) -> None:
        if keys != self.keys:
            self.keys = keys
            self.redraw()

    def say(self, news: str, alarm: bool = False) -> None:
        """Show a line instead of the keys; "" brings them back."""
        if (news, alarm) != (self.news, self.alarm):
            self.news, self.alarm = news, alarm
            self.redraw()

    def lines(self, width: int, height: int) -> Sequence[Line]:
        look = self.look
        if self.news:
            ink = look.accent if self.alarm else look.text
            return [[Segment(" " + cells.fit(cells.clean(self.news).replace("\n", " "), width - 2), ink)]]
        segments: list[Segment] = []
        last = " ^p palette "
        used = cells.width(last)
        for key, name in self.keys:
            text = f" {key} {name} "
            if used + cells.width(text) > width:
                break
            used += cells.width(text)
            segments += [Segment(f" {key}", look.accent + Style(bold=True)), Segment(f" {name} ", look.text)]
        segments.append(Segment(" " * max(width - used, 0)))
        if width >= len(last):
            segments += [Segment(" ^p", look.accent + Style(bold=True)), Segment(" palette ", look.text)]
        return [segments]


class JumpToLatest(Canvas):
    """How much has come since the reader scrolled away; a click goes there."""

    class Pressed(Message):
        """Follow the newest again."""

    behind = 0

    @property
    def words(self) -> str:
        more = f"{self.behind} new tokens" if self.behind else "newest"
        return f" {self.glyphs.down} {more} (end) "

    def show(self, behind: int) -> None:
        self.behind = behind
        self.styles.width = cells.width(self.words)
        self.redraw()

    def lines(self, width: int, height: int) -> Sequence[Line]:
        return [[Segment(self.words, self.look.cursor)]]

    def on_click(self) -> None:
        self.post_message(self.Pressed())
