"""One position of a canvas: its candidates at a step, what was thought of it before, and how all of the canvas stands.

With few rows the order goes first, then what was before; with fewer only the candidates stay.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.segment import Segment
from textual import events
from textual.message import Message

from likely.app.jobs.requests import Bounded, Bounding
from likely.app.tui.base.drawing import plot
from likely.app.tui.base.drawing.line_widget import Line, LineWidget
from likely.app.tui.base.text import cells
from likely.app.tui.base.theme import bar, full_at
from likely.app.tui.chat.candidates import Names
from likely.app.tui.chat.denoising import LN2, CanvasCell, Denoising, MaskCandidate

CANDIDATES, BEFORE = 6, 5  # rows of each part, without its heading
ORDER, MOST = 7, 16  # rows of the order, the fewest and the most
NAME = 10


@dataclass(frozen=True, slots=True)
class PanelView:
    """All that the panel shows. `picked` is the candidate that a person is about to choose."""

    canvas: Denoising
    names: Names
    step: int
    cursor: int
    picked: int | None = None
    bound: Bounding | Bounded | None = None


class DenoisingPanel(LineWidget):
    """Position, before, order, after."""

    class CandidatePointed(Message):
        """A person points at a candidate."""

        def __init__(self, index: int) -> None:
            super().__init__()
            self.index = index

    view: PanelView | None = None

    def show(self, view: PanelView | None) -> None:
        self.view = view
        self.redraw()

    def lines(self, width: int, height: int) -> Sequence[Line]:
        view = self.view
        if view is None:
            return []
        parts = [self._position(view, width, CANDIDATES)]
        foot = self._after(view, width)
        room = height - len(parts[0]) - 1 - len(foot)
        if height < CANDIDATES + 2 + len(foot) + 1:
            return self._position(view, width, max(height - 2, 1))[:height]
        if room >= BEFORE + 2:
            parts.append(self._before(view, width))
            room -= BEFORE + 2
        if room >= ORDER + 1:
            parts.append(self._order(view, width, min(room - 1, MOST)))
        rows: list[Line] = []
        for part in [*parts, foot]:
            rows += [*([[]] if rows else []), *part]
        return rows

    def _title(self, word: str, about: str, number: str, width: int) -> Line:
        used = cells.width(word + number) + 4
        about = cells.fit(about, max(width - used, 0))
        gap = " " * max(width - cells.width(word + number + about) - 2, 1)
        look = self.look
        return [
            Segment(word, look.heading), Segment(f"  {about}", look.faint), Segment(gap), Segment(number, look.text),
        ]  # fmt: skip

    # -- the position ------------------------------------------------------------------------------------------------

    def _position(self, view: PanelView, width: int, rows: int) -> list[Line]:
        look, cell = self.look, view.canvas.cell(view.cursor, view.step)
        prompt = cell.step is None
        state = "open" if cell.token is None else "given" if prompt else f"decided at step {cell.step}"
        if cell.step == 0 and not cell.by_person:
            state = "decided"  # at which step was not kept
        number = f"{cell.entropy / LN2:.1f} bits" if cell.entropy is not None else ""
        word = f"POSITION {view.cursor - view.canvas.laid.first}"
        guesses = view.canvas.guesses(view.cursor, view.step) if cell.token is None or not prompt else []
        first = min(max((view.picked or 0) - rows + 1, 0), max(len(guesses) - rows, 0))
        scale = max((guess.p for guess in guesses), default=1.0)
        about = f"{state} {self.glyphs.dot} {full_at(scale)}" if guesses else state
        drawn: list[Line] = [self._title(word, about, number, width)]
        for i, guess in list(enumerate(guesses))[first : first + rows]:
            drawn.append(self._guess(view, guess, cell, i, scale, width))
        drawn += [[]] * (rows + 1 - len(drawn))
        return [*drawn, [Segment(cells.fit(self._why(view, cell, guesses), width), look.faint)]]

    def _guess(
        self, view: PanelView, guess: MaskCandidate, cell: CanvasCell, index: int, scale: float, width: int
    ) -> Line:
        look, glyphs = self.look, self.glyphs
        chosen, picked = guess.token == cell.token, view.picked == index
        ink = look.row if picked else look.chosen if chosen else look.cut if guess.cut else look.text
        mark = glyphs.chosen if chosen or picked else glyphs.cut if guess.cut else " "
        room = max(width - NAME - 3 - 8, 3)
        fill = look.chosen_bar if chosen else look.bar_cut if guess.cut else look.bar
        return [
            Segment(f"{mark} ", look.chosen if chosen or picked else look.faint),
            Segment(cells.pad(view.names.name(guess.token), NAME), ink),
            Segment(" "),
            Segment(bar(guess.p / scale, room, glyphs), fill),
            Segment(f"{100 * guess.p:7.1f}%", look.chosen if chosen else look.text),
        ]

    def _why(self, view: PanelView, cell: CanvasCell, guesses: Sequence[MaskCandidate]) -> str:
        """Why it is open, or stands."""
        if view.picked is not None:
            return "⏎ puts it here and goes on · esc leaves"
        if cell.by_person:
            return "chosen by you"
        if cell.token is None:
            if view.canvas.history and not view.canvas.steps:
                return "its steps were not kept"
            if not guesses:
                return "waits: its block has not been looked at" if view.step else "waits for the first step"
            if threshold := view.canvas.how.threshold:
                return f"waits: {guesses[0].p:.2f} is below the threshold {threshold:.2f}"
            return "waits: others were taken before it"
        if cell.step is None:
            return "it was there from the beginning"
        if cell.was is not None:
            return f"taken back here: it was {view.names.name(cell.was)}"
        drawn = view.canvas.drawn(view.cursor, view.step)
        if drawn is None or drawn.logprob is None:
            return ""
        return f"drawn of {drawn.kept:,} that the transforms left" if drawn.kept else ""

    # -- before ------------------------------------------------------------------------------------------------------

    def _before(self, view: PanelView, width: int) -> list[Line]:
        look, glyphs = self.look, self.glyphs
        candidates = list(view.canvas.candidates(view.cursor, view.step))
        rows = [self._title("BEFORE", "the same position, step by step", "", width)]
        if not candidates:
            return [*rows, [Segment("  nothing was thought of it", look.faint)], *[[]] * (BEFORE - 1)]
        count = min(BEFORE, len(candidates))
        picks = [candidates[round(i * (len(candidates) - 1) / max(count - 1, 1))] for i in range(count)]
        most = max(max(entropy for *_, entropy in picks), LN2)
        room = max(width - 5 - NAME - 12 - 6, 3)
        for i, (step, token, p, entropy) in enumerate(picks):
            last = i == count - 1
            ink = look.chosen if last else look.text
            rows.append([
                Segment(f"{step or '':>3}  ", look.chosen if last else look.faint),
                Segment(cells.pad(view.names.name(token), NAME), ink),
                Segment(bar(entropy / most, room, glyphs), look.chosen_bar if last else look.bar_cut),
                Segment(f"{entropy / LN2:6.1f} bits ", look.faint),
                Segment(f"{100 * p:5.0f}%", ink),
            ])  # fmt: skip
        return [*rows, *[[]] * (BEFORE + 1 - len(rows))]

    # -- order -------------------------------------------------------------------------------------------------------

    def _order(self, view: PanelView, width: int, rows: int) -> list[Line]:
        """Steps downwards against positions, and the diagonal that writing from left to right is."""
        look, canvas = self.look, view.canvas
        shown, scale = canvas.shown, canvas.scale
        title = self._title("ORDER", "⠒⠒ left to right", "step ↓", width)
        room, high = max(width - 4, 4), max(rows - 3, 1)
        frame = plot.Frame(shown.start, max(shown.stop - 1, shown.start + 1), scale, 1, room, high)
        ends = [float(shown.start), float(max(shown.stop - 1, shown.start + 1))]
        diagonal = plot.curve(frame, ends, [1.0, float(scale)], dotted=True)
        points = np.zeros_like(diagonal)
        order = canvas.order()
        if order:
            x, y = frame.dots(*(np.array(part, float) for part in zip(*order, strict=True)))
            px, py = np.rint(x).astype(int), np.rint(y).astype(int)
            np.bitwise_or.at(points, (py // 4, px // 2), plot.BITS[py % 4, px % 2])
        here = frame.row(max(view.step, 1))
        drawn = [title]
        for row in range(high):
            word = "1" if row == 0 else str(scale) if row == high - 1 else ""
            if row == here:
                word = str(view.step)
            line = [Segment(f"{word:>3} ", look.chosen if row == here else look.faint)]
            for dots, faint in zip(points[row].tolist(), diagonal[row].tolist(), strict=True):
                if dots or faint:
                    line.append(Segment(chr(plot.BRAILLE | dots | faint), look.bar if dots else look.cut))
                else:
                    line.append(Segment(self.glyphs.line, look.chosen) if row == here else Segment(" "))
            drawn.append(list(Segment.simplify(line)))
        return [*drawn, *self._axis(view, frame, width)]

    def _axis(self, view: PanelView, frame: plot.Frame, width: int) -> list[Line]:
        look, first = self.look, view.canvas.laid.first
        x = 4 + frame.column(view.cursor)
        last = f"position {len(view.canvas.shown) - 1}"
        word = str(view.cursor - first) if view.cursor > first else ""
        at = min(max(x - len(word) // 2, 6), width - len(last) - len(word) - 1)
        row = [Segment("    0 ", look.faint), Segment(" " * (at - 6) + word, look.text)]
        gap = " " * max(width - at - len(word) - len(last), 1)
        return [[Segment(" " * x + "▲", look.text)], [*row, Segment(gap + last, look.faint)]]

    # -- after -------------------------------------------------------------------------------------------------------

    def _after(self, view: PanelView, width: int) -> list[Line]:
        canvas, look = view.canvas, self.look
        free = canvas.free
        masks = sum(cell.token is None for cell in canvas.cells(view.step))
        revisions = sum(canvas.times_revised(view.step).values())
        steps = "1 STEP" if view.step == 1 else f"{view.step} STEPS"
        title = self._title(f"AFTER {steps}", f"{len(free) - masks} of {len(free)} decided", "", width)
        if not canvas.steps:
            about = "its steps were not kept" if canvas.history else "the first step is to come"
            return [self._title("AFTER", about, "", width), [], [], []]
        seconds = f"{canvas.seconds[view.step - 1]:.1f} s" if view.step else "0.0 s"
        rows = [
            ("open entropy", f"{canvas.open_entropy(view.step) / LN2:.1f} bits", f"{revisions} taken back"),
            ("−log p", *self._bound(view.bound)),
            *self._cached(canvas, view.step),
            ("time", seconds, f"{canvas.steps / canvas.seconds[-1]:.0f} steps/s" if canvas.seconds[-1] else ""),
        ]
        middle = width - 16
        drawn = [title]
        for name, number, about in rows:
            drawn.append([
                Segment(cells.pad(name, 13), look.faint),
                Segment(cells.pad(number, max(middle - 13, 4), right=True), look.text),
                Segment(cells.pad(about, 16, right=True), look.faint),
            ])  # fmt: skip
        return drawn

    def _cached(self, canvas: Denoising, step: int) -> list[tuple[str, str, str]]:
        """How far the cache was off, where that is measured."""
        if not any(canvas.off):
            return []
        disagreement = canvas.disagreement(step)
        if disagreement is None or not disagreement.masks:
            return [("cache differs", "", "not measured yet")]
        kl = disagreement.kl / LN2 / disagreement.masks
        return [("cache differs", f"{disagreement.other} of {disagreement.masks}", f"KL {kl:.3f} bits")]

    def _bound(self, measured: Bounding | Bounded | None) -> tuple[str, str]:
        match measured:
            case None:
                return "p measures it", ""
            case Bounding(canvases):
                return "measuring", f"{canvases} canvases"
            case Bounded(bound, tokens):
                mean, error = bound.mean / LN2 / tokens, bound.error / LN2 / tokens
                drawn = f" ± {error:.2f}" if math.isfinite(error) and error else ""
                return f"≤ {mean:.2f}{drawn}", "bits a token"

    def on_click(self, event: events.Click) -> None:
        offset = event.get_content_offset(self)
        if offset is not None and self.view is not None and 1 <= offset.y <= CANDIDATES:
            self.post_message(self.CandidatePointed(offset.y - 1))
