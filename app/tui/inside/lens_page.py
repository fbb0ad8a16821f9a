"""Lens page: what the model would say next if it stopped after each layer, as a grid of layers and positions."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from likely.app.jobs.interpretability import Inside, InsideQuestion, question
from likely.app.tui.base.drawing.canvas import Canvas, chart, rank_labels
from likely.app.tui.base.text import cells
from likely.app.tui.base.text.formula import Part, low
from likely.app.tui.base.theme import bar, full_at, shade
from likely.app.tui.inside.page import TALL, WIDE, Keys, Page, shown_layers, text_rows, told
from likely.app.tui.inside.reading import LensTable, Reading

CELL, LABEL = 9, 7  # columns of a cell, its gap included, and of a layer's number
PANEL = 38  # of what is under the cursor
KL_CUT = 80.0  # bits: the embedding's row has more, and would flatten the rest


class LensPage(Page):
    """`layer` is the row of the cursor, 0 the embedding; None the last but one."""

    NAME = "lens"
    SENTENCE = "What would the model say next if it stopped after this layer? Reading down, a guess becomes an answer."
    SHORT = "What if it stopped after this layer?"
    KEYS = (("←→↑↓", "Cell"), ("k", "KL"), ("z", "Layers"), ("t", "Tuned"), ("o", "Favourite"), ("c", "Causes"))
    DOES: ClassVar[tuple[str, ...]] = ("kl", "fold", "tuned", "other")

    def __init__(self) -> None:
        self.layer: int | None = None
        self.by_kl = False
        self.folded = True
        self.is_tuned = False
        self.start = 0  # the first position in the grid
        self._rows: list[int] = []  # the layers in the grid

    # -- what it asks and does ---------------------------------------------------------------------------------------

    def restart(self) -> None:
        self.start = 0

    def wants(self, at: Reading, width: int, height: int) -> InsideQuestion[Any] | None:
        assert at.opened is not None
        table = at.lenses.get(self.is_tuned)
        start, stop = self._window(at, width)
        known = table.known if table is not None else np.zeros(len(at.ids) - at.first, bool)
        if known.all() or self.whole in at.refused:
            return None
        there = tuple((np.flatnonzero(known) + at.first).tolist())
        return question(Inside.lens, self.is_tuned, start, stop, there)

    @property
    def whole(self) -> InsideQuestion[Any]:
        """The lens that is shown, wherever it begins."""
        return question(Inside.lens, self.is_tuned)

    def kl(self, at: Reading) -> str:
        self.by_kl = not self.by_kl
        return "tinted by KL to the last layer" if self.by_kl else "tinted by probability"

    def fold(self, at: Reading) -> str:
        self.folded = not self.folded
        return ""

    def tuned(self, at: Reading) -> str:
        if at.opened is None or not at.opened.tuned:
            return "no tuned lens is kept for this model: likely inside --tune-lens FILE fits one"
        self.is_tuned = not self.is_tuned
        return (
            "the tuned lens: each layer is translated before the head reads it" if self.is_tuned else "the plain lens"
        )

    def move(self, at: Reading, dx: int, dy: int) -> None:
        at.move(dx)
        if dy and self._rows:
            layer = self.at_layer(at)
            here = min(range(len(self._rows)), key=lambda i: abs(self._rows[i] - layer))
            self.layer = self._rows[min(max(here + dy, 0), len(self._rows) - 1)]
            if not self.folded and here + dy not in range(len(self._rows)):
                self.layer = min(max(layer + dy, 0), at.opened.layers if at.opened is not None else 0)

    def at_layer(self, at: Reading) -> int:
        """The layer of the cursor."""
        layers = at.opened.layers if at.opened is not None else 0
        return max(layers - 1, 0) if self.layer is None else min(self.layer, layers)

    def facts(self, at: Reading) -> tuple[str, ...]:
        words = (f"{len(at.names.pieces):,} words",) if at.names.pieces else ()
        return (*super().facts(at), *words)

    def export(self, at: Reading) -> tuple[str, Any] | None:
        table = at.lenses.get(self.is_tuned)
        if table is None or not table.known.all():
            return None
        return "lens", table.lens()

    def formula(self, at: Reading) -> Sequence[Part]:
        table, layer = at.lenses.get(self.is_tuned), self.at_layer(at)
        i = at.position - at.first
        if table is None or not table.known[i]:
            return ()
        state = f"translate(h{low(layer)})" if self.is_tuned else f"h{low(layer)}"
        last = table.top.shape[0] - 1
        return (
            (f"p{low(layer)}(· | x≤{at.position}) = softmax(W_U norm({state}))   ", False),
            (f"KL(p{low(last)} ‖ p{low(layer)}) = ", False),
            (f"{table.kl[layer, i]:.2f} bits", True),
        )

    # -- drawing -----------------------------------------------------------------------------------------------------

    def _window(self, at: Reading, width: int) -> tuple[int, int]:
        """The positions in the grid, which follows the cursor."""
        count = max((width - _panel_width(width) - LABEL - 1) // CELL, 1)
        end = len(at.ids)
        if not self.start <= at.position < self.start + count:
            self.start = at.position if at.position < self.start else at.position - count + 1
        self.start = max(at.first, min(self.start, end - count))
        return self.start, min(self.start + count, end)

    def keys(self, at: Reading | None, width: int) -> Keys:
        """The fold where not all layers are shown, the tuned lens where one is kept."""
        opened = at.opened if at is not None else None
        idle = "z" if opened is not None and len(self._rows) == opened.layers + 1 else ""
        idle += "t" if opened is not None and not opened.tuned else ""
        return tuple(key for key in self.KEYS if key[0] not in idle)

    def draw(self, at: Reading, sheet: Canvas) -> None:
        table = at.lenses.get(self.is_tuned)
        start, stop = self._window(at, sheet.width)
        roomy = sheet.height >= TALL and sheet.width >= WIDE
        top = self._text(at, sheet, table) if roomy else 0
        left = LABEL + CELL * (stop - start)
        panel = _panel_width(sheet.width)
        grid = sheet.part(0, top, sheet.width - panel)
        self._grid(at, grid, table, start, stop, roomy)
        if panel:
            x = max(left, sheet.width - panel - 1)
            sheet.part(x, top).rule(0)
            self._panel(at, sheet.part(x + 2, top), table)

    def _text(self, at: Reading, sheet: Canvas, table: LensTable | None) -> int:
        """The running text with the layer that decided each prediction under it; gives the rows that it took."""
        look = sheet.look
        sheet.heading(0, "TEXT", "under each token: the layer from which its prediction no longer changes")
        decided = table.decided() if table is not None else None
        last = at.opened.layers if at.opened is not None else 0
        y = 1
        for row in text_rows(at, sheet.width, 2 if sheet.height < 36 else 3):
            x = 0
            for position in row:
                text, i = at.running(position), position - at.first
                here = position == at.position
                end = sheet.put(x, y, text, look.cursor if here else look.text)
                if table is not None and decided is not None and table.known[i]:
                    number = str(decided[i])
                    if len(number) > cells.width(text):
                        number = "•"
                    inks = look.chosen if here else look.bar if 2 * decided[i] < last else look.faint
                    inks = look.accent if decided[i] == last and not here else inks
                    sheet.put(end - len(number), y + 1, number, inks)
                x = end
            y += 2
        return y + 1

    def _grid(self, at: Reading, sheet: Canvas, table: LensTable | None, start: int, stop: int, roomy: bool) -> None:
        assert at.opened is not None
        look, layers = sheet.look, at.opened.layers + 1
        rows = max(sheet.height - 3 - (2 if roomy else 0), 1)
        layer = self.at_layer(at)
        if self.folded or layers <= rows:
            shown = shown_layers(layers, rows)
            if layer not in shown:
                near = min(range(len(shown)), key=lambda i: abs(shown[i] - layer))
                shown[near] = layer
        else:
            first = max(0, min(layer - rows // 2, layers - rows))
            shown = list(range(first, first + rows))
        self._rows = shown
        sheet.put(0, 1, "LAYER", look.heading)
        for x, position in self._columns(start, stop):
            here = position == at.position
            sheet.put(x, 0, str(position), look.chosen if here else look.cut)
            name = cells.fit(at.name_at(position), CELL - 1)
            sheet.put(x, 1, name, look.chosen if here else look.tick)
        decided = table.decided() if table is not None else None
        for y, row in enumerate(shown, 2):
            before = shown[y - 3] if y > 2 else -1
            if row - before > 1:
                sheet.put(0, y, sheet.glyphs.cut, look.rule)
            sheet.put(1, y, f"{row:>4}", look.chosen if row == layer else look.faint)
            for x, position in self._columns(start, stop):
                if table is None or decided is None or not table.known[position - at.first]:
                    sheet.put(x, y, sheet.glyphs.dot, look.track)
                    continue
                self._cell(at, sheet, table, (x, y), row, before, position, int(decided[position - at.first]))
        if table is None:
            told(sheet.part(LABEL, 4), 0, at, self.whole)
        if roomy:
            self._came(at, sheet, table, start, stop)
        self._legend(at, sheet, start)

    def _columns(self, start: int, stop: int) -> list[tuple[int, int]]:
        return [(LABEL + CELL * i, position) for i, position in enumerate(range(start, stop))]

    def _cell(
        self,
        at: Reading,
        sheet: Canvas,
        table: LensTable,
        xy: tuple[int, int],
        row: int,
        before: int,
        position: int,
        decided: int,
    ) -> None:
        look, i, (x, y) = sheet.look, position - at.first, xy
        share = 1 - table.kl[row, i] / 16 if self.by_kl else table.p[row, i]
        ink = shade(look.tints, float(share))
        ink = (look.text if not ink.color else ink) + ink if row < decided else look.tick + ink
        if position == at.position and row == self.at_layer(at):
            ink = look.cursor
        sheet.put(x, y, at.name(int(table.top[row, i])), ink, size=CELL - 1)
        if before < decided <= row:
            sheet.put(x - 1, y, "◆", look.accent)

    def _came(self, at: Reading, sheet: Canvas, table: LensTable | None, start: int, stop: int) -> None:
        """The row of tokens that the text has next."""
        y = sheet.height - 2
        sheet.put(0, y, "came", sheet.look.faint)
        for x, position in self._columns(start, stop):
            if position + 1 >= len(at.ids):
                sheet.put(x, y, "?", sheet.look.chosen)
                continue
            right = table is not None and table.top[-1, position - at.first] == at.ids[position + 1]
            name = cells.fit(at.name_at(position + 1), CELL - 1)
            sheet.put(x, y, name, sheet.look.tick if right else sheet.look.faint)

    def _legend(self, at: Reading, sheet: Canvas, start: int) -> None:
        look, y = sheet.look, sheet.height - 1
        low, high = ("16+", "0 bits") if self.by_kl else ("0", "1")
        x = sheet.words(
            LABEL - 1, y, ("◆", look.accent), (" decided here", look.faint),
            (f"   {'KL' if self.by_kl else 'p'}  {low} ", look.faint),
        )  # fmt: skip
        if look.tiles:
            for i in range(8):
                sheet.put(x + i, y, " ", shade(look.tints, i / 7))
            x += 8
        x = sheet.words(x, y, (f" {high}", look.faint))
        hidden = f"← {start - at.first} more positions" if start > at.first else ""
        before = f"{at.first} before them are read" if at.first else ""
        for column, words in ((x + 3, hidden), (x + 26, before)):
            if column + cells.width(words) <= sheet.width:
                sheet.put(column, y, words, look.faint)

    def _panel(self, at: Reading, sheet: Canvas, table: LensTable | None) -> None:
        """The cell of the cursor: its best tokens, and how the final token came up."""
        look, layer, i = sheet.look, self.at_layer(at), at.position - at.first
        about = f"after {at.name_at(at.position)}" if sheet.width >= 34 else ""
        if table is None or not table.known[i]:
            sheet.heading(0, f"LAYER {layer}", about)
            told(sheet, 1, at, self.whole)
            return
        sheet.heading(0, f"LAYER {layer}", about, f"KL {table.kl[layer, i]:.1f} bits")
        said, y = at.target if at.target is not None else int(table.top[-1, i]), 1
        shares = table.shares[layer, i]
        for token, share in zip(table.best[layer, i], shares, strict=True):
            chosen = int(token) == said
            ink = look.chosen if chosen else look.text
            sheet.put(0, y, sheet.glyphs.chosen if chosen else " ", ink)
            fill = look.chosen_bar if chosen else look.bar
            number = f"{100 * share:.2f}%"
            room = max(sheet.width - 12 - len(number) - 2, 0)
            sheet.put(2, y, at.name(int(token)), ink, size=9)
            sheet.put(12, y, bar(float(share) / float(shares[0] or 1), room, sheet.glyphs), fill)
            sheet.right(y, number, ink)
            y += 1
        ranks = (table.rank if at.target is None else table.said)[:, i]
        if ranks[layer] > len(shares):
            name = f"{sheet.glyphs.chosen} {cells.fit(at.name(said), 9)}"
            sheet.words(0, y, (name, look.chosen), (f"  rank {ranks[layer]:,}", look.faint))
        if sheet.width >= 34:
            sheet.right(y, full_at(float(shares[0])), look.faint)
            favourite = f"is the last layer's token ({100 * table.p[-1, i]:.1f} %)"
            words = f"{sheet.glyphs.chosen} {favourite if at.target is None else 'is what the text has next'}"
            sheet.put(0, y + 1, cells.fit(words, sheet.width), look.faint)
        self._curves(at, sheet, table, y + 3, layer, i, said, ranks)

    def _curves(
        self, at: Reading, sheet: Canvas, table: LensTable, y: int, layer: int, i: int, said: int, ranks: np.ndarray
    ) -> None:
        """The rank of the word that was said, the favourite's grey where that is another; and KL to the last layer."""
        look, room = sheet.look, sheet.height - y
        xs = list(range(table.top.shape[0]))
        both = room >= 16
        height = room // 2 - 1 if both else min(room, 12)
        if height < 4:
            return
        favourite, about = int(table.top[-1, i]), f"of {cells.fit(at.name(said), 10)} by layer"
        sheet.heading(y, "RANK", about, f"{ranks[layer]:,}")
        of = [(table.rank[:, i], look.bar_cut)] if favourite != said else []
        curves = [(-np.log10(each.astype(float)), ink) for each, ink in [*of, (ranks, look.bar)]]
        names = rank_labels(max(int(each.max()) for each, _ in [*of, (ranks, look.bar)]))
        chart(sheet.part(0, y + 1, None, height - 1), xs, curves, layer, names)
        if not both:
            return
        y += height + 1
        sheet.heading(y, "KL", "to the last, bits", f"{table.kl[layer, i]:.1f}")
        if sheet.width >= 34:
            sheet.words(22, y, ("⠒⠒", look.bar_cut), (" median", look.faint))
        kl = np.minimum(table.kl[:, i], KL_CUT)
        median = np.minimum(np.median(table.kl[:, table.known], axis=1), KL_CUT)
        top = float(max(kl.max(), median.max(), 1.0))
        names = [(0.0, "0"), (top / 2, f"{top / 2:.0f}" if top >= 4 else f"{top / 2:.1f}"), (top, f"{top:.0f}")]
        chart(sheet.part(0, y + 1, None, height - 1), xs, [(median, look.bar_cut), (kl, look.bar)], layer, names)


def _panel_width(width: int) -> int:
    """Columns of the panel beside the grid; 0 where there is no room for it."""
    return PANEL if width >= WIDE else 30 if width >= 72 else 0
