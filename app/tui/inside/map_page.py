"""Map page: tokens as points, the nearest ones to a token or to a sum, and how often such sums come out."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from rich.style import Style

from likely.app.jobs.interpretability import Inside, InsideQuestion, question
from likely.app.tui.base.drawing import plot
from likely.app.tui.base.drawing.canvas import Canvas
from likely.app.tui.base.text import cells
from likely.app.tui.base.text.formula import Part
from likely.app.tui.inside.page import WIDE, Keys, Page, missing, told
from likely.app.tui.inside.reading import Reading
from likely.engine.base.errors import ParameterError
from likely.engine.inside.questions import Accuracy, Neighbourhood, WordMap, WordSum
from likely.engine.inside.summands import summands

DOTS = 1500  # tokens of the cloud that are drawn
ZOOM, DEEPEST = 1.6, 40.0
RADIUS = 4.0  # how much farther aside than ahead a word may lie, to be walked to
INKS = ("bar", "accent", "chosen", "alarm", "text", "faint", "tick")  # of the families, in turn


class MapPage(Page):
    """`token` is that of the cursor, None the text's; `sum` a sum of words, as ids that are added and taken off."""

    NAME = "map"
    SENTENCE = "A token is a point. Near means used alike; the flat shadow keeps only a part of how words differ."
    SHORT = "Which tokens are used alike?"
    KEYS = (("/", "Find"), ("←→↑↓", "Walk"), ("+ -", "Zoom"), ("a", "Arithmetic"), ("i", "Input or output"))
    DOES: ClassVar[tuple[str, ...]] = ("closer", "farther", "table", "fold")
    ASKS: ClassVar[dict[str, str]] = {"find": "find a word", "arithmetic": "a sum of words, as in king - man + woman"}

    SETTLES = True

    def __init__(self) -> None:
        self.table_name = "input"
        self.token: int | None = None
        self.sum: tuple[tuple[int, ...], tuple[int, ...]] | None = None
        self.zoom = 1.0
        self.whole = False  # on a small screen: the map in the place of the list

    # -- what it asks and does ---------------------------------------------------------------------------------------

    def restart(self) -> None:
        self.token = None

    def wants(self, at: Reading, width: int, height: int) -> InsideQuestion[Any] | None:
        wanted = (self.near(at), self.mapped, self.summed(at))
        return next((candidate for candidate in wanted if candidate is not None and missing(at, candidate)), None)

    def near(self, at: Reading) -> InsideQuestion[Neighbourhood]:
        """The tokens around that of the cursor."""
        return question(Inside.neighbours, self.at_token(at), self.table_name)

    @property
    def mapped(self) -> InsideQuestion[WordMap]:
        return question(Inside.word_map, self.table_name)

    def summed(self, at: Reading) -> InsideQuestion[WordSum] | None:
        """The sum that is shown; None without one."""
        plus, minus = self.shown_sum(at)
        return question(Inside.word_sum, plus, minus, self.table_name) if plus else None

    def at_token(self, at: Reading) -> int:
        """The token of the cursor."""
        return at.ids[at.position] if self.token is None else self.token

    def shown_sum(self, at: Reading) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The sum that is shown; of words that the vocabulary has, king - man + woman where none was asked for."""
        if self.sum is not None:
            return self.sum
        known = [at.names.encode(f" {word}") for word in ("king", "woman", "man")]
        return ((known[0][0], known[1][0]), (known[2][0],)) if all(known) else ((), ())

    def closer(self, at: Reading) -> str:
        self.zoom = min(self.zoom * ZOOM, DEEPEST)
        return ""

    def farther(self, at: Reading) -> str:
        self.zoom = max(self.zoom / ZOOM, 0.2)
        return ""

    def fold(self, at: Reading) -> str:
        self.whole = not self.whole
        return ""

    def table(self, at: Reading) -> str:
        if at.opened is not None and at.opened.tied:
            return "input and output are the same rows in this model"
        self.table_name = "output" if self.table_name == "input" else "input"
        return f"rows of the {'head' if self.table_name == 'output' else 'input embedding'}"

    def find(self, at: Reading, text: str) -> str:
        """Stand on the token that is a word."""
        id_ = at.token(text)
        if id_ is None:
            return f"{text.strip() or 'nothing'} is not one token of this model"
        self.token = id_
        return ""

    def arithmetic(self, at: Reading, text: str) -> str:
        """Another sum."""
        try:
            plus, minus = summands(text, at.token)
        except ParameterError as error:
            return str(error)
        self.sum = tuple(plus), tuple(minus)
        return ""

    def found(self, at: Reading) -> WordMap | None:
        """The map, once it is known."""
        return at.answer(self.mapped)

    def move(self, at: Reading, dx: int, dy: int) -> None:
        """To the nearest named word in a direction; straight ahead counts more than aside."""
        word_map = self.found(at)
        if word_map is None:
            at.move(dx)
            return
        words = np.array([id for _, ids in word_map.families for id in ids])
        here = word_map.points[self.at_token(at)]
        away = (word_map.points[words] - here) * np.array([1.0, -2.0])  # a cell is twice as high as wide
        ahead, aside = (away[:, 0] * dx, abs(away[:, 1])) if dx else (away[:, 1] * dy, abs(away[:, 0]))
        cost = np.where(ahead > 1e-6, ahead + RADIUS * aside, np.inf)
        if np.isfinite(cost).any():
            self.token = int(words[int(np.argmin(cost))])

    def facts(self, at: Reading) -> tuple[str, ...]:
        opened = at.opened
        if opened is None:
            return ()
        return (
            f"{len(at.names.pieces):,} tokens", f"{opened.width} dimensions",
            "tied" if opened.tied else f"the {self.table_name} table",
        )  # fmt: skip

    def export(self, at: Reading) -> tuple[str, Any] | None:
        near = at.answer(self.near(at))
        return ("neighbours", near.nearest) if near is not None else None

    def formula(self, at: Reading) -> Sequence[Part]:
        token = self.at_token(at)
        near = at.answer(self.near(at))
        if near is None or not near.nearest:
            return ()
        nearest, cosine = near.nearest[0].id, near.nearest[0].cosine
        return (
            (f"cos(a, b) = (e_a − μ)·(e_b − μ) / |·||·|   cos({at.name(token)}, {at.name(nearest)}) = ", False),
            (f"{cosine:.3f}", True),
        )

    # -- drawing -----------------------------------------------------------------------------------------------------

    def keys(self, at: Reading | None, width: int) -> Keys:
        """Where there is little room the map and the lists take turns."""
        find, walk, zoom, *lists = self.KEYS
        if width >= WIDE:
            return self.KEYS
        return (find, walk, zoom, ("z", "Lists")) if self.whole else (find, walk, *lists, ("z", "Map"))

    def draw(self, at: Reading, sheet: Canvas) -> None:
        if sheet.width >= WIDE:
            left = sheet.width * 58 // 100
            self._map(at, sheet.part(0, 0, left - 1))
            sheet.rule(left)
            side = sheet.part(left + 2, 0)
        elif self.whole:
            self._map(at, sheet)
            return
        else:
            side = sheet
        y = self._nearest(at, side)
        for panel in (self._sum, self._often, self._norm):
            rest = side.part(0, y)
            if rest.height < 2:
                break
            y += panel(at, rest)

    def _nearest(self, at: Reading, sheet: Canvas) -> int:
        look, token = sheet.look, self.at_token(at)
        wanted = self.near(at)
        sheet.words(0, 0, ("NEAREST", look.heading), ("  to ", look.faint), (at.name(token), look.chosen))
        if sheet.width >= 40:
            sheet.right(0, "mean removed", look.faint)
        near = at.answer(wanted)
        rows = 10 if sheet.height >= 24 else 5
        if near is None:
            told(sheet, 1, at, wanted)
        else:
            for y, it in enumerate(near.nearest[:rows], 1):
                sheet.put(0, y, f"{y:>2}", look.faint)
                number = f"{it.cosine:.3f}"
                sheet.part(4, y).row(0, at.name(it.id), it.cosine, number, ink=look.text, fill=look.bar, left=11)
            words = f"all others: median {near.median:.2f} · 99 % below {near.below:.2f}"
            sheet.put(0, rows + 1, cells.fit(words, sheet.width), look.faint)
        return rows + 3

    def _sum(self, at: Reading, sheet: Canvas) -> int:
        look = sheet.look
        plus, minus = self.shown_sum(at)
        wanted = self.summed(at)
        if wanted is None:
            return 0
        words = " + ".join(at.name(id).lstrip("·") for id in plus[:1])
        words += "".join(f" − {at.name(id).lstrip('·')}" for id in minus)
        words += "".join(f" + {at.name(id).lstrip('·')}" for id in plus[1:])
        sheet.heading(0, "ARITHMETIC", cells.fit(words, max(sheet.width - 24, 8)))
        sheet.right(0, "a edits", look.faint)
        near = at.answer(wanted)
        if near is None:
            told(sheet, 1, at, wanted)
            return 3
        half = (sheet.width - 2) // 2
        for x, title, tokens in ((0, "inputs kept", near.kept), (half + 2, "inputs left out", near.left_out)):
            column = sheet.part(x, 1, half)
            column.put(0, 0, cells.fit(title, half), look.faint)
            for y, it in enumerate(tokens[:4], 1):
                number = f"{it.cosine:.3f}"
                column.row(y, at.name(it.id), it.cosine, number, ink=look.text, fill=look.bar, left=10)
        return 7

    def _often(self, at: Reading, sheet: Canvas) -> int:
        look, word_map = sheet.look, self.found(at)
        sums = max((row.sums for row in word_map.relations[:-1]), default=0) if word_map is not None else 90
        sheet.heading(0, "HOW OFTEN", f"right, of {sums} sums")
        if word_map is None:
            told(sheet, 1, at, self.mapped)
            return 3
        if sheet.height < 9:
            rows: Sequence[Accuracy] = word_map.relations[-1:]
        else:
            rows = word_map.relations
            sheet.right(0, " kept   left out", look.faint)
        for y, row in enumerate(rows, 1):
            sheet.put(0, y, row.name, look.text, size=16)
            track = sheet.width - 16 - 17
            if track >= 8:
                column = round(row.left_out * (track - 1))
                low, high = (round(min(max(edge, 0), 1) * (track - 1)) for edge in row.interval)
                for i in range(track):
                    glyph = sheet.glyphs.knob if i == column else "─" if low <= i <= high else sheet.glyphs.dot
                    sheet.put(16 + i, y, glyph, look.bar if low <= i <= high else look.track)
            half = (row.interval[1] - row.interval[0]) / 2
            sheet.right(y, f"{100 * row.kept:.0f}% {100 * row.left_out:>5.0f}% ±{100 * half:<3.0f}", look.text)
        note = "one famous success is not a rule"
        sheet.put(0, len(rows) + 1, cells.fit(note, sheet.width), look.faint)
        return len(rows) + 3

    def _norm(self, at: Reading, sheet: Canvas) -> int:
        word_map, look, token = self.found(at), sheet.look, self.at_token(at)
        if word_map is None:
            return 0
        sheet.heading(0, "NORM", "of the rows, as they are")
        sheet.words(
            0, 1, (f"{at.name(token)} ", look.faint), (f"{word_map.norms[token]:.2f}", look.text),
            ("   median ", look.faint), (f"{np.median(word_map.norms):.2f}", look.text),
            ("   mean cosine ", look.faint), (f"{word_map.cosine:.2f}", look.text),
        )  # fmt: skip
        return 3

    def _map(self, at: Reading, sheet: Canvas) -> None:
        look, word_map = sheet.look, self.found(at)
        if word_map is None:
            sheet.heading(0, "MAP", "first two principal components of families of words")
            told(sheet, 1, at, self.mapped)
            return
        count = sum(len(ids) for _, ids in word_map.families)
        sheet.heading(0, "MAP", f"two directions keep {100 * word_map.kept:.0f} % of how {count} words differ")
        area = sheet.part(0, 1, None, sheet.height - 3)
        frame = self._frame(word_map, at, area)
        sample = word_map.points[:: max(len(word_map.points) // DOTS, 1)] if self.zoom <= 2 else word_map.points
        inside = (
            (sample[:, 0] >= frame.left) & (sample[:, 0] <= frame.right)
            & (sample[:, 1] >= frame.bottom) & (sample[:, 1] <= frame.top)
        )  # fmt: skip
        sample = sample[inside][:DOTS]
        bits = np.zeros((frame.height, frame.width), np.uint8)
        px, py = (np.rint(axis).astype(int) for axis in frame.dots(sample[:, 0], sample[:, 1]))
        np.bitwise_or.at(bits, (py // 4, px // 2), plot.BITS[py % 4, px % 2])
        area.dots(0, 0, bits, look.track)
        token = self.at_token(at)
        occupied: set[tuple[int, int]] = set()
        members = [
            (id, getattr(look, ink)) for (_, ids), ink in zip(word_map.families, INKS, strict=False) for id in ids
        ]
        members = [(token, look.chosen), *(member for member in members if member[0] != token)]
        spots = {id: spot for id, _ in members if (spot := _spot(frame, word_map.points[id])) is not None}
        occupied |= set(spots.values())
        for id, ink in members:
            if id in spots:
                area.put(*spots[id], "◆" if id == token else "•", ink)
                self._named(area, spots[id], at.name(id).lstrip("·"), ink, occupied)
        x = 0
        for (family, _), ink in zip(word_map.families, INKS, strict=False):
            x = sheet.words(x, sheet.height - 1, ("•", getattr(look, ink)), (f"{family} ", look.faint))

    def _frame(self, word_map: WordMap, at: Reading, area: Canvas) -> plot.Frame:
        """The families' extent, closer around the cursor's token the more it is zoomed."""
        points = word_map.points[[id for _, ids in word_map.families for id in ids]]
        low, high = points.min(axis=0), points.max(axis=0)
        size = (high - low) * 1.15 / self.zoom
        centre = (low + high) / 2 if self.zoom <= 1 else word_map.points[self.at_token(at)]
        (left, bottom), (right, top) = centre - size / 2, centre + size / 2
        return plot.Frame(float(left), float(right), float(bottom), float(top), max(area.width, 2), max(area.height, 2))

    @staticmethod
    def _named(area: Canvas, spot: tuple[int, int], name: str, ink: Style, occupied: set[tuple[int, int]]) -> None:
        """A word's name beside its point, where that covers no other."""
        size, (column, row) = cells.width(name), spot
        for start in (column + 1, column - size):
            covered = {(i, row) for i in range(start, start + size)}
            if start >= 0 and start + size <= area.width and not covered & occupied:
                area.put(start, row, name, ink)
                occupied |= covered
                return


def _spot(frame: plot.Frame, point: np.ndarray) -> tuple[int, int] | None:
    """The cell of a point; None outside the frame."""
    x, y = float(point[0]), float(point[1])
    if not (frame.left <= x <= frame.right and frame.bottom <= y <= frame.top):
        return None
    return frame.column(x), frame.row(y)
