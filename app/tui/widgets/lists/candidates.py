"""The candidates of one token: a bar for the probability after sampling, a tick at the raw one, and both in figures.

`row` draws one of them wherever candidates are listed, so that panel, drawer and popup say the same.
"""

from collections.abc import Iterator, Sequence
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message

from likely.app.tui.base.drawing.line_widget import Line, LineWidget
from likely.app.tui.base.text import cells
from likely.app.tui.base.theme import Glyphs, Look, bar, full_at
from likely.app.tui.chat.candidates import BANNED, Candidate, CandidateTable

RAW, AFTER, SPREAD = 6, 8, 6  # cells of the two figures, and of "±" where it is known
MORE = 9, 10  # of those that may stand in the place of the second
ROOMY = 34  # columns from which on both have room
SHORTEST = 3  # cells of a bar
FRAME = 4  # rows beside the candidates: heading, columns, legend, summary; one more where settings changed
MOST, FEWEST = 10, 3  # candidates; with fewer the legend gives its row


class Candidates(LineWidget, can_focus=True):
    """The heading, the bars, and what was left out. Focused, it lets a person pick one."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "pick(-1)", "Pick", id="candidates.up"),
        Binding("down", "pick(1)", "Pick", id="candidates.down"),
        Binding("enter", "branch", "Branch", id="candidates.branch"),
        Binding("f", "force", "Force next", id="candidates.force"),
        Binding("x", "ban", "Ban", id="candidates.ban"),
        Binding("v", "near", "Nearest", id="candidates.near"),
        Binding("t", "choice", "Tools", id="candidates.choice"),
        *(Binding(str(n), f"take({n})", f"Take {n}", id=f"candidates.take_{n}") for n in range(1, 10)),
    ]

    class Picked(Message):
        """A person chose a candidate: to `branch` there, to `force` it next, or to `ban` it."""

        def __init__(self, token: int, verb: str) -> None:
            super().__init__()
            self.token = token
            self.verb = verb

    class NearAsked(Message):
        """A person wants the nearest tokens in their place, or them again."""

    class ChoiceAsked(Message):
        """A person wants the choice of a tool in their place, or them again."""

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
        if self.view is None or self.picked is None or self.picked >= len(self.view.rows):
            return None
        return self.view.rows[self.picked]

    def lines(self, width: int, height: int) -> Sequence[Line]:
        if self.view is None:
            return [[Segment("TOKEN", self.look.heading)], [Segment("  nothing drawn yet", self.look.faint)]]
        view, rows, scale = self.view, self.view.rows, self.view.scale
        lines: list[Line] = [self._heading(view, width)]
        if not rows:
            return lines
        compact, doubted = height < self._frame + FEWEST, view.doubt is not None
        shown = self._shown(height)
        if compact:
            lines = [self._short_heading(view, width)]
        else:
            lines.append(columns(view, self.look, width))
        for i in shown:
            picked = i == self.picked and self.has_focus
            look, names = self.look, view.NAMES
            lines.append(row(rows[i], look, self.glyphs, width, scale, picked=picked, doubted=doubted, names=names))
        if compact:
            return lines
        lines.append(self._legend(view, width))
        lines.append([Segment(cells.fit(view.summary(self.glyphs), width), self.look.faint)])
        if view.moved:
            lines.append(
                [Segment(f"{self.glyphs.moved} ", self.look.accent), Segment(cells.fit(view.moved, width - 2))]
            )
        return lines

    @property
    def _frame(self) -> int:
        return FRAME + bool(self.view is not None and self.view.moved)

    def _shown(self, height: int) -> list[int]:
        """The rows that there is room for, the one that was drawn or is picked among them."""
        rows = self.view.rows if self.view is not None else ()
        room = height - self._frame if height - self._frame >= FEWEST else height - 1
        room = max(min(room, MOST), 0)
        shown = list(range(len(rows)))[:room]
        chosen = next((i for i, row in enumerate(rows) if row.chosen), None)
        if chosen is not None and chosen not in shown and room:
            shown[-1] = chosen
        if self.picked is not None and self.picked not in shown and room:
            start = max(0, self.picked - room + 1)
            shown = list(range(start, min(start + room, len(rows))))
        return shown

    def _heading(self, view: CandidateTable, width: int) -> Line:
        look, mark = self.look, self.glyphs.live if view.live else self.glyphs.held
        head, tail = f"{view.title}  ", f"  {view.numbers}" if view.name else view.numbers
        name = cells.fit(view.name, max(width - cells.width(head + tail), 3)) if view.name else ""
        space = width - cells.width(head + name + tail) - 1
        return [
            Segment(head, look.heading),
            Segment(name, look.cursor),
            Segment(cells.fit(tail, max(width - cells.width(head + name), 0)), look.faint),
            Segment(" " * max(space, 0)),
            Segment(mark if space >= 1 else "", look.accent if view.live else look.faint),
        ]

    def _short_heading(self, view: CandidateTable, width: int) -> Line:
        """Heading and columns in one, on the ground of a bar."""
        look, glyphs = self.look, self.glyphs
        raw, after = f"{glyphs.tick} {view.HEADS[0]}", f"{glyphs.blocks[-1]} {view.HEADS[-1]}"
        if not view.BAR[1]:
            raw, after = f"{glyphs.blocks[-1]} {view.HEADS[0]}", f"   {view.HEADS[-1]}"
        raw += "".join(f" {head}" for head in view.HEADS[1:-1])
        doubted = view.doubt is not None and width >= ROOMY + SPREAD
        spread = f"{'±'.rjust(SPREAD - 2)}  " if doubted else ""
        tail = f"{raw}{spread or ' '}{after}" if width >= ROOMY else after
        title, numbers = view.title.partition(" ")[0] + "  ", f"  {view.numbers}" if view.name else view.numbers
        name = cells.fit(view.name, max(width - cells.width(title + tail) - 1, 3))
        room = max(width - cells.width(title + name + tail) - 1, 0)
        while cells.width(numbers) > room:  # a number is shown whole or not at all
            numbers = numbers.rpartition("  ")[0]
        gap = " " * max(width - cells.width(title + name + numbers + tail), 0)
        line = [Segment(title, look.heading), Segment(name, look.cursor), Segment(numbers + gap + tail, look.faint)]
        return list(Segment.apply_style(line, look.band))

    def _legend(self, view: CandidateTable, width: int) -> Line:
        """The legend: bar, tick and dotted mark."""
        look, glyphs = self.look, self.glyphs
        parts = [(glyphs.blocks[-1], look.bar, f" {view.BAR[0]}"), (glyphs.tick, look.tick, f" {view.BAR[1]}")]
        del parts[1 + bool(view.BAR[1]) :]
        if view.doubt is not None:
            parts.append(("±", look.faint, f" {view.doubt.samples} samples, {view.doubt.elapsed_s:.1f} s"))
        if view.cut_by:
            parts.append((glyphs.cut, look.faint, f" cut by {view.cut_by}"))
        if sum(cells.width(words) + 3 for _, _, words in parts) - 2 > width:
            parts[0] = (*parts[0][:2], parts[0][2].split(" sampling")[0])
        line, room = [], width
        for number, (sign, ink, words) in enumerate(parts):
            gap = "  " if number else ""
            words = cells.fit(words, max(room - len(gap) - 1, 0))
            line += [Segment(gap + sign, ink), Segment(words, look.faint)]
            room -= len(gap) + 1 + cells.width(words)
        return line

    # -- picking -----------------------------------------------------------------------------------------------------

    def on_focus(self) -> None:
        if self.picked is None and self.view is not None and self.view.rows:
            self.picked = next((i for i, row in enumerate(self.view.rows) if row.chosen), 0)

    def action_pick(self, by: int) -> None:
        if self.view is not None and self.view.rows:
            here = 0 if self.picked is None else self.picked + by
            self.picked = min(max(here, 0), len(self.view.rows) - 1)
            self.redraw()

    def _post(self, verb: str) -> None:
        if self.selected is not None and self.selected.token >= 0:
            self.post_message(self.Picked(self.selected.token, verb))

    def action_branch(self) -> None:
        self._post("branch")

    def action_force(self) -> None:
        self._post("force")

    def action_ban(self) -> None:
        self._post("ban")

    def action_near(self) -> None:
        self.post_message(self.NearAsked())

    def action_choice(self) -> None:
        self.post_message(self.ChoiceAsked())

    def action_take(self, number: int) -> None:
        if self.view is not None and number <= len(self.view.rows):
            self.picked = number - 1
            self._post("branch")

    def on_click(self, event: events.Click) -> None:
        offset = event.get_content_offset(self)
        if offset is None or self.view is None:
            return
        shown, at = self._shown(self.size.height), offset.y - 2
        if 0 <= at < len(shown):
            index = shown[at]
            again = self.picked == index
            self.picked = index
            self.redraw()
            if again:
                self._post("branch")


def columns(view: CandidateTable, look: Look, width: int, indent: int = 0) -> Line:
    """The headings over the columns of `row`, and where there is room at what a bar is full."""
    before, *others = view.HEADS
    spread = "" if view.doubt is None or width - indent < ROOMY + SPREAD else "±".rjust(SPREAD)
    both = width - len(spread) - indent >= ROOMY
    figures = (f"{before:>{RAW}}{spread}" if both else "") + _figures(others, both)
    name, room, full = " " * (indent + 2) + view.OF, max(width - len(figures), 0), full_at(view.scale)
    if cells.width(name + full) + 3 <= room:
        name = cells.pad(name, room - cells.width(full) - 1) + full
    return [Segment(cells.pad(name, room) + figures, look.faint)]


def _figures(words: Sequence[str], both: bool) -> str:
    """The figures beside the raw one, or where there is no room the last of them."""
    sized = list(zip(words, (AFTER,) if len(words) == 1 else MORE, strict=True))
    return "".join(word.rjust(size) for word, size in (sized if both else sized[-1:]))


def row(
    it: Candidate,
    look: Look,
    glyphs: Glyphs,
    width: int,
    scale: float,
    *,
    picked: bool = False,
    number: str = "",
    doubted: bool = False,
    names: int = CandidateTable.NAMES,
) -> Line:
    """One candidate in `width` cells: its mark, its number in the list, name, bar with tick, both figures, and where
    the table is `doubted` and there is room, "±" beside the first."""
    doubted = doubted and width - len(number) >= ROOMY + SPREAD
    width -= SPREAD if doubted else 0
    banned = it.removed_by == BANNED
    mark = glyphs.chosen if it.chosen else glyphs.lift if banned else glyphs.cut if it.removed_by else " "
    text = look.chosen if it.chosen else look.cut if it.removed_by else look.text
    both = width - len(number) >= ROOMY
    after = "" if it.after is None else BANNED if banned else "cut" if it.removed_by else percent(it.after)
    drawn = () if it.drawn is None else ("cut" if it.drawn == 0 else percent(it.drawn),)
    figures = _figures(it.more or (*drawn, after), both)
    size = max(width - 2 - len(number) - names - 2 - len(figures) - (RAW if both else 0), SHORTEST)
    share = it.before if it.after is None else 0.0 if it.removed_by else it.after
    ink = look.chosen_bar if it.chosen else look.bar
    segments = [
        Segment(f"{mark} ", look.alarm if banned else look.chosen if it.chosen else look.faint),
        Segment(number, look.faint),
        Segment(cells.pad(it.name, names), look.row if picked else text),
        Segment(" "),
        *_bar(it, share, size, scale, ink, look, glyphs),
        Segment(" "),
    ]
    if both:
        segments.append(Segment(percent(it.before).rjust(RAW), look.chosen if it.chosen else look.faint))
    if doubted:
        spread = "" if it.spread is None else f"±{100 * it.spread:.1f}"
        segments.append(Segment(spread.rjust(SPREAD), look.faint))
    return [*segments, Segment(figures, text)]


def _bar(
    it: Candidate, share: float, size: int, scale: float, ink: Style, look: Look, glyphs: Glyphs
) -> Iterator[Segment]:
    """A bar with a tick at the raw probability, where that is not within a cell of the bar's end."""
    drawn = bar(share / scale, size, glyphs)
    far = it.after is not None and (it.removed_by or abs(share - it.before) / scale * size >= 1)
    if not far:
        yield Segment(drawn, ink)
        return
    tick = min(int(it.before / scale * size), size - 1)
    inside = drawn[tick] == glyphs.blocks[-1]
    style = Style(color=look.cursor.color, bgcolor=ink.color, bold=True) if inside and ink.color else look.tick
    yield from (Segment(drawn[:tick], ink), Segment(glyphs.tick, style), Segment(drawn[tick + 1 :], ink))


def percent(share: float) -> str:
    """A probability in percent, without the sign: two decimals."""
    value = 100 * share
    return "<0.01" if 0 < value < 0.005 else f"{value:.2f}"
