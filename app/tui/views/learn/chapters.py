"""`ChapterList`: the chapters of a course, how far each is, and beside them what the chosen one is about."""

from collections.abc import Sequence

from likely.app.lessons.chapter import Chapter
from likely.app.lessons.expression import filled
from likely.app.lessons.lesson import Standing
from likely.app.lessons.tutor import Tutor
from likely.app.tui.base.drawing.canvas import Canvas, fold
from likely.app.tui.base.drawing.line_widget import Line, LineWidget
from likely.app.tui.base.text import cells

SIDE, WIDE = 43, 100  # columns of what stands beside, of a list that has it

WORTH = "A wrong guess is worth most: it says what was taken for granted."


class ChapterList(LineWidget):
    """A row or two a chapter, one of them chosen."""

    def __init__(self, tutor: Tutor) -> None:
        super().__init__()
        self.tutor = tutor
        chapters = tutor.course.chapters
        self.at = next((i for i, each in enumerate(chapters) if self._is_next(each)), 0)

    def _is_next(self, chapter: Chapter) -> bool:
        """Whether to go on there: the chapter that was open last, else the first that is not done."""
        last = self.tutor.last
        return chapter.number == last if last else not self.tutor.standing(chapter).stages(chapter)[2]

    @property
    def chosen(self) -> Chapter:
        return self.tutor.course.chapters[self.at]

    def move(self, by: int) -> None:
        self.at = min(max(self.at + by, 0), len(self.tutor.course.chapters) - 1)
        self.redraw()

    def lines(self, width: int, height: int) -> Sequence[Line]:
        sheet = Canvas(width, height, self.look, self.glyphs)
        wide = width >= WIDE
        list_width = width - SIDE - 1 if wide else width
        self._list(sheet.part(1, 1, list_width - 2))
        if wide:
            sheet.part(list_width, 0).rule(0)
            self._beside(sheet.part(list_width + 2, 1, SIDE - 3))
        return sheet.lines()

    def _list(self, sheet: Canvas) -> None:
        look, chapters = sheet.look, self.tutor.course.chapters
        words = f"{len(chapters)} chapters, one object."
        sheet.words(0, 0, (words, look.text), ("  p(x) = Π p(x_i | x_<i)", look.chosen))
        sheet.right(0 if sheet.width > 76 else 1, "predict · do · check  ", look.faint)
        parts = [each.part for each in chapters]
        heads = sum(part != before for part, before in zip(parts, ["", *parts], strict=False))
        rows = 2 if 2 * len(chapters) + 2 * heads + 2 <= sheet.height else 1
        gaps = 2 if rows * len(chapters) + 2 * heads + 2 <= sheet.height else 0
        body = sheet.part(0, 2)
        first = max(0, (self.at + 1) * rows - body.height) if not gaps else 0
        y = -first
        for index, chapter in enumerate(chapters):
            if gaps and chapter.part and chapter.part != (chapters[index - 1].part if index else ""):
                y += index > 0
                body.put(0, y, chapter.part.upper(), look.heading)
                y += 1
            self._row(body, y, chapter, index == self.at, rows)
            y += rows

    def _row(self, sheet: Canvas, y: int, chapter: Chapter, chosen: bool, rows: int) -> None:
        look, standing = sheet.look, self.tutor.standing(chapter)
        ground = look.row if chosen else None
        for row in range(y, y + rows):
            if chosen and row >= 0:
                sheet.put(0, row, " " * sheet.width, ground)
                sheet.put(0, row, "▌", look.row + look.chosen)
        if y < 0:
            return
        dots = stages(standing, chapter)
        sheet.put(2, y, f"{chapter.number:>3}", ground + look.accent if ground else look.accent)
        room = sheet.width - 6 - 10
        ink = ground + look.text if ground else look.text
        sheet.put(6, y, cells.fit(chapter.title, room), ink)
        for place, (sign, name) in enumerate(dots):
            own = getattr(look, name)
            sheet.put(sheet.width - 8 + 2 * place, y, sign, ground + own if ground else own)
        if rows == 2:
            faint = ground + look.faint if ground else look.faint
            sheet.put(6, y + 1, cells.fit(chapter.sentence, sheet.width - 7), faint)

    def _beside(self, sheet: Canvas) -> None:
        """The chosen chapter, and the numbers that a person has by now."""
        look, chapter = sheet.look, self.chosen
        standing = self.tutor.standing(chapter)
        sheet.words(0, 0, (f"{chapter.number}  ", look.accent), (chapter.title, look.text))
        sheet.right(0, f"{chapter.minutes} min", look.faint)
        y = 2
        for words in fold(chapter.sentence, sheet.width):
            sheet.put(0, y, words, look.text)
            y += 1
        y += 1
        for line in chapter.formula[:3] if standing.begun else chapter.formula[:2]:
            sheet.put(0, y, cells.fit(filled(line, chapter.numbers, "…"), sheet.width), look.faint)
            y += 1
        goes = "go on where you were" if standing.begun else "begin: guess first, then see, then reckon"
        for at, part in enumerate(fold(goes, sheet.width - 2)):
            y += 1
            sheet.words(0, y, ("  " if at else "⏎ ", look.accent), (part, look.text))
        y += 2
        sheet.heading(y, "YOUR NUMBERS", "kept for the last page")
        y += 1
        for each in self.tutor.course.chapters:
            for line in self.tutor.standing(each).yours:
                if line and y < sheet.height - 6:
                    sheet.put(0, y, f"{each.number:>2}", look.accent)
                    sheet.put(3, y, cells.fit(cells.clean(line), sheet.width - 3), look.text)
                    y += 1
        guesses = [self.tutor.standing(each).right for each in self.tutor.course.chapters]
        known = [right for right in guesses if right is not None]
        sheet.heading(y + 1, "GUESSES", f"right {sum(known)} of {len(known)}")
        for x, right in enumerate(known):
            sheet.put(2 * x, y + 2, "✓" if right else "✗", look.better if right else look.alarm)
        for below, part in enumerate(fold(WORTH, sheet.width), 3):
            sheet.put(0, y + below, part, look.faint)


def stages(standing: Standing, chapter: Chapter) -> list[tuple[str, str]]:
    """A dot for predict, do and check, and its ink: full, passed, open."""
    past = standing.stages(chapter)
    dots = [("●", "better") if each else ("○", "cut") for each in past]
    return [*dots, ("✓", "better")] if all(past) else dots
