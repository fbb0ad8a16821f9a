"""Attention page: what a head reads, over the text itself; all heads as a grid; one head's pattern as a picture."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from likely.app.jobs.interpretability import Inside, InsideQuestion, question
from likely.app.tui.base.drawing.canvas import Canvas
from likely.app.tui.base.text import cells
from likely.app.tui.base.text.formula import Part
from likely.app.tui.base.theme import full_at, shade
from likely.app.tui.chat.candidates import LN2
from likely.app.tui.inside.page import TALL, WIDE, Keys, Page, missing, text_rows, told
from likely.app.tui.inside.reading import Reading
from likely.engine.inside.questions import Ablation, HeadScores
from likely.engine.inside.sink import without_first

SCORES = {
    "induction": "how much it reads what came after last time",
    "duplicate": "how much it reads itself, earlier",
    "previous": "how much it reads the token before",
    "first": "how much it rests on the first token",
    "entropy": "how widely it reads",
    "distance": "how far back it reads",
}
MARKS = {"induction": "i", "duplicate": "d", "previous": "p", "first": "1"}
SAYS = {
    "induction": "what followed before",
    "duplicate": "itself, earlier",
    "previous": "the token before",
    "first": "a place to rest",
}
LEAST = {"induction": 0.5, "duplicate": 0.5, "previous": 0.5, "first": 0.75}  # of a score, to be called after it
ROLLOUT, KINDS = question(Inside.rollout), question(Inside.kinds)
READ = 6  # tokens in the list of what is read
SHORT = 7  # cells of a fact's name, at least
LEFT = 6  # columns of the heads' numbers


class AttentionPage(Page):
    """`layer` and `head` are those of the cursor; `score` tints the grid."""

    NAME = "attention"
    SENTENCE = (
        "Each head lets a token read earlier ones. Bright words are what this one reads; looking is not yet causing."
    )
    SHORT = "Which earlier tokens does a head read?"
    KEYS = (
        ("←→", "Token"), ("↑↓", "Head"), ("[ ]", "Layer"), ("g", "Score"), ("s", "No sink"), ("r", "Rollout"),
        ("x", "Ablate"),
    )  # fmt: skip
    DOES: ClassVar[tuple[str, ...]] = ("score", "sink", "rollout", "ablate", "previous", "next", "fold", "other")

    def __init__(self) -> None:
        self.layer = self.head = 0
        self.by = "induction"
        self.no_sink = False
        self.rolled = False
        self.ablated: InsideQuestion[Ablation] | None = None  # that is asked for
        self.whole = False  # on a small screen: the pattern in the place of the grid

    # -- what it asks and does ---------------------------------------------------------------------------------------

    def restart(self) -> None:
        self.ablated = None

    def wants(self, at: Reading, width: int, height: int) -> InsideQuestion[Any] | None:
        wanted = (ROLLOUT if self.rolled else None, self.pattern, self.ablated, KINDS)
        return next((candidate for candidate in wanted if candidate is not None and missing(at, candidate)), None)

    @property
    def pattern(self) -> InsideQuestion[np.ndarray]:
        """Weights of the heads of the layer."""
        return question(Inside.pattern, self.layer)

    def silenced(self, at: Reading) -> InsideQuestion[Ablation]:
        """The head left out."""
        return question(Inside.ablation, at.position, self.layer, self.head, at.target)

    def move(self, at: Reading, dx: int, dy: int) -> None:
        at.move(dx)
        if at.opened is not None and dy:
            self.head = min(max(self.head + dy, 0), at.opened.heads - 1)

    def previous(self, at: Reading) -> str:
        return self._to(at, self.layer - 1)

    def next(self, at: Reading) -> str:
        return self._to(at, self.layer + 1)

    def _to(self, at: Reading, layer: int) -> str:
        if at.opened is not None:
            self.layer = min(max(layer, 0), at.opened.layers - 1)
        return ""

    def score(self, at: Reading) -> str:
        names = list(SCORES)
        self.by = names[(names.index(self.by) + 1) % len(names)]
        return f"heads by {self.by}: {SCORES[self.by]}"

    def sink(self, at: Reading) -> str:
        self.no_sink = not self.no_sink
        return "without the first token, each row to sum to 1 again" if self.no_sink else "with the first token"

    def rollout(self, at: Reading) -> str:
        self.rolled = not self.rolled
        return "attention through all layers, mean heads: the product of (A + I) / 2" if self.rolled else ""

    def ablate(self, at: Reading) -> str:
        self.ablated = self.silenced(at)
        return f"reading the text without head {self.layer}.{self.head}…" if missing(at, self.ablated) else ""

    def fold(self, at: Reading) -> str:
        self.whole = not self.whole
        return ""

    def facts(self, at: Reading) -> tuple[str, ...]:
        opened = at.opened
        return (at.extent, f"{opened.layers} × {opened.heads} heads") if opened is not None else ()

    def weights(self, at: Reading) -> np.ndarray | None:
        """Weights of the head, [N, T], as they are shown; None while they are not known."""
        if self.rolled:
            weights = at.answer(ROLLOUT)
        else:
            heads = at.answer(self.pattern)
            weights = heads[self.head] if heads is not None else None
        return without_first(weights) if weights is not None and self.no_sink else weights

    def export(self, at: Reading) -> tuple[str, Any] | None:
        weights = self.weights(at)
        return None if weights is None else ("rollout" if self.rolled else "attention", weights)

    def formula(self, at: Reading) -> Sequence[Part]:
        weights, opened = self.weights(at), at.opened
        if weights is None or opened is None:
            return ()
        row = weights[at.position - at.first]
        bits = -float(row[row > 0] @ np.log2(row[row > 0]))
        weight = "R = Π (A + I) / 2" if self.rolled else f"a({at.position}, j) = softmax_j(q·k_j / √{opened.head_size})"
        return (
            (f"{weight}   Σ_j = ", False),
            (f"{row.sum():.3f}", True),
            ("   H = ", False),
            (f"{bits:.2f} bits", True),
        )

    # -- drawing -----------------------------------------------------------------------------------------------------

    def title(self) -> str:
        """The head that is looked at, in a word."""
        return "all layers" if self.rolled else f"{self.layer}.{self.head}"

    def keys(self, at: Reading | None, width: int) -> Keys:
        """Where there is little room the pattern takes the place of the heads."""
        if width >= WIDE:
            return self.KEYS
        shown = [key for key in self.KEYS if not (self.whole and key[0] in "gx")]
        return (*shown[:3], ("z", "Heads" if self.whole else "Pattern"), *shown[3:])

    def draw(self, at: Reading, sheet: Canvas) -> None:
        weights = self.weights(at)
        if sheet.width >= WIDE:
            left = sheet.width * 57 // 100
            sheet.rule(left)
            right = sheet.part(left + 2, 0)
            body = sheet.part(0, 0, left - 2)
            y = self._reads(at, body, weights, 3)
            y = self._heads(at, body.part(0, y), 2) + y
            if body.height - y >= 7:
                y = self._notable(at, body.part(0, y)) + y
            self._head(at, body.part(0, y))
            used = self._pattern(at, right.part(0, 0, None, right.height - READ - 2), weights)
            self._list(at, right.part(0, used), weights)
            return
        y = self._reads(at, sheet, weights, 2 if sheet.height >= 16 else 1)
        rest = sheet.part(0, y)
        if self.whole:
            self._pattern(at, rest, weights)
            return
        size = 2 if at.opened is not None and at.opened.layers * 2 + LEFT <= rest.width else 1
        y = self._heads(at, rest, size)
        below = rest.part(0, y)
        self._head(at, below)

    def _reads(self, at: Reading, sheet: Canvas, weights: np.ndarray | None, most: int) -> int:
        """The running text, bright where it is read; gives the rows that it took."""
        look = sheet.look
        sheet.words(
            0, 0, ("READS", look.heading), (f"  {'' if self.rolled else 'head '}{self.title()} from ", look.faint),
            (at.name_at(at.position), look.chosen), (f" token {at.position}", look.faint),
        )  # fmt: skip
        if weights is None:
            if self.rolled:
                told(sheet, 1, at, ROLLOUT, "all layers are read")
            else:
                told(sheet, 1, at, self.pattern, f"layer {self.layer} is read")
            return 4 if sheet.height >= TALL else 3
        row = weights[at.position - at.first]
        most_read = float(row.max()) or 1.0
        y = 1
        numbers = sheet.height >= 16
        for line in text_rows(at, sheet.width, most):
            x, free = 0, -1
            for position in line:
                text, share = at.running(position), float(row[position])
                ink = look.cursor if position == at.position else look.faint
                if position != at.position and share >= 0.02:
                    ink = look.tick + shade(look.tints, share / most_read)
                end = sheet.put(x, y, text, ink)
                number = f"{100 * share:.0f}%"
                start = max(end - len(number), 0)
                if numbers and share >= 0.1 and start > free:
                    free = sheet.put(start, y + 1, number, look.bar)
                x = end
            y += 2 if numbers else 1
        return y + 1 if sheet.height >= TALL else y

    def _heads(self, at: Reading, sheet: Canvas, size: int) -> int:
        """All heads, by a score; gives the rows that it took."""
        look, kinds, opened = sheet.look, at.answer(KINDS), at.opened
        assert opened is not None
        sheet.heading(0, "HEADS", f"by {self.by}  {SCORES[self.by]}")
        if kinds is None:
            told(sheet, 1, at, KINDS, "they read random tokens that come twice")
            return 3
        rows, columns = min(opened.heads, max(sheet.height - 8, 3)), min(opened.layers, (sheet.width - LEFT) // size)
        top = min(max(self.head - rows // 2, 0), opened.heads - rows)
        left = min(max(self.layer - columns // 2, 0), opened.layers - columns)
        sheet.put(0, 1, "layer", look.faint)
        for index in range(columns):
            layer = left + index
            if layer == self.layer:
                sheet.put(LEFT + size * index, 1, str(layer), look.chosen)
            elif layer % 5 == 0 and abs(layer - self.layer) * size > 2:
                sheet.put(LEFT + size * index, 1, str(layer), look.faint)
        scores = kinds[self.by]
        most = max(float(np.nanmax(scores)), 1e-9) if self.by in ("entropy", "distance") else 1.0
        for y in range(rows):
            head = top + y
            sheet.put(1, 2 + y, f"{head:>4}", look.chosen if head == self.head else look.faint)
            for index in range(columns):
                layer = left + index
                mark = self._mark(kinds, layer, head)
                x = LEFT + size * index
                if (layer, head) == (self.layer, self.head):
                    sheet.put(x, 2 + y, (mark or " ").ljust(size), look.cursor)
                else:
                    sheet.tile(x, 2 + y, float(scores[layer, head]) / most, size=size, mark=mark)
        y = 2 + rows
        x = sheet.words(0, y, ("0 ", look.faint))
        for i in range(5):
            sheet.tile(x + i, y, i / 4)
        parts = [(f" {most:.1f}  " if most != 1.0 else " 1  ", look.faint)]
        for name, mark in MARKS.items():
            parts += [(mark, look.tick), (f" {name}  ", look.faint)]
        sheet.words(x + 5, y, *parts)
        return y + 2

    def _mark(self, kinds: HeadScores, layer: int, head: int) -> str:
        name = max(MARKS, key=lambda kind: float(kinds[kind][layer, head]))
        return MARKS[name] if kinds[name][layer, head] >= LEAST[name] else ""

    def _notable(self, at: Reading, sheet: Canvas) -> int:
        look, kinds = sheet.look, at.answer(KINDS)
        sheet.heading(0, "NOTABLE", "on 4 × 30 random tokens, read twice")
        if kinds is None:
            return 2
        for y, name in enumerate(MARKS, 1):
            sheet.put(0, y, "first token" if name == "first" else name, look.text)
            scores = kinds[name]
            for i, at_most in enumerate(np.argsort(-scores, axis=None, kind="stable")[:3]):
                layer, head = np.unravel_index(at_most, scores.shape)
                sheet.words(
                    13 + 11 * i, y, (f"{layer}.{head}".ljust(5), look.tick), (f"{scores[layer, head]:.2f}", look.faint)
                )
            sheet.words(47, y, (SAYS[name], look.faint))
        return 6

    def _head(self, at: Reading, sheet: Canvas) -> None:
        look, kinds, opened = sheet.look, at.answer(KINDS), at.opened
        assert opened is not None
        sheet.heading(0, f"HEAD {self.layer}.{self.head}", "what it is")
        if kinds is None:
            return
        at_head = (self.layer, self.head)
        beside = sheet.width >= 56
        bars = sheet.part(0, 1, 34 if beside else None)
        for y, name in enumerate(MARKS):
            score = float(kinds[name][at_head])
            strong = score >= LEAST[name]
            bars.row(
                y, "first token" if name == "first" else name, score, f"{score:.2f}",
                ink=look.text if strong else look.faint, fill=look.bar if strong else look.bar_cut, left=13,
            )  # fmt: skip
        group = opened.heads // max(opened.kv_heads, 1)
        shared = [f"{self.layer}.{h}" for h in range(self.head // group * group, self.head // group * group + group)]
        facts = [
            ("mean entropy", f"{kinds['entropy'][at_head] / LN2:.2f} bits", look.text),
            ("mean distance", f"{kinds['distance'][at_head]:.1f} tokens", look.text),
            ("keys shared", " ".join(h for h in shared if h != f"{self.layer}.{self.head}") or "by none", look.text),
            (*self._without(at), look.accent),
        ]
        side = sheet.part(37, 1) if beside else sheet.part(0, 5)
        for y, (name, value, ink) in enumerate(facts):
            value = cells.fit(value, max(side.width - SHORT, 0))
            side.put(0, y, cells.fit(name, max(side.width - cells.width(value) - 1, 0)), look.faint)
            side.right(y, value, ink)

    def _without(self, at: Reading) -> tuple[str, str]:
        wanted = self.silenced(at)
        ablation = at.answer(wanted)
        if ablation is not None:
            return f"Δ {cells.fit(at.name(ablation.token), 8)} without it", f"{ablation.effect:+.2f}"
        return "Δ the next without it", cells.fit(at.refused.get(wanted, "x asks"), 30)

    def _pattern(self, at: Reading, sheet: Canvas, weights: np.ndarray | None) -> int:
        """The rows of the head around the cursor; gives the rows that it took."""
        look = sheet.look
        sheet.heading(0, "PATTERN", self.title())
        sheet.right(0, "reads →", look.faint)
        if weights is None or sheet.height < 4:
            return sheet.height
        label = 8
        size = 2 if 2 * len(at.ids) <= sheet.width - label - 1 else 1
        columns = min(len(at.ids), (sheet.width - label - 1) // size)
        if columns < 1:
            return sheet.height
        rows = min(len(weights), sheet.height - 3)
        left = min(max(at.position - columns + 1, 0), len(at.ids) - columns)
        top = min(max(at.position - at.first - rows + 1, 0), len(weights) - rows)
        for i in range(columns):
            position = left + i
            first = at.running(position).strip()[:1] or sheet.glyphs.dot
            first = first if cells.width(first) == 1 else sheet.glyphs.dot
            sheet.put(label + 1 + size * i, 1, first, look.chosen if position == at.position else look.faint)
        brightest = max(float(weights[top : top + rows, left : left + columns].max()), 1e-9)
        for y in range(rows):
            position = at.first + top + y
            here = position == at.position
            name = cells.fit(at.running(position).strip() or sheet.glyphs.dot, label - 1)
            sheet.right(2 + y, name, look.chosen if here else look.faint, end=label)
            for i in range(min(columns, position - left + 1)):
                sheet.tile(label + 1 + size * i, 2 + y, float(weights[top + y, left + i]) / brightest, size=size)
        words = "one row a token: what it reads sums to 1"
        sheet.put(0, 2 + rows, cells.fit(words, sheet.width), look.faint)
        return rows + 4

    def _list(self, at: Reading, sheet: Canvas, weights: np.ndarray | None) -> None:
        look = sheet.look
        if weights is None:
            return
        sheet.words(
            0, 0, ("READ", look.heading), (f"  by token {at.position}  ", look.faint),
            (at.name_at(at.position), look.chosen),
        )  # fmt: skip
        row = weights[at.position - at.first]
        most = float(row.max()) or 1.0
        sheet.right(0, full_at(most), look.faint)
        order = [int(i) for i in np.argsort(-row, kind="stable")[:READ] if row[i] > 0]
        for y, position in enumerate(order, 1):
            sheet.put(0, y, f"{position:>3}", look.faint)
            part = sheet.part(4, y)
            share = float(row[position])
            part.row(
                0, at.name_at(position), share / most, f"{100 * share:.1f}%", ink=look.text, fill=look.bar, left=11
            )
