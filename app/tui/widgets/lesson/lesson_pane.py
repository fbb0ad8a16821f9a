"""`LessonPane`: the lesson beside the view that it is about: 40 columns at the right, or a drawer under it.

It reads the numbers of the view that it stands in, takes guesses and answers, and says where a person wants to go; what
any of that means is the lesson's (`app.lessons`).
"""

from collections.abc import Callable, Mapping
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.message import Message
from textual.widgets import Input

from likely.app.lessons.expression import Value
from likely.app.lessons.lesson import CHECK, PREDICT, Lesson
from likely.app.lessons.tutor import Tutor
from likely.app.tui.base import keys
from likely.app.tui.widgets.caption import Caption, Words
from likely.app.tui.widgets.host import host
from likely.app.tui.widgets.lesson import lesson_rows

WIDTH, HEIGHT = 43, 9  # columns at the right, rows of a drawer, with what sets them off
BESIDE = 100  # columns of a screen from which on it stands at the right
SIGNS = ("left_square_bracket", "right_square_bracket", "question_mark", "equals_sign")
LOOK_S = 0.25  # between two looks at the view's numbers


class AnswerField(Input):
    """One line; the keys of the lesson act in it, for no answer has their signs."""

    def check_consume_key(self, key: str, character: str | None) -> bool:
        return key not in SIGNS and super().check_consume_key(key, character)

    async def _on_key(self, event: events.Key) -> None:
        if event.key in SIGNS:  # they go on to the pane
            event.prevent_default()


class LessonPane(Vertical, can_focus=True):
    """A lesson: its rows, and the field that is written in where something is asked."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "mark", "Mark", id="lesson.mark", tooltip="mark the answer; show it; the task is done"),
        Binding("question_mark", "hint", "Hint", id="lesson.hint", tooltip="a hint; on without a guess"),
        Binding(
            "left_square_bracket", "chapter(-1)", "Chapter before", id="lesson.before", tooltip="the chapter before"
        ),
        Binding("right_square_bracket", "chapter(1)", "Next chapter", id="lesson.next", tooltip="the next chapter"),
        Binding("r", "again", "Again", id="lesson.again", tooltip="the chapter from its beginning"),
        Binding("escape", "leave", "All chapters", id="lesson.leave", tooltip="all chapters"),
    ]

    class LessonMoved(Message):
        """The lesson is another one, or wants its view to be seen."""

    class LessonLeft(Message):
        """A person wants to see all chapters."""

    def __init__(
        self,
        tutor: Tutor,
        numbers: Callable[[], Mapping[str, Value]],
        lacks: Callable[[], str],
        say: Callable[[str], None],
    ) -> None:
        """`numbers` are the view's, `lacks` why there are none, `say` tells news."""
        super().__init__(id="lesson")
        self.tutor, self.numbers, self._lacks, self.say = tutor, numbers, lacks, say

    def compose(self) -> ComposeResult:
        yield Caption(id="lesson-above")
        yield AnswerField(id="lesson-answer")
        yield Caption(id="lesson-below")

    def on_mount(self) -> None:
        self.field = self.query_one(AnswerField)
        self.set_interval(LOOK_S, self.look_on)
        self.call_after_refresh(self.reshow)

    def on_resize(self) -> None:
        self.reshow()

    def on_descendant_focus(self) -> None:
        self.reshow()

    def on_descendant_blur(self) -> None:
        self.reshow()

    def on_focus(self) -> None:
        self.reshow()

    def on_blur(self) -> None:
        self.reshow()

    def on_click(self) -> None:
        self.focus_here()

    @property
    def lesson(self) -> Lesson | None:
        return self.tutor.lesson

    def lacks(self) -> str:
        """Why the view has no numbers, and what can be done in the chapter all the same."""
        why, lesson = self._lacks(), self.lesson
        otherwise = lesson.chapter.otherwise if lesson is not None else ""
        return f"{why}; {otherwise}" if why and otherwise else why

    def look_on(self) -> None:
        """Take in what the view has measured by now."""
        lesson = self.lesson
        if lesson is not None and self.screen.is_current and self.tutor.placed:
            self._take(lesson.seen(self.numbers(), self.lacks()))

    def _take(self, lesson: Lesson) -> None:
        before = self.lesson
        if lesson == before:
            return
        if news := self.tutor.take(lesson):
            self.say(news)
        self.reshow()
        if before is None or before.stage != lesson.stage:
            self.post_message(self.LessonMoved())

    def focus_here(self) -> None:
        """Have the keys: in the field where something is asked."""
        (self.field if self.field.display else self).focus()

    # -- keys --------------------------------------------------------------------------------------------------------

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.action_mark()

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()

    def action_mark(self) -> None:
        lesson = self.lesson
        if lesson is None:
            return
        said = self.field.value
        if lesson.stage == PREDICT:
            self._take(lesson.guessed(said))
        elif lesson.stage == CHECK:
            self._take(lesson.answered(said))
        else:
            self._take(lesson.did())
        now = self.lesson
        if now is not None and (now.wrong or now.standing != lesson.standing):
            self.field.value = ""

    def action_hint(self) -> None:
        if self.lesson is not None:
            self._take(self.lesson.passed(self._lacks() if not self.numbers() else ""))

    def action_again(self) -> None:
        if self.lesson is not None and not self.field.has_focus:
            self.field.value = ""
            self._take(self.lesson.again())

    def action_chapter(self, by: int) -> None:
        self.tutor.beside(by)
        self.field.value = ""
        self.reshow()
        self.post_message(self.LessonMoved())

    def action_leave(self) -> None:
        self.post_message(self.LessonLeft())

    # -- showing -----------------------------------------------------------------------------------------------------

    def dots(self) -> Words:
        """How far all chapters are."""
        lesson = self.lesson
        words = []
        for chapter in self.tutor.course.chapters:
            standing = self.tutor.standing(chapter)
            here = lesson is not None and chapter.number == lesson.chapter.number
            full = standing.stages(chapter)[2]
            words.append(("●" if full or here else "○", "chosen" if here else "better" if full else "cut"))
            words.append((" ", "text"))
        return words[:-1]

    def reshow(self) -> None:
        lesson = self.lesson
        if lesson is None or not self.is_mounted:
            return
        width, height = self.content_size
        if width < 8 or height < 3:
            return
        asks = lesson.stage in (PREDICT, CHECK)
        had = self.field.has_focus
        draw = lesson_rows.page if self.has_class("-beside") else lesson_rows.drawer
        top, bottom = self.query_one("#lesson-above", Caption), self.query_one("#lesson-below", Caption)
        key = "" if self.has_focus_within else keys.pretty(host(self).keys_of("app.learn"))
        above, below = draw(lesson, self.dots(), width, height, top.glyphs, key)
        top.styles.height, bottom.styles.height = len(above), len(below)
        top.show(*above)
        bottom.show(*below)
        self.field.display = asks
        if had and not asks:
            self.focus()
        elif asks and self.has_focus:
            self.field.focus()
