"""The lines at the screen's edges: what is loaded, what a narrow screen shows of a token, and which keys act now."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.message import Message

from likely.app.tui.base import keys
from likely.app.tui.base.drawing.line_widget import Line, LineWidget
from likely.app.tui.base.text import cells
from likely.app.tui.base.view_table import VIEWS
from likely.app.tui.widgets.host import host
from likely.app.words.heat import BITS
from likely.app.words.heat import legend as heat_legend

if TYPE_CHECKING:
    from likely.app.tui.chat.candidates import CandidateTable

NAME, LEAST_NAME = 20, 8  # cells of the model's name that facts give way to; where there is little room
SHORT_NAME = 14  # of a name that is not cut as long as names of views can be left out
ROOMY = 56  # cells beside the views
NEWS_ROWS = 3  # of news, at most
DOUBTED = 76  # columns from which on a token's line has room for the part of its entropy that is epistemic


class TopBar(LineWidget):
    """The program, its views by their keys, the model, what it costs, and the legend of the heat.

    Where space is short the program's name gives way to the word of the legend; then facts go from the right, that
    word, the names of the other views, the facts that matter most, and the legend; the first `kept` facts stay.
    """

    class ViewAsked(Message):
        """A person wants another view."""

        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

    def __init__(self, current: str, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.current = VIEWS[current].within or current if current in VIEWS else current
        self.model = ""
        self.facts: tuple[str, ...] = ()
        self.kept = 0
        self.heat: tuple[str, float] = ("off", BITS[0])
        self._spots: list[tuple[int, int, str]] = []

    def show(self, model: str, facts: tuple[str, ...], *, kept: int = 0) -> None:
        if (model, facts, kept) != (self.model, self.facts, self.kept):
            self.model, self.facts, self.kept = model, facts, kept
            self.redraw()

    def tint(self, heat: str, least: float = BITS[0]) -> None:
        """Explain the tints of a way of looking."""
        if (heat, least) != self.heat:
            self.heat = heat, least
            self.redraw()

    def lines(self, width: int, height: int) -> Sequence[Line]:
        look = self.look
        program = [Segment(" likely ", Style(bold=True) + look.text)]
        legend, worded = self._legend(word=False), self._legend(word=True)
        self._spots = []
        tabs = {name: e.key for name, e in VIEWS.items() if e.key and (not e.within or name == self.current)}
        shown = {name: keys.pretty(host(self).keys_of(f"app.{name}", key)) for name, key in tabs.items()}
        names = {name: f" {key} {name} " for name, key in shown.items()}

        def room(*parts: list[Segment]) -> int:
            """Columns left beside the tabs, a short name of the model and these parts."""
            short = max(LEAST_NAME, min(cells.width(self.model), SHORT_NAME))
            return width - sum(map(len, names.values())) - 3 - short - sum(map(_width, parts))

        fact = [Segment(f"  {self.facts[0]}")] if self.facts else []
        if room(program, legend) < 0 or room(legend, fact) < 0:
            names = {name: text if name == self.current else f" {shown[name]}" for name, text in names.items()}
            named = width < 40 or room(program, legend, fact) >= 0
        else:
            named = room(program, worded, fact) >= 0
        segments = program if named else []
        x = _width(segments)
        for name, text in names.items():
            here = name == self.current
            if x + len(text) > width or (width < 40 and not here):
                continue
            segments.append(Segment(text, look.tab if here else look.faint))
            self._spots.append((x, x + len(text), name))
            x += len(text)
        return [[*segments, *self._rest(width - x, legend)]]

    def _rest(self, room: int, legend: list[Segment]) -> Iterator[Segment]:
        """The model and its facts, and the legend at the right edge."""
        look, facts = self.look, list(self.facts)
        if room < 12:
            return
        short = min(cells.width(self.model), NAME if room > ROOMY else SHORT_NAME)

        def used() -> int:
            return 3 + short + (2 + cells.width(" · ".join(facts)) if facts else 0)

        least = max(self.kept, min(len(facts), 1))
        worded = self._legend(word=True)
        for shown, keep in ((worded, least), (legend, self.kept), ([], self.kept)):
            while len(facts) > keep and used() + _width(shown) > room:
                facts.pop()
            legend = shown
            if used() + _width(shown) <= room:
                break
        room -= _width(legend)
        tail = f"  {' · '.join(facts)}" if facts else ""
        model = cells.fit(self.model, max(room - 3 - cells.width(tail), 4))
        gap = room - 3 - cells.width(model + tail)
        yield from (Segment(" │ ", look.rule), Segment(model, look.text))
        if gap >= 0:
            yield from (Segment(tail, look.faint), Segment(" " * gap), *legend)

    def _legend(self, *, word: bool) -> list[Segment]:
        """From where on the words are tinted, and how."""
        heat, least = self.heat
        steps = heat_legend(heat, least)
        if not steps:
            return []
        faint, words = self.look.faint, {"surprisal": "surprise"}.get(heat, heat)
        segments = [Segment(f"  {words} " if word else "  ", faint)]
        for text, level in steps:
            style = self.look.heat[level]
            filled = style.bgcolor is not None or style.reverse
            parts = (Segment(f" {text} ", style),) if filled else (Segment(" "), Segment(text, style), Segment(" "))
            segments += parts
        return [*segments, Segment(" bits " if heat != "rank" else " ", faint)]

    def on_click(self, event: events.Click) -> None:
        for start, end, name in self._spots:
            if start <= event.x < end:
                self.post_message(self.ViewAsked(name))


def _width(segments: Sequence[Segment]) -> int:
    return sum(cells.width(segment.text) for segment in segments)


class InspectorLine(LineWidget):
    """One line of the token under the cursor, where the panel does not fit."""

    view: CandidateTable | None = None
    bits: Sequence[float | None] = ()

    def show(self, view: CandidateTable | None, bits: Sequence[float | None]) -> None:
        self.view, self.bits = view, bits
        self.redraw()

    def lines(self, width: int, height: int) -> Sequence[Line]:
        view, look, glyphs = self.view, self.look, self.glyphs
        if view is None:
            return []
        segments: list[Segment] = []
        rows = sorted(view.rows, key=lambda row: (not row.chosen, -view.share(row)))
        doubt, numbers = view.doubt, view.numbers
        if doubt is not None and width >= DOUBTED:
            numbers += f" {glyphs.dot} {doubt.epistemic:.1f} epistemic"
        tail = f" {glyphs.tick} {numbers} {glyphs.tick} "
        room = width - cells.width(tail) - 9
        for row in rows:
            share, spread = view.share(row), "" if row.spread is None else f"±{round(100 * row.spread)}"
            text = f" {glyphs.chosen if row.chosen else ' '}{cells.fit(row.name, 12)} {round(100 * share)}{spread}%"
            if room < cells.width(text) or (share < 0.005 and not row.chosen):
                break
            room -= cells.width(text)
            segments.append(Segment(text, look.chosen if row.chosen else look.text))
        segments.append(Segment(tail, look.faint))
        for value in list(self.bits)[-8:]:
            level = min(int((value or 0) / 8 * len(glyphs.levels)), len(glyphs.levels) - 1)
            segments.append(Segment(glyphs.levels[level], look.bar))
        return [segments]


class Hints(LineWidget):
    """The keys that act now, or news in their place: a line, or as many as it takes on a narrow screen."""

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
            self.styles.height = max(1, len(self._rows(self.size.width)))
            self.redraw()

    def on_resize(self) -> None:
        self.styles.height = max(1, len(self._rows(self.size.width)))
        super().on_resize()

    def _rows(self, width: int) -> list[str]:
        """The news in rows, at most three; the last is cut."""
        room, news = max(1, width - 2), cells.clean(self.news).replace("\n", " ")
        rows = wrap(news, room) if cells.width(news) == len(news) else [news]
        return [cells.fit(row, room) for row in [*rows[: NEWS_ROWS - 1], " ".join(rows[NEWS_ROWS - 1 :])] if row]

    def lines(self, width: int, height: int) -> Sequence[Line]:
        look = self.look
        if self.news:
            return [[Segment(f" {row}", look.alarm if self.alarm else look.text)] for row in self._rows(width)]
        segments: list[Segment] = []
        last = " ^p palette "
        used, shown = cells.width(last), list(self.keys)
        while shown and used + sum(cells.width(f" {key} {name} ") for key, name in shown) > width:
            del shown[-2 if shown[1:] else 0]  # the last one, which says all the others, goes last
        for key, name in shown:
            used += cells.width(f" {key} {name} ")
            segments += [Segment(f" {key}", look.accent + Style(bold=True)), Segment(f" {name} ", look.text)]
        segments.append(Segment(" " * max(width - used, 0)))
        if width >= len(last):
            segments += [Segment(" ^p", look.accent + Style(bold=True)), Segment(" palette ", look.text)]
        return [segments]


class JumpToLatest(LineWidget):
    """How much has come since the reader scrolled away; a click goes there."""

    class Pressed(Message):
        """Follow the newest again."""

    behind = 0

    @property
    def words(self) -> str:
        more = f"{self.behind} new token{'s' * (self.behind > 1)}" if self.behind else "newest"
        return f" {self.glyphs.down} {more} (end) "

    def show(self, behind: int) -> None:
        self.behind = behind
        self.styles.width = cells.width(self.words)
        self.redraw()

    def lines(self, width: int, height: int) -> Sequence[Line]:
        return [[Segment(self.words, self.look.tab)]]

    def on_click(self) -> None:
        self.post_message(self.Pressed())
