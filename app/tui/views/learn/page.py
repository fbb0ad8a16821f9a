"""`PageOfNumbers`: a person's own numbers in every formula; `Sentences`: what each chapter says, all on one page."""

from collections.abc import Sequence

from likely.app.lessons import page
from likely.app.lessons.chapter import Chapter
from likely.app.lessons.tutor import Tutor
from likely.app.tui.base.drawing.canvas import Canvas, fold
from likely.app.tui.base.drawing.line_widget import Line, LineWidget
from likely.app.tui.base.text import cells

MAPS = (  # of the one object, what each does, and the chapters about it
    ("tokenizer", "cuts x into x_1 … x_n", "1"), ("model", "gives p(x_i | x_<i)", "2 3 4 5"),
    ("decoder", "turns p into q, q into x", "6 7 11"), ("metric", "says how far q is from p", "8 9 10 12"),
)  # fmt: skip
WIDE = 100


class PageOfNumbers(LineWidget):
    """A row a formula, one of them chosen."""

    def __init__(self, tutor: Tutor) -> None:
        super().__init__()
        self.tutor, self.at = tutor, 0

    @property
    def chosen(self) -> Chapter:
        line = page.lines(self.tutor)[self.at]
        found = self.tutor.course.number(line.number)
        assert found is not None
        return found

    def move(self, by: int) -> None:
        self.at = min(max(self.at + by, 0), len(page.lines(self.tutor)) - 1)
        self.redraw()

    def lines(self, width: int, height: int) -> Sequence[Line]:
        sheet, look = Canvas(width, height, self.look, self.glyphs), self.look
        found, wide = page.lines(self.tutor), width >= WIDE
        own = f"  {self.tutor.model or 'no model'} · measured by you, on this machine"
        sheet.words(1, 0, (page.FORMULAS, look.text), (own, look.faint))
        left = 5, 22, 22 + (width - 29) * 45 // 100
        if wide:
            for x, head in zip(left, ("chapter", "formula", "yours"), strict=True):
                sheet.put(x, 2, head, look.faint)
            sheet.right(2, "guessed ", look.faint)
        top, room = (3, height - 12) if height >= 34 else (2, height - 4)
        first = max(0, self.at - room + 1)
        for y, line in enumerate(found[first : first + room], top):
            chosen = first + y - top == self.at
            before = found[first + y - top - 1].number if first + y - top else 0
            if chosen:
                sheet.put(0, y, " " * width, look.row)
            grounded = {name: look.row + getattr(look, name) if chosen else getattr(look, name) for name in INKS}
            sheet.put(1, y, f"{line.number:>2}" if line.number != before else "  ", grounded["accent"])
            sheet.put(left[0], y, cells.fit(line.name, 16), grounded["text"])
            if wide:
                sheet.put(left[1], y, cells.fit(line.formula, left[2] - left[1] - 1), grounded["faint"])
            x = left[2] if wide else left[1]
            ink = grounded["cut" if line.value == page.OPEN else "chosen"]
            sheet.put(x, y, cells.fit(cells.clean(line.value), width - x - 6), ink)
            right = {True: "better", False: "alarm", None: "cut"}[line.right]
            sheet.put(width - 4, y, line.mark, grounded[right])
        end = top + min(room, len(found)) + 1
        if height >= 34:
            self._object(sheet.part(0, end))
        sheet.put(1, height - 2, page.sums(self.tutor), look.text)
        sheet.put(1, height - 1, cells.fit("the wrong guesses are where you learned", width - 2), look.faint)
        return sheet.lines()

    @staticmethod
    def _object(sheet: Canvas) -> None:
        """The one object, and which chapters are about which of its maps."""
        look, size = sheet.look, (sheet.width - 2) // len(MAPS)
        sheet.words(1, 0, ("ONE OBJECT", look.heading), ("  p(x) = Π p(x_i | x_<i)", look.text))
        for index, (name, does, chapters) in enumerate(MAPS):
            x = 1 + index * size
            sheet.words(x, 2, (name, look.model), (f"  {chapters}", look.accent))
            sheet.put(x + size - 4, 2, "→" if index + 1 < len(MAPS) else "", look.rule)
            sheet.put(x, 3, cells.fit(does, size - 1), look.faint)


INKS = ("accent", "text", "faint", "cut", "chosen", "better", "alarm")


class Sentences(LineWidget):
    """The sentences of all chapters, for who is in a hurry."""

    def __init__(self, tutor: Tutor) -> None:
        super().__init__()
        self.tutor = tutor

    def lines(self, width: int, height: int) -> Sequence[Line]:
        sheet, look = Canvas(width, height, self.look, self.glyphs), self.look
        chapters = self.tutor.course.chapters
        told = [(each, fold(each.sentence, max(width - 24, 16))) for each in chapters]
        gaps = int(sum(len(rows) + 1 for _, rows in told) < height)
        y = gaps
        for chapter, rows in told:
            sheet.words(1, y, (f"{chapter.number:>2}  ", look.accent), (cells.fit(chapter.title, 16), look.heading))
            for row in rows:
                sheet.put(22, y, row, look.text)
                y += 1
            y += gaps
        return sheet.lines()
