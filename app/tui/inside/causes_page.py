"""Causes page: which parts wrote the next token's logit, what goes without them, and which words of the text mattered.

The token is the one that the text has next; at its end, or where a person wants it, the favourite. What a part wrote is
exact and yet no cause; silencing it and patching it are measured beside it.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from likely.app.jobs.interpretability import Inside, InsideQuestion, question
from likely.app.tui.base.drawing.canvas import Canvas, fold
from likely.app.tui.base.text import cells
from likely.app.tui.base.text.formula import Part
from likely.app.tui.base.theme import shade
from likely.app.tui.inside.page import WIDE, Keys, Page, missing, text_rows, told
from likely.app.tui.inside.reading import Reading
from likely.app.words.units import bits
from likely.engine.decode.prompt import Prompt
from likely.engine.inside.questions import PARTS, Ablation, Attribution, Importance, Patching
from likely.engine.inside.why import WrittenPart, written_parts

MEASURED = 6  # heads that are silenced, those that wrote most
SHORT_TEXT = 64  # tokens up to which each is left out unasked


class CausesPage(Page):
    """Looks at what comes after the cursor's position; `corrupted` is the other prompt of the patches."""

    NAME = "causes"
    SENTENCE = "Which parts wrote this answer, what goes without them, and which words of the text brought it about?"
    SHORT = "Which parts and words brought it about?"
    KEYS = (
        ("←→", "Token"),
        ("f", "Foil"),
        ("x", "Silence heads"),
        ("p", "Patch"),
        ("w", "Part"),
        ("i", "Words"),
        ("o", "Favourite"),
    )
    DOES: ClassVar[tuple[str, ...]] = ("ablate", "part", "table", "other")
    ASKS: ClassVar[dict[str, str]] = {
        "foil": "compare with the logit of another token (empty: none)",
        "patch": "another text of as many tokens, of which the answer differs (empty: none)",
    }
    SETTLES = True  # it costs too much to be asked at every step of the cursor

    def __init__(self) -> None:
        self.against: int | None = None
        self.corrupted: Prompt | None = None
        self.of = PARTS[0]
        self.silences = False
        self.by_words: int | None = None  # the position whose words were asked for, however long the text is

    # -- what it asks and does ---------------------------------------------------------------------------------------

    def restart(self) -> None:
        self.by_words, self.corrupted, self.silences = None, None, False

    def wants(self, at: Reading, width: int, height: int) -> InsideQuestion[Any] | None:
        wanted: list[InsideQuestion[Any]] = [self.written(at)]
        if self.corrupted is not None:
            wanted.append(self.patched(at, self.corrupted))
        if at.position and (at.position < SHORT_TEXT or self.by_words == at.position):
            wanted.append(self.mattered(at))
        if self.silences:
            wanted += self.silenced(at)
        return next((look for look in wanted if missing(at, look)), None)

    def written(self, at: Reading) -> InsideQuestion[Attribution]:
        against = None if self.against == at.target else self.against
        return question(Inside.attribution, at.position, against, at.target)

    def patched(self, at: Reading, corrupted: Prompt) -> InsideQuestion[Patching]:
        return question(Inside.patching, at.position, corrupted, self.of)

    def mattered(self, at: Reading) -> InsideQuestion[Importance]:
        return question(Inside.importance, at.position, at.target)

    def silenced(self, at: Reading) -> list[InsideQuestion[Ablation]]:
        """The heads that wrote most, each to be silenced."""
        heads = [part.head for part in self.parts(at) if part.head is not None][:MEASURED]
        return [question(Inside.ablation, at.position, *head, at.target) for head in heads]

    def parts(self, at: Reading) -> list[WrittenPart]:
        """All addends, the largest first."""
        made = at.answer(self.written(at))
        if made is None:
            return []
        others = WrittenPart("embedding", made.embedding), WrittenPart("biases", made.bias)
        return sorted([*written_parts(made), *others], key=lambda part: -abs(part.nats))

    def foil(self, at: Reading, text: str) -> str:
        """Compare with another token's logit."""
        if not text.strip():
            self.against = None
            return "the logit by itself, with its free constant"
        found = at.token(text)
        if found is None:
            return f"{text.strip()} is not one token of this model"
        self.against = found
        return ""

    def patch(self, at: Reading, text: str) -> str:
        """Take activations from this text into another one."""
        self.corrupted = Prompt(parts=(text,)) if text.strip() else None
        return ""

    def ablate(self, at: Reading) -> str:
        self.silences = not self.silences
        return f"the {MEASURED} heads that wrote most are silenced, one at a time" if self.silences else ""

    def part(self, at: Reading) -> str:
        self.of = PARTS[(PARTS.index(self.of) + 1) % len(PARTS)]
        return f"patches of the {self.of}"

    def table(self, at: Reading) -> str:
        self.by_words = at.position
        return f"each of {at.position + 1} tokens is left out once" if at.position >= SHORT_TEXT else ""

    def export(self, at: Reading) -> tuple[str, Any] | None:
        patching = at.answer(self.patched(at, self.corrupted)) if self.corrupted is not None else None
        attribution = at.answer(self.written(at))
        if patching is not None:
            return "patch", patching
        return ("attribution", attribution) if attribution is not None else None

    def formula(self, at: Reading) -> Sequence[Part]:
        addends = at.answer(self.written(at))
        if addends is None:
            return ()
        name = at.name(addends.token)
        over = f" − logit({at.name(self.against)})" if self.against is not None else ""
        return (
            (f"logit({name}){over} = Σ_c (W_U · γ c) / r = ", False),
            (f"{addends.sum:.3f}", True),
            ("   by the model ", False),
            (f"{addends.logit:.3f}", True),
        )

    # -- drawing -----------------------------------------------------------------------------------------------------

    def keys(self, at: Reading | None, width: int) -> Keys:
        """Where there is little room patches take the place of all else."""
        patches = ("p", "w") if self.corrupted is not None else ("p",)
        if width >= WIDE:
            return self.KEYS
        others = [] if self.corrupted is not None else [key for key in self.KEYS[1:] if key[0] not in "pw"]
        return (self.KEYS[0], *others, *(key for key in self.KEYS if key[0] in patches))

    def draw(self, at: Reading, sheet: Canvas) -> None:
        if sheet.width >= WIDE:
            left = sheet.width * 52 // 100
            body = sheet.part(0, 0, left - 2)
            sheet.rule(left)
            side = sheet.part(left + 2, 0)
            y = self._words(at, body, 3)
            self._wrote(at, body.part(0, y))
            y = self._silenced(at, side)
            self._patches(at, side.part(0, y))
            return
        if self.corrupted is not None:
            self._patches(at, sheet)
            return
        y = self._words(at, sheet, 1)
        rows = max((sheet.height - y) // (2 if self.silences else 1), 3)
        self._wrote(at, sheet.part(0, y, None, rows))
        if self.silences:
            self._silenced(at, sheet.part(0, y + rows))

    def _words(self, at: Reading, sheet: Canvas, most: int) -> int:
        """The text, bright where leaving a token out takes from the answer."""
        look, wanted = sheet.look, self.mattered(at)
        importance = at.answer(wanted)
        about = f"bits of {at.name(importance.token)} that go without each word" if importance is not None else ""
        sheet.heading(0, "WORDS", cells.fit(about, max(sheet.width - 8, 4)))
        top = float(np.abs(importance.left_out).max()) or 1.0 if importance is not None else 1.0
        y = 1
        for row in text_rows(at, sheet.width, most):
            x, free = 0, -1
            for position in row:
                text, ink = at.running(position), look.faint
                value = 0.0
                if importance is not None and position <= at.position:
                    value = float(importance.left_out[position])
                    ink = look.tick + shade(look.tints, value / top) if value > 0.05 * top else look.text
                if position == at.position:
                    ink = look.cursor
                end = sheet.put(x, y, text, ink)
                number = f"{bits(value):.1f}"
                if abs(value) >= max(0.25 * top, 0.05) and end - len(number) > free:
                    sheet.put(end - len(number), y + 1, number, look.bar)
                    free = end
                x = end
            y += 2
        if importance is None:
            if at.position >= SHORT_TEXT and missing(at, wanted) and self.by_words != at.position:
                words = f"i leaves out each of the {at.position + 1} tokens once"
                sheet.put(0, y - 1, cells.fit(words, sheet.width), look.faint)
            elif at.position:
                told(sheet, y - 1, at, wanted, "each is left out once")
        elif sheet.height >= 12 and (agreement := importance.agreement) is not None:
            words = f"gradient × input ranks the words alike by {agreement:.2f}"
            sheet.put(0, y, cells.fit(words, sheet.width), look.faint)
            y += 1
        return y + 1

    def _wrote(self, at: Reading, sheet: Canvas) -> None:
        """The largest addends, to the right where they help and to the left where they hinder."""
        look, wanted = sheet.look, self.written(at)
        addends, parts = at.answer(wanted), self.parts(at)
        name = at.name(addends.token) if addends is not None else "the next token"
        over = f" over {at.name(self.against)}" if self.against is not None else ""
        sheet.heading(0, "WROTE", cells.fit(f"of the logit of {name}{over}", max(sheet.width - 18, 8)))
        if addends is None:
            told(sheet, 1, at, wanted)
            return
        sheet.right(0, f"Σ {addends.sum:.2f}", look.chosen)
        rows = max(sheet.height - 3, 1)
        most = abs(parts[0].nats) or 1.0
        half = max((sheet.width - 12 - 10) // 2, 2)
        for y, part in enumerate(parts[:rows], 1):
            sheet.put(0, y, part.name, look.text, size=12)
            sheet.signed(12, y, part.nats / most, half)
            sheet.right(y, f"{part.nats:+.3f}", look.text if part.nats > 0 else look.faint)
        rest = parts[rows:]
        if rest:
            words = f"and {len(rest)} smaller ones, together {sum(part.nats for part in rest):+.3f}"
            sheet.put(0, rows + 1, cells.fit(words, sheet.width), look.faint)
        if self.against is None:
            sheet.put(0, rows + 2, cells.fit("a logit has a free constant: f compares it", sheet.width), look.faint)

    def _silenced(self, at: Reading, sheet: Canvas) -> int:
        look = sheet.look
        sheet.heading(0, "SILENCED", "it wrote · the logit changes by")
        if not self.silences:
            sheet.put(0, 1, cells.fit("x silences the heads that wrote most", sheet.width), look.faint)
            return 3
        wrote = {part.head: part.nats for part in self.parts(at)}
        points: list[tuple[float, float]] = []
        heads = self.silenced(at)
        for y, wanted in enumerate(heads, 1):
            _, layer, head, _ = wanted.args
            sheet.put(0, y, f"head {layer}.{head}", look.text, size=12)
            value = wrote[layer, head]
            sheet.put(12, y, f"{value:+8.3f}", look.text)
            gone = at.answer(wanted)
            if gone is not None:
                points.append((value, gone.effect))
                sheet.put(22, y, f"{gone.effect:+8.3f}", look.bar)
            else:
                sheet.put(25, y, cells.fit(at.refused.get(wanted, "…"), sheet.width - 25), look.faint)
        y = len(heads) + 1
        spread = np.std(points, axis=0) if points else np.zeros(2)
        if len(points) > 2 and spread.all():
            r = float(np.corrcoef(np.transpose(points))[0, 1])
            words = f"r = {r:.2f}; −1 where what is written is what is missed"
            sheet.put(0, y, cells.fit(words, sheet.width), look.faint)
        return y + 2

    def _patches(self, at: Reading, sheet: Canvas) -> None:
        """Where the answer comes back: the clean text's activations in the other one, layers downwards."""
        look = sheet.look
        sheet.heading(0, "PATCHES", f"of the {self.of}: what each brings back")
        if self.corrupted is None:
            words = "p takes another text of as many tokens, with another answer: France for Italy"
            for y, part in enumerate(fold(words, sheet.width), 1):
                sheet.put(0, y, part, look.faint)
            return
        wanted = self.patched(at, self.corrupted)
        patching = at.answer(wanted)
        if patching is None:
            told(sheet, 1, at, wanted)
            return
        layers, t = patching.effects.shape
        heads = patching.part == "heads"
        rows = min(layers, sheet.height - 6)
        size = max(min((sheet.width - 5) // t, 4), 1)
        columns = min(t, sheet.width - 5)
        left = t - columns
        for i in range(columns):
            if heads:
                if not i % 5 or size > 2:
                    sheet.put(5 + size * i, 1, str(left + i), look.faint)
                continue
            other = patching.ids[left + i]
            differs = other != at.ids[left + i]
            first = at.name(other).lstrip("·")[:1] or sheet.glyphs.dot
            first = first if cells.width(first) == 1 else sheet.glyphs.dot
            sheet.put(5 + size * i, 1, first, look.accent if differs else look.faint)
        for y in range(rows):
            layer = y * layers // rows
            sheet.put(0, 2 + y, f"{layer:>3}", look.faint)
            for i in range(columns):
                sheet.tile(5 + size * i, 2 + y, float(patching.effects[layer, left + i]), size=size)
        y = 3 + rows
        best = np.unravel_index(int(np.argmax(patching.effects)), patching.effects.shape)
        where = f"head {best[0]}.{best[1]}" if heads else f"layer {best[0]} at {at.name(patching.ids[int(best[1])])}"
        sheet.words(
            0, y, (f"{at.name(patching.answer)} over {at.name(patching.foil)}  ", look.chosen),
            (f"{patching.clean:.1f} here, {patching.corrupted:.1f} there", look.faint),
        )  # fmt: skip
        words = f"most, {100 * patching.effects[best]:.0f} %, by {where}"
        sheet.put(0, y + 1, cells.fit(words, sheet.width), look.faint)
        if (correlation := patching.correlation) is not None:
            words = f"the gradient's estimate correlates by {correlation:.2f}"
            sheet.put(0, y + 2, cells.fit(words, sheet.width), look.faint)
