"""Sheet of one word: why it was said and not its foil. Table, earlier words, rank by layer, parts that wrote it.

It draws a `SaidToken`, asks the engine for what that lacks once the cursor rests, and says by messages where a
person wants to go. Where the screen is narrow it stands in two columns over the transcript, of which one row stays.
"""

import math
from collections.abc import Hashable, Sequence
from typing import Any, ClassVar

import numpy as np
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.timer import Timer

from likely.app.jobs import calls
from likely.app.jobs.calls import call
from likely.app.jobs.interpretability import WhyEnded
from likely.app.jobs.worker import Failed
from likely.app.store import sampling_text
from likely.app.tui.base.drawing.canvas import Canvas, chart, fold, rank_labels
from likely.app.tui.base.drawing.line_widget import Line, LineWidget
from likely.app.tui.base.text import cells
from likely.app.tui.base.theme import bar, full_at
from likely.app.tui.chat.candidates import CandidateTable, bits
from likely.app.tui.chat.inspecting.inspected_token import SaidToken, WhyAnswer, said_token
from likely.app.tui.chat.inspecting.inspection import Subject
from likely.app.tui.widgets.host import host
from likely.app.tui.widgets.lists.candidates import percent
from likely.app.tui.widgets.lists.overlays import Ask
from likely.app.words import heat
from likely.app.words.units import bits as in_bits
from likely.engine.decode.loop.control import RunControl
from likely.engine.inside.why import NamedToken, Reason, Why, WrittenPart

BESIDE = 70  # columns from which on the parts stand in two columns
PARTS, FEWEST, SUMS = 6, 2, 3  # parts of the model with a row of their own, and rows of sums
NAMED = 3  # words whose loss is said in figures
SETTLE_S = 0.12  # how long the cursor rests before the engine is asked
LEAST = 27  # rows of all parts together, in one column
NAME = 16  # cells of a part's name
Spot = tuple[str, int]  # a line that can be picked: its section, and which of its rows


class WhySheet(LineWidget, can_focus=True):
    """The word that is looked at; `explained` is None while there is none."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "pick(-1)", "Line", id="why.up"),
        Binding("down", "pick(1)", "Line", id="why.down"),
        Binding("left", "token(-1)", "Token", id="why.previous"),
        Binding("right", "token(1)", "Token", id="why.next"),
        Binding("enter", "open", "Open", id="why.open"),
        Binding("f", "swap", "Swap", id="why.swap"),
        Binding("slash", "name", "Name a foil", id="why.name"),
        Binding("w,escape", "close", "Close", id="why.close"),
    ]

    class Opened(Message):
        """A person wants the page behind a line: `alternatives`, `causes`, `lens` or `attention` of a head."""

        def __init__(self, page: str, head: tuple[int, int] | None = None) -> None:
            super().__init__()
            self.page, self.head = page, head

    class PanelAsked(Message):
        """A person has seen enough: the panel is wanted again."""

    class Explained(Message):
        """All was found of why the token at `key` was said."""

        def __init__(self, key: Hashable, found: Reason) -> None:
            super().__init__()
            self.key, self.found = key, found

    class KeysChanged(Message):
        """Something else can be done with its keys."""

    class TokenAsked(Message):
        """A person wants the token before, or the next."""

        def __init__(self, by: int) -> None:
            super().__init__()
            self.by = by

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.explained: SaidToken | None = None
        self._waits = ""  # why nothing is asked for
        self._instead: CandidateTable | None = None  # a word that has no distribution yet
        self._spots: list[Spot] = []
        self._picked: Spot = ("table", 0)
        self._shown = PARTS
        self._asked, self._coming = RunControl(), WhyAnswer()  # the answer that is under way
        self._settle: Timer | None = None

    def show(self, subject: Subject) -> None:
        """Explain what is looked at now; what was asked of another word is broken off."""
        before, self.explained = self.explained, said_token(subject, self.explained)
        self._waits, self._instead = subject.waits, subject.instead
        if self.explained is not before:
            self._asked.cancel()
        if self._settle is not None:
            self._settle.stop()
        self._settle = self.set_timer(SETTLE_S, self.ask)
        self.redraw()

    def forget(self) -> None:
        """Other tokens have the same places from now on, or the model computes something else."""
        self._asked.cancel()
        self.explained = None

    def ask(self) -> None:
        """Ask the engine for what is not known yet of the two words."""
        explained = self.explained
        if explained is None or explained.prompt is None or not explained.model or not self.display:
            return
        look, answer = explained.look(), explained.answer
        if answer.ended or answer.refused or answer is self._coming:
            return
        self._asked.cancel()
        self._asked = control = RunControl()
        self._coming = explained.answers[look] = WhyAnswer()

        def answered(job: int, events: list[Any]) -> None:
            for event in events:
                explained.take(look, event)
                if isinstance(event, WhyEnded) and (found := explained.answers[look].whole) is not None:
                    self.post_message(self.Explained(explained.key, found))
            if explained is self.explained:
                self._changed()

        host(self).engine.submit(call(calls.look, explained.model, explained.prompt, look, control), answered)

    def _changed(self) -> None:
        """Draw it anew, and the keys that go with it."""
        self.redraw()
        self.post_message(self.KeysChanged())

    # -- keys --------------------------------------------------------------------------------------------------------

    def action_pick(self, by: int) -> None:
        if self._spots:
            at = self._spots.index(self._picked) if self._picked in self._spots else 0
            self._picked = self._spots[min(max(at + by, 0), len(self._spots) - 1)]
            self._changed()

    def action_token(self, by: int) -> None:
        self.post_message(self.TokenAsked(by))

    def action_swap(self) -> None:
        if self.explained is not None and self.explained.swap():
            self.ask()
            self._changed()

    def action_name(self) -> None:
        """Have a person name the foil."""
        explained, facts = self.explained, host(self).engine.current
        model = facts.name if facts is not None else ""

        def typed(word: str | None) -> None:
            if explained is not None and word and word.strip():
                host(self).engine.submit(call(calls.named, model, word), named)

        def named(job: int, events: list[Any]) -> None:
            for event in events:
                if isinstance(event, Failed):
                    host(self).say(event.line, alarm=True)
                elif isinstance(event, NamedToken) and explained is not None and explained is self.explained:
                    same = "" if explained.compare(event.token) else "that is the word itself: name another one"
                    host(self).say(event.note or same)
                    self.ask()
                    self._changed()

        if not model:
            host(self).say("a foil is named by a model's tokens: /model loads one")
        elif explained is not None:
            self.app.push_screen(Ask(f"compare {explained.names.name(explained.said)} with which word?"), typed)

    def action_close(self) -> None:
        self.post_message(self.PanelAsked())

    def action_open(self) -> None:
        self.post_message(self.Opened(*self.door()))

    def door(self) -> tuple[str, tuple[int, int] | None]:
        """The page behind the line that is picked."""
        section, row = self._picked
        if section == "parts":
            part = self._part(row)
            return ("attention", part.head) if part is not None and part.head is not None else ("causes", None)
        return {"table": "alternatives", "words": "causes", "rose": "lens"}[section], None

    def hint(self) -> tuple[tuple[str, str], ...]:
        """The keys, as things are."""
        page, head = self.door()
        door = f"Open {page}" + (f" {head[0]}.{head[1]}" if head is not None else "")
        explained = self.explained
        other = (
            explained.names.name(explained.other)
            if explained is not None and explained.other is not None
            else "its foil"
        )
        return (
            ("↑↓", "Line"), ("⏎", door), ("f", f"Swap with {other}"), ("/", "Name a foil"), ("← →", "Token"),
            ("w", "Close"),
        )  # fmt: skip

    def _part(self, row: int) -> WrittenPart | None:
        parts = self.explained.parts(self._shown) if self.explained is not None else []
        return parts[row] if row < len(parts) else None

    # -- drawing -----------------------------------------------------------------------------------------------------

    def lines(self, width: int, height: int) -> Sequence[Line]:
        sheet, explained = Canvas(width, height, self.look, self.glyphs), self.explained
        self._spots = []
        if explained is None:
            sheet.put(0, 0, "WHY", self.look.heading)
            if (word := self._instead) is not None:
                sheet.words(5, 0, (word.name, self.look.cursor), (f"  {word.numbers}", self.look.faint))
                return sheet.lines()
            for y, line in enumerate(fold("no word is looked at: arrow keys in the text move there", width - 2), 1):
                sheet.put(2, y, line, self.look.faint)
            return sheet.lines()
        if width >= BESIDE:
            self._text(explained, sheet.part(0, 0, width, 1))
            half = width // 2
            left, right = sheet.part(0, 2, half - 2), sheet.part(half + 1, 2)
            sheet.part(0, 2).rule(half - 1)
            y = self._table(explained, left)
            self._words(explained, left.part(0, y + 1), left.height - y - 3)
            y = self._rose(explained, right, max(min(5, right.height - 9), 2))
            self._wrote(explained, right.part(0, y + 1))
            return sheet.lines()
        spare = height - LEAST
        if spare < 0:  # one half of it at a time
            if self._picked[0] in ("table", "words"):
                y = self._table(explained, sheet) + 1
                self._words(explained, sheet.part(0, y), sheet.height - y - 2)
                self._spots.append(("rose", 0))
            else:
                self._spots.append(("words", 0))
                y = self._rose(explained, sheet, 2)
                self._wrote(explained, sheet.part(0, y))
            return sheet.lines()
        y = self._table(explained, sheet) + 1
        y += self._words(explained, sheet.part(0, y), 3 + max(min(spare // 3, 3), 0)) + 1
        y += self._rose(explained, sheet.part(0, y), 3 + max(min(spare // 4, 2), 0)) + 1
        self._wrote(explained, sheet.part(0, y))
        return sheet.lines()

    def _ink(self, spot: Spot, ink: Style) -> Style:
        """The ink of a line, which can be picked from now on."""
        if spot not in self._spots:
            self._spots.append(spot)
        return ink + self.look.row if spot == self._picked and self.has_focus else ink

    def _heading(self, sheet: Canvas, y: int, spot: Spot, word: str, about: str, number: str = "") -> None:
        sheet.heading(y, word, cells.fit(about, max(sheet.width - len(word) - 2, 0)), number)
        ink = self._ink(spot, self.look.heading)
        sheet.put(0, y, word, ink)

    def _table(self, explained: SaidToken, sheet: Canvas) -> int:
        """Both words, with what the model gave them and what they were drawn with; what was cut; under what."""
        look, glyphs, names = sheet.look, sheet.glyphs, explained.names
        target = explained.target if explained.target is not None else explained.said
        numbers = "" if explained.logprob is None else f"{bits(-explained.logprob)} bits  rank {explained.rank}"
        name = cells.fit(names.name(target), max(sheet.width - 26, 6))
        sheet.put(0, 0, "WHY", self._ink(("table", 0), look.heading))
        sheet.words(5, 0, (name, look.cursor), (f"  {'not said' if explained.swapped else numbers}", look.faint))
        if self.size.width < BESIDE:  # else it stands at the end of the row of text
            sheet.right(0, explained.place, look.faint)
        drawn = explained.recipe is not None
        sheet.right(1, "raw %" if not drawn else "raw %  drawn %", look.faint)
        rows = list(explained.rows())
        scale, end = max((row.before for row in rows), default=0.0) or 1.0, sheet.width - (16 if drawn else 8)
        size = end - 21 if end - 21 >= FEWEST else 0  # of a bar
        if size:
            sheet.put(2, 1, full_at(scale), look.faint)
        y = 2
        for row in rows:
            chosen = row.token == target
            ink = look.chosen if chosen else look.text
            sheet.put(0, y, f"{glyphs.chosen if chosen else ' '} ", ink)
            sheet.put(2, y, row.name, ink, size=11)
            sheet.right(y, explained.rank_of(row.token), look.faint, end=19)
            fill = look.chosen_bar if chosen else look.bar
            sheet.put(20, y, bar(row.before / scale, size, glyphs) if size else "", fill)
            figures = percent(row.before).rjust(7)
            if drawn:
                after = row.after if row.drawn is None else row.drawn
                figure = "cut" if row.removed_by and not row.drawn else "?" if after is None else percent(after)
                figures += figure.rjust(9)
            sheet.right(y, figures, ink)
            y += 1
        table = explained.table
        if drawn and table is not None and table.kept[1] and table.kept[1] < table.vocab:
            cut = f"{glyphs.cut} {table.vocab - int(table.kept[1]):,} words"
            sheet.put(0, y, cells.fit(cut, sheet.width - 17), look.faint)
            sheet.right(y, f"{percent(max(1 - table.mass[1], 0.0))}{'cut'.rjust(9)}", look.faint)
            y += 1
        if explained.recipe is not None:
            under = " · ".join(
                filter(None, (sampling_text.words(explained.recipe), sampling_text.adapters(explained.recipe)))
            )
            for line in fold(f"drawn under {under}", sheet.width):
                sheet.put(0, y, line, look.faint)
                y += 1
        if explained.answer.refused or (self._waits and not explained.answer.ended):
            for line in fold(explained.answer.refused or self._waits, sheet.width):
                sheet.put(0, y, line, look.faint)
                y += 1
        return y

    def _text(self, explained: SaidToken, sheet: Canvas) -> None:
        """One row of the text, up to the word that is looked at."""
        why = explained.answer.why
        sheet.right(0, explained.place, sheet.look.faint)
        room = sheet.width - len(explained.place) - 2
        word = cells.fit(explained.names.running(explained.said), room)  # a token may be wider than the row
        before = "".join(explained.names.running(id) for id in (why.ids[-60:] if why is not None else ()))
        room -= cells.width(word)
        while cells.width(before) > room:
            before = before[max(len(before) // 20, 1) :]
        sheet.words(0, 0, (before, sheet.look.faint), (word, sheet.look.cursor))

    def _words(self, explained: SaidToken, sheet: Canvas, most: int) -> int:
        """The end of the text before the word, brighter where leaving a token out takes more from it."""
        look, answer = sheet.look, explained.answer
        self._heading(sheet, 0, ("words", 0), "EARLIER WORDS", "bits lost without each")
        why, y = answer.why, 1
        if why is None:
            return self._waiting(explained, sheet, y)
        lost = {omission.start: in_bits(omission.nats) for omission in answer.words()}
        rows: list[list[int]] = [[]]
        used = 0
        for at in range(len(why.ids) - 1, -1, -1):  # backwards: what stands next to the word is shown first
            size = cells.width(explained.names.running(why.ids[at]))
            if used + size > sheet.width and rows[-1]:
                if len(rows) >= most:
                    break
                rows.append([])
                used = 0
            rows[-1].append(at)
            used += size
        for row in reversed(rows):
            x = 0
            for at in reversed(row):
                x = sheet.put(x, y, explained.names.running(why.ids[at]), self._lost(lost.get(at)))
            y += 1
        ranked, shown, x = list(lost.items()), 0, 0  # the most first
        for at, value in ranked[:NAMED]:
            name, number = cells.fit(explained.names.running(why.ids[at]).strip() or "␣", 10), f" {value:.1f}   "
            if value < 0.5 or x + cells.width(name + number) > sheet.width - 11:  # room for how many are measured
                break
            x, shown = sheet.words(x, y, (name, look.text), (number, look.chosen)), shown + 1
        rest = f"{len(lost)} measured"
        if answer.ended:
            rest = f"rest <{max(math.ceil(ranked[shown][1]), 1)}" if ranked[shown:] else ""
        if x + cells.width(rest) <= sheet.width:
            sheet.put(x, y, rest, look.faint)
        return y + 1

    def _lost(self, lost: float | None) -> Style:
        """The ink of a token by the bits that are lost without it; not measured yet, faint."""
        if lost is None:
            return self.look.faint
        level = heat.level(lost)
        return self.look.text + self.look.heat[level] if level else self.look.text

    def _rose(self, explained: SaidToken, sheet: Canvas, rows: int) -> int:
        """Rank by layer, the foil's grey."""
        why = explained.answer.why
        if why is None:
            self._heading(sheet, 0, ("rose", 0), "ROSE", "rank by layer")
            return self._waiting(explained, sheet, 1)
        ranks = -np.log10(why.ranks.astype(float))
        number = f"{why.ranks[0, 0]:,} → {why.ranks[-1, 0]:,}"
        self._heading(sheet, 0, ("rose", 0), "ROSE", "rank by layer", number)
        labels = rank_labels(int(why.ranks.max()))
        curves = [(ranks[:, 1], sheet.look.bar_cut), (ranks[:, 0], sheet.look.chosen_bar)]
        chart(sheet.part(0, 1, None, rows + 1), list(range(len(ranks))), curves, None, labels)
        return rows + 2

    def _wrote(self, explained: SaidToken, sheet: Canvas) -> None:
        """Parts to the right of a line where they wrote the target, to its left where they wrote the foil."""
        look, why = sheet.look, explained.answer.why
        if why is None:
            self._heading(sheet, 0, ("parts", 0), "WROTE IT", "bits")
            self._waiting(explained, sheet, 1)
            return
        self._shown = min(max(sheet.height - SUMS - 2, FEWEST), PARTS)  # the sums of the rest always have their rows
        parts = explained.parts(self._shown)
        total = in_bits(sum(part.nats for part in parts))
        sheet.heading(0, "WROTE IT", self._over(explained, why, sheet.width - 18), _signed(total))
        largest = max(abs(part.nats) for part in parts) or 1.0
        half = max((sheet.width - NAME - 9) // 2, 2)
        for y, part in enumerate(parts, 1):
            spot = ("parts", y - 1)
            ink = self._ink(spot, look.text if part.head or part.name.startswith("mlp") else look.faint)
            picked = spot == self._picked and self.has_focus
            sheet.put(0, y, "▌" if picked else " ", look.chosen)
            sheet.put(1, y, part.name, ink, size=NAME - 1)
            sheet.signed(NAME, y, part.nats / largest, half)
            sheet.right(y, _signed(in_bits(part.nats)), ink)
        section, row = self._picked
        head = parts[row].head if section == "parts" and row < len(parts) else None
        head = head or next((part.head for part in parts if part.head is not None), None)
        y = min(len(parts) + 2, sheet.height - 1)
        if head is not None and y > len(parts):
            x = sheet.words(0, y, (f"{head[0]}.{head[1]} reads ", look.faint))
            for at, weight in why.reads(*head):
                name = explained.names.name(why.ids[at])  # with its blank: "and" alone is read as a word of ours
                x = sheet.words(x, y, (f"{name} ", look.text), (f"{100 * weight:.0f} %  ", look.faint))

    @staticmethod
    def _over(explained: SaidToken, why: Why, room: int) -> str:
        """The words that are compared, in so many cells: of two long ones each is cut."""
        target, foil = explained.names.name(why.target), explained.names.name(why.foil)
        room -= len("bits,  over ")
        foil = cells.fit(foil, max(room - cells.width(target), room // 2))
        return f"bits, {cells.fit(target, room - cells.width(foil))} over {foil}"

    def _waiting(self, explained: SaidToken, sheet: Canvas, y: int) -> int:
        if not explained.answer.refused and not self._waits:
            sheet.put(0, y, "…", sheet.look.faint)
        return y + 1


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")
