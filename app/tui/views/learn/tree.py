"""`TreePicture`: one tree of texts and who takes which branch: the likeliest letter, a beam, a draw, a vote.

The tree is that of the six letters, where every text can be listed (`engine.proofs.searches`).
"""

from collections.abc import Callable, Mapping
from typing import ClassVar

import numpy as np
from textual.binding import Binding, BindingType

from likely.app.lessons.expression import Value
from likely.app.tui.base.drawing.canvas import Canvas
from likely.app.tui.base.text.formula import Formula
from likely.app.tui.base.theme import bar
from likely.app.tui.views.learn.picture import LessonPicture
from likely.engine.measure.proofs.enumeration import END, LETTERS, MOST, TEXTS, Ids, after, probabilities, spelled
from likely.engine.measure.proofs.learned import drawn
from likely.engine.measure.proofs.searches import beam, chance, rank, votes

WIDEST = 12  # of a beam
CHILDREN = 3  # letters behind a beginning that are shown where there is room, and those that somebody takes
TREE, WHO, NUMBER = 12, 22, 11  # cells
WAYS = 11  # rows of the ways under the tree
ANSWERS: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("how many letters has the text?", lambda text: str(len(text))),
    ("which is its last letter?", lambda text: text[-1]),
    ("is there an e in it?", lambda text: "yes" if "e" in text else "no"),
)


class TreePicture(LessonPicture):
    """Beginnings with their p, what a beam keeps and drops, and five ways to have a text of it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("plus", "widen(1)", "Wider", id="tree.wider", tooltip="a beam of one beginning more"),
        Binding("minus", "widen(-1)", "Narrower", id="tree.narrower", tooltip="a beam of one beginning less"),
        Binding("right", "widen(1)", "Wider", id="tree.right", tooltip="a beam of one beginning more"),
        Binding("left", "widen(-1)", "Narrower", id="tree.left", tooltip="a beam of one beginning less"),
        Binding("s", "step", "Step", id="tree.step", tooltip="the beam a letter further; then from the beginning"),
        Binding("space", "draw", "Draw", id="tree.draw", tooltip="a text drawn from p"),
        Binding("v", "vote", "Vote", id="tree.vote", tooltip="the ways, and another answer that is counted"),
    ]
    KEYS: ClassVar[tuple[tuple[str, str], ...]] = (
        ("+ −", "Width"), ("s", "Step"), ("space", "Draw"), ("v", "Vote"),
    )  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.width_, self.step, self.draws, self.counted = 1, MOST, 0, 0

    @property
    def beam_text(self) -> Ids:
        return beam(self.width_).text

    @property
    def said(self) -> tuple[str, dict[str, float]]:
        """The question that is voted on, and the mass of each answer."""
        words, answer = ANSWERS[max(self.counted - 1, 0) % len(ANSWERS)]
        return words, votes(answer)

    def numbers(self) -> Mapping[str, Value]:
        best, greedy, found = TEXTS[0], beam(1).text, self.beam_text
        answer, mass = next(iter(self.said[1].items()))
        return {
            "width": float(self.width_), "greedy": spelled(greedy), "p_greedy": chance(greedy), "best": spelled(best),
            "p_best": chance(best), "beam": spelled(found), "p_beam": chance(found), "beam_rank": float(rank(found)),
            "draws": float(self.draws), "answer": answer, "p_answer": mass,
        }  # fmt: skip

    # -- keys --------------------------------------------------------------------------------------------------------

    def action_widen(self, by: int) -> None:
        self.width_, self.step = min(max(self.width_ + by, 1), WIDEST), MOST
        self.redraw()

    def action_step(self) -> None:
        self.step = (self.step + 1) % (MOST + 1)
        self.redraw()

    def action_draw(self) -> None:
        self.draws += 1
        self.redraw()

    def action_vote(self) -> None:
        self.counted += 1
        self.redraw()

    def formula(self) -> Formula | None:
        text = self.beam_text
        shares = " · ".join(f"{after(text[:at])[token]:.2f}" for at, token in enumerate(text))
        return Formula("beam", ((f"p({spelled(text)}) = {shares} = ", False), (f"{chance(text):.4f}", True)))

    # -- drawing -----------------------------------------------------------------------------------------------------

    def draw(self, sheet: Canvas) -> None:
        body, tall = sheet.part(1, 1 if sheet.height > 20 else 0, sheet.width - 2), sheet.height >= 30
        if not tall and self.counted:
            self._ways(body)
            return
        rows = body.height - (WAYS if tall else 0)
        self._tree(body.part(0, 0, None, rows))
        if tall:
            self._ways(body.part(0, rows))

    def _takers(self) -> dict[Ids, list[str]]:
        """Who takes each beginning, as far as the beam has gone."""
        found, takers = beam(self.width_), dict[Ids, list[str]]()
        for name, text in (("greedy", beam(1).text), ("likeliest", TEXTS[0])):
            takers.setdefault(text, []).append(name)
        for kept in found.kept[: self.step]:
            for begin in kept:
                takers.setdefault(begin, []).append("beam")
        for text in found.ended:
            if len(text) <= self.step:
                takers.setdefault(text, []).append("beam" if text == found.text else "beam: ended")
        return takers

    def _tree(self, sheet: Canvas) -> None:
        look, glyphs, takers = sheet.look, sheet.glyphs, self._takers()
        sheet.heading(0, "TREE", f"texts of at most {MOST} letters; a beam of {self.width_}, letter {self.step}")
        heads = ((NUMBER + WHO, "p so far"), (WHO, "p of text"), (WHO - 2 - len("who takes it"), "who takes it"))
        for back, head in heads:
            sheet.right(1, head, look.faint, end=sheet.width - back)
        room = sheet.width - TREE - WHO - 2 * NUMBER - 1
        body = sheet.part(0, 2)
        lines = self._branches((), "", takers, CHILDREN if body.height > 15 else 0)
        for y, (branch, begin) in enumerate(lines[: body.height]):
            who = takers.get(begin, [])
            taken = any(name.startswith(("beam", "likeliest")) for name in who)
            ink = look.chosen if "likeliest" in who else look.text if taken else look.faint
            x = body.put(0, y, branch, look.rule)
            body.put(x, y, LETTERS[begin[-1]], ink)
            p = chance(begin)
            top = float(after(()).max())
            body.put(TREE, y, bar(p / top, room, glyphs), look.bar if taken else look.bar_cut)
            body.right(y, f"{p:.3f}", ink, end=body.width - WHO - NUMBER)
            ends = len(begin) == MOST or begin[-1] == END
            text = p if ends else p * float(after(begin)[END])
            body.right(y, f"{text:.4f}", ink if ends else look.faint, end=body.width - WHO)
            lost = not who and len(begin) <= self.step and begin[:-1] in ((), *self._kept())
            body.put(body.width - WHO + 2, y, ", ".join(who) or (glyphs.fails if lost else ""),
                     ink if who else look.alarm)  # fmt: skip
        if len(lines) > body.height > 0:
            words = f"… {len(lines) - body.height + 1} more; v has the ways"
            body.put(0, body.height - 1, words, look.faint, size=body.width)

    def _kept(self) -> list[Ids]:
        return [begin for kept in beam(self.width_).kept for begin in kept]

    def _branches(
        self, begin: Ids, before: str, takers: Mapping[Ids, list[str]], children: int
    ) -> list[tuple[str, Ids]]:
        """The rows behind a beginning: how a row is branched, and the beginning that it is. `children` are shown of
        each, beside those that somebody takes."""
        ways = [(*begin, token) for token in range(len(LETTERS)) if after(begin)[token] > 0]
        ways.sort(key=chance, reverse=True)
        needed = {text[: len(begin) + 1] for text in takers}
        open_ = [way for at, way in enumerate(ways) if way in needed or at < (children if begin else len(ways))]
        rows = []
        for at, way in enumerate(open_):
            last, glyphs = at == len(open_) - 1, self.glyphs
            branch = before + (glyphs.last if last else glyphs.branch) if begin else ""
            rows.append((branch, way))
            inner = any(text[: len(way)] == way and len(text) > len(way) for text in takers)
            if way[-1] != END and len(way) < MOST and inner and len(way) < max(self.step, 1):
                rows += self._branches(
                    way, before + ("   " if last else glyphs.pipe) if begin else "", takers, children
                )
        return rows

    def _ways(self, sheet: Canvas) -> None:
        """Each way: its text, the cost, and how much it looked at."""
        look, found = sheet.look, beam(self.width_)
        p = probabilities()
        bits = float(-(p * np.log2(p)).sum())
        words, masses = self.said
        sheet.heading(0, "FIVE WAYS")
        for end, head in ((32, "p of text"), (41, "bits")):
            sheet.right(0, head, look.faint, end=end)
        sheet.put(44, 0, "looked at", look.faint)
        rows: list[tuple[str, Ids | None, str]] = [
            ("greedy", beam(1).text, f"{beam(1).read} beginnings"),
            (f"beam {self.width_}", found.text, f"{found.read} beginnings, number {rank(found.text)} of {len(TEXTS)}"),
            ("list", TEXTS[0], f"all {len(TEXTS)} texts"),
            ("draw", self._last_draw(), f"one text; {bits:.2f} bits in the mean" if self.draws else "space draws one"),
        ]
        for y, (name, text, about) in enumerate(rows, 1):
            sheet.put(0, y, name, look.text)
            sheet.put(12, y, spelled(text) if text else "", look.chosen if text == TEXTS[0] else look.text)
            if text:
                sheet.right(y, f"{chance(text):.4f}", look.text, end=32)
                sheet.right(y, f"{-np.log2(chance(text)):.2f}", look.text, end=41)
            sheet.put(44, y, about, look.faint, size=max(sheet.width - 44, 0))
        sheet.words(0, 5, ("vote".ljust(12), look.text), (words, look.faint))
        for y, (said, mass) in enumerate(list(masses.items())[: sheet.height - 7], 6):
            if y < WAYS - 1:
                sheet.put(12, y, said, look.text)
                sheet.put(16, y, bar(mass, 24, sheet.glyphs), look.bar)
                sheet.right(y, f"{100 * mass:.1f} %", look.text, end=50)
        if sheet.height < WAYS:
            return
        answer = next(iter(masses))
        own = dict(ANSWERS)[words](spelled(TEXTS[0]).rstrip(LETTERS[END]))
        told = f"The likeliest text says {own}; most of what is said says {answer}."
        sheet.put(0, WAYS - 1, told, look.faint)

    def _last_draw(self) -> Ids | None:
        """The last text that was drawn, the end behind it only where it has room for one."""
        if not self.draws:
            return None
        text = [int(token) for token in drawn(1, MOST, self.draws)[0]]
        return tuple(text[: text.index(END) + 1] if END in text else text)
