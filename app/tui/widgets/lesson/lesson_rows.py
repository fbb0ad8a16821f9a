"""Rows of a lesson: a page of 40 columns, or a drawer of eight rows, as words in inks. Knows no widget.

Nothing that the view measured is written before there is a guess.
"""

from likely.app.lessons.expression import filled, parts_of
from likely.app.lessons.lesson import CHECK, DO, END, PREDICT, Lesson
from likely.app.tui.base import keys
from likely.app.tui.base.drawing.canvas import fold
from likely.app.tui.base.text import cells
from likely.app.tui.base.theme import Glyphs
from likely.app.tui.widgets.caption import Words

INDENT = 2
Row = list[tuple[str, str]]
Rows = list[Row]
SIGNS = {True: (" ✓", "better"), False: (" ✗", "alarm"), None: ("", "text")}
WAIT = "it is being measured…"
STAGES = ((PREDICT, "PREDICT"), (DO, "DO"), (CHECK, "CHECK"))


def page(lesson: Lesson, dots: Words, width: int, height: int, glyphs: Glyphs, key: str = "") -> tuple[Rows, Rows]:
    """The rows above and below the field that is written in, as many as fit: parts that are done shrink first. `key`
    goes to the lesson where another part of the screen has the keys."""
    for brief in (False, True):
        above, below = _page(lesson, dots, width, glyphs, key, brief)
        if len(above) + len(below) + 1 <= height:
            break
    while len(above) + len(below) + 1 > height and [] in above:
        above.remove([])
    return above[-max(height - 1, 1) :], below


def _page(lesson: Lesson, dots: Words, width: int, glyphs: Glyphs, key: str, brief: bool) -> tuple[Rows, Rows]:
    chapter = lesson.chapter
    above: Rows = [heading(lesson, dots, width), [], *_plain(chapter.sentence, width, "text"), []]
    if not (brief and lesson.stage == CHECK and lesson.wrong):
        above += [[("FORMULA", "heading")], *_formula(lesson, width), []]
    below: Rows = []
    for stage, name in STAGES:
        part = [[(_mark(lesson, stage, glyphs), _ink(lesson, stage)), (f" {name}", _ink(lesson, stage))]]
        part += [] if brief and stage != lesson.stage else _part(lesson, stage, width - INDENT)
        above += [*part, []]
        if stage == lesson.stage:
            above.pop()
            below = _below(lesson, width - INDENT, key)
            break
    if lesson.stage == END:
        above += [[("done", "better"), (f"   {lesson.standing.clean} of {len(chapter.check)} right at once", "faint")]]
        above += [[("]", "accent"), (" the next chapter   ", "faint"), ("r", "accent"), (" again", "faint")]]
    return above, below


def drawer(lesson: Lesson, dots: Words, width: int, height: int, glyphs: Glyphs, key: str = "") -> tuple[Rows, Rows]:
    """The same in a few rows of the whole width: where one is, the sentence, the formula, and what is next."""
    stages: list[tuple[str, str]] = [(f"{lesson.chapter.number}  ", "accent"), (lesson.chapter.title, "text")]
    for stage, name in STAGES:
        stages += [(f"   {_mark(lesson, stage, glyphs)} {name.lower()}", _ink(lesson, stage))]
    room = width - sum(cells.width(text) for text, _ in (*stages, *dots)) - 1
    top: Rows = [[*stages, (" " * room, "text"), *dots] if room > 0 else stages]
    below = _below(lesson, width, key)
    asked = _part(lesson, lesson.stage, width, last=True)
    told = [*_plain(lesson.chapter.sentence, width, "text"), *_formula(lesson, width)]
    if lesson.stage == DO:
        asked = [_guess(lesson, width), *asked]
    if lesson.stage == END:
        asked = [[("done", "better"), ("   ] the next chapter   r again   esc all chapters", "faint")]]
    room = height - len(top) - 1
    asked = asked[: max(room, 1)]
    below = below[: max(room - len(asked), 0)]
    return [*top, *told[: max(room - len(asked) - len(below), 0)], *asked], below


def heading(lesson: Lesson, dots: Words, width: int) -> Row:
    """The number and the name of the chapter, and at the right how far all of them are."""
    left = [(f"{lesson.chapter.number}  ", "accent"), (lesson.chapter.title, "text")]
    room = width - sum(cells.width(text) for text, _ in (*left, *dots))
    return [*left, (" " * room, "text"), *dots] if room > 0 else left


def _part(lesson: Lesson, stage: str, width: int, last: bool = False) -> Rows:
    """The rows under a stage; `last` of it is what is open now alone."""
    chapter, it = lesson.chapter, lesson.standing
    indent = "" if last else " " * INDENT
    match stage:
        case "predict":
            rows = _told(chapter.predict.question, width, "text", indent)
            return rows if lesson.stage == PREDICT else rows + _verdict(lesson, width, indent)
        case "do":
            key = keys.pretty(chapter.do.key)
            rows = _told(f"{key} {chapter.do.task}", width, "text", indent)
            if key:
                rows[0] = [(indent + key, "accent"), (rows[0][0][0].removeprefix(indent + key), "text")]
            if chapter.do.shown and it.done:
                rows += _told(filled(chapter.do.shown, lesson.numbers), width, "faint", indent)
            return rows
        case "check":
            rows = []
            for index, check in enumerate(chapter.check[: it.checked + 1]):
                if not last or index == it.checked:
                    rows += _told(filled(check.question, lesson.numbers), width, "text", indent)
                if index < it.checked and not last:
                    rows += [[(f"{indent}✓", "better")]]
            return rows
    return []


def _verdict(lesson: Lesson, width: int, indent: str) -> Rows:
    """The guess, what it is, and where it was wrong one sentence of why."""
    it = lesson.standing
    you = it.guess or "no guess"
    sign, ink = SIGNS[it.right]
    rows: Rows = [[(f"{indent}you  ", "faint"), (cells.fit(you, width - 5), "text")]]
    rows += [[(f"{indent}it   ", "faint"), (cells.fit(it.truth or WAIT, width - 7), "text"), (sign, ink)]]
    if it.right is False and lesson.chapter.predict.why:
        rows += _told(lesson.chapter.predict.why, width, "faint", indent)
    return rows


def _guess(lesson: Lesson, width: int) -> Row:
    """The guess and what it is, in one row."""
    it, why = lesson.standing, lesson.chapter.predict.why
    sign, ink = SIGNS[it.right]
    row = [
        ("you  ", "faint"),
        (it.guess or "no guess", "text"),
        ("   it  ", "faint"),
        (it.truth or WAIT, "text"),
        (sign, ink),
    ]
    room = width - sum(cells.width(text) for text, _ in row) - 3
    return [*row, (f"   {cells.fit(why, room)}", "faint")] if it.right is False and room > 8 else row


def _below(lesson: Lesson, width: int, key: str) -> Rows:
    """The line about the last answer, the steps after a wrong one, and the hint that was asked for; else, or where
    another part of the screen has the keys of what it tells, the keys."""
    indent = " " * INDENT
    rows: Rows = []
    if lesson.news:
        rows += _told(lesson.news, width, "alarm" if lesson.wrong else "text", indent)
    if lesson.wrong:
        for step in lesson.steps:
            rows += _told(step, width, "text", indent)
    elif lesson.hinted and lesson.hint:
        rows += _told(lesson.hint, width, "faint", indent)
    if not rows or (key and lesson.stage == DO):
        words = {
            PREDICT: "type it, then ⏎   ? goes on without",
            CHECK: "⏎ marks it   ? a hint",
            DO: "? goes on without",
        }
        if lesson.stage == DO and not lesson.chapter.do.done:
            words[DO] = "⏎ it is done   ? goes on without"
        goes = f"{key}, then " if key and lesson.stage != END else ""
        rows += [[(f"{indent}{goes}", "accent"), (words[lesson.stage], "faint")]] if lesson.stage in words else []
    return rows


def _formula(lesson: Lesson, width: int) -> Rows:
    numbers = lesson.numbers if lesson.standing.begun else {}
    rows: Rows = []
    for line in lesson.chapter.formula:
        parts = [(text, "chosen" if known else "text") for text, known in parts_of(line, numbers)]
        if sum(cells.width(text) for text, _ in parts) <= width:
            rows.append(parts)
        else:
            rows += _plain("".join(text for text, _ in parts), width, "text")
    return rows


def _told(text: str, width: int, ink: str, indent: str) -> Rows:
    return [[(indent + row, ink)] for row in fold(text, width)]


def _plain(text: str, width: int, ink: str) -> Rows:
    return [[(row, ink)] for row in fold(text, width)]


def _mark(lesson: Lesson, stage: str, glyphs: Glyphs) -> str:
    if stage == lesson.stage:
        return glyphs.chosen
    return "✓" if _is_past(lesson, stage) else " "


def _ink(lesson: Lesson, stage: str) -> str:
    if stage == lesson.stage:
        return "chosen"
    return "heading" if _is_past(lesson, stage) else "cut"


def _is_past(lesson: Lesson, stage: str) -> bool:
    order = (PREDICT, DO, CHECK, END)
    return order.index(stage) < order.index(lesson.stage)
