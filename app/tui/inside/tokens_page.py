"""Tokens page: the merges that made a word's tokens, and its other tokenisations with their probabilities."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from likely.app.jobs.interpretability import Inside, InsideQuestion, question
from likely.app.tui.base.drawing.canvas import Canvas, fold
from likely.app.tui.base.text import cells
from likely.app.tui.base.text.formula import Part
from likely.app.tui.chat.candidates import LN2
from likely.app.tui.inside.page import WIDE, Page, missing, text_rows, told
from likely.app.tui.inside.reading import Reading
from likely.engine.inside.questions import Tokenisation, WordSpellings


class TokensPage(Page):
    """Looks at the word that the cursor's token is a part of."""

    NAME = "tokens"
    SENTENCE = "A text has many tokenisations, and the model gives each its own probability; the tokenizer takes one."
    SHORT = "How else could this be cut?"
    MAP = "tokenizer"
    KEYS = (("←→", "Token"),)
    DOES: ClassVar[tuple[str, ...]] = ()

    def wants(self, at: Reading, width: int, height: int) -> InsideQuestion[Any] | None:
        wanted = self.asked(at)
        return wanted if wanted is not None and missing(at, wanted) else None

    def asked(self, at: Reading) -> InsideQuestion[WordSpellings] | None:
        """The word at the cursor; None where nothing stands before it."""
        start, stop = word(at)
        return question(Inside.spellings, start, stop) if start else None

    def found(self, at: Reading) -> WordSpellings | None:
        wanted = self.asked(at)
        return at.answer(wanted) if wanted is not None else None

    def ways(self, at: Reading) -> Tokenisation | None:
        spellings = self.found(at)
        return spellings.ways if spellings is not None else None

    def export(self, at: Reading) -> tuple[str, Any] | None:
        ways = self.ways(at)
        return ("spellings", ways) if ways is not None else None

    def formula(self, at: Reading) -> Sequence[Part]:
        ways = self.ways(at)
        if ways is None:
            return ()
        sign = "=" if ways.complete else "≥"
        share = math.exp(ways.own.logprob - ways.logprob)
        return (
            (f"p(text | x<i) {sign} Σ p(tokens | x<i) over {len(ways.spellings)} = ", False),
            (f"2^{ways.logprob / LN2:.2f}", True),
            ("   its own ", False),
            (f"{100 * share:.2f} %", True),
        )

    def draw(self, at: Reading, sheet: Canvas) -> None:
        look = sheet.look
        sheet.heading(0, "TEXT", "a token beside a token, the word at the cursor marked")
        start, stop = word(at)
        y = 1
        for row in text_rows(at, sheet.width, 3 if sheet.height >= 20 else 1):
            x = 0
            for position in row:
                inside = start <= position < stop
                ink = look.cursor if position == at.position else look.chosen if inside else look.text
                ink = look.faint if not inside and position % 2 else ink
                x = sheet.put(x, y, at.running(position), ink)
            y += 1
        rest = sheet.part(0, y + 1)
        wanted = self.asked(at)
        if wanted is None:
            rest.put(0, 0, cells.fit("nothing stands before the first token: take a later one", rest.width), look.faint)
            return
        spellings = self.found(at)
        if spellings is None:
            told(rest, 0, at, wanted)
        elif rest.width >= WIDE:
            left = rest.width * 42 // 100
            self._merges(at, rest.part(0, 0, left - 2), spellings)
            rest.rule(left)
            self._ways(at, rest.part(left + 2, 0), spellings)
        else:
            half = min(len(spellings.merges) + 2, rest.height // 2)
            self._merges(at, rest.part(0, 0, None, half), spellings)
            self._ways(at, rest.part(0, half), spellings)

    def _merges(self, at: Reading, sheet: Canvas, spellings: WordSpellings) -> None:
        """The pieces after each merge; the last of them where there is no room for all."""
        look = sheet.look
        sheet.heading(
            0, "MERGES", f"{len(spellings.merges) - 1} in the order they were learned" if spellings.merges else ""
        )
        if not spellings.merges:
            self._why(sheet, spellings)
            return
        hidden = max(len(spellings.merges) - (sheet.height - 1), 0)
        for y, pieces in enumerate(spellings.merges[hidden:], 1):
            new = set(pieces) - set(spellings.merges[hidden + y - 2]) if hidden + y - 2 >= 0 else set()
            parts = [(f"{hidden + y - 1:>2}  ", look.faint)]
            for index, piece in enumerate(pieces):
                parts += [("│" if index else "", look.rule)]
                parts += [(cells.piece_text(piece), look.chosen if piece in new else look.text)]
            sheet.words(0, y, *parts)

    def _ways(self, at: Reading, sheet: Canvas, spelled: WordSpellings) -> None:
        look, ways = sheet.look, spelled.ways
        if ways is None:
            sheet.heading(0, "TOKENISATIONS")
            self._why(sheet, spelled)
            return
        spellings = ways.spellings
        sheet.heading(0, "TOKENISATIONS", f"{'all' if ways.complete else 'the shortest'} {len(spellings)}, by bits")
        best = spellings[0].logprob
        room = min(sheet.width * 5 // 9, 34)
        for y, way in enumerate(spellings[: sheet.height - 2], 1):
            name = "│".join(at.name(id) for id in way.ids)
            ink = look.chosen if way.own else look.text
            sheet.put(0, y, sheet.glyphs.chosen if way.own else " ", ink)
            sheet.part(2, y).row(
                0, name, math.exp(max((way.logprob - best) / 8, -20)), f"{-way.logprob / LN2:.1f} bits",
                ink=ink, fill=look.chosen_bar if way.own else look.bar, left=room,
            )  # fmt: skip
        y = min(len(spellings), sheet.height - 2) + 1
        words = f"{sheet.glyphs.chosen} the tokenizer's own"
        sheet.put(0, y, cells.fit(words, sheet.width), look.faint)

    @staticmethod
    def _why(sheet: Canvas, spellings: WordSpellings) -> None:
        for y, words in enumerate(fold(spellings.refused, sheet.width), 1):
            sheet.put(0, y, words, sheet.look.faint)


def word(at: Reading) -> tuple[int, int]:
    """The positions of the word that the cursor's token is a part of."""

    def begins(position: int) -> bool:
        text = at.names.piece(at.ids[position])[:1]
        return not text.isalnum() and text < b"\x80"

    start = at.position
    while start > at.first and not begins(start) and start > 0:
        start -= 1
    stop = at.position + 1
    while stop < len(at.ids) and not begins(stop):
        stop += 1
    return start, stop
