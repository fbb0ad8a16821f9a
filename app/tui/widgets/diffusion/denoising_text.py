"""The transcript of a diffusion model: its last answer is a canvas that fills in place, the rest is text."""

import math
from collections.abc import Sequence

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.message import Message

from likely.app.tui.base.drawing.line_widget import Line, LineWidget
from likely.app.tui.base.text import cells
from likely.app.tui.base.theme import Look
from likely.app.tui.chat.candidates import Names
from likely.app.tui.chat.denoising import LN2, CanvasCell, Denoising
from likely.app.tui.chat.inspecting import denoising_layout as layout
from likely.app.words import heat

WELCOME = (
    "An answer begins as masks, which become words in any order.",
    "A text with gaps is filled where they are: The [MASK:8] of France",
    "/unmask says in which order, /set how words are drawn, /max how many masks there are.",
    "tab goes to the canvas: [ ] walk the steps, and what was thought at each of them is there.",
)
Turns = Sequence[tuple[str, str]]  # whose turn, and its words


def open_style(look: Look, entropy: float | None) -> Style:
    """How a mask of an entropy in nats is drawn: as the chat draws a word of as many bits."""
    level = heat.level(None if entropy is None else entropy / LN2)
    return look.heat[level] if level else look.faint


def revised_style(look: Look) -> Style:
    """A word that was taken back at this very step."""
    return look.accent + Style(reverse=True, underline=True, bold=True)


class DenoisingText(LineWidget):
    """Messages, and the canvas of the last one after a step."""

    class PositionPointed(Message):
        """A person points at a position."""

        def __init__(self, position: int) -> None:
            super().__init__()
            self.position = position

    turns: Turns = ()
    heading: tuple[str, ...] = ()
    canvas: Denoising | None = None
    names: Names = Names()
    step: int = 0
    cursor: int = 0
    _rows: Sequence[Sequence[layout.Piece]] = ()  # as they were drawn last
    _top = _first = 0  # the first row that is seen, and that of the canvas

    def show(
        self, turns: Turns, heading: tuple[str, ...], canvas: Denoising | None, names: Names, step: int, cursor: int
    ) -> None:
        self.turns, self.heading, self.canvas, self.names = turns, heading, canvas, names
        self.step, self.cursor = step, cursor
        self.redraw()

    # -- rows --------------------------------------------------------------------------------------------------------

    def lines(self, width: int, height: int) -> Sequence[Line]:
        room, look = max(width - 2, 4), self.look
        before: list[Line] = []
        begins = 0
        for role, text in self.turns:
            before += [[]] if before else []
            begins = len(before)
            before.append(
                [Segment(" " + ("you" if role == "user" else "model"), look.you if role == "user" else look.model)]
            )
            before += [[Segment(f" {row}", look.text)] for row in layout.wrapped(text, room)]
        rows, at = before, begins
        if self.canvas is not None:
            shown = self.canvas.until_end(self.step)
            self._rows = layout.rows(layout.spoken(shown, self.names, self.canvas.laid.special), room)
            self._cells = {cell.position: cell for cell in shown}
            rows = [*before, [], self._heading(room)] if before else [self._heading(room)]
            self._first = len(rows)
            rows += [[Segment(" "), *self._row(row)] for row in self._rows]
            place = layout.place_of(self._rows, self.cursor)
            at = self._first + (place[0] if place is not None else 0)
            if len(rows) - begins <= height:  # the last message and its answer, whole
                at = len(rows)
        elif not rows:
            inks = (look.text, *[look.faint] * 3)
            rows = [
                [Segment(f" {row}", ink)]
                for words, ink in zip(WELCOME, inks, strict=True)
                for row in layout.wrapped(words, room)
            ]
        self._top = max(min(max(at - height + 2, begins), len(rows) - height), 0)
        return rows[self._top :]

    def _heading(self, room: int) -> Line:
        """The model's name and how it draws; facts go from the right."""
        parts = list(self.heading)
        while parts and cells.width(" · ".join(parts)) > room - 7:
            parts.pop()
        return [Segment(" model  ", self.look.model), Segment(" · ".join(parts), self.look.faint)]

    def _row(self, row: Sequence[layout.Piece]) -> list[Segment]:
        return [Segment(*self._inked(piece)) for piece in row]

    def _inked(self, piece: layout.Piece) -> tuple[str, Style]:
        cell, look = self._cells[piece.position], self.look
        if piece.blank:
            return piece.text, look.text
        here = piece.position == self.cursor
        if cell.token is None:
            text = piece.text.replace(layout.SHADE, layout.UNDER) if here else piece.text
            return text, look.cursor if here else open_style(look, cell.entropy)
        if here:
            return piece.text, look.cursor
        if cell.was is not None:
            return piece.text, revised_style(look)
        return piece.text, self._decided(cell)

    def _decided(self, cell: CanvasCell) -> Style:
        assert self.canvas is not None
        if cell.token in self.canvas.laid.special:
            return self.look.cut
        return self.look.text

    # -- where things are --------------------------------------------------------------------------------------------

    def beside(self, by: int) -> int | None:
        """The position a row up or down from the cursor's; None where there is none."""
        place = layout.place_of(self._rows, self.cursor) if self.canvas is not None else None
        if place is None:
            return None
        y = place[0] + by
        while 0 <= y < len(self._rows):
            if (position := layout.position_at(self._rows[y], place[1])) is not None:
                return position
            y += by
        return None

    def on_click(self, event: events.Click) -> None:
        offset = event.get_content_offset(self)
        y = offset.y + self._top - self._first if offset is not None else -1
        if offset is not None and self.canvas is not None and 0 <= y < len(self._rows):
            position = layout.position_at(self._rows[y], offset.x - 1)
            if position is not None:
                self.post_message(self.PositionPointed(position))


class DenoisingLegend(LineWidget):
    """The legend of shades and grounds, and the words that were taken back."""

    canvas: Denoising | None = None
    names: Names = Names()
    step: int = 0

    def show(self, canvas: Denoising | None, names: Names, step: int) -> None:
        self.canvas, self.names, self.step = canvas, names, step
        self.redraw()

    def lines(self, width: int, height: int) -> Sequence[Line]:
        if self.canvas is None:
            return []
        rows = [self._legend(width)]
        if height >= 4:
            rows += [[], *self._revisions(width, height - 2)]
        return rows

    def _legend(self, width: int) -> Line:
        look = self.look
        line = [Segment(" undecided ", look.faint)]
        for least in (0.0, *heat.BITS):
            style = open_style(look, least * LN2)
            line += [Segment(layout.SHADE * 2, style), Segment(f" {least:g} ", look.faint)]
        line.append(Segment("bits ", look.faint))
        last = (
            next((revision for revision in reversed(self.canvas.revised) if revision.step == self.step), None)
            if self.canvas
            else None
        )
        line.append(Segment("revised", revised_style(look)))
        words = f" now, was {self.names.name(last.before)}" if last is not None else " at this step"
        used = sum(cells.width(part.text) for part in line)
        return [*line, Segment(cells.fit(words, max(width - used, 0)), look.faint)]

    def _revisions(self, width: int, height: int) -> list[Line]:
        assert self.canvas is not None
        look = self.look
        rows: list[Line] = [
            [Segment(" TAKEN BACK", look.heading), Segment("  words that a later step drew anew", look.faint)]
        ]
        revisions = [revision for revision in self.canvas.revised if revision.step <= self.step]
        columns, room = (2, width // 2) if width >= 60 else (1, width)
        last = revisions[-columns * (height - 1) :]
        if not revisions:
            rows.append([Segment(" none", look.faint)])
        for i in range(0, len(last), columns):
            line: list[Segment] = []
            for revision in last[i : i + columns]:
                now = revision.step == self.step
                step = cells.pad(f" step {revision.step}", 12)
                before, after = (cells.fit(self.names.name(t), 12) for t in (revision.before, revision.after))
                used = cells.width(step + before + after) + 3
                line += [Segment(step, look.chosen if now else look.faint), Segment(f"{before} → ", look.faint)]
                line += [Segment(after, look.accent if now else look.text), Segment(" " * max(room - used, 0))]
            rows.append(line)
        return rows


def bits(nats: float) -> float:
    """Nats as bits, a rounded zero without its sign."""
    return max(nats / LN2, 0.0) if math.isfinite(nats) else nats
